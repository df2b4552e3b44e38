"""Energies and levels of ions and polar molecules against PySCF's calculation without a box.

python benchmarks/open_space.py                    # all
python benchmarks/open_space.py acetate water      # some
python benchmarks/open_space.py -o results.json

The reference is PySCF's molecular code with GTH-PBE and GTH-TZV2P, four-centre integrals and
atom-centred grids. Energies in kcal/mol, levels in eV, each minus the reference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ase import Atoms
from ase.build import molecule

import denser
import denser.dft
from denser.dft.refine import refine
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import HARTREE

KCAL = 627.5094740631

SMILES = {
    "acetate": "CC(=O)[O-]",
    "methylammonium": "C[NH3+]",
    "glycine zwitterion": "[NH3+]CC(=O)[O-]",
    "dimethyl phosphate": "COP(=O)([O-])OC",
}
BUILT = {"water": "H2O", "formaldehyde": "H2CO", "NaCl": "NaCl", "LiF": "LiF", "ammonia": "NH3"}
NAMES = [*SMILES, "ammonium chloride", *BUILT]


def structure(name: str) -> Structure:
    """Geometry and charge of a molecule of this benchmark."""
    if name == "ammonium chloride":  # the ion pair, N-H...Cl on an axis
        d = 1.04 / 3**0.5
        hydrogens = [(d, d, d), (-d, -d, d), (-d, d, -d), (d, -d, -d)]
        atoms = Atoms("NH4Cl", [(0, 0, 0), *hydrogens, (1.75, 1.75, 1.75)])
        return Structure.from_ase(atoms)
    if name in SMILES:
        return Structure.of(denser.from_smiles(SMILES[name]))
    return Structure.from_ase(molecule(BUILT[name]))


def isolated(molecule: Structure) -> tuple[float, float, float]:
    """Energy, HOMO and LUMO (hartree) of PySCF's molecular code."""
    from pyscf import dft, gto

    mol = gto.M(
        atom=list(zip(molecule.symbols, molecule.positions, strict=True)),
        unit="bohr", charge=molecule.charge, basis="gth-tzv2p", pseudo="gth-pbe", verbose=0,
    )  # fmt: skip
    mf = dft.RKS(mol)
    mf.xc = "pbe"
    mf.grids.level = 4
    mf.kernel()
    if not mf.converged:
        raise SystemExit(f"the SCF of {molecule.formula} has not converged")
    n = mol.nelectron // 2
    return mf.e_tot, mf.mo_energy[n - 1], mf.mo_energy[n]


def main() -> None:
    """Print the table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("-o", "--out", type=Path, help="write the results to a JSON file")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    predictor = Predictor()
    recipe = predictor.model.recipe
    print(f"{'':20}{'E, box':>9}{'E':>9}{'HOMO, box':>11}{'HOMO':>8}{'LUMO, box':>11}{'LUMO':>8}")
    results = {}
    for name in options.names or NAMES:
        molecule_ = structure(name)
        density = predictor.predict(molecule_).density
        e, homo, lumo = isolated(molecule_)
        row = {}
        for label, choice in (("box", False), ("isolated", True)):
            found = refine(density, recipe, 2, isolated=choice)
            row[label] = {
                "e_kcal_mol": (found.e_tot - e) * KCAL,
                "homo_ev": (found.homo - homo) * HARTREE,
                "lumo_ev": (found.lumo - lumo) * HARTREE,
            }
        results[name] = row
        box, own = row["box"], row["isolated"]
        print(
            f"{name:20}{box['e_kcal_mol']:9.2f}{own['e_kcal_mol']:9.2f}{box['homo_ev']:11.2f}"
            f"{own['homo_ev']:8.2f}{box['lumo_ev']:11.2f}{own['lumo_ev']:8.2f}",
            flush=True,
        )
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
