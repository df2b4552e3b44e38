"""Density matrices of large structures from overlapping fragments, in linear time.

Divide and conquer (W. Yang, T.-S. Lee, J. Chem. Phys. 103, 5674, 1995). The atoms are divided into
compact groups, the cores. A fragment is a core with all atoms within a distance of it, the buffer;
each is diagonalised alone as in `denser.model.diagonalisation`:

H'_F = S_F^(-1/2) H_F S_F^(-1/2) = sum_i e_Fi |Fi><Fi|
P_mn = sum_i f(e_Fi) <m|Fi><Fi|n>,  m in the core of F

W likewise. The block of two atoms in different cores is the mean of the two fragments'. There is
one chemical potential for all fragments, so that charges go where the levels are lowest, however
far apart:

sum_F sum_i f(e_Fi - mu) w_Fi = N_e,  w_Fi = sum_m |<m|Fi>|^2 over the core of F

The levels of the atoms shift with the charges of all atoms, as in the whole structure. With a
larger buffer the blocks become those of the whole structure.

Bonds are cut only between atoms of which one has four, and never to hydrogen; double bonds,
aromatic rings and small groups at the edge stay whole. Half of a bond would be a half-filled level
in the gap, which reaches far. So the hybrid of a cut bond is put far above the others: the first
singular vector of the overlap with the missing atom.

A level counts in each core with its share there, and those within kT of mu are partly filled, so
degenerate levels of different fragments are filled alike. The shares of a truncated level add up
to one only nearly. In a gap this must not be made good by the highest level, perhaps one anion
among thousands of atoms: mu is midway between the places where 3 electrons in 100,000 more and
less would be filled (the middle of a gap), and one factor on P and W makes N_e exact.

Metals and others without a gap have density matrices of long range, for which the buffer is short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import covalent_radii
from scipy.spatial import cKDTree
from scipy.special import expit
from torch import Tensor

from denser.atoms.radii import BONDED, NON_METALS
from denser.fields.periodic import images_near, wrapped
from denser.fields.windows import compact_groups
from denser.model.diagonalisation import (
    ITERATIONS,
    KT,
    LEAST_OVERLAP,
    MIXING,
    Blocks,
)
from denser.model.hamiltonians import Hamiltonian, Neighbours
from denser.types.grid import Grid
from denser.types.units import BOHR

SMALLEST = 400
"""Structures with fewer atoms are solved as a whole, which takes them as little time."""

BUFFER = 9.0
"""Atoms within this distance of a core belong to its fragment, bohr."""

_CORE = 16
"""Largest number of atoms of a core."""

_SLACK = 3e-5
"""Share of the electrons that the truncated fragments may miscount."""

_ROUNDS = 4
"""Bonds from the buffer that are followed to keep pi systems and groups whole."""

_MARGIN = 12.0
"""How far this leads at most, bohr."""

_FAR_ABOVE = 5.0
"""Where the hybrids of cut bonds are put, hartree."""

_SAME = 1e-3
"""Images of an atom that are nearer than this are one, bohr."""


def in_fragments(n_atoms: int) -> bool:
    """Whether a structure of this size is solved in fragments."""
    return n_atoms >= SMALLEST


class Fragments:
    """Solves a structure in fragments; the results have no derivatives.

    Parameters
    ----------
    pairs : Neighbours
    shifts : (n_pairs, 3) int
        Lattice vectors to the image of the sender.
    cell : (3, 3) float or None
        Lattice vectors of a periodic structure, bohr.
    positions : (n_atoms, 3) float
        Bohr.
    """

    def __init__(
        self, pairs: Neighbours, shifts: np.ndarray, cell: np.ndarray | None, positions: np.ndarray
    ) -> None:
        self.pairs = pairs
        self.n = n = len(pairs.numbers)
        near = _Images.of(positions, cell, BUFFER + _MARGIN)
        width = 1 + 2 * int(max(np.abs(near.steps).max(initial=0), np.abs(shifts).max(initial=0)))
        # one number for each image; sums of steps and shifts stay within the width
        base = np.array([16 * width**2, 4 * width, 1]) * n
        offsets = near.steps @ base
        names = near.owner + offsets
        to = pairs.senders + shifts @ base
        sorted_names = np.argsort(names)
        bonded = _bonded(pairs)
        whole = bonded & ~_cut_here(pairs, bonded)
        of_bonds, of_whole, of_all = (
            _Rows.of(pairs.receivers, n, some) for some in (bonded, whole, np.ones_like(whole))
        )
        used = np.ones((n, 4), dtype=bool)
        used[pairs.numbers == 1, 1:] = False
        tree = cKDTree(near.positions)
        self.parts = []
        for core in compact_groups(near.positions[near.home], _CORE):
            home = near.home[core]
            members = np.unique(np.concatenate(tree.query_ball_point(near.positions[home], BUFFER)))
            for _ in range(_ROUNDS):  # no bond is cut that would leave half a double bond
                bond, end = of_whole.rows(near.owner[members])
                more, known = _found(to[bond] + offsets[members][end], names, sorted_names)
                members = np.union1d(members, more[known])
            members = np.concatenate([home, np.setdiff1d(members, home)])
            atoms, own_names, step = near.owner[members], names[members], offsets[members]
            order = np.argsort(own_names)
            own, receivers = of_all.rows(atoms)
            senders, inside = _found(to[own] + step[receivers], own_names, order)
            bond, end = of_bonds.rows(atoms)
            cut = ~_found(to[bond] + step[end], own_names, order)[1]
            self.parts.append(
                _Part.of(
                    atoms,
                    len(core),
                    (own[inside], receivers[inside], senders[inside]),
                    (bond[cut], end[cut]),
                    used,
                )
            )
        # the same pairs from the other end
        ends = np.stack([pairs.receivers, pairs.senders, *shifts.T])
        others = np.stack([pairs.senders, pairs.receivers, *-shifts.T])
        self.reverse = np.empty(len(shifts), dtype=int)
        self.reverse[np.lexsort(ends[::-1])] = np.lexsort(others[::-1])

    def solutions(
        self,
        hamiltonian: Hamiltonian,
        n_valence: Tensor,
        charge: int,
        interaction: Tensor | None,
        spin: int,
    ) -> Iterator[Blocks]:
        """As of `denser.model.diagonalisation.Whole`."""
        levels = hamiltonian.levels.numpy()
        overlap, blocks = hamiltonian.overlap.numpy(), hamiltonian.blocks.numpy()
        neutral = n_valence.numpy()
        n_electrons = float(neutral.sum()) - charge
        matrices = [part.orthogonal(overlap, blocks, levels) for part in self.parts]
        v = np.zeros(self.n)
        states = self._states(matrices, v)
        filled = _Filled.of(states, n_electrons, spin)
        yield self._blocks(states, filled, levels)
        if interaction is None:
            return
        repulsion, pull = hamiltonian.repulsion.numpy(), interaction.numpy()
        receivers, senders = self.pairs.receivers, self.pairs.senders
        for _ in range(ITERATIONS):
            q = -neutral
            for part, state in zip(self.parts, states, strict=True):
                q[part.atoms[: part.n_core]] += state.shares @ filled.of_level(state.energies)
            feel = np.bincount(receivers, pull * q[senders], minlength=self.n)
            v = v + MIXING * (repulsion * q + feel - v)
            states.clear()  # before the next ones are there, to save memory
            states = self._states(matrices, v)
            filled = _Filled.of(states, n_electrons, spin)
        yield self._blocks(states, filled, levels + v[:, None])

    def _states(self, matrices: Sequence[Tensor], v: np.ndarray) -> list[_States]:
        return [part.states(m, v) for part, m in zip(self.parts, matrices, strict=True)]

    def _blocks(self, states: Sequence[_States], filled: _Filled, levels: np.ndarray) -> Blocks:
        """Blocks of P and W relative to the levels (n_atoms, 4)."""
        n_pairs = len(self.reverse)
        h = levels
        receivers, senders = self.pairs.receivers, self.pairs.senders
        of_atoms = 0.5 * (h[:, :, None] + h[:, None, :])
        of_pairs = 0.5 * (h[receivers][:, :, None] + h[senders][:, None, :])
        p_atoms, w_atoms = np.zeros((2, self.n, 4, 4))
        p_pairs, w_pairs = np.zeros((2, n_pairs, 4, 4))
        for part, state in zip(self.parts, states, strict=True):
            f = filled.of_level(state.energies)
            part.put(state.vectors, f, p_atoms, p_pairs)
            part.put(state.vectors, f * state.energies, w_atoms, w_pairs)
        p_pairs, w_pairs = (
            0.5 * (x + x[self.reverse].transpose(0, 2, 1)) for x in (p_pairs, w_pairs)
        )
        w_atoms -= of_atoms * p_atoms
        w_pairs -= of_pairs * p_pairs
        parts = (p_atoms, p_pairs, w_atoms, w_pairs)
        return Blocks(*(torch.as_tensor(x) for x in parts))


@dataclass(frozen=True, eq=False)
class _Images:
    """Images of the atoms in and around a cell; without one, the atoms.

    `steps` (n, 3) are the lattice vectors from the atom, and `home` (n_atoms,) the images in the
    cell.
    """

    positions: np.ndarray
    owner: np.ndarray
    steps: np.ndarray
    home: np.ndarray

    @classmethod
    def of(cls, positions: np.ndarray, cell: np.ndarray | None, reach: float) -> _Images:
        n = len(positions)
        if cell is None:
            return cls(positions, np.arange(n), np.zeros((n, 3), dtype=int), np.arange(n))
        images, owner = images_near(positions, Grid(np.zeros(3), cell, (1, 1, 1)), reach)
        steps = np.round((images - positions[owner]) @ np.linalg.inv(cell)).astype(int)
        inside = np.linalg.norm(images - wrapped(positions, cell)[owner], axis=1) < _SAME
        home = np.empty(n, dtype=int)
        home[owner[inside]] = np.flatnonzero(inside)
        return cls(images, owner, steps, home)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some pairs, sorted by their receivers."""

    order: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, receivers: np.ndarray, n: int, chosen: np.ndarray) -> _Rows:
        some = np.flatnonzero(chosen)
        order = some[np.argsort(receivers[some], kind="stable")]
        return cls(order, np.searchsorted(receivers[order], np.arange(n + 1)))

    def rows(self, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of the atoms (m,), and for each pair which of the atoms it is of."""
        counts = np.diff(self.starts)[atoms]
        first = np.repeat(self.starts[atoms] - np.cumsum(counts) + counts, counts)
        return self.order[first + np.arange(counts.sum())], np.repeat(np.arange(len(atoms)), counts)


def _found(
    wanted: np.ndarray, names: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Index of each wanted name among names, whose order sorts them, and whether it is there."""
    place = np.searchsorted(names, wanted, sorter=order)
    index = order[np.minimum(place, len(order) - 1)]
    return index, names[index] == wanted


def _bonded(pairs: Neighbours) -> np.ndarray:
    """Which pairs are covalent bonds (n_pairs,)."""
    radii = covalent_radii[pairs.numbers] * BONDED / BOHR
    lengths = pairs.vectors.norm(dim=1).numpy()
    light = np.isin(pairs.numbers, NON_METALS)
    i, j = pairs.receivers, pairs.senders
    return light[i] & light[j] & (lengths < radii[i] + radii[j])


def _cut_here(pairs: Neighbours, bonded: np.ndarray) -> np.ndarray:
    """Which bonds may be cut (n_pairs,): single bonds, at an atom with four of them."""
    n = len(pairs.numbers)
    saturated = np.bincount(pairs.receivers[bonded], minlength=n) >= 4
    i, j = pairs.receivers, pairs.senders
    return (saturated[i] | saturated[j]) & (pairs.numbers[i] > 1) & (pairs.numbers[j] > 1)


@dataclass(frozen=True, eq=False)
class _States:
    """Levels (n,), eigenvectors (n, n) in single precision, and shares of core atoms (atom, n)."""

    energies: np.ndarray
    vectors: Tensor
    shares: np.ndarray


@dataclass(frozen=True, eq=False)
class _Part:
    """A fragment: its atoms, first those of the core, and the pairs among them.

    `ends` are the atoms at which bonds are cut, and `cut` the pairs of these bonds. `places`
    (n_atoms, 4) are rows of the functions; missing ones have the row `size`, which the matrices
    omit. `owner` (size,) is the atom of each function.
    """

    atoms: np.ndarray
    n_core: int
    pairs: np.ndarray
    receivers: np.ndarray
    senders: np.ndarray
    cut: np.ndarray
    ends: np.ndarray
    places: np.ndarray
    owner: np.ndarray
    size: int

    @classmethod
    def of(
        cls,
        atoms: np.ndarray,
        n_core: int,
        pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
        cut: tuple[np.ndarray, np.ndarray],
        used: np.ndarray,
    ) -> _Part:
        """Of pairs with receivers and senders, and of cut pairs with their ends inside."""
        used = used[atoms]
        size = int(used.sum())
        places = np.full(used.shape, size, dtype=np.int32)
        places[used] = np.arange(size)
        own, receivers, senders, cuts, ends = (x.astype(np.int32) for x in (*pairs, *cut))
        owner = np.nonzero(used)[0]
        return cls(atoms, n_core, own, receivers, senders, cuts, ends, places, owner, size)

    def orthogonal(self, overlap: np.ndarray, blocks: np.ndarray, levels: np.ndarray) -> Tensor:
        """S^(-1/2) H S^(-1/2) (size, size)."""
        e, vectors = torch.linalg.eigh(self._matrix(overlap, np.ones(self.size)))
        root = (vectors * e.clamp(min=LEAST_OVERLAP) ** -0.5) @ vectors.T
        diagonal = levels[self.atoms][self.places < self.size]
        matrix = root @ self._matrix(blocks, diagonal) @ root
        if not len(self.cut):
            return matrix
        # the function at the end that overlaps most with the atom that is missing
        hybrids = np.linalg.svd(overlap[self.cut])[0][:, :, 0]
        broken = np.zeros((self.size + 1, len(self.cut)), dtype=np.float32)
        broken[self.places[self.ends], np.arange(len(self.cut))[:, None]] = hybrids
        taken = torch.linalg.qr(torch.as_tensor(broken[:-1]))[0]
        return _without(matrix, taken)

    def states(self, matrix: Tensor, v: np.ndarray) -> _States:
        """Eigenvectors of a matrix with the shifts of the atoms (n_atoms,)."""
        shift = torch.as_tensor(v[self.atoms][self.owner], dtype=matrix.dtype)
        e, vectors = torch.linalg.eigh(matrix + torch.diag(shift))
        n_own = int(np.searchsorted(self.owner, self.n_core))
        shares = np.zeros((self.n_core, self.size))
        np.add.at(shares, self.owner[:n_own], vectors[:n_own].double().square().numpy())
        return _States(e.double().numpy(), vectors, shares)

    def put(self, vectors: Tensor, f: np.ndarray, atoms: np.ndarray, pairs: np.ndarray) -> None:
        """Blocks of sum_i f_i |i><i| of the atoms of the core, and of pairs that arrive there."""
        n_own = int(np.searchsorted(self.owner, self.n_core))
        weighted = vectors[:n_own] * torch.as_tensor(f, dtype=vectors.dtype)
        matrix = np.zeros((n_own + 1, self.size + 1))
        matrix[:-1, :-1] = (weighted @ vectors.T).numpy()
        core = self.places[: self.n_core]
        rows = np.where(core < self.size, core, n_own)
        atoms[self.atoms[: self.n_core]] = matrix[rows[:, :, None], core[:, None, :]]
        own = self.receivers < self.n_core
        columns = self.places[self.senders[own]]
        pairs[self.pairs[own]] = matrix[rows[self.receivers[own]][:, :, None], columns[:, None, :]]

    def _matrix(self, blocks: np.ndarray, diagonal: np.ndarray) -> Tensor:
        """(size, size), from blocks of all pairs and a diagonal."""
        out = np.zeros((self.size + 1, self.size + 1), dtype=np.float32)
        rows, columns = self.places[self.receivers], self.places[self.senders]
        out[rows[:, :, None], columns[:, None, :]] = blocks[self.pairs]
        out = np.ascontiguousarray(out[:-1, :-1])
        np.fill_diagonal(out, diagonal)
        return torch.as_tensor(out)


def _without(matrix: Tensor, taken: Tensor) -> Tensor:
    """A matrix with some orthonormal states (size, n) taken out, and put far above the others."""
    across = matrix @ taken
    inner = taken.T @ across + _FAR_ABOVE * torch.eye(taken.shape[1])
    half = across @ taken.T
    return matrix - half - half.T + taken @ inner @ taken.T


@dataclass(frozen=True, eq=False)
class _Filled:
    """Chemical potentials of both spins, each with its factor; one and the same if closed."""

    mu: tuple[float, ...]
    factors: tuple[float, ...]

    @classmethod
    def of(cls, states: Sequence[_States], n_electrons: float, spin: int) -> _Filled:
        e = np.concatenate([s.energies for s in states])
        w = np.concatenate([s.shares.sum(axis=0) for s in states])
        numbers = [n_electrons] if not spin else [n_electrons + spin, n_electrons - spin]
        found = [_potential(e, w, n) for n in numbers]
        return cls(tuple(mu for mu, _ in found), tuple(x for _, x in found))

    def of_level(self, e: np.ndarray) -> np.ndarray:
        """Occupations of levels (n,)."""
        f = [x * _fermi(e, mu) for mu, x in zip(self.mu, self.factors, strict=True)]
        return np.mean(f, axis=0)


def _fermi(e: np.ndarray, mu: float) -> np.ndarray:
    return 2 * expit((mu - e) / KT)


def _potential(e: np.ndarray, w: np.ndarray, n_electrons: float) -> tuple[float, float]:
    """Potential mu of levels (n,) that count `w` each, and the factor that makes N_e exact."""

    def filled_to(n: float) -> float:
        low, high = float(e.min()) - 50 * KT, float(e.max()) + 50 * KT
        for _ in range(60):
            mu = 0.5 * (low + high)
            low, high = (low, mu) if float(w @ _fermi(e, mu)) > n else (mu, high)
        return mu

    slack = min(max(_SLACK * n_electrons, 0.05), 0.5 * n_electrons)
    mu = 0.5 * (filled_to(n_electrons - slack) + filled_to(n_electrons + slack))
    return mu, n_electrons / float(w @ _fermi(e, mu))
