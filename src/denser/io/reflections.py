"""Structure factors as reflection files: MTZ (.mtz) and mmCIF (.cif, .ent), through gemmi.

Columns FC (amplitude) and PHIC (phase in degrees) of F = |F| exp(+i phase); the cell is in
angstrom. An mmCIF file has them as `_refln.F_calc` and `_refln.phase_calc`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from denser.io.files import read_bytes, replacing
from denser.types.errors import InputError
from denser.types.units import BOHR

if TYPE_CHECKING:
    pass

SUFFIXES = (".mtz", ".cif", ".ent")
"""Suffixes of reflection files."""


def unit_cell(cell: np.ndarray) -> gemmi.UnitCell:
    """Return gemmi's UnitCell of a cell in bohr (3, 3)."""
    lengths = np.linalg.norm(cell, axis=1)
    a, b, c = cell / lengths[:, None]
    angles = np.degrees(np.arccos(np.clip([b @ c, a @ c, a @ b], -1, 1)))
    return gemmi.UnitCell(*(lengths * BOHR), *angles.round(6))


def find_space_group(symbol: str) -> gemmi.SpaceGroup:
    """Return gemmi's SpaceGroup of a Hermann-Mauguin symbol.

    Raises
    ------
    InputError
        The symbol is unknown to gemmi.
    """
    found = gemmi.find_spacegroup_by_name(symbol)
    if found is None:
        raise InputError(f"unknown space group {symbol!r}; give a symbol such as 'P 21 21 21'")
    return found


def write(
    path: str | Path, hkl: np.ndarray, f_calc: np.ndarray, cell: np.ndarray, symbol: str = "P 1"
) -> None:
    """Write calculated structure factors.

    Parameters
    ----------
    path : Path
        `.mtz`, or `.cif` or `.ent` for mmCIF.
    hkl : (n, 3) int
        Moved into the asymmetric unit of reciprocal space that CCP4 uses.
    f_calc : (n,) complex
        Electrons (X-rays) or angstrom (electrons).
    cell : (3, 3) float
        Rows are vectors, bohr.
    symbol : str
        Hermann-Mauguin symbol of the space group.

    Raises
    ------
    InputError
        Another suffix, no reflections or values that are not finite, or a
        target that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: unknown format of reflections; use a name that ends in {', '.join(SUFFIXES)}"
        )
    box = unit_cell(cell)
    if len(hkl) == 0 or not np.isfinite(f_calc).all():
        raise InputError(f"{path}: structure factors must be finite numbers, at least one of them")
    mtz = gemmi.Mtz(with_base=True)
    mtz.title = "denser: structure factors of a computed electron density"
    mtz.spacegroup = find_space_group(symbol)
    mtz.set_cell_for_all(box)
    mtz.add_dataset("denser")
    mtz.set_cell_for_all(box)
    mtz.add_column("FC", "F")
    mtz.add_column("PHIC", "P")
    table = np.column_stack([hkl, np.abs(f_calc), np.degrees(np.angle(f_calc))])
    mtz.set_data(table.astype(np.float32))
    mtz.ensure_asu()
    mtz.sort()
    with replacing(path) as temporary:
        if path.suffix.lower() == ".mtz":
            mtz.write_to_file(str(temporary))
        else:
            temporary.write_text(gemmi.MtzToCif().write_cif_to_string(mtz))


def read(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Read FC and PHIC back: hkl (n, 3), F (n,) complex, cell (3, 3) in bohr, space group.

    The cell has its first vector along x and its second in the xy plane.

    Raises
    ------
    InputError
        A file that is missing, malformed or without the two columns.
    """
    path = Path(path)
    read_bytes(path)
    try:
        if path.suffix.lower() == ".mtz":
            mtz = gemmi.read_mtz_file(str(path))
        else:
            blocks = gemmi.as_refln_blocks(gemmi.cif.read(str(path)))
            mtz = gemmi.CifToMtz().convert_block_to_mtz(blocks[0])
    except (RuntimeError, ValueError, IndexError, OSError) as error:
        raise InputError(f"{path}: cannot be read as reflections ({error})") from error
    columns = {column.label: np.array(column, dtype=float) for column in mtz.columns}
    if not {"H", "K", "L", "FC", "PHIC"} <= columns.keys():
        raise InputError(f"{path}: expected columns FC and PHIC, found {', '.join(columns)}")
    hkl = np.stack([columns[name] for name in "HKL"], axis=1).astype(int)
    f_calc = columns["FC"] * np.exp(1j * np.radians(columns["PHIC"]))
    vectors = np.array(mtz.cell.orth.mat.tolist()).T / BOHR
    return hkl, f_calc, vectors, mtz.spacegroup.xhm()
