"""Minimal basis iterative stockholder (MBIS) charges.

Each atom is a sum of spherical exponential shells, as many as its row in the periodic table:

    rho0(r) = sum_a sum_i N_ai / (8 pi s_ai^3) exp(-|r - R_a| / s_ai)

whose populations N and widths s minimise the Kullback-Leibler divergence of the density of all
electrons from rho0 (Verstraelen et al., J. Chem. Theory Comput. 12, 3894, 2016). At the minimum
each shell holds its stockholder's share w_ai = rho0_ai / rho0:

    N_ai = integral w_ai rho,    s_ai = 1/(3 N_ai) integral w_ai rho |r - R_a|

The shells of a core are too sharp for a uniform grid. The density is therefore written as the
free all-electron atoms plus the deformation density, which is smooth and is interpolated from the
grid by splines. Integrals use atom-centred quadratures (radial times Lebedev). The integrals of
the shells are known, so only rho - rho0 is integrated, N_ai <- N_ai + integral w_ai (rho - rho0),
in which most of the error of the quadrature cancels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from denser.analysis.charges.quadrature import Quadrature, pairs_near
from denser.analysis.charges.stockholder import curve, deform, traceless
from denser.atoms.free_atoms import free_atom
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE

TOLERANCE = 1e-6
"""The iteration ends when no population changes by more than this, e."""

MAX_ITERATIONS = 500

_NEGLIGIBLE = 1e-9
"""A shell ends where it is below this, e/bohr^3."""

KEPT = 2000
"""Pairs of points and atoms of larger molecules are found anew in each iteration, which takes three
times as long in all: they need 0.5 MB for each atom."""

_HISTORY = 8
"""Number of steps in Anderson mixing."""


@dataclass(frozen=True, eq=False)
class MBIS:
    """Atoms in a molecule by MBIS.

    Parameters
    ----------
    structure : Structure
    charges : (n_atoms,) float
        Z_a - sum_i N_ai, e.
    populations, widths : tuple of (n_shells,) float, one per atom
        N_ai, e, and s_ai, bohr, from the core outwards.
    dipoles : (n_atoms, 3) float
        -integral w_a rho (r - R_a), e*bohr.
    quadrupoles : (n_atoms, 3, 3) float
        Traceless, Buckingham's: -integral w_a rho (3 x_i x_j - x^2 delta_ij) / 2 with x = r - R_a,
        e*bohr^2.
    volumes : (n_atoms,) float
        integral w_a rho |r - R_a|^3, bohr^3.
    divergence : float
        integral rho ln(rho / rho0), e: the difference between the density and its atoms.
    residual : float
        Sum of charges minus that of the nuclei and electrons on the grid, e. It comes from the
        quadrature and, for an isolated molecule, from the tails of the shells beyond the box.
    iterations : int
    """

    structure: Structure
    charges: np.ndarray
    populations: tuple[np.ndarray, ...]
    widths: tuple[np.ndarray, ...]
    dipoles: np.ndarray
    quadrupoles: np.ndarray
    volumes: np.ndarray
    divergence: float
    residual: float
    iterations: int

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "symbols": self.structure.symbols,
            "charges_e": self.charges.tolist(),
            "shell_populations_e": [n.tolist() for n in self.populations],
            "shell_widths_angstrom": [(s * BOHR).tolist() for s in self.widths],
            "atomic_dipoles_debye": (self.dipoles * DEBYE).tolist(),
            "atomic_quadrupoles_debye_angstrom": (self.quadrupoles * DEBYE * BOHR).tolist(),
            "volumes_bohr3": self.volumes.tolist(),
            "divergence_e": self.divergence,
            "residual_e": self.residual,
            "iterations": self.iterations,
        }

    def lines(self) -> list[str]:
        """Readable lines, one per atom."""
        return [
            "MBIS:         charge/e  dipole/debye  volume/bohr3  valence e, width/angstrom",
            *(
                f"{i:4d} {symbol:2s} {q:13.4f} {np.linalg.norm(d) * DEBYE:13.4f} {v:13.3f} "
                f"{n[-1]:13.4f} {s[-1] * BOHR:8.4f}"
                for i, (symbol, q, d, v, n, s) in enumerate(
                    zip(
                        self.structure.symbols,
                        self.charges,
                        self.dipoles,
                        self.volumes,
                        self.populations,
                        self.widths,
                        strict=True,
                    ),
                    start=1,
                )
            ),
            f"sum of charges {self.charges.sum():+.6f} e (quadrature error {self.residual:.1e} e)",
        ]


def mbis(density: Density) -> MBIS:
    """MBIS charges, shells, atomic dipoles and volumes.

    Parameters
    ----------
    density : Density
        Valence or all-electron density, H to Xe. An all-electron density should have the cores of
        PBE atoms, because a difference at a nucleus is too sharp for the grid.

    Raises
    ------
    InputError
        An element without a free atom, other valence charges than those of the
        pseudopotentials, or no convergence in `MAX_ITERATIONS` steps.
    """
    structure = density.structure
    periodic = structure.cell is not None
    deformation, *_ = deform(density, periodic)
    quadrature = Quadrature.around(structure)
    if not periodic:  # beyond the box, where the density is unknown, the shells replace it
        quadrature = quadrature.within(density.grid)
    rho = interpolate(deformation, density.grid, quadrature.points)
    for atom, _, index, r in quadrature.pairs:
        free = curve(int(structure.numbers[atom]))
        rho[index] += free.at(r, free.all_electron)
    cores = structure.numbers.sum() - density.valence_charges.sum()
    return partition(structure, whole(quadrature, rho), cores + density.integrate())


def interpolate(values: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    """Values of a function on a periodic grid at points (n_points,), by quintic splines."""
    nodes = (points - grid.origin) @ np.linalg.inv(grid.cell) * grid.shape
    return map_coordinates(values, nodes.T, order=5, mode="grid-wrap")


Parts = Callable[[np.ndarray, list[slice]], Iterable[tuple[Quadrature, np.ndarray]]]
"""The quadrature in parts, and the density of all electrons on their points, e/bohr^3.

