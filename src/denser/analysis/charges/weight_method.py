"""Basins on a grid by the weight method of Yu and Trinkle (J. Chem. Phys. 134, 064111, 2011).

The share of basin A in the Voronoi cell of node i is the part that flows uphill to A,

w_A(i) = sum_j J_ij w_A(j),   J_ij = k_ij max(0, rho_j - rho_i) / sum_l k_il max(0, rho_l - rho_i),

with k the area of the face between two nodes divided by their distance. Sorted by density, this is
a triangular system. Shares are continuous, so a surface lies between nodes and does not depend on
lattice directions, but it is spread over several nodes.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.sparse import csc_array, csr_array, hstack
from scipy.sparse.linalg import spsolve_triangular
from scipy.spatial import ConvexHull, Voronoi

from denser.types.grid import Grid

VACUUM = 1e-6
"""Nodes with a smaller density belong to no basin, e/bohr^3."""

_COLUMNS = 8


def uphill_flow(rho: np.ndarray, grid: Grid) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """1 - J for the nodes in descending order of density, these nodes, and a mask of the maxima."""
    flat = rho.ravel()
    nodes = np.flatnonzero(flat > VACUUM)
    nodes = nodes[np.argsort(-flat[nodes], kind="stable")]
    n = len(nodes)
    rank = np.full(grid.size, n, dtype=np.int32)
    rank[nodes] = np.arange(n, dtype=np.int32)
    rank = rank.reshape(grid.shape)
    rows, columns, flows = [], [], []
    for step, weight in voronoi_faces(grid):
        back = tuple(-i for i in step)
        neighbour = np.roll(rank, back, axis=(0, 1, 2)).ravel()
        up = np.flatnonzero(neighbour < rank.ravel())  # the ranks have no ties
        up = up[rank.ravel()[up] < n]
        rise = flat[nodes[neighbour[up]]] - flat[up]
        rows.append(rank.ravel()[up])
        columns.append(neighbour[up])
        flows.append(weight * np.maximum(rise, 1e-300))
    row, column, flux = (np.concatenate(parts) for parts in (rows, columns, flows))
    total = np.bincount(row, flux, minlength=n)
    uphill = csr_array((-flux / total[row], (row, column)), shape=(n, n))
    return uphill, nodes, np.flatnonzero(total == 0)


def basin_shares(
    uphill: csr_array, maxima: np.ndarray, owner: np.ndarray, n_basins: int
) -> csr_array:
    """Solve for the share of each basin in each node (n_nodes, n_basins)."""
    n = uphill.shape[0]
    columns = []
    for start in range(0, n_basins, _COLUMNS):
        block = range(start, min(start + _COLUMNS, n_basins))
        ends = np.zeros((n, len(block)))
        chosen = np.isin(owner, block)
        ends[maxima[chosen], owner[chosen] - start] = 1
        solved = spsolve_triangular(uphill, ends, lower=True, unit_diagonal=True)
        solved[solved < 1e-6] = 0
        columns.append(csc_array(solved))
    return hstack(columns, format="csr")


def voronoi_faces(grid: Grid) -> list[tuple[tuple[int, ...], float]]:
    """Steps to the nodes that share a face of the Voronoi cell, and its area over the distance."""
    steps = np.array(list(product(range(-2, 3), repeat=3)))
    vectors = (steps / grid.shape) @ grid.cell
    middle = len(steps) // 2
    voronoi = Voronoi(vectors)
    out = []
    for pair, corners in zip(voronoi.ridge_points, voronoi.ridge_vertices, strict=True):
        if middle not in pair:
            continue
        other = int(pair.sum() - middle)
        distance = np.linalg.norm(vectors[other])
        face = voronoi.vertices[corners]
        plane = np.linalg.svd(vectors[other][None])[2][1:]  # two directions within the face
        flat = (face - face.mean(axis=0)) @ plane.T
        if np.linalg.matrix_rank(flat, tol=1e-6 * distance) < 2:
            continue
        area = ConvexHull(flat).volume
        if area > 1e-6 * distance**2:
            out.append((tuple(int(i) for i in steps[other]), area / distance))
    return out
