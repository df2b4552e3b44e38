"""Fukui functions of atoms: a tight-binding Hamiltonian whose levels the network corrects.

The frontier orbitals are those of H' + V of PBE's tables for superposed atoms (with the charges
iterated, as in `denser.model.unpaired`), with a matrix L_a added to the functions s, px, py, pz of
each atom:

(H' + V + L) c_i = e_i c_i,   L_a = x_s |s><s| + sum_jk |p_j> (x_p 1 + T)_jk <p_k|

x_s and x_p are linear in invariants of the features of the atom, T in symmetric traceless tensors
of them (`denser.model.whitened_features`), with a part for all elements and one for each. The level
that gives or takes an electron is spread over near ones, and each atom's share over its neighbours,
since the atom of a function is not quite the atom in which its electrons are:

f_a = sum_b M_ab sum_i w_i sum_(m in b) c_im^2,   M_ab = exp(u_a - k r_ab) / sum_c exp(u_c - k r_cb)
f-: w_i ~ exp(e_i / kT), i occupied;   f+: w_i ~ exp(-e_i / kT), i empty

f+ and f- have an L, u, k and kT each. Their sums over the atoms are exactly 1, and no share is
negative. They turn with the molecule as the features do. Of molecules far from each other those
whose levels are nearest share the electron.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor, nn

from denser.model.diagonalisation import Whole
from denser.model.hamiltonians import ELEMENTS, Neighbours, require_parameters, tabulated
from denser.model.tight_binding import interaction_of
from denser.model.whitened_features import N_INVARIANTS, N_TENSORS, WhitenedFeatures
from denser.types.structure import Structure, pairs_within
from denser.types.units import HARTREE

CUTOFF = 10.0
"""Largest distance of a pair of the Hamiltonian, bohr."""

ITERATIONS = 10
"""Updates of V."""

TEMPERATURE = 0.3 / HARTREE
DECAY = 2.0
"""kT, hartree, and k, 1/bohr, at first."""

_UNIT = 0.05
"""Of L, hartree."""

_APART = 1e-7
"""Degenerate levels are made to differ by less, hartree: their derivatives have no limit."""

_OUTSIDE = 1e3
"""Level of functions that no atom has, hartree."""


@dataclass(frozen=True, eq=False)
class TightBinding:
    """H' + V of n isolated closed-shell molecules of up to m atoms.

    Parameters
    ----------
    matrices : (n, 4 m, 4 m) tensor
        Between s, px, py, pz of all atoms, hartree.
    used : (n, 4 m) tensor of bool
        Functions that the atoms have.
    n_occupied : (n,) int tensor
    numbers : (n, m) int tensor
        Atomic numbers, 0 beyond the last atom.
    positions : (n, m, 3) tensor
        Bohr.
    """

    matrices: Tensor
    used: Tensor
    n_occupied: Tensor
    numbers: Tensor
    positions: Tensor

    @classmethod
    def of(cls, structures: Sequence[Structure]) -> TightBinding:
        """Of molecules.

        Raises
        ------
        InputError
            An element without parameters.
        """
        n, m = len(structures), max(map(len, structures))
        matrices, used = torch.zeros(n, 4 * m, 4 * m).double(), torch.zeros(n, 4 * m).bool()
        occupied, numbers = torch.zeros(n).long(), torch.zeros(n, m).long()
        positions = torch.zeros(n, m, 3).double()
        for i, structure in enumerate(structures):
            size = len(structure)
            matrix, there, occupied[i] = _hamiltonian(structure)
            where = there.flatten().nonzero()[:, 0]
            matrices[i, where[:, None], where] = matrix
            used[i, where] = True
            numbers[i, :size] = torch.tensor(structure.numbers)
            positions[i, :size] = torch.tensor(structure.positions)
        return cls(matrices, used, occupied, numbers, positions)

    def padded(self, values: Tensor) -> Tensor:
        """From values (all atoms, ...) to (n, m, ...), zero beyond the last atoms."""
        out = torch.zeros(*self.numbers.shape, *values.shape[1:], dtype=values.dtype)
        out[self.numbers > 0] = values
        return out

    def part(self, chosen: Tensor) -> TightBinding:
        """Some of the molecules."""
        return TightBinding(
            self.matrices[chosen], self.used[chosen], self.n_occupied[chosen],
            self.numbers[chosen], self.positions[chosen],
        )  # fmt: skip


def _hamiltonian(structure: Structure) -> tuple[Tensor, Tensor, int]:
    """H' + V, the functions that the atoms have (n_atoms, 4), and the number of filled orbitals."""
    numbers = tuple(int(z) for z in structure.numbers)
    require_parameters(numbers)
    receivers, senders = pairs_within(structure.positions, CUTOFF)
    vectors = torch.tensor(structure.positions[senders] - structure.positions[receivers])
    pairs = Neighbours(structure.numbers, senders, receivers, vectors, CUTOFF)
    whole = Whole(pairs, np.zeros((len(senders), 3), dtype=int), None)
    found = tabulated(pairs)
    n_valence = torch.tensor([ELEMENTS[z][0] for z in numbers]).double()
    interaction = interaction_of(found.repulsion, pairs)
    *_, (matrix, _, _) = whole.hamiltonians(
        found, n_valence, structure.charge, interaction, 0, ITERATIONS
    )
    return matrix, whole.used, round((float(n_valence.sum()) - structure.charge) / 2)