Called with the reach of all shells, bohr, and the shells of each atom. In the pairs of an atom, the
points within the reach of each shell come before the others.
"""


def whole(quadrature: Quadrature, rho: np.ndarray) -> Parts:
    """A quadrature in one part, and the density (n_points,) on it."""
    only = [(quadrature.outwards(), rho)]
    return lambda _reach, _slices: only


def in_parts(
    structure: Structure, parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Parts:
    """Parts of a large molecule.

    Pairs are kept in single precision, or, in a molecule of more than `KEPT` atoms, found anew each
    time.

    Parameters
    ----------
    structure : Structure
        An isolated molecule.
    parts : sequence of (points, weights, rho)
        As of `Quadrature`, and the density of all electrons on the points.
    """
    ends = np.array([curve(int(z)).radius for z in structure.numbers])
    if len(structure) <= KEPT:
        kept = []
        for points, weights, rho in parts:
            pairs = pairs_near(points, structure.positions, ends)
            kept.append((Quadrature(points, weights, pairs).outwards(), rho))
        return lambda _reach, _slices: kept

    def found(reach: np.ndarray, slices: list[slice]) -> Iterator[tuple[Quadrature, np.ndarray]]:
        farthest = np.minimum(ends, [reach[k].max() for k in slices])
        for points, weights, rho in parts:
            pairs = []
            for atom, centre, index, r in pairs_near(points, structure.positions, farthest):
                r = r.astype(np.float32)
                beyond = np.searchsorted(np.sort(reach[slices[atom]]).astype(r.dtype), r)
                order = np.argsort(beyond.astype(np.uint8), kind="stable")
                pairs.append((atom, centre, index[order], r[order]))
            yield Quadrature(points, weights, pairs), rho

    return found


def partition(structure: Structure, parts: Parts, n_electrons: float) -> MBIS:
    """MBIS of a density given on the points of a quadrature.

    Parameters
    ----------
    structure : Structure
    parts : Parts
    n_electrons : float
        Integral of the density; used only for the residual.

    Raises
    ------
    InputError
        No convergence in `MAX_ITERATIONS` steps.
    """
    shells = [free_shells(int(z)) for z in structure.numbers]
    ends = np.cumsum([0, *(len(n) for n, _ in shells)])
    slices = [slice(i, j) for i, j in zip(ends[:-1], ends[1:], strict=True)]
    n, s = (np.concatenate(x) for x in zip(*shells, strict=True))
    n, s, iterations = _solve(parts, slices, n, s)

    dipoles, seconds = np.zeros((len(structure), 3)), np.zeros((len(structure), 3, 3))
    volumes = np.array([60 * n[k] @ s[k] ** 3 for k in slices])
    divergence = 0.0
    for quadrature, rho in parts(_reach(n, s), slices):
        shares, pro = _shells(quadrature, slices, n, s)
        excess = quadrature.weights * _quotient(rho - pro, pro)
        for (atom, centre, index, r), own in zip(quadrature.pairs, shares, strict=True):
            for part in own:
                some = index[: len(part)]
                share = part * excess[some]
                x = quadrature.points[some] - centre
                dipoles[atom] -= share @ x
                seconds[atom] -= (share * x.T) @ x
                volumes[atom] += share @ r[: len(part)] ** 3
        positive = (rho > 0) & (pro > 0)
        ratio = np.log(_quotient(rho, pro), out=np.zeros_like(rho), where=positive)
        divergence += float(quadrature.weights @ (rho * ratio))
    charges = structure.numbers - np.array([n[k].sum() for k in slices])
    return MBIS(
        structure,
        charges,
        tuple(n[k] for k in slices),
        tuple(s[k] for k in slices),
        dipoles,
        traceless(seconds),
        volumes,
        divergence,
        float(charges.sum() - structure.numbers.sum() + n_electrons),
        iterations,
    )


@cache
def free_shells(z: int) -> tuple[np.ndarray, np.ndarray]:
    """Populations and widths (n_shells,) of the free atom, the start of the iteration."""
    n_shells = 1 + sum(z > noble for noble in (2, 10, 18, 36))
    if n_shells < 5:
        n = np.array([2.0, 8.0, 8.0, 0.0][:n_shells])
        n[-1] = z - n[:-1].sum()
        s = np.geomspace(0.5 / z, 0.5, n_shells)
    else:  # near the solution, as shells of similar width cannot be told apart
        outermost = max(2, z - 46)
        n = np.array([1.0, 4.0, 17.0, z - 22.0 - outermost, outermost])
        s = np.append(np.array([0.31, 1.18, 3.9, 12.5]) / z, 0.75)
    atom = Structure(np.array([z]), np.zeros((1, 3)))
    quadrature = Quadrature.around(atom, degree=3)
    rho = free_atom(z).all_electron(np.linalg.norm(quadrature.points, axis=1))
    return _solve(whole(quadrature, rho), [slice(0, n_shells)], n, s)[:2]


def _shells(
    quadrature: Quadrature, slices: list[slice], n: np.ndarray, s: np.ndarray
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Each pair's shells, at its nearest points (n,), and their sum (n_points,), e/bohr^3."""
    height, reach = n / (8 * np.pi * s**3), _reach(n, s)
    parts, pro = [], np.zeros(len(quadrature.points))
    total = torch.from_numpy(pro)  # its index_add_ is four times as fast as NumPy's
    for atom, _, index, r in quadrature.pairs:
        own = []
        for k in range(slices[atom].start, slices[atom].stop):
            end = np.searchsorted(r, r.dtype.type(reach[k]))
            shell = r[:end] * (-1 / s[k])
            np.exp(shell, out=shell)
            shell *= height[k]
            own.append(shell)
            total.index_add_(0, torch.from_numpy(index[:end]), torch.from_numpy(shell))
        parts.append(own)
    return parts, pro


