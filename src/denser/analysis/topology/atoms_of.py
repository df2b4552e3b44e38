"""The atoms of a density: the way back from a density to its structure.

A first guess of places and elements (`denser.analysis.topology.atom_peaks`) is improved by analysis
through synthesis. The atoms are right if their predicted density rho_pred(R) is the given one. Near
the solution

    rho(r) - rho_pred(r; R) = - sum_a d_a . grad rho_a(r - R_a),

with the displacements d_a and the free atoms' densities rho_a: a linear least-squares problem,
which is solved until no atom moves. Then elements are exchanged and atoms left out or added where
this makes the two densities agree better. What is left between them is the error that the result
states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from denser.analysis.topology.atom_peaks import Samples, guess, profile, thinned
from denser.atoms.sad import valence_charges
from denser.model.predictor import Predictor
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

ELEMENTS = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I")
"""What is looked for unless elements are named."""

AGREES = 0.015
"""Densities that differ by less than this (Err_rho) are of the same atoms: elements are not
exchanged."""

MOST_CHARGE = 4
"""Of a molecule, e."""

_POOR = 0.06  # Err_rho of atoms that are looked for again
_STEPS, _STILL = 12, 0.002  # bohr
_LONGEST = 0.4  # bohr, of a step
_TOGETHER = 3.0  # bohr, of hydrogen atoms in place of one of another element
_NEAREST = 1.0  # bohr, of two atoms
_SOFT = 0.02  # e/bohr^3
_LEAST = 1e-5  # e/bohr^3, of the nodes where densities are compared
_FAR = 2.5  # bohr, of the points of the least-squares problem from an atom
_H = 0.01  # bohr, of the slope of a free atom
_SUSPECT = 0.08  # electrons at an atom that are wrong
_MOST_TRIALS = 60


@dataclass(frozen=True, eq=False)
class FoundAtoms:
    """Atoms that were found in a density.

    Parameters
    ----------
    structure : Structure
        Elements, positions and total charge.
    error : float
        Err_rho of the predicted density of these atoms against the given one, a fraction. If it is
        much above the model's error, some atom is wrong.
    wrong : (n_atoms,) float
        Electrons at each atom in which the two densities differ.
    """

    structure: Structure
    error: float
    wrong: np.ndarray

    def to_dict(self) -> dict:
        """Return plain data, positions in angstrom."""
        return {
            "formula": self.structure.formula,
            "charge": self.structure.charge,
            "symbols": list(self.structure.symbols),
            "positions_angstrom": np.round(self.structure.positions * BOHR, 4).tolist(),
            "error_percent": round(100 * self.error, 4),
            "wrong_e": np.round(self.wrong, 4).tolist(),
        }

    def lines(self) -> list[str]:
        """Return readable lines."""
        part = self.structure
        first = (
            f"{part.formula}, charge {part.charge:+d}, from the density alone: the density "
            f"predicted of these atoms differs by {100 * self.error:.2f} %"
        )
        rows = [
            "  {:2s} {:9.4f} {:9.4f} {:9.4f}".format(symbol, *(BOHR * x))
            for symbol, x in zip(part.symbols, part.positions, strict=True)
        ]
        return [first, *rows]

    def __str__(self) -> str:
        return "\n".join(self.lines())


def atoms_of(
    density: Field, elements: Sequence[str] = ELEMENTS, model: str = "default"
) -> FoundAtoms:
    """Find the atoms of a valence density: elements, positions and the total charge.

    Nothing but the values on the nodes is used, also if the density has atoms.

    Parameters
    ----------
    density : Field
        Valence electrons of GTH pseudopotentials, e/bohr^3, of an isolated closed shell; nodes at
        most 0.55 bohr apart.
    elements : sequence of str
        Symbols that are looked for; hydrogen always is.
    model : str
        Whose density the given one is compared with; one of Gaussians.

    Returns
    -------
    FoundAtoms

    Raises
    ------
    InputError
        A density with all electrons or a cell, nodes too far apart, an unknown element, or no atom
        that fits.
    """
    if isinstance(density, Density) and density.all_electron:
        raise InputError("atoms are found in valence densities, and this one has all electrons")
    if isinstance(density, Density) and density.structure.cell is not None:
        raise InputError("atoms are found in densities of molecules, and this one has a cell")
    if float(density.grid.spacing.max()) > 0.55:
        raise InputError(
            f"nodes {density.grid.spacing.max():.2f} bohr apart are too far to find atoms; "
            "0.55 bohr is the most"
        )
    heavy: list[int] = []
    for symbol in elements:
        if atomic_numbers.get(symbol, 0) < 1:
            raise InputError(f"unknown element {symbol!r}")
        heavy += [atomic_numbers[symbol]] if symbol != "H" else []
    samples = Samples(thinned(density))
    return _Search(samples, density.integrate(), heavy, Predictor(model)).run()


@dataclass(frozen=True, eq=False)
class _Search:
    """Improves atoms until their predicted density is the given one."""

    samples: Samples
    n_electrons: float
    heavy: list[int]
    predictor: Predictor

    def run(self) -> FoundAtoms:
        best = None
        for loose in (False, True):
            if best is None or best.error > _POOR:
                numbers, places = guess(self.samples, self.heavy, loose)
                found = self.settled(np.array(numbers), np.array(places))
                if best is None or (found is not None and found.error < best.error):
                    best = found
        if best is None:
            raise InputError(
                "no atoms fit this density; is it one of valence electrons in e/bohr^3, and has it "
                "other elements?"
            )
        trials = 0
        while best.error > AGREES and trials < _MOST_TRIALS:
            for n, x in self.others(best):
                trials += 1
                other = self.settled(n, x)
                if other is not None and other.error < 0.97 * best.error:
                    best = other
                    break
            else:
                break
        return best

    def others(self, found: FoundAtoms) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Other elements for the worst atoms, or without them; one atom for several hydrogens."""
        numbers, places = found.structure.numbers, found.structure.positions
        for i in np.argsort(-found.wrong)[:4]:
            if found.wrong[i] < _SUSPECT:
                break
            if numbers[i] > 1:
                neutral = _valence(numbers[i]) - found.structure.charge  # makes the molecule so
                likely = sorted(self.heavy, key=lambda z: abs(_valence(z) - neutral))
                for z in [z for z in likely if z != numbers[i]][:6]:
                    changed = numbers.copy()
                    changed[i] = z
                    yield changed, places
            yield np.delete(numbers, i), np.delete(places, i, axis=0)
            together = (numbers == 1) & (np.linalg.norm(places - places[i], axis=1) < _TOGETHER)
            if numbers[i] == 1 and together.sum() > 1:
                neutral = together.sum() - found.structure.charge
                likely = sorted(self.heavy, key=lambda z: abs(_valence(z) - neutral))
                for z in likely[:2]:
                    centre = places[together].mean(axis=0)
                    yield np.append(numbers[~together], z), np.vstack([places[~together], centre])

    def settled(self, numbers: np.ndarray, places: np.ndarray) -> FoundAtoms | None:
        """The atoms at the places where their predicted density is closest; None if it has none."""
        found = self.compared(numbers, places)
        for _ in range(_STEPS):
            if found is None:
                return None
            result, difference = found
            step = self.displacements(result.structure, difference)
            longest = float(np.linalg.norm(step, axis=1).max())
            if longest < _STILL:
                break
            step *= min(1.0, _LONGEST / longest)
            after = self.compared(numbers, result.structure.positions + step)
            if after is None or after[0].error > 1.02 * result.error:
                break
            found = after
        return None if found is None else found[0]

    def compared(
        self, numbers: np.ndarray, places: np.ndarray
    ) -> tuple[FoundAtoms, np.ndarray] | None:
        """The atoms, and the given density minus theirs at the nodes (n,)."""
        if len(numbers) == 0 or (len(numbers) > 1 and pdist(places).min() < _NEAREST):
            return None
        neutral = Structure(numbers, places)
        charge = round(float(valence_charges(neutral).sum()) - self.n_electrons)
        if abs(charge) > MOST_CHARGE:
            return None
        structure = Structure(numbers, places, charge)
        field, points = self.samples.field, self.samples.points
        difference = field.values.ravel().copy()
        used = difference > _LEAST
        difference[used] -= self.predictor.gaussians(structure)[0].at(points[used])
        apart = np.abs(difference) * field.grid.dv
        nearest = cKDTree(structure.positions).query(points)[1]
        wrong = np.bincount(nearest, apart, minlength=len(structure))
        return FoundAtoms(structure, float(apart.sum()) / self.n_electrons, wrong), difference

    def displacements(self, structure: Structure, difference: np.ndarray) -> np.ndarray:
        """d_a (n_atoms, 3), bohr, that explain a difference of densities best."""
        near = np.unique(
            np.concatenate(self.samples.tree.query_ball_point(structure.positions, _FAR))
        ).astype(int)
        points = self.samples.points[near]
        weights = 1 / np.sqrt(np.maximum(self.samples.field.values.ravel()[near], 0) + _SOFT)
        columns = np.empty((len(near), len(structure), 3))
        for a, (z, centre) in enumerate(
            zip(structure.numbers.tolist(), structure.positions, strict=True)
        ):
            x = points - centre
            r = np.maximum(np.linalg.norm(x, axis=1), 1e-6)
            inner, outer = np.maximum(r - _H, 0), r + _H
            slope = (profile(z, outer) - profile(z, inner)) / (outer - inner)
            columns[:, a] = -(slope / r * weights)[:, None] * x
        matrix = columns.reshape(len(near), -1)
        solution = np.linalg.lstsq(matrix, weights * difference[near], rcond=1e-3)[0]
        return solution.reshape(-1, 3)


def _valence(z: int) -> float:
    return float(valence_charges(Structure(np.array([z]), np.zeros((1, 3))))[0])
