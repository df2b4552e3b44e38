"""Read coordinate files as text: xyz, Gaussian and ORCA inputs, `.gro` and CML."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.units import Bohr

from denser.io.files import read_bytes
from denser.io.frames import (
    Frame,
    charge_of_ions,
    checked,
    element_of_name,
    ghost_of,
    stated_in_comment,
    symbol_of,
)
from denser.io.residues import ResidueAtom, charge_of_residues
from denser.types.errors import InputError
from denser.types.structure import GHOSTS

_POLYMER = re.compile(
    "[NC]?(ALA|ARG|AS[NPH]|CY[SXM]|GL[NUHY]|HI[SDEP]|HS[DEP]|ILE|LEU|LY[SN]|MET|PHE|PRO|SER|THR|"
    "TRP|TYR|VAL|ACE|NME|NMA)|[RD]?[ACGTU][35N]?"
)
"""Residues of biopolymers in GROMACS files; an N or C in front marks the end of a chain."""


def read_xyz(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the frames of an xyz or extended xyz file; a damaged frame does not end the others."""
    lines = text.splitlines()
    start = number = 0
    while start < len(lines):
        if not lines[start].strip():
            start += 1
            continue
        number += 1
        count = re.fullmatch(r"\s*(\d+)\s*", lines[start])
        if count is None:
            rest = "" if number == 1 else "; the rest of the file is not read"
            yield InputError(
                f"line {start + 1}: expected the number of atoms, found "
                f"{lines[start].strip()[:40]!r}{rest}"
            )
            return
        stop = start + 2 + int(count[1])
        try:
            if stop > len(lines):
                raise InputError(
                    f"{count[1]} atoms were expected, but the file ends after "
                    f"{max(len(lines) - start - 2, 0)}"
                )
            frame = _xyz_frame(lines[start:stop], start + 1)
            if beyond := _is_text(lines[stop:]):
                note = f"line {stop + 1} and those after it are not read: no further structure"
                frame = replace(frame, notes=(*frame.notes, note))
            yield frame
            if beyond:
                return
        except InputError as error:
            yield error
        start = stop


def _is_text(lines: Sequence[str]) -> bool:
    """Whether the first line that is not blank is neither a number of atoms nor an atom."""
    words = next((line.split() for line in lines if line.strip()), ["1"])
    if len(words) == 1 and words[0].isdigit():
        return False
    try:
        symbol_of(words[0])
        [_number(word) for word in words[1:4]]
    except (InputError, ValueError):
        return True
    return len(words) < 4


def _xyz_frame(lines: Sequence[str], first: int) -> Frame:
    comment = lines[1]
    stated = stated_in_comment(comment)
    if re.search(r"(Properties|Lattice|pbc)\s*=", comment, flags=re.IGNORECASE):
        if not re.search(r"Properties\s*=(?!\s*[\"']?species:S:1:)", comment, flags=re.IGNORECASE):
            lines = [*lines[:2], *map(_with_symbol, lines[2:])]
        atoms = _with_ase("\n".join(lines) + "\n", "extxyz")
        title = str(atoms.info.get("title", atoms.info.get("name", "")))
    else:
        atoms = _cartesian(lines[2:], first + 2)
        title = "" if stated or "=" in comment else comment.strip()
    formal = atoms.arrays.get("formal_charges", atoms.arrays.get("formal_charge"))
    if formal is not None and "charge" not in atoms.info and "total_charge" not in atoms.info:
        atoms.info["charge"] = float(np.sum(formal))
    atoms.info.update(stated)
    return checked(Frame(atoms, title))


def _with_symbol(line: str) -> str:
    """The line with an element symbol in place of a label or a number, if one follows."""
    words = line.split(maxsplit=1)
    with suppress(InputError):
        return f"{symbol_of(words[0])} {words[1]}" if len(words) == 2 else line
    return line


