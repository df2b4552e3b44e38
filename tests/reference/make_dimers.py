"""Occupied orbitals of two dimers for the tests of non-covalent interactions.

The water dimer and the methane dimer of the S22 set's kind: PBE, GTH-PBE, GTH-TZV2P by
denser.dft.scf in a box with 4 angstrom of vacuum. Only the orbitals are kept.

    python tests/reference/make_dimers.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule

from denser.dft.scf import scf
from denser.types.structure import Structure

WATER = Atoms(  # S22 geometry (Jurecka et al. 2006), angstrom
    "OHHOHH",
    [
        (-1.551007, -0.114520, 0.0),
        (-1.934259, 0.762503, 0.0),
        (-0.599677, 0.040712, 0.0),
        (1.350625, 0.111469, 0.0),
        (1.680398, -0.373741, -0.758561),
        (1.680398, -0.373741, 0.758561),
    ],
)


def methane() -> Atoms:
    """Two molecules face to face and staggered, carbons 3.7 angstrom apart (D3d)."""
    one = molecule("CH4")
    one.rotate((1, 1, 1), (0, 0, 1), center=(0, 0, 0))
    two = one.copy()
    two.positions *= -1
    one.positions += (0, 0, 1.85)
    two.positions -= (0, 0, 1.85)
    return one + two


if __name__ == "__main__":
    for name, atoms in (("water_dimer", WATER), ("methane_dimer", methane())):
        structure = Structure.of(atoms)
        result = scf(structure)
        if not result.converged:
            raise RuntimeError("the SCF did not converge")
        np.savez_compressed(
            Path(__file__).with_name(f"{name}.npz"),
            numbers=structure.numbers,
            positions=structure.positions,
            mo_coeff=result.mo_coeff[:, result.mo_occ > 0],
            e_tot=result.e_tot,
        )
