"""Symmetry of a crystal that contains a molecule; space groups are those of gemmi."""

from __future__ import annotations

from itertools import product

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


def found_operations(structure: Structure) -> list[tuple[np.ndarray, np.ndarray]]:
    """Operations under which a crystal is the same, found from its atoms; the first is identity.

    Rotations (3, 3) int and translations (3,) within the cell, x' = R x + t in fractions. Atoms may
    be off by `SAME_SITE`. In settings of the International Tables, and in reduced cells, all
    numbers in R are -1, 0 or 1; others are not looked for.

    Raises
    ------
    InputError
        The structure has no cell.
    """
    if structure.cell is None:
        raise InputError("an isolated molecule has no space group; give the cell of a crystal")
    cell, numbers = structure.cell, structure.numbers
    rotations = np.array(list(product((-1, 0, 1), repeat=9))).reshape(-1, 3, 3)
    metric = cell @ cell.T
    turned = rotations.transpose(0, 2, 1) @ metric @ rotations
    rotations = rotations[np.abs(turned - metric).max(axis=(1, 2)) < 1e-3 * metric.max()]
    identity = (rotations == np.eye(3)).all(axis=(1, 2))
    rotations = np.concatenate([rotations[identity], rotations[~identity]])
    x = structure.positions @ np.linalg.inv(cell)
    rarest = min(np.unique(numbers), key=lambda z: (numbers == z).sum())
    first, *_ = few = np.flatnonzero(numbers == rarest)
    found = []
    for rotation in rotations:
        for atom in few:
            shift = x[atom] - rotation @ x[first]
            if _maps(x @ rotation.T + shift, x, numbers, cell):
                found.append((rotation, shift - np.floor(shift + 1e-6)))
    return found


def _maps(images: np.ndarray, x: np.ndarray, numbers: np.ndarray, cell: np.ndarray) -> bool:
    """Whether every image, in fractions, is at the place of an atom of its element."""
    for z in np.unique(numbers):
        same = numbers == z
        steps = images[same, None] - x[same]
        distances = np.linalg.norm((steps - np.round(steps)) @ cell, axis=2)
        if (distances.min(axis=1) > SAME_SITE).any():
            return False
    return True


def triplet(rotation: np.ndarray, translation: np.ndarray) -> str:
    """An operation as in a CIF, such as -x+1/2,y+1/2,-z; translations to 1/24 where they are."""
    words = []
    for row, t in zip(rotation, translation, strict=True):
        word = "".join(
            ("+" if n > 0 else "-") + name for n, name in zip(row, "xyz", strict=True) if n
        )
        whole = round(float(t) * 24)
        if abs(float(t) * 24 - whole) < 0.05:
            common = np.gcd(whole, 24)
            top, bottom = whole // common, 24 // common
            shift = f"{top:+d}" if bottom == 1 else f"{top:+d}/{bottom}"
        else:
            shift = f"{t:+.3f}"
        words.append(word.removeprefix("+") + ("" if whole == 0 and shift == "+0" else shift))
    return ",".join(words)


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
