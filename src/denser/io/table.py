"""Tables of columns: CSV, and Parquet with pyarrow."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from denser.io.files import replacing
from denser.types.errors import InputError

SUFFIXES = (".csv", ".parquet")


def require_table(path: Path) -> None:
    """Raise an InputError unless a table of this name can be written."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: a table ends in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        require_pyarrow()
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal lengths through a temporary file."""
    content = parquet_bytes(columns) if path.suffix == ".parquet" else csv_text(columns).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def csv_text(columns: Mapping[str, Sequence[Any]]) -> str:
    """The text of a CSV file with a line of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def parquet_bytes(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """The content of a Parquet file.

    Raises
    ------
    InputError
        pyarrow is not installed.
    """
    pyarrow, parquet = require_pyarrow()
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(dict(columns)), file)
    return file.getvalue()


def require_pyarrow() -> tuple[Any, Any]:
    """Pyarrow and its module parquet, or an InputError."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow (pip install 'denser[parquet]'); or write .csv"
        ) from error
    return pyarrow, parquet
