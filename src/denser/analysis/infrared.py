"""Infrared spectrum of moving atoms from the dipoles along a trajectory.

With the cross section of light of frequency w, averaged over orientations (Gaussian atomic units),

sigma(w) = (4 pi w / c) Im alpha(w) = (2 pi / 3 c k_B T) integral C(t) exp(i w t) dt,

C(t) = <dmu/dt(0) . dmu/dt(t)> along the classical trajectory. This has the quantum correction of
harmonic oscillators, w / k_B T / (1 - exp(-w / k_B T)), for classical correlation functions
(Ramirez et al., J. Chem. Phys. 121, 3973 (2004)). Harmonic vibrations then have their exact
intensities, integral sigma dw = (2 pi^2 / 3 c) |dmu/dQ|^2. The molar absorption coefficient is
N_A sigma, whose integral over the wave numbers is the usual intensity in km/mol.

dmu/dt is the difference of neighbouring dipoles divided by the time h between them. The spectrum is
divided by what this does to a wave, [sin(w h / 2) / (w h / 2)]^2. The correlation function is
multiplied by Hann's window, cos^2(pi t / 2 T), so that a line has the full width at half maximum
1 / (c T) in wave numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.constants import Avogadro, alpha
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import find_peaks

from denser.types.errors import InputError
from denser.types.units import BOHR, KELVIN, WAVE_NUMBER

LEAST_PEAK = 0.03
"""Lowest peak that is listed, of the highest one."""

_POINTS_IN_A_LINE = 6

_MOLAR = BOHR**2 * 1e-20 * Avogadro * 100 / 1000
"""A cross section of one bohr^2 in km/mol per 1/cm."""

_FEWEST = 16
"""Frames."""


@dataclass(frozen=True, eq=False)
class Infrared:
    """Infrared spectrum.

    Parameters
    ----------
    wave_numbers : (n,) float
        1/cm, ascending.
    absorption : (n,) float
        Molar absorption coefficient with the natural logarithm, km/mol per 1/cm.
    width : float
        Full width at half maximum of a line, 1/cm.
    """

    wave_numbers: np.ndarray
    absorption: np.ndarray
    width: float

    def bands(self) -> list[tuple[float, float]]:
        """Maxima: wave numbers, 1/cm, and heights, km/mol per 1/cm."""
        return highest(self.wave_numbers, self.absorption)

    def intensity(self, low: float, high: float) -> float:
        """Integral between two wave numbers, km/mol."""
        return integral_between(self.wave_numbers, self.absorption, low, high)


def infrared(
    dipoles: np.ndarray, step: float, temperature: float, width: float, up_to: float
) -> Infrared:
    """The spectrum of the dipoles of frames at equal times.

    Parameters
    ----------
    dipoles : (n, 3) float
        e bohr, without jumps.
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
        The trajectory is too short for this width, or its frames are too far apart.
    """
    wave_numbers, integral = spectral_density(dipoles, step, temperature, width, up_to)
    sigma = 2 * np.pi * alpha / (3 * KELVIN * temperature) * integral
    return Infrared(wave_numbers, sigma * _MOLAR, width)


def integral_between(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Integral of a spectrum y(x) from low to high."""
    inside = (x >= low) & (x <= high)
    return float(np.trapezoid(y[inside], x[inside]))


def highest(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Maxima of a spectrum that are higher than `LEAST_PEAK` of the highest."""
    top = float(y.max(initial=0.0))
    found = find_peaks(y, height=LEAST_PEAK * top, prominence=0.5 * LEAST_PEAK * top)[0]
    return [(float(x[i]), float(y[i])) for i in found]


def spectral_density(
    values: np.ndarray, step: float, temperature: float, width: float, up_to: float
) -> tuple[np.ndarray, np.ndarray]:
    """Integral of W(t) <dv/dt(0) . dv/dt(t)> exp(i w t) dt over all times, by wave number.

    Parameters
    ----------
    values : (n, k) float
        v at equal times.
    step, temperature, width, up_to : float
        As in `infrared`; the temperature is only checked.

    Returns
    -------
    (m,) float
        Wave numbers, 1/cm.
    (m,) float
        The integral, atomic units.

    Raises
    ------
    InputError
        As in `infrared`.
    """
    values = np.asarray(values, dtype=float)
    n = len(values) - 1
    if n < _FEWEST:
        raise InputError(f"a spectrum needs more than {_FEWEST} frames, found {n + 1}")
    if not temperature > 0:
        raise InputError(f"the temperature must be above 0 K, found {temperature:g}")
    lags = round(2 * np.pi * WAVE_NUMBER / width / step)
    shortest = 2 * np.pi * WAVE_NUMBER / (step * (n // 2))
    if lags > n // 2:
        raise InputError(
            f"a width of {width:g} per cm needs a trajectory that is longer; this one of {n + 1} "
            f"frames gives {shortest:.3g} per cm at best"
        )
    fastest = 0.5 * np.pi / step * WAVE_NUMBER  # four frames in a period
    if up_to > fastest:
        raise InputError(
            f"the frames are too far apart for {up_to:g} per cm; they show vibrations up to "
            f"{fastest:.0f} per cm"
        )
    velocity = np.diff(values, axis=0) / step
    correlation = (
        autocorrelation(velocity, lags) * np.cos(0.5 * np.pi * np.arange(lags) / lags) ** 2
    )
    correlation[0] *= 0.5  # the trapezoidal rule
    spacing = width / _POINTS_IN_A_LINE
    wave_numbers = spacing * np.arange(1, int(up_to / spacing) + 1)
    w = wave_numbers / WAVE_NUMBER
    integral = np.empty(len(w))
    times = step * np.arange(lags)
    for start in range(0, len(w), 256):
        some = slice(start, start + 256)
        integral[some] = 2 * step * (np.cos(np.outer(w[some], times)) @ correlation)
    return wave_numbers, integral / np.sinc(0.5 * w * step / np.pi) ** 2


def without_rotation(values: np.ndarray, positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Vectors or tensors of a molecule after each frame was turned onto the first one.

    The rotation is that with the least sum of m |R x - x_0|^2 (Kabsch, Acta Cryst. A 32, 922
    (1976)), x about the centre of mass.

    Parameters
    ----------
    values : (n, 3) or (n, 3, 3) float
        Such as dipoles about the centre of mass, or polarizabilities.
    positions : (n, n_atoms, 3) float
    masses : (n_atoms,) float
    """
    x = positions - np.einsum("a,nax->nx", masses / masses.sum(), positions)[:, None]
    u, _, vt = np.linalg.svd(np.einsum("a,ax,nay->nxy", masses, x[0], x))
    u[:, :, 2] *= np.linalg.det(u @ vt)[:, None]  # no reflection
    turn = u @ vt
    if values.ndim == 2:
        return np.einsum("nxy,ny->nx", turn, values)
    return turn @ values @ turn.transpose(0, 2, 1)


def autocorrelation(vectors: np.ndarray, lags: int) -> np.ndarray:
    """<v(0) . v(t)> (lags,) of vectors (n, 3) at equal times: the mean over all pairs."""
    n = len(vectors)
    size = next_fast_len(n + lags, real=True)
    power = np.abs(rfft(vectors, size, axis=0)) ** 2
    sums = irfft(power.sum(axis=1), size)[:lags]
    return sums / (n - np.arange(lags))
