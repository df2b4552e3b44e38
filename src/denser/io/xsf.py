"""XSF files with a 3-D data grid, as XCrySDen, VESTA and pp.x of Quantum ESPRESSO use them.

Lengths are in angstrom. A data grid runs from face to face of its box, and in a crystal the last
node of each axis repeats the first. The format does not state the unit of the values: programs
write e/bohr^3 or e/angstrom^3, and the number of electrons tells which. Files of this package are
in e/bohr^3, or in the unit that their first line names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from denser.io._digits import write_lines
from denser.io._text import TextReader, excerpt
from denser.io.electrons import Foreign
from denser.io.files import (
    DENSITY_UNIT,
    naming,
    read_bytes,
    with_atoms,
    writable_slabs,
    writing,
)
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

_PER_LINE = 5


def holds_grid(path: str | Path) -> bool:
    """Whether a file has a data grid, and not only atoms."""
    return b"DATAGRID_" in read_bytes(Path(path))


def write(path: str | Path, obj: Density) -> None:
    """Write a Density, a molecule as ATOMS and a periodic structure as CRYSTAL; 11 digits.

    Raises
    ------
    InputError
        No atoms, a grid with a single node along an axis, values that are not finite and real or
        beyond 1e99, or a target that cannot be written.
    """
    path = Path(path)
    obj = with_atoms(path, obj)
    grid, structure = obj.grid, obj.structure
    header = [f"# denser: values in {obj.unit}"]
    n = np.asarray(grid.shape) + (structure.cell is not None)  # the last node repeats the first
    if structure.cell is None:
        header.append("ATOMS")
        if min(grid.shape) < 2:
            raise InputError(f"{path}: this format needs two nodes or more along each axis")
    else:
        header += ["CRYSTAL", "PRIMVEC", *map(_row, structure.cell * BOHR)]
        header += ["PRIMCOORD", f"{len(structure)} 1"]
    header += [
        f"{z:3d} {_row(position)}"
        for z, position in zip(structure.numbers, structure.positions * BOHR, strict=True)
    ]
    header += ["BEGIN_BLOCK_DATAGRID_3D", "denser", "BEGIN_DATAGRID_3D_values"]
    header += [" ".join(map(str, n)), _row(grid.origin * BOHR)]
    header += map(_row, grid.cell * BOHR * ((n - 1) / grid.shape)[:, None])
    with writing(path) as file:
        file.write(("\n".join(header) + "\n").encode())
        slabs = writable_slabs(path, obj, axis=2)
        if structure.cell is not None:
            slabs = _closed(slabs)
        parts = (np.ravel(values, order="F").astype(np.float64) for values in slabs)
        write_lines(file, parts, _PER_LINE, decimals=10)
        file.write(b"END_DATAGRID_3D\nEND_BLOCK_DATAGRID_3D\n")


def _closed(slabs: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Slabs along z of a periodic function, from face to face of the box."""
    first = None
    for values in slabs:
        values = np.pad(values, [(0, 1), (0, 1), (0, 0)], mode="wrap")
        first = values[:, :, :1] if first is None else first
        yield values
    if first is not None:
        yield first


