"""Lists of names of labels: files with one name per line; what follows a # is a comment."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from denser.io.files import replacing
from denser.types.errors import InputError


def read_names(path: str | Path) -> tuple[str, ...]:
    """Names in a file.

    Raises
    ------
    InputError
        The file cannot be read as text.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read as a list of names ({error}); name a file with one per line, "
            "or write a list"
        ) from error
    return tuple(name for line in lines if (name := line.partition("#")[0].strip()))


def write_names(path: Path, names: Iterable[str]) -> None:
    """Write names into a file, through a temporary one."""
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names))
