"""Critical points of the bonds of a predicted density, without a grid, for many molecules.

The density of all electrons is that of the Gaussians with the cores of free atoms
(`denser.atoms.free_atoms`). From the lowest density on the straight line between two bonded nuclei,
Newton's method goes to the point where the gradient vanishes. Gradients are analytic, and second
derivatives are differences of them. Only bonds that the structure names are looked for:
`denser analyze --qtaim` finds all critical points, also of hydrogen bonds and rings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.spatial.distance import cdist

from denser.atoms.free_atoms import free_atom, pseudo_charges
from denser.types.density import Continuous
from denser.types.structure import Structure
from denser.types.units import BOHR

_STEP = 0.02
"""Of the differences, bohr."""

_CYCLES, _LONGEST = 12, 0.15
"""Of Newton's method: number and length of steps, bohr."""

_FLAT = 2e-4
"""The gradient vanishes below this, e/bohr^4."""

_SAMPLES = np.linspace(0.15, 0.85, 29)
"""Where the lowest density is looked for, shares of the bond."""


@dataclass(frozen=True, eq=False)
class BondPoints:
    """Bond critical points; not a number where none was found.

    Parameters
    ----------
    pairs : (n, 2) int
        Bonded atoms.
    lengths : (n,) float
        Bohr.
    positions : (n, 3) float
        Bohr.
    distances : (n, 2) float
        From the two nuclei, bohr.
    rho : (n,) float
        e/bohr^3.
    eigenvalues : (n, 3) float
        Of the second derivatives, ascending, e/bohr^5.
    potential, nuclear : (n,) float
        Electrostatic potential of all electrons and nuclei, and of the nuclei alone, hartree/e.
    """

    pairs: np.ndarray
    lengths: np.ndarray
    positions: np.ndarray
    distances: np.ndarray
    rho: np.ndarray
    eigenvalues: np.ndarray
    potential: np.ndarray
    nuclear: np.ndarray

    @property
    def laplacian(self) -> np.ndarray:
        """Sum of the eigenvalues (n,), e/bohr^5."""
        return self.eigenvalues.sum(axis=1)

    @property
    def ellipticity(self) -> np.ndarray:
        """lambda_1 / lambda_2 - 1 (n,)."""
        return self.eigenvalues[:, 0] / self.eigenvalues[:, 1] - 1

    @property
    def kinetic(self) -> np.ndarray:
        """Kinetic energy density by Abramov's formula (n,), hartree/bohr^3.

        G = 3/10 (3 pi^2)^(2/3) rho^(5/3) + lap/6 where the gradient vanishes (Abramov, Acta Cryst.
        A53, 264 (1997)).
        """
        return 0.3 * (3 * np.pi**2) ** (2 / 3) * self.rho ** (5 / 3) + self.laplacian / 6

    @property
    def energy(self) -> np.ndarray:
        """G + V with the virial V = lap/4 - 2 G (n,), hartree/bohr^3."""
        return self.laplacian / 4 - self.kinetic

    def columns(self) -> dict[str, np.ndarray]:
        """Columns of a table, with units in their names."""
        return {
            "length_angstrom": self.lengths * BOHR,
            "density_e_per_bohr3": self.rho,
            "laplacian_e_per_bohr5": self.laplacian,
            "ellipticity": self.ellipticity,
            "lambda1_e_per_bohr5": self.eigenvalues[:, 0],
            "lambda2_e_per_bohr5": self.eigenvalues[:, 1],
            "lambda3_e_per_bohr5": self.eigenvalues[:, 2],
            "distance1_angstrom": self.distances[:, 0] * BOHR,
            "distance2_angstrom": self.distances[:, 1] * BOHR,
            "kinetic_hartree_per_bohr3": self.kinetic,
            "energy_hartree_per_bohr3": self.energy,
            "potential_hartree_per_e": self.potential,
            "nuclear_potential_hartree_per_e": self.nuclear,
        }


