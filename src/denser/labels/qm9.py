"""QM9 geometries from the package qm9pack, and the DeepDFT split that the paper uses."""

from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

SPLITS = ("train", "validation", "test")

_RANGE = re.compile(r"(?P<split>[a-z]+)(?:\[(?P<start>\d*):(?P<stop>\d*)\])?")
_NAME = re.compile(r"(?:qm9|dsgdb9nsd)_(\d{6})(?:_.*)?")
_NUMBER = re.compile(r"(?:dsgdb9nsd_|qm9_)?(\d{1,6})")


@dataclass(frozen=True)
class Selection:
    """Molecules by their number in QM9 (`dsgdb9nsd_<number>`, from 1), ascending.

    Parameters
    ----------
    numbers : tuple of int
    n_test : int
        How many of them belong to the test part of the split.
    """

    numbers: tuple[int, ...]
    n_test: int


def split_numbers(split: str) -> np.ndarray:
    """Molecule numbers of one part of the split, ascending.

    The published split counts from 0; a molecule's number is its index + 1.

    Raises
    ------
    InputError
        The name is not in `SPLITS`.
    """
    if split not in SPLITS:
        raise InputError(f"qm9: no split {split!r}; known: {', '.join(SPLITS)}")
    return _table()[split]


def is_test_molecule(name: str) -> bool:
    """Whether a name such as `qm9_NNNNNN` or `dsgdb9nsd_NNNNNN` is that of a test molecule.

    Test molecules are those of the test part of the split, and distorted copies of them.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    numbers = split_numbers("test")
    i = int(np.searchsorted(numbers, int(match[1])))
    return i < len(numbers) and int(numbers[i]) == int(match[1])


@cache
def _table() -> dict[str, np.ndarray]:
    with (
        (files("denser.labels") / "tables" / "qm9_split.npz").open("rb") as file,
        np.load(file) as data,
    ):
        part = {name: data[name] + 1 for name in ("validation", "test")}
        everything = np.arange(1, int(data["n"]) + 1)
    return part | {"train": np.setdiff1d(everything, np.concatenate(list(part.values())))}


def select(text: str) -> Selection:
    """Read `train[0:5000]`, `validation`, or the name of a file with one number per line.

    A range counts positions in the split; its end is excluded. Lines of a file are numbers from
    1, which may also be written as `dsgdb9nsd_000042` or `qm9_000042`. Empty lines and comments
    after a # are ignored.

    Raises
    ------
    InputError
        The split is unknown, the range is empty or goes beyond the end of the split, or the file
        is missing or has a line that is not a number of QM9.
    """
    match = _RANGE.fullmatch(text)
    if Path(text).is_file() or match is None or not ("[" in text or match["split"] in SPLITS):
        numbers = _numbers_in(Path(text))
    else:
        numbers = split_numbers(match["split"]).tolist()
        start, stop = int(match["start"] or 0), int(match["stop"] or len(numbers))
        if start >= stop:
            raise InputError(f"qm9:{text}: the range {start}:{stop} is empty")
        if stop > len(numbers):
            raise InputError(f"qm9:{text}: {match['split']} ends at {len(numbers)}")
        numbers = numbers[start:stop]
    unique = np.unique(numbers)
    return Selection(
        tuple(int(n) for n in unique), int(np.isin(unique, split_numbers("test")).sum())
    )


def _numbers_in(path: Path) -> list[int]:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        raise InputError(
            f"qm9:{path}: neither a split ({', '.join(SPLITS)}), with or without a range such as "
            "[0:5000], nor a file"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of molecules ({error})") from error
    highest = max(int(split_numbers(split)[-1]) for split in SPLITS)
    numbers = []
    for i, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _NUMBER.fullmatch(entry)
        if match is None or not 1 <= int(match[1]) <= highest:
            raise InputError(f"{path}:{i}: expected a number from 1 to {highest}, got {entry!r}")
        numbers.append(int(match[1]))
    if not numbers:
        raise InputError(f"{path}: contains no molecule")
    return numbers


def molecules(numbers: tuple[int, ...]) -> Iterator[tuple[str, Structure]]:
    """Yield (name, structure) of the molecules in qm9pack, ascending; it lacks some thousands.

    Names are `qm9_<number>` with six digits.

    Raises
    ------
    InputError
        qm9pack is not installed, or has other files than expected.
    """
    for number, (symbols, positions) in table(numbers, ("Elements", "XYZ_Ang")):
        yield f"qm9_{number:06d}", _structure(symbols, positions)


def smiles(numbers: tuple[int, ...]) -> Iterator[tuple[int, str]]:
    """Yield (number, SMILES) of the molecules in qm9pack, ascending; raises like `molecules`."""
    for number, (text,) in table(numbers, ("SMILES",)):
        yield number, text


def table(numbers: tuple[int, ...], keys: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, texts of some columns) of qm9pack's tables, ascending.

    Raises
    ------
    InputError
        As in `molecules`.
    """
    wanted, last = set(numbers), max(numbers, default=0)
    for path in _csv_files():
        with path.open(newline="") as file:
            rows = csv.reader(file)
            header = next(rows)
            try:
                index, *columns = [header.index(key) for key in ("Index", *keys)]
            except ValueError as error:
                raise InputError(f"{path}: not a table of QM9 ({error})") from error
            for row in rows:
                number = int(row[index])
                if number > last:
                    return
                if number in wanted:
                    yield number, [row[i] for i in columns]


def _structure(symbols: str, positions: str) -> Structure:
    from ase.data import atomic_numbers

    numbers = [atomic_numbers[symbol] for symbol in re.findall(r"[A-Z][a-z]?", symbols)]
    # Lists in brackets, but not JSON: they hold numbers such as `0.`
    values = np.array(re.sub(r"[\[\]]", "", positions).split(","), dtype=float)
    return Structure(np.array(numbers), values.reshape(-1, 3) / BOHR)


def _csv_files() -> list[Path]:
    """Tables of qm9pack, found without importing it, since its import needs pkg_resources."""
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("qm9: needs the package qm9pack; pip install 'denser[qm9]'")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    paths = sorted(folder.glob("qm9_part*.csv"))
    if not paths:
        raise InputError(f"{folder}: contains no qm9_part*.csv; install qm9pack again")
    return paths
