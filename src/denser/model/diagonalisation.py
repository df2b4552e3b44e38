"""Density matrices of a tight-binding Hamiltonian, by diagonalisation of the whole structure.

With the Hamiltonian H and overlap S,

H' = S^(-1/2) H S^(-1/2) = sum_i e_i |i><i|
P = sum_i f_i |i><i|,  W = sum_i f_i e_i |i><i|,  f_i = 2 / (1 + exp((e_i - mu) / kT)),  tr P = N_e

All results have derivatives. Time grows with the cube of the number of atoms;
`denser.model.fragments` is linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit
from torch import Tensor

from denser.model.hamiltonians import Hamiltonian, Neighbours
from denser.types.units import HARTREE

KT = 0.1 / HARTREE
LEAST_OVERLAP = 0.05
"""Lower limit for the eigenvalues of the overlap matrix."""

ITERATIONS = 3
MIXING = 0.4
"""Number of updates of V and their mixing x; V is not iterated to convergence."""

PERIOD = 15.0
"""Shorter periods are repeated up to this length, bohr."""


def k_mesh(cell: np.ndarray) -> tuple[int, int, int]:
    """Numbers of k points along the reciprocal vectors of a cell (3, 3), with Gamma.

    As many as cells are needed to make each period `PERIOD` long; the repeated cells at Gamma are
    the same as this mesh.
    """
    n1, n2, n3 = np.ceil(PERIOD / np.linalg.norm(cell, axis=1)).astype(int).tolist()
    return n1, n2, n3


class Blocks(NamedTuple):
    """Blocks of P, and of W relative to the levels of its functions, hartree.

    Those of the atoms (n_atoms, 4, 4), and those of the pairs (n_pairs, 4, 4) between receiver and
    sender; between s, px, py, pz.
    """

    p_atoms: Tensor
    p_pairs: Tensor
    w_atoms: Tensor
    w_pairs: Tensor


class Whole:
    """Solves a structure as a whole, a crystal on the k points of `k_mesh`.

    Rows of the matrices are the functions of all atoms in all copies of the cell.

    The missing p functions of hydrogen all have the same last row, which the matrices omit.
    """

    def __init__(self, pairs: Neighbours, shifts: np.ndarray, cell: np.ndarray | None) -> None:
        n = len(pairs.numbers)
        times = np.ones(3, dtype=int)
        if cell is not None:
            times = np.array(k_mesh(cell))
        copies = np.stack(np.meshgrid(*(range(k) for k in times), indexing="ij"), -1).reshape(-1, 3)
        self.n_copies = m = len(copies)
        to = (copies[:, None] + shifts) % times  # (copy, pair, 3)
        to = np.ravel_multi_index(np.moveaxis(to, -1, 0), times)
        rows = torch.as_tensor((np.arange(m)[:, None] * n + pairs.receivers).ravel())
        columns = torch.as_tensor((to * n + pairs.senders).ravel())
        self.atom_pairs = (rows, columns)
        used = torch.ones(n, 4, dtype=torch.bool)
        used[torch.as_tensor(np.asarray(pairs.numbers) == 1), 1:] = False
        self.used = used.repeat(m, 1)
        self.size = int(self.used.sum())
        places = torch.full(self.used.shape, self.size)
        places[self.used] = torch.arange(self.size)
        self.pairs = (places[rows], places[columns])  # (copy and pair, 4) each
        self.atoms = places[:n]
        self.owner = torch.arange(m * n)[:, None].expand(-1, 4)[self.used]  # atom of each function

    def _diagonal(self, levels: Tensor) -> Tensor:
        """From (n_atoms, 4) to (size,)."""
        return levels.repeat(self.n_copies, 1)[self.used]

    def _matrix(self, blocks: Tensor, diagonal: Tensor) -> Tensor:
        """(size, size) from blocks (n_pairs, 4, 4) and a diagonal (size,)."""
        where = (self.pairs[0][:, :, None], self.pairs[1][:, None, :])
        out = torch.zeros(self.size + 1, self.size + 1, dtype=torch.float64)
        out = out.index_put(where, blocks.repeat(self.n_copies, 1, 1), accumulate=True)
        return out[:-1, :-1] + torch.diag(diagonal)

    def _matrix_of_atoms(self, pairs: Tensor, diagonal: Tensor) -> Tensor:
        """One row per atom and copy, from (n_pairs,) and (n_atoms,)."""
        n = len(diagonal) * self.n_copies
        out = torch.zeros(n, n, dtype=torch.float64)
        out = out.index_put(self.atom_pairs, pairs.repeat(self.n_copies), accumulate=True)
        return out + torch.diag(diagonal.repeat(self.n_copies))

    def solutions(
        self,
        hamiltonian: Hamiltonian,
        n_valence: Tensor,
        charge: int,
        interaction: Tensor | None,
        spin: int,
    ) -> Iterator[Blocks]:
        """The electrons without V, and with it if an interaction is given.

        The parameters are those of `hamiltonians`.
        """
        given = (hamiltonian, n_valence, charge, interaction, spin)
        for _, h, (p, w) in self.hamiltonians(*given):
            yield self._blocks(p, w, h)

    def hamiltonians(
        self,
        hamiltonian: Hamiltonian,
        n_valence: Tensor,
        charge: int,
        interaction: Tensor | None,
        spin: int,
        iterations: int = ITERATIONS,
    ) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor, Tensor]]]:
        """H' (size, size), the levels (size,), and P and W: without V, then with it.

        Parameters
        ----------
        hamiltonian : Hamiltonian
        n_valence : (n_atoms,) tensor
            Valence electrons.
        charge : int
        interaction : (n_pairs,) tensor, optional
            Repulsion of electrons in two atoms, hartree. None: only without V.
        spin : int
            Number of unpaired electrons.
        iterations : int
            Updates of V.
        """
        h = self._diagonal(hamiltonian.levels)
        root = _InverseRoot.apply(self._matrix(hamiltonian.overlap, torch.ones_like(h)))
        matrix = root @ self._matrix(hamiltonian.blocks, h) @ root
        n_electrons = self.n_copies * (float(n_valence.sum()) - charge)
        n_unpaired = self.n_copies * spin
        filled = _filled(matrix, n_electrons, n_unpaired)
        yield matrix, h, filled
        if interaction is None:
            return
        repulsion = self._matrix_of_atoms(interaction, hamiltonian.repulsion)
        neutral = n_valence.repeat(self.n_copies)
        v, with_v = torch.zeros_like(neutral), matrix
        for _ in range(iterations):
            q = (-neutral).index_add(0, self.owner, filled[0].diagonal())
            v = v + MIXING * (repulsion @ q - v)
            with_v = matrix + torch.diag(v[self.owner])
            filled = _filled(with_v, n_electrons, n_unpaired)
        yield with_v, h + v[self.owner], filled

    def _blocks(self, p: Tensor, w: Tensor, h: Tensor) -> Blocks:
        """Blocks of the first copy, from matrices (size, size) and the levels (size,)."""
        atoms, n = self.atoms, len(self.pairs[0]) // self.n_copies
        rows, columns = (places[:n] for places in self.pairs)
        found = []
        for matrix in (p, w - 0.5 * (h[:, None] + h) * p):
            padded = F.pad(matrix, (0, 1, 0, 1))
            found.append(padded[atoms[:, :, None], atoms[:, None, :]])
            found.append(padded[rows[:, :, None], columns[:, None, :]])
        return Blocks(*found)


def _filled(matrix: Tensor, n_electrons: float, n_unpaired: int) -> tuple[Tensor, Tensor]:
    """P and W, the sums of both spins."""
    if not n_unpaired:
        return occupied(matrix, n_electrons)
    # as of closed shells with twice the electrons of one spin
    p_up, w_up = occupied(matrix, n_electrons + n_unpaired)
    p_down, w_down = occupied(matrix, n_electrons - n_unpaired)
    return 0.5 * (p_up + p_down), 0.5 * (w_up + w_down)


def occupied(matrix: Tensor, n_electrons: float) -> tuple[Tensor, Tensor]:
    """P and W of a symmetric matrix and a number of electrons."""
    return _Occupied.apply(matrix, n_electrons)


class _InverseRoot(torch.autograd.Function):
    """S^(-1/2) of a symmetric matrix."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        low = values < LEAST_OVERLAP
        root = values.clamp(min=LEAST_OVERLAP) ** -0.5
        slope = torch.where(low, 0.0, -0.5 * values.clamp(min=LEAST_OVERLAP) ** -1.5)
        ctx.save_for_backward(values, vectors, root, slope)
        return (vectors * root) @ vectors.T

    @staticmethod
    def backward(ctx: Any, back: Tensor) -> Tensor:
        values, vectors, root, slope = ctx.saved_tensors
        back = vectors.T @ (0.5 * (back + back.T)) @ vectors
        return vectors @ (_divided(values, root, slope) * back) @ vectors.T


