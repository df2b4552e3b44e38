"""How RESP charges of predictions compare with those of HF/6-31G*, for Amber-like force fields.

    python benchmarks/hf_charges.py [--n 42]

For molecules of data/kinds.xyz.gz, RHF/6-31G* with density fitting gives the potential at the
Merz-Kollman points. The table has the relative error of this potential, from RESP charges of HF
itself, of the prediction, and of the prediction scaled about the mean charge (`--like hf`). The
scale is fitted to the potential of all other neutral molecules, so that no molecule judges a scale
that it helped to fit. A molecule takes from some seconds to a minute.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from ase.io import read
from pyscf import gto, scf
from scipy.spatial.distance import cdist

import denser.dft  # noqa: F401 - before torch
from denser.analysis.charges.esp_charges import merz_kollman_points
from denser.analysis.charges.esp_fit import fit_resp
from denser.analysis.charges.without_grid import Conformer, resp
from denser.io.files import read_bytes
from denser.model.predictor import Predictor
from denser.types.structure import Structure

STRUCTURES = Path(__file__).parents[1] / "data" / "kinds.xyz.gz"

NAMES = [
    "nitrogen_081", "small_045", "small_047", "small_033", "halogen_007", "nitrogen_023",
    "nitrogen_097", "nitrogen_063", "phosphorus_005", "nitrogen_051", "phosphorus_039",
    "halogen_062", "sulfur_077", "carboxylate_003", "halogen_040", "carboxylate_014",
    "cation_058", "sulfur_057", "cation_027", "sulfur_040", "sulfur_053", "sulfonamide_002",
    "phosphorus_015", "drug_011", "drug_004", "aminoacid_032", "aminoacid_050", "aminoacid_004",
    "aminoacid_015", "drug_020", "sulfonamide_028", "aminoacid_049", "nucleic_001",
    "sulfur_054", "sulfonamide_031", "halogen_068", "sulfonamide_023", "cation_050",
    "anion_017", "anion_052", "carboxylate_008", "anion_055",
]  # fmt: skip


def hartree_fock(structure: Structure, points: np.ndarray) -> np.ndarray:
    """Potential of RHF/6-31G* (Cartesian) at points (n, 3), bohr: (n,), hartree/e."""
    atoms = list(zip(structure.symbols, structure.positions, strict=True))
    mol = gto.M(
        atom=atoms, unit="bohr", basis="6-31g*", cart=True, charge=structure.charge, verbose=0
    )
    mf = scf.RHF(mol).density_fit(auxbasis="def2-universal-jkfit")
    mf.conv_tol = 1e-8
    mf.kernel()
    if not mf.converged:
        raise SystemExit(f"RHF of {structure.formula} did not converge")
    dm = mf.make_rdm1()
    blocks = np.array_split(points, len(points) // 100 + 1)
    electrons = [np.einsum("ipq,pq->i", mol.intor("int1e_grids", grids=b), dm) for b in blocks]
    nuclei = (mol.atom_charges() / cdist(points, mol.atom_coords())).sum(axis=1)
    return nuclei - np.concatenate(electrons)


def main() -> None:
    """Print a line for each molecule, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=len(NAMES))
    chosen = parser.parse_args()
    text = read_bytes(STRUCTURES).decode()
    frames = {str(a.info["name"]): a for a in read(io.StringIO(text), ":", format="extxyz")}
    predictor = Predictor("default")
    rows = []
    for name in NAMES[: chosen.n]:
        structure = Structure.of(frames[name])
        points = merz_kollman_points(structure)
        values = hartree_fock(structure, points)
        own = fit_resp([structure], [points], [values]).charges
        found = resp([Conformer(structure, predictor.gaussians(structure)[0])]).charges
        mean = structure.charge / len(structure)
        inverse = 1 / cdist(points, structure.positions)
        size = np.sqrt((values**2).sum())
        # errors of the potential: of HF's charges, of a uniform charge, and of what is scaled
        rows.append(
            (
                name,
                structure.charge,
                (values - inverse @ own) / size,
                (values - inverse.sum(axis=1) * mean) / size,
                inverse @ (found - mean) / size,
                own - mean,
                found - mean,
            )
        )
        print(f"{name:16s} {np.sqrt(((own - found) ** 2).mean()):.3f} e rms difference", flush=True)
    neutral = [row[1] == 0 for row in rows]
    above = np.array([row[3] @ row[4] for row in rows]) * neutral
    below = np.array([row[4] @ row[4] for row in rows]) * neutral
    others = (above.sum() - above) / (below.sum() - below)
    print(f"scale {above.sum() / below.sum():.3f}")
    for what, scales in (("as predicted", np.ones(len(rows))), ("scaled", others)):
        errors = np.array(
            [np.linalg.norm(row[3] - s * row[4]) for row, s in zip(rows, scales, strict=True)]
        )
        q = np.concatenate([row[5] - s * row[6] for row, s in zip(rows, scales, strict=True)])
        show(what, errors, np.array(neutral))
        print(f"{'':14s} charges differ by {np.sqrt((q**2).mean()):.3f} e (rms)")
    show("HF's own", np.array([np.linalg.norm(row[2]) for row in rows]), np.array(neutral))


def show(what: str, errors: np.ndarray, neutral: np.ndarray) -> None:
    """Print mean and median errors of neutral molecules, and the mean of ions."""
    text = f"{what:14s} error of the potential: neutral {100 * errors[neutral].mean():.1f} % "
    text += f"(median {100 * np.median(errors[neutral]):.1f})"
    if not neutral.all():
        text += f", ions {100 * errors[~neutral].mean():.1f} %"
    print(text)


if __name__ == "__main__":
    main()
