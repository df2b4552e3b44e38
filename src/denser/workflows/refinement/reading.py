"""Models and reflections from CIF and SHELX files, with cctbx's CIF reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import iotbx.cif
import numpy as np

from denser.io.files import read_bytes
from denser.types.errors import InputError
from denser.workflows.refinement.model import check_reflections, column, read_hklf4

_INTENSITIES = (
    ("_refln_F_squared_meas", "_refln_F_squared_sigma"),
    ("_refln_intensity_meas", "_refln_intensity_sigma"),
    ("_refln_intensity_meas", "_refln_intensity_u"),
    ("_diffrn_refln_intensity_net", "_diffrn_refln_intensity_u"),
    ("_diffrn_refln_intensity_net", "_diffrn_refln_intensity_sigma"),
)

Reflections = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Indices (n, 3), intensities (n,) and their standard uncertainties (n,)."""


def first_line(error: BaseException) -> str:
    """First line of an error's text, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def block_with_atoms(path: Path) -> Any:
    """The only block of a CIF that holds atoms.

    Raises
    ------
    InputError
        The file cannot be read, or has none or several of them.
    """
    blocks = _blocks(path)
    found = [name for name, b in blocks.items() if b.get("_atom_site_fract_x") is not None]
    if len(found) != 1:
        names = f" ({', '.join(found)}); write one of them into a file" if found else ""
        raise InputError(f"{path}: expected one block with atoms, found {len(found)}{names}")
    return blocks[found[0]]


def reflections(block: Any, model: str, data: str | None) -> tuple[np.ndarray, ...]:
    """Indices, intensities and sigmas, from `data` or from the block of the model.

    Raises
    ------
    InputError
        There are none, or they cannot be used.
    """
    if data is None:
        embedded = block.get("_shelx_hkl_file") or block.get("_iucr_refine_reflections_data")
        if embedded:
            return read_hklf4(embedded, f"{model} (_shelx_hkl_file)")
        found = _of_loop(block, model)
        if found is None:
            raise InputError(f"{model}: has no reflections; name a file with them after the model")
        return found
    text = read_bytes(Path(data)).decode("utf-8", "replace")
    if re.search(r"^\s*(data_|loop_)", text, re.MULTILINE | re.IGNORECASE) is None:
        return read_hklf4(text, data)
    for other in _blocks(Path(data)).values():
        embedded = other.get("_shelx_hkl_file")
        if embedded:
            return read_hklf4(embedded, f"{data} (_shelx_hkl_file)")
        found = _of_loop(other, data)
        if found is not None:
            return found
    raise InputError(f"{data}: has no intensities with sigmas (such as {_INTENSITIES[0][0]})")


def _blocks(path: Path) -> Any:
    text = read_bytes(path).decode("utf-8", "replace")
    try:
        return iotbx.cif.reader(input_string=text).model()
    except Exception as error:  # cctbx raises many kinds
        raise InputError(f"{path}: is not a CIF that can be read ({first_line(error)})") from error


def _of_loop(block: Any, name: str) -> Reflections | None:
    for items in _INTENSITIES:
        if any(block.get(item) is None for item in items):
            continue
        prefix = "_diffrn_refln" if items[0].startswith("_diffrn") else "_refln"
        columns = [
            column(block, item) or [] for item in (*(f"{prefix}_index_{i}" for i in "hkl"), *items)
        ]
        if len({len(values) for values in columns}) > 1 or not columns[0]:
            raise InputError(f"{name}: its reflections lack indices h, k and l")
        rows = [
            (i, row) for i, row in enumerate(zip(*columns, strict=True), start=1)
            if row[3] not in (".", "?")
        ]  # fmt: skip
        try:
            hkl = np.array([[int(x) for x in row[:3]] for _, row in rows])
            values = np.array([[float(x.partition("(")[0]) for x in row[3:]] for _, row in rows])
        except ValueError as error:
            raise InputError(f"{name}: a reflection is no number ({error})") from error
        if not rows:
            raise InputError(f"{name}: none of its reflections has an intensity")
        intensity, sigma = values.T.copy()
        check_reflections(hkl, intensity, sigma, [f"{name}: row {i}" for i, _ in rows])
        return hkl, intensity, sigma
    return None
