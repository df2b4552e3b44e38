"""Windows of a periodic orthorhombic grid around a point: where an atom's density is added."""

from __future__ import annotations

from itertools import product

import numpy as np

from denser.types.grid import Grid


def axis_window(grid: Grid, i: int, centre: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of axis `i` within `radius` of a coordinate, and their distances from it (n,), bohr.

    The nodes are counted on, not wrapped: those below 0 or above the shape are images.
    """
    h = grid.cell[i, i] / grid.shape[i]
    x = (centre - grid.origin[i]) / h
    nodes = np.arange(int(np.floor(x - radius / h)), int(np.ceil(x + radius / h)) + 1)
    return nodes, (nodes - x) * h


def runs(nodes: np.ndarray, n: int) -> list[tuple[slice, slice]]:
    """Wrap consecutive nodes into 0 .. n-1: pairs of slices into the grid and into the patch."""
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
