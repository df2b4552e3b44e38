"""Err_rho on kinds of molecules that the model has hardly seen, against PySCF in the same box.

    python benchmarks/kinds.py
    python benchmarks/kinds.py --box paper --only acetate thiophene

Each molecule is converged at the model's level of theory (a minute or so altogether for the
small ones), so this says what to expect away from QM9: ions, other elements, hydrogen bonds.
None of these molecules is among those that the shipped models were trained on.
"""

from __future__ import annotations

import argparse
import sys

from ase import Atoms
from ase.build import molecule
from rich.console import Console
from rich.table import Table

from denser.dft.cell import build_cell, density_from_dm
from denser.dft.scf import scf
from denser.fields.metrics import err_rho
from denser.io.structures import from_smiles
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.units import DEBYE
from recording import add_option, record, with_earlier

WATER_DIMER = Atoms(
    "OHHOHH",
    [
        [-1.551007, -0.114520, 0.0],
        [-1.934259, 0.762503, 0.0],
        [-0.599677, 0.040712, 0.0],
        [1.350625, 0.111469, 0.0],
        [1.680398, -0.373741, -0.758561],
        [1.680398, -0.373741, 0.758561],
    ],
)
"""Angstrom; Jurecka et al., Phys. Chem. Chem. Phys. 8, 1985 (2006), the S22 set."""

KINDS = {
    "ethanol": ("CCO", "like QM9"),
    "aspirin": ("CC(=O)Oc1ccccc1C(=O)O", "larger than QM9"),
    "caffeine": ("Cn1cnc2c1c(=O)n(C)c(=O)n2C", "larger than QM9"),
    "trifluoroethanol": ("OCC(F)(F)F", "fluorine"),
    "acetate": ("CC(=O)[O-]", "anion"),
    "diethylammonium": ("CC[NH2+]CC", "cation"),
    "glycine zwitterion": ("[NH3+]CC(=O)[O-]", "zwitterion"),
    "water dimer": (WATER_DIMER, "hydrogen bond"),
    "2-methylthiophene": ("Cc1cccs1", "sulfur"),
    "1-chlorobutane": ("CCCCCl", "chlorine"),
    "phosphine": ("P", "phosphorus"),
    "ethyl(methyl)silane": ("CC[SiH2]C", "silicon"),
    "disilane": (molecule("Si2H6"), "silicon"),
    "sodium chloride": (molecule("NaCl"), "sodium"),
    "hydrogen fluoride": (molecule("HF"), "two atoms"),
    "chlorine": (molecule("Cl2"), "two atoms"),
    "carbon monosulfide": (molecule("CS"), "two atoms"),
    "chlorine trifluoride": (molecule("ClF3"), "hypervalent"),
}


def run(chosen: argparse.Namespace) -> None:
    """Converge, predict, compare and print."""
    unknown = set(chosen.only) - set(KINDS)
    if unknown:
        raise InputError(f"unknown molecule {sorted(unknown)[0]!r}; known: {', '.join(KINDS)}")
    predictor = Predictor(chosen.model)
    console = Console(width=None if sys.stdout.isatty() else 120)
    out = Table(title=f"Err_rho, percent, {chosen.box} box, model {predictor.model.name}")
    for column in ("molecule", "kind", "atoms", "SAD", "model", "dipole", "PySCF", "SCF s", "s"):
        out.add_column(column, justify="left" if column in ("molecule", "kind") else "right")
    rows = []
    for name in chosen.only or KINDS:
        source, kind = KINDS[name]
        atoms = from_smiles(source) if isinstance(source, str) else source
        prediction = predictor.predict(atoms, box=chosen.box)
        sad, density = prediction.sad, prediction.density
        structure, grid = sad.structure, sad.grid
        result = scf(structure, grid, predictor.model.recipe)
        cell = build_cell(structure, grid, predictor.model.recipe)
        reference = density_from_dm(cell, result.dm, grid, structure)
        norms = [sum(d * d for d in rho.dipole() * DEBYE) ** 0.5 for rho in (density, reference)]
        row = {
            "molecule": name,
            "kind": kind + ("" if result.converged else ", not converged"),
            "n_atoms": len(structure),
            "sad_percent": 100 * err_rho(sad, reference),
            "model_percent": 100 * err_rho(density, reference),
            "dipole_debye": norms[0],
            "reference_dipole_debye": norms[1],
        }
        rows.append(row)
        out.add_row(
            name,
            row["kind"],
            str(len(structure)),
            *[f"{row[key]:.2f}" for key in ("sad_percent", "model_percent")],
            *[f"{d:.2f} D" for d in norms],
            f"{result.seconds:.1f}",
            f"{prediction.seconds_sad + prediction.seconds_network:.2f}",
        )
    console.print(out)
    if chosen.only:
        rows = with_earlier(chosen.results, "kinds", rows, "molecule")
    record(chosen.results, "kinds", rows, predictor)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--box", choices=("isolated", "paper"), default="isolated")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some of them")
    add_option(parser)
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"kinds.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