class FrontierAtoms(WhitenedFeatures):
    """f+ and f- of atoms from their features and a tight-binding Hamiltonian.

    Parameters
    ----------
    elements : sequence of int
        Atomic numbers.
    channels, n_invariants : int
        Sizes of the features and of their invariants.
    """

    def __init__(self, elements: Sequence[int], channels: int, n_invariants: int) -> None:
        super().__init__(elements, channels, n_invariants)
        n = len(elements)
        self.constants = nn.Parameter(torch.zeros(2, n, 2))  # f+ and f-; s and p
        self.shared = nn.Parameter(torch.zeros(2, 2, N_INVARIANTS))
        self.own = nn.Parameter(torch.zeros(2, n, 2, N_INVARIANTS))
        self.shared_of_tensors = nn.Parameter(torch.zeros(2, N_TENSORS))
        self.own_of_tensors = nn.Parameter(torch.zeros(2, n, N_TENSORS))
        self.attractions = nn.Parameter(torch.zeros(2, n))
        self.decays = nn.Parameter(torch.full((2,), DECAY))
        self.temperatures = nn.Parameter(torch.full((2,), log(TEMPERATURE)))
        self.double()

    def forward(self, electrons: TightBinding, p: Tensor, q: Tensor) -> Tensor:
        """f+ and f- of the atoms (n, 2, m), zero beyond the last atom.

        Parameters
        ----------
        electrons : TightBinding
        p, q : (n, m, k) and (n, m, k, 5) tensor
            As of `inputs`, padded.
        """
        return torch.stack([self._of(k, electrons, p, q) for k in range(2)], dim=1)

    def _of(self, k: int, electrons: TightBinding, p: Tensor, q: Tensor) -> Tensor:
        n, m = electrons.numbers.shape
        rows, used = self.rows[electrons.numbers], electrons.used
        levels, vectors = torch.linalg.eigh(
            electrons.matrices + self._corrections(k, rows, p, q, used) + _outside(used)
        )
        index, last = torch.arange(4 * m), electrons.n_occupied[:, None]
        there = (index >= last) & (index < used.sum(dim=1)[:, None]) if k == 0 else index < last
        sign = -1.0 if k == 0 else 1.0
        weights = torch.where(there, sign * levels / self.temperatures[k].exp(), -torch.inf)
        shares = (vectors.square() @ weights.softmax(dim=1)[:, :, None]).view(n, m, 4).sum(dim=2)
        distances = torch.linalg.norm(
            electrons.positions[:, :, None] - electrons.positions[:, None], dim=3
        )
        mixing = self.attractions[k][rows][:, :, None] - self.decays[k] * distances
        mixing = torch.where((electrons.numbers > 0)[:, :, None], mixing, -torch.inf)
        return (mixing.softmax(dim=1) @ shares[:, :, None])[:, :, 0]

    def _corrections(self, k: int, rows: Tensor, p: Tensor, q: Tensor, used: Tensor) -> Tensor:
        """L of all molecules (n, 4 m, 4 m), hartree."""
        n, m = rows.shape
        x = self.constants[k][rows] + p @ self.shared[k].T
        x = x + torch.einsum("nak,najk->naj", p, self.own[k][rows])
        t = self.shared_of_tensors[k] + self.own_of_tensors[k][rows]
        tensors = torch.einsum("nak,nakm,mij->naij", t, q, self.directions)
        of_p = x[:, :, 1, None, None] * torch.eye(3, dtype=p.dtype) + tensors
        of_s = nn.functional.pad(x[:, :, :1, None], (0, 3))
        blocks = torch.cat([of_s, nn.functional.pad(of_p, (1, 0))], dim=2)
        full = torch.zeros(n, m, 4, m, 4, dtype=p.dtype)
        own = torch.arange(m)
        full[:, own, :, own] = _UNIT * blocks.transpose(0, 1)
        full = full.view(n, 4 * m, 4 * m)
        return full * used[:, :, None] * used[:, None]


def _outside(used: Tensor) -> Tensor:
    """Diagonal matrices (n, 4 m, 4 m) that keep functions that no atom has apart, and levels."""
    index = torch.arange(used.shape[1]).double()
    apart = _APART * (0.618034 * index % 1)
    return torch.diag_embed(torch.where(used, apart, _OUTSIDE + index))
