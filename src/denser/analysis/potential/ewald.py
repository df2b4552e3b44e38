"""Ewald's split of the potential into a part on the grid and an analytic part.

A point charge Z at a nucleus is the sum of a Gaussian charge, which the grid resolves, and a
difference, whose potential Z erfc(r / sqrt(2) sigma) / r has a short range:

V(r) = L(r) + sum_a S_a(|r - R_a|),  L = potential of (Gaussian ions - smooth density).

For a valence density Z is the charge of the pseudopotential's ion. From an all-electron density
the cores of free atoms (all-electron atom minus pseudo-atom) are subtracted, so that there is no
cusp on the grid. Their potential is added to S, which then is that of the nucleus with its core.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import fft
from scipy.interpolate import BSpline, make_interp_spline
from scipy.special import erfc

from denser.atoms.free_atoms import core_values, free_atom
from denser.fields.fourier import poisson, poisson_isolated, wave_orders, wave_vectors
from denser.fields.windows import axis_window, pieces
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import MANY

KINDS = ("isolated", "periodic")

MARGIN = 6
"""Empty nodes around the box of an isolated molecule, since splines are inaccurate at the ends."""

_ENDS = 7.2
"""Where a Gaussian ends, in units of its width."""


class EwaldSplit:
    """A density and its nuclei, split into a part on the grid and an analytic part.

    Parameters
    ----------
    density : Density
        Valence or all-electron.
    kind : "isolated" or "periodic", optional
        By default periodic if the structure has a cell.

    Attributes
    ----------
    kind : str
    grid : Grid
        Of the density.
    ions : list of Ion
        S of each atom.
    charge_density : (nx, ny, nz) float
        Gaussian ions minus the smooth density, e/bohr^3.

    Raises
    ------
    InputError
        `kind` is unknown, an all-electron density has an element beyond Ar, or the number of
        electrons is wrong by more than 1 %, so that the potential would be that of an ion.
    """

    def __init__(self, density: Density, kind: str | None = None) -> None:
        if kind is None:
            kind = "isolated" if density.structure.isolated else "periodic"
        if kind not in KINDS:
            raise InputError(f"unknown kind of boundary {kind!r}; known: {', '.join(KINDS)}")
        self.kind, self.grid = kind, density.grid
        # at the grid's limit the waves of the Gaussians are 4e-11
        self._sigma = 2.2 * float(density.grid.spacing.max())
        numbers = density.structure.numbers.tolist()
        smooth = np.asarray(density.values, dtype=float)
        if density.all_electron:
            smooth = smooth - core_values(density.structure, density.grid)
            self.ions = [Ion(free_atom(z).valence, self._sigma, z) for z in numbers]
        else:
            self.ions = [Ion(charge, self._sigma, None) for charge in density.valence_charges]
        expected = sum(ion.charge for ion in self.ions) - density.structure.charge
        found = float(smooth.sum() * density.grid.dv)
        if abs(found - expected) > 0.01 * max(1.0, expected):
            raise InputError(
                f"the density of {density.structure.formula} should have {expected:g} electrons, "
                f"found {found:.3f}; a potential needs all of them, so check charges, box and units"
            )
        self.charge_density = self._gaussians(density.structure.positions) - smooth

    def long_range(self) -> tuple[np.ndarray, Grid]:
        """L on the nodes, hartree/e; for an isolated molecule on those of a box with a margin.

        In a periodic box the mean of the erfc parts of S is subtracted from L, so V has zero mean.
        """
        if self.kind == "isolated":
            wider = _widen(self.grid, MARGIN)
            return poisson_isolated(np.pad(self.charge_density, MARGIN), wider), wider
        charge = sum(ion.charge for ion in self.ions)
        mean = 2 * np.pi * self._sigma**2 * charge / self.grid.volume
        return poisson(self.charge_density, self.grid) - mean, self.grid

    def _gaussians(self, positions: np.ndarray) -> np.ndarray:
        """Density of the Gaussian ions, from sum_a Z_a exp(-i G R_a) exp(-G^2 sigma^2 / 2)."""
        grid = self.grid
        if len(positions) >= MANY and grid.is_orthorhombic:
            return self._gaussians_nearby(positions)
        # the waves are products of three, in fractions of any cell
        fractions = (positions - grid.origin) @ np.linalg.inv(grid.cell)
        x, y, z = (
            np.exp(-2j * np.pi * np.outer(f, m))
            for f, m in zip(fractions.T, wave_orders(grid.shape), strict=True)
        )
        charges = np.array([ion.charge for ion in self.ions])
        across = np.einsum("ay,az->ayz", y, z).reshape(len(charges), -1)
        field = ((charges[:, None] * x).T @ across).reshape(*grid.shape[:2], -1)
        for g in wave_vectors(grid):
            field *= np.exp(-((g * self._sigma) ** 2) / 2)
        return fft.irfftn(field, s=grid.shape, overwrite_x=True) / grid.dv

    def _gaussians_nearby(self, positions: np.ndarray) -> np.ndarray:
        """The same for many atoms, from the nodes around each: equal to 1e-10 of a Gaussian."""
        grid, sigma = self.grid, self._sigma
        values = np.zeros(grid.shape)
        height = (2 * np.pi * sigma**2) ** -1.5
        for ion, position in zip(self.ions, positions, strict=True):
            windows = [axis_window(grid, i, position[i], _ENDS * sigma) for i in range(3)]
            x, y, z = (np.exp(-((d / sigma) ** 2) / 2) for _, d in windows)
            patch = ion.charge * height * x[:, None, None] * y[:, None] * z
            for on_grid, in_patch in pieces([nodes for nodes, _ in windows], grid.shape):
                values[on_grid] += patch[in_patch]
        return values


class Ion:
    """S(r) = q(r)/r, q(r) = Z erfc(r / sqrt(2) sigma) + core(r); zero beyond `radius`."""

    def __init__(self, charge: float, sigma: float, z: int | None) -> None:
        self.charge, self.sigma = charge, sigma
        self.radius = 6.0 * sigma  # erfc: 2e-9
        self.core = None if z is None else core_charge(z)
        if z is not None:
            self.radius = max(self.radius, free_atom(z).core_radius)

    def charge_at(self, r: np.ndarray) -> np.ndarray:
        """Return q(r)."""
        q = self.charge * erfc(r / (np.sqrt(2) * self.sigma))
        return q if self.core is None else q + self.core(np.minimum(r, self.core.t[-1]))

    def slope_at(self, r: np.ndarray) -> np.ndarray:
        """dq/dr."""
        narrow = np.sqrt(2 / np.pi) / self.sigma
        q = -self.charge * narrow * np.exp(-(r**2) / (2 * self.sigma**2))
        return q if self.core is None else q + self.core(np.minimum(r, self.core.t[-1]), 1)


@cache
def core_charge(z: int) -> BSpline:
    """Charge not screened by core electrons: their number at the nucleus, zero outside the core.

    The excess charge of the nucleus over the ion and the core density n have the potential q(r)/r,
    q(r) = integral_r^inf 4 pi s n(s) (s - r) ds, of which q'' = 4 pi r n.
    """
    atom = free_atom(z)
    r = 25.0 * np.expm1(np.linspace(0.0, 8.0, 1601)) / np.expm1(8.0)
    slope = make_interp_spline(r, 4 * np.pi * r * atom.core(r), k=5).antiderivative()
    slope.c = slope.c - slope(r[-1])
    charge = slope.antiderivative()
    charge.c = charge.c - charge(r[-1])
    return charge


def _widen(grid: Grid, margin: int) -> Grid:
    """Return the grid with `margin` more nodes on each side."""
    shape = np.array(grid.shape)
    steps = grid.cell / shape[:, None]
    wider = shape + 2 * margin
    return Grid(grid.origin - margin * steps.sum(axis=0), steps * wider[:, None], tuple(wider))