def bond_points(structure: Structure, density: Continuous, pairs: np.ndarray) -> BondPoints:
    """Critical points of bonds.

    Parameters
    ----------
    structure : Structure
        Isolated; H to Xe.
    density : Continuous
        Of its valence electrons.
    pairs : (n, 2) int
        Bonded atoms.
    """
    pairs = np.asarray(pairs, dtype=int).reshape(-1, 2)
    first, second = (structure.positions[pairs[:, k]] for k in (0, 1))
    along = second - first
    lengths = np.linalg.norm(along, axis=1)
    samples = first[:, None] + _SAMPLES[:, None] * along[:, None]
    places = samples.reshape(-1, 3)
    rho = density.at(places)
    _add_cores(structure, places, rho, None)
    x = samples[np.arange(len(pairs)), rho.reshape(samples.shape[:2]).argmin(axis=1)]
    moving = np.arange(len(pairs))
    done = np.zeros(len(pairs), dtype=bool)
    for _ in range(_CYCLES):
        if not len(moving):
            break
        _, slopes, curvatures = _derivatives(structure, density, x[moving])
        flat = np.linalg.norm(slopes, axis=1) < _FLAT
        done[moving[flat]] = True
        steps = -np.linalg.solve(curvatures, slopes[..., None])[..., 0]
        size = np.linalg.norm(steps, axis=1)
        steps *= np.minimum(1, _LONGEST / np.maximum(size, 1e-12))[:, None]
        x[moving[~flat]] += steps[~flat]
        moving = moving[~flat]
    rho, _, curvatures = _derivatives(structure, density, x)
    values = np.linalg.eigvalsh(curvatures)
    distances = np.stack([np.linalg.norm(x - end, axis=1) for end in (first, second)], axis=1)
    # a bond has two negative eigenvalues, and lies between its atoms
    good = done & (values[:, 1] < 0) & (values[:, 2] > 0)
    good &= distances.max(axis=1) < lengths
    potential = density.potential(x, pseudo_charges(structure))
    _add_penetration(structure, x, potential)
    nuclear = (structure.numbers / cdist(x, structure.positions)).sum(axis=1)
    rho, x, values, distances = (a.copy() for a in (rho, x, values, distances))
    for array in (rho, x, values, distances, potential, nuclear):
        array[~good] = np.nan
    return BondPoints(pairs, lengths, x, distances, rho, values, potential, nuclear)


def _derivatives(
    structure: Structure, density: Continuous, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density of all electrons (n,), gradient (n, 3) and second derivatives (n, 3, 3)."""
    n = len(points)
    shifts = np.concatenate([np.zeros((1, 3)), _STEP * np.eye(3), -_STEP * np.eye(3)])
    rho, slopes = _gradients(structure, density, (shifts[:, None] + points).reshape(-1, 3))
    slopes = slopes.reshape(7, n, 3)
    second = (slopes[1:4] - slopes[4:]).transpose(1, 0, 2) / (2 * _STEP)
    return rho[:n], slopes[0], 0.5 * (second + second.transpose(0, 2, 1))


def _gradients(
    structure: Structure, density: Continuous, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Density of all electrons (n,) and its gradient (n, 3)."""
    rho, slopes = density.gradients(points)
    _add_cores(structure, points, rho, slopes)
    return rho, slopes


def _add_cores(
    structure: Structure, points: np.ndarray, rho: np.ndarray, slopes: np.ndarray | None
) -> None:
    """Add the cores of free atoms to densities (n,) and gradients (n, 3), in place."""
    for z, centre in zip(structure.numbers, structure.positions, strict=True):
        atom = free_atom(int(z))
        x = points - centre
        r = np.linalg.norm(x, axis=1)
        near = np.flatnonzero(r < atom.core_radius)
        if near.size:
            core, slope, _ = atom.core_derivatives(r[near])
            rho[near] += core
            if slopes is not None:
                slopes[near] += (slope / r[near])[:, None] * x[near]


@cache
def _penetration(z: int) -> tuple[np.ndarray, np.ndarray]:
    """Potential that the core of a free atom has beyond that of its charge at the nucleus.

    Distances r, bohr, and q(r)/r - int_r 4 pi s n(s) ds, hartree/e, where q(r) is the number of
    core electrons outside r.
    """
    atom = free_atom(z)
    r = np.linspace(0.05, max(atom.core_radius, 0.1), 800)
    n = 4 * np.pi * atom.core(r)
    outside, shells = (
        cumulative_trapezoid(values[::-1], -r[::-1], initial=0)[::-1]
        for values in (n * r**2, n * r)
    )
    return r, outside / r - shells


def _add_penetration(structure: Structure, points: np.ndarray, potential: np.ndarray) -> None:
    """Add to a potential (n,) at points (n, 3) what it lacks inside the cores, in place."""
    near = cdist(points, structure.positions)
    for z, r in zip(structure.numbers, near.T, strict=True):
        potential += np.interp(r, *_penetration(int(z)), right=0)
