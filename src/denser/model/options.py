"""The options of a prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denser.io.structures import as_structure
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

if TYPE_CHECKING:
    from denser.model.checkpoint import Model

BOXES = ("auto", "isolated", "paper")


def cube_of(box: str) -> tuple[int, float] | None:
    """Nodes along an edge and spacing (bohr) of the box "cube:N:H", None for any other name.

    Raises
    ------
    InputError
        A cube without two such numbers.
    """
    kind, *numbers = box.split(":")
    if kind != "cube":
        return None
    try:
        n, spacing = int(numbers[0]), float(numbers[1])
    except (IndexError, ValueError):
        n, spacing = 0, 0.0
    if len(numbers) != 2 or n < 2 or not 0 < spacing < np.inf:
        raise InputError(
            f"box {box!r}: expected cube:N:H, N^3 nodes H bohr apart, such as cube:64:0.5"
        )
    return n, spacing


@dataclass(frozen=True)
class PredictionOptions:
    """Options of a prediction; they are checked when the object is made.

    Parameters
    ----------
    charge : int or None
        Total charge; by default that of the structure.
    model : str, Path or Model
        Name of a shipped model, path of a model file, or a loaded model.
    box : str
        "auto" (the cell of a periodic structure, otherwise "isolated"), "isolated" (padding
        around the atoms; a cell is ignored), "paper" (the box of Li et al. 2025, periodic), or
        "cube:N:H" (N^3 nodes H bohr apart, about the middle of the molecule; a cell is ignored).
    padding : float
        Vacuum on each side of an isolated molecule, angstrom.
    spacing : float or None
        Largest distance between nodes of the result, angstrom; by default the model's.
    device : str
        "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
    average : int
        Average over this number of the 48 rotated and mirrored copies of the molecule.
    refine : int
        Kohn-Sham steps that improve the predicted density; 0 for none.
    grid : Grid, Field or None
        Nodes of the result, or a field on them, in place of a box, padding and spacing.
    spin : int or None
        Number of unpaired electrons; by default that of the structure.

    Raises
    ------
    InputError
        A value that cannot be used.
    """

    charge: int | None = None
    model: str | Path | Model = "default"
    box: str = "auto"
    padding: float = 4.0
    spacing: float | None = None
    device: str = "auto"
    average: int = 1
    refine: int = 0
    grid: Grid | Field | None = None
    spin: int | None = None

    def __post_init__(self) -> None:
        if self.charge is not None and not _is_whole(self.charge):
            raise InputError(f"the charge must be a whole number, found {self.charge!r}")
        if self.spin is not None and not (_is_whole(self.spin) and self.spin >= 0):
            raise InputError(
                f"the spin must be a number of unpaired electrons, found {self.spin!r}"
            )
        if not isinstance(self.box, str) or (self.box not in BOXES and not cube_of(self.box)):
            raise InputError(f"unknown box {self.box!r}; known: {', '.join(BOXES)}, cube:N:H")
        if not (_is_number(self.padding) and self.padding > 0):
            raise InputError(
                f"the padding must be a positive length in angstrom, found {self.padding!r}"
            )
        if self.spacing is not None and not (_is_number(self.spacing) and self.spacing > 0):
            raise InputError(f"the spacing must be a positive length, found {self.spacing!r}")
        if not (_is_whole(self.average) and 1 <= self.average <= 48):
            raise InputError(
                f"an average takes 1 to 48 symmetry operations, found {self.average!r}"
            )
        if not (_is_whole(self.refine) and self.refine >= 0):
            raise InputError(
                f"the number of steps to refine must be 0 or more, found {self.refine!r}"
            )

        if cube_of(self.box) and (self.spacing is not None or self.refine):
            name = "spacing" if self.spacing is not None else "refine"
            raise InputError(f"{name} cannot be combined with a cube, which has its own nodes")
        if isinstance(self.grid, Field):
            object.__setattr__(self, "grid", self.grid.grid)
        self._check_grid()

    def _check_grid(self) -> None:
        if self.grid is None:
            return
        if not isinstance(self.grid, Grid):
            raise InputError(
                f"the grid must be a denser.Grid or a field, found {type(self.grid).__name__}; "
                "denser.read gives the field in a file"
            )
        for name, given in (
            ("spacing", self.spacing is not None),
            ("box", self.box not in ("auto", "isolated")),
            ("refine", self.refine > 0),
        ):
            if given:
                raise InputError(f"{name} cannot be combined with a grid, which has its own nodes")

    def structure_of(self, atoms: Any) -> Structure:
        """Return the structure that is predicted (`denser.io.structures.as_structure`)."""
        return as_structure(atoms, self.charge, isolated=self.box != "auto", spin=self.spin)

    def plain(self) -> dict[str, Any]:
        """Return the values that determine the result: all except the device."""
        named = {key: value for key, value in vars(self).items() if key != "device"}
        model = self.model if isinstance(self.model, str | Path) else self.model.name
        if isinstance(self.grid, Grid):
            nodes = (self.grid.origin, self.grid.cell, np.array(self.grid.shape))
            named["grid"] = [array.tolist() for array in nodes]
        return named | {"model": str(model)}


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    """Whether a number is an integer; the charge of a file may be a float."""
    if isinstance(value, Integral):
        return True
    return isinstance(value, Real) and _is_number(value) and float(value).is_integer()
