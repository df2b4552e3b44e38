"""The molecules of a crystal, and those around each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial.distance import cdist

from denser.analysis.crystal.symmetry import SAME_SITE, found_operations, triplet
from denser.atoms.molecules import whole_molecules
from denser.types.errors import InputError
from denser.types.structure import Structure

_SAME = 2e-3
"""Pairs whose interatomic distances (bohr) agree within this have the same energy."""


@dataclass(frozen=True, eq=False)
class Neighbour:
    """One of the molecules around a molecule.

    Parameters
    ----------
    index : int
        Molecule in the cell.
    shift : (3,) float
        Moves it to its place, bohr.
    contact : float
        Distance of the nearest atoms, bohr.
    """

    index: int
    shift: np.ndarray
    contact: float


@dataclass(frozen=True, eq=False)
class MolecularCrystal:
    """The molecules of a cell, each whole.

    Parameters
    ----------
    cell : (3, 3) float
        Bohr.
    molecules : list of Structure
        Isolated, in their places.
    operations : list
        As of `denser.analysis.crystal.symmetry.found_operations`.
    """

    cell: np.ndarray
    molecules: list[Structure]
    operations: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, structure: Structure, what: str) -> tuple[MolecularCrystal, list[np.ndarray]]:
        """The molecules of a crystal without charges, and the atoms of each.

        Raises
        ------
        InputError
            No cell, or atoms bonded without end; `what` needs molecules.
        """
        if structure.cell is None:
            raise InputError(f"{what} are those of the molecules of a crystal; give its cell")
        found = whole_molecules(structure)
        if any(molecule.endless for molecule in found):
            raise InputError(
                f"the atoms of {structure.formula} are bonded without end, so there are no "
                f"molecules that could have {what}"
            )
        molecules = [Structure(structure.numbers[m.atoms], m.positions) for m in found]
        return cls(structure.cell, molecules, found_operations(structure)), [m.atoms for m in found]

    def orbits(self) -> dict[int, list[int]]:
        """For each independent molecule, itself and those that operations make from it."""
        found: dict[int, list[int]] = {}
        for i in range(len(self.molecules)):
            for first, others in found.items():
                if self.operation(first, i, np.zeros(3)):
                    others.append(i)
                    break
            else:
                found[i] = [i]
        return found

    def positions(self, i: int) -> np.ndarray:
        """Atoms of a molecule (n, 3), bohr."""
        return self.molecules[i].positions

    def centre(self, i: int) -> np.ndarray:
        """Mean position of the atoms of a molecule (3,), bohr."""
        return self.positions(i).mean(axis=0)

    def operation(self, first: int, second: int, shift: np.ndarray) -> str:
        """The operation that takes a molecule to another one; empty if there is none."""
        numbers = self.molecules[first].numbers
        others = self.molecules[second].numbers
        if not np.array_equal(np.sort(numbers), np.sort(others)):
            return ""
        inverse = np.linalg.inv(self.cell)
        x, y = self.positions(first) @ inverse, (self.positions(second) + shift) @ inverse
        for rotation, translation in self.operations:
            moved = x @ rotation.T + translation
            whole = np.round(y.mean(axis=0) - moved.mean(axis=0))
            apart = cdist((moved + whole) @ self.cell, y @ self.cell)
            apart[numbers[:, None] != others] = np.inf
            if (apart.min(axis=1) < SAME_SITE).all():
                return triplet(rotation, translation + whole)
        return ""

    def neighbours(self, i: int, reach: float) -> Iterator[Neighbour]:
        """Molecules with two atoms within a distance (bohr) of those of molecule i."""
        inverse, own = np.linalg.inv(self.cell), self.positions(i)
        for j in range(len(self.molecules)):
            other = self.positions(j)
            middle = (own.mean(axis=0) - other.mean(axis=0)) @ inverse
            sizes = sum(np.linalg.norm(x - x.mean(axis=0), axis=1).max() for x in (own, other))
            margin = (reach + sizes) * np.linalg.norm(inverse, axis=0)
            ranges = [
                range(int(np.ceil(m - d)), int(np.floor(m + d)) + 1)
                for m, d in zip(middle, margin, strict=True)
            ]
            for order in product(*ranges):
                if j == i and not any(order):
                    continue
                shift = np.array(order) @ self.cell
                contact = float(cdist(own, other + shift).min())
                if contact < reach:
                    yield Neighbour(j, shift, contact)

    def alike(self, i: int, reach: float) -> list[tuple[Neighbour, int]]:
        """As `neighbours`, one of each kind of pair and how many there are; the nearest first."""
        found: list[tuple[Neighbour, int]] = []
        seen: list[np.ndarray] = []
        for neighbour in sorted(self.neighbours(i, reach), key=lambda other: other.contact):
            key = self._distances(i, neighbour)
            for k, known in enumerate(seen):
                if known.shape == key.shape and np.abs(known - key).max() < _SAME:
                    found[k] = (found[k][0], found[k][1] + 1)
                    break
            else:
                seen.append(key)
                found.append((neighbour, 1))
        return found

    def _distances(self, i: int, other: Neighbour) -> np.ndarray:
        """Sorted distances between the atoms of two molecules, by elements."""
        first, second = self.molecules[i], self.molecules[other.index]
        apart = cdist(first.positions, second.positions + other.shift).ravel()
        a, b = first.numbers[:, None], second.numbers[None]
        elements = (np.minimum(a, b) * 1000 + np.maximum(a, b)).ravel()
        order = np.lexsort((apart, elements))
        return np.concatenate([elements[order], apart[order]])
