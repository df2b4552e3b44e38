"""What a small-molecule CIF and its reflections must offer; none of this needs cctbx."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from denser.types.errors import InputError

_FULL = 0.99
"""Smallest occupancy that counts as 1."""

_UNKNOWN = (None, "", ".", "?")


def number(text: str | None) -> float | None:
    """Value of a CIF item such as 5.578(6); None if it is unknown."""
    if text in _UNKNOWN:
        return None
    try:
        return float(str(text).partition("(")[0])
    except ValueError:
        return None


def column(block: Any, name: str) -> list[str] | None:
    """Values of a CIF item as a list, whether it is in a loop or alone."""
    found = block.get(name)
    if found is None:
        return None
    return [found] if isinstance(found, str) else [str(x) for x in found]


def element(symbol: str) -> int:
    """Atomic number of a type symbol such as C, Cl, D or O2-; 0 if it is no element."""
    match = re.match(r"[A-Za-z]{1,2}", symbol)
    if match is None:
        return 0
    name = match.group().capitalize()
    for candidate in (name, name[:1]):
        if candidate in ("D", "T"):
            return 1
        if candidate in atomic_numbers and candidate != "X":
            # "Xx" must not become an element of one letter, but "Cval" is carbon
            return atomic_numbers[candidate] if candidate == name or len(symbol) > 2 else 0
    return 0


def check_model(block: Any) -> list[int]:
    """Atomic numbers of the sites of a block.

    Raises
    ------
    InputError
        There is no cell, symmetry or site; an element is unknown; a site is disordered; labels
        repeat; or the data are twinned.
    """
    for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
        if number(block.get(f"_cell_{name}")) is None:
            raise InputError(f"the CIF has no usable _cell_{name}; a refinement needs the cell")
    symmetry = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz",
                "_space_group_name_Hall", "_symmetry_space_group_name_Hall",
                "_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M")  # fmt: skip
    if all(column(block, name) in (None, [], ["?"]) for name in symmetry):
        raise InputError("the CIF has no symmetry operations and no space group; add them")
    labels = column(block, "_atom_site_label")
    x = column(block, "_atom_site_fract_x")
    if not labels or not x:
        raise InputError("the CIF has no atoms with labels and fractional coordinates")
    symbols = column(block, "_atom_site_type_symbol") or labels
    _check_labels(labels)
    numbers = [element(symbol) for symbol in symbols]
    for label, symbol, z in zip(labels, symbols, numbers, strict=True):
        if not z:
            raise InputError(f"site {label}: unknown element {symbol!r}")
    for axis in "xyz":
        for label, text in zip(
            labels, column(block, f"_atom_site_fract_{axis}") or [], strict=True
        ):
            if number(text) is None:
                raise InputError(f"site {label} has no coordinate {axis} (found {text!r})")
    _check_order(block, labels)
    _check_commands(block.get("_shelx_res_file") or "")
    return numbers


def _check_labels(labels: Sequence[str]) -> None:
    seen: set[str] = set()
    for label in labels:
        if label.upper() in seen:
            raise InputError(f"label {label} occurs twice (capitals do not count); rename one site")
        seen.add(label.upper())


def _check_order(block: Any, labels: Sequence[str]) -> None:
    partial = [
        label
        for label, text in zip(labels, column(block, "_atom_site_occupancy") or [], strict=False)
        if (number(text) if number(text) is not None else 1.0) < _FULL  # type: ignore[operator]
    ]
    groups = column(block, "_atom_site_disorder_group") or []
    partial += [
        label
        for label, group in zip(labels, groups, strict=False)
        if group not in (".", "?", "0") and label not in partial
    ]
    if partial:
        raise InputError(
            f"disorder is not supported: {', '.join(partial[:5])}"
            f"{' and others' if len(partial) > 5 else ''} have an occupancy below 1 or a disorder "
            "group; give an ordered model"
        )


def _check_commands(res: str) -> None:
    """Refuse what the SHELXL instructions of the CIF ask for and is not done here."""
    for line in res.splitlines():
        words = line.split()
        if not words or line.startswith(" "):
            continue
        if words[0].upper() == "TWIN":
            raise InputError("the model is twinned (TWIN); twins are not supported")
        if words[0].upper() == "HKLF" and len(words) > 1:
            if words[1] != "4":
                raise InputError(f"the reflections are HKLF {words[1]}; only HKLF 4 is supported")
            matrix = [float(word) for word in words[3:12]]
            if len(matrix) == 9 and not np.allclose(matrix, np.eye(3).ravel()):
                raise InputError(
                    "the HKLF line transforms the indices; write the reflections in the cell of "
                    "the model"
                )


def check_hydrogens(formula: str | None, numbers: np.ndarray) -> None:
    """Raise an InputError if the cell lacks hydrogens that the formula has.

    Parameters
    ----------
    formula : str or None
        Formula of the CIF, such as 'C H4 N2 O'.
    numbers : (n,) int
        Atomic numbers of all atoms in the cell.
    """
    if formula in _UNKNOWN:
        return
    stated: dict[int, float] = {}
    for symbol, n in re.findall(r"([A-Z][a-z]?)\s*([\d.]*)", str(formula)):
        z = element(symbol)
        stated[z] = stated.get(z, 0.0) + float(n.strip(".") or 1)
    heavy = sum(n for z, n in stated.items() if z != 1)
    if not heavy:
        return
    found = int((numbers == 1).sum())
    expected = stated.get(1, 0.0) * (len(numbers) - found) / heavy
    if found < expected - 0.5:
        raise InputError(
            f"hydrogens are missing: by the formula {str(formula).strip()} the cell has "
            f"{expected:g}, the model gives {found}; add them to the model, riding ones will do"
        )


def read_hklf4(text: str, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices (n, 3), intensities and sigmas of a SHELX file with F^2 (HKLF 4).

    Reading ends at 0 0 0 or at an empty line. Columns of SHELX's widths and columns separated by
    blanks are both read.

    Raises
    ------
    InputError
        A line that is no reflection, or a sigma that is not positive.
    """
    hkl: list[tuple[int, int, int]] = []
    intensity: list[float] = []
    sigma: list[float] = []
    for i, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            if hkl:
                break
            continue
        row = _row(line)
        if row is None:
            raise InputError(f"{name}:{i}: expected h k l, intensity and sigma, got {line[:40]!r}")
        if row[0] == (0, 0, 0):
            break
        if not (np.isfinite(row[1]) and np.isfinite(row[2]) and row[2] > 0):
            raise InputError(
                f"{name}:{i}: reflection {' '.join(map(str, row[0]))} has intensity {row[1]:g} and "
                f"sigma {row[2]:g}; sigmas must be positive"
            )
        hkl.append(row[0])
        intensity.append(row[1])
        sigma.append(row[2])
    if not hkl:
        raise InputError(f"{name}: no reflections found")
    return np.array(hkl), np.array(intensity), np.array(sigma)


def _row(line: str) -> tuple[tuple[int, int, int], float, float] | None:
    words = line.split()
    fixed = [line[0:4], line[4:8], line[8:12], line[12:20], line[20:28]]
    for fields in (words[:5], fixed):
        if len(fields) < 5 or (fields is not fixed and "." not in fields[3]):
            continue
        try:
            h, k, l = (int(field) for field in fields[:3])  # noqa: E741
            return (h, k, l), float(fields[3]), float(fields[4])
        except ValueError:
            continue
    return None
