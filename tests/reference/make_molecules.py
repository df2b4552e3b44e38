"""Frontier orbital energies and polarizability of water from PySCF's molecular code.

An isolated molecule with analytic integrals and Becke's atomic grids, no box and no plane waves:
PBE, GTH-PBE pseudopotentials, GTH-TZV2P basis; the polarizability from finite fields. Its limit is
that of all electrons in aug-cc-pVTZ.

    python tests/reference/make_molecules.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyscf
from ase import Atoms
from ase.build import molecule
from pyscf import dft, gto

BOHR = 0.52917721092
FIELD = 2e-3  # hartree/(e bohr)


def compute(name: str) -> dict:
    """Orbital energies and polarizabilities of one of ASE's molecules."""
    atoms = molecule(name)
    energies, n_occupied, tensor = level(atoms, basis="gth-tzv2p", pseudo="gth-pbe")
    return {
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "homo": energies[n_occupied - 1],
        "lumo": energies[n_occupied],
        "polarizability": tensor.tolist(),
        "polarizability_limit": level(atoms, basis="aug-cc-pvtz")[2].tolist(),
    }


def level(atoms: Atoms, **settings: str) -> tuple[list[float], int, np.ndarray]:
    """Orbital energies, number of occupied orbitals and polarizability tensor."""
    mol = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions / BOHR, strict=True)),
        unit="bohr",
        verbose=0,
        **settings,
    )
    mf = dft.RKS(mol, xc="pbe")
    mf.conv_tol, mf.grids.level = 1e-11, 5
    mf.kernel()
    energies, n_occupied = mf.mo_energy.tolist(), mol.nelectron // 2
    hcore, start, r = mf.get_hcore(), mf.make_rdm1(), mol.intor("int1e_r")
    tensor = np.zeros((3, 3))
    for j in range(3):
        for sign in (1, -1):
            mf.get_hcore = lambda *_, h=hcore + sign * FIELD * r[j]: h
            mf.kernel(start)
            if not mf.converged:
                raise RuntimeError("the SCF did not converge")
            tensor[:, j] -= sign * np.einsum("xpq,qp->x", r, mf.make_rdm1()) / (2 * FIELD)
    return energies, n_occupied, tensor


if __name__ == "__main__":
    record = {
        "program": f"PySCF {pyscf.__version__}",
        "made_by": Path(__file__).name,
        "settings": f"RKS pbe, gth-tzv2p, gth-pbe, grid level 5, field {FIELD} both signs",
        "units": "positions in angstrom, energies in hartree, polarizability in bohr^3",
        "molecules": {name: compute(name) for name in ("H2O",)},
    }
    path = Path(__file__).with_name("molecules.json")
    path.write_text(json.dumps(record, indent=1) + "\n")
