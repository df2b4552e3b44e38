"""Two tight-binding Hamiltonians: levels of atoms and matrix blocks of pairs of atoms.

Extended Hueckel theory (R. Hoffmann, J. Chem. Phys. 39, 1397, 1963) in a minimal valence basis of
Slater functions, three Gaussians each (W. J. Hehre, R. F. Stewart, J. A. Pople, J. Chem. Phys. 51,
2657, 1969):

H_mn = K S_mn (h_m + h_n) / 2,  H_mm = h_m,  K = 1.75

and PBE's own, as tabulated for pairs of superposed atoms by
`denser.dft.tables.two_centre`. Both fade to zero shortly before the cutoff and have derivatives
with respect to the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from ase.data import chemical_symbols
from scipy.interpolate import CubicSpline
from torch import Tensor

from denser.types.errors import InputError
from denser.types.units import HARTREE

_STO3G = {
    1: ((2.227660584, 0.405771156, 0.109818), (0.154328967, 0.535328142, 0.444634542), (0.0,) * 3),
    2: (
        (0.994203, 0.231031, 0.0751386),
        (-0.09996723, 0.39951283, 0.70011547),
        (0.15591627, 0.60768372, 0.39195739),
    ),
    3: (
        (0.4828540806, 0.1347150629, 0.05272656258),
        (-0.2196203690, 0.2255954336, 0.9003984260),
        (0.01058760429, 0.5951670053, 0.4620010120),
    ),
    4: (
        (0.24645814, 0.09095855, 0.04016826),
        (-0.3088441215, 0.0196064117, 1.131034442),
        (-0.1215468600, 0.5715227604, 0.5498949471),
    ),
    5: (
        (0.1349014, 0.0726364, 0.0320846),
        (-0.3842642607, -0.1972567438, 1.375495512),
        (-0.3481691526, 0.6290323690, 0.6662832743),
    ),
}
"""By shell: exponents (bohr^-2) for a Slater exponent of one; coefficients of s and of p."""

ELEMENTS = {
    # valence electrons, shell, Slater exponents of s and p (bohr^-1), h of s and p (eV)
    1: (1, 1, 1.3, 0.0, -13.6, 0.0),
    3: (1, 2, 1.0, 1.0, -5.4, -3.5),
    4: (2, 2, 1.0, 1.0, -10.0, -6.0),
    5: (3, 2, 1.3, 1.3, -15.2, -8.5),
    6: (4, 2, 1.625, 1.625, -21.4, -11.4),
    7: (5, 2, 1.95, 1.95, -26.0, -13.4),
    8: (6, 2, 2.275, 2.275, -32.3, -14.8),
    9: (7, 2, 2.425, 2.425, -40.0, -18.1),
    11: (1, 3, 1.1, 1.1, -5.1, -3.0),
    12: (2, 3, 1.1, 1.1, -9.0, -4.5),
    13: (3, 3, 1.167, 1.167, -12.3, -6.5),
    14: (4, 3, 1.383, 1.383, -17.3, -9.2),
    15: (5, 3, 1.75, 1.3, -18.6, -14.0),
    16: (6, 3, 2.122, 1.827, -20.0, -11.0),
    17: (7, 3, 2.183, 1.733, -26.3, -14.2),
    19: (1, 4, 1.22, 1.22, -4.3, -2.7),
    20: (2, 4, 1.25, 1.25, -7.0, -4.0),
    29: (1, 4, 2.2, 2.2, -11.4, -6.06),
    30: (2, 4, 2.01, 1.7, -12.4, -6.53),
    32: (4, 4, 2.16, 1.85, -16.0, -9.0),
    33: (5, 4, 2.23, 1.89, -16.22, -12.16),
    34: (6, 4, 2.44, 2.07, -20.5, -14.4),
    35: (7, 4, 2.588, 2.131, -22.07, -13.1),
    53: (7, 5, 2.679, 2.322, -18.0, -12.7),
}
"""Hoffmann's parameters; Li, Be, Na, K and Ca are tighter than his, to overlap with neighbours
only. The filled d shells of Cu and Zn are not among the functions."""

_K = 1.75

_FADE = 2.0
"""The overlap goes to zero smoothly over this length before the cutoff, bohr."""

_REPULSION = 0.3
"""Repulsion of two electrons in one atom, for Hueckel's levels, hartree."""

