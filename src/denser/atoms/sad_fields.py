"""Density, gradient and Coulomb potential of superposed free atoms, and their energy.

A free atom is spherical, so that what it does to another one is a function of their distance:

<n_a|V_b> = integral 4 pi r^2 n_a(r) [Y_b(R + r) - Y_b(|R - r|)] / (2 r R) dr,
Y_b(u) = integral_0^u s V_b(s) ds,

the mean of V_b on spheres about the other atom.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import erf

from denser.atoms.sad import atomic_density, gaussians

REACH = 30.0
"""Beyond this distance (bohr) a free atom has no density, and its potential is that of a charge."""

_CHARGE_BEYOND = 20.0
"""Beyond this distance (bohr) the potential of a free atom is that of a charge, to 1e-8 hartree,
and its density is left out."""

_NODES = 3001

_PAIRS_AT_ONCE = 256


def free_atom(x: np.ndarray, z: int, recipe: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density (n,), gradient (3, n) and potential (n,) of a free atom at points (3, n), bohr."""
    n = x.shape[1]
    found = np.zeros(n), np.zeros((3, n)), np.zeros(n)
    add_free_atom(found, x, z, recipe)
    return found


def add_free_atom(
    fields: tuple[np.ndarray, np.ndarray, np.ndarray],
    x: np.ndarray,
    z: int,
    recipe: str,
    factor: float = 1.0,
) -> None:
    """Add those of `free_atom` times a factor to fields."""
    r = np.sqrt(np.einsum("xi,xi->i", x, x))
    end = charge_radius(z, recipe)
    inside = np.flatnonzero(r < end)
    spline = _spline(z, recipe)
    charge = factor * _CHARGE_BEYOND * float(spline(_CHARGE_BEYOND)[2])
    rho, slope, v = factor * spline(r[inside]).T
    total_rho, total_gradient, total_v = fields
    total_rho[inside] += rho
    total_gradient[:, inside] += slope * x[:, inside]
    far = charge / np.maximum(r, end)
    far[inside] = v
    total_v += far


def free_atom_density(r: np.ndarray, z: int, recipe: str) -> np.ndarray:
    """Density (n,) of a free atom at distances (n,), bohr, as of `free_atom`."""
    return np.where(r > REACH, 0.0, _column(z, recipe, 0)(np.minimum(r, REACH)))


def free_atom_potential(r: np.ndarray, z: int, recipe: str) -> np.ndarray:
    """Potential (n,) of a free atom at distances (n,), bohr, as of `free_atom`."""
    spline = _column(z, recipe, 2)
    v = _CHARGE_BEYOND * float(spline(_CHARGE_BEYOND)) / np.maximum(r, _CHARGE_BEYOND)
    inside = r < _CHARGE_BEYOND
    v[inside] = spline(r[inside])
    return v


@cache
def charge_radius(z: int, recipe: str) -> float:
    """Distance beyond which the potential of a free atom is that of a charge, to 1e-8, bohr."""
    r = np.arange(1.0, _CHARGE_BEYOND, 0.25)
    v = free_atom_potential(r, z, recipe)
    charge = REACH * float(free_atom_potential(np.array([REACH]), z, recipe)[0])
    return float(r[np.abs(v - charge / r) > 1e-8].max(initial=r[0]))


def free_atom_pullback(
    x: np.ndarray, z: int, recipe: str, by: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, float]:
    """Derivatives of sum_i (a_i n_i + b_i . grad n_i + c_i v_i) of the fields of `free_atom`.

    Parameters
    ----------
    x, z, recipe
        As of `free_atom`.
    by : tuple
        a (n,), b (3, n) and c (n,).

    Returns
    -------
    (3, n) float
        With respect to each point.
    float
        The sum itself, its derivative with respect to a factor on the atom.
    """
    a, b, c = by
    r = np.maximum(np.sqrt((x * x).sum(axis=0)), 1e-9)
    inside = r < REACH
    spline = _spline(z, recipe)
    near = np.minimum(r, REACH)
    rho, slope, v = spline(near).T
    d_rho, d_slope, d_v = spline(near, 1).T
    v = np.where(inside, v, v * REACH / r)
    d_v = np.where(inside, d_v, -v / r)
    along = (b * x).sum(axis=0)
    by_r = np.where(inside, a * d_rho + along * d_slope, 0.0) + c * d_v
    slope = np.where(inside, slope, 0.0)
    total = float(np.where(inside, a * rho, 0.0).sum() + along @ slope + c @ v)
    return by_r / r * x + slope * b, total


@cache
def _spline(z: int, recipe: str) -> CubicSpline:
    """n(r), n'(r) / r and the potential; the nodes are dense near the nucleus."""
    nodes = _nodes()
    r = np.maximum(nodes, 1e-6)[:, None]
    a, s, p = gaussians(z, recipe)
    gauss = np.exp(-a * r**2)
    rho = ((s + p * r**2) * gauss).sum(axis=1)
    slope = (2 * (p - a * (s + p * r**2)) * gauss).sum(axis=1)
    # (2 pi / a) F_0(a r^2) and its derivative with respect to a
    t = a * r**2
    f0 = 0.5 * np.sqrt(np.pi / t) * erf(np.sqrt(t))
    f1 = np.where(t < 1e-4, 1 / 3 - t / 5 + t**2 / 14, (f0 - gauss) / (2 * t))
    v = 2 * np.pi * (f0 * (s / a + p / a**2) + r**2 * f1 * p / a).sum(axis=1)
    return CubicSpline(nodes, np.stack([rho, slope, v], axis=1))


