"""Functions for all formats: reading bytes, replacing files, checks before writing."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import secrets
import shutil
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from denser.types.density import Density, Field
from denser.types.errors import DiskFull, InputError

DENSITY_UNIT = "e/bohr^3"


COMPRESSED = (".gz", ".bz2", ".xz")
"""Suffixes of compressed files, which follow the suffix of the format."""

_COMPRESSIONS = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ\0", lzma.decompress),
)
"""First bytes of compressed files, and the function that restores their contents."""


def plain_name(path: str | Path) -> str:
    """Name of a file without its folder and without the suffix of a compression."""
    path = Path(path)
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


def read_toml(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file; an InputError if it cannot be read."""
    try:
        return tomllib.loads(read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})") from error


def read_bytes(path: Path) -> bytes:
    """Return the contents of a file, decompressed if it is a gzip, bzip2 or xz file.

    Raises
    ------
    InputError
        The file cannot be read, with the system's reason, or is a damaged compressed file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    for start, decompress in _COMPRESSIONS:
        if data.startswith(start):
            try:
                return decompress(data)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise InputError(
                    f"{path}: cannot be decompressed ({error}); make or copy it again"
                ) from error
    return data


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of the message of an InputError, unless it is there."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(f"{path}:"):
            raise
        raise InputError(f"{path}: {error}") from error


def make_folder(path: Path) -> None:
    """Create a folder with those above it, unless it is there.

    Raises
    ------
    InputError
        It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror})") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file beside `path` and rename it to `path` at the end.

    If the body fails, the temporary file is removed and an earlier `path` is untouched.

    Raises
    ------
    InputError
        The folder is missing, the target is no regular file or is write-protected, or the
        system refuses (no permission, disk full).
    """
    # A symbolic link is kept, and its target is replaced.
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise InputError(f"{path}: the folder {target.parent} does not exist; make it first")
    earlier = target.exists()
    if earlier and not target.is_file():
        raise InputError(f"{path}: cannot be written (not a regular file); choose another name")
    if earlier and not os.access(target, os.W_OK):
        raise InputError(f"{path}: cannot be written (write-protected); choose another name")
    temporary = target.with_name(f".denser-{secrets.token_hex(6)}.tmp")
    try:
        yield temporary
        if earlier:
            shutil.copymode(target, temporary)
        else:  # some writers leave a file that only its owner may read
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
        os.replace(temporary, target)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> InputError:
    """What to raise where a file cannot be written: DiskFull, or else an InputError."""
    if error.errno in (ENOSPC, EDQUOT):
        return DiskFull(
            f"{path}: cannot be written, the disk is full; make room and run the command again "
            "(with --resume, if it has it); what is written is kept"
        )
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}); choose another place"
    )


@contextmanager
def writing(path: Path) -> Iterator[BufferedIOBase]:
    """Yield a file to write bytes into, compressed if the suffix of `path` says so.

    As in `replacing`, an earlier file is kept if the body fails. An InputError of the body gets
    the name of the file.
    """
    with replacing(path) as temporary, naming(path):
        suffix = path.suffix.lower()
        if suffix == ".gz":
            # Neither name nor time: the same density gives the same file.
            with (
                open(temporary, "wb") as raw,
                gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file,
            ):
                yield file
        elif suffix in COMPRESSED:
            module = bz2 if suffix == ".bz2" else lzma
            with module.open(temporary, "wb") as file:
                yield file
        else:
            with open(temporary, "wb") as file:
                yield file


def writable_slabs(path: Path, obj: Field, axis: int = 0) -> Iterator[np.ndarray]:
    """Yield the values of `obj.slabs(axis)` if they are finite real numbers.

    Raises
    ------
    InputError
        They are not.
    """
    for values in obj.slabs(axis):
        if values.dtype.kind not in "fiub":
            raise InputError(
                f"{path}: only real values can be written, found {values.dtype}; "
                "write their real part or modulus"
            )
        n_bad = values.size - np.count_nonzero(np.isfinite(values))
        if n_bad:
            raise InputError(
                f"{path}: {n_bad} of {values.size} values are not finite; nothing was written"
            )
        yield values


def with_atoms(path: Path, obj: Field) -> Density:
    """Return `obj` if it has atoms, else raise InputError."""
    if isinstance(obj, Field) and not isinstance(obj, Density):
        raise InputError(
            f"{path}: this format needs atoms, and a Field has none; write it to .npz or .ccp4, "
            "or make it a Density"
        )
    return obj


def require_density_unit(path: Path, obj: Field) -> None:
    """Raise InputError unless the unit is e/bohr^3."""
    if obj.unit != DENSITY_UNIT:
        raise InputError(
            f"{path}: this format needs densities in {DENSITY_UNIT}, found values in "
            f"{obj.unit}; write them to .npz or .cube"
        )
