"""Fast text of large arrays: the result of '%13.5E', computed by array operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BufferedIOBase

import numpy as np

from denser.types.errors import InputError

_LIMIT = 99
# 10^k for every k that brings a number between 1e-99 and 1e99 to at most 17 digits.
_POWERS = np.array([float(f"1e{k}") for k in range(-_LIMIT, _LIMIT + 18)])
_EXPONENTS = np.frombuffer(
    b"".join(b"E%+03d" % k for k in range(-_LIMIT, _LIMIT + 1)), dtype=np.uint32
)
_CHUNK = 1 << 16


def exponential(values: np.ndarray, decimals: int) -> np.ndarray:
    """Return `values` in exponential notation as ASCII codes (n, decimals + 8), uint8.

    Each row equals `f"{value:{decimals + 8}.{decimals}E}"`, correctly rounded. There is a
    blank before each number, and the exponent has two digits, so columns never touch. Numbers
    smaller than 1e-99 become zero, and zero has no sign.

    Raises
    ------
    InputError
        A value that rounds to 1e99 or more.
    """
    values = np.asarray(values, dtype=np.float64)
    width = decimals + 8
    magnitude = np.abs(values)
    magnitude[magnitude < 10.0**-_LIMIT] = 0.0
    if magnitude.size and magnitude.max() >= 9.9e98:
        raise InputError(f"values of {magnitude.max():.3g} are too large for a text format")

    exponent = np.log10(magnitude, where=magnitude > 0, out=np.zeros_like(magnitude))
    exponent = np.floor(exponent, out=exponent).astype(np.int32)
    scaled = magnitude * _POWERS[_LIMIT + decimals - exponent]
    # log10 may miss by one next to a power of ten.
    low = (scaled < 10.0**decimals) & (magnitude > 0)
    high = scaled >= 10.0 ** (decimals + 1)
    for missed, step in ((low, -1), (high, 1)):
        if missed.any():
            exponent[missed] += step
            scaled[missed] = magnitude[missed] * _POWERS[_LIMIT + decimals - exponent[missed]]
    digits = np.rint(scaled)
    # So close to a tie, the rounding error of the product matters.
    doubtful = np.abs(np.abs(scaled - digits) - 0.5) < 1e-15 * 10.0 ** (decimals + 1)
    ten = digits >= 10.0 ** (decimals + 1)
    if ten.any():
        digits[ten] = 10.0**decimals
        exponent[ten] += 1
    remaining = digits.astype(np.int32 if decimals < 9 else np.int64)

    text = np.empty((values.size, width), dtype=np.uint8)
    text[:, 0] = ord(" ")
    text[:, 1] = np.where((values < 0) & (magnitude > 0), ord("-"), ord(" "))
    text[:, 3] = ord(".")
    for column in (*range(decimals + 3, 3, -1), 2):
        quotient = remaining // 10
        text[:, column] = remaining - 10 * quotient + ord("0")
        remaining = quotient
    text[:, -4:].view(np.uint32)[:, 0] = _EXPONENTS[exponent + _LIMIT]
    for i in np.flatnonzero(doubtful):
        text[i] = np.frombuffer(b"%*.*E" % (width, decimals, values[i]), dtype=np.uint8)
    return text


def write_lines(
    file: BufferedIOBase, parts: Iterable[np.ndarray], per_line: int, decimals: int
) -> None:
    """Write the numbers of all parts (n,), one after another, in lines of `per_line`."""
    rest = np.empty(0)
    for part in parts:
        part = np.concatenate([rest, part]) if rest.size else part
        whole = part.size // per_line * per_line
        rest = part[whole:].copy()
        if whole:
            for block in lines(part[:whole].reshape(-1, per_line), per_line, decimals):
                file.write(block.data)
    if rest.size:
        for block in lines(rest[None], per_line, decimals):
            file.write(block.data)


def lines(values: np.ndarray, per_line: int, decimals: int) -> Iterator[np.ndarray]:
    """Yield the text of `values` (n_rows, n_columns) piece by piece, as uint8.

    Each row is cut in lines of `per_line` numbers and ends with a line end.
    """
    n_columns = values.shape[1]
    width = decimals + 8
    n_full, rest = divmod(n_columns, per_line)
    full_bytes = n_full * (per_line * width + 1)
    row_bytes = full_bytes + (rest * width + 1 if rest else 0)
    step = max(1, _CHUNK // n_columns)
    for start in range(0, len(values), step):
        chunk = values[start : start + step]
        n_rows = len(chunk)
        text = exponential(chunk.reshape(-1), decimals).reshape(n_rows, n_columns * width)
        block = np.full((n_rows, row_bytes), ord("\n"), dtype=np.uint8)
        full = block[:, :full_bytes].reshape(n_rows, n_full, per_line * width + 1)  # a view
        full[:, :, :-1] = text[:, : n_full * per_line * width].reshape(
            n_rows, n_full, per_line * width
        )
        if rest:
            block[:, full_bytes:-1] = text[:, n_full * per_line * width :]
        yield block