class _Occupied(torch.autograd.Function):
    """P and W of a symmetric matrix and a number of electrons."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, n_electrons: float) -> tuple[Tensor, Tensor]:
        e, vectors = torch.linalg.eigh(matrix)
        f = _occupations(e, n_electrons)
        ctx.save_for_backward(e, vectors, f)
        return (vectors * f) @ vectors.T, (vectors * (f * e)) @ vectors.T

    @staticmethod
    def backward(ctx: Any, back_p: Tensor, back_w: Tensor) -> tuple[Tensor, None]:
        e, vectors, f = ctx.saved_tensors
        slope = -f * (1 - 0.5 * f) / KT
        back_p, back_w = (vectors.T @ (0.5 * (b + b.T)) @ vectors for b in (back_p, back_w))
        out = _divided(e, f, slope) * back_p + _divided(e, f * e, f + e * slope) * back_w
        total = slope.sum()
        if total < 0:  # mu follows: d mu = sum f' de / sum f'
            follows = -(slope * (back_p.diagonal() + e * back_w.diagonal())).sum()
            out = out + torch.diag(follows * slope / total)
        return vectors @ out @ vectors.T, None


def _divided(x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
    """(y_i - y_j) / (x_i - x_j), or the slope if x_i = x_j (Daleckii and Krein)."""
    dx = x[:, None] - x
    near = dx.abs() < 1e-8
    dy = y[:, None] - y
    return torch.where(near, 0.5 * (slope[:, None] + slope), dy / torch.where(near, 1.0, dx))


def _occupations(e: Tensor, n_electrons: float) -> Tensor:
    """Fermi occupations for a number of electrons; all levels are full if there are too many."""
    levels = e.detach().cpu().numpy()  # small: faster without torch
    low, high = levels[0] - 50 * KT, levels[-1] + 50 * KT
    for _ in range(60):
        mu = 0.5 * (low + high)
        low, high = (low, mu) if 2 * expit((mu - levels) / KT).sum() > n_electrons else (mu, high)
    return 2 * torch.sigmoid((mu - e) / KT)
