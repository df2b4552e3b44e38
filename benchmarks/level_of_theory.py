"""What the level of theory does: dipoles and polarizabilities against PBE's limit and experiment.

python benchmarks/level_of_theory.py                     # all, about an hour on one core
python benchmarks/level_of_theory.py H2O NH3 -o level.json

Columns: the model's prediction (dipoles), PBE/GTH-TZV2P converged (what the model is trained on and
Kohn-Sham steps give), the same with diffuse functions (`--basis aug-gth-tzv2p`, the default of
polarizabilities), PBE with all electrons in aug-cc-pVTZ (close to PBE's limit; PySCF, with its own
coupled-perturbed solver), experiment. Geometries are those of ASE's G2 set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase.build import molecule
from pyscf import gto
from pyscf.scf import cphf

from denser.dft.basis import AUGMENTED
from denser.dft.molecular import converge
from denser.dft.polarizability import coupled_perturbed, dipole_integrals
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE
from recording import add_option, record

EXPERIMENT: dict[str, tuple[float, float]] = {  # debye, angstrom^3
    "H2O": (1.855, 1.501),
    "NH3": (1.472, 2.103),
    "CH4": (0.0, 2.448),
    "HF": (1.826, 0.80),
    "N2": (0.0, 1.710),
    "CO": (0.110, 1.953),
    "HCN": (2.985, 2.593),
    "H2CO": (2.332, 2.770),
    "C2H2": (0.0, 3.487),
    "C2H4": (0.0, 4.188),
    "HCl": (1.109, 2.515),
    "SH2": (0.978, 3.631),
    "PH3": (0.574, 4.237),
}
"""Dipoles and polarizabilities as in the lists of NIST's CCCBDB (SRD 101). Polarizabilities of H2O,
NH3, CH4, N2, CO, HCN and SH2 and the dipole of H2O were compared with copies of these lists that
other programs hold; the other values were not."""


def limit(structure: Structure) -> tuple[float, float]:
    """Dipole in debye and isotropic polarizability in bohr^3 in aug-cc-pVTZ."""
    mol = gto.M(
        atom=list(zip(structure.symbols, structure.positions, strict=True)),
        unit="bohr", basis="aug-cc-pvtz", verbose=0,
    )  # fmt: skip
    mf = mol.RKS(xc="pbe").density_fit()
    mf.kernel()
    if not mf.converged:
        raise SystemExit(f"the SCF of {structure.formula} has not converged")
    empty, full = mf.mo_coeff[:, mf.mo_occ == 0], mf.mo_coeff[:, mf.mo_occ > 0]
    response = mf.gen_response(hermi=1)

    def potentials(x: np.ndarray) -> np.ndarray:
        half = [2 * empty @ y @ full.T for y in x.reshape(-1, empty.shape[1], full.shape[1])]
        v = response(np.array([d + d.T for d in half]))
        return np.array([empty.T @ some @ full for some in v]).ravel()

    fields = np.array([empty.T @ r @ full for r in dipole_integrals(mol)])
    first = cphf.solve(potentials, mf.mo_energy, mf.mo_occ, fields, tol=1e-4)[0]
    mean = -4 * float(np.vdot(fields, first)) / 3
    return float(np.linalg.norm(mf.dip_moment(unit="debye", verbose=0))), mean


def main() -> None:
    """Print the table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXPERIMENT))
    parser.add_argument("-o", "--out", type=Path, help="write the results to a JSON file")
    add_option(parser)
    options = parser.parse_args()
    if unknown := set(options.names) - set(EXPERIMENT):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(EXPERIMENT)}")
    predictor = Predictor()
    results = {}
    heads = ("GTH-TZV2P", "aug", "PBE limit", "exp.")
    print(f"{'':8}{'dipole, debye':>44}{'polarizability, bohr^3':>46}")
    print(f"{'':8}" + "".join(f"{head:>11}" for head in ("model", *heads, *heads, "aug, %")))
    for name in options.names or EXPERIMENT:
        structure = Structure.from_ase(molecule(name))
        density = predictor.predict(structure).density
        ours = [converge(structure, b, about=density) for b in ("gth-tzv2p", AUGMENTED)]
        dipole, volume = EXPERIMENT[name]
        best_dipole, best = limit(structure)
        dipoles = [density.dipole(), *(result.dipole for result in ours)]
        dipoles = [float(np.linalg.norm(d)) * DEBYE for d in dipoles] + [best_dipole, dipole]
        alphas = [*(coupled_perturbed(r).mean for r in ours), best, volume / BOHR**3]
        results[name] = {"dipole_debye": dipoles, "polarizability_bohr3": alphas}
        away = 100 * (alphas[1] / best - 1)
        print(
            f"{name:8}" + "".join(f"{x:11.2f}" for x in [*dipoles, *alphas, away]),
            flush=True,
        )
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")
    record(options.results, "level_of_theory", results, predictor)
    if options.out:
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