def _cartesian(lines: Sequence[str], first: int, unit: float = 1.0) -> Atoms:
    """Atoms from lines of a symbol and three coordinates; `first` is the number of the first."""
    symbols, positions, ghosts = [], [], []
    for number, line in enumerate(lines, start=first):
        if len(re.findall(r"\d,\d", line)) > 2 and "." not in line:
            raise InputError(
                f"line {number}: numbers have commas, found {line[:60]!r}; write decimal points"
            )
        words = line.replace(",", " ").split()
        try:
            positions.append([_number(word) * unit for word in words[1:4]])
            if len(positions[-1]) < 3:
                raise ValueError("three coordinates are expected")
            ghost = ghost_of(words[0])
            ghosts.append(ghost is not None)
            symbols.append(symbol_of(ghost or words[0]))
        except InputError as error:
            raise InputError(f"line {number}: {error}") from error
        except ValueError as error:
            raise InputError(
                f"line {number}: expected a symbol and three coordinates, found {line[:60]!r}"
            ) from error
    atoms = Atoms(symbols, np.reshape(positions, (-1, 3)))
    if any(ghosts):
        atoms.set_array(GHOSTS, np.array(ghosts))
    return atoms


def _number(word: str) -> float:
    """A number, also with an exponent of Fortran (`1.2D-01`) or of QM9's files (`1.2*^-1`)."""
    return float(re.sub(r"(?<=[\d.])([dD]|\*\^)(?=[+-]?\d)", "e", word))


def _with_ase(text: str, format: str, **options: Any) -> Atoms:
    from ase.io import read

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms: Any = read(io.StringIO(text), format=format, **options)
    except Exception as error:  # ASE's readers raise many kinds of errors
        raise InputError(f"cannot be read ({reason(error)})") from error
    return atoms


def reason(error: Exception) -> str:
    """What an exception of a reader says, on one line."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"unknown symbol {text}" if isinstance(error, KeyError) else text


def read_gaussian(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the molecule of a Gaussian input; of several jobs (--Link1--), the first."""
    try:
        first, *others = re.split(r"^\s*--link1--.*$", text, flags=re.MULTILINE | re.IGNORECASE)
        yield checked(_first_of(_gaussian(first), len(others)))
    except InputError as error:
        yield error


def _first_of(frame: Frame, n_others: int) -> Frame:
    """The molecule of the first job of an input, with a note if there are others."""
    if n_others == 0:
        return frame
    note = f"{n_others + 1} jobs are in the file; the first was read"
    return replace(frame, notes=(*frame.notes, note))


def _gaussian(text: str) -> Frame:
    """Molecule of a job: blank lines end the route, the title, and the coordinates."""
    lines = [re.sub(r"!.*", "", line).strip() for line in text.strip("\n").splitlines()]
    sections = [part.splitlines() for part in re.split(r"\n{2,}", "\n".join(lines).strip())]
    if len(sections) < 3:
        raise InputError("has no coordinates; expected the route, a title, and the molecule")
    route, title, (stated, *rows) = " ".join(sections[0]), " ".join(sections[1]), sections[2]
    if not rows:
        raise InputError("has no coordinates; does it take them from a checkpoint file?")
    pair = re.match(r"([+-]?\d+)[\s,]+(\d+)\b", stated)
    if pair is None:
        raise InputError(f"expected charge and multiplicity, found {stated[:40]!r}")
    unit = Bohr if re.search(r"units[=( ]+\(?[^)\s]*\b(au|bohr)\b", route, re.IGNORECASE) else 1.0
    matches = [re.match(r"([A-Za-z]+|\d+)[^\s,(]*(\([^)]*\))?[\s,]+(.*)", row) for row in rows]
    try:
        ghosts = [ghost_of(re.split(r"[\s,]", row)[0]) is not None for row in rows]
        symbols = [match[1] for match in matches if match]
        numbers = [re.split(r"[\s,]+", match[3].strip()) for match in matches if match]
        places = [[float(x) for x in (row[1:4] if _is_frozen(row) else row[:3])] for row in numbers]
        if len(places) < len(rows) or any(len(place) < 3 for place in places):
            raise ValueError
    except ValueError:  # a Z-matrix
        if len(sections) > 3 and not any("variables" in row.lower() for row in rows):
            rows = [*rows, "Variables:", *sections[3]]
        parts = (*sections[0], "", title, "", f"{pair[1]} {pair[2]}", *rows, "", "")
        atoms = _with_ase("\n".join(parts), "gaussian-in")
        atoms.positions *= unit
    else:
        cell = [x for s, x in zip(symbols, places, strict=True) if s.upper() == "TV"]
        kept = [k for k, s in enumerate(symbols) if s.upper() != "TV"]
        atoms = Atoms([symbol_of(symbols[k]) for k in kept], [places[k] for k in kept])
        if any(ghosts):
            atoms.set_array(GHOSTS, np.array(ghosts)[kept])
        if len(cell) in (1, 2, 3):
            vectors = np.zeros((3, 3))
            vectors[: len(cell)] = cell
            atoms.set_cell(vectors)
            atoms.pbc = [k < len(cell) for k in range(3)]
        atoms.set_cell(atoms.cell * unit, scale_atoms=False)
        atoms.positions *= unit
    atoms.info |= {"charge": int(pair[1]), "multiplicity": int(pair[2])}
    return Frame(atoms, title)


