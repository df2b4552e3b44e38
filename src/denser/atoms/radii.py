"""Radii of atoms, and bonds between atoms."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from scipy.spatial import cKDTree

from denser.fields.periodic import nearest_image
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

PYYKKO = dict(
    enumerate(
        [
            32, 46,
            133, 102, 85, 75, 71, 63, 64, 67,
            155, 139, 126, 116, 111, 103, 99, 96,
            196, 171, 148, 136, 134, 122, 119, 116, 111, 110, 112,
            118, 124, 121, 121, 116, 114, 117,
            210, 185, 163, 154, 147, 138, 128, 125, 125, 120, 128,
            136, 142, 140, 140, 136, 133, 131,
        ],
        start=1,
    )
)  # fmt: skip
"""Single-bond covalent radii by atomic number, pm (Pyykko and Atsumi 2009); those of
`ase.data` are Cordero's."""

BONDED = 1.25
"""Atoms nearer than this times the sum of their covalent radii are bonded."""


def covalent_radius(z: int) -> float:
    """Pyykko's single-bond radius, bohr; an InputError for an element beyond Xe."""
    if z not in PYYKKO:
        raise InputError(f"no covalent radius is known for {chemical_symbols[z]}, only for H to Xe")
    return PYYKKO[z] / 100 / BOHR


def bond_length(first: int, second: int) -> float:
    """Sum of the covalent radii (Cordero) of two atomic numbers, bohr."""
    return float(covalent_radii[first] + covalent_radii[second]) / BOHR


def bonds(structure: Structure, periodic: bool = True) -> np.ndarray:
    """Pairs of bonded atoms (n_bonds, 2) int, i < j in ascending order, from distances.

    Atoms are bonded if they are nearer than `BONDED` times the sum of their covalent radii
    (Cordero).

    Parameters
    ----------
    structure : Structure
    periodic : bool
        Include bonds across the faces of a cell.
    """
    cell = structure.cell if periodic else None
    radii = covalent_radii[structure.numbers] * BONDED / BOHR
    if cell is not None and not structure.is_orthorhombic:
        i, j, _ = structure.neighbours(radii)
        return np.unique(np.stack([i, j], axis=1)[i < j], axis=0)
    tree = cKDTree(structure.positions) if cell is None else structure.tree()
    pairs = tree.query_pairs(2 * radii.max(), output_type="ndarray")
    steps = structure.positions[pairs[:, 0]] - structure.positions[pairs[:, 1]]
    if cell is not None:
        steps = nearest_image(steps, cell)
    pairs = pairs[np.linalg.norm(steps, axis=1) < radii[pairs].sum(axis=1)]
    return pairs[np.lexsort(pairs.T[::-1])]


def bonded_atoms(structure: Structure) -> list[list[int]]:
    """For each atom, the atoms that it is bonded to, in ascending order."""
    out: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in bonds(structure):
        out[i].append(int(j))
        out[j].append(int(i))
    return [sorted(others) for others in out]
