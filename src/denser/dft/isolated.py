"""An isolated molecule in a periodic box: what the periodic images and the background change.

A periodic calculation replaces the Coulomb potential 1/r by that of a lattice of point charges in
a uniform background, 1/r + psi(r). For a molecule that fills a small part of its box

    psi(r) = -xi + r.A.r / 2,

with xi the Madelung constant of the box and A a tensor of trace 4 pi / V; for a cube it is
4 pi / 3 V times the unit tensor. With q, mu and Q the charge, dipole and second moments of nuclei
and electrons together, the energy of the molecule on its own is that of the box plus

    E = xi q^2 / 2 - (q tr AQ - mu.A.mu) / 2,

which does not depend on the origin (for a cube: Makov and Payne, Phys. Rev. B 51, 4014 (1995)).
E is a functional of the density, and its derivative is part of the Kohn-Sham potential. Therefore
the orbitals respond to it, orbital energies refer to the vacuum, and forces remain derivatives of
the energy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfc

from denser.dft.functionals import (
    XC_CUTOFF,
    hartree_xc,
    hartree_xc_kernel,
    spin_hartree_xc,
)
from denser.types.grid import Grid

if TYPE_CHECKING:
    from pyscf.pbc.dft import rks, uks

    from denser.types.structure import Structure


class Isolation:
    """The correction of a molecule in an orthorhombic box, with nuclei that are fixed.

    Parameters
    ----------
    structure : Structure
    charges : (n_atoms,) float
        Charges of the nuclei with their cores.
    grid : Grid
        Its box is the period; the molecule is near its centre.
    """

    def __init__(self, structure: Structure, charges: np.ndarray, grid: Grid) -> None:
        self.charges = np.asarray(charges, dtype=float)
        self.madelung, self.tensor = lattice_expansion(grid.cell)
        centre = grid.origin + grid.cell.sum(axis=0) / 2
        self.positions = structure.positions - centre
        sides = np.diag(grid.cell)
        self._axes = [
            np.arange(n) * (d / n) - d / 2 for n, d in zip(grid.shape, sides, strict=True)
        ]
        self._dv = grid.dv
        squares = np.einsum("ai,ij,aj->a", self.positions, self.tensor, self.positions)
        self._nuclei = (
            float(self.charges.sum()),
            self.charges @ self.positions,
            float(self.charges @ squares),
        )

    def energy(self, rho: np.ndarray) -> float:
        """Energy of the molecule on its own minus that in the box, hartree.

        Parameters
        ----------
        rho : (nx, ny, nz) float
            Density of the electrons, e/bohr^3.
        """
        q, mu, second = self._total(rho)
        return 0.5 * float(self.madelung * q**2 - q * second + mu @ self.tensor @ mu)

    def potential(self, rho: np.ndarray) -> np.ndarray:
        """Derivative of `energy` with respect to the density (nx, ny, nz), hartree."""
        return self._potential(*self._total(rho))

    def kernel(self, change: np.ndarray) -> np.ndarray:
        """Change of `potential` by a change of the density (nx, ny, nz), hartree."""
        q, mu, second = self._moments(change)
        return self._potential(-q, -mu, -second)

    def gradient(self, rho: np.ndarray) -> np.ndarray:
        """Derivative of `energy` with the density fixed (n_atoms, 3), hartree/bohr."""
        q, mu, _ = self._total(rho)
        return -self.charges[:, None] * ((q * self.positions - mu) @ self.tensor)

    def _potential(self, q: float, mu: np.ndarray, second: float) -> np.ndarray:
        along = [
            0.5 * q * a * x**2 - m * a * x
            for a, m, x in zip(np.diag(self.tensor), mu, self._axes, strict=True)
        ]
        x, y, z = along
        return (0.5 * second - self.madelung * q + x)[:, None, None] + y[:, None] + z

    def _moments(self, rho: np.ndarray) -> tuple[float, np.ndarray, float]:
        """Integrals of rho, r rho and r.A.r rho."""
        planes = [rho.sum(axis=tuple({0, 1, 2} - {axis})) * self._dv for axis in range(3)]
        first = np.array([float(p @ x) for p, x in zip(planes, self._axes, strict=True)])
        squares = [float(p @ x**2) for p, x in zip(planes, self._axes, strict=True)]
        return float(planes[0].sum()), first, float(np.diag(self.tensor) @ squares)

    def _total(self, rho: np.ndarray) -> tuple[float, np.ndarray, float]:
        """Charge, dipole and tr AQ of nuclei and electrons."""
        (q, mu, second), (n, first, squares) = self._nuclei, self._moments(rho)
        return q - n, mu - first, second - squares


def potential_and_energy(mf: rks.RKS, rho: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    """Potential (nx, ny, nz) and energy of Hartree, exchange, correlation and isolation, hartree.

    As `denser.dft.functionals.hartree_xc`, for the functional and the isolation of `mf`.
    """
    known = mf.open_space
    if known is not None and np.array_equal(rho, known.rho):
        return known.potential, known.e_box
    potential, energy = hartree_xc(mf.xc, rho, grid)
    if mf.isolation is not None:
        potential += mf.isolation.potential(rho)
        energy += mf.isolation.energy(rho)
    return potential, energy


def spin_potential_and_energy(
    mf: uks.UKS, rho: np.ndarray, m: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray, float]:
    """As `denser.dft.functionals.spin_hartree_xc`, for the functional and isolation of `mf`."""
    v, w, energy = spin_hartree_xc(mf.xc, rho, m, grid)
    if mf.isolation is not None:
        v += mf.isolation.potential(rho)
        energy += mf.isolation.energy(rho)
    return v, w, energy


def kernel(
    mf: rks.RKS, rho: np.ndarray, grid: Grid, cutoff: float = XC_CUTOFF
) -> Callable[[np.ndarray], np.ndarray]:
    """Derivative of the potential of `potential_and_energy` at a density.

    As `denser.dft.functionals.hartree_xc_kernel`, for the functional and the isolation of `mf`.
    """
    product = hartree_xc_kernel(mf.xc, rho, grid, cutoff)
    isolation = mf.isolation
    if isolation is None:
        return product
    return lambda change: product(change) + isolation.kernel(change)


def lattice_expansion(cell: np.ndarray) -> tuple[float, np.ndarray]:
    """Madelung constant xi, 1/bohr, and tensor A (3, 3), 1/bohr^3, of a lattice.

    Ewald's sums for the potential of a lattice of unit charges in a uniform background, without
    the charge at the origin: -xi + r.A.r / 2 + O(r^4).

    Parameters
    ----------
    cell : (3, 3) float
        Lattice vectors in rows, bohr.
    """
    volume = abs(np.linalg.det(cell))
    reciprocal = 2 * np.pi * np.linalg.inv(cell).T
    eta = np.sqrt(np.pi) / volume ** (1 / 3)
    lattice, waves = _vectors(cell, 6.5 / eta), _vectors(reciprocal, 13.0 * eta)
    g2 = np.sum(waves**2, axis=1)
    weights = 4 * np.pi / volume * np.exp(-g2 / (4 * eta**2)) / g2
    r = np.linalg.norm(lattice, axis=1)
    x = eta * r
    gauss = 2 / np.sqrt(np.pi) * np.exp(-(x**2))
    screened = erfc(x) / r
    constant = weights.sum() + screened.sum() - np.pi / (volume * eta**2) - 2 * eta / np.sqrt(np.pi)
    # d_i d_j erfc(eta r)/r = a delta_ij + b r_i r_j
    a = -(screened + gauss * eta) / r**2
    b = (3 * screened + gauss * eta * (3 + 2 * x**2)) / r**4
    tensor = -(weights[:, None] * waves).T @ waves + (b[:, None] * lattice).T @ lattice
    tensor += np.eye(3) * (a.sum() + 4 * eta**3 / (3 * np.sqrt(np.pi)))
    return float(-constant), tensor


def _vectors(basis: np.ndarray, radius: float) -> np.ndarray:
    """All lattice vectors within a radius but zero (n, 3)."""
    heights = 1 / np.linalg.norm(np.linalg.inv(basis), axis=0)
    most = np.ceil(radius / heights).astype(int)
    indices = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), -1)
    vectors = indices.reshape(-1, 3) @ basis
    length = np.linalg.norm(vectors, axis=1)
    return vectors[(length < radius) & (length > 0)]
