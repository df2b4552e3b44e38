"""Screening of the residual of a Kohn-Sham step by a local response.

With K the kernel of Hartree, exchange and correlation and chi_0 the response of independent
electrons, the self-consistent density minus the input is (1 - chi_0 K)^-1 R to first order, where
R is output minus input (`denser.dft.one_step`). Here K is only the Coulomb kernel, and

    (chi v)(r) = -RESPONSE integral q(r) g(r - r') q(r') [v(r) - v(r')] dr',
    q = rho / sqrt(g * rho),    g a normalised Gaussian of width `RANGE`.

This is the closure approximation chi = -rho/Delta with one mean excitation energy
Delta = 1/RESPONSE, in a form that conserves charge: electrons respond to the difference between the
potential and its mean over the electrons nearby, not over the whole box. Therefore chi is symmetric
and not positive, a constant potential has no effect, and molecules beyond the range do not exchange
electrons.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from pyscf import lib
from scipy import fft

from denser.fields.fourier import squared_wave_numbers
from denser.types.grid import Grid

RESPONSE = 0.9
"""Strength of the response, 1/hartree. It minimises the errors of densities and energies of 40
molecules after one step."""

RANGE = 4.0
"""Standard deviation of the Gaussian, bohr. Between 3 and 5 bohr the errors hardly change."""

FLOOR = 1e-5
"""Added to the mean density under the root, which is noise far from all atoms, e/bohr^3."""

TOLERANCE = 1e-3
"""Relative Coulomb norm of the residual of the linear equations. The error of the energy is its
square."""

_MOST = 40
_CUTOFF = 5.0


class LocalResponse:
    """The response chi of a density, and the operator (1 - chi V)^-1 with V the Coulomb kernel.

    Parameters
    ----------
    rho : (nx, ny, nz) float
        e/bohr^3.
    grid : Grid
        Its box is the period.
    """

    def __init__(self, rho: np.ndarray, grid: Grid) -> None:
        self.grid = grid
        self.rho = np.asarray(rho, dtype=float)
        self._coulomb = 4 * np.pi / squared_wave_numbers(grid)
        self._waves, self._gaussian = _low_waves(grid)
        self._mean = self.smooth(self.rho) + FLOOR
        self._q = self.rho / np.sqrt(self._mean)

    @cached_property
    def _smooth_q(self) -> np.ndarray:
        return self.smooth(self._q)

    def coulomb(self, field: np.ndarray) -> np.ndarray:
        """Coulomb potential (nx, ny, nz), with zero mean."""
        workers = lib.num_threads()
        waves = fft.rfftn(field, workers=workers)
        waves *= self._coulomb
        return fft.irfftn(waves, s=self.grid.shape, workers=workers, overwrite_x=True)

    def smooth(self, field: np.ndarray) -> np.ndarray:
        """Convolution with the Gaussian; only a few waves contribute, so no FFT is needed."""
        x, y, z = self._waves
        modes = np.einsum("xyc,ya->xac", field @ z.conj(), y.conj(), optimize=True)
        modes = np.einsum("xac,xb->bac", modes, x.conj(), optimize=True) * self._gaussian
        out = np.einsum("bac,xb->xac", modes, x, optimize=True)
        out = np.einsum("xac,ya->xyc", out, y, optimize=True)
        return out.real @ z.real.T - out.imag @ z.imag.T

    def chi(self, v: np.ndarray) -> np.ndarray:
        """Change of the density (nx, ny, nz) by a potential, e/bohr^3."""
        return -RESPONSE * self._q * (self._smooth_q * v - self.smooth(self._q * v))

    def chi_slope(self, u: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Functional derivative of <u|chi w> with respect to the density (nx, ny, nz)."""
        q, smooth = self._q, self.smooth
        by_q = u * w * self._smooth_q + smooth(q * u * w) - u * smooth(q * w) - w * smooth(q * u)
        by_mean = -0.5 * by_q * self.rho / self._mean**1.5
        return -RESPONSE * (by_q / np.sqrt(self._mean) + smooth(by_mean))

    def screened(self, residual: np.ndarray) -> np.ndarray:
        """(1 - chi V)^-1 of a residual (nx, ny, nz); the number of electrons does not change.

        It is solved by conjugate gradients in the Coulomb norm <x|V|x>, in which 1 - chi V is
        symmetric and at least 1.
        """
        rest = np.array(residual, dtype=float)
        potential = self.coulomb(rest)
        norm = first = _dot(rest, potential)
        x = np.zeros_like(rest)
        direction, its_potential = rest.copy(), potential.copy()
        for _ in range(_MOST):
            if norm <= TOLERANCE**2 * first:
                break
            image = direction - self.chi(its_potential)
            step = norm / _dot(its_potential, image)
            x += step * direction
            rest -= step * image
            potential = self.coulomb(rest)
            last, norm = norm, _dot(rest, potential)
            direction = rest + (norm / last) * direction
            its_potential = potential + (norm / last) * its_potential
        return x + rest

    def screened_potential(self, v: np.ndarray) -> np.ndarray:
        """(1 - V chi)^-1 of a potential (nx, ny, nz), the transpose of `screened`."""
        return v + self.coulomb(self.screened(self.chi(v)))


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b))


def _low_waves(grid: Grid) -> tuple[list[np.ndarray], np.ndarray]:
    """Waves per axis (n_i, m_i) that contribute to the Gaussian, and its weights (m_x, m_y, m_z).

    Along the last axis there is only half of the waves, with twice the weight.
    """
    reciprocal = 2 * np.pi * np.linalg.inv(grid.cell).T  # rows
    most = _CUTOFF / RANGE
    orders, waves = [], []
    for axis, n in enumerate(grid.shape):
        # |G| >= |m| 2 pi / |a_i|, so beyond this order none is below the cutoff.
        top = min(int(most * np.linalg.norm(grid.cell[axis]) / (2 * np.pi)), (n - 1) // 2)
        m = np.arange(0 if axis == 2 else -top, top + 1)
        orders.append(m)
        waves.append(np.exp(2j * np.pi * np.outer(np.arange(n) / n, m)))
    g = np.stack(np.meshgrid(*orders, indexing="ij"), axis=-1) @ reciprocal
    weights = np.exp(-0.5 * RANGE**2 * np.sum(g**2, axis=-1)) / grid.size
    weights[..., 1:] *= 2
    return waves, weights
