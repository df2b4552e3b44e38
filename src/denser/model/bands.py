"""Bands of a crystal's tight-binding electrons: the mesh of k points, its convergence, the gap.

Networks are shown the electrons of a cell that is repeated n1 x n2 x n3 times and solved at Gamma
(`denser.model.diagonalisation`). This is the same as one cell with the mesh of k points

k = sum_i (m_i / n_i) b_i,   m_i = 0 .. n_i - 1,   n_i = `k_mesh`,

and Bloch's sums H(k) = sum_T H_T exp(2 pi i k T). Here these are diagonalised for each k of this
mesh and of a denser one, for PBE's tables without the interaction of the electrons. Their
difference in the elements of the density matrix, of atoms and pairs of neighbours, is the error of
the mesh: the root of the sum of its squares for one electron. A gap that is smaller than
`SMALL_GAP` on the denser mesh, or none, puts a crystal in doubt: without a gap the density matrix
has a long range, which a network of finite range does not see, and no model has learnt from such
crystals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from ase.neighborlist import primitive_neighbor_list
from scipy.special import expit
from torch import as_tensor

from denser.model.diagonalisation import KT, LEAST_OVERLAP, k_mesh
from denser.model.hamiltonians import ELEMENTS, Hamiltonian, Neighbours, tabulated
from denser.types.structure import Structure
from denser.types.units import HARTREE

SMALL_GAP = 1.5 / HARTREE
"""A crystal with a smaller gap between its tight-binding levels is in doubt, hartree. Many of these
gaps are too small: diamond has 1.3 eV, silicon 1.0, boron nitride 2.0, naphthalene 4.4, NaCl 9,
graphite and metals none."""

COARSE = 0.06
"""A mesh is not converged if the density matrix changes by more than this. The predicted density
then changes by some 0.1 %: by 0.003 % in urea (0.003), 0.03 in naphthalene (0.04), 0.25 in silicon
(0.09) and in the primitive cell of NaCl (0.23), 0.7 in aluminium (0.30)."""

LARGEST = 100
"""Cells with more atoms are not looked at, for time: their mesh is Gamma, or nearly so."""

_FEW = 12
"""Cells with so few atoms get a mesh with the special points of all lattices, at 1/2 and 1/3."""


@dataclass(frozen=True)
class Bands:
    """What the tight-binding electrons of a crystal are like.

    Parameters
    ----------
    mesh : (3,) int
        Numbers of k points along the reciprocal lattice vectors, with Gamma.
    gap : float
        Between the highest occupied and the lowest empty level on the denser mesh, hartree; not
        below zero.
    change : float
        Change of the density matrix from the mesh to that, as above.
    """

    mesh: tuple[int, int, int]
    gap: float
    change: float

    @property
    def doubt(self) -> str:
        """One sentence if the gap is small or the mesh not converged, otherwise an empty string."""
        if self.gap < SMALL_GAP:
            gap = f"a small gap ({self.gap * HARTREE:.1f} eV" if self.gap > 0 else "no gap ("
            return (
                f"the crystal has {gap}{' ' if self.gap > 0 else ''}by tight binding), as metals "
                "and semiconductors, of which the model has learnt none"
            )
        if self.change > COARSE:
            return (
                f"the mesh of {self._points} k points is not converged (density matrix within "
                f"{self.change:.2g}); repeat the cell to longer periods"
            )
        return ""

    @property
    def _points(self) -> str:
        return " x ".join(map(str, self.mesh))

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "k_mesh": list(self.mesh),
            "k_mesh_change": round(self.change, 6),
            "tight_binding_gap_ev": round(self.gap * HARTREE, 4),
        }


@lru_cache(maxsize=4)
def bands(structure: Structure, cutoff: float) -> Bands | None:
    """Tight-binding bands of a crystal.

    None for molecules, large cells, unknown elements, and ions without valence electrons.

    An odd number of electrons in a cell has no gap.

    Parameters
    ----------
    structure : Structure
    cutoff : float
        Largest distance of a pair, bohr: that of the network.
    """
    cell, numbers = structure.cell, structure.numbers
    known = all(int(z) in ELEMENTS for z in numbers)
    if cell is None or len(structure) > LARGEST or not known:
        return None
    n_electrons = sum(ELEMENTS[int(z)][0] for z in numbers) - structure.charge
    if n_electrons < 1:
        return None
    receivers, senders, vectors, shifts = primitive_neighbor_list(
        "ijDS", (True,) * 3, cell, structure.positions, cutoff
    )
    pairs = Neighbours(numbers, senders, receivers, as_tensor(vectors), cutoff)
    bloch = _Bloch(tabulated(pairs), pairs, shifts)
    mesh = k_mesh(cell)
    few = len(structure) <= _FEW
    dense = tuple(6 * -(-n // 3) if few and n > 1 else 2 * n for n in mesh)
    matrix = bloch.solved(mesh, n_electrons)[0]
    better, gap = bloch.solved(dense, n_electrons)
    change = float(np.sqrt(((better - matrix) ** 2).sum() / n_electrons))
    return Bands(mesh, max(gap, 0.0), change)


class _Bloch:
    """Bloch's sums of a Hamiltonian and its overlap."""

    def __init__(self, hamiltonian: Hamiltonian, pairs: Neighbours, shifts: np.ndarray) -> None:
        n = len(pairs.numbers)
        used = np.ones((n, 4), dtype=bool)
        used[np.asarray(pairs.numbers) == 1, 1:] = False
        self.used, self.n = used.ravel(), n
        self.levels = hamiltonian.levels.numpy().ravel()
        self.blocks = hamiltonian.blocks.numpy(), hamiltonian.overlap.numpy()
        self.rows, self.columns, self.shifts = pairs.receivers, pairs.senders, shifts

    def _matrices(self, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """H and S at a k point in fractions of the reciprocal vectors."""
        phase = np.exp(2j * np.pi * self.shifts @ k)
        found = []
        for blocks, diagonal in zip(self.blocks, (self.levels, 1.0), strict=True):
            matrix = np.zeros((self.n, self.n, 4, 4), dtype=complex)
            np.add.at(matrix, (self.rows, self.columns), blocks * phase[:, None, None])
            flat = matrix.transpose(0, 2, 1, 3).reshape(4 * self.n, 4 * self.n)
            flat[np.diag_indices(4 * self.n)] += diagonal
            found.append(flat[np.ix_(self.used, self.used)])
        return found[0], found[1]

    def solved(self, mesh: tuple[int, ...], n_electrons: float) -> tuple[np.ndarray, float]:
        """Density matrix of atoms and pairs (n, 4, 4), and the gap, hartree."""
        values, states, weights, points = [], [], [], []
        for order in product(*map(range, mesh)):
            back = tuple(-m % n for m, n in zip(order, mesh, strict=True))
            if back < order:  # -k has the levels of k
                continue
            points.append(np.array(order) / mesh)
            h, s = self._matrices(points[-1])
            size, axes = np.linalg.eigh(s)
            root = (axes / np.sqrt(np.maximum(size, LEAST_OVERLAP))) @ axes.conj().T
            level, vectors = np.linalg.eigh(root @ h @ root)
            values.append(level)
            states.append(vectors)
            weights.append(1 if back == order else 2)
        levels, weight = np.array(values), np.array(weights) / np.prod(mesh)
        low, high = levels.min() - 50 * KT, levels.max() + 50 * KT
        for _ in range(60):
            mu = 0.5 * (low + high)
            filled = 2 * weight @ expit((mu - levels) / KT).sum(axis=1)
            low, high = (low, mu) if filled > n_electrons else (mu, high)
        f = 2 * expit((mu - levels) / KT)
        matrix = np.zeros((self.n + len(self.rows), 4, 4))
        for w, k, vectors, occupied in zip(weight, points, states, f, strict=True):
            whole = np.zeros((4 * self.n, 4 * self.n), dtype=complex)
            whole[np.ix_(self.used, self.used)] = (vectors * occupied) @ vectors.conj().T
            blocks = whole.reshape(self.n, 4, self.n, 4).transpose(0, 2, 1, 3)
            phase = np.exp(-2j * np.pi * self.shifts @ k)[:, None, None]
            matrix[: self.n] += w * blocks[np.arange(self.n), np.arange(self.n)].real
            matrix[self.n :] += w * (blocks[self.rows, self.columns] * phase).real
        full = round(n_electrons / 2)
        if n_electrons % 2 or full == 0 or full >= levels.shape[1]:
            return matrix, 0.0
        ordered = np.sort(levels, axis=1)
        return matrix, float(ordered[:, full].min() - ordered[:, full - 1].max())
