"""Connected regions of a field on a grid, and accumulations of electrons among them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import cKDTree

from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

ISOVALUE = 0.01
"""Of a deformation density: what counts as gathered or gone, e/bohr^3."""

NEIGHBOURS = np.ones((3, 3, 3))
"""Nodes that share a corner are neighbours: a sheet one node thick does not fall apart."""


def connected_regions(mask: np.ndarray, periodic: bool) -> tuple[np.ndarray, int]:
    """Number the connected regions of a mask.

    Parameters
    ----------
    mask : (nx, ny, nz) bool
    periodic : bool
        Whether a region goes on at the opposite face of the box.

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
    """Pairs of labels that touch across the faces of the box, and the cell (3,) they step into."""
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
    found = np.unique(np.concatenate(found), axis=0)
    return found[:, 0], found[:, 1], found[:, 2:]


def percolation(mask: np.ndarray) -> tuple[np.ndarray, int, list[np.ndarray]]:
    """Regions of a mask in a periodic cell, and the directions in which each goes on for ever.

    The pieces within one cell are numbered first. Walking from piece to piece across the faces,
    each is given the cell it is met in; a piece met in two cells joins the region to its own
    image, and the difference is a direction of percolation.

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
    steps = {}
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
        positions = images(wrapped(positions, structure.cell), structure.cell)
        points = wrapped(points, structure.cell)
        owner = np.tile(owner, 27)
    return owner[cKDTree(positions).query(points)[1]]


def wrapped(points: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Points (n, 3) moved into the cell at the origin."""
    return points - np.floor(points @ np.linalg.inv(cell)) @ cell


def images(points: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Points (n, 3) in a cell and in the 26 cells around it (27 n, 3), cell by cell."""
    shifts = np.array(list(product((-1, 0, 1), repeat=3))) @ cell
    return (points[None] + shifts[:, None]).reshape(-1, 3)


# Accumulations


@dataclass(frozen=True, eq=False)
class Region:
    """A connected region in which a field is beyond an isovalue.

    Parameters
    ----------
    sign : int
        1 above the isovalue, -1 below its negative.
    volume : float
        bohr^3.
    integral : float
        Of the field over the region; e for a density.
    peak : float
        Largest value, with its sign.
    position : (3,) float
        Of that node, bohr.
    atoms : tuple of (int, float)
        Atoms that own the region, counted from 0, and the share of the integral that belongs to
        each, the largest first; shares below 0.05 are left out.
    """

    sign: int
    volume: float
    integral: float
    peak: float
    position: np.ndarray
    atoms: tuple[tuple[int, float], ...]


@dataclass(frozen=True, eq=False)
class Accumulation:
    """Regions of accumulation and depletion, by the size of their integral.

    Parameters
    ----------
    isovalue : float
    unit : str
        Of the field.
    regions : tuple of Region
    symbols : tuple of str
        Of the atoms; none where they are not known.
    """

    isovalue: float
    unit: str
    regions: tuple[Region, ...]
    symbols: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return plain data in angstrom; the integrals in e for a density."""
        key = "electrons" if self.unit == "e/bohr^3" else "integral_bohr3"
        return {
            "isovalue": self.isovalue,
            "isovalue_unit": self.unit,
            "regions": [
                {
                    "sign": region.sign,
                    "volume_angstrom3": region.volume * BOHR**3,
                    key: region.integral,
                    "peak": region.peak,
                    "peak_position_angstrom": (region.position * BOHR).tolist(),
                    "atoms": [{"atom": i + 1, "share": share} for i, share in region.atoms],
                }
                for region in self.regions
            ],
        }

    def lines(self) -> list[str]:
        """Return readable lines, one per region."""
        out = [f"regions beyond +-{self.isovalue:g} {self.unit}"]
        for region in self.regions:
            names = ", ".join(
                f"{self.symbols[i]}{i + 1} {100 * share:.0f} %" for i, share in region.atoms
            )
            out.append(
                f"  {region.integral:+.4f} {'e' if self.unit == 'e/bohr^3' else 'bohr^3'} in "
                f"{region.volume * BOHR**3:.2f} angstrom^3, peak {region.peak:+.4f}"
                + (f" ({names})" if names else "")
            )
        return out


def accumulation(
    field: Field,
    isovalue: float = ISOVALUE,
    structure: Structure | None = None,
    basins: np.ndarray | None = None,
    periodic: bool | None = None,
    min_volume: float = 0.1,
) -> Accumulation:
    """Connected regions where a field is above an isovalue, and below its negative.

    Made for difference and deformation densities: where electrons gather and where they leave.

    Parameters
    ----------
    field : Field
    isovalue : float
        Positive, in the field's unit.
    structure : Structure, optional
        Atoms to name; default those of a Density. Without `basins` each node belongs to the
        nearest atom.
    basins : (nx, ny, nz) int, optional
        Atom that each node belongs to, from 0, such as Bader's basins; negative for none.
    periodic : bool, optional
        Default: whether the structure has a cell; a field without atoms is periodic.
    min_volume : float
        Smaller regions are left out, bohr^3.

    Raises
    ------
    InputError
        The isovalue is not positive, or the basins do not fit the grid.
    """
    if not (np.isfinite(isovalue) and isovalue > 0):
        raise InputError(f"the isovalue must be positive, found {isovalue}; both signs are shown")
    if structure is None and isinstance(field, Density):
        structure = field.structure
    if periodic is None:
        periodic = structure is None or structure.cell is not None
    grid, values = field.grid, np.asarray(field.values, dtype=float)
    if basins is not None and np.shape(basins) != grid.shape:
        raise InputError(
            f"basins of shape {np.shape(basins)} do not fit a grid of shape {grid.shape}"
        )
    regions = []
    for sign in (1, -1):
        labels, n = connected_regions(sign * values > isovalue, periodic)
        nodes = np.flatnonzero(labels)
        label, inside = labels.ravel()[nodes], values.ravel()[nodes]
        counts = np.bincount(label, minlength=n + 1)
        sums = np.bincount(label, inside, minlength=n + 1)
        for i in np.flatnonzero(counts * grid.dv >= min_volume):
            here = label == i
            at, f = nodes[here], inside[here]
            top = np.array(np.unravel_index(at[np.argmax(sign * f)], grid.shape))
            regions.append(
                Region(
                    sign,
                    float(counts[i] * grid.dv),
                    float(sums[i] * grid.dv),
                    float(sign * (sign * f).max()),
                    grid.origin + (top / grid.shape) @ grid.cell,
                    _owners(field, at, f, structure, basins, periodic),
                )
            )
    regions.sort(key=lambda region: -abs(region.integral))
    symbols = () if structure is None else tuple(structure.symbols)
    return Accumulation(float(isovalue), field.unit, tuple(regions), symbols)


def _owners(
    field: Field,
    nodes: np.ndarray,
    values: np.ndarray,
    structure: Structure | None,
    basins: np.ndarray | None,
    periodic: bool,
) -> tuple[tuple[int, float], ...]:
    """Share of each atom in the integral over some nodes."""
    if basins is not None:
        owner = np.asarray(basins).ravel()[nodes]
    elif structure is not None:
        grid = field.grid
        fractions = np.column_stack(np.unravel_index(nodes, grid.shape)) / grid.shape
        owner = nearest_atoms(structure, grid.origin + fractions @ grid.cell, periodic)
    else:
        return ()
    known = owner >= 0
    if not known.any():
        return ()
    shares = np.bincount(owner[known], values[known]) / values.sum()
    order = np.argsort(-shares, kind="stable")
    return tuple((int(i), float(shares[i])) for i in order if shares[i] >= 0.05)