def _reach(n: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Where the shells end, bohr."""
    return s * np.log(np.maximum(n / (8 * np.pi * s**3) / _NEGLIGIBLE, 1.0))


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def _solve(
    parts: Parts, slices: list[slice], n: np.ndarray, s: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Iterate the stockholder equations to self-consistency; Anderson's mixing speeds it up."""
    x = np.log(np.concatenate([n, s]))
    history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_HISTORY)
    for iteration in range(1, MAX_ITERATIONS + 1):
        n, s = np.exp(np.split(x, 2))
        electrons, moments = n.copy(), 3 * n * s
        for quadrature, rho in parts(_reach(n, s), slices):
            shares, pro = _shells(quadrature, slices, n, s)
            excess = quadrature.weights * _quotient(rho - pro, pro)
            for (atom, _, index, r), own in zip(quadrature.pairs, shares, strict=True):
                there = excess.take(index[: max(map(len, own))])
                for k, part in enumerate(own, start=slices[atom].start):
                    electrons[k] += part @ there[: len(part)]
                    part *= there[: len(part)]
                    moments[k] += part @ r[: len(part)]
        electrons = np.maximum(electrons, 1e-3 * n)
        if np.abs(electrons - n).max() < TOLERANCE:
            return electrons, np.maximum(moments, 1e-3 * n * s) / (3 * electrons), iteration
        target = np.log(np.concatenate([electrons, moments / (3 * electrons)]))
        history.append((target, target - x))
        x = _anderson(history)
    raise InputError(
        f"MBIS did not converge in {MAX_ITERATIONS} iterations; check that the density is one of "
        "these atoms"
    )


def _anderson(history: deque[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Combination of past steps with the smallest combined residual."""
    target, residual = history[-1]
    if len(history) == 1:
        return target
    d_target = np.array([target - t for t, _ in list(history)[:-1]])
    d_residual = np.array([residual - f for _, f in list(history)[:-1]])
    weights = np.linalg.lstsq(d_residual.T, residual, rcond=1e-8)[0]
    step = target - weights @ d_target - (target - residual)
    # No parameter may change by more than a factor of two at once.
    return target - residual + step * min(1.0, np.log(2) / np.abs(step).max())
