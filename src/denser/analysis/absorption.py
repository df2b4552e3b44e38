"""Absorption spectra of electrons from dipole moments in time after a kick.

The field k delta(t) contains all frequencies, so that the induced dipole is the response to each:

alpha(w) = (1/k) integral_0^T W(t) [mu(t) - mu(0)] exp(i w t) dt,    S(w) = (2 w / pi) Im alpha(w).

S is the oscillator strength per energy. Its integral over all energies is the number of electrons,
if the basis is complete (Thomas, Reiche and Kuhn). The window W(t) = 1 - 3 (t/T)^2 + 2 (t/T)^3 goes
smoothly to zero at the end (Yabana and Bertsch, Phys. Rev. B 54, 4484 (1996)). A transition of
energy w_n and strength f becomes the line f L(w, w_n),

L(w, v) = (w / (pi v)) integral_0^T W(t) [cos((w - v) t) - cos((w + v) t)] dt,

with the height T / (2 pi) in atomic units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

from denser.types.errors import InputError
from denser.types.units import HARTREE

POINTS_IN_A_LINE = 20
"""Energies of the spectrum within the width of a line."""

LEAST_PEAK = 0.02
"""Lowest peak that is listed, of the highest one."""

_WIDTH = 6.223
"""Full width at half maximum of a line times T."""


@dataclass(frozen=True, eq=False)
class Absorption:
    """Absorption spectrum of a molecule.

    Parameters
    ----------
    energies : (n,) float
        Hartree, ascending.
    strengths : (n_fields, n) float
        Oscillator strength per energy for each direction of the field, 1/hartree.
    duration : float
        T, atomic units of time.
    """

    energies: np.ndarray
    strengths: np.ndarray
    duration: float

    @property
    def mean(self) -> np.ndarray:
        """Mean over the directions (n,), 1/hartree; isotropic if they are x, y and z."""
        return self.strengths.mean(axis=0)

    @property
    def width(self) -> float:
        """Full width at half maximum of a line, hartree: lines closer than this overlap."""
        return _WIDTH / self.duration

    @property
    def electrons(self) -> float:
        """Oscillator strength in the range of the spectrum."""
        return float(np.trapezoid(self.mean, self.energies))

    def peaks(self) -> list[tuple[float, float]]:
        """Maxima of the mean spectrum: energies, hartree, and oscillator strengths.

        The strength is that of a single line of this height. Lines within the `width` share one.
        """
        s = self.mean
        found = find_peaks(s, height=LEAST_PEAK * s.max(initial=0.0), prominence=0.01 * np.ptp(s))
        peaks = []
        for i in found[0]:
            left, top, right = s[i - 1 : i + 2]
            shift = 0.5 * (left - right) / (left - 2 * top + right)  # of the parabola
            height = top - 0.25 * (left - right) * shift
            energy = self.energies[i] + shift * (self.energies[1] - self.energies[0])
            peaks.append((float(energy), float(height * 2 * np.pi / self.duration)))
        return peaks


def window(x: np.ndarray) -> np.ndarray:
    """W at t = x T."""
    return 1 - 3 * x**2 + 2 * x**3


def absorption(dipoles: np.ndarray, step: float, strength: float, up_to: float) -> Absorption:
    """The spectrum of kicks in one or more directions.

    Parameters
    ----------
    dipoles : (n_fields, n_times) float
        Dipole along the field at equal steps from t = 0, e bohr.
    step : float
        Atomic units of time.
    strength : float
        k, 1/bohr.
    up_to : float
        Largest energy, hartree.

    Raises
    ------
    InputError
        There are fewer than two times, or no kick.
    """
    dipoles = np.atleast_2d(dipoles)
    n = dipoles.shape[1]
    if n < 3 or strength <= 0:
        raise InputError("a spectrum needs the dipoles of a kick at three times or more")
    times = step * np.arange(n)
    energies = energies_of_spectrum(times[-1], up_to)
    induced = (dipoles - dipoles[:, :1]) * window(times / times[-1]) / strength
    induced[:, -1] *= 0.5  # the trapezoidal rule; the first one is zero
    response = np.empty((len(dipoles), len(energies)))
    for start in range(0, len(energies), 512):
        some = slice(start, start + 512)
        response[:, some] = induced @ np.sin(np.outer(times, energies[some])) * step
    return Absorption(energies, 2 / np.pi * energies * response, float(times[-1]))


def energies_of_spectrum(duration: float, up_to: float) -> np.ndarray:
    """Energies (n,), hartree, that resolve the lines of a record of some length."""
    spacing = _WIDTH / duration / POINTS_IN_A_LINE
    return spacing * np.arange(1, max(int(up_to / spacing), 4) + 1)


def broadened(
    transitions: np.ndarray, strengths: np.ndarray, duration: float, up_to: float
) -> Absorption:
    """The spectrum that known transitions would have in a record of some length.

    Parameters
    ----------
    transitions, strengths : (n,) float
        Energies, hartree, and oscillator strengths.
    duration, up_to : float
        As in `absorption`.
    """
    energies = energies_of_spectrum(duration, up_to)
    w, v = energies[:, None], np.asarray(transitions)[None]
    lines = w / (np.pi * v) * (_line((w - v) * duration) - _line((w + v) * duration)) * duration
    return Absorption(energies, (lines @ strengths)[None], duration)


def _line(x: np.ndarray) -> np.ndarray:
    """Integral of W(t) cos(x t) from 0 to 1."""
    small = np.abs(x) < 0.02
    x = np.where(small, 1.0, x)
    exact = 6 * (x * np.sin(x) + 2 * np.cos(x) - 2) / -(x**4)
    return np.where(small, 0.5, exact)


def table(spectrum: Absorption, names: list[str]) -> tuple[list[str], np.ndarray]:
    """Header and rows of the spectrum in eV and 1/eV, for a CSV file."""
    columns = [spectrum.energies * HARTREE, *(spectrum.strengths / HARTREE)]
    header = ["energy_ev", *(f"strength_{name}_per_ev" for name in names)]
    if len(names) > 1:
        columns.append(spectrum.mean / HARTREE)
        header.append("strength_mean_per_ev")
    return header, np.column_stack(columns)
