"""Many densities and other fields in one Zarr group: `GROUP.zarr/NAME` is one array of it.

An array has the shape of its grid, (nx, ny, nz), or (2, nx, ny, nz) for a density and its spin
density. Its attributes are the keys of an .npz of this package (`denser.io.npz`) but the values,
as plain JSON: `format`, `unit`, `origin`, `cell`, `numbers`, `positions`, ... An array is
lossless, compressed, and two files (more for grids beyond 256 nodes along an axis). It is made
under a temporary name and then renamed. So several processes may write into one group, what was
written stays whole if one of them is killed, and groups are merged by moving arrays from one folder
to the other.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from denser.io import npz
from denser.io.files import make_folder, unwritable, writable_slabs
from denser.types.density import Density, Field
from denser.types.errors import InputError

SUFFIX = ".zarr"

_META = "zarr.json"

_LARGEST_CHUNK = 256
"""Nodes along an axis of a part that is compressed together: 64 MiB in single precision."""


def is_group(path: str | Path) -> bool:
    """Whether a path is, or would be, a group."""
    return Path(path).suffix.lower() == SUFFIX


def is_member(path: str | Path) -> bool:
    """Whether a path is, or would be, an array of a group."""
    return is_group(Path(path).parent) and not is_group(path)


def members(group: Path) -> list[Path]:
    """The arrays of a group, by name.

    Raises
    ------
    InputError
        The group is missing, cannot be read, or holds no array.
    """
    try:
        with os.scandir(group) as entries:
            names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{group}: cannot be read ({error.strerror})") from error
    found = [group / name for name in sorted(names) if (group / name / _META).is_file()]
    if not found:
        raise InputError(f"{group}: holds no density; denser predict -o {group.name} writes some")
    return found


def with_members(files: Sequence[Path]) -> list[Path]:
    """The files, with the arrays of a group in its place; a group without any stays."""
    found: list[Path] = []
    for path in files:
        try:
            found += members(path) if is_group(path) and path.is_dir() else [path]
        except InputError:  # which its reader will report
            found.append(path)
    return found


def require_zarr() -> Any:
    """The module zarr, or an InputError."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(
            "Zarr groups need zarr (pip install 'denser[zarr]'); or write .npz files"
        ) from error
    return zarr


def write(path: str | Path, obj: Field) -> None:
    """Write a Field or a Density as an array of a group, which is made if it is not there.

    Raises
    ------
    InputError
        zarr is missing, values are not finite and real, or the target cannot be written.
    """
    path, zarr = Path(path), require_zarr()
    fields, attributes = [obj], npz.description(obj)
    if isinstance(obj, Density) and obj.spin_density is not None:
        fields = [obj, obj.spin_density]
    lead = (2,) if len(fields) == 2 else ()
    make_folder(path.parent)
    with _replacing(path) as temporary:
        if not (path.parent / _META).exists():
            zarr.open_group(path.parent, mode="a", zarr_format=3)
        parts = [writable_slabs(path, one) for one in fields]
        firsts = [next(slabs) for slabs in parts]
        array = zarr.create_array(
            temporary,
            shape=(*lead, *obj.grid.shape),
            dtype=np.result_type(*firsts),
            chunks=(*(1 for _ in lead), *(min(n, _LARGEST_CHUNK) for n in obj.grid.shape)),
            compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"),
            chunk_key_encoding={"name": "v2", "separator": "."},
            dimension_names=("spin", "x", "y", "z")[1 - len(lead) :],
            attributes={name: _plain(value) for name, value in attributes.items()},
            zarr_format=3,
            config={"write_empty_chunks": True},  # `read` counts them
        )
        for i, (first, slabs) in enumerate(zip(firsts, parts, strict=True)):
            start = 0
            for values in chain([first], slabs):
                stop = start + len(values)
                array[(i, slice(start, stop)) if lead else slice(start, stop)] = values
                start = stop


def read(path: str | Path) -> Field | Density:
    """Read an array of a group; a Density if it has atoms.

    Raises
    ------
    InputError
        zarr is missing, or the array is missing, damaged or not of this package.
    """
    path, zarr = Path(path), require_zarr()
    if not (path / _META).is_file():
        raise InputError(f"{path}: no such array; check the name")
    try:
        array = zarr.open_array(path, mode="r")
        n_chunks = array.nchunks, sum(name.name != _META for name in path.iterdir())
        values = np.asarray(array[...])
        arrays = {name: np.asarray(value) for name, value in dict(array.attrs).items()}
    except Exception as error:  # those of zarr, of its codecs and of the system are many
        raise InputError(
            f"{path}: not a complete array ({type(error).__name__}: {error}); make or copy it again"
        ) from error
    if n_chunks[0] != n_chunks[1]:  # zarr takes those that are missing for zeros
        raise InputError(
            f"{path}: {n_chunks[1]} of {n_chunks[0]} parts are there; make or copy it again"
        )
    if values.ndim == 4:
        values, arrays["spin_density"] = values
    return npz.from_arrays(path, arrays | {"values": values})


def _plain(value: Any) -> Any:
    """JSON of an attribute, which gives the same number again."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """As `denser.io.files.replacing`, of an array; the temporary one is beside the group.

    So a group never shows an array that a killed process left incomplete.
    """
    if path.exists() and not (path / _META).is_file():
        raise InputError(f"{path}: cannot be written (no array of Zarr); choose another name")
    mark = secrets.token_hex(6)
    temporary, earlier = (path.parent.parent / f".denser-{mark}.{x}" for x in ("tmp", "old"))
    try:
        yield temporary
        if path.exists():
            path.rename(earlier)
        temporary.rename(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        for rest in (temporary, earlier):
            shutil.rmtree(rest, ignore_errors=True)
