"""Reading of text formats: line numbers for messages, and fast reading of many values."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np

from denser.io.files import read_bytes
from denser.types.errors import InputError

_HUGE = 1e15  # no length or count, and its square would overflow somewhere


class TextReader:
    """A text file, read line by line; error messages contain the line number.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    last : str
        The line read last.

    Raises
    ------
    InputError
        The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line_number = 0
        self.last = ""
        self._text = read_bytes(path)
        self._position = 0

    def error(self, message: str) -> InputError:
        """Return an error that names the file and the line read last."""
        return InputError(f"{self.path}:{self.line_number}: {message}")

    def line(self) -> str:
        """Return the next line without its end."""
        self.line_number += 1
        if self._position >= len(self._text):
            raise self.error("the file ends too early; it seems truncated, make or copy it again")
        end = self._text.find(b"\n", self._position)
        end = len(self._text) if end < 0 else end
        line = self._text[self._position : end]
        self._position = end + 1
        self.last = line.decode("latin-1").rstrip("\r")
        return self.last

    def at_end(self) -> bool:
        """Whether only blanks are left."""
        return not self._text[self._position :].strip()

    def numbers(
        self,
        least: int,
        most: int | None = None,
        more: bool = False,
        skip_blank: bool = False,
    ) -> list[float]:
        """Return the numbers of the next line, from `least` to `most` of them.

        By default `most` is `least`; with `more`, further text on the line is ignored.
        """
        line = self.line()
        while skip_blank and not line.strip():
            line = self.line()
        fields = line.split()
        most = least if most is None else most
        if more:
            fields = fields[:most]
        try:
            found = [float(field) for field in fields]
        except ValueError:
            found = []
        if not least <= len(found) <= most or not all(abs(x) < _HUGE for x in found):
            raise self.error(f"expected {least} numbers, found {excerpt(line)}")
        return found

    def integer(self, number: float, what: str) -> int:
        """Return a number of the line read last as an int."""
        if not number.is_integer() or abs(number) >= 2**31:
            raise self.error(f"expected {what}, found {number:g}")
        return int(number)

    def values(self, count: int, until: bytes | None = None) -> np.ndarray:
        """Return the numbers that fill the rest of the file (count,), float64.

        Parameters
        ----------
        count : int
        until : bytes or None
            If given, the file may contain more than `count` numbers; it is read up to this
            word, or to its end.
        """
        text = self._text[self._position :]
        if until is not None and (end := text.find(until)) >= 0:
            text = text[:end]
        # This also prevents that a wrong count allocates more memory than the file is long.
        if count > (len(text) + 1) // 2:
            raise self._too_few(len(text.split()), count)
        values = _parse(text)
        if values is None:
            values = _parse(_repair(text))
        if values is None or not np.isfinite(values).all():
            raise self._bad_line(text)
        if values.size < count or _ends_in_number(text):
            raise self._too_few(values.size, count)
        if until is None and values.size > count:
            raise InputError(
                f"{self.path}: expected {count} values after line {self.line_number}, found "
                f"{values.size}; check the numbers of points in the header"
            )
        return values[:count]

    def past(self, pattern: bytes) -> int:
        """Go behind the next line that matches; return how many lines of the rest match it."""
        found = [match.end() for match in re.finditer(pattern, self._text[self._position :])]
        if found:
            end = self._position + found[0]
            self.line_number += self._text.count(b"\n", self._position, end)
            self._position = end
        return len(found)

    def _too_few(self, found: int, count: int) -> InputError:
        return InputError(
            f"{self.path}: expected {count} values after line {self.line_number}, found "
            f"{min(found, count - 1)}; the file seems truncated, make or copy it again"
        )

    def _bad_line(self, text: bytes) -> InputError:
        """Return the error for the first line of `text` that is not made of numbers."""
        for line in text.split(b"\n"):
            self.line_number += 1
            values = _parse(_repair(line))
            if values is None or not np.isfinite(values).all():
                found = excerpt(line.decode("latin-1"))
                return self.error(f"expected finite numbers, found {found}")
        return InputError(f"{self.path}: its values cannot be read as numbers")


def excerpt(line: str) -> str:
    """Return the beginning of a line, quoted, for a message."""
    line = line.strip()
    return ascii(line if len(line) <= 40 else line[:37] + "...")


def _parse(text: bytes) -> np.ndarray | None:
    """Return the numbers in a text, or None if it contains anything else."""
    if not text.strip():
        return np.empty(0)
    try:
        with warnings.catch_warnings():  # NumPy before 2.3 only warned
            warnings.simplefilter("error", DeprecationWarning)
            return np.fromstring(text, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        return None


def _repair(text: bytes) -> bytes:
    """Rewrite the numbers of Fortran programs and of overfull columns in the usual form.

    1.0D-05 becomes 1.0E-05, 1.0-100 becomes 1.0E-100, and 1.0E+00-2.0E-100 two numbers.
    """
    text = text.translate(bytes.maketrans(b"Dd", b"Ee"))
    text = re.sub(rb"(?<=[0-9.])([+-][0-9]{3})(?![0-9.])", rb"E\1", text)
    return re.sub(rb"(?<=[0-9.])(?=[+-])", b" ", text)


def _ends_in_number(text: bytes) -> bool:
    """Return True if the text stops, without a line end, in the middle of an exponent.

    A last line without a line end is allowed, since some programs write none.
    """
    if text[-1:].isspace():
        return False
    tail = text[-80:].upper().split()[-2:]
    exponential = any(b"E" in token for token in tail)
    return exponential and not re.search(rb"[E][+-]?[0-9]{2,}$", tail[-1])
