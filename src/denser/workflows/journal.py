"""Journals: what a run has finished, one JSON line for each result, so that the next can go on.

A line is written as soon as a result is there, by one process, and is found again by its key. The
last line of a key counts. A line that was cut off by a loss of power is passed over, and so its
work is done again. Records stay in the file: in memory are only their places.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from errno import ENOSPC
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from denser.io.files import replacing, unwritable
from denser.types.errors import InputError


class Journal:
    """A file of JSON lines, and the place of the last line of each key.

    Parameters
    ----------
    path : Path
        It need not exist.
    key : str
        Name of the entry by which a line is found; lines without it are passed over.
    keep : bool
        Whether lines of earlier runs count; otherwise the file is begun anew when it is opened.

    Raises
    ------
    InputError
        The file exists and cannot be read.
    """

    def __init__(self, path: Path, key: str, keep: bool = True) -> None:
        self.path, self.key, self.keep = path, key, keep
        self.places: dict[str, int] = {}
        self._file: FileIO | None = None
        if keep and path.is_file():
            for place, entry in lines(path):
                if isinstance(name := entry.get(key), str):
                    self.places[name] = place

    def __enter__(self) -> Self:
        try:
            self._file = open(self.path, "ab" if self.keep else "wb", buffering=0)
            if not self.keep:
                self.places.clear()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, name: object) -> bool:
        return name in self.places

    @property
    def head(self) -> dict | None:
        """The first line; None of an empty file, or if the line is damaged."""
        if not self.path.is_file():
            return None
        return next((entry for place, entry in lines(self.path) if place == 0), None)

    def begin(self, head: dict) -> None:
        """Replace the file by one with this first line, which has no key."""
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(head) + "\n")
        self.places.clear()

    def find(self, name: str | None) -> dict | None:
        """The last line of a key, if there is one."""
        place = self.places.get(name) if name is not None else None
        if place is None:
            return None
        with open(self.path, "rb") as file:
            file.seek(place)
            return json.loads(file.readline())

    def entries(self) -> Iterator[dict]:
        """The last line of each key, in the order of the file."""
        if self.places:
            for place, entry in lines(self.path):
                if self.places.get(entry.get(self.key, "")) == place:
                    yield entry

    def add(self, entry: dict) -> None:
        """Write a line, at once.

        Raises
        ------
        InputError
            The line cannot be written, as on a full disk. The earlier ones are there.
        """
        assert self._file is not None  # it is used in a `with` statement
        try:
            place = self._file.seek(0, 2)
            begin = b"\n" if place and not self._ends_a_line() else b""
            line = begin + json.dumps(entry).encode() + b"\n"
            if self._file.write(line) != len(line):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        except OSError as error:
            raise unwritable(self.path, error) from error
        if isinstance(name := entry.get(self.key), str):
            self.places[name] = place + len(begin)

    def _ends_a_line(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"


def beside(out: Path) -> Path:
    """Where the journal of an output file is."""
    return out.parent / f".{out.name}.jsonl"


def lines(path: Path) -> Iterator[tuple[int, dict]]:
    """The places and contents of the whole lines of a file, without those that are damaged.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            place = 0
            for line in file:
                try:
                    entry = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:  # incomplete after a loss of power
                    entry = None
                if isinstance(entry, dict):
                    yield place, entry
                place += len(line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
