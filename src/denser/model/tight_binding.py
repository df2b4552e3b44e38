"""Electrons of a molecule in one small diagonalisation: input for networks, not an answer.

Extended Hueckel theory (R. Hoffmann, J. Chem. Phys. 39, 1397, 1963) in a minimal valence basis of
Slater functions, each three Gaussians (W. J. Hehre, R. F. Stewart, J. A. Pople, J. Chem. Phys. 51,
2657, 1969):

H_mn = K S_mn (h_m + h_n) / 2,  H_mm = h_m,  K = 1.75
H' = S^(-1/2) H S^(-1/2) = sum_i e_i |i><i|
P = sum_i f_i |i><i|,  W = sum_i f_i e_i |i><i|,  f_i = 2 / (1 + exp((e_i - mu) / kT)),  tr P = N_e

A second solution lets the electrons feel each other. Starting from V = 0, some times

q_a = sum_m P_mm - Z_a,  V_a <- (1 - x) V_a + x sum_b g_ab q_b,  H' + V

with m the functions of atom a, Z its valence electrons and g_ab a softened Coulomb repulsion (G.
Klopman, J. Am. Chem. Soc. 86, 4550, 1964; K. Ohno, Theor. Chim. Acta 2, 219, 1964) that fades
with the overlap. It shows how the electrons give way, beside where the levels alone put them.

A third and a fourth solution are the same two with H and S of PBE, as tabulated for pairs of
superposed atoms by `denser.dft.two_centre`, and with each element's own repulsion.

The blocks of P and W say what a network of finite reach learns slowly: where electrons are
delocalised, how a stretched bond loses them, and what a charge changes. They turn with the
molecule, do not know of molecules without overlap, and have derivatives with respect to positions.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from ase.data import chemical_symbols
from scipy.interpolate import CubicSpline
from torch import Tensor

from denser.errors import InputError
from denser.units import HARTREE

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
}
"""By shell: exponents (bohr^-2) for a Slater exponent of one; coefficients of s and of p."""

_ELEMENTS = {
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
}
"""Hoffmann's parameters; Li, Be and Na are tighter than his, to overlap with neighbours only."""

_TYPICAL = {
    1: (0.97, 0.0, -0.82, 0.0),
    3: (0.05, 0.03, -0.17, -0.12),
    5: (0.65, 0.35, -1.49, -1.05),
    6: (1.02, 0.91, -0.80, -0.80),
    7: (1.34, 1.38, -0.42, -0.47),
    8: (1.61, 1.73, -0.13, -0.21),
    9: (1.79, 1.91, -0.01, -0.06),
    11: (0.04, 0.03, -0.16, -0.11),
    12: (0.53, 0.13, -0.61, -0.26),
    14: (1.03, 0.72, -0.80, -0.83),
    15: (0.81, 0.69, -1.34, -1.47),
    16: (1.32, 1.05, -0.54, -0.71),
    17: (1.78, 1.79, -0.08, -0.11),
}
"""Scalars of an atom in the mean over small molecules, which are taken off."""

_TYPICAL_TABLES = {
    1: (0.90, 0.0, -0.97, 0.0),
    3: (0.18, 0.11, -0.27, -0.23),
    5: (0.79, 0.60, -0.91, -1.08),
    6: (0.97, 0.99, -0.58, -1.03),
    7: (1.31, 1.33, -0.30, -0.79),
    8: (1.55, 1.64, -0.13, -0.46),
    9: (1.77, 1.85, -0.01, -0.20),
    11: (0.13, 0.06, -0.18, -0.16),
    12: (0.59, 0.18, -0.34, -0.27),
    14: (1.00, 0.81, -0.56, -0.86),
    15: (1.07, 0.82, -0.62, -1.15),
    16: (1.54, 1.42, -0.10, -0.52),
    17: (1.83, 1.81, 0.02, -0.13),
}
"""The same of the solutions of PBE's tables."""

