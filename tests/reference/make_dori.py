"""DORI of the water dimer by Q-stack, the program of the authors of the method.

Q-stack is on GitHub (lcmd-epfl/Q-stack; commit 0303ed5 here, `pip install` of the repository). The
orbitals are those of water_dimer.npz. Points are nodes of the grid of tests/test_indicators.py.

    python tests/reference/make_dori.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyscf
from qstack.fields.dori import compute_dori, eval_rho_dm

from denser.dft.cell import build_cell
from denser.types.grid import Grid
from denser.types.structure import Structure

FOLDER = Path(__file__).parent
N = 60


def main() -> None:
    """Write dori.json beside this file."""
    with np.load(FOLDER / "water_dimer.npz") as data:
        structure, c = Structure(data["numbers"], data["positions"]), data["mo_coeff"]
    grid = Grid.around(structure, spacing=np.pi / 20)
    cell = build_cell(structure, grid)
    index = np.random.default_rng(1).choice(np.prod(grid.shape), 200 * N, replace=False)
    points = grid.points().reshape(-1, 3)[index]
    ao = cell.pbc_eval_gto("PBCGTOval_sph_deriv2", points - grid.origin)
    rho, first, second = eval_rho_dm(cell, np.asarray(ao).real, 2 * c @ c.T)
    nuclei = np.linalg.norm(points[:, None] - structure.positions, axis=-1).min(axis=1)
    kept = np.flatnonzero((rho > 1e-3) & (nuclei > 1.2))[:N]
    values = compute_dori(rho[kept], first[:, kept], second[:, :, kept])
    data = {
        "program": f"Q-stack 0303ed5, PySCF {pyscf.__version__}",
        "settings": "periodic orbitals of water_dimer.npz, nodes of a grid of pi/20 bohr",
        "nodes": index[kept].tolist(),
        "rho": rho[kept].tolist(),
        "dori": values.tolist(),
    }
    (FOLDER / "dori.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
