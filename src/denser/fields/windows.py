"""Parts of a periodic grid around a point, for example to add the density of an atom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from denser.types.grid import Grid

_BLOCK = 2048
"""Points of `points_near` that are left out together."""


def axis_window(grid: Grid, i: int, centre: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of axis `i` within `radius` of a coordinate, and their distances from it (n,), bohr.

    Indices are not wrapped: nodes below 0 or beyond the shape are images. Those of a slab are.
    """
    h = grid.cell[i, i] / grid.shape[i]
    x = (centre - grid.origin[i]) / h
    nodes = np.arange(int(np.floor(x - radius / h)), int(np.ceil(x + radius / h)) + 1)
    return _of_slab(grid, i, nodes, (nodes - x) * h)


def _of_slab(
    grid: Grid, i: int, nodes: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of axis `i`, and what belongs to each; of a slab, those that are in it, wrapped."""
    if grid.period[i] == grid.shape[i]:
        return nodes, offsets
    wrapped = nodes % grid.period[i]
    inside = wrapped < grid.shape[i]
    return wrapped[inside], offsets[inside]


def touching(grid: Grid, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Whether balls may have nodes in a slab (n,); always, in a grid that is none.

    Parameters
    ----------
    grid : Grid
    centres : (n, 3) float
        Bohr.
    radii : (n,) float
        Bohr.
    """
    inverse = np.linalg.inv(grid.cell)
    fractions = (centres - grid.origin) @ inverse
    found = np.ones(len(centres), dtype=bool)
    for i, n in enumerate(grid.shape):
        if grid.period[i] != n:
            reach = radii * np.linalg.norm(inverse[:, i]) + 1 / n  # windows have a node more
            top = (fractions[:, i] + reach) % (grid.period[i] / n)
            found &= top - 2 * reach <= 1
    return found


def groups_of_like_reach(reach: np.ndarray) -> list[list[int]]:
    """Group functions at a point by how far they reach, the farthest first.

    Tight functions are then evaluated on small windows only. The first of a group reaches
    farthest, the others at least three quarters as far. Functions without any reach are left out.
    """
    groups: list[list[int]] = []
    for k in np.argsort(-reach).tolist():
        if reach[k] <= 0:
            break
        if groups and reach[k] > 0.75 * reach[groups[-1][0]]:
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


def gaussian_reach(size: np.ndarray, alphas: np.ndarray, degree: int, cutoff: float) -> np.ndarray:
    """Where size max(1, r^degree) exp(-alpha r^2) falls below `cutoff` (..., n_exponents)."""
    radius = np.ones_like(size, dtype=float)
    for _ in range(20):
        bound = size * np.maximum(1.0, radius) ** degree / cutoff
        radius = np.sqrt(np.log(np.maximum(bound, 1.0)) / alphas)
    return radius


def unit_vectors(grid: Grid) -> np.ndarray:
    """Unit vectors along the cell's vectors (3, 3), in rows."""
    return grid.cell / np.linalg.norm(grid.cell, axis=1, keepdims=True)


def orthogonal_axis(grid: Grid) -> int | None:
    """An axis that is orthogonal to the two others, as in monoclinic and hexagonal cells."""
    axes = unit_vectors(grid)
    oblique = np.abs(axes @ axes.T - np.eye(3)).max(axis=1) > 1e-9
    return None if oblique.all() else int(np.argmin(oblique))


def block(
    grid: Grid, centre: np.ndarray, radius: float, periodic: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Nodes per axis of a block that contains a ball, and their distances from its centre.

    Parameters
    ----------
    grid, centre, radius, periodic
        As in `ball`.

    Returns
    -------
    nodes : three (n_i,) int
    offsets : three (n_i,) float
        In fractions of the cell's vectors.
    """
    inverse = np.linalg.inv(grid.cell)
    fraction = (centre - grid.origin) @ inverse
    reach = radius * np.linalg.norm(inverse, axis=0)  # size of the ball in fractions of the cell
    nodes, offsets = [], []
    for i, n in enumerate(grid.shape):
        low, high = np.ceil((fraction[i] - reach[i]) * n), np.floor((fraction[i] + reach[i]) * n)
        if not periodic:
            low, high = max(low, 0), min(high, n - 1)
        index = np.arange(int(low), int(high) + 1)
        found = _of_slab(grid, i, index, index / n - fraction[i])
        nodes.append(found[0])
        offsets.append(found[1])
    return nodes, offsets


def ball(
    grid: Grid, centre: np.ndarray, radius: float, periodic: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Nodes of a block that contains a ball around a point, and their squared distances from it.

    Parameters
    ----------
    grid : Grid
    centre : (3,) float
        Bohr.
    radius : float
        Bohr.
    periodic : bool
        Continue beyond the box (`pieces` wraps the nodes), or end at
        its faces.

    Returns
    -------
    nodes : three (n_i,) int
    squared : (n_0, n_1, n_2) float
        Squared distances, bohr^2.
    """
    nodes, offsets = block(grid, centre, radius, periodic)
    a, b, c = np.meshgrid(*offsets, indexing="ij", sparse=True)
    g = grid.cell @ grid.cell.T
    squared = g[0, 0] * a**2 + g[1, 1] * b**2 + g[2, 2] * c**2
    if np.abs(g - np.diag(np.diag(g))).max() > 1e-12:
        squared = squared + 2 * (g[0, 1] * a * b + g[0, 2] * a * c + g[1, 2] * b * c)
    return nodes, np.maximum(squared, 0.0)


def runs(nodes: np.ndarray, n: int) -> list[tuple[slice, slice]]:
    """Wrap consecutive nodes into 0 .. n-1: pairs of slices into the grid and into the patch."""
    if not nodes.size:
        return []
    wrapped = nodes % n
    cuts = np.flatnonzero(np.diff(wrapped) != 1) + 1
    edges = [0, *cuts.tolist(), wrapped.size]
    return [
        (slice(int(wrapped[i]), int(wrapped[j - 1]) + 1), slice(i, j))
        for i, j in zip(edges[:-1], edges[1:], strict=True)
    ]


def pieces(nodes: list[np.ndarray], shape: tuple[int, int, int]) -> list[tuple[tuple, tuple]]:
    """Slices (grid, patch) of the parts of a patch with these nodes per axis."""
    per_axis = [runs(axis, n) for axis, n in zip(nodes, shape, strict=True)]
    return [tuple(zip(*parts, strict=True)) for parts in product(*per_axis)]


def compact_groups(points: np.ndarray, most: int) -> list[np.ndarray]:
    """Compact groups of at most `most` points (n, 3): each half of a group along its longest axis.

    As indices. Time grows as n log n.
    """
    done, waiting = [], [np.arange(len(points))]
    while waiting:
        some = waiting.pop()
        if len(some) <= most:
            done.append(some)
            continue
        x = points[some] - points[some].mean(axis=0)
        along = x @ np.linalg.eigh(x.T @ x)[1][:, -1]
        halves = np.array_split(some[np.argsort(along, kind="stable")], 2)
        waiting += halves
    return done


def points_near(
    points: np.ndarray, centres: np.ndarray, radii: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield for each centre (its index, the points within its radius (n,), their offsets (3, n)).

    Fast for points (n_points, 3) whose neighbours in the list are neighbours in space, as in the
    order of `compact_groups`: blocks of them that lie too far away are left out together. Time is
    then linear in the number of points and of centres. Centres without points are left out.
    """
    if not len(points) or not len(centres):
        return
    starts = np.arange(0, len(points), _BLOCK)
    low = np.minimum.reduceat(points, starts)
    high = np.maximum.reduceat(points, starts)
    columns = np.ascontiguousarray(points.T)
    radii = np.asarray(radii, dtype=float)
    reach = np.linalg.norm(high - low, axis=1) / 2 + radii.max()
    near = cKDTree(centres).query_ball_point((low + high) / 2, reach)
    counts = [len(some) for some in near]
    block, owner = np.repeat(np.arange(len(starts)), counts), np.concatenate(near).astype(int)
    outside = np.maximum(low[block] - centres[owner], centres[owner] - high[block]).clip(min=0.0)
    kept = (outside**2).sum(axis=1) <= radii[owner] ** 2
    order = np.lexsort((block[kept], owner[kept]))
    block, owner = block[kept][order], owner[kept][order]
    firsts = np.searchsorted(owner, np.arange(len(centres) + 1))
    for i, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        found, offsets = [], []
        for start in starts[block[firsts[i] : firsts[i + 1]]]:
            x = columns[:, start : start + _BLOCK] - centre[:, None]
            inside = np.flatnonzero(np.einsum("ij,ij->j", x, x) <= radius**2)
            found.append(inside + start)
            offsets.append(x.take(inside, axis=1))  # faster than x[:, inside]
        if found:
            yield i, np.concatenate(found), np.concatenate(offsets, axis=1)