_TYPICAL_OF = (_TYPICAL, _TYPICAL, _TYPICAL_TABLES, _TYPICAL_TABLES)

_SPREAD = 0.1
"""How much they differ from atom to atom, and size of the vectors and tensors."""

_BOND_SIZE = 0.3
"""Size of what is shown of a pair."""

_K = 1.75
_KT = 0.1 / HARTREE
_LEAST_OVERLAP = 0.05
"""Eigenvalues of the overlap matrix count as no smaller than this."""

_FADE = 2.0
"""Overlap goes to zero smoothly over this length before the cutoff, bohr."""

_PERIOD = 15.0
"""Shorter periods are repeated until they are as long as this, bohr."""

_UNIT = 5.0 / HARTREE
"""Scale of the energies that a network is shown, hartree."""

_REPULSION = 0.3
"""Of two electrons in one atom, hartree."""

_REPULSIONS = {
    1: 0.4195, 3: 0.174, 4: 0.224, 5: 0.296, 6: 0.3647, 7: 0.4309, 8: 0.4954, 9: 0.5584,
    11: 0.165, 12: 0.224, 13: 0.203, 14: 0.247, 15: 0.289, 16: 0.3288, 17: 0.3668,
}  # fmt: skip
"""The same of each element, beside the tables: how a level follows its own occupation (as in M.
Gaus, A. Goez, M. Elstner, J. Chem. Theory Comput. 9, 338, 2013)."""

_ITERATIONS = 3
_MIXING = 0.4
"""How often, and how far, V follows the charges: a number of times, not until it is converged."""

N_SOLUTIONS = 4
"""Without and with V, of the parameters above and of PBE's tables."""

N_SCALARS, N_VECTORS, N_TENSORS, N_BOND = 4, 2, 2, 11
N_BOND_VECTORS, N_BOND_TENSORS = 4, 2
"""How many of each a network is shown of a solution: first of an atom, then of a pair."""


@dataclass(frozen=True, eq=False)
class Electrons:
    """What a network is shown of P and W, one solution after the other (n of them).

    Parameters
    ----------
    scalars : (n_atoms, 4 n) tensor
        Of each atom's block: s and mean p occupation, the same of W less h P; less what is
        typical of the element. Energies in 5 eV; everything scaled to about one.
    vectors : (n_atoms, 2 n, 3) tensor
        Elements between s and p.
    tensors : (n_atoms, 2 n, 3, 3) tensor
        Elements between p and p, without their trace.
    bonds : (n_pairs, 11 n) tensor
        Of each pair's blocks of P and W: ss, s sigma, sigma s, sigma sigma, mean of pi pi; and
        the bond order (sum of squares of P).
    bond_vectors : (n_pairs, 4 n, 3) tensor
        Elements of these blocks between s and the p across the bond, and the other way round.
    bond_tensors : (n_pairs, 2 n, 3, 3) tensor
        Elements between p and p, without what is the same all about the bond.
    """

    scalars: Tensor
    vectors: Tensor
    tensors: Tensor
    bonds: Tensor
    bond_vectors: Tensor
    bond_tensors: Tensor

    def turned(self, rotation: Tensor) -> Electrons:
        """The same with every vector times an orthogonal matrix (3, 3)."""
        return replace(
            self,
            vectors=self.vectors @ rotation,
            tensors=rotation.T @ self.tensors @ rotation,
            bond_vectors=self.bond_vectors @ rotation,
            bond_tensors=rotation.T @ self.bond_tensors @ rotation,
        )

    def to(self, device: torch.device | str) -> Electrons:
        """The same in single precision on a device."""
        return Electrons(*(getattr(self, f.name).to(device, torch.float32) for f in fields(self)))


def require_parameters(elements: tuple[int, ...]) -> None:
    """Raise an InputError if there are no parameters for an element."""
    missing = [z for z in elements if z not in _ELEMENTS]
    if missing:
        raise InputError(
            f"there are no tight-binding parameters for {chemical_symbols[missing[0]]}, only for "
            + " ".join(chemical_symbols[z] for z in _ELEMENTS)
            + "; set model.options.electrons to false, or leave the element out"
        )


