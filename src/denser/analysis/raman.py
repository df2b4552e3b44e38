"""Raman spectrum of moving atoms from the polarizabilities along a trajectory.

The light is polarised, and scattered light is seen at a right angle to it. a is a third of the
trace of the polarizability alpha, and beta = alpha - a 1 the rest, with
gamma^2 = (3/2) tr(beta beta). Harmonic vibrations have the activities

parallel 45 a'^2 + 4 gamma'^2,  perpendicular 3 gamma'^2,  both 45 a'^2 + 7 gamma'^2

with derivatives with respect to the normal coordinate, averaged over orientations (Long, The Raman
Effect, 2002). In their place come the correlation functions along the classical trajectory,

a'^2 -> (1 / pi k_B T) integral <da/dt(0) da/dt(t)> exp(i w t) dt

and likewise gamma'^2 with (3/2) <tr dbeta/dt(0) dbeta/dt(t)>, so that the integral over a harmonic
band is its activity, at any temperature. Window and line shape are those of
`denser.analysis.infrared`.

Light of the wave number v_0 is scattered by a vibration v (Stokes) with the differential cross
section

dsigma/dOmega = (2 pi)^4 (v_0 - v)^4 h / (8 pi^2 c v) / (1 - exp(-h c v / k_B T)) activity / 45.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.constants import atomic_mass, c, electron_mass, h

from denser.analysis.infrared import highest, integral_between, spectral_density
from denser.types.units import BOHR, KELVIN, WAVE_NUMBER

ACTIVITY = BOHR**4 * atomic_mass / electron_mass
"""(bohr^3)^2 / bohr^2 / electron mass in angstrom^4/amu."""


@dataclass(frozen=True, eq=False)
class Raman:
    """Raman spectrum.

    Parameters
    ----------
    wave_numbers : (n,) float
        1/cm, ascending.
    isotropic, anisotropic : (n,) float
        a'^2 and gamma'^2, angstrom^4/amu per 1/cm.
    temperature : float
        K.
    width : float
        Full width at half maximum of a line, 1/cm.
    """

    wave_numbers: np.ndarray
    isotropic: np.ndarray
    anisotropic: np.ndarray
    temperature: float
    width: float

    @property
    def parallel(self) -> np.ndarray:
        """Activity of light polarised as that of the laser (n,), angstrom^4/amu per 1/cm."""
        return 45 * self.isotropic + 4 * self.anisotropic

    @property
    def perpendicular(self) -> np.ndarray:
        """Activity of light polarised across that of the laser (n,), angstrom^4/amu per 1/cm."""
        return 3 * self.anisotropic

    @property
    def activity(self) -> np.ndarray:
        """Of both (n,), angstrom^4/amu per 1/cm."""
        return self.parallel + self.perpendicular

    def bands(self) -> list[tuple[float, float, float]]:
        """Maxima of the activity: wave numbers, heights, and depolarization ratios.

        The ratio, perpendicular by parallel, is that of the integrals over a width around the
        maximum: 0 of a vibration that changes only the trace, 3/4 of one that does not.
        """
        out = []
        for x, y in highest(self.wave_numbers, self.activity):
            near = np.abs(self.wave_numbers - x) <= 0.5 * self.width
            ratio = self.perpendicular[near].sum() / self.parallel[near].sum()
            out.append((x, y, float(ratio)))
        return out

    def integral(self, low: float, high: float) -> float:
        """Activity between two wave numbers, angstrom^4/amu."""
        return integral_between(self.wave_numbers, self.activity, low, high)

    def cross_section(self, laser: float) -> np.ndarray:
        """Differential cross section of Stokes scattering (n,), m^2/sr per 1/cm.

        Parameters
        ----------
        laser : float
            Wavelength, nm.
        """
        v = 100 * self.wave_numbers  # 1/m
        scattered = np.maximum(1e9 / laser - v, 0.0)
        occupied = -np.expm1(-self.wave_numbers / WAVE_NUMBER / (KELVIN * self.temperature))
        activity = self.activity * 1e-40 / atomic_mass / 45
        return (2 * np.pi) ** 4 * scattered**4 * h / (8 * np.pi**2 * c * v * occupied) * activity


def raman(
    polarizabilities: np.ndarray, step: float, temperature: float, width: float, up_to: float
) -> Raman:
    """The spectrum of the polarizabilities of frames at equal times.

    Parameters
    ----------
    polarizabilities : (n, 3, 3) float
        bohr^3, symmetric.
    step : float
        Time between frames, atomic units.
    temperature : float
        K.
    width : float
        Full width at half maximum of a line, 1/cm.
    up_to : float
        Largest wave number, 1/cm.

    Raises
    ------
    InputError
        As in `denser.analysis.infrared.infrared`.
    """
    alpha = np.asarray(polarizabilities, dtype=float)
    mean = np.trace(alpha, axis1=1, axis2=2)[:, None] / 3
    beta = alpha - mean[:, :, None] * np.eye(3)
    shape = (step, temperature, width, up_to)
    wave_numbers, isotropic = spectral_density(mean, *shape)
    _, anisotropic = spectral_density(np.sqrt(1.5) * beta.reshape(-1, 9), *shape)
    unit = ACTIVITY / (np.pi * KELVIN * temperature * WAVE_NUMBER)
    return Raman(wave_numbers, isotropic * unit, anisotropic * unit, temperature, width)


def longest_step(up_to: float) -> float:
    """Time between frames, atomic units, that shows vibrations up to a wave number, 1/cm.

    They have four frames in a period, and the fastest vibrations of all, 4500/cm, are not mistaken
    for one that is shown.
    """
    return 2 * np.pi * WAVE_NUMBER / max(4 * up_to, up_to + 4500.0)