def read(path: str | Path) -> Foreign:
    """Read the atoms and the 3-D data grid of a file.

    Raises
    ------
    InputError
        A missing, truncated or malformed file; no data grid, several, or a 2-D one; frames of an
        animation; or the grid of a crystal whose last nodes do not repeat the first.
    """
    path = Path(path)
    text = read_bytes(path)
    if b"DATAGRID_3D" not in text:
        found = "a data grid in two dimensions" if b"DATAGRID_" in text else "no data grid"
        raise InputError(f"{path}: holds {found}; expected a density in three dimensions")
    if text.count(b"BEGIN_DATAGRID_3D") > 1:
        raise InputError(f"{path}: holds several data grids; write one per file")
    reader = TextReader(path)
    own = re.match(r"# denser: values in (\S.*)", text[:200].decode("latin-1"))
    periodic, cell, atoms = _atoms(reader)
    line = _line(reader)
    while "DATAGRID_3D" not in line or "BLOCK" in line:
        line = _line(reader)
    shape = _shape(reader)
    origin, *vectors = (_vector(reader) for _ in range(4))
    values = reader.values(prod(shape), until=b"END_DATAGRID").reshape(shape, order="F")
    with naming(path):
        n, box = np.asarray(shape), np.array(vectors)
        if periodic:
            values = _without_repeats(values)
        else:
            box = box * (n / (n - 1))[:, None]
        grid = Grid(origin / BOHR, box / BOHR, values.shape)
        structure = Structure(
            np.array([z for z, _ in atoms]),
            np.array([position for _, position in atoms]) / BOHR,
            cell=cell / BOHR if periodic else None,
        )
        unit = own[1].strip() if own else DENSITY_UNIT
        field = Field(grid, seal(np.ascontiguousarray(values)), unit)
        return Foreign(field, structure, unit_known=own is not None)


def _atoms(reader: TextReader) -> tuple[bool, np.ndarray, list[tuple[int, np.ndarray]]]:
    """Whether the atoms are periodic, the lattice vectors, and numbers and positions, angstrom."""
    line = _line(reader)
    while line.split()[0] not in ("ATOMS", "CRYSTAL"):
        if line.split()[0] in ("ANIMSTEPS", "SLAB", "POLYMER", "MOLECULE"):
            raise reader.error(
                f"{line.split()[0]} is not supported; expected ATOMS or CRYSTAL and one data grid"
            )
        line = _line(reader)
    periodic, cell = line.startswith("CRYSTAL"), np.eye(3)
    if periodic:
        while not line.startswith("PRIMCOORD"):
            line = _line(reader)
            if line.startswith("PRIMVEC"):
                cell = np.array([_vector(reader) for _ in range(3)])
        count = reader.integer(reader.numbers(1, 2, skip_blank=True)[0], "the number of atoms")
        return True, cell, [_atom(reader, _line(reader)) for _ in range(count)]
    atoms = []
    while not (line := _line(reader)).startswith("BEGIN_BLOCK"):
        atoms.append(_atom(reader, line))
    return False, cell, atoms


def _atom(reader: TextReader, line: str) -> tuple[int, np.ndarray]:
    """Atomic number and position of a line; forces after it are ignored."""
    symbol, *numbers = line.split()
    z = int(symbol) if symbol.isdigit() else atomic_numbers.get(symbol.capitalize(), -1)
    try:
        position = np.array(numbers[:3], dtype=float)
    except ValueError:
        position = np.empty(0)
    if z < 0 or position.shape != (3,):
        raise reader.error(f"expected an element and three coordinates, found {excerpt(line)}")
    return z, position


def _shape(reader: TextReader) -> tuple[int, int, int]:
    nx, ny, nz = (
        reader.integer(n, "a number of nodes") for n in reader.numbers(3, skip_blank=True)
    )
    if min(nx, ny, nz) < 2:
        raise reader.error(f"expected two nodes or more along each axis, found {nx} {ny} {nz}")
    return nx, ny, nz


def _vector(reader: TextReader) -> np.ndarray:
    return np.array(reader.numbers(3, skip_blank=True))


def _line(reader: TextReader) -> str:
    """Return the next line that is neither blank nor a comment."""
    line = reader.line().strip()
    while not line or line.startswith("#"):
        line = reader.line().strip()
    return line


def _without_repeats(values: np.ndarray) -> np.ndarray:
    """Return the nodes of one period."""
    close = 1e-4 * np.abs(values).max()
    for axis in range(3):
        first, last = np.take(values, 0, axis), np.take(values, -1, axis)
        if not np.allclose(first, last, rtol=1e-4, atol=close):
            raise InputError(
                "the last nodes of the crystal's data grid do not repeat the first ones, as the "
                "format asks for; write the grid from face to face of its box"
            )
    return values[:-1, :-1, :-1]


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:17.10f}" for value in values)
