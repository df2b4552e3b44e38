"""Point charges outside a molecule: their potential in a basis, its energy and derivatives.

v(r) = -sum_i q_i / |r - r_i| acts on the electrons, and sum_ai Z_a q_i / |R_a - r_i| is the energy
of the nuclei. The charges do not interact with each other here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyscf import gto
from scipy.spatial.distance import cdist

from denser.types.errors import InputError

_BYTES = 2e8
"""Of the integrals at a time."""

_LARGEST = 20.0


@dataclass(frozen=True, eq=False)
class PointCharges:
    """Point charges.

    Parameters
    ----------
    points : (n, 3) float
        Bohr.
    charges : (n,) float
        e.

    Raises
    ------
    InputError
        Shapes that do not fit, numbers that are not finite, or charges in another unit.
    """

    points: np.ndarray
    charges: np.ndarray

    def __post_init__(self) -> None:
        points, charges = np.asarray(self.points, float), np.asarray(self.charges, float)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(
                "places of point charges must be finite numbers of shape (n, 3), bohr, found shape "
                f"{points.shape}"
            )
        if charges.shape != (len(points),) or not np.isfinite(charges).all():
            raise InputError(
                f"{len(points)} points need as many finite charges, found an array of shape "
                f"{charges.shape}"
            )
        if np.abs(charges).max(initial=0.0) > _LARGEST:
            raise InputError(
                f"a point charge of {charges[np.abs(charges).argmax()]:g}; charges are in e"
            )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "charges", charges)

    def nuclear_energy(self, z: np.ndarray, positions: np.ndarray) -> float:
        """sum_ai Z_a q_i / |R_a - r_i| of nuclei Z (n_atoms,) at positions, hartree."""
        return float(z @ (1 / cdist(positions, self.points)) @ self.charges)

    def nuclear_slopes(self, z: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of `nuclear_energy` by the nuclei (n_atoms, 3) and the points (n, 3)."""
        strength = np.outer(z, self.charges) / cdist(positions, self.points) ** 3
        of_nuclei = strength @ self.points - strength.sum(axis=1)[:, None] * positions
        of_points = strength.T @ positions - strength.sum(axis=0)[:, None] * self.points
        return of_nuclei, of_points

    def matrix(self, mol: gto.Mole) -> np.ndarray:
        """-sum_i q_i <m|1/|r - r_i||n> (nao, nao), hartree."""
        v = np.zeros((mol.nao, mol.nao))
        for some in self._blocks(mol.nao):
            integrals = mol.intor("int1e_grids", hermi=1, grids=self.points[some])
            v -= np.einsum("g,gpq->pq", self.charges[some], integrals)
        return v

    def electronic_slopes(self, mol: gto.Mole, dm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of tr P `matrix` at a fixed P, by the atoms (natm, 3) and the points (n, 3).

        With I = <dm/dx|1/|r - r_i||n>, a function moves with its atom, and the point opposite to
        both functions.
        """
        first = mol.aoslice_by_atom()[:, 2]
        atoms, points = np.zeros((mol.natm, 3)), np.zeros_like(self.points)
        for some in self._blocks(3 * mol.nao):
            integrals = mol.intor("int1e_grids_ip", grids=self.points[some])  # (3, g, p, q)
            pulled = np.einsum("xgpq,pq->xgp", integrals, dm, optimize=True)
            pulled *= 2 * self.charges[some, None]
            points[some] = -pulled.sum(axis=2).T
            atoms += np.add.reduceat(pulled.sum(axis=1), first, axis=1).T
        return atoms, points

    def _blocks(self, n_functions: int) -> list[slice]:
        at_once = max(1, int(_BYTES / (8 * n_functions**2)))
        n = len(self.charges)
        return [slice(k, min(k + at_once, n)) for k in range(0, n, at_once)]
