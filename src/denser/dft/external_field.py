"""Electric fields that electrons are exposed to: kicks and laser pulses, in atomic units."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from denser.types.errors import InputError
from denser.types.units import FEMTOSECOND, HARTREE, INTENSITY

STRONGEST = 1e15
"""W/cm^2. Beyond this molecules are ionised within a cycle, which a basis at the atoms lacks."""

LARGEST_KICK = 0.1
"""1/bohr."""

_FWHM = 2 / np.pi * np.arccos(2**-0.25)
"""Full width at half maximum of cos^4, in lengths of the whole pulse."""

_UNITS = {"ev": "energy", "fs": "duration", "w/cm2": "intensity", "w/cm^2": "intensity"}
_EXAMPLE = "such as --pulse '6.9 eV 5 fs 1e11 W/cm2'"


@dataclass(frozen=True)
class Kick:
    """E(t) = k delta(t): all frequencies at once.

    Every electron gets the momentum -k e, psi -> exp(-i k e.r) psi.

    Parameters
    ----------
    strength : float
        k, 1/bohr. 0 leaves the electrons alone.

    Raises
    ------
    InputError
        It is negative or too strong.
    """

    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= LARGEST_KICK:
            raise InputError(
                f"--kick must be between 0 and {LARGEST_KICK:g} per bohr, found "
                f"{self.strength:g}; 0.001 gives the response to a weak field"
            )

    def at(self, time: float) -> float:
        """The field after the kick: none."""
        return 0.0

    @property
    def end(self) -> float:
        """When the field is over, atomic units of time."""
        return 0.0


@dataclass(frozen=True)
class Pulse:
    """E(t) = E_0 cos^2(pi (t - T/2) / T) sin(w (t - T/2)), 0 < t < T.

    The integral over the pulse is zero.

    Parameters
    ----------
    energy : float
        Of a photon, w, hartree.
    duration : float
        Full width of the intensity at half its maximum, atomic units of time: 0.364 T.
    intensity : float
        E_0^2 c / (8 pi), W/cm^2.

    Raises
    ------
    InputError
        A value that is not possible, or a pulse of less than one cycle.
    """

    energy: float
    duration: float
    intensity: float

    def __post_init__(self) -> None:
        ev, fs = self.energy * HARTREE, self.duration * FEMTOSECOND
        if not 0.01 <= ev <= 200:
            raise InputError(
                f"the photons of a pulse must have 0.01 to 200 eV, found {ev:g} eV; inner shells "
                "are not computed"
            )
        if not 0.01 <= fs <= 1000:
            raise InputError(f"a pulse must last 0.01 to 1000 fs, found {fs:g} fs")
        if not 0 < self.intensity <= STRONGEST:
            raise InputError(
                f"the intensity of a pulse must be above 0 and at most {STRONGEST:g} W/cm2, where "
                f"atoms are ionised at once; found {self.intensity:g} W/cm2"
            )
        cycle = 2 * np.pi / self.energy
        if self.end < cycle:
            raise InputError(
                f"a pulse of {fs:g} fs is shorter than one cycle of {ev:g} eV, "
                f"{cycle * FEMTOSECOND:.3g} fs; make it longer"
            )

    @classmethod
    def parse(cls, text: str) -> Pulse:
        """The pulse of a text with three numbers and their units, in any order.

        Raises
        ------
        InputError
            A unit is unknown or missing, or a number is.
        """
        words = re.findall(r"([-+.\deE]*\d\.?)\s*([a-zA-Z][a-zA-Z/^\d]*)", text)
        if re.sub(r"[\s,;]+", "", text) != "".join(number + unit for number, unit in words):
            raise InputError(f"--pulse {text!r} is not three numbers with units, {_EXAMPLE}")
        found: dict[str, float] = {}
        for number, unit in words:
            name = _UNITS.get(unit.lower())
            if name is None:
                raise InputError(f"--pulse: unknown unit {unit!r}; give eV, fs and W/cm2")
            if name in found:
                raise InputError(f"--pulse {text!r} has two numbers in {unit}, {_EXAMPLE}")
            try:
                found[name] = float(number)
            except ValueError:
                raise InputError(f"--pulse: {number!r} is not a number, {_EXAMPLE}") from None
        if missing := [unit for unit in ("eV", "fs", "W/cm2") if _UNITS[unit.lower()] not in found]:
            raise InputError(f"--pulse {text!r} lacks the number in {missing[0]}, {_EXAMPLE}")
        return cls(found["energy"] / HARTREE, found["duration"] / FEMTOSECOND, found["intensity"])

    def at(self, time: float) -> float:
        """The field at a time, atomic units."""
        if not 0 < time < self.end:
            return 0.0
        t = time - 0.5 * self.end
        peak = np.sqrt(self.intensity / INTENSITY)
        return float(peak * np.cos(np.pi * t / self.end) ** 2 * np.sin(self.energy * t))

    @property
    def end(self) -> float:
        """When the field is over, atomic units of time."""
        return float(self.duration / _FWHM)


def direction_of(text: str) -> np.ndarray:
    """Unit vector (3,) of "x", "y", "z", or three numbers with commas.

    Raises
    ------
    InputError
        Something else.
    """
    if text.lower() in ("x", "y", "z"):
        return np.eye(3)["xyz".index(text.lower())]
    try:
        vector = np.array([float(part) for part in text.split(",")])
    except ValueError:
        vector = np.zeros(0)
    length = float(np.linalg.norm(vector))
    if vector.shape != (3,) or not np.isfinite(length) or length == 0:
        raise InputError(f"--direction {text!r} is not x, y, z, or a vector such as 1,1,0")
    return vector / length
