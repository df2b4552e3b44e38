"""The level of theory of a label, a table or a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from denser.types.errors import InputError
from denser.types.units import BOHR

PAPER_SPACING = 0.15707963267948966
"""Spacing of the paper's fine grid, pi/sqrt(2*200) bohr: a plane-wave cutoff of 400 Ry."""

PAPER_PADDING = 2.0 / BOHR
"""Vacuum of the paper's box on each side of a molecule, bohr."""

ISOLATED_PADDING = 4.0 / BOHR
"""Default vacuum on each side of an isolated molecule, bohr."""

LEAST_PERIOD = 8.0 / BOHR
"""Shortest period of a crystal at Gamma, bohr. Shorter ones make errors of the density of 0.1 (CO2)
to 0.4 % (urea, ice) for molecular crystals, and up to 5 % (diamond)."""


@dataclass(frozen=True)
class Recipe:
    """Level of theory and SAD recipe, stored with every label and every checkpoint.

    Parameters
    ----------
    xc, basis, pseudo : str
        In PySCF's names.
    spacing : float
        Grid spacing of the fine grid, bohr.
    sad : str
        Recipe of the superposed atomic densities; a key of `denser.atoms.sad.RECIPES`.
    """

    xc: str = "pbe"
    basis: str = "gth-tzv2p"
    pseudo: str = "gth-pbe"
    spacing: float = PAPER_SPACING
    sad: str = "gth-szv-1e"

    def to_dict(self) -> dict:
        """Plain dictionary for metadata."""
        return asdict(self)

    def record(self) -> dict:
        """Dictionary for the output of commands, with the unit in the key."""
        found = asdict(self)
        return found | {"spacing_bohr": found.pop("spacing")}

    @classmethod
    def from_dict(cls, data: dict) -> Recipe:
        """Inverse of `to_dict`; unknown or missing keys are an InputError."""
        names = {f.name for f in fields(cls)}
        if set(data) != names:
            raise InputError(f"a recipe has the keys {sorted(names)}, found {sorted(data)}")
        return cls(**data)

    def require_same(
        self,
        other: Recipe,
        mine: str,
        theirs: str,
        advice: str = "label again with the same settings, or leave these labels out",
    ) -> None:
        """Raise an InputError that names both sides unless the recipes are the same."""
        different = [
            f"{f.name} {_text(getattr(self, f.name))} in {mine}, "
            f"{_text(getattr(other, f.name))} in {theirs}"
            for f in fields(self)
            if not _same(getattr(self, f.name), getattr(other, f.name))
        ]
        if different:
            raise InputError(f"recipes differ: {'; '.join(different)}; {advice}")


def _text(value: str | float) -> str:
    return f"{value * BOHR:.4f} angstrom" if isinstance(value, float) else repr(value)


def _same(a: str | float, b: str | float) -> bool:
    return abs(a - b) < 1e-9 if isinstance(a, float) and isinstance(b, float) else a == b
