"""Kinetic energy density of orbitals on a grid, with the density and its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from denser.labels.render import axis_functions, n_orbitals, primitives
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

_BLOCK = 16
_NEGLIGIBLE = 1e-8


@dataclass(frozen=True, eq=False)
class KineticDensity:
    """The variables of a meta-GGA for doubly occupied orbitals.

    Parameters
    ----------
    grid : Grid
    rho : (nx, ny, nz) float
        2 sum_i |psi_i|^2, e/bohr^3.
    squared_gradient : (nx, ny, nz) float
        |grad rho|^2, e^2/bohr^8.
    tau : (nx, ny, nz) float
        sum_i |grad psi_i|^2, that is half of the sum over occupied spin orbitals and never
        negative, hartree/bohr^3; integrates to the kinetic energy.
    """

    grid: Grid
    rho: np.ndarray
    squared_gradient: np.ndarray
    tau: np.ndarray


def kinetic_density(structure: Structure, mo_coeff: np.ndarray, grid: Grid) -> KineticDensity:
    """Evaluate tau, rho and |grad rho|^2 of doubly occupied GTH-TZV2P orbitals.

    The derivatives are those of the Gaussians and exact at every node of any grid: a Gaussian is a
    product of functions of x, y and z, and so is its derivative (compare `denser.labels.render`).

    Parameters
    ----------
    structure : Structure
    mo_coeff : (nao, n_occupied) float
        In PySCF's order of basis functions.
    grid : Grid
        Orthorhombic; its box is the period of the orbitals.

    Raises
    ------
    InputError
        The orbitals do not belong to the atoms.
    """
    expected = n_orbitals(structure.numbers)
    if np.ndim(mo_coeff) != 2 or len(mo_coeff) != expected:
        raise InputError(
            f"{structure.formula} has {expected} basis functions, so its orbitals must have shape "
            f"({expected}, n), found {np.shape(mo_coeff)}"
        )
    rho, squared, tau = (np.zeros(grid.shape) for _ in range(3))
    for where, psi, slopes in _orbitals(structure, mo_coeff, grid):
        rho[where] = 2 * psi.square().sum(dim=2).numpy()
        for slope in slopes:
            tau[where] += slope.square().sum(dim=2).numpy()
            squared[where] += np.square(4 * (psi * slope).sum(dim=2).numpy())
    return KineticDensity(grid, rho, squared, tau)


def _orbitals(
    structure: Structure, mo_coeff: np.ndarray, grid: Grid
) -> Iterator[tuple[tuple, torch.Tensor, Iterator[torch.Tensor]]]:
    """For each column of the grid: its slices, psi (x, y, i, z) and an iterator of d psi."""
    atom, exponents, powers, c = primitives(structure.numbers, mo_coeff)
    values, slopes = [], []
    for i in range(3):
        centre, n = structure.positions[atom, i], powers[:, i]

        def along(n: np.ndarray, i: int = i, centre: np.ndarray = centre) -> np.ndarray:
            return axis_functions(grid.axis(i), grid.cell[i, i], centre, exponents, n)

        # d/dx x^n exp(-a x^2) = (n x^(n-1) - 2 a x^(n+1)) exp(-a x^2)
        slope = n[:, None] * along(np.maximum(n - 1, 0)) - 2 * exponents[:, None] * along(n + 1)
        values.append(torch.as_tensor(along(n)))
        slopes.append(torch.as_tensor(slope))
    peak = torch.as_tensor(np.abs(c).max(axis=1))
    peak = peak * torch.maximum(values[2].abs().amax(dim=1), slopes[2].abs().amax(dim=1))
    coefficients = torch.as_tensor(c)
    nx, ny, nz = grid.shape
    for i in range(0, nx, _BLOCK):
        for j in range(0, ny, _BLOCK):
            window = slice(i, i + _BLOCK), slice(j, j + _BLOCK)
            # Upper bound of a primitive and its derivatives in this column.
            reach = [
                torch.maximum(f[:, w].abs().amax(dim=1), d[:, w].abs().amax(dim=1))
                for f, d, w in zip(values[:2], slopes[:2], window, strict=True)
            ]
            near = torch.nonzero(reach[0] * reach[1] * peak > _NEGLIGIBLE).squeeze(1)
            if near.numel() == 0:
                continue

            def product(kinds: tuple, near: torch.Tensor = near, w: tuple = window) -> torch.Tensor:
                x, y, z = (kind[k][near] for k, kind in enumerate(kinds))
                xy = (x[:, w[0], None] * y[:, None, w[1]]).flatten(1)
                zc = (coefficients[near, :, None] * z[:, None, :]).flatten(1)
                n_x, n_y = len(range(*w[0].indices(nx))), len(range(*w[1].indices(ny)))
                return (xy.T @ zc).view(n_x, n_y, len(c[0]), nz)

            derivatives = (
                product(tuple(slopes if k == m else values for k in range(3))) for m in range(3)
            )
            yield window, product((values, values, values)), derivatives
