"""What the level of theory does: energies of reactions, potentials and charges.

python benchmarks/level_energies.py -o level.json     # the same command continues

Four calculations of each molecule, at the geometries of ASE's G2 set: the model (its prediction;
for energies two Kohn-Sham steps from it), PBE/GTH-TZV2P converged, the same in `aug-gth-tzv2p`, and
PBE with all electrons in aug-cc-pVQZ by PySCF, close to PBE's limit.

Reactions: electronic energies in kcal/mol. "exp." is sum nu [H_f(298 K) - (H_298 - H_0) - ZPE],
with the measured enthalpies of formation, thermal corrections and scaled zero-point energies of the
G2 set (Curtiss et al., J. Chem. Phys. 106, 1063 (1997)) in `ase.data.g2`. Potentials: at the points
of the Merz-Kollman scheme, root mean square of the differences from the limit. Charges: fitted to
the potential at these points. There is no experiment for the last two.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.data import g2
from pyscf import dft, gto

from denser.analysis.charges.esp_charges import merz_kollman_points
from denser.analysis.charges.esp_fit import fit_charges
from denser.dft.basis import AUGMENTED
from denser.dft.molecular import converge
from denser.dft.refine import refine
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import KCAL_PER_MOL
from recording import add_option, record

LEVELS = ("model", "level", "aug", "limit")
BASIS = "aug-cc-pvqz"
REACTIONS = (
    {"CO": -1, "H2O": -1, "CO2": 1, "H2": 1},
    {"N2": -1, "H2": -3, "NH3": 2},
    {"CO": -1, "H2": -3, "CH4": 1, "H2O": 1},
    {"H2CO": -1, "CO": 1, "H2": 1},
    {"C2H2": -1, "H2": -1, "C2H4": 1},
    {"C2H4": -1, "H2": -1, "C2H6": 1},
    {"HCN": -1, "H2": -3, "CH4": 1, "NH3": 1},
)
MOLECULES = list(dict.fromkeys(name for reaction in REACTIONS for name in reaction))
POTENTIALS = ("H2O", "NH3", "CO", "CO2", "HCN", "H2CO", "C2H2", "C2H4")


def potential_of(mf: dft.rks.RKS, points: np.ndarray) -> np.ndarray:
    """Electrostatic potential of a converged calculation at points (n, 3): (n,), hartree/e."""
    mol = mf.mol
    electrons = np.einsum("gpq,pq->g", mol.intor("int1e_grids", grids=points), mf.make_rdm1())
    r = np.linalg.norm(points[:, None] - mol.atom_coords(), axis=2)
    return (mol.atom_charges() / r).sum(axis=1) - electrons


def limit(structure: Structure) -> dft.rks.RKS:
    """PBE with all electrons, converged."""
    mol = gto.M(
        atom=list(zip(structure.symbols, structure.positions, strict=True)),
        unit="bohr", basis=BASIS, verbose=0,
    )  # fmt: skip
    mf = mol.RKS(xc="pbe").density_fit()
    mf.kernel()
    if not mf.converged:
        raise SystemExit(f"the SCF of {structure.formula} has not converged")
    return mf


def calculated(name: str, predictor: Predictor) -> dict:
    """Energies (hartree), and for some molecules potentials and fitted charges, of the levels."""
    structure = Structure.from_ase(molecule(name))
    density = predictor.predict(structure).density
    steps = refine(density, predictor.model.recipe, 2, isolated=True)
    converged = [converge(structure, b, about=density).mf for b in ("gth-tzv2p", AUGMENTED)]
    converged.append(limit(structure))
    energies = [steps.e_tot, *(mf.e_tot for mf in converged)]
    row: dict = {"hartree": dict(zip(LEVELS, map(float, energies), strict=True))}
    if name not in POTENTIALS:
        return row
    points = merz_kollman_points(structure)
    assert density.continuous is not None
    v = [density.continuous.potential(points, density.valence_charges)]
    v += [potential_of(mf, points) for mf in converged]
    charges = [fit_charges([points], [own], [structure.positions]) for own in v]
    difference = [KCAL_PER_MOL * float(np.sqrt(np.mean((own - v[-1]) ** 2))) for own in v[:-1]]
    row["rms_potential"] = KCAL_PER_MOL * float(np.sqrt(np.mean(v[-1] ** 2)))
    row["rms_difference"] = dict(zip(LEVELS, difference, strict=False))
    row["charge"] = dict(zip(LEVELS, (float(q[0]) for q in charges), strict=True))
    row["atom"] = structure.symbols[0]
    return row


def measured(name: str) -> float:
    """Electronic part of the enthalpy of formation, but for a sum over the elements, kcal/mol."""
    data = g2.data[name]
    return data["enthalpy"] - data["thermal correction"] - data["ZPE"]


def text_of(reaction: dict[str, int]) -> str:
    """`N2 + 3 H2 -> 2 NH3`."""
    sides = [
        " + ".join(
            f"{abs(n)} {name}" if abs(n) > 1 else name
            for name, n in reaction.items()
            if n * sign > 0
        )
        for sign in (-1, 1)
    ]
    return " -> ".join(sides)


def main() -> None:
    """Print the tables and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, help="JSON file that keeps the results")
    add_option(parser)
    options = parser.parse_args()
    predictor = Predictor()
    rows = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name in MOLECULES:
        if name not in rows:
            rows[name] = calculated(name, predictor)
            print(f"{name} is done", flush=True)
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"\n{'kcal/mol':32}" + "".join(f"{head:>10}" for head in (*LEVELS, "exp.")))
    reactions = {}
    for reaction in REACTIONS:
        found = {
            level: KCAL_PER_MOL * sum(n * rows[m]["hartree"][level] for m, n in reaction.items())
            for level in LEVELS
        }
        found["experiment"] = sum(n * measured(m) for m, n in reaction.items())
        reactions[text_of(reaction)] = found
        print(f"{text_of(reaction):32}" + "".join(f"{e:10.2f}" for e in found.values()))
    print("\nrms of the potential, kcal/mol/e, and differences from the limit; fitted charge, e")
    for name in POTENTIALS:
        row = rows[name]
        away = "".join(f"{d:10.2f}" for d in row["rms_difference"].values())
        charges = "".join(f"{q:10.3f}" for q in row["charge"].values())
        print(f"{name:6}{row['rms_potential']:10.2f}{away}   {row['atom']:2}{charges}")
    potentials = {name: rows[name] for name in POTENTIALS}
    figures = {"reactions": reactions, "potentials": potentials}
    record(options.results, "level_energies", figures, predictor)


if __name__ == "__main__":
    main()
