"""Names of files that users give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from denser.types.errors import InputError


def file_path(name: Any, what: str = "a file name") -> Path:
    """Path of a file that a user names.

    Parameters
    ----------
    name : str or Path
    what : str
        What was expected, for the error.

    Raises
    ------
    InputError
        An empty name, or something else than a str or a Path.
    """
    if not isinstance(name, str | Path):
        raise InputError(f"expected {what}, found {type(name).__name__}")
    if isinstance(name, str) and not name.strip():
        raise InputError(f"expected {what}, found an empty text")
    return Path(name)
