"""Voids: connected regions in which a density is below an isovalue, in a crystal or a box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from denser.analysis.regions import NEIGHBOURS, connected_regions, percolation
from denser.fields.periodic import adjacent_images
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

KINDS = ("cavity", "channel", "layer", "network")
"""Kinds of voids by the number of independent directions in which they are infinite."""

PROBE = 0.35
"""Spacing of the coarser nodes for the largest spheres, bohr."""


@dataclass(frozen=True, eq=False)
class Void:
    """A connected void.

    Parameters
    ----------
    kind : str
        One of `KINDS`, or "outside": the space around a molecule in its box.
    volume : float
        In one cell, bohr^3.
    directions : (rank, 3) int
        Lattice vectors along which it is infinite, in units of those of the cell.
    centre : (3,) float or None
        Centre of the largest sphere of nodes that fits in, bohr; None for the outside.
    radius : float
        Radius of this sphere, bohr; accurate to about one spacing.
    """

    kind: str
    volume: float
    directions: np.ndarray
    centre: np.ndarray | None
    radius: float


@dataclass(frozen=True, eq=False)
class Voids:
    """Voids of a cell or a box, the largest first.

    Parameters
    ----------
    isovalue : float
        In `unit`.
    unit : str
    volume : float
        Volume of all voids, bohr^3; for a molecule in a box without the outside.
    fraction : float
        `volume` over that of the cell.
    voids : tuple of Void
    labels : Field
        Number of the void of each node in this order, from 1; 0 elsewhere.
    """

    isovalue: float
    unit: str
    volume: float
    fraction: float
    voids: tuple[Void, ...]
    labels: Field

    def to_dict(self) -> dict:
        """Return plain data in angstrom and angstrom^3."""
        return {
            "isovalue": self.isovalue,
            "isovalue_unit": self.unit,
            "volume_angstrom3": self.volume * BOHR**3,
            "fraction_percent": 100 * self.fraction,
            "voids": [
                {
                    "kind": void.kind,
                    "volume_angstrom3": void.volume * BOHR**3,
                    "directions": void.directions.tolist(),
                    "centre_angstrom": None
                    if void.centre is None
                    else (void.centre * BOHR).tolist(),
                    "largest_sphere_angstrom": void.radius * BOHR,
                }
                for void in self.voids
            ],
        }

    def lines(self) -> list[str]:
        """Return readable lines, one per void."""
        out = [
            f"voids below {self.isovalue:g} {self.unit}: {self.volume * BOHR**3:.2f} angstrom^3, "
            f"{100 * self.fraction:.2f} % of the cell"
        ]
        for void in self.voids:
            along = " ".join("[" + " ".join(map(str, v)) + "]" for v in void.directions.tolist())
            line = f"  {void.kind}{' along ' + along if along else ''}: "
            line += f"{void.volume * BOHR**3:.2f} angstrom^3"
            if void.centre is not None:
                x, y, z = void.centre * BOHR
                line += f", sphere of {void.radius * BOHR:.2f} angstrom at "
                line += f"({x:.2f}, {y:.2f}, {z:.2f})"
            out.append(line)
        return out


def voids(
    field: Field, isovalue: float = 0.002, periodic: bool | None = None, min_volume: float = 1.0
) -> Voids:
    """Connected regions where a field is below an isovalue.

    The volume is that of the nodes: Turner, McKinnon, Jayatilaka and Spackman, CrystEngComm 13,
    1804 (2011), who use a density of 0.002 e/bohr^3. Use a completed density, or an isovalue above
    the minima of a valence density at heavy nuclei. Regions smaller than `min_volume` are left
    out.

    Parameters
    ----------
    field : Field
    isovalue : float
        In the field's unit.
    periodic : bool, optional
        Default: whether the density's structure has a cell; a field without atoms is periodic.
    min_volume : float
        bohr^3.

    Raises
    ------
    InputError
        The isovalue is not a finite number.
    """
    if not np.isfinite(isovalue):
        raise InputError(f"the isovalue must be a finite number, found {isovalue}")
    if periodic is None:
        periodic = not isinstance(field, Density) or field.structure.cell is not None
    grid = field.grid
    mask = np.asarray(field.values) < isovalue
    if periodic:
        labels, n, directions = percolation(mask)
    else:
        labels, n = connected_regions(mask, False)
        directions = [np.zeros((0, 3), dtype=int)] * n
    counts = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    kept = [i for i in np.argsort(-counts, kind="stable") if counts[i] * grid.dv >= min_volume]
    renumber = np.zeros(n + 1, dtype=np.int32)
    renumber[np.array(kept, dtype=int) + 1] = np.arange(1, len(kept) + 1)
    labels = renumber[labels]
    outside = set() if periodic else set(np.unique(_faces(labels)).tolist())
    inner = np.where(np.isin(labels, list(outside)), 0, labels) if outside else labels
    spheres = _largest_spheres(grid, mask, inner, len(kept), periodic)
    found = []
    for j, (i, (centre, radius)) in enumerate(zip(kept, spheres, strict=True), start=1):
        found.append(
            Void(
                "outside" if j in outside else KINDS[len(directions[i])],
                float(counts[i] * grid.dv),
                directions[i],
                centre,
                radius,
            )
        )
    volume = sum(void.volume for void in found if void.kind != "outside")
    return Voids(
        float(isovalue), field.unit, volume, volume / grid.volume, tuple(found),
        Field(grid, labels, "void"),
    )  # fmt: skip


def _faces(labels: np.ndarray) -> np.ndarray:
    """Labels on the six faces of the box, without 0."""
    planes = [np.take(labels, i, axis=axis).ravel() for axis in range(3) for i in (0, -1)]
    values = np.concatenate(planes)
    return values[values > 0]


def _largest_spheres(
    grid: Grid, mask: np.ndarray, labels: np.ndarray, n: int, periodic: bool
) -> list[tuple[np.ndarray | None, float]]:
    """Centre (3,) and radius, bohr, of the largest sphere of nodes within each void.

    It uses the distance to the nearest node outside the mask, on nodes with a spacing of `PROBE`.
    """
    if not labels.any():
        return [(None, 0.0)] * n
    stride = tuple(slice(None, None, max(1, int(PROBE / h))) for h in grid.spacing)
    shell = ~mask & ndimage.binary_dilation(mask, NEIGHBOURS)
    if periodic:  # a void at a face also has a surface at the opposite face
        for axis in range(3):
            edge = [np.take(mask, i, axis=axis) for i in (-1, 0)]
            for i, opposite in zip((0, -1), edge, strict=True):
                where = tuple(i if j == axis else slice(None) for j in range(3))
                shell[where] |= opposite & ~mask[where]
    points = (np.argwhere(shell) / grid.shape) @ grid.cell
    if periodic:
        points = adjacent_images(points, grid.cell)
    thin = np.zeros(grid.shape, dtype=bool)
    thin[stride] = labels[stride] > 0
    nodes = np.argwhere(thin)
    at = (nodes / grid.shape) @ grid.cell
    distance = cKDTree(points).query(at)[0] if len(points) else np.full(len(at), np.inf)
    owner = labels[thin]
    out = []
    for j in range(1, n + 1):
        mine = np.flatnonzero(owner == j)
        if mine.size:
            best = mine[np.argmax(distance[mine])]
            out.append((grid.origin + at[best], float(distance[best])))
        else:
            out.append((None, 0.0))
    return out
