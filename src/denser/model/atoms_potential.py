"""Electrostatic potential of deformed atoms and their nuclei at any points.

V(r) = sum_a q_a/|r - R_a| - v_a(r - R_a), with charges q_a at the nuclei and the Coulomb potential
v_a of the electrons of atom a (`denser.atoms.sad_fields`, `denser.model.gaussian_fields`). In large
structures the atoms far away are seen in groups (`denser.model.far_field`): time is linear in the
number of points, and grows with the logarithm of that of the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from denser.atoms.sad_fields import REACH, charge_radius, free_atom_potential
from denser.fields.windows import compact_groups
from denser.model.far_field import FarField
from denser.model.gaussian_fields import LARGE, NEAR, deformation, far_potential, multipoles
from denser.types.structure import MANY, Structure

_PAIRS = 200_000
"""Pairs of atoms and points that are evaluated at a time."""

_TOGETHER = 512
"""Points of a compact group that see the same atoms from afar."""


@dataclass(frozen=True, eq=False)
class AtomsPotential:
    """Potential of isolated deformed atoms, each with its nucleus.

    Parameters
    ----------
    structure : Structure
    recipe : str
        SAD recipe of the free atoms.
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) float
        With the factors of the atoms.
    exponents : (n_exponents,) float
        Bohr^-2.
    factors : (n_atoms,) float
        Of the free atoms.
    charges : (n_atoms,) float
        At the nuclei, e.
    """

    structure: Structure
    recipe: str
    coefficients: np.ndarray
    exponents: np.ndarray
    factors: np.ndarray
    charges: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Potential (n,), hartree/e, at points (n, 3), bohr.

        From `MANY` atoms on with groups, which is right to 3e-6 hartree/e.
        """
        if len(self.structure) < MANY:
            return self._of(np.arange(len(self.structure)), points)
        v = np.empty(len(points))
        for some in compact_groups(points, _TOGETHER):
            x = points[some]
            centre = (x.min(axis=0) + x.max(axis=0)) / 2
            radius = float(np.linalg.norm(x - centre, axis=1).max(initial=0.0))
            groups, near = self._far_field.seen_from(centre, radius)
            v[some] = self._far_field.potential(x, groups) + self._of(near, x)
        return v

    def _of(self, atoms: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Potential (n,) of some atoms (m,), one by one."""
        total = np.zeros(len(points))
        if not atoms.size:
            return total
        numbers, centres = self.structure.numbers[atoms], self.structure.positions[atoms]
        coefficients, charges = self.coefficients[atoms], self.charges[atoms]
        at_once = max(64, _PAIRS // len(atoms))
        for start in range(0, len(points), at_once):
            some = points[start : start + at_once]
            x = some.T[:, None] - centres.T[:, :, None]  # (3, atom, point)
            r = np.linalg.norm(x, axis=0)
            v = np.empty_like(r)
            for z in np.unique(numbers):
                own = np.flatnonzero(numbers == z)
                free = free_atom_potential(r[own], int(z), self.recipe)
                v[own] = self.factors[atoms[own], None] * free
            for a in np.flatnonzero((r < NEAR).any(axis=1)):
                near = np.flatnonzero(r[a] < NEAR)
                v[a, near] += deformation(x[:, a, near], coefficients[a], self.exponents)[2]
            owner, index = np.nonzero(r >= NEAR)
            v[owner, index] += far_potential(
                x[:, owner, index], owner, coefficients, self.exponents
            )
            total[start : start + at_once] = charges @ (1 / r) - v.sum(axis=0)
        return total

    @cached_property
    def _far_field(self) -> FarField:
        found = -multipoles(self.coefficients, self.exponents)
        kinds = {int(z) for z in self.structure.numbers}
        of_kind = {z: free_atom_potential(np.array([REACH]), z, self.recipe)[0] for z in kinds}
        electrons = REACH * np.array([of_kind[int(z)] for z in self.structure.numbers])
        found[:, 0] += np.sqrt(4 * np.pi) * (self.charges - self.factors * electrons)
        beyond = max(charge_radius(z, self.recipe) for z in kinds)
        used = np.abs(self.coefficients).max(axis=(0, 2)) > 0  # metals alone have diffuse ones
        beyond = max(beyond, float(np.sqrt(LARGE / self.exponents[used].min(initial=np.inf))))
        return FarField.of(self.structure.positions, found, beyond)
