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

_NODES = 3001


def free_atom(x: np.ndarray, z: int, recipe: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density (n,), gradient (3, n) and potential (n,) of a free atom at points (3, n), bohr."""
    r = np.sqrt((x * x).sum(axis=0))
    rho, slope, v = _spline(z, recipe)(np.minimum(r, REACH)).T
    outside = r > REACH
    v = np.where(outside, v * REACH / np.maximum(r, REACH), v)
    return np.where(outside, 0.0, rho), np.where(outside, 0.0, slope) * x, v


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
    x, w = np.polynomial.legendre.leggauss(300)
    r = 0.25 * REACH * (1 + x) ** 2 / 2  # up to half of the reach
    weights = w * 0.25 * REACH * (1 + x) * 4 * np.pi * r**2
    total = 0.0
    elements = [int(z) for z in np.unique(numbers)]
    of_density = {z: weights * atomic_density(z, r, recipe) for z in elements}
    nodes = _nodes()
    for z in elements:
        own = _spline(z, recipe)(nodes)[:, 2]
        core = local(z, np.maximum(nodes, 1e-9))
        shells = CubicSpline(nodes, np.stack([nodes * core, nodes * own], axis=1)).antiderivative()
        ends = shells(REACH), REACH * np.array([core[-1], own[-1]])
        at = np.stack([CubicSpline(nodes, v)(r) for v in (core, own)])
        for b in np.flatnonzero(numbers == z):
            both = np.array([1.0, 0.5 * factors[b]])
            distances = np.linalg.norm(positions - positions[b], axis=1)
            for a, (k, distance) in enumerate(zip(numbers, distances, strict=True)):
                if a == b:
                    mean = both @ at
                else:
                    outer, inner = distance + r, np.abs(distance - r)
                    y = _beyond(shells, ends, outer) - _beyond(shells, ends, inner)
                    mean = y @ both / (2 * r * distance)
                total += factors[a] * float(of_density[int(k)] @ mean)
    return total


def _beyond(shells: CubicSpline, ends: tuple[np.ndarray, np.ndarray], u: np.ndarray) -> np.ndarray:
    """Y at distances u (n, 2); it grows linearly beyond the reach."""
    far = np.maximum(u - REACH, 0.0)[:, None]
    return shells(np.minimum(u, REACH)) + far * ends[1]
