"""Connected regions of nodes on a grid, and the atoms nearest to points."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import cKDTree

from denser.fields.periodic import adjacent_images, wrapped
from denser.types.structure import Structure

NEIGHBOURS = np.ones((3, 3, 3))
"""Nodes that share a corner are neighbours, so a sheet of one node thickness is connected."""


def connected_regions(mask: np.ndarray, periodic: bool) -> tuple[np.ndarray, int]:
    """Number the connected regions of a mask.

    Parameters
    ----------
    mask : (nx, ny, nz) bool
    periodic : bool
        Whether a region continues at the opposite face of the box.

    Returns
    -------
    labels : (nx, ny, nz) int
        1 .. n in the regions, 0 outside.
    n : int
    """
    labels, n = ndimage.label(mask, NEIGHBOURS)
    if periodic and n:
        first, second, _ = _links(labels)
        n, merged = connected_components(_graph(first, second, n), directed=False)
        labels = np.concatenate([[0], merged + 1])[labels]
    return labels, n


def _graph(first: np.ndarray, second: np.ndarray, n: int) -> csr_matrix:
    """Undirected graph of pieces 1 .. n (numbered from 0 here)."""
    return csr_matrix((np.ones(first.size), (first - 1, second - 1)), shape=(n, n))


def _links(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of labels that touch across the faces of the box, and the step (3,) between cells."""
    shape = np.array(labels.shape)
    found = []
    for axis in range(3):
        others = [i for i in range(3) if i != axis]
        here = np.take(labels, -1, axis=axis)
        at = np.argwhere(here > 0)
        for step in product((-1, 0, 1), repeat=2):
            there = np.empty((len(at), 3), dtype=int)
            there[:, others] = at + step
            there[:, axis] = shape[axis]
            cell = there // shape
            second = labels[tuple((there % shape).T)]
            touch = second > 0
            first = here[tuple(at[touch].T)]
            found.append(np.column_stack([first, second[touch], cell[touch]]))
    links = np.unique(np.concatenate(found), axis=0)
    return links[:, 0], links[:, 1], links[:, 2:]


def percolation(mask: np.ndarray) -> tuple[np.ndarray, int, list[np.ndarray]]:
    """Regions of a mask in a periodic cell, and the directions in which each is infinite.

    The pieces within one cell are numbered first. A walk from piece to piece across the faces
    records the cell in which each piece is reached. If a piece is reached in two cells, the region
    is connected with its own image and is infinite in the direction between the two cells.

    Returns
    -------
    labels : (nx, ny, nz) int
    n : int
    directions : list of (rank, 3) int
        Independent lattice vectors of each region, none for a cavity.
    """
    pieces, count = ndimage.label(mask, NEIGHBOURS)
    if not count:
        return pieces, 0, []
    first, second, step = _links(pieces)
    graph = _graph(first, second, count)
    n, region = connected_components(graph, directed=False)
    graph = graph + graph.T
    steps: dict[tuple[int, int], np.ndarray] = {}
    for a, b, cell in zip(first - 1, second - 1, step, strict=True):
        steps.setdefault((a, b), cell)
        steps.setdefault((b, a), -cell)
    offset = np.zeros((count, 3), dtype=int)
    for start in np.unique(region, return_index=True)[1]:
        order, parent = breadth_first_order(graph, start, directed=False)
        for piece in order[1:]:
            offset[piece] = offset[parent[piece]] + steps[parent[piece], piece]
    winding = offset[first - 1] + step - offset[second - 1]
    directions = []
    for i in range(n):
        vectors = winding[region[first - 1] == i]
        directions.append(_independent(vectors[np.any(vectors, axis=1)]))
    return np.concatenate([[0], region + 1])[pieces], n, directions


def _independent(vectors: np.ndarray) -> np.ndarray:
    """Shortest linearly independent ones of integer vectors (rank, 3)."""
    kept = np.zeros((0, 3), dtype=int)
    order = np.lexsort((-vectors.sum(axis=1), np.square(vectors).sum(axis=1)))
    for vector in vectors[order]:
        trial = np.vstack([kept, vector])
        if np.linalg.matrix_rank(trial) == len(trial):
            kept = trial
    return kept


def nearest_atoms(structure: Structure, points: np.ndarray, periodic: bool) -> np.ndarray:
    """Index of the atom nearest to each point (n,), among all images in a periodic structure."""
    positions, owner = structure.positions, np.arange(len(structure))
    if periodic and structure.cell is not None:
        positions = adjacent_images(wrapped(positions, structure.cell), structure.cell)
        points = wrapped(points, structure.cell)
        owner = np.tile(owner, 27)
    return owner[cKDTree(positions).query(points)[1]]
