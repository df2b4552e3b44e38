"""Files of a report, made from its records: a row per frame, statistics, text and JSON."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from denser.io.files import replacing
from denser.types.errors import InputError
from denser.workflows.many import headline

TABLE, TEXT, JSON = "frames.csv", "report.txt", "report.json"

MOST_IN_TEXT = 100
"""Number of inputs whose properties are written in full; the table contains the others."""


def records(path: Path) -> Iterator[dict]:
    """Yield the records of a `frames.jsonl`, the settings first; cut off an incomplete last line.

    Raises
    ------
    InputError
        Another line is damaged.
    """
    with open(path, "rb+") as file:
        while True:
            start = file.tell()
            line = file.readline()
            if not line:
                return
            try:
                if not line.endswith(b"\n"):
                    raise ValueError
                yield json.loads(line)
            except ValueError as error:
                if file.read(1):
                    raise InputError(
                        f"{path}: damaged at byte {start}; remove the folder and run it again"
                    ) from error
                file.truncate(start)
                return


def latest(path: Path, last: dict[str, int]) -> Iterator[dict]:
    """Yield the record of each input at its place in `last`, in order."""
    for i, record in enumerate(records(path)):
        if i and last[record["input"]] == i:
            yield record


def flatten(record: dict) -> dict[str, str | int | float]:
    """Numbers and words of a record as columns; arrays are counted from 1, tables left out."""
    row: dict[str, str | int | float] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                add(f"{name}_{key}" if name else key, part)
        elif isinstance(value, list):
            if _is_tensor(value):
                array = np.array(value)
                for index in combinations_with_replacement(range(3), array.ndim):
                    places = "_".join(str(i + 1) for i in index)
                    row[f"{name}_{places}"] = float(array[index])
            elif not any(isinstance(part, (dict, str)) for part in value):
                for i, part in enumerate(value, start=1):
                    add(f"{name}_{i}", part)
        elif isinstance(value, bool) or value is None:
            row[name] = "" if value is None else str(value).lower()
        else:
            row[name] = value

    add("input", record.get("input"))
    if "title" in record:
        add("title", record["title"])
    for key in ("formula", "charge", "spin", "n_atoms", "n_electrons", "error"):
        add(key, record.get(key))
    add("", record.get("properties", {}))
    for name, error in record.get("errors", {}).items():
        row[f"{name}_error"] = error
    return row


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


class Statistics:
    """Running mean, standard deviation and extremes of a column (Welford 1962)."""

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, x: float) -> None:
        """Add one number."""
        self.n += 1
        step = x - self.mean
        self.mean += step / self.n
        self.squares += step * (x - self.mean)
        self.low, self.high = min(self.low, x), max(self.high, x)

    @property
    def deviation(self) -> float:
        """Standard deviation of the sample."""
        return math.sqrt(self.squares / (self.n - 1)) if self.n > 1 else 0.0


def write_all(folder: Path, path: Path) -> None:
    """Write the table, the text and the JSON of a report; memory does not grow with frames.

    If an input failed and was repeated, its last record counts.

    Parameters
    ----------
    folder : Path
    path : Path
        The records.
    """
    last = {record["input"]: i for i, record in enumerate(records(path)) if i}
    columns: dict[str, Statistics] = {}
    n = 0
    for record in latest(path, last):
        n += 1
        for name, value in flatten(record).items():
            column = columns.setdefault(name, Statistics())
            if not isinstance(value, str) and math.isfinite(value):
                column.add(value)
    with ExitStack() as stack:
        paths = [stack.enter_context(replacing(folder / name)) for name in (TABLE, JSON, TEXT)]
        rows, data, words = (stack.enter_context(open(p, "w", newline="")) for p in paths)
        writer = csv.DictWriter(rows, list(columns), restval="")
        writer.writeheader()
        data.write("[")
        if n > 1:
            words.write("\n".join(statistics(columns, n)) + "\n\n")
        for i, record in enumerate(latest(path, last)):
            writer.writerow(flatten(record))
            data.write((",\n" if i else "\n") + json.dumps(record))
            if i < MOST_IN_TEXT:
                words.write("\n".join(text(record)) + "\n\n")
            elif i == MOST_IN_TEXT:
                words.write(f"... {n - i} more in {TABLE} and {JSON}\n")
        data.write("\n]\n" if n else "]\n")


def statistics(columns: dict[str, Statistics], n: int, most: int = 60) -> list[str]:
    """Mean, deviation and extremes of the columns that all `n` frames have."""
    rows = {k: s for k, s in columns.items() if s.n == n and s.high > s.low}
    if not rows:
        return [f"{n} inputs"]
    width = max(len(name) for name in list(rows)[:most])
    lines = [f"{n} inputs", f"{'':{width}s} {'mean':>12s} {'sd':>12s} {'least':>12s} {'most':>12s}"]
    for name, s in list(rows.items())[:most]:
        numbers = (s.mean, s.deviation, s.low, s.high)
        lines.append(f"{name:{width}s} " + " ".join(f"{x:12.5g}" for x in numbers))
    if len(rows) > most:
        lines.append(f"... and {len(rows) - most} columns more in {TABLE}")
    return lines


def text(record: dict) -> list[str]:
    """Readable lines of one record."""
    if "error" in record:
        return [f"{record['input']}: {record['error']}"]
    lines = [
        f"{headline(record)}, {record['n_atoms']} atoms, "
        f"{record['n_electrons']:g} electrons ({record['density']} density), grid spacing "
        f"{max(record['spacing_angstrom']):.3f} A",
        *(f"  {note}" for note in record["notes"]),
    ]
    for name, part in record["lines"].items():
        seconds = record["seconds"].get(name, 0.0)
        lines += [f"{name} ({seconds:.2f} s)", *(f"  {line}" for line in part)]
    lines += [f"{name}: {error}" for name, error in record["errors"].items()]
    if record["written"]:
        lines += ["written: " + ", ".join(record["written"])]
    return lines
