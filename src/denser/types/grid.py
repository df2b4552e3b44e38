"""Uniform real-space grids, node-centred, end point excluded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import numpy as np

from denser.types.arrays import read_only, restore
from denser.types.errors import InputError
from denser.types.recipe import ISOLATED_PADDING, PAPER_PADDING, PAPER_SPACING
from denser.types.structure import Structure
from denser.types.units import BOHR

COARSE = 0.19 / BOHR
"""Sums over nodes farther apart than this (bohr) are inaccurate. At 0.2 angstrom dipoles are off by
up to 0.03 debye, at 0.3 by 0.5 debye and Hirshfeld charges by 0.08 e, at 0.4 by more."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Nodes at `origin + i * cell / shape`, i = 0 .. shape-1 per axis.

    Its arrays are copies and read-only.

    Parameters
    ----------
    origin : (3,) float
        First node, bohr.
    cell : (3, 3) float
        Rows are the vectors of the box, bohr.
    shape : (3,) int
        Number of nodes per axis.
    """

    origin: np.ndarray
    cell: np.ndarray
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", read_only(self.origin, float))
        object.__setattr__(self, "cell", read_only(self.cell, float))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.origin.shape != (3,) or self.cell.shape != (3, 3) or len(self.shape) != 3:
            raise InputError("a grid needs an origin (3,), a cell (3, 3) and a shape of three")
        if min(self.shape) < 1:
            raise InputError(f"a grid needs at least one node per axis, found shape {self.shape}")
        if not (np.isfinite(self.origin).all() and np.isfinite(self.cell).all()):
            raise InputError("the grid's origin and cell must be finite numbers")
        if self.volume < 1e-9:
            raise InputError("the grid's cell has no volume")

    __setstate__ = restore

    def __repr__(self) -> str:
        spacing = " x ".join(f"{h:.3f}" for h in self.spacing * BOHR)
        return f"Grid({' x '.join(map(str, self.shape))} nodes, {spacing} angstrom apart)"

    def _repr_html_(self) -> str:
        return import_module("denser.viewer.html").grid(self)

    @property
    def volume(self) -> float:
        """Volume of the box, bohr^3."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def size(self) -> int:
        """Number of nodes."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def period(self) -> tuple[int, int, int]:
        """Number of nodes per axis after which the grid repeats."""
        return self.shape

    def slab(self, axis: int, start: int, stop: int) -> Slab:
        """The nodes `start` .. `stop` - 1 along an axis."""
        step = self.cell[axis] / self.shape[axis]
        cell, shape = self.cell.copy(), list(self.shape)
        cell[axis], shape[axis] = (stop - start) * step, stop - start
        nx, ny, nz = shape
        return Slab(self.origin + start * step, cell, (nx, ny, nz), self.period)

    @property
    def dv(self) -> float:
        """Volume per node, bohr^3."""
        return self.volume / self.size

    @property
    def spacing(self) -> np.ndarray:
        """Distance between nodes along each axis (3,), bohr."""
        return np.linalg.norm(self.cell, axis=1) / np.asarray(self.shape)

    @property
    def is_coarse(self) -> bool:
        """True if sums over the nodes of a valence density are inaccurate (`COARSE`)."""
        return bool(self.spacing.max() > COARSE)

    @property
    def is_orthorhombic(self) -> bool:
        """True if the box vectors lie along x, y and z."""
        diagonal = np.diag(self.cell)
        return bool((diagonal > 0).all() and np.allclose(self.cell, np.diag(diagonal), atol=1e-6))

    def axis(self, i: int) -> np.ndarray:
        """Coordinates of the nodes of an orthorhombic grid along axis `i` (shape[i],), bohr."""
        if not self.is_orthorhombic:
            raise InputError("only an orthorhombic grid has separate axes")
        return self.origin[i] + np.arange(self.shape[i]) * self.cell[i, i] / self.shape[i]

    def points(self) -> np.ndarray:
        """Coordinates of all nodes (nx, ny, nz, 3), bohr."""
        fractions = [np.arange(n) / n for n in self.shape]
        mesh = np.stack(np.meshgrid(*fractions, indexing="ij"), axis=-1)
        return self.origin + mesh @ self.cell

    def coarsen(self, factor: int) -> Grid:
        """Keep every `factor`-th node; the shape must be divisible by `factor`."""
        if any(n % factor for n in self.shape):
            raise InputError(
                f"grid shape {self.shape} is not divisible by {factor}; build it with "
                f"Grid.around(structure, multiple_of={factor})"
            )
        nx, ny, nz = (n // factor for n in self.shape)
        return Grid(self.origin, self.cell, (nx, ny, nz))

    def same_as(self, other: Grid, tolerance: float = 1e-4) -> bool:
        """True if the nodes of both grids agree to `tolerance` bohr."""
        return (
            self.shape == other.shape
            and np.allclose(self.origin, other.origin, rtol=0, atol=tolerance)
            and np.allclose(self.cell, other.cell, rtol=0, atol=tolerance)
        )

    def require_same(self, other: Grid) -> None:
        """Raise an InputError that says how another grid differs and what to do."""
        if self.same_as(other):
            return
        found = f"the grids differ: {self._described()} against {other._described()}; "
        same_box = np.allclose(self.cell, other.cell, rtol=0, atol=1e-4)
        if same_box and self.shape == other.shape:
            shift = ", ".join(f"{x:.4f}" for x in self.origin - other.origin)
            raise InputError(
                f"{found}the boxes are equal but shifted by ({shift}) bohr: write both in the same "
                "coordinates and on the same nodes"
            )
        if same_box and np.allclose(self.origin, other.origin, rtol=0, atol=1e-4):
            found += "the box is the same, but not the number of nodes; "
        raise InputError(
            f"{found}predict one on the grid of the other (denser predict --grid FILE, or "
            "denser.predict(atoms, grid=...))"
        )

    def _described(self) -> str:
        origin = ", ".join(f"{x:.4f}" for x in self.origin)
        return f"shape {self.shape}, origin ({origin}) bohr, volume {self.volume:.4f} bohr^3"

    @classmethod
    def around(
        cls,
        structure: Structure,
        padding: float = ISOLATED_PADDING,
        spacing: float = PAPER_SPACING,
        multiple_of: int = 8,
    ) -> Grid:
        """Box around an isolated structure with at least `padding` bohr on each side.

        The spacing is exact; the shape is rounded up to a multiple of `multiple_of`, and the
        box is centred on the middle of the molecule's extent.
        """
        if not (np.isfinite(padding) and padding > 0):
            raise InputError(f"the padding must be a positive length, found {padding}")
        _check_spacing(spacing)
        low, high = structure.positions.min(axis=0), structure.positions.max(axis=0)
        counts = np.ceil((high - low + 2 * padding) / (spacing * multiple_of) - 1e-9)
        shape = (counts * multiple_of).astype(int)
        lengths = shape * spacing
        return cls((low + high - lengths) / 2, np.diag(lengths), tuple(shape))

    @classmethod
    def cube(cls, structure: Structure, n: int, spacing: float) -> Grid:
        """`n`^3 nodes `spacing` bohr apart, whose mean is the middle of the molecule's extent.

        Tensors of one shape for all molecules, as networks of images take them.

        Raises
        ------
        InputError
            Less than two nodes, or an atom nearer than 2 angstrom to a face.
        """
        if n < 2:
            raise InputError(f"a cube needs at least two nodes along an edge, found {n}")
        _check_spacing(spacing)
        low, high = structure.positions.min(axis=0), structure.positions.max(axis=0)
        fits = float((high - low).max()) + 2 * PAPER_PADDING
        if (n - 1) * spacing < fits:
            needed = int(np.ceil(fits / spacing)) + 1
            raise InputError(
                f"{structure.formula} does not fit into {n} nodes {spacing:g} bohr apart with 2 "
                f"angstrom on each side; it takes {needed}"
            )
        middle = (low + high) / 2
        return cls(middle - (n - 1) / 2 * spacing, n * spacing * np.eye(3), (n, n, n))

    @classmethod
    def paper(cls, structure: Structure, spacing: float = PAPER_SPACING) -> Grid:
        """Box of Li et al. (2025): (2h) * ceil((extent + 4 angstrom)/(2h)) per axis.

        The shape is even, and the mean of the coordinates is in the middle. The authors' boxes are
        1e-4 angstrom shorter than the formula gives, and so are these.
        """
        _check_spacing(spacing)
        extent = np.ptp(structure.positions, axis=0)
        shape = 2 * np.ceil((extent + 2 * PAPER_PADDING) / (2 * spacing)).astype(int)
        lengths = shape * spacing - 1e-4 / BOHR
        return cls(structure.positions.mean(axis=0) - lengths / 2, np.diag(lengths), tuple(shape))

    @classmethod
    def periodic(
        cls, structure: Structure, spacing: float = PAPER_SPACING, multiple_of: int = 8
    ) -> Grid:
        """Grid over the structure's own cell, of any shape.

        The number of nodes along each vector is a multiple of `multiple_of`, chosen so that the
        spacing is as close as possible to `spacing`.
        """
        _check_spacing(spacing)
        if structure.cell is None:
            raise InputError("the structure has no cell; use Grid.around for a molecule")
        lengths = np.linalg.norm(structure.cell, axis=1)
        counts = np.maximum(1, np.round(lengths / (spacing * multiple_of))).astype(int)
        return cls(np.zeros(3), structure.cell, tuple(counts * multiple_of))


@dataclass(frozen=True, eq=False)
class Slab(Grid):
    """Consecutive nodes of a grid along one axis, which repeat as the whole grid does.

    What is added to a slab is what is added to these nodes of the whole.

    Parameters
    ----------
    whole : (3,) int
        The period, in nodes per axis.
    """

    whole: tuple[int, int, int]

    @property
    def period(self) -> tuple[int, int, int]:
        """As of `Grid`."""
        return self.whole


def _check_spacing(spacing: float) -> None:
    if not (np.isfinite(spacing) and spacing > 0):
        raise InputError(f"the grid spacing must be a positive length, found {spacing}")
