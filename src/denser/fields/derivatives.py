"""Derivatives of a periodic field at the nodes of its grid.

By default they are those of the trigonometric interpolant through the nodes, which is exact for a
field that the grid resolves. With `reach` they are central differences over this number of nodes on
each side. Near a nucleus a coarse grid does not resolve the density; differences do not spread this
error to distant nodes. Both are products with a small matrix along each axis, which take a quarter
of the time of Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import factorial

import numpy as np
from scipy.linalg import circulant

from denser.types.grid import Grid

PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Order of the six components of a symmetric matrix, such as a Hessian."""


def difference_weights(reach: int, order: int) -> list[float]:
    """Weights of the nodes 0, 1, ..., `reach` steps away in a central difference.

    First derivatives (order 1) are antisymmetric and second ones (order 2) symmetric; the error
    is of order 2 `reach` in the spacing.
    """
    weights = [
        order
        * (-1.0) ** (k + 1)
        * factorial(reach) ** 2
        / (k**order * factorial(reach - k) * factorial(reach + k))
        for k in range(1, reach + 1)
    ]
    return [0.0 if order == 1 else -2 * sum(weights), *weights]


@lru_cache(maxsize=32)
def differentiation_matrix(n: int, order: int = 1, reach: int | None = None) -> np.ndarray:
    """First or second derivative at `n` nodes of a function of period 1 (n, n).

    Parameters
    ----------
    n : int
    order : int
        1 or 2.
    reach : int, optional
        Nodes on each side that a central difference uses. Default: the derivative of the
        trigonometric interpolant, whose component at the Nyquist frequency of an even n has no
        slope at the nodes.
    """
    column = np.zeros(n)
    if reach is not None:
        for step, weight in enumerate(difference_weights(reach, order)):
            for sign in (-1, 1) if step else (1,):
                column[(-sign * step) % n] += weight * sign**order * float(n) ** order
        return circulant(column)
    k = np.arange(1, (n - 1) // 2 + 1)
    phase = 2 * np.pi * np.outer(np.arange(n), k) / n
    if order == 1:
        column -= 4 * np.pi / n * np.sin(phase) @ k
    else:
        column -= 8 * np.pi**2 / n * np.cos(phase) @ k**2
        if n % 2 == 0:
            column -= np.pi**2 * n * (-1.0) ** np.arange(n)
    return circulant(column)


def partial(values: np.ndarray, axis: int, order: int = 1, reach: int | None = None) -> np.ndarray:
    """Derivative by the fractional coordinate of one axis, (nx, ny, nz)."""
    matrix = differentiation_matrix(values.shape[axis], order, reach)
    if axis == 0:
        return (matrix @ values.reshape(len(values), -1)).reshape(values.shape)
    return np.matmul(matrix, values) if axis == 1 else values @ matrix.T


def derivative(
    values: np.ndarray, grid: Grid, direction: int, reach: int | None = None
) -> np.ndarray:
    """Derivative by x, y or z (direction 0, 1 or 2), per bohr (nx, ny, nz)."""
    inverse = np.linalg.inv(grid.cell)
    first, *others = (
        inverse[direction, i] * partial(values, int(i), 1, reach)
        for i in np.flatnonzero(inverse[direction])
    )
    return sum(others, first)


def gradient(values: np.ndarray, grid: Grid, reach: int | None = None) -> Iterator[np.ndarray]:
    """Derivatives by x, y and z, (nx, ny, nz) each, per bohr, one after the other."""
    for direction in range(3):
        yield derivative(values, grid, direction, reach)


def divergence(components: Iterable[np.ndarray], grid: Grid) -> np.ndarray:
    """Divergence of a vector field given by its x, y and z components, per bohr."""
    parts = (derivative(values, grid, j) for j, values in enumerate(components))
    return sum(parts, np.zeros(grid.shape))


def hessian(values: np.ndarray, grid: Grid, reach: int | None = None) -> Iterator[np.ndarray]:
    """Second derivatives in the order of `PAIRS`, (nx, ny, nz) each, per bohr^2."""
    inverse = np.linalg.inv(grid.cell)
    for j, k in PAIRS:
        component = np.zeros(values.shape)
        for i in np.flatnonzero(inverse[j]):
            for m in np.flatnonzero(inverse[k]):
                component += inverse[j, i] * inverse[k, m] * _second(values, int(i), int(m), reach)
        yield component


def laplacian(values: np.ndarray, grid: Grid, reach: int | None = None) -> np.ndarray:
    """Laplacian (nx, ny, nz), per bohr^2."""
    inverse = np.linalg.inv(grid.cell)
    metric = inverse.T @ inverse
    total = np.zeros(values.shape)
    for i, m in PAIRS:
        if metric[i, m]:
            total += (1 if i == m else 2) * metric[i, m] * _second(values, i, m, reach)
    return total


def _second(values: np.ndarray, i: int, m: int, reach: int | None = None) -> np.ndarray:
    """Second derivative by the fractional coordinates of two axes."""
    if i == m:
        return partial(values, i, 2, reach)
    return partial(partial(values, i, 1, reach), m, 1, reach)
