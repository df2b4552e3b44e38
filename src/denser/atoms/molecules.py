"""The molecules of a structure, each whole across the faces of the cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from ase.neighborlist import primitive_neighbor_list

from denser.atoms.radii import BONDED
from denser.fields.periodic import repeats
from denser.types.recipe import LEAST_PERIOD
from denser.types.structure import Structure
from denser.types.units import BOHR

APART = 3.5 / BOHR
"""A molecule in a periodic box stands alone if no image is nearer than this, bohr."""


@dataclass(frozen=True, eq=False)
class WholeMolecule:
    """Atoms that are bonded to each other.

    Parameters
    ----------
    atoms : (n,) int
        Indices in the structure, ascending.
    positions : (n, 3) float
        Positions without jumps across the faces of the cell, bohr; the first atom stays.
    endless : bool
        Whether it is bonded to its own images, like the atoms of a network or a chain. The
        positions then are those of one choice of images.
    """

    atoms: np.ndarray
    positions: np.ndarray
    endless: bool


def whole_molecules(structure: Structure) -> list[WholeMolecule]:
    """Molecules in the order of their first atoms; bonds are those of `denser.atoms.radii.bonds`.

    In a cell of any shape a bond goes to the nearest images.
    """
    radii = covalent_radii[structure.numbers] * BONDED / BOHR
    first, second, vectors = structure.neighbours(radii)
    bonds: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(len(structure))]
    for i, j, vector in zip(first.tolist(), second.tolist(), vectors, strict=True):
        bonds[i].append((j, vector))
    places: dict[int, np.ndarray] = {}
    molecules = []
    for start in range(len(structure)):
        if start in places:
            continue
        places[start] = structure.positions[start]
        members, endless = [start], False
        for i in members:
            for j, vector in bonds[i]:
                place = places[i] + vector
                if j not in places:
                    places[j] = place
                    members.append(j)
                elif not np.allclose(places[j], place, rtol=0, atol=1e-3):
                    endless = True
        atoms = np.sort(members)
        positions = np.array([places[i] for i in atoms])
        molecules.append(WholeMolecule(atoms, positions, endless))
    return molecules


def lone_molecule(structure: Structure) -> WholeMolecule | None:
    """The molecule of a periodic structure that holds only one, with vacuum around it (`APART`)."""
    if structure.cell is None:
        return None
    first, *others = whole_molecules(structure)
    if others or first.endless:
        return None
    # Atoms of the whole molecule are in one cell: a pair with a shift is one with an image.
    shifts = primitive_neighbor_list("S", (True,) * 3, structure.cell, first.positions, APART)
    return None if shifts.any() else first


def is_crystal(structure: Structure) -> bool:
    """Whether a structure is periodic, and no lone molecule in a cell."""
    return structure.cell is not None and lone_molecule(structure) is None


def cells_at_gamma(structure: Structure) -> tuple[int, int, int]:
    """How many cells a crystal needs along each vector if its orbitals are those at Gamma alone.

    As many as leave no period below `denser.types.recipe.LEAST_PERIOD`. One cell suffices for a
    molecule, with or without a cell of its own.
    """
    if structure.cell is None:
        return 1, 1, 1
    times = repeats(structure.cell, LEAST_PERIOD)
    return times if max(times) > 1 and lone_molecule(structure) is None else (1, 1, 1)
