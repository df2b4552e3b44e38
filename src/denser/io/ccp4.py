"""CCP4 / MRC maps (.ccp4, .map, .mrc), through gemmi.

In the file a density is in e/angstrom^3, as crystallographic and microscopy programs expect. Any
other field is in its own unit, which the first label names. Maps are written in single precision
(mode 2), in space group P1, with the axes in the order x, y, z. The header contains the lengths
and angles of the box but not its orientation: the first vector is along x, the second in the xy
plane. A map has no atoms.

The first node is at the MRC ORIGIN (words 50 to 52, angstrom), which ChimeraX, PyMOL and this
package read. gemmi and Coot read NSTART instead, a whole number of nodes: it is that of the nearest
place, which is exact if the origin is a whole number of nodes from zero, and otherwise off by
at most half a node.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path

import gemmi
import numpy as np

from denser.io.files import (
    COMPRESSED,
    DENSITY_UNIT,
    naming,
    read_bytes,
    writable_slabs,
    writing,
)
from denser.types.arrays import seal
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

_BYTES = {0: 1, 1: 2, 2: 4, 6: 2}
"""Bytes per value of the modes that gemmi reads."""

# Words of the header, counted from 1.
_N, _MODE, _START, _SAMPLING, _CELL, _NSYMBT = 1, 4, 5, 8, 11, 24
_STATISTICS = 20, 21, 22, 55
_ORIGIN, _N_LABELS, _LABEL = 50, 56, 57
_HEADER = 1024  # bytes


def write(path: str | Path, obj: Field) -> None:
    """Write a density as a map in e/angstrom^3, another field in its own unit, without atoms.

    Raises
    ------
    InputError
        Values are not finite and real, the orientation of the box is not that
        of the format, or the target cannot be written.
    """
    path = Path(path)
    is_density = obj.unit == DENSITY_UNIT
    vectors = obj.grid.cell * BOHR
    lengths = np.linalg.norm(vectors, axis=1)
    unit = vectors / lengths[:, None]
    cosines = np.clip([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]], -1, 1)
    cell = gemmi.UnitCell(*lengths, *np.degrees(np.arccos(cosines)))
    if not np.allclose(np.array(cell.orth.mat.tolist()).T, vectors, rtol=0, atol=1e-5):
        raise InputError(
            f"{path}: a map needs a box with its first vector along x and its second in the xy "
            "plane; write .cube or .npz"
        )

    ccp4_map = gemmi.Ccp4Map()
    ccp4_map.grid = gemmi.FloatGrid(np.zeros((1, 1, 1), np.float32), cell, gemmi.SpaceGroup("P 1"))
    ccp4_map.update_ccp4_header(2, True)
    for i, n in enumerate(obj.grid.shape):
        ccp4_map.set_header_i32(_N + i, n)
        ccp4_map.set_header_i32(_SAMPLING + i, n)
    start = np.round(np.linalg.solve(obj.grid.cell.T, obj.grid.origin) * obj.grid.shape)
    for i, (x, n) in enumerate(zip(obj.grid.origin * BOHR, start, strict=True)):
        ccp4_map.set_header_float(_ORIGIN + i, float(x))
        ccp4_map.set_header_i32(_START + i, int(n))
    ccp4_map.set_header_i32(_N_LABELS, 1)
    what = "electron density in e/angstrom^3" if is_density else f"values in {obj.unit}"
    ccp4_map.set_header_str(_LABEL, f"denser: {what}".ljust(80)[:80])

    def slabs() -> Iterator[np.ndarray]:
        for values in writable_slabs(path, obj, axis=2):
            with np.errstate(over="ignore"):
                values = (values / BOHR**3 if is_density else values).astype(np.float32)
            if not np.isfinite(values).all():
                raise InputError(f"{path}: some values are too large for a map (single precision)")
            yield values

    statistics = _Statistics()
    compressed = path.suffix.lower() in COMPRESSED
    # gemmi's own writer would not report a full disk.
    with writing(path) as file:
        if compressed:  # one cannot go back in it
            for values in slabs():
                statistics.add(values)
            statistics.put(ccp4_map)
        file.write(ccp4_map.ccp4_header)
        for values in slabs():
            statistics.add(values)
            file.write(np.ravel(values, order="F").data)
        if not compressed:
            statistics.put(ccp4_map)
            file.seek(0)
            file.write(ccp4_map.ccp4_header)


class _Statistics:
    """Smallest, largest and mean value, and the standard deviation, of several parts."""

    def __init__(self) -> None:
        self.low, self.high, self.n, self.sum, self.squares = np.inf, -np.inf, 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Count the values of a part."""
        self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
        self.n += values.size
        self.sum += float(values.sum(dtype=np.float64))
        self.squares += float(np.square(values, dtype=np.float64).sum())

    def put(self, ccp4_map: gemmi.Ccp4Map) -> None:
        """Write them into a header."""
        mean = self.sum / self.n
        deviation = max(self.squares / self.n - mean**2, 0.0) ** 0.5
        for word, value in zip(_STATISTICS, (self.low, self.high, mean, deviation), strict=True):
            ccp4_map.set_header_float(word, float(value))