def _is_frozen(numbers: Sequence[str]) -> bool:
    """Whether the first of the numbers behind a symbol says if the atom may move."""
    return len(numbers) > 3 and re.fullmatch(r"-?\d+", numbers[0]) is not None


def read_orca(text: str, embed: bool = False, folder: Path = Path(".")) -> Iterator[Any]:
    """Yield the molecule of an ORCA input; `* xyzfile` names a file in `folder`."""
    try:
        first, *others = re.split(r"^\s*\$new_job\b.*$", text, flags=re.MULTILINE | re.IGNORECASE)
        yield _first_of(_orca(first, folder), len(others))
    except InputError as error:
        yield error


def _orca(text: str, folder: Path) -> Frame:
    lines = [re.sub(r"#.*", "", line) for line in text.splitlines()]
    unit = Bohr if any(re.match(r"\s*!.*\bbohrs\b", x, re.IGNORECASE) for x in lines) else 1.0
    for number, line in enumerate(lines):
        start = re.match(
            r"\s*\*\s*(xyz|xyzfile|int|internal|gzmt|pdbfile|gzmtfile)\s+([+-]?\d+)\s+(\d+)\s*(\S*)",
            line,
            re.IGNORECASE,
        )
        if start is None:
            continue
        kind = start[1].lower()
        if kind == "xyz":
            stop = next(
                (k for k in range(number + 1, len(lines)) if lines[k].strip() in ("*", "end")),
                len(lines),
            )
            rows = [x if x.strip() else "" for x in lines[number + 1 : stop]]
            atoms = _cartesian([x for x in rows if x], number + 2, unit)
            frame = Frame(atoms)
        elif kind == "xyzfile":
            named = folder / start[4].strip("\"'")
            found = next(read_xyz(decoded(read_bytes(named))), InputError("contains no structure"))
            if isinstance(found, InputError):
                raise InputError(f"{named}: {found}")
            frame = found
        else:
            raise InputError(f"coordinates as {kind} are not read; write them as * xyz")
        frame.atoms.info |= {"charge": int(start[2]), "multiplicity": int(start[3])}
        return checked(frame)
    return _orca_block("\n".join(lines), unit)


def _orca_block(text: str, unit: float) -> Frame:
    """Coordinates of a `%coords` block."""
    block = re.search(
        r"%coords\b(.*?)\bcoords\b(.*?)^\s*end\b", text, re.IGNORECASE | re.DOTALL | re.MULTILINE
    )
    if block is None:
        raise InputError("has no coordinates (* xyz CHARGE MULTIPLICITY); is it an ORCA input?")
    head = block[1]
    if re.search(r"\bunits\s*=?\s*bohrs", head, re.IGNORECASE):
        unit = Bohr
    first = text[: block.start(2)].count("\n") + 2
    atoms = _cartesian(block[2].strip("\n").splitlines(), first, unit)
    for key, word in (("charge", "charge"), ("multiplicity", "mult")):
        if match := re.search(rf"\b{word}\s*=?\s*([+-]?\d+)", head, re.IGNORECASE):
            atoms.info[key] = int(match[1])
    return checked(Frame(atoms))


