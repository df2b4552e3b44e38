"""Points around the atoms of a molecule or a cell, for integrals of functions with cusps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from ase.neighborlist import neighbor_list
from scipy.integrate import lebedev_rule
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from denser.analysis.charges.stockholder import curve
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

N_RADIAL, LEBEDEV = 60, 29
"""Radial points per atom, and degree of the Lebedev rule on them (302 points)."""

_X_RANGE = -1.7, 2.85
"""Range of x in the radial rule: 7e-4 to 16 bohr."""

_WHOLE = ((0.3, 11), (np.inf, 131))
"""Largest degree of the Lebedev rule (11: 50 points) within a distance of the nucleus, bohr."""

_PRUNED = ((0.3, 5), (0.7, 11), (1.4, 17), (5.0, 131), (np.inf, 17))
"""The same for deformations, which are small close to the nucleus and far away."""

_DEEP = 4.5
"""A point that is so much closer to another nucleus than to its own has no weight, bohr."""

_TOGETHER = 2048
_CELL = 5.0
"""Points of a large molecule are in the order of cells of this edge, bohr, and so many of them are
taken together."""

_NEIGHBOURS = 24
"""Number of nearest atoms among which that other nucleus is looked for."""


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Points around all atoms for integrals of functions that are smooth except at the nuclei.

    integral f dr = sum_p weights_p f(points_p). Each point belongs to one atom a and is weighted
    by its share f_a / sum_b f_b of space, f = eta exp(-2 r) / r^3 with eta = 0.3 for H and 1 else
    (Franchini, Philipsen and Visscher, J. Comput. Chem. 34, 1819, 2013).

    Parameters
    ----------
    points : (n_points, 3) float
        Bohr.
    weights : (n_points,) float
        Bohr^3.
    pairs : list of (atom, centre, index, r)
        For each atom, and each periodic image of it: its position (3,), the points within its
        range (n,), and their distances from it (n,), bohr.
    """

    points: np.ndarray
    weights: np.ndarray
    pairs: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def around(
        cls, structure: Structure, n_radial: int = N_RADIAL, degree: int = LEBEDEV
    ) -> Quadrature:
        """Quadrature for all space, or for one cell of a periodic structure."""
        offsets, volumes = _spheres(n_radial, degree)
        outermost = np.linalg.norm(offsets, axis=1).max()
        reach = {int(z): curve(int(z)).radius for z in np.unique(structure.numbers)}
        weights: list[np.ndarray] = []
        found: dict = {}
        for a, centres in enumerate(_neighbours(structure, outermost + max(reach.values()))):
            total = np.zeros(len(offsets))
            for b, image, vector in centres:
                z = int(structure.numbers[b])
                r = np.linalg.norm(offsets - vector, axis=1)
                part = (0.3 if z == 1 else 1.0) * _falloff(r)
                total += part
                if b == a and not any(image):
                    own = part
                near = np.flatnonzero(r <= reach[z])
                if near.size:
                    centre = structure.positions[a] + vector
                    found.setdefault((b, image), []).append((centre, near + a * len(r), r[near]))
            weights.append(volumes * own / total)
        pairs = []
        for (b, _), blocks in found.items():
            centre, indices, distances = zip(*blocks, strict=True)
            pairs.append((b, centre[0], np.concatenate(indices), np.concatenate(distances)))
        points = (structure.positions[:, None] + offsets).reshape(-1, 3)
        return cls(points, np.concatenate(weights), pairs)

    @classmethod
    def compact(
        cls, structure: Structure, n_radial: int, degree: int, some: np.ndarray | None = None
    ) -> Quadrature:
        """Quadrature of an isolated molecule for functions that end where its free atoms do.

        Time and memory are linear in the number of atoms. Left out are points beyond the free atom
        or deep in the space of another one, and shares of atoms out of reach. With `some` (n,) int
        only the points of these atoms; together, parts of all atoms are the whole quadrature.
        """
        offsets, volumes = _spheres(n_radial, degree, _PRUNED)
        distances = np.linalg.norm(offsets, axis=1)
        positions, n_atoms = structure.positions, len(structure)
        reach = np.array([curve(int(z)).radius for z in structure.numbers])
        eta = np.where(structure.numbers == 1, 0.3, 1.0)
        chosen = np.arange(n_atoms) if some is None else some
        neighbours = range(1, min(n_atoms, _NEIGHBOURS) + 1)
        nearest = cKDTree(positions).query(positions[chosen], k=neighbours)[1]
        points, own_volumes, own = [], [], []
        for a, others in zip(chosen, nearest, strict=True):
            x = positions[others[others != a]] - positions[a]
            # |offset - x| < |offset| - d, squared
            far = distances[:, None] > _DEEP
            squares = (x * x).sum(axis=1) - 2 * offsets @ x.T
            deep = far & (squares < _DEEP**2 - 2 * _DEEP * distances[:, None])
            kept = (distances <= reach[a]) & ~deep.any(axis=1)
            points.append(positions[a] + offsets[kept])
            own_volumes.append(volumes[kept])
            own.append(eta[a] * _falloff(distances[kept]))
        every = np.concatenate(points)
        numerator = np.concatenate(own_volumes) * np.concatenate(own)
        if some is not None:  # neighbours in space follow each other
            cells = np.floor(every / _CELL).astype(int)
            cells -= cells.min(axis=0)
            _, ny, nz = cells.max(axis=0) + 1
            order = np.argsort(cells @ [ny * nz, nz, 1], kind="stable")
            every, numerator = every[order], numerator[order]
        pairs = pairs_near(every, positions, reach)
        total = np.zeros(len(every))
        for b, _, index, r in pairs:
            total[index] += eta[b] * _falloff(r)
        return cls(every, numerator / total, pairs)

    def outwards(self) -> Quadrature:
        """The same with the points of each pair sorted by distance, in half the memory."""
        pairs = []
        for atom, centre, index, r in self.pairs:
            r = r.astype(np.float32)
            order = np.argsort(r)
            pairs.append((atom, centre, index[order].astype(np.int32), r[order]))
        return replace(self, pairs=pairs)

    def within(self, grid: Grid) -> Quadrature:
        """The same with zero weights for points outside the box."""
        fraction = (self.points - grid.origin) @ np.linalg.inv(grid.cell)
        inside = ((fraction >= 0) & (fraction <= 1)).all(axis=1)
        return replace(self, weights=self.weights * inside)