def read(path: str | Path) -> Field:
    """Read a map (float64); its unit is e/angstrom^3 unless our own label names another.

    A density is converted to e/bohr^3.

    The box is that of the nodes in the file: symmetry is not applied, and a map of a part of the
    unit cell gives a box of that part. The first node is at ORIGIN or, if that is zero, at the
    position of NSTART. All orders of axes and both byte orders are accepted.

    Raises
    ------
    InputError
        A missing, truncated or malformed file.
    """
    path = Path(path)
    data = read_bytes(path)
    _check_size(path, data)
    try:
        with tempfile.NamedTemporaryFile(suffix=".ccp4") as plain:  # `path` may be compressed
            plain.write(data)
            plain.flush()
            ccp4_map = gemmi.read_ccp4_map(plain.name)
        skewed = ccp4_map.has_skew_transformation()
        ccp4_map.setup(float("nan"), gemmi.MapSetup.ReorderOnly)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a map ({error})") from error
    if skewed:
        raise InputError(f"{path}: expected no skew transformation in the map; resample it")

    values = np.array(ccp4_map.grid, dtype=np.float64)
    label = re.fullmatch(r"denser: values in (\S.*)", _label(data))
    if label is None:
        values *= BOHR**3
    if not np.isfinite(values).all():
        raise InputError(f"{path}: the map has values that are not finite; make it again")
    start, sampling = (
        np.array([ccp4_map.header_i32(word + i) for i in range(3)]) for word in (_START, _SAMPLING)
    )
    if sampling.min() < 1:
        raise InputError(f"{path}: expected positive sampling in the header, found {sampling}")
    # The header itself: gemmi rounds the cell of a grid to five decimals.
    unit_cell = gemmi.UnitCell(*(ccp4_map.header_float(_CELL + i) for i in range(6)))
    steps = np.array(unit_cell.orth.mat.tolist()).T / sampling[:, None]
    origin = np.array([ccp4_map.header_float(_ORIGIN + i) for i in range(3)])
    if not origin.any():
        origin = start @ steps
    with naming(path):
        cell = steps * np.asarray(values.shape)[:, None]
        return Field(
            Grid(origin / BOHR, cell / BOHR, values.shape),
            seal(values),
            label[1] if label else DENSITY_UNIT,
        )


def _label(data: bytes) -> str:
    """First label of the header."""
    start = 4 * (_LABEL - 1)
    return data[start : start + 80].decode("latin-1").strip(" \0")


def _check_size(path: Path, data: bytes) -> None:
    """Raise InputError unless the file is as long as its header says.

    Without this check, gemmi would allocate the memory that a damaged header asks for.
    """
    if len(data) < _HEADER or data[208:212] != b"MAP ":
        raise InputError(f"{path}: not a CCP4 or MRC map; check the file")
    words = np.frombuffer(data[:_HEADER], ">i4" if data[212] == 0x11 else "<i4").tolist()
    shape, mode, extended = words[_N - 1 : _N + 2], words[_MODE - 1], words[_NSYMBT - 1]
    if mode not in _BYTES or min(shape) < 1 or extended < 0:
        raise InputError(
            f"{path}: expected a map of mode {', '.join(map(str, _BYTES))}, found mode {mode} "
            f"and {shape} points; make it again as mode 2"
        )
    expected = _HEADER + extended + prod(shape) * _BYTES[mode]
    if len(data) < expected:
        raise InputError(
            f"{path}: expected {expected} bytes, found {len(data)}; the file is truncated, make "
            "or copy it again"
        )