@cache
def _column(z: int, recipe: str, which: int) -> CubicSpline:
    """One of the three functions of `_spline`."""
    spline = _spline(z, recipe)
    return CubicSpline.construct_fast(spline.c[:, :, which].copy(), spline.x)


def _nodes() -> np.ndarray:
    return REACH * np.linspace(0, 1, _NODES) ** 2


def energy_of_free_atoms(
    numbers: np.ndarray,
    positions: np.ndarray,
    factors: np.ndarray,
    recipe: str,
    local: Callable[[int, np.ndarray], np.ndarray],
) -> float:
    """<S|V_local> + <S|V_S>/2 of superposed free atoms S, hartree.

    Parameters
    ----------
    numbers : (n_atoms,) int
    positions : (n_atoms, 3) float
        Bohr.
    factors : (n_atoms,) float
        On the density of each atom.
    recipe : str
        SAD recipe.
    local : callable
        Potential of the nucleus of an element with its core at distances (n,), hartree; beyond
        `REACH` that of a point charge.
    """
    return free_atoms_together(numbers, positions, factors, recipe, local)[0]


def free_atoms_together(
    numbers: np.ndarray,
    positions: np.ndarray,
    factors: np.ndarray,
    recipe: str,
    local: Callable[[int, np.ndarray], np.ndarray],
) -> tuple[float, np.ndarray, np.ndarray]:
    """As `energy_of_free_atoms`, with derivatives.

    Returns
    -------
    float
        Hartree.
    (n_atoms, 3) float
        Derivative with respect to the positions, hartree/bohr.
    (n_atoms,) float
        Derivative with respect to the factors, hartree.
    """
    x, w = np.polynomial.legendre.leggauss(300)
    r = 0.25 * REACH * (1 + x) ** 2 / 2  # up to half of the reach
    weights = w * 0.25 * REACH * (1 + x) * 4 * np.pi * r**2
    elements = [int(z) for z in np.unique(numbers)]
    of_density = {z: weights * atomic_density(z, r, recipe) for z in elements}
    nodes = _nodes()
    energy, gradient, by_factor = 0.0, np.zeros(positions.shape), np.zeros(len(numbers))
    for z in elements:
        own = _spline(z, recipe)(nodes)[:, 2]
        core = local(z, np.maximum(nodes, 1e-9))
        lines = CubicSpline(nodes, np.stack([nodes * core, nodes * own], axis=1))
        shells = lines.antiderivative()
        ends = shells(REACH), REACH * np.array([core[-1], own[-1]])
        at = np.stack([CubicSpline(nodes, v)(r) for v in (core, own)])
        for k in elements:
            here, there = np.flatnonzero(numbers == z), np.flatnonzero(numbers == k)
            pairs = np.array([(a, b) for b in here for a in there if a != b], dtype=int)
            if z == k:
                same = at @ of_density[k]
                energy += float(factors[here] @ (same[0] + 0.5 * factors[here] * same[1]))
                by_factor[here] += same[0] + factors[here] * same[1]
            for some in np.array_split(pairs, 1 + len(pairs) // _PAIRS_AT_ONCE):
                a, b = some.T.reshape(2, -1)
                steps = positions[a] - positions[b]
                distance = np.linalg.norm(steps, axis=1)[:, None]
                outer, inner = distance + r, np.abs(distance - r)
                y = _beyond(shells, ends, outer) - _beyond(shells, ends, inner)
                sides = np.sign(distance - r)[..., None] * _inside(lines, ends, inner)
                shares = of_density[k] / (2 * r)
                means = np.einsum("r,pri->pi", shares, y) / distance
                slopes = np.einsum("r,pri->pi", shares, _inside(lines, ends, outer) - sides)
                slopes = slopes / distance - means / distance
                of_core, of_atom = means.T
                half = 0.5 * factors[b]
                energy += float(factors[a] @ (of_core + half * of_atom))
                np.add.at(by_factor, a, of_core + half * of_atom)
                np.add.at(by_factor, b, 0.5 * factors[a] * of_atom)
                size = factors[a] * (slopes[:, 0] + half * slopes[:, 1])
                pull = size[:, None] * steps / distance
                np.add.at(gradient, a, pull)
                np.add.at(gradient, b, -pull)
    return energy, gradient, by_factor


def _beyond(shells: CubicSpline, ends: tuple[np.ndarray, np.ndarray], u: np.ndarray) -> np.ndarray:
    """Y at distances u (..., 2); it grows linearly beyond the reach."""
    far = np.maximum(u - REACH, 0.0)[..., None]
    return shells(np.minimum(u, REACH)) + far * ends[1]


def _inside(lines: CubicSpline, ends: tuple[np.ndarray, np.ndarray], u: np.ndarray) -> np.ndarray:
    """Slope of Y at distances u (..., 2), u V(u)."""
    return np.where((u < REACH)[..., None], lines(np.minimum(u, REACH)), ends[1])