def read_gro(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the frames of a GROMACS file; elements follow from the names of the atoms."""
    lines = text.splitlines()
    start = 0
    while start + 1 < len(lines) and lines[start + 1].strip():
        try:
            n = int(lines[start + 1])
            stop = start + 3 + n
            if stop > len(lines):
                raise ValueError("the file ends too early")
            yield _gro_frame(lines[start:stop])
        except InputError as error:
            yield error
        except ValueError as error:
            yield InputError(f"from line {start + 1}: {reason(error)}")
            return
        start = stop


def _gro_frame(lines: Sequence[str]) -> Frame:
    symbols, positions, residues = [], [], []
    for line in lines[2:-1]:
        residue, name = line[5:10].strip(), line[10:15].strip()
        residues.append(residue)
        dots = [k for k, sign in enumerate(line) if sign == "." and k >= 20]
        width = dots[1] - dots[0]
        places = [line[20 + k * width : 20 + (k + 1) * width] for k in (0, 1, 2)]
        positions.append([10.0 * float(place) for place in places])
        known = _POLYMER.fullmatch(residue) is not None
        symbols.append(element_of_name(name, residue, known))
    atoms = Atoms(symbols, positions)
    box = [10.0 * float(word) for word in lines[-1].split()]
    if len(box) >= 3 and all(length > 0 for length in box[:3]):
        cell = np.diag(box[:3])
        if len(box) >= 9:
            cell.flat[[1, 2, 3, 5, 6, 7]] = box[3:9]
        atoms.cell, atoms.pbc = cell, True
    notes: list[str] = []
    atoms.info["charge"] = charge_of_ions(zip(residues, symbols, strict=True), notes)
    starts = np.cumsum([a[:10] != b[:10] for a, b in pairwise([lines[2], *lines[2:-1]])])
    atoms.info["charge"] += charge_of_residues(
        [
            ResidueAtom(symbol, (x, y, z), (str(start),), residue)
            for start, residue, symbol, (x, y, z) in zip(
                starts, residues, symbols, positions, strict=True
            )
        ],
        notes,
    )
    return checked(Frame(atoms, lines[0].strip(), tuple(notes)))


def read_cml(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the molecules of a CML file."""
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        yield InputError(f"cannot be read ({reason(error)})")
        return
    for molecule in root.iter():
        if _tag(molecule) == "molecule" and any(_tag(part) == "atomArray" for part in molecule):
            try:
                yield _cml_molecule(molecule)
            except InputError as error:
                yield error


def _cml_molecule(molecule: ElementTree.Element) -> Frame:
    array = next(part for part in molecule if _tag(part) == "atomArray")
    symbols, positions, charge = [], [], 0
    for atom in array:
        if _tag(atom) != "atom":
            continue
        try:
            positions.append([float(atom.attrib[key]) for key in ("x3", "y3", "z3")])
        except (KeyError, ValueError) as error:
            raise InputError(f"atom {atom.get('id', '')} has no x3, y3 and z3") from error
        symbols.append(symbol_of(atom.get("elementType", "")))
        charge += int(atom.get("formalCharge", 0))
    atoms = Atoms(symbols, np.reshape(positions, (-1, 3)))
    atoms.info["charge"] = int(molecule.get("formalCharge", charge))
    if "spinMultiplicity" in molecule.attrib:
        atoms.info["multiplicity"] = int(molecule.attrib["spinMultiplicity"])
    return checked(Frame(atoms, molecule.get("title", molecule.get("id", ""))))


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def decoded(data: bytes) -> str:
    """Text of a file: UTF-8 or UTF-16 with or without a byte-order mark, else Windows-1252.

    All ends of lines become line feeds.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.removeprefix(b"\xef\xbb\xbf").decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
