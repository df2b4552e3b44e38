"""Form factors of atoms, spherical and in the molecule, for X-rays and electrons.

The all-electron density is split into spherical free atoms, whose form factors are radial
integrals, and the deformation density: the valence density minus superposed pseudo-atoms. It is
smooth and is transformed by a Fourier sum on the grid. Hirshfeld's weights divide it among the
atoms (Hirshfeld 1977; Jayatilaka and Dittrich 2008). A grid of 0.083 angstrom resolves the
deformation to d = 0.17 angstrom; the limit is twice the spacing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline

from denser.analysis.crystal.fourier_sum import fourier_sum
from denser.atoms.free_atoms import (
    ball,
    free_atom,
    require_pseudo_charges,
    without_core,
)
from denser.fields.windows import pieces
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

Q_MAX = 80.0
"""Largest q = 2 pi/d of the tabulated form factors of free atoms, 1/bohr (0.04 angstrom)."""

CORE_TAIL = 3e-8
"""Cores end where they stay below this, e/bohr^3; 1e-5 electrons of an atom are beyond."""

_STEP = 0.002  # of radial tables, bohr


# Free atoms


@cache
def _form_factor_table(z: int) -> tuple[CubicSpline, float]:
    """f(q) of a free atom, and its <r^2>, bohr^2."""
    atom = free_atom(z)
    # Gauss-Legendre panels that halve towards the nucleus, where the density has its cusp.
    edges = np.concatenate(
        [[0.0], 0.25 * 2.0 ** np.arange(-14, 0), np.linspace(0.25, atom.radius + 4, 60)]
    )
    x, w = np.polynomial.legendre.leggauss(10)
    half = np.diff(edges)[:, None] / 2
    r = (edges[:-1, None] + half * (1 + x)).ravel()
    shell = 4 * np.pi * r**2 * atom.all_electron(r) * (half * w).ravel()
    q = np.concatenate([np.arange(0, 16, 0.02), np.geomspace(16, Q_MAX, 400)])
    return CubicSpline(q, np.sinc(np.outer(q, r) / np.pi) @ shell), float(shell @ r**2)


def spherical_form_factor(z: int, q: np.ndarray) -> np.ndarray:
    """X-ray form factor of the free PBE atom with atomic number `z`, electrons.

    f(q) = 4 pi integral n(r) sin(qr)/(qr) r^2 dr, with q = 4 pi sin(theta)/lambda = 2 pi/d.

    Parameters
    ----------
    z : int
    q : array
        1/bohr, at most `Q_MAX`.
    """
    q = np.asarray(q, dtype=float)
    if q.size and q.max() > Q_MAX:
        raise InputError(
            f"form factors reach d = {2 * np.pi / Q_MAX * BOHR:.3f} angstrom, found "
            f"{2 * np.pi / q.max() * BOHR:.3f} angstrom; use a lower resolution"
        )
    return _form_factor_table(int(z))[0](q)


def mott_bethe(z: np.ndarray | int, f_x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Electron form factor in the first Born approximation, bohr.

    f_e = 2 (Z - f_x)/q^2 in atomic units: (Z - f_x)/(8 pi^2 a_0 s^2) with s = sin(theta)/lambda
    (Mott 1930; Bethe 1930). Times 0.5292 it is in angstrom. `q` (1/bohr) is not zero.
    """
    return 2 * (z - f_x) / np.asarray(q, dtype=float) ** 2


def electron_form_factor(z: int, q: np.ndarray) -> np.ndarray:
    """Electron form factor of the free atom, bohr; <r^2>/3 in the forward direction."""
    q = np.asarray(q, dtype=float)
    # Z - f loses its digits as q^2 does; up to 0.05 per bohr the curve is a parabola.
    at_least = np.maximum(q, 0.05)
    curve = mott_bethe(z, spherical_form_factor(z, at_least), at_least)
    forward = _form_factor_table(int(z))[1] / 3
    return np.where(q < 0.05, forward + (curve - forward) * (q / 0.05) ** 2, curve)


# Hirshfeld atoms of the deformation density


@dataclass(frozen=True, eq=False)
class _Sphere:
    """A radial function, tabulated and linear between entries; zero from `radius` on."""

    radius: float
    values: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(cls, function: Callable[[np.ndarray], np.ndarray], radius: float) -> _Sphere:
        values = np.append(function(np.arange(0.0, radius, _STEP)), [0.0, 0.0])
        return cls(radius, values, np.diff(values, append=0.0))

    def __call__(self, squared: np.ndarray) -> np.ndarray:
        """Values at squared distances; in place where possible, because this is the slow part."""
        t = np.sqrt(squared)
        t /= _STEP
        np.minimum(t, len(self.values) - 1, out=t)
        i = t.astype(np.intp)
        t -= i
        t *= self.steps.take(i)
        t += self.values.take(i)
        return t


