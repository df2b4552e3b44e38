"""Files of a report, made from its records: a row per frame, statistics, text and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from denser.io.files import replacing
from denser.io.rows import flat, write_rows
from denser.workflows.journal import Journal
from denser.workflows.many import headline

TABLE, PARQUET, TEXT, JSON = "frames.csv", "frames.parquet", "report.txt", "report.json"

MOST_IN_TEXT = 100
"""Number of inputs whose properties are written in full; the table contains the others."""


def row_of(record: dict) -> dict:
    """What the row of a record holds, for `denser.io.rows`."""
    named = ("input", "title", "formula", "charge", "spin", "n_atoms", "symbols", "n_electrons")
    row = {key: record[key] for key in named if key in record}
    row |= {"error": record.get("error"), **record.get("properties", {})}
    return row | {f"{name}_error": error for name, error in record.get("errors", {}).items()}


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


def write_all(folder: Path, journal: Journal, parquet: bool = False) -> None:
    """Write the tables, the text and the JSON of a report; memory does not grow with frames.

    If an input failed and was repeated, its last record counts.

    Parameters
    ----------
    folder : Path
    journal : Journal
        The records.
    parquet : bool
        Write `PARQUET` too.
    """
    columns: dict[str, Statistics] = {}
    n = 0
    for record in journal.entries():
        n += 1
        for name, value in flat(row_of(record)).items():
            column = columns.setdefault(name, Statistics())
            if not isinstance(value, str) and math.isfinite(value):
                column.add(value)

    def rows() -> Iterator[dict]:
        return map(row_of, journal.entries())

    write_rows(folder / TABLE, rows)
    if parquet:
        write_rows(folder / PARQUET, rows)
    with ExitStack() as stack:
        paths = [stack.enter_context(replacing(folder / name)) for name in (JSON, TEXT)]
        data, words = (stack.enter_context(open(path, "w")) for path in paths)
        data.write("[")
        if n > 1:
            words.write("\n".join(statistics(columns, n)) + "\n\n")
        for i, record in enumerate(journal.entries()):
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
