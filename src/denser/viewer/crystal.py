"""What the page shows of a crystal: whole molecules, wrapped atoms, several cells.

Only the picture is concerned. The structure, and every file, keep the user's positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from denser.atoms.molecules import whole_molecules
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

ATOMS = ("molecules", "wrapped", "file")
"""Where atoms are shown: whole molecules with their centre in the cell, every atom in the cell, or
as in the file."""

MAX_REPEAT = 3
MAX_SHOWN = 2000
"""Largest number of cells along an axis, and of atoms on the screen."""

MARGIN = 3.0 / BOHR
"""Surfaces are drawn up to this distance from the shown atoms, bohr."""


@dataclass(frozen=True)
class Cells:
    """How a crystal is shown.

    Parameters
    ----------
    atoms : str
        One of `ATOMS`.
    repeat : tuple of int
        Number of cells along each vector.
    """

    atoms: str = "molecules"
    repeat: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        if self.atoms not in ATOMS:
            raise InputError(f"atoms of a crystal are shown as {', '.join(ATOMS)}")
        if len(self.repeat) != 3 or not all(1 <= n <= MAX_REPEAT for n in self.repeat):
            raise InputError(f"1 to {MAX_REPEAT} cells are shown along each of three vectors")


@dataclass(frozen=True, eq=False)
class Shown:
    """Atoms on the screen: atom k is atom k % n_atoms of the structure, shifted.

    Parameters
    ----------
    structure : Structure
        The atoms as shown, without a cell.
    shifts : (n_shown, 3) float
        Lattice translations from the positions of the structure, bohr.
    n_atoms : int
        Number of atoms of the structure.
    """

    structure: Structure
    shifts: np.ndarray
    n_atoms: int

    def copies(self, atom: int) -> np.ndarray:
        """Shifts (n_copies, 3) of all shown copies of an atom."""
        return self.shifts[atom :: self.n_atoms]


def shown(structure: Structure, cells: Cells = Cells()) -> Shown:
    """Atoms of a structure as they are shown; those of a molecule as they are."""
    n = len(structure)
    if structure.cell is None:
        return Shown(structure, np.zeros((n, 3)), n)
    repeat = cells.repeat
    if n * np.prod(repeat) > MAX_SHOWN:
        raise InputError(
            f"{np.prod(repeat)} cells have {n * np.prod(repeat)} atoms; up to {MAX_SHOWN} can be "
            "shown, choose fewer cells"
        )
    inverse = np.linalg.inv(structure.cell)
    wrapped = -np.floor(structure.positions @ inverse + 1e-6)
    lattice = np.zeros((n, 3))
    if cells.atoms == "wrapped":
        lattice = wrapped
    elif cells.atoms == "molecules":
        lattice = _whole(structure, inverse, wrapped)
    steps = np.array(list(product(*(range(k) for k in repeat))))
    shifts = (lattice[None] + steps[:, None]).reshape(-1, 3) @ structure.cell
    copies = len(steps)
    positions = np.tile(structure.positions, (copies, 1)) + shifts
    return Shown(Structure(np.tile(structure.numbers, copies), positions), shifts, n)


def _whole(structure: Structure, inverse: np.ndarray, wrapped: np.ndarray) -> np.ndarray:
    """Lattice translations (n_atoms, 3) that make molecules whole, with their centres in the cell.

    Atoms of a network that has no end, such as those of diamond, are wrapped into the cell.
    """
    out = wrapped.copy()
    for molecule in whole_molecules(structure):
        if not molecule.endless:
            moved = molecule.positions - structure.positions[molecule.atoms]
            centre = molecule.positions.mean(axis=0) @ inverse
            out[molecule.atoms] = np.round(moved @ inverse) - np.floor(centre + 1e-6)
    return out


def around(field: Field, atoms: Shown, max_nodes: int) -> Field:
    """A periodic field on a box around the shown atoms, with at most about `max_nodes` an axis."""
    grid = field.grid
    inverse = np.linalg.inv(grid.cell)
    fractions = (atoms.structure.positions - grid.origin) @ inverse
    margins = MARGIN * np.linalg.norm(inverse, axis=0)
    parts, origin, cell = [], grid.origin.copy(), np.empty((3, 3))
    for k, (n, margin) in enumerate(zip(grid.shape, margins, strict=True)):
        first = int(np.floor((fractions[:, k].min() - margin) * n))
        last = int(np.ceil((fractions[:, k].max() + margin) * n))
        wanted = -(-(last - first) // max_nodes)
        stride = next((s for s in range(wanted, n) if n % s == 0), 1)
        index = np.arange(first, last + stride, stride)
        parts.append(index % n)
        step = grid.cell[k] / n
        origin += first * step
        cell[k] = step * stride * len(index)
    nx, ny, nz = (len(part) for part in parts)
    values = np.asarray(field.values)[np.ix_(*parts)]
    return Field(Grid(origin, cell, (nx, ny, nz)), values, field.unit)


def near_shown(points: np.ndarray, structure: Structure, atoms: Shown) -> np.ndarray:
    """Whether the nearest atom of each point (n, 3), bohr, in the endless crystal is shown."""
    assert structure.cell is not None
    inverse = np.linalg.inv(structure.cell)
    corners = np.array([points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN])
    low, high = corners @ inverse
    fractions = structure.positions @ inverse
    steps = product(
        *(
            range(int(np.floor(a - f.max())), int(np.ceil(b - f.min())) + 1)
            for a, b, f in zip(low, high, fractions.T, strict=True)
        )
    )
    every = np.concatenate([structure.positions + np.array(n) @ structure.cell for n in steps])
    every = every[((every >= corners[0]) & (every <= corners[1])).all(axis=1)]
    own, _ = cKDTree(atoms.structure.positions).query(every)
    _, nearest = cKDTree(every).query(points)
    return own[nearest] < 1e-3


def beside(place: np.ndarray, structure: Structure, atoms: Shown) -> np.ndarray:
    """Translations (n_copies, 3) of what stands at a place (3,) to each shown copy of its atom."""
    if structure.cell is None:
        return np.zeros((1, 3))
    away = (place - structure.positions) @ np.linalg.inv(structure.cell)
    back = np.round(away)
    atom = int(np.linalg.norm((away - back) @ structure.cell, axis=1).argmin())
    return atoms.copies(atom) - back[atom] @ structure.cell
