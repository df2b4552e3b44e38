"""Tables with a row for each record, in memory that does not grow with their number.

In CSV a list is as many columns, counted from 1. In Parquet it stays a list, so that a table of
molecules of different sizes has few columns: `pandas.read_parquet(path)` gives arrays.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, combinations_with_replacement, islice
from pathlib import Path
from typing import Any

import numpy as np

from denser.io.files import replacing
from denser.io.table import require_pyarrow
from denser.types.errors import InputError

_AT_ONCE = 2000
"""Rows of a group in a Parquet file, which is the unit of reading."""


def flat(record: dict, lists: bool = False) -> dict[str, Any]:
    """Numbers and words of a record by the names of columns.

    Parts of dictionaries have names with `_` between them. Lists of dictionaries are left out.

    Parameters
    ----------
    record : dict
        Plain data.
    lists : bool
        Keep lists. Otherwise their numbers are columns, of symmetric tensors those that differ,
        and lists of words are left out.
    """
    row: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                add(f"{name}_{key}" if name else key, part)
        elif isinstance(value, list):
            if any(isinstance(part, dict) for part in value):
                return
            if lists:
                row[name] = value
            elif _is_tensor(value):
                array = np.array(value)
                for index in combinations_with_replacement(range(3), array.ndim):
                    places = "_".join(str(i + 1) for i in index)
                    row[f"{name}_{places}"] = float(array[index])
            elif not any(isinstance(part, str) for part in value):
                for i, part in enumerate(value, start=1):
                    add(f"{name}_{i}", part)
        elif lists:
            row[name] = value
        elif isinstance(value, bool) or value is None:
            row[name] = "" if value is None else str(value).lower()
        else:
            row[name] = value

    add("", record)
    return row


def write_rows(path: Path, records: Callable[[], Iterable[dict]]) -> None:
    """Write a row for each record to a `.csv` or `.parquet` file, through a temporary file.

    Parameters
    ----------
    path : Path
    records : callable
        Gives all records; it is called twice, since the columns must be known first.

    Raises
    ------
    InputError
        As of `require_table`; or a column that holds numbers in one record and words in another
        (Parquet).
    """
    write = _write_parquet if path.suffix == ".parquet" else _write_csv
    with replacing(path) as temporary:
        write(temporary, records)


def _write_csv(path: Path, records: Callable[[], Iterable[dict]]) -> None:
    columns = dict.fromkeys(chain.from_iterable(map(flat, records())))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(flat, records()))


def _write_parquet(path: Path, records: Callable[[], Iterable[dict]]) -> None:
    pyarrow, parquet = require_pyarrow()
    schema = pyarrow.schema([])
    for rows in _groups(records()):
        names = dict.fromkeys(chain.from_iterable(rows))  # from_pylist takes those of the first
        try:
            found = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
            schema = pyarrow.unify_schemas([schema, found.schema], promote_options="permissive")
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise InputError(
                f"no table of these records can be made ({error}); write .csv"
            ) from error
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in _groups(records()):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _groups(records: Iterable[dict]) -> Iterator[list[dict[str, Any]]]:
    """Rows, some at a time."""
    rows = (flat(record, lists=True) for record in records)
    while group := list(islice(rows, _AT_ONCE)):
        yield group


def _is_tensor(value: list) -> bool:
    """Whether a nested list is a symmetric tensor of three dimensions, of degree two or more."""
    depth, part = 0, value
    while isinstance(part, list) and len(part) == 3:
        depth, part = depth + 1, part[0]
    if depth < 2 or isinstance(part, (list, dict, str)) or part is None:
        return False
    try:
        array = np.array(value, dtype=float)
    except (TypeError, ValueError):
        return False
    return array.shape == (3,) * depth and all(
        np.allclose(array, np.swapaxes(array, 0, axis), atol=1e-9 * np.abs(array).max())
        for axis in range(1, depth)
    )