def solve(
    numbers: np.ndarray,
    charge: int,
    senders: np.ndarray,
    receivers: np.ndarray,
    shifts: np.ndarray,
    vectors: Tensor,
    cutoff: float,
    cell: np.ndarray | None = None,
    n_solutions: int = N_SOLUTIONS,
) -> Electrons:
    """Solve for the electrons of a structure, given its pairs of neighbours.

    Parameters
    ----------
    numbers : (n_atoms,) int
    charge : int
        Of all atoms together.
    senders, receivers : (n_pairs,) int
        Every pair in both directions.
    shifts : (n_pairs, 3) int
        Which image of the sender it is, in lattice vectors.
    vectors : (n_pairs, 3) float64 tensor
        From receiver to sender, bohr; the results have derivatives with respect to them.
    cutoff : float
        Longest pair, bohr.
    cell : (3, 3) float, optional
        Lattice vectors, bohr, of a periodic structure; solved at Gamma of as many cells as make
        every period 15 bohr long.
    n_solutions : int
        1 to 4: without, and with what the electrons feel of each other; the same of PBE's tables.

    Raises
    ------
    InputError
        An element without parameters.
    """
    require_parameters(tuple(int(z) for z in numbers))
    n = len(numbers)
    times = np.ones(3, dtype=int)
    if cell is not None:
        times = np.ceil(_PERIOD / np.linalg.norm(cell, axis=1)).astype(int)
    copies = np.stack(np.meshgrid(*(range(k) for k in times), indexing="ij"), -1).reshape(-1, 3)
    m = len(copies)
    to = (copies[:, None] + shifts) % times  # (copy, pair, 3)
    to = np.ravel_multi_index(np.moveaxis(to, -1, 0), times)
    row_atoms = torch.as_tensor((np.arange(m)[:, None] * n + receivers).ravel())
    column_atoms = torch.as_tensor((to * n + senders).ravel())
    # Functions of each atom in the matrices; hydrogen's missing p functions are all the last row.
    used = torch.ones(n, 4, dtype=torch.bool)
    used[torch.as_tensor(np.asarray(numbers) == 1), 1:] = False
    used = used.repeat(m, 1)
    size = int(used.sum())
    places = torch.full(used.shape, size)
    places[used] = torch.arange(size)
    where = (places[row_atoms][:, :, None], places[column_atoms][:, None, :])
    owner = torch.arange(m * n)[:, None].expand(-1, 4)[used]  # atom of each function

    def matrix(blocks: Tensor, diagonal: Tensor) -> Tensor:
        out = torch.zeros(size + 1, size + 1, dtype=torch.float64)
        out = out.index_put(where, blocks.repeat(m, 1, 1), accumulate=True)
        return out[:size, :size] + torch.diag(diagonal)

    def repulsion(of_atoms: Tensor) -> Tensor:
        pairs = _repulsions(vectors, cutoff, of_atoms[receivers], of_atoms[senders])
        out = torch.zeros(m * n, m * n, dtype=torch.float64)
        out = out.index_put((row_atoms, column_atoms), pairs.repeat(m), accumulate=True)
        return out + torch.diag(of_atoms.repeat(m))

    def solutions(
        overlap: Tensor, h: Tensor, hamiltonian: Tensor, of_atoms: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        root = _InverseRoot.apply(overlap)
        hamiltonian = root @ hamiltonian @ root
        p, w = _Occupied.apply(hamiltonian, n_electrons)
        first = (p, _relative(w, p, h))
        v = torch.zeros(m * n, dtype=torch.float64)
        if n_solutions == 1:
            return [first]
        interaction = repulsion(of_atoms)
        for _ in range(_ITERATIONS):
            q = (-valence).repeat(m).index_add(0, owner, p.diagonal())
            v = v + _MIXING * (interaction @ q - v)
            p, w = _Occupied.apply(hamiltonian + torch.diag(v[owner]), n_electrons)
        return [first, (p, _relative(w, p, h + v[owner]))]

    parameters = torch.tensor([_ELEMENTS[int(z)] for z in numbers], dtype=torch.float64)
    valence = parameters[:, 0]
    n_electrons = m * (float(valence.sum()) - charge)
    ones = torch.ones(size, dtype=torch.float64)
    overlap = matrix(_overlaps(numbers, receivers, senders, vectors, cutoff), ones)
    levels = torch.stack([parameters[:, 4], *[parameters[:, 5]] * 3], dim=1) / HARTREE  # (n, 4)
    h = levels.repeat(m, 1)[used]
    factor = 0.5 * _K * (h[:, None] + h)
    factor = factor - torch.diag(factor.diagonal() - h)  # K = 1 on the diagonal
    found = solutions(overlap, h, factor * overlap, torch.full_like(valence, _REPULSION))
    if n_solutions > 2:
        levels, overlaps, focks = _of_tables(numbers, receivers, senders, vectors, cutoff)
        h = levels.repeat(m, 1)[used]
        own = torch.tensor([_REPULSIONS[int(z)] for z in numbers], dtype=torch.float64)
        found += solutions(matrix(overlaps, ones), h, matrix(focks, h), own)
    first = len(vectors)  # pairs whose receiver is in the first copy
    pairs = (places[row_atoms[:first]], places[column_atoms[:first]])
    shown = []
    for solution, typical in zip(found[:n_solutions], _TYPICAL_OF, strict=False):
        typical = torch.tensor([typical.get(int(z), (0.0,) * 4) for z in numbers]).double()
        shown.append(_shown(solution, typical, places[:n], pairs, vectors))
    names = [f.name for f in fields(Electrons)]
    return Electrons(*(torch.cat([getattr(x, name) for x in shown], dim=1) for name in names))


def _relative(w: Tensor, p: Tensor, h: Tensor) -> Tensor:
    """W relative to the levels of the two functions, in the unit that it is shown in."""
    return (w - 0.5 * (h[:, None] + h) * p) / _UNIT


def _repulsions(vectors: Tensor, cutoff: float, first: Tensor, second: Tensor) -> Tensor:
    """Repulsion (n_pairs,) of an electron each in two atoms, given that within each, hartree."""
    r2 = vectors.square().sum(dim=1)
    softened = r2 + (0.5 * (1 / first + 1 / second)) ** 2
    return softened**-0.5 * (1 - r2 / cutoff**2) ** 2


def _shown(
    matrices: tuple[Tensor, Tensor],
    typical: Tensor,
    atoms: Tensor,
    pairs: tuple[Tensor, Tensor],
    vectors: Tensor,
) -> Electrons:
    """Atom and pair blocks of P and W, in the parts that turn in one way each."""
    occupations, levels, vector_parts, tensors, bonds = [], [], [], [], []
    bond_vectors, bond_tensors = [], []
    direction = vectors / vectors.norm(dim=1, keepdim=True)
    line = direction[:, :, None] * direction[:, None, :]
    identity = torch.eye(3, dtype=line.dtype)
    plane = identity - line
    order = None
    for matrix, scalars in zip(matrices, (occupations, levels), strict=True):
        matrix = F.pad(matrix, (0, 1, 0, 1))
        block = matrix[atoms[:, :, None], atoms[:, None, :]]
        mean = block[:, 1:, 1:].diagonal(dim1=1, dim2=2).mean(dim=1)
        scalars += [block[:, 0, 0], mean]
        vector_parts.append(block[:, 0, 1:])
        tensors.append(block[:, 1:, 1:] - mean[:, None, None] * identity)
        pair = matrix[pairs[0][:, :, None], pairs[1][:, None, :]]
        order = pair.square().sum(dim=(1, 2)) if order is None else order
        pp = pair[:, 1:, 1:]
        along = (pp * line).sum(dim=(1, 2))
        across = 0.5 * (pp * plane).sum(dim=(1, 2))
        s_sigma = (pair[:, 0, 1:] * direction).sum(dim=1)
        sigma_s = (pair[:, 1:, 0] * direction).sum(dim=1)
        bonds += [pair[:, 0, 0], s_sigma, sigma_s, along, across]
        bond_vectors.append(pair[:, 0, 1:] - s_sigma[:, None] * direction)
        bond_vectors.append(pair[:, 1:, 0] - sigma_s[:, None] * direction)
        bond_tensors.append(pp - along[:, None, None] * line - across[:, None, None] * plane)
    return Electrons(
        (torch.stack([*occupations, *levels], dim=1) - typical) / _SPREAD,
        torch.stack(vector_parts, dim=1) / _SPREAD,
        torch.stack(tensors, dim=1) / _SPREAD,
        torch.stack([*bonds, order], dim=1) / _BOND_SIZE,
        torch.stack(bond_vectors, dim=1) / _BOND_SIZE,
        torch.stack(bond_tensors, dim=1) / _BOND_SIZE,
    )


def _overlaps(
    numbers: np.ndarray,
    receivers: np.ndarray,
    senders: np.ndarray,
    vectors: Tensor,
    cutoff: float,
) -> Tensor:
    """Overlap (n_pairs, 4, 4) of s, px, py, pz of receiver and sender."""
    exponents = np.ones((2, len(numbers), 3))
    weights = np.zeros((2, len(numbers), 3))
    for i, z in enumerate(numbers):
        _, shell, *zetas, _, _ = _ELEMENTS[int(z)]
        alphas, *coefficients = _STO3G[shell]
        for k, (zeta, c) in enumerate(zip(zetas, coefficients, strict=True)):
            if zeta:
                a = exponents[k, i] = np.array(alphas) * zeta**2
                one = (2 * a / np.pi) ** 0.75 * (2 * a**0.5) ** k  # norm of x^k exp(-a r^2)
                both = a[:, None] + a
                self_overlap = (np.pi / both) ** 1.5 * (1 if k == 0 else 0.5 / both)
                c = np.array(c) * one
                weights[k, i] = c / np.sqrt(c @ self_overlap @ c)
    r2 = vectors.square().sum(dim=1)[:, None, None]
    fade = _faded(torch.sqrt(r2[:, 0, 0]), cutoff)

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
    with (files("denser") / "tables" / "two_centre.npz").open("rb") as file:
        table = dict(np.load(file))
    numbers, r = table["numbers"], table["distances"]
    rows = torch.full((len(chemical_symbols),), -1)
    rows[numbers] = torch.arange(len(numbers))
    values = np.empty((len(numbers), len(numbers), len(r), *table["integrals"].shape[2:]))
    for (a, b), integrals in zip(table["pairs"], table["integrals"], strict=True):
        a, b = int(rows[a]), int(rows[b])
        # from the other end: s sigma and sigma s change places and sign
        values[b, a] = integrals[..., [0, 2, 1, 3, 4]] * [1, -1, -1, 1, 1]
        values[a, b] = integrals
    splines = torch.as_tensor(CubicSpline(r, values, axis=2).c)  # (power, interval, a, b, ...)
    return rows, torch.as_tensor(table["levels"]), r, splines.permute(2, 3, 0, 1, 4, 5)


def _of_tables(
    numbers: np.ndarray,
    receivers: np.ndarray,
    senders: np.ndarray,
    vectors: Tensor,
    cutoff: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """PBE's levels (n_atoms, 4), overlap and Fock blocks (n_pairs, 4, 4) of receiver and sender."""
    rows, levels, distances, splines = _tables()
    rows = rows[torch.as_tensor(np.asarray(numbers))]
    r = vectors.norm(dim=1)
    inside = r.clamp(distances[0], distances[-1])
    step = distances[1] - distances[0]
    interval = ((inside.detach() - distances[0]) / step).long().clamp(max=len(distances) - 2)
    x = (inside - torch.as_tensor(distances)[interval])[:, None, None]
    c = splines[rows[receivers], rows[senders], :, interval]  # (pair, power, matrix, integral)
    values = (((c[:, 0] * x + c[:, 1]) * x + c[:, 2]) * x + c[:, 3]) * _faded(r, cutoff)[
        :, None, None
    ]
    ss, s_sigma, sigma_s, along, across = values.unbind(dim=2)  # (pair, matrix) each
    direction = (vectors / r[:, None])[:, None]  # (pair, 1, 3)
    line = direction[..., :, None] * direction[..., None, :]
    plane = torch.eye(3, dtype=line.dtype) - line
    pp = along[..., None, None] * line + across[..., None, None] * plane
    top = torch.cat([ss[..., None], s_sigma[..., None] * direction], dim=2)[..., None, :]
    low = torch.cat([(sigma_s[..., None] * direction)[..., None], pp], dim=3)
    overlap, fock = torch.cat([top, low], dim=2).unbind(dim=1)
    levels = levels[rows]
    return torch.stack([levels[:, 0], *[levels[:, 1]] * 3], dim=1), overlap, fock


class _InverseRoot(torch.autograd.Function):
    """S^(-1/2) of a symmetric matrix."""

    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        low = values < _LEAST_OVERLAP
        root = values.clamp(min=_LEAST_OVERLAP) ** -0.5
        slope = torch.where(low, 0.0, -0.5 * values.clamp(min=_LEAST_OVERLAP) ** -1.5)
        ctx.save_for_backward(values, vectors, root, slope)
        return (vectors * root) @ vectors.T

    @staticmethod
    def backward(ctx, back: Tensor) -> Tensor:
        values, vectors, root, slope = ctx.saved_tensors
        back = vectors.T @ (0.5 * (back + back.T)) @ vectors
        return vectors @ (_divided(values, root, slope) * back) @ vectors.T


class _Occupied(torch.autograd.Function):
    """P and W of a symmetric matrix and a number of electrons."""

    @staticmethod
    def forward(ctx, matrix: Tensor, n_electrons: float) -> tuple[Tensor, Tensor]:
        e, vectors = torch.linalg.eigh(matrix)
        f = _occupations(e, n_electrons)
        ctx.save_for_backward(e, vectors, f)
        return (vectors * f) @ vectors.T, (vectors * (f * e)) @ vectors.T

    @staticmethod
    def backward(ctx, back_p: Tensor, back_w: Tensor) -> tuple[Tensor, None]:
        e, vectors, f = ctx.saved_tensors
        slope = -f * (1 - 0.5 * f) / _KT
        back_p, back_w = (vectors.T @ (0.5 * (b + b.T)) @ vectors for b in (back_p, back_w))
        out = _divided(e, f, slope) * back_p + _divided(e, f * e, f + e * slope) * back_w
        total = slope.sum()
        if total < 0:  # mu follows: d mu = sum f' de / sum f'
            follows = -(slope * (back_p.diagonal() + e * back_w.diagonal())).sum()
            out = out + torch.diag(follows * slope / total)
        return vectors @ out @ vectors.T, None


def _divided(x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
    """(y_i - y_j) / (x_i - x_j), or the slope where x_i and x_j are one (Daleckii and Krein)."""
    dx = x[:, None] - x
    near = dx.abs() < 1e-8
    dy = y[:, None] - y
    return torch.where(near, 0.5 * (slope[:, None] + slope), dy / torch.where(near, 1.0, dx))


def _occupations(e: Tensor, n_electrons: float) -> Tensor:
    """Fermi occupations of levels that hold as many electrons as there are, or all they can."""
    low, high = float(e[0]) - 50 * _KT, float(e[-1]) + 50 * _KT
    for _ in range(100):
        mu = 0.5 * (low + high)
        f = 2 * torch.sigmoid((mu - e) / _KT)
        low, high = (low, mu) if float(f.sum()) > n_electrons else (mu, high)
    return f