_REPULSIONS = {
    1: 0.4195, 3: 0.174, 4: 0.224, 5: 0.296, 6: 0.3647, 7: 0.4309, 8: 0.4954, 9: 0.5584,
    11: 0.165, 12: 0.224, 13: 0.203, 14: 0.247, 15: 0.289, 16: 0.3288, 17: 0.3668,
    19: 0.136, 20: 0.181, 29: 0.243, 30: 0.277, 32: 0.240, 33: 0.272, 34: 0.301,
    35: 0.3277, 53: 0.2842,
}  # fmt: skip
"""The same for each element, for PBE's levels: the change of a level with its occupation (as in M.
Gaus, A. Goez, M. Elstner, J. Chem. Theory Comput. 9, 338, 2013), a second derivative of the
energy of the free pseudo-atom."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Atoms and their pairs of neighbours, each pair in both directions.

    Parameters
    ----------
    numbers : (n_atoms,) int
    senders, receivers : (n_pairs,) int
    vectors : (n_pairs, 3) float64 tensor
        From receiver to sender, or to the image of it, bohr.
    cutoff : float
        Largest distance of a pair, bohr.
    """

    numbers: np.ndarray
    senders: np.ndarray
    receivers: np.ndarray
    vectors: Tensor
    cutoff: float


@dataclass(frozen=True, eq=False)
class Hamiltonian:
    """Hamiltonian of a structure and its pairs of neighbours.

    Parameters
    ----------
    levels : (n_atoms, 4) tensor
        Diagonal, hartree.
    overlap, blocks : (n_pairs, 4, 4) tensor
        Between s, px, py, pz of receiver and sender; blocks of the Hamiltonian in hartree.
    repulsion : (n_atoms,) tensor
        Repulsion of two electrons in one atom, hartree.
    """

    levels: Tensor
    overlap: Tensor
    blocks: Tensor
    repulsion: Tensor


def require_parameters(elements: tuple[int, ...]) -> None:
    """Raise an InputError if there are no parameters for an element."""
    missing = [z for z in elements if z not in ELEMENTS]
    if missing:
        raise InputError(
            f"there are no tight-binding parameters for {chemical_symbols[missing[0]]}, only for "
            + " ".join(chemical_symbols[z] for z in ELEMENTS)
            + "; leave the element out, or set model.options.electrons to 0 in a new network"
        )


def hueckel(pairs: Neighbours) -> Hamiltonian:
    """Extended Hueckel theory."""
    numbers, receivers, senders = pairs.numbers, pairs.receivers, pairs.senders
    levels = torch.tensor([ELEMENTS[int(z)][4:] for z in numbers], dtype=torch.float64) / HARTREE
    levels = levels[:, [0, 1, 1, 1]]
    overlap = _overlaps(pairs)
    mean = 0.5 * (levels[receivers][:, :, None] + levels[senders][:, None, :])
    repulsion = torch.full((len(numbers),), _REPULSION, dtype=torch.float64)
    return Hamiltonian(levels, overlap, _K * mean * overlap, repulsion)


def tabulated(pairs: Neighbours) -> Hamiltonian:
    """PBE of superposed atoms.

    Below the shortest distance of the tables (1 bohr), the elements of that distance are used.
    """
    rows, levels, distances, splines = _tables()
    rows = rows[torch.tensor(pairs.numbers)]
    r = pairs.vectors.norm(dim=1)
    inside = r.clamp(distances[0], distances[-1])
    step = distances[1] - distances[0]
    interval = ((inside.detach() - distances[0]) / step).long().clamp(max=len(distances) - 2)
    x = (inside - torch.as_tensor(distances)[interval])[:, None, None]
    first, second = rows[pairs.receivers], rows[pairs.senders]
    c = splines[first, second, :, interval]  # (pair, power, matrix, integral)
    values = ((c[:, 0] * x + c[:, 1]) * x + c[:, 2]) * x + c[:, 3]
    values = values * _faded(r, pairs.cutoff)[:, None, None]
    ss, s_sigma, sigma_s, along, across = values.unbind(dim=2)  # (pair, matrix) each
    direction = (pairs.vectors / r[:, None])[:, None]  # (pair, 1, 3)
    line = direction[..., :, None] * direction[..., None, :]
    plane = torch.eye(3, dtype=line.dtype) - line
    pp = along[..., None, None] * line + across[..., None, None] * plane
    top = torch.cat([ss[..., None], s_sigma[..., None] * direction], dim=2)[..., None, :]
    low = torch.cat([(sigma_s[..., None] * direction)[..., None], pp], dim=3)
    overlap, blocks = torch.cat([top, low], dim=2).unbind(dim=1)
    repulsion = torch.tensor([_REPULSIONS[int(z)] for z in pairs.numbers], dtype=torch.float64)
    return Hamiltonian(levels[rows][:, [0, 1, 1, 1]], overlap, blocks, repulsion)


