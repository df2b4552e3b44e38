"""Reference energies from PySCF itself: PBE, GTH, Gamma-point GPW in the box of Li et al. (2025).

Nothing here goes through denser, so that its boxes, cells and units are checked too.

    python tests/reference/make_scf_energies.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyscf
from pyscf.pbc import dft, gto
from pyscf.pbc.dft.multigrid import MultiGridNumInt2

BOHR = 0.529177210903
SPACING = np.pi / np.sqrt(2 * 200)  # bohr
MOLECULES = {  # angstrom
    "H2": [("H", (0.0, 0.0, 0.0)), ("H", (0.0, 0.0, 0.741))],
    "CH4": [
        ("C", (0.0, 0.0, 0.0)),
        ("H", (0.6287, 0.6287, 0.6287)),
        ("H", (0.6287, -0.6287, -0.6287)),
        ("H", (-0.6287, 0.6287, -0.6287)),
        ("H", (-0.6287, -0.6287, 0.6287)),
    ],
}


def compute(atoms: list) -> dict:
    """Converge one molecule and return its geometry, box and energies."""
    positions = np.array([xyz for _, xyz in atoms])
    half = np.ceil((np.ptp(positions, axis=0) + 4.0) / (2 * SPACING * BOHR))
    mesh = (2 * half).astype(int)
    box = mesh * SPACING * BOHR - 1e-4  # angstrom
    inside = positions - positions.mean(axis=0) + box / 2
    cell = gto.Cell()
    cell.atom = [(symbol, xyz) for (symbol, _), xyz in zip(atoms, inside, strict=True)]
    cell.a = np.diag(box)
    cell.unit = "angstrom"
    cell.mesh = mesh.tolist()
    cell.basis = "gth-tzv2p"
    cell.pseudo = "gth-pbe"
    cell.precision = 1e-6
    cell.verbose = 0
    cell.build()
    mf = dft.RKS(cell)
    mf.xc = "pbe"
    mf._numint = MultiGridNumInt2(cell)
    mf.conv_tol = 1e-9
    mf.kernel()
    if not mf.converged:
        raise RuntimeError("the SCF did not converge")
    return {
        "symbols": [symbol for symbol, _ in atoms],
        "positions": positions.tolist(),
        "box": box.tolist(),
        "mesh": mesh.tolist(),
        "e_tot": float(mf.e_tot),
        "mo_energy": mf.mo_energy[mf.mo_occ > 0].tolist(),
        "cycles": int(mf.cycles),
    }


if __name__ == "__main__":
    reference = {
        "program": f"PySCF {pyscf.__version__}",
        "made_by": Path(__file__).name,
        "settings": "RKS pbe, gth-tzv2p, gth-pbe, MultiGridNumInt2, precision 1e-6, "
        "conv_tol 1e-9, explicit mesh with spacing pi/sqrt(400) bohr",
        "units": "lengths in angstrom, energies in hartree, occupied orbital energies",
        "molecules": {name: compute(atoms) for name, atoms in MOLECULES.items()},
    }
    path = Path(__file__).with_name("scf_energies.json")
    path.write_text(json.dumps(reference, indent=1) + "\n")
