"""Interatomic surfaces, at which the basins of two bonded atoms meet.

The surface consists of the paths of steepest descent from the bond critical point that start
perpendicular to the bond path. Paths of descent near the surface approach it. A front of points
that starts on a small ring around the critical point therefore stays on the surface. Points are
removed where they are too dense and added where they are too sparse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.analysis.continuous import ContinuousDensity
from denser.analysis.topology.critical_points import BondPath, CriticalPoints
from denser.fields.periodic import images_near

RHO_END = 1e-4
"""The front ends where the density falls below this, e/bohr^3."""

_STEP = 0.12
_GAP = 0.2
_RING = 0.05
_RING_POINTS = 13
_MAX_STEPS = 120


@dataclass(frozen=True, eq=False)
class Surfaces:
    """Points on all interatomic surfaces.

    Parameters
    ----------
    points : (n, 3) float
        About 0.15 bohr apart.
    normals : (n, 3) float
        Unit vectors, from the first basin to the second.
    atoms : (n, 2) int
        The two basins: an atom, or the number of atoms plus that of a non-nuclear attractor.
    """

    points: np.ndarray
    normals: np.ndarray
    atoms: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Surfaces:
        """Return some of the points."""
        return Surfaces(self.points[chosen], self.normals[chosen], self.atoms[chosen])


def interatomic_surfaces(field: ContinuousDensity, critical: CriticalPoints) -> Surfaces:
    """Trace the surfaces of all bond critical points between two different basins.

    Parameters
    ----------
    field : ContinuousDensity
    critical : CriticalPoints
        Of this field.

    Returns
    -------
    Surfaces
    """
    attractors = critical.count("attractor")
    bonds = [
        bond
        for bond in critical.bonds
        if bond.atoms[0] != bond.atoms[1] and min(bond.atoms) >= -attractors
    ]
    nowhere = Surfaces(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 2), dtype=int))
    if not bonds:
        return nowhere
    x, loop = _rings(field, bonds, critical.positions[[bond.point for bond in bonds]])
    alive = np.ones(len(x), dtype=bool)
    rho = np.full(len(x), np.inf)
    points, normals, owners = [], [], []
    for _ in range(_MAX_STEPS):
        moving = np.flatnonzero(alive)
        new_rho, gradient = field.evaluate(x[moving], 1)
        alive[moving] = (new_rho < rho[moving]) & (new_rho > RHO_END)
        kept = alive[moving]
        moving, gradient = moving[kept], gradient[kept]
        rho[moving] = new_rho[kept]
        if moving.size == 0:
            break
        down = -gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
        after, before = _neighbours(loop)
        tangent = x[after[moving]] - x[before[moving]]
        normal = np.cross(down, tangent)
        size = np.linalg.norm(normal, axis=1)
        good = (size > 1e-6) & alive[after[moving]] & alive[before[moving]]
        points.append(x[moving[good]])
        normals.append(normal[good] / size[good, None])
        owners.append(loop[moving[good]])
        direction, upright = np.zeros_like(x), np.zeros_like(x)
        direction[moving] = down
        upright[moving[good]] = normals[-1]
        x, loop, alive, rho, direction = _even_out(x, loop, alive, rho, direction, upright)
        moving = np.flatnonzero(alive)
        middle = x[moving] + _STEP / 2 * direction[moving]
        gradient = field.evaluate(middle, 1)[1]
        x[moving] -= _STEP * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    if not points:
        return nowhere
    owner = np.concatenate(owners)
    atoms = np.array([bond.atoms for bond in bonds])
    atoms = np.where(atoms < 0, len(field.structure) - 1 - atoms, atoms)
    return Surfaces(np.concatenate(points), np.concatenate(normals), atoms[owner])


def _rings(
    field: ContinuousDensity, bonds: list[BondPath], centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return small rings around bond critical points (n, 3), and the ring of each point.

    Seen from the second atom they run counter-clockwise.
    """
    _, vectors = np.linalg.eigh(field.evaluate(centres, 2)[2])
    angle = np.linspace(0, 2 * np.pi, _RING_POINTS, endpoint=False)[:, None]
    rings = []
    for bond, centre, vector in zip(bonds, centres, vectors, strict=True):
        e1, e3 = vector[:, 0], vector[:, 2]
        before = bond.path[np.linalg.norm(bond.path - centre, axis=1).argmin() - 1]
        e3 = e3 * np.sign((centre - before) @ e3)
        rings.append(centre + _RING * (np.cos(angle) * e1 + np.sin(angle) * np.cross(e3, e1)))
    return np.concatenate(rings), np.repeat(np.arange(len(bonds)), _RING_POINTS)


def _neighbours(loop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the next and the previous point of each closed loop."""
    n = len(loop)
    first = np.flatnonzero(np.diff(loop, prepend=-1))
    last = np.append(first[1:], n) - 1
    after, before = np.arange(1, n + 1), np.arange(-1, n - 1)
    after[last], before[first] = first, last
    return after, before


def _even_out(
    x: np.ndarray,
    loop: np.ndarray,
    alive: np.ndarray,
    rho: np.ndarray,
    direction: np.ndarray,
    normal: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Remove points of the front that are too close, and add new ones in its gaps.

    A new point is the middle of the cubic that is tangential to the surface at both ends.
    """
    after, before = _neighbours(loop)
    step = x[after] - x
    gap = np.linalg.norm(step, axis=1)
    both = alive & alive[after]
    crowded = both & (gap < 0.3 * _GAP) & (np.arange(len(x)) % 2 == 0) & (gap[before] < 0.5 * _GAP)
    wide = np.flatnonzero(both & (gap > _GAP))
    left, right, step = wide, after[wide], step[wide]
    rise = [(step * normal[i]).sum(axis=1, keepdims=True) * normal[i] for i in (left, right)]
    middle = (x[left] + x[right]) / 2 + (rise[1] - rise[0]) / 8
    order = np.argsort(np.concatenate([np.flatnonzero(~crowded) * 2, wide * 2 + 1]))

    def join(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old[~crowded], new])[order]

    return (
        join(x, middle),
        join(loop, loop[wide]),
        join(alive, np.ones(len(wide), dtype=bool)),
        join(rho, np.minimum(rho[left], rho[right])),
        join(direction, (direction[left] + direction[right]) / 2),
    )


def images(field: ContinuousDensity, surfaces: Surfaces, margin: float) -> Surfaces:
    """Points in the box of a periodic field, and their images within `margin` of it, bohr."""
    if not field.periodic:
        return surfaces
    points, every = images_near(surfaces.points, field.grid, margin)
    return Surfaces(points, surfaces.normals[every], surfaces.atoms[every])
