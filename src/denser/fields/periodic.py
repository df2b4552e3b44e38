"""Periodic images of points and vectors."""

from __future__ import annotations

from itertools import product

import numpy as np

from denser.types.grid import Grid


def nearest_image(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) minus whole lattice vectors, so that fractions are between -1/2 and 1/2.

    In an orthorhombic cell this is the shortest image.
    """
    return vectors - np.round(vectors @ np.linalg.inv(cell)) @ cell


def wrapped(points: np.ndarray, cell: np.ndarray, origin: np.ndarray | float = 0.0) -> np.ndarray:
    """Points (..., 3) moved by whole lattice vectors into the cell at `origin`."""
    return points - np.floor((points - origin) @ np.linalg.inv(cell)) @ cell


def adjacent_images(points: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Points (n, 3) in a cell and in the 26 cells around it (27 n, 3), cell by cell."""
    shifts = np.array(list(product((-1, 0, 1), repeat=3))) @ cell
    return (points[None] + shifts[:, None]).reshape(-1, 3)


def shortest_period(cell: np.ndarray) -> float:
    """Length of the shortest lattice vector of a cell (3, 3), in any setting."""
    from ase.geometry import minkowski_reduce

    return float(np.linalg.norm(minkowski_reduce(cell)[0], axis=1).min())


def repeats(cell: np.ndarray, period: float) -> tuple[int, int, int]:
    """The smallest supercell of a cell (3, 3) without a lattice vector shorter than `period`.

    As numbers of cells along each vector; of those with as many cells the first by its numbers.
    """
    least = [max(1, int(np.ceil(period / x - 1e-6))) for x in np.linalg.norm(cell, axis=1)]
    extra = 0
    while True:
        tried = product(*(range(n, n + extra + 1) for n in least))
        for n1, n2, n3 in sorted(tried, key=lambda n: (np.prod(n), n)):
            if shortest_period(cell * [[n1], [n2], [n3]]) > period * (1 - 1e-6):
                return n1, n2, n3
        extra += 2


def times_text(times: tuple[int, int, int]) -> str:
    """Words for a repeated cell."""
    return f"repeated {' x '.join(map(str, times))} times"


def images_near(
    points: np.ndarray, grid: Grid, reach: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images of points inside a periodic box and within a distance of its faces.

    Parameters
    ----------
    points : (n, 3) float
        Bohr.
    grid : Grid
        Its box is the period.
    reach : float or (n,) float
        Largest distance from the planes of the faces, for all points or for each, bohr.

    Returns
    -------
    images : (m, 3) float
    owner : (m,) int
        Index of the point of each image.
    """
    inverse = np.linalg.inv(grid.cell)
    margin = np.broadcast_to(reach, len(points))[:, None] * np.linalg.norm(inverse, axis=0)
    count = np.ceil(margin.max(axis=0, initial=0.0)).astype(int)
    shifts = np.array(list(product(*[range(-n, n + 1) for n in count]))) @ grid.cell
    home = wrapped(points, grid.cell, grid.origin)
    images = (home[None] + shifts[:, None]).reshape(-1, 3)
    owner = np.tile(np.arange(len(points)), len(shifts))
    fraction = (images - grid.origin) @ inverse
    kept = ((fraction > -margin[owner]) & (fraction < 1 + margin[owner])).all(axis=1)
    return images[kept], owner[kept]
