"""Symmetry of a crystal that contains a molecule; space groups are those of gemmi."""

from __future__ import annotations

import gemmi
import numpy as np

from denser.io.reflections import find_space_group, unit_cell
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

SAME_SITE = 0.1 / BOHR
"""Symmetry copies of an atom closer than this (bohr) are one atom on a special position."""


def operations(space_group: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rotations (3, 3) int and translations (3,) on fractional coordinates, x' = R x + t."""
    if _is_p1(space_group):
        return [(np.eye(3, dtype=int), np.zeros(3))]
    group = find_space_group(space_group)
    return [(np.array(op.rot) // op.DEN, np.array(op.tran) / op.DEN) for op in group.operations()]


def miller_indices(cell: np.ndarray, d_min: float, space_group: str = "P 1") -> np.ndarray:
    """Unique reflections (n, 3) to `d_min` (angstrom) without (0, 0, 0) and absences.

    In P 1: the half of the sphere with l > 0, or l = 0 and h > 0, or h = l = 0 and k > 0.
    """
    if not _is_p1(space_group):
        box = unit_cell(cell)
        group = find_space_group(space_group)
        if not box.is_compatible_with_spacegroup(group):
            raise InputError(
                f"the cell {', '.join(f'{x:.3f}' for x in box.parameters)} does not fit "
                f"space group {space_group}; check both"
            )
        return np.array(gemmi.make_miller_array(box, group, d_min), dtype=int)
    limits = np.floor(np.linalg.norm(cell, axis=1) * BOHR / d_min).astype(int)
    h, k, l = np.meshgrid(*[np.arange(-n, n + 1) for n in limits], indexing="ij")  # noqa: E741
    half = (l > 0) | ((l == 0) & ((h > 0) | ((h == 0) & (k > 0))))
    hkl = np.stack([h[half], k[half], l[half]], axis=1)
    inside = np.linalg.norm(hkl @ np.linalg.inv(cell).T, axis=1) <= BOHR / d_min
    return hkl[inside]


def site_occupancies(structure: Structure, cell: np.ndarray, space_group: str) -> np.ndarray:
    """1/n for an atom at whose position there are n symmetry copies of atoms of its element."""
    x = structure.positions @ np.linalg.inv(cell)
    copies = np.zeros(len(structure))
    same = structure.numbers[:, None] == structure.numbers[None]
    for rotation, translation in operations(space_group):
        shift = (x @ rotation.T + translation)[:, None] - x[None]
        distance = np.linalg.norm((shift - np.round(shift)) @ cell, axis=-1)
        copies += (same & (distance < SAME_SITE)).sum(axis=0)
    return 1 / copies


def _is_p1(space_group: str) -> bool:
    return space_group.replace(" ", "").upper() == "P1"
