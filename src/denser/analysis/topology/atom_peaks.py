"""Places and elements of atoms from peaks of a valence density: a first guess.

Valence densities of pseudopotentials have hollow cores, so that their maxima are no atoms. What is
known is the density t_Z(r) of each free pseudo-atom. In a window w of 0.6 bohr about a place R, the
atom Z and a constant explain the density with the gain

    g_Z(R) = Var_w(rho) - Var_w(rho - t_Z) = 2 Cov_w(rho, t_Z) - Var_w(t_Z),

which is largest for the right element at the right place: Var_w(t_Z). g of all nodes is a few
convolutions. At its maxima the place is fitted (with a constant and a slope for the density of the
neighbours), the atom is subtracted, and hydrogen atoms are looked for in what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft
from scipy.ndimage import maximum_filter
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from denser.analysis.charges.stockholder import curve
from denser.types.density import Field
from denser.types.grid import Grid

WIDTH = 0.6
"""Of the window, bohr."""

SPACING = 0.52
"""Nodes are left out while they are not farther apart than this, bohr."""

_REACH = 2.2  # of a fit, bohr
_APART = {True: 1.9, False: 1.35}  # from another heavy atom, of a heavy atom and of hydrogen, bohr
_LEAST_GAIN = {True: 0.1, False: 0.1}  # of Var_w(t_Z), for a place to be looked at
_MISFIT = {True: 0.45, False: 0.8}  # of Var_w(t_Z), after the fit
_LOOSE = 1.3  # the same, where neighbours change an atom most
_ROUNDS = 4


def profile(z: int, r: np.ndarray) -> np.ndarray:
    """Density of the free pseudo-atom, e/bohr^3, at distances of any shape, bohr."""
    atom = curve(z)
    return atom.at(np.asarray(r, dtype=float), atom.pseudo)


def thinned(field: Field) -> Field:
    """Every n-th node of a field, so far apart as `SPACING` allows; values stay as they are."""
    grid = field.grid
    step = max(1, int(SPACING / float(grid.spacing.max()) + 1e-9))
    shape = tuple(n // step for n in grid.shape)
    cell = grid.cell * (np.array(shape) * step / np.array(grid.shape))[:, None]
    some = tuple(slice(0, n * step, step) for n in shape)
    values = np.asarray(field.values, dtype=float)[some]
    return Field(Grid(grid.origin, cell, values.shape), values, field.unit)


@dataclass(frozen=True, eq=False)
class Samples:
    """A density on nodes that are searched for atoms."""

    field: Field

    @cached_property
    def points(self) -> np.ndarray:
        """The nodes (n, 3), bohr."""
        return self.field.grid.points().reshape(-1, 3)

    @cached_property
    def tree(self) -> cKDTree:
        """To find the nodes near a place."""
        return cKDTree(self.points)

    @cached_property
    def window(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances from the first node, periodic, and the normalised window."""
        grid = self.field.grid
        fractions = np.meshgrid(*(np.fft.fftfreq(n) for n in grid.shape), indexing="ij")
        r = np.linalg.norm(np.stack(fractions, axis=-1) @ grid.cell, axis=-1)
        w = np.exp(-(r**2) / (2 * WIDTH**2))
        return r, w / w.sum()

    def gains(self, rest: np.ndarray, elements: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """g_Z at all nodes, and relative to Var_w(t_Z): (n_elements, nx, ny, nz) each."""
        (r, w), shape = self.window, self.field.grid.shape
        waves = fft.rfftn(rest.reshape(shape))
        gains, relative = [], []
        for z in elements:
            t = profile(z, r)
            mean = float((w * t).sum())
            variance = float((w * t**2).sum()) - mean**2
            kernel = np.conj(fft.rfftn(w * (t - mean)))
            gains.append(2 * fft.irfftn(waves * kernel, shape) - variance)
            relative.append(gains[-1] / variance)
        return np.array(gains), np.array(relative)

    def fitted(self, rest: np.ndarray, z: int, place: np.ndarray) -> tuple[np.ndarray, float]:
        """Place of the atom Z near `place`, and what is unexplained of Var_w(t_Z)."""
        near = self.tree.query_ball_point(place, _REACH)
        points, values = self.points[near], rest[near]

        def residual(x: np.ndarray) -> np.ndarray:
            r = np.linalg.norm(points - x[:3], axis=1)
            around = x[3] + (points - place) @ x[4:]
            return np.exp(-(r**2) / (4 * WIDTH**2)) * (values - profile(z, r) - around)

        found = least_squares(residual, np.r_[place, np.zeros(4)], max_nfev=15)
        r = np.linalg.norm(points - found.x[:3], axis=1)
        w, t = np.exp(-(r**2) / (2 * WIDTH**2)), profile(z, r)
        spread = float(w @ (t - (w @ t) / w.sum()) ** 2)
        return found.x[:3], float(found.fun @ found.fun) / max(spread, 1e-12)


def guess(
    samples: Samples, heavy: list[int], loose: bool = False
) -> tuple[list[int], list[np.ndarray]]:
    """Atomic numbers and places (3,), bohr, of the atoms of a density.

    Parameters
    ----------
    samples : Samples
    heavy : list of int
        Elements other than hydrogen that are looked for.
    loose : bool
        Take atoms, too, that are less like free ones.
    """
    numbers: list[int] = []
    places: list[np.ndarray] = []
    rest = samples.field.values.ravel().copy()
    for elements in (heavy, [1]):
        for _ in range(_ROUNDS):
            new = 0
            for z, place in _peaks(samples, rest, elements, places, loose):
                numbers.append(z)
                places.append(place)
                near = samples.tree.query_ball_point(place, curve(z).radius)
                rest[near] -= profile(z, np.linalg.norm(samples.points[near] - place, axis=1))
                new += 1
            if not new:
                break
    return numbers, places


def _peaks(
    samples: Samples,
    rest: np.ndarray,
    elements: list[int],
    known: list[np.ndarray],
    loose: bool,
) -> list[tuple[int, np.ndarray]]:
    """Atoms of these elements at the maxima of the gain, apart from each other and those known."""
    is_heavy = elements != [1]
    most = _LOOSE if loose else _MISFIT[is_heavy]
    gains, relative = samples.gains(rest, elements)
    top, best = gains.max(axis=0), gains.argmax(axis=0)
    found_enough = np.take_along_axis(relative, best[None], axis=0)[0] > _LEAST_GAIN[is_heavy]
    nodes = np.argwhere((maximum_filter(top, 3, mode="wrap") == top) & found_enough)
    found: list[tuple[int, np.ndarray]] = []
    for node in nodes[np.argsort(-top[tuple(nodes.T)])]:
        grid = samples.field.grid
        place = grid.origin + (node / np.array(grid.shape)) @ grid.cell
        taken = [*known, *(x for _, x in found)]
        likely = [elements[i] for i in np.argsort(-gains[(slice(None), *node)])[:4]]
        fits = [(*samples.fitted(rest, z, place), z) for z in likely]
        fits = [fit for fit in fits if np.linalg.norm(fit[0] - place) < 1]
        if not fits:
            continue
        x, misfit, z = min(fits, key=lambda fit: fit[1])
        near = min((float(np.linalg.norm(x - y)) for y in taken), default=np.inf)
        if misfit < most and near > _APART[is_heavy]:
            found.append((z, x))
    return found
