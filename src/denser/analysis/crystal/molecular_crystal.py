"""The molecules of a crystal on their own, and those around each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.spatial.distance import cdist

from denser.analysis.charges.mbis import Quadrature
from denser.analysis.charges.without_grid import Conformer
from denser.analysis.crystal.multipoles import Multipoles
from denser.analysis.crystal.symmetry import SAME_SITE, triplet
from denser.atoms.free_atoms import pseudo_charges
from denser.dft.dispersion import dispersion
from denser.model.deformed_atoms import DeformedAtoms
from denser.types.structure import Structure

POINTS = (30, 15)
"""Radial points per atom, and degree of the Lebedev rule (86 points): energies of pairs are right
to 0.1 kJ/mol, those of hydrogen bonds too."""

_LEAST = 1e-7
"""Where the density is below this (e/bohr^3), it is left out."""

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
    """The molecules of a cell, each whole, with densities of their own.

    Parameters
    ----------
    cell : (3, 3) float
        Bohr.
    conformers : list of Conformer
    operations : list
        As of `denser.analysis.crystal.symmetry.found_operations`.
    """

    cell: np.ndarray
    conformers: list[Conformer]
    operations: list[tuple[np.ndarray, np.ndarray]]

    def orbits(self) -> dict[int, list[int]]:
        """For each independent molecule, itself and those that operations make from it."""
        found: dict[int, list[int]] = {}
        for i in range(len(self.conformers)):
            for first, others in found.items():
                if self.operation(first, i, np.zeros(3)):
                    others.append(i)
                    break
            else:
                found[i] = [i]
        return found

    def positions(self, i: int) -> np.ndarray:
        """Atoms of a molecule (n, 3), bohr."""
        return self.conformers[i].structure.positions

    def centre(self, i: int) -> np.ndarray:
        """Mean position of the atoms of a molecule (3,), bohr."""
        return self.positions(i).mean(axis=0)

    def operation(self, first: int, second: int, shift: np.ndarray) -> str:
        """The operation that takes a molecule to another one; empty if there is none."""
        numbers = self.conformers[first].structure.numbers
        others = self.conformers[second].structure.numbers
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
        for j in range(len(self.conformers)):
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
        first, second = self.conformers[i].structure, self.conformers[other.index].structure
        apart = cdist(first.positions, second.positions + other.shift).ravel()
        a, b = first.numbers[:, None], second.numbers[None]
        elements = (np.minimum(a, b) * 1000 + np.maximum(a, b)).ravel()
        order = np.lexsort((apart, elements))
        return np.concatenate([elements[order], apart[order]])

    def dispersion(self, i: int, other: Neighbour, kind: str) -> float:
        """Dispersion of a pair minus that of its molecules, hartree."""
        first = self.conformers[i].structure
        second = _moved(self.conformers[other.index], other.shift).structure
        parts = (_joined(first, second), first, second)
        both, *own = (dispersion(part, kind)[0] for part in parts)
        return both - sum(own)

    def electrostatic(self, i: int, other: Neighbour) -> float:
        """Electrostatic energy of a pair in the densities of its molecules, hartree."""
        return electrostatic_energy(
            self.conformers[i], _moved(self.conformers[other.index], other.shift)
        )


def electrostatic_energy(first: Conformer, second: Conformer) -> float:
    """Electrostatic energy of two molecules in their own densities, hartree.

    The mean of the integrals of either density in the potential of the other one.
    """
    quadrature = Quadrature.around(_joined(first.structure, second.structure), *POINTS)
    energies = []
    for a, b in ((first, second), (second, first)):
        rho = a.density.at(quadrature.points)
        used = rho > _LEAST
        nuclei = pseudo_charges(a.structure) @ b.potential(a.structure.positions)
        electrons = (rho * quadrature.weights)[used] @ b.potential(quadrature.points[used])
        energies.append(float(nuclei - electrons))
    return sum(energies) / 2


def multipoles_of(conformer: Conformer) -> Multipoles:
    """Multipoles of the atoms, nuclei and electrons."""
    part, atoms = conformer.structure, conformer.density
    assert isinstance(atoms, DeformedAtoms)
    n, first, second = atoms.of_atoms()
    traces = np.trace(second, axis1=1, axis2=2)[:, None, None] / 3
    return Multipoles(part.positions, pseudo_charges(part) - n, -first, traces * np.eye(3) - second)


def _moved(conformer: Conformer, shift: np.ndarray) -> Conformer:
    """The same molecule at another place."""
    part, atoms = conformer.structure, conformer.density
    assert isinstance(atoms, DeformedAtoms)
    moved = Structure(part.numbers, part.positions + shift, part.charge)
    return Conformer(moved, replace(atoms, structure=moved))


def _joined(first: Structure, second: Structure) -> Structure:
    return Structure(
        np.concatenate([first.numbers, second.numbers]),
        np.concatenate([first.positions, second.positions]),
        first.charge + second.charge,
    )
