"""VASP CHGCAR files, and those of the same format: CHG, PARCHG, AECCAR0 to 2 and `.vasp`.

The format is periodic and has no origin: lattice vectors and fractional coordinates, then
rho * V with x running fastest. Atoms are placed in the box as fractional = (r - origin) cell^-1
and grouped by species. Our own comment line stores further data as `key=value`:

- `origin`: of the grid, bohr
- `charge`: total charge
- `box`: `isolated` if the structure has no cell, else `periodic`
- `valence`: valence charge per species
- `order`: positions of the atoms in the user's order, if grouping changed it and there are at
most 100 atoms; a larger structure is read in grouped order

VASP cannot start from our files (ICHARG = 1): they have no PAW augmentation occupancies, and the
comment line says so.
"""

from __future__ import annotations

import re
from io import BufferedIOBase
from math import prod
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from denser.io._digits import write_lines
from denser.io._text import TextReader, excerpt
from denser.io.electrons import Foreign
from denser.io.files import naming, require_density_unit, with_atoms, writable_slabs, writing
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

_TAG = "denser:"
NAMES = ("CHGCAR", "PARCHG", "AECCAR")
"""Beginnings of the names of VASP's files in this format."""

_OTHER = ("LOCPOT", "ELFCAR")
"""Those of files in this layout that hold no density."""

_MAX_ORDERED = 100  # keeps the comment line short enough for other programs' buffers


def is_name(name: str) -> bool:
    """Whether VASP gives a file of this layout such a name, such as CHGCAR_water."""
    return name.startswith((*NAMES, *_OTHER)) or re.fullmatch(r"CHG([_-][^.]*)?", name) is not None


def holds_grid(path: str | Path) -> bool:
    """Whether a file has a grid after its atoms; a POSCAR has none."""
    reader = TextReader(Path(path))
    try:
        _header(reader)
        reader.numbers(3, skip_blank=True)
    except InputError:
        return False
    return re.fullmatch(r"\s*\d+\s+\d+\s+\d+\s*", reader.last) is not None


def write(path: str | Path, obj: Density) -> None:
    """Write a Density; 5 values per line, 11 significant digits.

    A spin density follows as a second block, as VASP writes it. Values of rho * V below 1e-99
    become zero.

    Raises
    ------
    InputError
        No atoms, another unit than e/bohr^3, values that are not finite and real, or a
        target that cannot be written.
    """
    path = Path(path)
    obj = with_atoms(path, obj)
    require_density_unit(path, obj)
    grid, structure = obj.grid, obj.structure

    # A species is an element with one valence charge.
    kinds = list(zip(structure.numbers.tolist(), obj.valence_charges.tolist(), strict=True))
    species = list(dict.fromkeys(kinds))
    order = np.argsort([species.index(kind) for kind in kinds], kind="stable")
    fractional = np.linalg.solve(grid.cell.T, (structure.positions - grid.origin).T).T

    kind_of_density = "all-electron" if obj.all_electron else "valence"
    notes = [
        "origin=" + ",".join(repr(float(x)) for x in grid.origin),
        f"charge={structure.charge}",
        *([f"spin={structure.spin}"] if structure.spin else []),
        "box=" + ("isolated" if structure.isolated else "periodic"),
        "valence=" + ",".join(repr(charge) for _, charge in species),
    ]
    if len(order) <= _MAX_ORDERED and (np.diff(order) < 0).any():
        notes.append("order=" + ",".join(map(str, order)))
    header = [
        f"{_TAG} {kind_of_density} density, VASP cannot start from it (no PAW occupancies), origin "
        f"in bohr; {' '.join(notes)}",
        "   1.0",
        *("".join(f" {x:21.16f}" for x in vector) for vector in grid.cell * BOHR),
        "".join(f" {chemical_symbols[z]:>5}" for z, _ in species),
        "".join(f" {kinds.count(kind):5d}" for kind in species),
        "Direct",
        *("".join(f" {x:19.16f}" for x in row) for row in fractional[order]),
        "",
        "".join(f" {n:4d}" for n in grid.shape),
    ]
    with writing(path) as file:
        file.write(("\n".join(header) + "\n").encode())
        _write_values(file, path, obj)
        if obj.spin_density is not None:
            file.write((header[-1] + "\n").encode())
            _write_values(file, path, obj.spin_density)


def _write_values(file: BufferedIOBase, path: Path, obj: Field) -> None:
    with np.errstate(over="ignore"):  # lines() rejects what is too large
        parts = (
            np.ravel(values, order="F").astype(np.float64) * obj.grid.volume
            for values in writable_slabs(path, obj, axis=2)
        )
        write_lines(file, parts, per_line=5, decimals=10)


