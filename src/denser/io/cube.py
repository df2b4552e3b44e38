"""Gaussian cube files.

A cube file contains the atoms with their charges, the grid's origin and step vectors (all in
bohr), and the values with z as the fastest index. The format has no place for a total charge and
for periodicity. Our files have them in the second comment line (`charge=-1 box=periodic`, the cell
being the box of the grid); a structure read from another program's cube is isolated.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import numpy as np

from denser.io._digits import lines
from denser.io._text import TextReader
from denser.io.electrons import Foreign
from denser.io.files import DENSITY_UNIT, naming, with_atoms, writable_slabs, writing
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

ORBITAL_UNIT = "bohr^-3/2"


def write(path: str | Path, obj: Density) -> None:
    """Write a Density in the standard layout: 6 values per line, a new line after each z row.

    The charge column holds the valence charges, as in CP2K's cubes. The step vectors have two
    decimals more than usual in the same columns, so that large boxes keep their volume.
    Values below 1e-99 become zero. A unit other than e/bohr^3 is named in the first line.

    Raises
    ------
    InputError
        No atoms, values that are not finite and real or beyond 1e99, coordinates too large
        for their column, or a target that cannot be written.
    """
    path = Path(path)
    obj = with_atoms(path, obj)
    grid, structure = obj.grid, obj.structure
    what = "values"
    if obj.unit == DENSITY_UNIT:
        what = f"{'all-electron' if obj.all_electron else 'valence'} density"
    steps = grid.cell / np.asarray(grid.shape)[:, None]
    with naming(path):
        header = [
            f"denser: {what} in {obj.unit}",
            f"charge={structure.charge}{f' spin={structure.spin}' if structure.spin else ''}"
            f"{'' if structure.cell is None else ' box=periodic'}",
            _row(len(structure), grid.origin),
            *(_row(n, step, 8) for n, step in zip(grid.shape, steps, strict=True)),
            *(
                _row(z, (charge, *position))
                for z, charge, position in zip(
                    structure.numbers, obj.valence_charges, structure.positions, strict=True
                )
            ),
        ]
    with writing(path) as file:
        file.write(("\n".join(header) + "\n").encode())
        for values in writable_slabs(path, obj):
            for block in lines(values.reshape(-1, grid.shape[2]), per_line=6, decimals=5):
                file.write(block.data)


def read(path: str | Path) -> Field | Density | Foreign:
    """Read a cube; lengths are in bohr, or angstrom if its numbers of voxels are negative.

    Values are taken as they are, for e/bohr^3 unless our own first line names another unit, or
    for an orbital (bohr^-3/2) where the number of atoms is negative.

    Returns
    -------
    Density
        Of an isolated structure, unless our comment says otherwise; a Field if the cube has no
        atoms. Another program's density is Foreign, with the charge column for valence charges,
        if it has other numbers than Z.

    Raises
    ------
    InputError
        A missing, truncated or malformed file, or several values per point.
    """
    path = Path(path)
    reader = TextReader(path)
    title, comment = reader.line(), reader.line()
    first = reader.numbers(4, 5)
    n_atoms = reader.integer(first[0], "the number of atoms")
    if len(first) == 5 and first[4] != 1:
        raise reader.error(f"expected one value per point, found {first[4]:g}; write one per file")
    shape, steps, to_bohr = _axes(reader)
    atoms = []
    for _ in range(abs(n_atoms)):
        atoms.append(reader.numbers(5))
        reader.integer(atoms[-1][0], "an atomic number")
    if n_atoms < 0:
        orbitals = reader.numbers(1, 11)
        if orbitals[0] != 1:
            raise reader.error(f"expected one orbital, found {orbitals[0]:g}; write one per file")
    values = seal(reader.values(prod(shape)).reshape(shape))

    own = re.fullmatch(r"denser: (.*) in (\S.*)", title)
    unit = own[2] if own else DENSITY_UNIT if n_atoms >= 0 else ORBITAL_UNIT
    with naming(path):
        cell = steps * np.asarray(shape)[:, None]
        grid = Grid(np.array(first[1:4]) * to_bohr, cell * to_bohr, shape)
        field = Field(grid, values, unit)
        if not atoms:
            return field
        table = np.array(atoms)
        numbers, charges = table[:, 0].astype(int), table[:, 1]
        charge = re.search(r"\bcharge=([+-]?\d+)\b", comment)
        spin = re.search(r"\bspin=(\d+)\b", comment) if own is not None else None
        structure = Structure(
            numbers,
            table[:, 2:] * to_bohr,
            int(charge[1]) if charge else 0,
            grid.cell if own is not None and comment.endswith(" box=periodic") else None,
            spin=int(spin[1]) if spin else None,
        )
        given = charges.any() and not np.array_equal(charges, numbers)
        if own is None and charge is None:
            return Foreign(field, structure, charges if given else None)
        return Density(
            grid,
            values,
            unit,
            structure=structure,
            valence_charges=charges if given else numbers,
            all_electron=own is not None and own[1] == "all-electron density",
        )


def _axes(reader: TextReader) -> tuple[tuple[int, int, int], np.ndarray, float]:
    """Return the numbers of voxels, the step vectors (3, 3), and bohr per unit of length."""
    counts, steps = [], []
    for _ in range(3):
        count, *step = reader.numbers(4)
        counts.append(reader.integer(count, "the number of voxels"))
        steps.append(step)
        if counts[-1] == 0:
            raise reader.error("expected the number of voxels, found 0")
        if (counts[-1] < 0) != (counts[0] < 0):
            raise reader.error(
                "expected numbers of voxels of one sign (positive for bohr, negative for "
                f"angstrom), found {counts[0]} and {counts[-1]}"
            )
    nx, ny, nz = map(abs, counts)
    return (nx, ny, nz), np.array(steps), 1.0 if counts[0] > 0 else 1.0 / BOHR


def _row(number: int, values: np.ndarray | tuple, decimals: int = 6) -> str:
    return f"{number:5d}" + "".join(_column(value, decimals) for value in values)


def _column(value: float, decimals: int) -> str:
    """Return a number right-aligned in 12 columns, the first one blank."""
    for places in range(decimals, -1, -1):
        text = f"{value:12.{places}f}"
        if len(text) == 12 and text[0] == " ":
            return text
    raise InputError(f"the number {value:g} is too large for its column in a cube file")