def _overlaps(pairs: Neighbours) -> Tensor:
    """Overlap (n_pairs, 4, 4) of s, px, py, pz of receiver and sender."""
    receivers, senders, vectors = pairs.receivers, pairs.senders, pairs.vectors
    exponents = np.ones((2, len(pairs.numbers), 3))
    weights = np.zeros((2, len(pairs.numbers), 3))
    for i, z in enumerate(pairs.numbers):
        _, shell, *zetas, _, _ = ELEMENTS[int(z)]
        alphas, *coefficients = _STO3G[shell]
        for k, (zeta, shares) in enumerate(zip(zetas, coefficients, strict=True)):
            if zeta:
                a = exponents[k, i] = np.array(alphas) * zeta**2
                one = (2 * a / np.pi) ** 0.75 * (2 * a**0.5) ** k  # norm of x^k exp(-a r^2)
                both = a[:, None] + a
                self_overlap = (np.pi / both) ** 1.5 * (1 if k == 0 else 0.5 / both)
                c = np.array(shares) * one
                weights[k, i] = c / np.sqrt(c @ self_overlap @ c)
    r2 = vectors.square().sum(dim=1)[:, None, None]
    fade = _faded(torch.sqrt(r2[:, 0, 0]), pairs.cutoff)

    def terms(k: int, j: int) -> tuple[Tensor, Tensor, Tensor]:
        a = torch.as_tensor(exponents[k][receivers])[:, :, None]
        b = torch.as_tensor(exponents[j][senders])[:, None, :]
        c = torch.as_tensor(weights[k][receivers])[:, :, None]
        c = c * torch.as_tensor(weights[j][senders])[:, None, :]
        s = c * (torch.pi / (a + b)) ** 1.5 * torch.exp(-a * b / (a + b) * r2)
        return s, a / (a + b), b / (a + b)

    def total(x: Tensor) -> Tensor:
        return x.sum(dim=(1, 2))

    s, _, _ = terms(0, 0)
    ss = total(s)[:, None]
    s, share, _ = terms(0, 1)
    sp = -total(s * share)[:, None] * vectors
    s, _, share = terms(1, 0)
    ps = total(s * share)[:, None] * vectors
    s, share_a, share_b = terms(1, 1)
    b = torch.as_tensor(exponents[1][senders])[:, None, :]
    outer = vectors[:, :, None] * vectors[:, None, :]
    pp = -total(s * share_a * share_b)[:, None, None] * outer
    pp = pp + total(s * share_b / (2 * b))[:, None, None] * torch.eye(3, dtype=vectors.dtype)
    top = torch.cat([ss, sp], dim=1)[:, None]
    low = torch.cat([ps[:, :, None], pp], dim=2)
    return torch.cat([top, low], dim=1) * fade[:, None, None]


def _faded(r: Tensor, cutoff: float) -> Tensor:
    """From 1 to 0, with two derivatives, shortly before the cutoff."""
    x = ((r - (cutoff - _FADE)) / _FADE).clamp(0.0, 1.0)
    return 1 - x**3 * (10 - 15 * x + 6 * x**2)


@cache
def _tables() -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
    """Row of each atomic number, levels of s and p, distances, and splines of the integrals.

    Coefficients (first, second, power, interval, overlap or Fock, integral), highest power first.
    """
    with (files("denser.atoms") / "tables" / "two_centre.npz").open("rb") as file:
        table = dict(np.load(file))
    numbers, r = table["numbers"], table["distances"]
    rows = torch.full((len(chemical_symbols),), -1)
    rows[numbers] = torch.arange(len(numbers))
    values = np.empty((len(numbers), len(numbers), len(r), *table["integrals"].shape[2:]))
    for (a, b), integrals in zip(table["pairs"], table["integrals"], strict=True):
        a, b = int(rows[a]), int(rows[b])
        # from the other end: s sigma and sigma s are exchanged and change sign
        values[b, a] = integrals[..., [0, 2, 1, 3, 4]] * [1, -1, -1, 1, 1]
        values[a, b] = integrals
    splines = torch.as_tensor(CubicSpline(r, values, axis=2).c)  # (power, interval, a, b, ...)
    return rows, torch.as_tensor(table["levels"]), r, splines.permute(2, 3, 0, 1, 4, 5)
