"""Fourier sums of a field on a block of grid nodes, at any wave vectors."""

from __future__ import annotations

import numpy as np

WIDTH = 8
"""Number of nodes of the oversampled reciprocal grid for the interpolation of a wave vector."""

_BETA = 2.3 * WIDTH


def fourier_sum(values: np.ndarray, first: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """g(theta) = sum_j values_j exp(i sum_x theta_x (j_x + first_x)).

    If the wave vectors are on a lattice along the axes of the grid, as those of a box are, the
    sum is exact and computed axis by axis. Otherwise this is done for a twofold oversampled
    lattice that covers them, and g is interpolated with the "exponential of semicircle" kernel
    of Barnett, Magland and af Klinteberg (SIAM J. Sci. Comput. 41, C479 (2019)); the error is
    below 1e-6 of the sum of the moduli of the values.

    Parameters
    ----------
    values : (nx, ny, nz) float
    first : (3,) float
        Position of the first node along each axis, in nodes.
    theta : (n, 3) float
        Phase per node along each axis, radian; at most pi in modulus.

    Returns
    -------
    (n,) complex
    """
    # The values are real: g(-theta) is the conjugate of g(theta), so theta_x >= 0 is enough.
    conjugate = theta[:, 0] < 0
    theta = np.where(conjugate[:, None], -theta, theta)
    lattice = [np.unique(np.round(t, 11), return_inverse=True) for t in theta.T]
    if np.prod([len(axis) for axis, _ in lattice], dtype=float) < 16 * len(theta) + 4096:
        phases = [
            np.exp(1j * np.outer(axis, np.arange(n) + start))
            for (axis, _), n, start in zip(lattice, values.shape, first, strict=True)
        ]
        g = _separable(values, phases)[tuple(index for _, index in lattice)]
    else:
        g = _interpolated(values, first, theta)
    return np.where(conjugate, g.conj(), g)


def _separable(values: np.ndarray, phases: list[np.ndarray]) -> np.ndarray:
    """sum_jkl values_jkl X_aj Y_bk Z_cl (a, b, c) by three matrix products."""
    x, y, z = phases
    nx, ny, nz = values.shape
    flat = values.reshape(nx, ny * nz)
    out = ((x.real @ flat) + 1j * (x.imag @ flat)).reshape(len(x), ny, nz)
    return np.matmul(y, out) @ z.T


def _interpolated(values: np.ndarray, first: np.ndarray, theta: np.ndarray) -> np.ndarray:
    phases, starts, weights = [], [], []
    for n, start, t in zip(values.shape, first, theta.T, strict=True):
        middle = n // 2
        j = np.arange(n) - middle
        n_fine = 2 * max(n, WIDTH)
        x = t * n_fine / (2 * np.pi)  # in nodes of the oversampled lattice
        low = np.ceil(x - WIDTH / 2).astype(int)
        k = np.arange(low.min(), low.max() + WIDTH)
        # Divide by the transform of the kernel, and shift to the middle of the block.
        shape = np.exp(2j * np.pi / n_fine * np.outer(k, j)) / _kernel_transform(j / n_fine)
        phases.append(shape)
        starts.append(low - low.min())
        distance = low[:, None] + np.arange(WIDTH) - x[:, None]
        weights.append(_kernel(distance) * np.exp(1j * t * (start + middle))[:, None])
    lattice = _separable(values, phases)
    _, ny, nz = lattice.shape
    flat = lattice.ravel()
    wx, wy, wz = weights
    node = (starts[0] * ny + starts[1]) * nz + starts[2]
    g = np.zeros(len(theta), dtype=complex)
    for a in range(WIDTH):
        for b in range(WIDTH):
            line = node + (a * ny + b) * nz
            inner = sum(wz[:, c] * flat[line + c] for c in range(WIDTH))
            g += wx[:, a] * wy[:, b] * inner
    return g


def _kernel(x: np.ndarray) -> np.ndarray:
    return np.exp(_BETA * (np.sqrt(np.maximum(1 - (2 * x / WIDTH) ** 2, 0)) - 1))


def _kernel_transform(xi: np.ndarray) -> np.ndarray:
    x, w = np.polynomial.legendre.leggauss(64)
    x = x * WIDTH / 2
    return np.cos(2 * np.pi * np.outer(xi, x)) @ (w * WIDTH / 2 * _kernel(x))
