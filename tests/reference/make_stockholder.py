"""Stockholder charges from all electrons, with PySCF alone: PBE on Becke's grids.

The molecules are those of tests/reference/labels. Hirshfeld's free atoms are PySCF's spherical,
spin-averaged PBE atoms in uncontracted aug-cc-pVQZ; MBIS is a plain expectation-maximisation
loop without acceleration, on the same grids. Nothing here goes through denser.

    python tests/reference/make_stockholder.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyscf
from pyscf import dft, gto
from pyscf.data import elements
from pyscf.scf import atom_ks

FOLDER = Path(__file__).parent
MOLECULES = ("H2O", "HCN")
BASIS = "unc-aug-cc-pvdz"


def free_atom(symbol: str) -> object:
    """Return the density of the free atom as a function of the distance in bohr."""
    mol = gto.M(atom=[[symbol, (0, 0, 0)]], basis="unc-aug-cc-pvqz", spin=None, charge=0, verbose=0)
    found = atom_ks.get_atm_nrks(mol, elements.NRSRHF_CONFIGURATION, xc="pbe", grid=(200, 50))
    _, _, mo_coeff, mo_occ = found[symbol]
    dm = (mo_coeff * mo_occ) @ mo_coeff.T

    def density(r: np.ndarray) -> np.ndarray:
        # The average over three directions is the spherical part of p shells; d are empty.
        total = np.zeros(r.size)
        for direction in np.eye(3):
            for start in range(0, r.size, 20000):
                block = slice(start, start + 20000)
                ao = dft.numint.eval_ao(mol, r[block, None] * direction)
                total[block] += np.einsum("pi,pi->p", ao @ dm, ao) / 3
        return total

    return density


def mbis(numbers: np.ndarray, distances: np.ndarray, rho: np.ndarray, weights: np.ndarray) -> dict:
    """Minimal basis iterative stockholder of Verstraelen et al. (2016)."""
    shells = []
    for a, z in enumerate(numbers):
        count = 1 if z <= 2 else 2
        for i in range(count):
            width = 0.5 / z ** (1 - i / (count - 1)) if count > 1 else 0.5
            shells.append([a, (z if count == 1 else (2.0, z - 2.0)[i]), width])
    owner = np.array([a for a, _, _ in shells])
    n = np.array([x for _, x, _ in shells], dtype=float)
    s = np.array([x for _, _, x in shells])
    for _ in range(5000):
        parts = (n / (8 * np.pi * s**3))[:, None] * np.exp(-distances[owner] / s[:, None])
        share = parts * (rho * weights / np.maximum(parts.sum(axis=0), 1e-300))
        new = share.sum(axis=1)
        s = (share * distances[owner]).sum(axis=1) / (3 * new)
        change, n = np.abs(new - n).max(), new
        if change < 1e-9:
            break
    else:
        raise RuntimeError("MBIS did not converge")
    atoms = range(len(numbers))
    volumes = [(share[owner == a].sum(axis=0) @ distances[a] ** 3) for a in atoms]
    return {
        "charges": [float(z - n[owner == a].sum()) for a, z in enumerate(numbers)],
        "populations": [n[owner == a].tolist() for a in atoms],
        "widths": [s[owner == a].tolist() for a in atoms],
        "volumes": [float(v) for v in volumes],
    }


def compute(name: str, atoms: dict) -> dict:
    """Charges of one molecule."""
    with np.load(FOLDER / "labels" / f"{name}.npz") as label:
        numbers, positions = label["numbers"], label["positions"]
    symbols = [elements.ELEMENTS[z] for z in numbers]
    mol = gto.M(
        atom=list(zip(symbols, positions.tolist(), strict=True)),
        unit="angstrom",
        basis=BASIS,
        verbose=0,
    )
    mf = dft.RKS(mol)
    mf.xc = "pbe"
    mf.grids.atom_grid = (120, 590)
    mf.grids.prune = None
    mf.conv_tol = 1e-10
    mf.kernel()
    if not mf.converged:
        raise RuntimeError("the SCF did not converge")
    points, weights = mf.grids.coords, mf.grids.weights
    rho = np.empty(len(weights))
    dm = mf.make_rdm1()
    for start in range(0, len(weights), 20000):
        block = slice(start, start + 20000)
        ao = dft.numint.eval_ao(mol, points[block])
        rho[block] = np.einsum("pi,pi->p", ao @ dm, ao)
    vectors = points[None] - mol.atom_coords()[:, None]
    distances = np.linalg.norm(vectors, axis=-1)
    free = np.array([atoms[s](r) for s, r in zip(symbols, distances, strict=True)])
    share = free / np.maximum(free.sum(axis=0), 1e-300) * (rho * weights)
    own = (free * distances**3) @ weights
    return {
        "numbers": numbers.tolist(),
        "electrons": float(rho @ weights),
        "hirshfeld": {
            "charges": (numbers - share.sum(axis=1)).tolist(),
            "dipoles": (-np.einsum("ap,apx->ax", share, vectors)).tolist(),
            "volumes": (share * distances**3).sum(axis=1).tolist(),
            "free_volumes": own.tolist(),
        },
        "mbis": mbis(numbers, distances, rho, weights),
    }


def main() -> None:
    """Write stockholder.json beside this file."""
    atoms = {symbol: free_atom(symbol) for symbol in ("H", "C", "N", "O")}
    data = {
        "program": f"PySCF {pyscf.__version__}",
        "settings": f"RKS PBE/{BASIS}, grid (120, 590) unpruned, conv_tol 1e-10; free atoms: "
        "atom_ks.get_atm_nrks, PBE/unc-aug-cc-pVQZ; charges in e, lengths in bohr",
        "molecules": {name: compute(name, atoms) for name in MOLECULES},
    }
    (FOLDER / "stockholder.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