def pairs_near(
    points: np.ndarray, positions: np.ndarray, reach: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """As `Quadrature.pairs`, of points (n, 3) near the atoms of an isolated molecule.

    Fast for points in a compact order, as of a part of `Quadrature.compact`.

    Parameters
    ----------
    points : (n, 3) float
    positions : (n_atoms, 3) float
    reach : (n_atoms,) float
        Ranges of the atoms, bohr.
    """
    tree = cKDTree(positions)
    found: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for start in range(0, len(points), _TOGETHER):
        some = points[start : start + _TOGETHER]
        low, high = some.min(axis=0), some.max(axis=0)
        radius = np.linalg.norm(high - low) / 2 + reach.max()
        near = np.sort(tree.query_ball_point((low + high) / 2, radius))
        distances = cdist(positions[near], some)
        inside = distances <= reach[near, None]
        index, r = np.nonzero(inside)[1] + start, distances[inside]
        ends = np.cumsum(np.count_nonzero(inside, axis=1)).tolist()
        for b, i, j in zip(near.tolist(), [0, *ends], ends, strict=False):
            if i < j:
                indices, radii = found.setdefault(b, ([], []))
                indices.append(index[i:j])
                radii.append(r[i:j])
    return [
        (b, positions[b], np.concatenate(found[b][0]), np.concatenate(found[b][1]))
        for b in sorted(found)
    ]


def _falloff(r: np.ndarray) -> np.ndarray:
    r = np.maximum(r, 1e-9)
    return np.exp(-2 * r) / (r * r * r)


@cache
def _spheres(
    n_radial: int, degree: int, largest: tuple[tuple[float, int], ...] = _WHOLE
) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) around one atom, bohr, and their volumes (n,).

    r = exp(x - exp(-x)) with equidistant x, and a Lebedev rule at each r.
    """
    x, step = np.linspace(*_X_RANGE, n_radial, retstep=True)
    radii = np.exp(x - np.exp(-x))
    radial = radii**3 * (1 + np.exp(-x)) * step  # r^2 dr
    rules = [
        lebedev_rule(min(degree, next(d for reach, d in largest if r <= reach))) for r in radii
    ]
    offsets = np.concatenate([r * u.T for r, (u, _) in zip(radii, rules, strict=True)])
    volumes = np.concatenate([v * w for v, (_, w) in zip(radial, rules, strict=True)])
    return offsets, volumes


def _neighbours(structure: Structure, radius: float) -> list[list[tuple[int, tuple, np.ndarray]]]:
    """For each atom: itself, then all others and images within `radius` bohr.

    As (atom, index of the image, vector to it in bohr).
    """
    out = [[(a, (0, 0, 0), np.zeros(3))] for a in range(len(structure))]
    found = neighbor_list("ijSD", structure.to_ase(), radius * BOHR)
    for a, b, image, vector in zip(*found, strict=True):
        out[a].append((int(b), tuple(image.tolist()), vector / BOHR))
    return out
