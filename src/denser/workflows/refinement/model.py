"""What a small-molecule CIF and its reflections must offer; none of this needs cctbx."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from denser.types.errors import InputError

_FULL = 0.99
"""Smallest occupancy that counts as 1."""

_UNKNOWN = (None, "", ".", "?")


@dataclass(frozen=True)
class Disorder:
    """Disorder of a model.

    Parameters
    ----------
    parts : (n_sites,) int
        Disorder group of each site (PART of SHELXL); 0 for those beside every group.
    occupancies : (n_sites,) float
    arrangements : tuple of int
        The groups, the best occupied one first; (0,) without disorder.
    shares : tuple of float
        Their occupancies, divided by the sum.
    """

    parts: tuple[int, ...]
    occupancies: tuple[float, ...]
    arrangements: tuple[int, ...]
    shares: tuple[float, ...]


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
        There is no cell, symmetry or site; an element is unknown; labels repeat, or those of
        tensors match no site; the data are twinned, or not from X-rays.
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
        places = column(block, f"_atom_site_fract_{axis}") or ["?"] * len(labels)
        for label, text in zip(labels, places, strict=True):
            if number(text) is None:
                raise InputError(f"site {label} has no coordinate {axis} (found {text!r})")
    _check_tensors(block, labels)
    _check_commands(block.get("_shelx_res_file") or "")
    _check_radiation(block)
    return numbers


def _check_labels(labels: Sequence[str]) -> None:
    seen: set[str] = set()
    for label in labels:
        if label.upper() in seen:
            raise InputError(f"label {label} occurs twice (capitals do not count); rename one site")
        seen.add(label.upper())


def _check_tensors(block: Any, labels: Sequence[str]) -> None:
    known = set(labels)
    for label in column(block, "_atom_site_aniso_label") or []:
        if label not in known:
            raise InputError(
                f"the displacement tensor of {label} belongs to no site; labels of "
                "_atom_site_aniso_label and _atom_site_label must match"
            )


def read_disorder(block: Any) -> Disorder:
    """Occupancies and disorder groups (PART) of the sites of a block.

    Raises
    ------
    InputError
        A site is occupied in part outside of a group, a group is disordered over a symmetry
        element, or the groups of an assembly are occupied by more than one in all.
    """
    labels = column(block, "_atom_site_label") or []
    texts = column(block, "_atom_site_occupancy") or ["1"] * len(labels)
    occupancies = [1.0 if number(text) is None else float(number(text) or 0) for text in texts]
    groups = column(block, "_atom_site_disorder_group") or ["."] * len(labels)
    parts = [0 if text in (".", "?", "") else int(number(text) or 0) for text in groups]
    assemblies = column(block, "_atom_site_disorder_assembly") or ["."] * len(labels)
    groups_of: dict[str, dict[int, list[float]]] = {}
    for label, q, part, assembly in zip(labels, occupancies, parts, assemblies, strict=True):
        if part < 0:
            raise InputError(
                f"site {label} is disordered over a symmetry element (PART {part}); this is not "
                "supported: give a model in a space group without this element"
            )
        if not 0 < q < 1 + 1e-6:
            raise InputError(f"site {label} has an occupancy of {q:g}; it must be in (0, 1]")
        if part == 0 and q < _FULL:
            raise InputError(
                f"site {label} has an occupancy of {q:g} and belongs to no disorder group; a "
                "density needs whole atoms: put all that are there together into one group (PART)"
            )
        if part:
            groups_of.setdefault(assembly, {}).setdefault(part, []).append(q)
    best: dict[int, float] = {}
    for found in groups_of.values():
        for part, values in found.items():
            best[part] = max(best.get(part, 0.0), *values)
        # Several assemblies without names may share the numbers of their groups.
        alike = all(max(values) - min(values) < 0.01 for values in found.values())
        shares = [max(values) for values in found.values()]
        if alike and sum(shares) > 1.02:
            raise InputError(
                f"the disorder groups {', '.join(map(str, found))} overlap: their occupancies "
                f"{' + '.join(f'{q:g}' for q in shares)} are more than 1"
            )
    best = best or {0: 1.0}
    order = sorted(best, key=lambda part: (-best[part], part))
    shares = [best[part] / sum(best.values()) for part in order]
    return Disorder(tuple(parts), tuple(occupancies), tuple(order), tuple(shares))


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


def _check_radiation(block: Any) -> None:
    for name in ("probe", "type"):
        text = str(block.get(f"_diffrn_radiation_{name}") or "").lower()
        for kind in ("neutron", "electron"):
            if text.startswith(kind):
                raise InputError(
                    f"the measurement is one with {kind}s (_diffrn_radiation_{name}); "
                    "a refinement with Hirshfeld atoms here needs X-rays"
                )


def check_hydrogens(
    formula: str | None, numbers: np.ndarray, occupancies: np.ndarray | None = None
) -> None:
    """Raise an InputError if the cell lacks hydrogens that the formula has.

    Parameters
    ----------
    formula : str or None
        Formula of the CIF, such as 'C H4 N2 O'.
    numbers : (n,) int
        Atomic numbers of all atoms in the cell.
    occupancies : (n,) float, optional
        1 by default.
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
    shares = np.ones(len(numbers)) if occupancies is None else occupancies
    found = float(shares[numbers == 1].sum())
    expected = stated.get(1, 0.0) * (float(shares.sum()) - found) / heavy
    if found < expected - 0.5:
        raise InputError(
            f"hydrogens are missing: by the formula {str(formula).strip()} the cell has "
            f"{expected:g}, the model gives {found:g}; add them to the model, riding ones will do"
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
    lines: list[str] = []
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
        hkl.append(row[0])
        intensity.append(row[1])
        sigma.append(row[2])
        lines.append(f"{name}:{i}")
    if not hkl:
        raise InputError(f"{name}: no reflections found")
    indices, values, sigmas = np.array(hkl), np.array(intensity), np.array(sigma)
    check_reflections(indices, values, sigmas, lines)
    return indices, values, sigmas


def check_reflections(
    hkl: np.ndarray, intensity: np.ndarray, sigma: np.ndarray, places: Sequence[str]
) -> None:
    """Raise an InputError at the first reflection whose sigma is not positive, or not a number."""
    wrong = np.flatnonzero(~(np.isfinite(intensity) & np.isfinite(sigma) & (sigma > 0)))
    if wrong.size:
        i = wrong[0]
        others = f" ({wrong.size} reflections in all)" if wrong.size > 1 else ""
        raise InputError(
            f"{places[i]}: reflection {' '.join(map(str, hkl[i]))} has intensity "
            f"{intensity[i]:g} and sigma {sigma[i]:g}; sigmas must be positive{others}"
        )


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
