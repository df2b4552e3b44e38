"""NumPy archives (.npz) of this package: lossless, compressed, readable with `numpy.load`.

Keys: `format`, `unit`, `values`, `origin` and `cell` (of the grid, bohr); with atoms also
`numbers`, `positions` (bohr), `charge`, `valence_charges`, `all_electron` (false where a file has
no such key), `spin` and, where it is known, `spin_density` (unpaired e/bohr^3), and
`structure_cell` (bohr) if the structure is periodic.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from denser.io.files import COMPRESSED, naming, read_bytes, writable_slabs, writing
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

FORMAT = "denser-density-1"

# Errors of zipfile, zlib and NumPy for truncated or partly overwritten archives; the
# AttributeError and TypeError come from a lone .npy array and from array headers.
_DAMAGED = (
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def write(path: str | Path, obj: Field) -> None:
    """Write a Field or a Density, the values in their own dtype.

    Raises
    ------
    InputError
        Values that are not finite and real, or a target that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() in COMPRESSED:
        raise InputError(f"{path}: an .npz is compressed already; leave out {path.suffix}")
    fields = {"values": obj}
    if isinstance(obj, Density) and obj.spin_density is not None:
        fields["spin_density"] = obj.spin_density
    # as np.savez_compressed, which takes whole arrays only
    with writing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, field in fields.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write_array(member, writable_slabs(path, field), obj.grid.shape)
        for name, value in description(obj).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(value), allow_pickle=False)


def _write_array(file: IO[bytes], slabs: Iterator[np.ndarray], shape: tuple[int, int, int]) -> None:
    """Write slabs of an array along its first axis as an .npy file."""
    for i, values in enumerate(slabs):
        if i == 0:
            kind = np.lib.format.dtype_to_descr(values.dtype)
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for plane in values:
            file.write(np.ascontiguousarray(plane).data)


def description(obj: Field) -> dict[str, Any]:
    """All keys of a Field or a Density but its values and those of its spin density."""
    found: dict[str, Any] = {
        "format": FORMAT,
        "unit": obj.unit,
        "origin": obj.grid.origin,
        "cell": obj.grid.cell,
    }
    if not isinstance(obj, Density):
        return found
    structure = obj.structure
    found |= {
        "numbers": structure.numbers,
        "positions": structure.positions,
        "charge": structure.charge,
        "spin": structure.spin,
        "valence_charges": obj.valence_charges,
        "all_electron": obj.all_electron,
    }
    return found if structure.cell is None else found | {"structure_cell": structure.cell}


def read(path: str | Path) -> Field | Density:
    """Read a file of this package; a Density if it has atoms.

    Raises
    ------
    InputError
        A missing or damaged file, or an archive of something else.
    """
    path = Path(path)
    return from_arrays(path, _arrays(path))


def from_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Field | Density:
    """The Field or Density of all keys, which are those of the file `path`.

    Raises
    ------
    InputError
        A key is missing, or they are of something else.
    """
    found = str(arrays.get("format", "no format"))
    if found != FORMAT:
        raise InputError(f"{path}: expected a density ({FORMAT}), found {found}")
    try:
        with naming(path):
            values, unit = seal(arrays["values"]), str(arrays["unit"])
            grid = Grid(arrays["origin"], arrays["cell"], values.shape)
            if "numbers" not in arrays:
                return Field(grid, values, unit)
            structure = Structure(
                arrays["numbers"],
                arrays["positions"],
                int(arrays["charge"]),
                arrays.get("structure_cell"),
                spin=int(arrays["spin"]) if "spin" in arrays else None,
            )
            density = Density(
                grid,
                values,
                unit,
                structure=structure,
                valence_charges=arrays["valence_charges"],
                all_electron=bool(arrays.get("all_electron", False)),
            )
            if "spin_density" in arrays:
                density = density.with_spin_density(seal(arrays["spin_density"]))
            return density
    except KeyError as error:
        raise InputError(f"{path}: has no {error}; it is damaged, make or copy it again") from error


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of an archive."""
    data = read_bytes(path)
    try:
        with np.load(BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive}
    except _DAMAGED as error:
        raise InputError(
            f"{path}: not a complete .npz archive ({error}); make or copy it again"
        ) from error
