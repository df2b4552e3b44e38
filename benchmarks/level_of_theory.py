"""What the level of theory does: dipoles and polarizabilities against PBE's limit and experiment.

python benchmarks/level_of_theory.py                     # all, some minutes
python benchmarks/level_of_theory.py H2O NH3 -o level.json

Columns: the model's prediction (dipoles), PBE/GTH-TZV2P converged (what the model is trained on and
Kohn-Sham steps give), PBE with all electrons in aug-cc-pVTZ (close to PBE's limit), experiment.
Polarizabilities are differences of dipoles in fields of 0.002 a.u. Geometries are those of ASE's G2
set. Experiment: NIST CCCBDB, release 22 (dipoles of Nelson, Lide and Maryott, NSRDS-NBS 10, 1967;
polarizabilities in angstrom^3, converted).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase.build import molecule
from pyscf import gto

from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE

EXPERIMENT = {  # debye, angstrom^3
    "H2O": (1.855, 1.501),
    "NH3": (1.472, 2.103),
    "HCl": (1.109, 2.515),
    "HF": (1.826, 0.80),
    "H2CO": (2.332, 2.770),
    "HCN": (2.985, 2.593),
}
LEVELS = {
    "GTH-TZV2P": {"basis": "gth-tzv2p", "pseudo": "gth-pbe"},
    "aug-cc-pVTZ": {"basis": "aug-cc-pvtz"},
}
FIELD = 0.002


def response(structure: Structure, **level: str) -> tuple[float, float]:
    """Dipole in debye and isotropic polarizability in bohr^3 from PySCF's molecular code."""
    mol = gto.M(
        atom=list(zip(structure.symbols, structure.positions, strict=True)),
        unit="bohr", verbose=0, **level,
    )  # fmt: skip
    positions = mol.intor_symmetric("int1e_r", comp=3)
    mf = mol.RKS(xc="pbe").density_fit()
    core = mf.get_hcore()
    mf.kernel()
    dipole = mf.dip_moment(unit="au", verbose=0)
    dm, total = mf.make_rdm1(), 0.0
    for axis in range(3):
        along = []
        for sign in (1, -1):
            mf.get_hcore = lambda *_, h=core + sign * FIELD * positions[axis]: h
            mf.kernel(dm)
            if not mf.converged:
                raise SystemExit(f"the SCF of {structure.formula} has not converged")
            along.append(mf.dip_moment(unit="au", verbose=0)[axis])
        total += (along[0] - along[1]) / (2 * FIELD)
    return float(np.linalg.norm(dipole)) * DEBYE, total / 3


def main() -> None:
    """Print the table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENT))
    parser.add_argument("-o", "--out", type=Path, help="write the results to a JSON file")
    options = parser.parse_args()
    if unknown := set(options.names) - set(EXPERIMENT):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(EXPERIMENT)}")
    predictor = Predictor()
    results = {}
    print(f"{'':8}{'dipole, debye':>44}{'polarizability, bohr^3':>36}")
    heads = ("model", *LEVELS, "exp.", *LEVELS, "exp.")
    print(f"{'':8}" + "".join(f"{head:>12}" for head in heads))
    for name in options.names or EXPERIMENT:
        structure = Structure.from_ase(molecule(name))
        predicted = predictor.predict(structure).density.dipole()
        found = {level: response(structure, **how) for level, how in LEVELS.items()}
        dipole, volume = EXPERIMENT[name]
        dipoles = [float(np.linalg.norm(predicted)) * DEBYE]
        dipoles += [*(d for d, _ in found.values()), dipole]
        alphas = [*(a for _, a in found.values()), volume / BOHR**3]
        results[name] = {"dipole_debye": dipoles, "polarizability_bohr3": alphas}
        print(
            f"{name:8}" + "".join(f"{x:12.2f}" for x in dipoles + alphas),
            flush=True,
        )
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.out:
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
