"""Make `bond_points.json`: bond critical points of all-electron densities, from Gaussians.

    python tests/reference/make_bond_points.py

PBE/cc-pVTZ, PySCF 2.14.0, grid level 4, conv_tol 1e-10, in the geometries of `topologies/`.
Newton's method on the analytic derivatives of the orbitals, from the middle of each bond.
"""

import json
from pathlib import Path

import numpy as np

from denser.labels.reading import read_label

from pyscf import dft, gto  # isort: skip

HERE = Path(__file__).parent
BONDS = {"C2H4": [(0, 1), (0, 2)], "water_dimer": [(0, 1), (2, 3)]}


def derivatives(psi):
    """Density, gradient and Hessian from orbitals and their derivatives (10, n, n_occ)."""
    rho = 2 * (psi[0] ** 2).sum(axis=1)
    gradient = 4 * np.einsum("ni,xni->nx", psi[0], psi[1:4])
    second = 4 * np.einsum("ni,xni->nx", psi[0], psi[4:])
    hessian = 4 * np.einsum("xni,yni->nxy", psi[1:4], psi[1:4])
    i, j = np.triu_indices(3)
    hessian[:, i, j] += second
    hessian[:, j[i != j], i[i != j]] += second[:, i != j]
    return rho, gradient, hessian


def main():
    out = {}
    for name, bonds in BONDS.items():
        structure = read_label(HERE / "topologies" / f"{name}.npz").structure
        mol = gto.M(
            atom=list(zip(structure.symbols, structure.positions, strict=True)),
            unit="bohr",
            basis="cc-pvtz",
            verbose=0,
        )
        mf = dft.RKS(mol, xc="pbe")
        mf.grids.level = 4
        mf.conv_tol = 1e-10
        mf.kernel()
        c = mf.mo_coeff[:, mf.mo_occ > 0]
        for a, b in bonds:
            share = 0.75 if structure.numbers[a] != structure.numbers[b] else 0.5
            if structure.numbers[a] < structure.numbers[b]:
                share = 1 - share
            x = (1 - share) * structure.positions[a] + share * structure.positions[b]
            for _ in range(100):
                rho, g, h = derivatives(mol.eval_gto("GTOval_sph_deriv2", x[None]) @ c)
                step = -np.linalg.solve(h[0], g[0])
                x = x + step * min(1, 0.1 / np.linalg.norm(step))
            values = np.linalg.eigvalsh(h[0])
            out[f"{name} {a} {b}"] = {
                "position_bohr": x.round(5).tolist(),
                "rho": round(float(rho[0]), 6),
                "gradient_norm": float(np.linalg.norm(g)),
                "eigenvalues": values.round(5).tolist(),
            }
    (HERE / "bond_points.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
