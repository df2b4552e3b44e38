"""Spectral operations on periodic fields."""

from __future__ import annotations

import numpy as np
from scipy import fft

from denser.density import Field


def resample(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Trigonometric interpolation of a periodic field to another number of nodes.

    Keeps the mean, and every component that both grids can carry; node 0 stays node 0.
    A component at the Nyquist frequency of an even axis is shared between both of its signs.

    Parameters
    ----------
    values : (nx, ny, nz) float
    shape : three int

    Returns
    -------
    (shape) float
    """
    out = np.asarray(values, dtype=float)
    for axis, n_new in enumerate(shape):
        n_old = out.shape[axis]
        if n_new == n_old:
            continue
        spectrum = np.moveaxis(fft.rfft(out, axis=axis), axis, 0)
        n_low = min(n_old, n_new)
        kept = np.zeros((n_new // 2 + 1, *spectrum.shape[1:]), dtype=complex)
        kept[: n_low // 2 + 1] = spectrum[: n_low // 2 + 1]
        if n_low % 2 == 0:
            # a real transform holds both signs at Nyquist in one entry of the shorter axis
            kept[n_low // 2] *= 0.5 if n_new > n_old else 2.0
            if n_new < n_old:
                kept[n_low // 2] = kept[n_low // 2].real
        out = fft.irfft(np.moveaxis(kept, 0, axis), n=n_new, axis=axis) * (n_new / n_old)
    return out


def resample_field(field: Field, shape: tuple[int, int, int]) -> Field:
    """`resample` on a Field or Density, with its grid."""
    from dataclasses import replace

    grid = replace(field.grid, shape=tuple(shape))
    return replace(field, grid=grid, values=resample(field.values, grid.shape))
