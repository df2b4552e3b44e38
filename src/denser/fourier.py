"""Spectral operations on periodic fields."""

from __future__ import annotations

import numpy as np


def resample(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Trigonometric interpolation of a periodic field to another number of nodes.

    The field is taken for the trigonometric polynomial through its values, with the component
    at the Nyquist frequency of an even axis shared between both signs, and evaluated at the new
    nodes; node 0 stays node 0. To a coarser grid that is sampling, not smoothing: a positive
    density does not ring.

    Parameters
    ----------
    values : (nx, ny, nz) float
    shape : three int

    Returns
    -------
    (shape) float64
    """
    out = np.asarray(values, dtype=float)
    for axis, n_new in enumerate(shape):
        if n_new != out.shape[axis]:
            matrix = interpolation_matrix(out.shape[axis], n_new)
            out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out)


def interpolation_matrix(n_old: int, n_new: int) -> np.ndarray:
    """Values at `n_new` nodes of the polynomials that are 1 at one of `n_old` nodes.

    T_jm = (1/n) sum_k cos(2 pi k (j/n_new - m/n_old)) over |k| <= n_old/2, with half weight at
    k = +-n_old/2 (n_new, n_old).
    """
    k = np.arange(n_old // 2 + 1)
    weight = np.where(k == 0, 1.0, 2.0)
    if n_old % 2 == 0:
        weight[-1] = 1.0
    phase = np.arange(n_new)[:, None] / n_new - np.arange(n_old)[None, :] / n_old
    return np.cos(2 * np.pi * phase[..., None] * k) @ weight / n_old
