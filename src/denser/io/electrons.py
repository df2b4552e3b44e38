"""Kind of a density from a file (valence or all-electron), and its total charge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from denser.atoms.free_atoms import (
    all_electron_or_valence,
    core_values,
    has_free_atoms,
    pseudo_charges,
)
from denser.atoms.radii import bond_length
from denser.io.files import DENSITY_UNIT
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

KINDS = ("auto", "valence", "all-electron")

_CHARGE_TOLERANCE = 0.05
"""Allowed difference between the electrons of a file and those of an ion."""

_SHORTEST = 0.7
"""Lengths are not in bohr if bonds are shorter than this times the sum of covalent radii. Read as
bohr, bonds in angstrom are 0.53 times as long as they are; the shortest, N2's, is 0.78."""

_HEAVIEST = 18
"""Bonds of heavier elements are not looked at: some of metals are shorter."""


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
    unit_known : bool
        Whether the values are in the field's unit. If not, it is that or e/angstrom^3, as the
        number of electrons tells, or else "unstated".
    spin : (nx, ny, nz) float or None
        Spin density, unpaired e/bohr^3, if the file has it.
    """

    field: Field
    structure: Structure
    valence_charges: np.ndarray | None = None
    unit_known: bool = True
    spin: np.ndarray | None = None


def known(
    found: Field | Foreign, kind: str = "auto", charge: int | None = None, strict: bool = False
) -> Field | Density:
    """Return the result of reading a file, as a Density of known kind and charge if it has atoms.

    Kind and charge are those that the caller states, else those in the file, else those that
    follow from the number of electrons. Nothing is derived from the electrons if the unit is not
    that of a density. Another program's density in the wrong unit of length or of values is
    refused. A file of this package states both, unless its valence charges are the atomic numbers
    of heavier atoms.

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
        `kind` is unknown, the valence charges of a valence density are not known, the number
        of electrons does not fit, or lengths or values are in another unit.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of density {kind!r}; known: {', '.join(KINDS)}")
    is_all: bool | None = None
    spin: np.ndarray | None = None
    unpaired: int | None = None
    if isinstance(found, Foreign):
        if found.spin is not None:
            spin = found.spin
            m = abs(float(spin.sum(dtype=np.float64)) * found.field.grid.dv)
            unpaired = round(m) if abs(m - round(m)) < _CHARGE_TOLERANCE else None
        found = _in_its_unit(found, kind, charge)
        field, structure, valence = found.field, found.structure, found.valence_charges
    elif isinstance(found, Density):
        field, structure, valence = found, found.structure, None
        charge = structure.charge if charge is None else charge
        if found.spin_density is not None:
            spin = found.spin_density.values
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
    if unpaired is not None and (unpaired - structure.spin) % 2 == 0:
        structure = Structure.of(structure, spin=unpaired)
    if is_all or (is_all is None and valence is None):
        charges = structure.numbers.astype(float)
    else:
        charges = _valence_charges(structure) if valence is None else valence
    density = Density(
        field.grid, field.values, field.unit, structure=structure, valence_charges=charges,
        all_electron=bool(is_all),
    )  # fmt: skip
    return density if spin is None else density.with_spin_density(spin)


def _in_its_unit(found: Foreign, kind: str, charge: int | None) -> Foreign:
    """Return a density whose lengths are in bohr, with the unit that its electrons tell.

    Raises
    ------
    InputError
        The lengths are in angstrom, or the values in e/angstrom^3, where the format has others.
    """
    _require_bohr(found.structure)
    if found.field.unit != DENSITY_UNIT or kind != "auto":
        return found

    def fits(n_electrons: float) -> bool:
        try:
            _count(found.structure, n_electrons, found.valence_charges, found.field.grid, charge)
        except InputError:
            return False
        return True

    n_electrons = found.field.integrate()
    if fits(n_electrons):
        return found
    if fits(n_electrons * BOHR**3):
        if not found.unit_known:
            values = found.field.values * BOHR**3
            return replace(found, field=replace(found.field, values=values))
        raise InputError(
            f"the density holds {n_electrons:.2f} electrons, and {n_electrons * BOHR**3:.2f} if "
            "its values are in e/angstrom^3; this format has them in e/bohr^3, so multiply them "
            f"by {BOHR**3:.6f}"
        )
    if fits(n_electrons / BOHR**3):
        raise InputError(
            f"the density holds {n_electrons:.2f} electrons, and {n_electrons / BOHR**3:.2f} if "
            "its lengths are in angstrom; write them in bohr, or with negative numbers of voxels, "
            "which say angstrom"
        )
    if not found.unit_known:
        return replace(found, field=replace(found.field, unit="unstated"))
    return found


def _require_bohr(structure: Structure) -> None:
    """Raise InputError if most atoms are so close to another that the lengths are in angstrom."""
    light = np.flatnonzero((structure.numbers > 0) & (structure.numbers <= _HEAVIEST))
    if len(light) < 2:
        return
    numbers, positions = structure.numbers[light], structure.positions[light]
    distances, nearest = cKDTree(positions).query(positions, k=2)
    lengths = [bond_length(a, b) for a, b in zip(numbers, numbers[nearest[:, 1]], strict=True)]
    if np.median(distances[:, 1] / lengths) < _SHORTEST:
        i, j = sorted(light[[0, nearest[0, 1]]] + 1)
        raise InputError(
            f"atoms {i} and {j} are {distances[0, 1] * BOHR:.2f} angstrom apart if the lengths are "
            f"in bohr, and {distances[0, 1]:.2f} if they are in angstrom; write them in bohr, or "
            "with negative numbers of voxels, which say angstrom"
        )


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
            f"valence electrons of {structure.formula} with charge {structure.charge}; say "
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
