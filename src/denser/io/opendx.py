"""OpenDX scalar fields (.dx) as APBS, VMD, PyMOL and ChimeraX read and write them.

The file contains a regular grid and its values, with z as the fastest index. Lengths are in
angstrom; there are no atoms. The format does not state the meaning of the values, so a comment
in the first line does. Units in the file:

====================  ================================================================
field                 on file
====================  ================================================================
e/bohr^3              e/angstrom^3
hartree/e             kT/e at 298.15 K, as APBS has potentials (1 kT/e = 0.94419 mhartree/e)
any other             as it is
====================  ================================================================
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import numpy as np
from scipy import constants

from denser.io._digits import write_lines
from denser.io._text import TextReader, excerpt
from denser.io.files import DENSITY_UNIT, naming, read_bytes, writable_slabs, writing
from denser.types.arrays import seal
from denser.types.density import Field
from denser.types.grid import Grid
from denser.types.units import BOHR, HARTREE

KT = constants.k / constants.e * 298.15 / HARTREE
"""Thermal energy at 298.15 K, hartree."""

_PER_UNIT = {
    DENSITY_UNIT: ("e/angstrom^3", BOHR**-3),
    "hartree/e": ("kT/e at 298.15 K", 1 / KT),
}
"""Unit of a field: its unit in the file, and the factor from one to the other."""

_PER_LINE = 3


def write(path: str | Path, obj: Field) -> None:
    """Write a Field in the layout of APBS: three values per line; atoms are left out.

    Raises
    ------
    InputError
        Values that are not finite and real or beyond 1e99, or a target that cannot be written.
    """
    path = Path(path)
    unit, factor = _PER_UNIT.get(obj.unit, (obj.unit, 1.0))
    grid = obj.grid
    counts = " ".join(map(str, grid.shape))
    steps = grid.cell * BOHR / np.asarray(grid.shape)[:, None]
    header = [
        f"# denser: values in {unit}, lengths in angstrom",
        f"object 1 class gridpositions counts {counts}",
        f"origin {_row(grid.origin * BOHR)}",
        *(f"delta {_row(step)}" for step in steps),
        f"object 2 class gridconnections counts {counts}",
        f"object 3 class array type double rank 0 items {grid.size} data follows",
    ]
    footer = [
        'attribute "dep" string "positions"',
        'object "regular positions regular connections" class field',
        'component "positions" value 1',
        'component "connections" value 2',
        'component "data" value 3',
    ]
    with writing(path) as file:
        file.write(("\n".join(header) + "\n").encode())
        parts = ((values * factor).reshape(-1) for values in writable_slabs(path, obj))
        write_lines(file, parts, _PER_LINE, decimals=6)
        file.write(("\n".join(footer) + "\n").encode())


def read(path: str | Path) -> Field:
    """Read a scalar field on a regular grid, as text.

    The unit is that of a comment that names kT/e (APBS) or e/angstrom^3, or of our own first
    line. Otherwise the values are not converted, and their unit is "unstated".

    Raises
    ------
    InputError
        A missing, truncated or malformed file, or values in binary.
    """
    path = Path(path)
    reader = TextReader(path)
    comments: list[str] = []
    shape = _counts(reader, comments)
    origin = _vector(reader, comments, "origin")
    steps = np.array([_vector(reader, comments, "delta") for _ in range(3)])
    line = _line(reader, comments)
    while not re.search(r"class\s+array", line):
        line = _line(reader, comments)
    if not re.search(r"rank\s+0\b", line) or not re.search(r"data\s+follows\s*$", line):
        raise reader.error(
            f"expected one value per point as text ('rank 0 ... data follows'), found "
            f"{excerpt(line)}"
        )
    # VMD names no attribute before the closing object.
    until = b"attribute" if b"attribute" in read_bytes(path) else b"object"
    values = reader.values(prod(shape), until)
    unit, factor = _unit(comments)
    with naming(path):
        cell = steps * np.asarray(shape)[:, None] / BOHR
        return Field(Grid(origin / BOHR, cell, shape), seal(values.reshape(shape) / factor), unit)


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.9e}" for value in values)


def _line(reader: TextReader, comments: list[str]) -> str:
    """Return the next line that is neither a comment nor blank; collect the comments."""
    line = reader.line().strip()
    while not line or line.startswith("#"):
        comments.append(line)
        line = reader.line().strip()
    return line


def _counts(reader: TextReader, comments: list[str]) -> tuple[int, int, int]:
    line = _line(reader, comments)
    found = re.search(r"class\s+gridpositions\s+counts\s+(\d+)\s+(\d+)\s+(\d+)\s*$", line)
    nx, ny, nz = map(int, found.groups()) if found else (0, 0, 0)
    if min(nx, ny, nz) < 1:
        raise reader.error(
            f"expected 'object 1 class gridpositions counts nx ny nz', found {excerpt(line)}"
        )
    return nx, ny, nz


def _vector(reader: TextReader, comments: list[str], word: str) -> np.ndarray:
    line = _line(reader, comments)
    fields = line.split()
    try:
        vector = np.array(fields[1:], dtype=float)
    except ValueError:
        vector = np.empty(0)
    if fields[0] != word or vector.shape != (3,) or not np.isfinite(vector).all():
        raise reader.error(f"expected '{word}' and three numbers, found {excerpt(line)}")
    return vector


def _unit(comments: list[str]) -> tuple[str, float]:
    """Return the unit that the comments name, and the factor from it to the unit of the file."""
    text = "\n".join(comments)
    for unit, (on_file, factor) in _PER_UNIT.items():
        if on_file.split()[0] in text:
            return unit, factor
    own = re.search(r"^# denser: values in (.+), lengths in angstrom$", text, re.MULTILINE)
    return (own[1] if own else "unstated"), 1.0
