"""Differences between densities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from denser.fields.periodic import nearest_image
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import DIPOLE_ORIGIN, Structure
from denser.types.units import BOHR, DEBYE

SAME_PLACE = 0.01 / BOHR
"""Largest distance (bohr) of corresponding atoms in two files that count as the same."""


def err_rho(predicted: Field, reference: Field) -> float:
    """Relative absolute error of a density, a fraction (not percent).

    (1/N_e) * integral |rho_pred - rho_ref| dr, Li et al. (2025), equation 3. For a reference
    without atoms, N_e is its integral.

    Raises
    ------
    InputError
        The two grids differ, or the reference contains no electrons.
    """
    _require_fields(predicted, reference)
    error = np.abs((predicted - reference).values)
    n_electrons = reference.n_electrons if isinstance(reference, Density) else reference.integrate()
    if n_electrons <= 0:
        raise InputError("the reference density holds no electrons")
    return float(error.sum() * reference.grid.dv / n_electrons)


def _require_fields(*fields: Any) -> None:
    for field in fields:
        if not isinstance(field, Field):
            raise InputError(
                f"expected two densities, found {type(field).__name__}; denser.read reads files"
            )


# Two densities from any program


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a density differs from a reference on the same grid.

    Parameters
    ----------
    err_rho : float
        (1/N_e) integral |a - b| dr with b as the reference; a fraction.
    electrons : (float, float)
        Integrals of both.
    dipoles : (array or None, array or None)
        (3,), e*bohr, about the centre of nuclear charge, if the atoms are known and not periodic.
    largest : float
        a - b where its modulus is largest, e/bohr^3.
    where : (3,) float
        That node, bohr.
    notes : tuple of str
        Warnings: atoms that differ, numbers of electrons that do not match.
    """

    err_rho: float
    electrons: tuple[float, float]
    dipoles: tuple[np.ndarray | None, np.ndarray | None]
    largest: float
    where: np.ndarray
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """Return plain data in percent, debye and angstrom."""
        both = {
            name: {"n_electrons": electrons, **_dipole_record(dipole)}
            for name, electrons, dipole in zip("ab", self.electrons, self.dipoles, strict=True)
        }
        return {
            "err_rho_percent": 100 * self.err_rho,
            **both,
            "largest_difference_e_per_bohr3": self.largest,
            "position_angstrom": (self.where * BOHR).tolist(),
            "notes": list(self.notes),
        }


def _dipole_record(dipole: np.ndarray | None) -> dict:
    if dipole is None:
        return dict.fromkeys(("dipole_debye", "dipole_norm_debye", "dipole_origin"))
    return {
        "dipole_debye": (dipole * DEBYE).tolist(),
        "dipole_norm_debye": float(np.linalg.norm(dipole)) * DEBYE,
        "dipole_origin": DIPOLE_ORIGIN,
    }


def compare(a: Field, b: Field) -> Comparison:
    """Compare density `a` with the reference `b`, from any program.

    Raises
    ------
    InputError
        The grids differ, a field is not a density (another unit, values that are not finite
        numbers), or the reference contains no electrons.
    """
    _require_fields(a, b)
    for name, field in (("the first file", a), ("the second file", b)):
        if field.unit != "e/bohr^3":
            raise InputError(f"{name} has values in {field.unit}; compare needs densities")
        if not np.isfinite(field.values).all():
            raise InputError(f"{name} has values that are not finite numbers; make it again")
    notes = []
    delta = (a - b).values
    node = np.unravel_index(int(np.abs(delta).argmax()), delta.shape)
    electrons = a.integrate(), b.integrate()
    dipoles: list[np.ndarray | None] = []
    fits = []
    for name, field, found in zip("AB", (a, b), electrons, strict=True):
        dipoles.append(None)
        fits.append(isinstance(field, Density) and abs(field.n_electrons - found) < 0.01 * found)
        if not isinstance(field, Density):
            continue
        if fits[-1]:
            if field.structure.cell is None:
                dipoles[-1] = field.dipole()
            else:
                notes.append(f"{name} is periodic and has no dipole")
        else:
            notes.append(
                f"{name} integrates to {found:.4f} electrons, but its atoms and their charges give "
                f"{field.n_electrons:g}: N_e is taken from the integral, and there is no "
                "dipole"
            )
    if any(isinstance(field, Density) and field.structure.charge for field in (a, b)):
        notes.append(f"charged: the dipoles are about the {DIPOLE_ORIGIN}")
    if isinstance(a, Density) and isinstance(b, Density):
        notes += _atoms_differ(a.structure, b.structure, a.grid)
    return Comparison(
        err_rho(a, b if fits[1] else Field(b.grid, b.values)),
        electrons,
        (dipoles[0], dipoles[1]),
        float(delta[node]),
        b.grid.origin + (np.array(node) / b.grid.shape) @ b.grid.cell,
        tuple(notes),
    )


def _atoms_differ(a: Structure, b: Structure, grid: Grid) -> list[str]:
    """One sentence if the atoms differ (apart from periodic images), otherwise none."""
    if a.formula != b.formula:
        return [f"the atoms differ: A is {a.formula}, B is {b.formula}"]
    shift = nearest_image(a.positions[:, None] - b.positions[None], grid.cell)
    distance = np.linalg.norm(shift, axis=-1)
    distance[a.numbers[:, None] != b.numbers[None]] = np.inf
    farthest = max(distance.min(axis=0).max(), distance.min(axis=1).max())
    if farthest < SAME_PLACE:
        return []
    return [
        "the atoms differ: some are up to "
        f"{farthest * BOHR:.3f} angstrom away from the nearest atom of their kind in the other file"
    ]
