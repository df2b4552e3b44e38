"""Kind of a density from a file (valence or all-electron), and its total charge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.atoms.free_atoms import (
    all_electron_or_valence,
    core_values,
    has_free_atoms,
    pseudo_charges,
)
from denser.io.files import DENSITY_UNIT
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

KINDS = ("auto", "valence", "all-electron")

_CHARGE_TOLERANCE = 0.05
"""Allowed difference between the electrons of a file and those of an ion."""


@dataclass(frozen=True, eq=False)
class Foreign:
    """A density from another program's file, which does not state its kind and charge.

    Parameters
    ----------
    field : Field
    structure : Structure
        Neutral.
    valence_charges : (n_atoms,) float or None
        Those in the file; None if it has only the atomic numbers, or none.
    """

    field: Field
    structure: Structure
    valence_charges: np.ndarray | None = None


def known(
    found: Field | Foreign, kind: str = "auto", charge: int | None = None, strict: bool = False
) -> Field | Density:
    """Return the result of reading a file, as a Density of known kind and charge if it has atoms.

    Kind and charge are those that the caller states, else those in the file, else those that
    follow from the number of electrons. Nothing is derived from the electrons if the unit is not
    that of a density. A file of this package states both, unless its valence charges are the
    atomic numbers of heavier atoms.

    Parameters
    ----------
    found : Field or Foreign
        Result of a format's `read`.
    kind : str
        One of `KINDS`.
    charge : int, optional
        Total charge.
    strict : bool
        Raise an error if the number of electrons fits neither kind. Otherwise such a density,
        which may be an orbital or a potential, keeps the valence charges of its file (or the
        atomic numbers), and its charge is that of the file or zero.

    Raises
    ------
    InputError
        `kind` is unknown, the valence charges of a valence density are not known, or the number
        of electrons does not fit.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of density {kind!r}; known: {', '.join(KINDS)}")
    is_all: bool | None = None
    if isinstance(found, Foreign):
        field, structure, valence = found.field, found.structure, found.valence_charges
    elif isinstance(found, Density):
        field, structure, valence = found, found.structure, None
        charge = structure.charge if charge is None else charge
        if found.all_electron:
            is_all = True
        elif says_valence(found):
            is_all, valence = False, found.valence_charges
    else:
        return found
    if kind != "auto":
        is_all = kind == "all-electron"

    if field.unit == DENSITY_UNIT and (strict or is_all is None or charge is None):
        n_electrons = field.integrate()
        try:
            if kind != "auto":
                expected = _expected(structure, is_all, valence, field.grid)
                charge = _charge(expected, n_electrons) or 0 if charge is None else charge
            else:
                counted = _count(structure, n_electrons, valence, field.grid, charge)
                is_all, charge = counted if is_all is None else (is_all, counted[1])
        except InputError:
            if strict:
                raise
    structure = Structure.of(structure, charge or 0)
    if is_all or (is_all is None and valence is None):
        charges = structure.numbers.astype(float)
    else:
        charges = _valence_charges(structure) if valence is None else valence
    return Density(
        field.grid, field.values, field.unit, structure=structure, valence_charges=charges,
        all_electron=bool(is_all),
    )  # fmt: skip


def says_valence(density: Density) -> bool:
    """Return whether the valence charges of a density are those of a pseudopotential.

    They are not if they are the atomic numbers although the pseudopotentials have smaller ones.
    """
    structure = density.structure
    if not np.array_equal(density.valence_charges, structure.numbers):
        return True
    if not has_free_atoms(structure):
        return False
    return np.array_equal(density.valence_charges, pseudo_charges(structure))


def require_known(density: Density) -> None:
    """Raise InputError for a density if it is not known which electrons it contains."""
    if density.unit == DENSITY_UNIT and not (density.all_electron or says_valence(density)):
        structure = density.structure
        raise InputError(
            f"the density holds {density.integrate():.2f} electrons, which are neither all nor the "
            f"valence electrons of {structure.formula} with charge {structure.charge:+d}; say "
            "which they are with kind= and charge= of denser.read, or give a density"
        )


def describe(density: Density) -> str:
    """Return one sentence about the electrons of a density and its assumed kind."""
    structure = density.structure
    found = f"the density holds {density.integrate():.2f} electrons"
    expected = f"{density.n_electrons:g}"
    if density.all_electron:
        return f"{found}, all {expected} of {structure.formula}"
    if np.array_equal(density.valence_charges, structure.numbers):
        return (
            f"{found}: {structure.formula} has {expected} with and without a pseudopotential; "
            "taken for a valence density"
        )
    return f"{found}, the {expected} valence electrons of {structure.formula}"


def _count(
    structure: Structure,
    n_electrons: float,
    valence: np.ndarray | None,
    grid: Grid,
    charge: int | None,
) -> tuple[bool, int]:
    """Return whether the density is all-electron, and the charge; InputError if nothing fits.

    Without a charge, a neutral molecule is tried first, then the ion with the smaller charge
    of the two kinds.
    """
    of_charge = Structure.of(structure, charge or 0)
    try:
        kind, _ = all_electron_or_valence(of_charge, n_electrons, valence, grid)
    except InputError:
        if charge is not None:
            raise
        ions = []
        for is_all in (False, True):
            try:
                q = _charge(_expected(structure, is_all, valence, grid), n_electrons)
            except InputError:  # no valence charges are known
                continue
            if q is not None:
                ions.append((abs(q), is_all, q))
        ions.sort()
        if not ions or (len(ions) == 2 and ions[0][0] == ions[1][0]):
            raise
        return ions[0][1:]
    is_all = kind == "all-electron"
    if charge is None:
        charge = _charge(_expected(structure, is_all, valence, grid), n_electrons) or 0
    return is_all, charge


def _charge(expected: float, n_electrons: float) -> int | None:
    """Return the charge that a number of electrons implies; None if it is not an integer.

    A coarse grid or a box that cuts the density off gives no integer. If more than half of the
    electrons are missing, the values are an orbital, a potential or a difference.
    """
    excess = expected - n_electrons
    if not (np.isfinite(excess) and 2 * abs(excess) <= expected):
        return None
    charge = round(excess)
    return charge if abs(excess - charge) <= _CHARGE_TOLERANCE else None


def _expected(
    structure: Structure, is_all: bool | None, valence: np.ndarray | None, grid: Grid
) -> float:
    """Return the sum over the nodes for the electrons of the neutral molecule."""
    if not is_all:
        return float(np.sum(_valence_charges(structure) if valence is None else valence))
    if not has_free_atoms(structure):
        return float(structure.numbers.sum())
    cores = core_values(structure, grid).sum() * grid.dv
    return float(pseudo_charges(structure).sum() + cores)


def _valence_charges(structure: Structure) -> np.ndarray:
    if not has_free_atoms(structure):
        raise InputError(
            f"the valence charges of {structure.formula} are not known, and the file does not "
            "give them; write them into the charge column of a .cube"
        )
    return pseudo_charges(structure)