def read(path: str | Path) -> Density | Foreign:
    """Read a CHGCAR of this package, or of VASP or another program.

    Selective dynamics and Cartesian coordinates are understood; PAW augmentation occupancies
    are not read. A second block is the spin density; the three further blocks of a calculation
    with non-collinear spins are not read. Valence charges, total charge and frame
    are those of our own comment line. Without it the density is Foreign: the origin is zero,
    and the structure has the file's cell.

    Raises
    ------
    InputError
        A missing, truncated or malformed file.
    """
    path = Path(path)
    for name in _OTHER:
        if path.name.startswith(name):
            what = "a potential" if name == "LOCPOT" else "a localisation function"
            raise InputError(f"{path}: holds {what} and no density; give the CHGCAR")
    reader = TextReader(path)
    notes, cell, scale, symbols, counts, mode, coordinates = _header(reader)
    if reader.at_end():
        raise InputError(f"{path}: holds atoms only and no grid; give it as a structure")
    sizes = reader.numbers(3, skip_blank=True)
    nx, ny, nz = (reader.integer(n, "a number of grid points") for n in sizes)
    shape = nx, ny, nz
    if min(shape) < 1:
        raise reader.error(f"expected three positive numbers of grid points, found {shape}")
    values = reader.values(prod(shape), until=b"augmentation").reshape(shape, order="F")
    spin = None
    if reader.past(rb"(?m)^[ \t]*%d[ \t]+%d[ \t]+%d[ \t\r]*\n" % shape) == 1:
        spin = reader.values(prod(shape), until=b"augmentation").reshape(shape, order="F")

    with naming(path):
        grid = Grid(notes.get("origin", np.zeros(3)), cell, shape)
        positions = np.array(coordinates).reshape(-1, 3)
        positions = positions * scale / BOHR if mode[:1] in ("c", "k") else positions @ cell
        numbers = np.repeat([atomic_numbers[symbol] for symbol in symbols], counts)
        valence = numbers.astype(float)
        if notes:
            if len(notes["valence"]) != len(symbols):
                raise _damaged("valence", f"{len(symbols)} numbers")
            valence = np.repeat(notes["valence"], counts)
        back = np.arange(len(numbers))
        if "order" in notes:
            if not np.array_equal(np.sort(notes["order"]), back):
                raise _damaged("order", f"the numbers 0 to {len(numbers) - 1}")
            back = np.argsort(notes["order"])
        structure = Structure(
            numbers[back],
            (positions + grid.origin)[back],
            notes.get("charge", 0),
            None if notes.get("box") == "isolated" else cell,
            spin=notes.get("spin"),
        )
        values /= grid.volume
        if spin is not None:
            spin = seal(spin / grid.volume)
        if not notes:
            return Foreign(Field(grid, seal(values)), structure, spin=spin)
        density = Density(
            grid,
            seal(values),
            structure=structure,
            valence_charges=valence[back],
            all_electron=notes["all_electron"],
        )
        return density if spin is None else density.with_spin_density(spin)


def _header(
    reader: TextReader,
) -> tuple[dict, np.ndarray, np.ndarray, list[str], list[int], str, list[list[float]]]:
    """Return notes, cell, scale, symbols, counts, the mode of the coordinates, and these."""
    notes = _notes(reader)
    cell, scale = _cell(reader)
    symbols, counts = _species(reader)
    mode = reader.line().strip().lower()
    if mode.startswith("s"):
        mode = reader.line().strip().lower()
    # Line by line: a wrong count meets the end of the file before it can fill the memory.
    coordinates = [reader.numbers(3, more=True) for count in counts for _ in range(count)]
    return notes, cell, scale, symbols, counts, mode, coordinates


def _damaged(key: str, expected: str) -> InputError:
    return InputError(
        f"the comment line is damaged, expected {key} to be {expected}; write the file again, "
        "or replace that line to have it read as another program's"
    )


def _notes(reader: TextReader) -> dict:
    """Return what our own comment line stores; nothing for another program's file."""
    comment = reader.line()
    if not comment.startswith(_TAG):
        return {}
    words = dict(word.split("=", 1) for word in comment.split() if "=" in word)
    kinds = {"origin": float, "charge": int, "spin": int, "valence": float, "order": int}
    notes: dict = {
        "box": words.get("box"),
        "all_electron": comment.startswith(f"{_TAG} all-electron density"),
    }
    with naming(reader.path):
        for key, kind in kinds.items():
            if key not in words:
                if key in ("order", "spin"):
                    continue
                raise _damaged(key, "there")
            try:
                notes[key] = [kind(number) for number in words[key].split(",")]
            except ValueError:
                raise _damaged(key, "numbers") from None
        if len(notes["origin"]) != 3:
            raise _damaged("origin", "three numbers")
        if len(notes["charge"]) != 1:
            raise _damaged("charge", "one number")
    notes["charge"] = notes["charge"][0]
    if "spin" in notes:
        notes["spin"] = notes["spin"][0]
    return notes


def _cell(reader: TextReader) -> tuple[np.ndarray, np.ndarray]:
    """Return the lattice vectors (3, 3), bohr, and the factors of x, y and z (1,) or (3,)."""
    scale = np.array(reader.numbers(1, 3))
    if scale.size == 2 or not np.isfinite(scale).all() or (scale == 0).any():
        raise reader.error("expected one scaling factor or three, none of them zero")
    cell = np.array([reader.numbers(3, more=True) for _ in range(3)])
    volume = abs(np.linalg.det(cell))
    if not (np.isfinite(volume) and volume > 0):
        raise reader.error("expected three independent lattice vectors")
    if scale[0] < 0:  # the volume, angstrom^3
        scale = np.cbrt(-scale / volume)
    return cell * scale / BOHR, scale


def _species(reader: TextReader) -> tuple[list[str], list[int]]:
    """Return the symbols and how many atoms each has; VASP 6 may add a potential's hash."""
    line = reader.line()
    symbols = [word.split("/")[0].split("_")[0] for word in line.split()]
    if not symbols or any(symbol not in atomic_numbers for symbol in symbols):
        raise reader.error(
            f"expected element symbols, found {excerpt(line)}; add that line if the file has "
            "the old VASP 4 format"
        )
    counts = [reader.integer(n, "a number of atoms") for n in reader.numbers(len(symbols))]
    if min(counts) < 1:
        raise reader.error(f"expected positive numbers of atoms, found {counts}")
    return symbols, counts
