"""Densities for coarser models: charge-conserving coarse grids and planar averages."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.units import BOHR

AXES = "xyz"


def coarsen(field: Field | Density, factor: int) -> Field | Density:
    """Spread a field to every `factor`-th node of its grid, keeping charge and dipole.

    A block average keeps the charge, but its value belongs to the middle of the block, which is
    not a node, and the dipole within a block is lost. Here each fine node is shared between the
    two coarse nodes around it in proportion to its distance from them, per axis: the adjoint
    of linear interpolation. With f the factor,

        rho_I = 1/f sum_{|d| < f} (1 - |d|/f) rho_{f I + d}

    so that sum_I rho_I g(r_I) dV = sum_i rho_i g(r_i) dv for every g that is linear in the box:
    charge and dipole are exact, and a positive density stays positive. The second moment of
    charge q along an axis grows by about q h^2 (f^2 - 1)/6, with h the fine spacing (exactly so
    for a smooth density). The box is periodic: nodes beyond the last coarse node are shared with
    the first.

    Parameters
    ----------
    field : Field or Density
    factor : int
        2 or more; the shape must be divisible by it.

    Returns
    -------
    Field or Density
        As given, on `field.grid.coarsen(factor)`; float64.

    Raises
    ------
    InputError
        The factor is below 1 or does not divide the shape.
    """
    if int(factor) != factor or factor < 1:
        raise InputError(f"the factor must be a whole number of at least 1, found {factor}")
    factor = int(factor)
    grid = field.grid.coarsen(factor)
    values = np.asarray(field.values, dtype=float)
    for axis, n in enumerate(grid.shape):
        nodes = factor * np.arange(n)
        shifted = [
            (1 - abs(d) / factor)
            / factor
            * values.take((nodes + d) % field.grid.shape[axis], axis=axis)
            for d in range(1 - factor, factor)
        ]
        values = np.sum(shifted, axis=0)
    return replace(field, grid=grid, values=values)


@dataclass(frozen=True, eq=False)
class PlaneAverage:
    """Average of a field over planes, along their normal.

    Parameters
    ----------
    axis : int
        The planes contain the other two vectors of the box.
    coordinate : (n,) float
        Position of each plane along the normal, bohr.
    values : (n,) float
    unit : str
        Unit of `values`.
    """

    axis: int
    coordinate: np.ndarray
    values: np.ndarray
    unit: str

    def to_dict(self) -> dict:
        """Return plain data; lengths in angstrom, values in `unit`."""
        return {
            "axis": AXES[self.axis],
            "coordinate_angstrom": (self.coordinate * BOHR).tolist(),
            "values": self.values.tolist(),
            "unit": self.unit,
        }

    def lines(self) -> list[str]:
        """Readable lines: a title and the extremes."""
        out = [f"planar average along {AXES[self.axis]}, {self.values.size} planes, {self.unit}"]
        for name, i in (("lowest", self.values.argmin()), ("highest", self.values.argmax())):
            at = self.coordinate[i] * BOHR
            out.append(f"{name:>8} {self.values[i]:14.6g} at {at:9.3f} angstrom")
        return [*out, f"{'mean':>8} {self.values.mean():14.6g}"]


def planar_average(field: Field, axis: int | str) -> PlaneAverage:
    """Average over the planes that two vectors of the box span.

    f(z) = 1/A integral_A f(x, y, z) dx dy. For a density, the average times A is the number of
    electrons per length. For a potential in the cell of a slab, the flat part is the vacuum level.

    Parameters
    ----------
    field : Field
    axis : 0, 1, 2 or "x", "y", "z"
        The vector of the box that is not in the planes.

    Raises
    ------
    InputError
        Another axis.
    """
    axis = _axis(axis)
    others = tuple(i for i in range(3) if i != axis)
    normal, height = _normal(field, axis)
    n = field.grid.shape[axis]
    return PlaneAverage(
        axis,
        field.grid.origin @ normal + np.arange(n) * height / n,
        field.values.mean(axis=others, dtype=float),
        field.unit,
    )


def _axis(axis: int | str) -> int:
    if axis in (0, 1, 2):
        return int(axis)
    if isinstance(axis, str) and axis.lower() in tuple(AXES):
        return AXES.index(axis.lower())
    raise InputError(f"the axis must be x, y or z (0, 1 or 2), found {axis!r}")


def _normal(field: Field, axis: int) -> tuple[np.ndarray, float]:
    """Unit normal (3,) of the planes that the other two vectors span, and the box's height."""
    cell = field.grid.cell
    normal = np.cross(cell[axis - 2], cell[axis - 1])
    normal /= np.linalg.norm(normal)
    height = float(cell[axis] @ normal)
    return (normal, height) if height > 0 else (-normal, -height)