def _free_spheres(structure: Structure) -> dict[int, tuple[_Sphere, _Sphere]]:
    """All-electron density and core of the free atom of each element."""
    spheres = {}
    for z in np.unique(structure.numbers):
        atom = free_atom(int(z))
        r = np.arange(0.0, atom.radius, 0.01)
        end = r[np.flatnonzero(np.abs(atom.core(r)) > CORE_TAIL)[-1]]
        spheres[int(z)] = (_Sphere.of(atom.all_electron, atom.radius), _Sphere.of(atom.core, end))
    return spheres


def _deformation(
    density: Density, spheres: dict[int, tuple[_Sphere, _Sphere]]
) -> tuple[np.ndarray, np.ndarray]:
    """Deformation density and superposed all-electron atoms (nx, ny, nz), e/bohr^3.

    The deformation is valence + cores - all-electron atoms, whose cusps cancel entry by entry
    of the tables: finer than those of `denser.analysis.charges.stockholder.deform`, so that a
    density and its completion have the same structure factors to 1e-9 electrons.
    """
    density = without_core(density)
    require_pseudo_charges(density)
    structure, grid = density.structure, density.grid
    deformation = np.array(density.values, dtype=float)
    promolecule = np.zeros(grid.shape)
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        for sphere, total in zip(spheres[int(z)], (promolecule, deformation), strict=True):
            nodes, squared = ball(grid, position, sphere.radius, periodic=True)
            patch = sphere(squared)
            for on_grid, in_patch in pieces(nodes, grid.shape):
                total[on_grid] += patch[in_patch]
    deformation -= promolecule
    return deformation, promolecule


def form_factors(density: Density, h: np.ndarray, atoms: Sequence[int] | None = None) -> np.ndarray:
    """Aspherical X-ray form factors of the atoms at any reciprocal vectors, electrons.

    f_a(h) = f_a^free(|h|) + integral w_a d exp(2 pi i h.(r - R_a)) dr with d the deformation
    density and w_a = n_a/sum_b n_b from free all-electron atoms, which is the transform of the
    Hirshfeld atom of the all-electron density, without thermal motion.

    Parameters
    ----------
    density : Density
        Valence or all-electron; of any cell.
    h : (n, 3) float
        Cartesian, 1/bohr; |h| = 1/d.
    atoms : sequence of int, optional
        Indices of the atoms, such as those of an asymmetric unit; by default all. The time goes
        with their number.

    Returns
    -------
    (n_atoms, n) complex

    Raises
    ------
    InputError
        There is no free atom for an element, or h is beyond the resolution of the grid.
    """
    structure, grid = density.structure, density.grid
    h = np.asarray(h, dtype=float).reshape(-1, 3)
    require_resolution(grid, h)
    spheres = _free_spheres(structure)
    share, promolecule = _deformation(density, spheres)
    share[promolecule <= 0] = 0.0
    np.divide(share, promolecule, out=share, where=promolecule > 0)
    q = 2 * np.pi * np.linalg.norm(h, axis=1)
    theta = 2 * np.pi * h @ (grid.cell / np.array(grid.shape)[:, None]).T
    inverse = np.linalg.inv(grid.cell)
    spherical = {z: spherical_form_factor(z, q) for z in spheres}
    chosen = range(len(structure)) if atoms is None else atoms
    out = np.empty((len(chosen), len(h)), dtype=complex)
    for n, i in enumerate(chosen):
        z, position = int(structure.numbers[i]), structure.positions[i]
        atom, _ = spheres[z]
        nodes, squared = ball(grid, position, atom.radius, periodic=True)
        patch = atom(squared)
        for on_grid, in_patch in pieces(nodes, grid.shape):
            patch[in_patch] *= share[on_grid]
        centre = (position - grid.origin) @ inverse * grid.shape
        first = np.array([axis[0] for axis in nodes]) - centre
        out[n] = spherical[z] + grid.dv * fourier_sum(patch, first, theta)
    return out


def require_resolution(grid: Grid, h: np.ndarray) -> None:
    """Raise InputError unless a grid resolves all h (n, 3), 1/bohr."""
    limit = 2 * grid.spacing.max()
    finest = 1 / max(np.linalg.norm(h, axis=1).max(initial=0.0), 1e-12)
    if finest < limit * (1 - 1e-6):
        raise InputError(
            f"a grid of {grid.spacing.max() * BOHR:.3f} angstrom resolves reflections down to "
            f"{limit * BOHR:.3f} angstrom, requested are {finest * BOHR:.3f} angstrom; "
            "use a larger d_min or a finer grid"
        )
