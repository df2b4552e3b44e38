"""VTK image data (.vti) for ParaView and PyVista; they are written but not read.

A file has an XML header and the values as raw little-endian binary data in single precision, with
x as the fastest index. Lengths are in angstrom. The name of the array contains its unit, as in
`density (e/angstrom^3)`. Densities are converted to this unit, so that an integral over the volume
is a number of electrons; other fields are not converted. Image data cannot contain atoms as
objects, so they are stored as the field data `atomic_numbers` and `atomic_positions_angstrom`.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from denser.io.files import DENSITY_UNIT, writable_slabs, writing
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

_TYPES = {"<f4": "Float32", "<i4": "Int32", "<f8": "Float64"}


def write(path: str | Path, obj: Field) -> None:
    """Write a Field, or a Density with its atoms.

    Raises
    ------
    InputError
        A box that is not rectangular, values that are not finite and real or too large for
        single precision, or a target that cannot be written.
    """
    path = Path(path)
    name, factor = f"field ({obj.unit})", 1.0
    if obj.unit == DENSITY_UNIT:
        name, factor = "density (e/angstrom^3)", BOHR**-3
    lengths = np.linalg.norm(obj.grid.cell, axis=1)
    direction = obj.grid.cell / lengths[:, None]
    if not np.allclose(direction @ direction.T, np.eye(3), rtol=0, atol=1e-6):
        raise InputError(
            f"{path}: VTK image data needs a rectangular box, but this one is skewed; "
            "write .cube or .npz"
        )
    arrays: dict[str, np.ndarray] = {}
    if isinstance(obj, Density):
        arrays["atomic_numbers"] = obj.structure.numbers.astype("<i4")
        arrays["atomic_positions_angstrom"] = (obj.structure.positions * BOHR).astype("<f8")
    header = _header(obj.grid, lengths, direction, name, arrays)
    with writing(path) as file:
        file.write(header.encode())
        file.write(np.array(4 * obj.grid.size, dtype="<u8").data)
        for values in writable_slabs(path, obj, axis=2):
            with np.errstate(over="ignore"):
                values = np.ravel(values * factor, order="F").astype("<f4")
            if not np.isfinite(values).all():
                raise InputError(f"{path}: some values are too large for single precision")
            file.write(values.data)
        for data in arrays.values():
            file.write(np.array(data.nbytes, dtype="<u8").data)
            file.write(np.ascontiguousarray(data).data)
        file.write(b"\n  </AppendedData>\n</VTKFile>\n")


def read(path: str | Path) -> Field:
    """Raise an InputError: images are made for ParaView, not for reading back."""
    raise InputError(
        f"{path}: VTK images are written for ParaView and not read; keep the .npz or .cube"
    )


def _header(
    grid: Grid,
    lengths: np.ndarray,
    direction: np.ndarray,
    title: str,
    arrays: dict[str, np.ndarray],
) -> str:
    """XML up to the binary data: the values of this title, then the field data `arrays`."""
    offset, elements = 0, []

    def add(name: str, kind: str, components: int, n: int) -> None:
        nonlocal offset
        elements.append(
            f'<DataArray type="{_TYPES[kind]}" Name={quoteattr(name)} '
            f'NumberOfComponents="{components}" NumberOfTuples="{n}" '
            f'format="appended" offset="{offset}"/>'
        )
        offset += 8 + components * n * np.dtype(kind).itemsize

    add(title, "<f4", 1, grid.size)
    for name, data in arrays.items():
        add(name, data.dtype.str, data.shape[1] if data.ndim == 2 else 1, len(data))
    values, *atoms = elements
    extent = " ".join(f"0 {n - 1}" for n in grid.shape)
    image = {
        "WholeExtent": extent,
        "Origin": _row(grid.origin * BOHR),
        "Spacing": _row(lengths * BOHR / np.asarray(grid.shape)),
        "Direction": _row(direction.T.ravel()),  # its columns are the directions of the axes
    }
    return f"""<?xml version="1.0"?>
<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
  <ImageData {" ".join(f'{key}="{value}"' for key, value in image.items())}>
    <FieldData>{"".join(atoms)}</FieldData>
    <Piece Extent="{extent}">
      <PointData Scalars={quoteattr(title)}>{values}</PointData>
    </Piece>
  </ImageData>
  <AppendedData encoding="raw">
_"""


def _row(values: np.ndarray) -> str:
    return " ".join(f"{value:.12g}" for value in values)
