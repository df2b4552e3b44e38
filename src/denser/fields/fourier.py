"""Fourier transforms of fields: resampling, wave vectors and Coulomb potentials."""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.special import erf

from denser.types.errors import InputError
from denser.types.grid import Grid

_PLANES = 16


def resample(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Trigonometric interpolation of a periodic field to another number of nodes.

    The field is the trigonometric polynomial through its values, with the component at the
    Nyquist frequency of an even axis divided equally between both signs. It is evaluated at the
    new nodes; node 0 remains node 0. On a coarser grid this is sampling, not smoothing, so a
    positive density does not get oscillations.

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


def wave_orders(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole numbers m of the waves along each axis on the half grid of a real transform."""
    nx, ny, nz = shape
    return np.fft.fftfreq(nx, 1 / nx), np.fft.fftfreq(ny, 1 / ny), np.fft.rfftfreq(nz, 1 / nz)


def wave_vectors(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Components of G = 2 pi m / cell on the half grid of a real transform, 1/bohr.

    Their shapes broadcast to (nx, ny, nz // 2 + 1).
    """
    m = np.ix_(*wave_orders(grid.shape))
    b = 2 * np.pi * np.linalg.inv(grid.cell).T  # rows are reciprocal vectors
    if grid.is_orthorhombic:
        return m[0] * b[0, 0], m[1] * b[1, 1], m[2] * b[2, 2]
    x, y, z = (m[0] * b[0, j] + m[1] * b[1, j] + m[2] * b[2, j] for j in range(3))
    return x, y, z


def squared_wave_numbers(grid: Grid) -> np.ndarray:
    """G^2 on the half grid of a real transform (nx, ny, nz // 2 + 1), 1/bohr^2; inf at G = 0.

    Division by it gives zero at G = 0.
    """
    gx, gy, gz = wave_vectors(grid)
    g2 = gx**2 + gy**2 + gz**2
    g2[0, 0, 0] = np.inf
    return g2


def poisson(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Coulomb potential of a periodic density, integral rho(r')/|r - r'| dr' over all images.

    v_G = 4 pi rho_G / G^2 and v_0 = 0: the potential has zero mean, and a density that is not
    neutral is neutralised by a uniform background.

    Parameters
    ----------
    values : (nx, ny, nz) float
        Density, e/bohr^3.
    grid : Grid
        Its box is the period.

    Returns
    -------
    (nx, ny, nz) float64
        hartree/e, positive around a positive density.
    """
    field = fft.rfftn(np.asarray(values, dtype=float))
    field *= 4 * np.pi / squared_wave_numbers(grid)
    return fft.irfftn(field, s=grid.shape, overwrite_x=True)


def poisson_isolated(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Coulomb potential of an isolated density, integral rho(r')/|r - r'| dr' over the box.

    A convolution in a box of twice the lengths (Hockney), with 1/r split as by Martyna and
    Tuckerman, J. Chem. Phys. 110, 2810 (1999): erf(a r)/r is tabulated on the nodes, the rest,
    4 pi (1 - exp(-G^2 / 4 a^2)) / G^2, is exact in reciprocal space. With a = 6 / (shortest
    length) the rest has decayed to 1e-16 at the nearest image. The error decreases
    exponentially with the spacing: the potential of a Gaussian exp(-b r^2) has an error below
    1e-9 hartree/e per charge if b h^2 < 0.1.

    Parameters
    ----------
    values : (nx, ny, nz) float
        Density, e/bohr^3, that vanishes at the faces of the box.
    grid : Grid
        Orthorhombic.

    Returns
    -------
    (nx, ny, nz) float64
        hartree/e, valid at every node of the box.

    Raises
    ------
    InputError
        The box is not orthorhombic.
    """
    if not grid.is_orthorhombic:
        raise InputError(
            "the potential of an isolated molecule needs an orthorhombic box along x, y and z"
        )
    nx, ny, nz = grid.shape
    kernel = _isolated_kernel(grid)
    # Axis by axis, so that lines of padding are left out of the transforms where possible.
    field = fft.rfft(np.asarray(values, dtype=float), 2 * nz, axis=2)
    for k in range(0, nz + 1, _PLANES):
        part = slice(k, k + _PLANES)
        planes = fft.fft(field[:, :, part], 2 * ny, axis=1)
        planes = fft.fft(planes, 2 * nx, axis=0)
        planes[: nx + 1, : ny + 1] *= kernel[:, :, part]
        planes[nx + 1 :, : ny + 1] *= kernel[nx - 1 : 0 : -1, :, part]
        planes[: nx + 1, ny + 1 :] *= kernel[:, ny - 1 : 0 : -1, part]
        planes[nx + 1 :, ny + 1 :] *= kernel[nx - 1 : 0 : -1, ny - 1 : 0 : -1, part]
        planes = fft.ifft(planes, axis=0, overwrite_x=True)[:nx]
        field[:, :, part] = fft.ifft(planes, axis=1)[:, :ny]
    return np.ascontiguousarray(fft.irfft(field, 2 * nz, axis=2, overwrite_x=True)[:, :, :nz])


def _isolated_kernel(grid: Grid) -> np.ndarray:
    """Transform of 1/r in the doubled box, one octant: it is even in each axis."""
    a = 6.0 / np.diag(grid.cell).min()
    x2, y2, z2 = (
        (np.arange(n + 1) * h) ** 2 for n, h in zip(grid.shape, grid.spacing, strict=True)
    )
    r = np.sqrt(x2[:, None, None] + y2[:, None] + z2)
    r[0, 0, 0] = 1.0
    table = erf(a * r) / r
    table[0, 0, 0] = 2 * a / np.sqrt(np.pi)
    kernel = grid.dv * fft.dctn(table, type=1, overwrite_x=True)
    gx2, gy2, gz2 = (
        (np.arange(n + 1) * np.pi / length) ** 2
        for n, length in zip(grid.shape, np.diag(grid.cell), strict=True)
    )
    g2 = gx2[:, None, None] + gy2[:, None] + gz2
    g2[0, 0, 0] = 1.0
    rest = -4 * np.pi * np.expm1(-g2 / (4 * a * a)) / g2
    rest[0, 0, 0] = np.pi / a**2
    kernel += rest
    return kernel
