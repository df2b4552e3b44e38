"""Electrostatic energies of atomic multipoles: pairs of molecules, and the sum over a crystal.

An atom has a charge q, a dipole mu and a traceless second moment T. Two of them interact as

E = [q + mu.d + T:dd/2] [q' - mu'.d + T':dd/2] G(|r|),   G = 1/r,   d = d/dr

with r from the primed atom to the other one. The sum over a crystal follows Ewald: G = erfc(alpha
r)/r over near pairs, and the rest over the waves of the lattice (Smith, CCP5 Newsletter 46, 18
(1998); Aguado and Madden, J. Chem. Phys. 119, 7471 (2003)). Pairs of atoms within one molecule are
left out. The crystal is surrounded by a conductor (no term of the cell's dipole).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import erfc

_RANK = 4
"""Two second moments interact through fourth derivatives."""

_DECAY = 6.0
"""Both sums end where their terms have fallen to exp(-_DECAY^2), 2e-16."""

_AT_ONCE = 200_000


@dataclass(frozen=True, eq=False)
class Multipoles:
    """Charges (n,), dipoles (n, 3) and traceless second moments (n, 3, 3) of atoms, atomic units.

    `positions` (n, 3) are in bohr. A second moment is the integral of the charge density times
    x_i x_j - r^2 delta_ij / 3.
    """

    positions: np.ndarray
    charges: np.ndarray
    dipoles: np.ndarray
    seconds: np.ndarray

    def moved(self, shift: np.ndarray) -> Multipoles:
        """The same atoms moved by a vector (3,), bohr."""
        return Multipoles(self.positions + shift, self.charges, self.dipoles, self.seconds)

    def taken(self, index: np.ndarray) -> Multipoles:
        """Some of the atoms, or the same atom many times."""
        return Multipoles(
            self.positions[index], self.charges[index], self.dipoles[index], self.seconds[index]
        )

    @classmethod
    def joined(cls, parts: list[Multipoles]) -> Multipoles:
        """The atoms of several molecules, one after the other."""
        names = ("positions", "charges", "dipoles", "seconds")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def interaction(first: Multipoles, second: Multipoles) -> float:
    """Energy of the interaction of two molecules that do not overlap, hartree."""
    a, b = np.divmod(np.arange(len(first.charges) * len(second.charges)), len(second.charges))
    r = second.positions[b] - first.positions[a]
    return float(_pairs(first.taken(a), second.taken(b), r, _point(r)).sum())


def lattice_energy(molecules: list[Multipoles], cell: np.ndarray, alpha: float = 0.0) -> float:
    """Electrostatic energy of the molecules of one cell with each other and all images, hartree.

    Parameters
    ----------
    molecules : list of Multipoles
        Whole molecules; together they are neutral.
    cell : (3, 3) float
        Rows are lattice vectors, bohr.
    alpha : float
        Inverse width of the split, 1/bohr, which does not change the result. By default that with
        which both sums take about the same time.
    """
    atoms = Multipoles.joined(molecules)
    owner = np.repeat(np.arange(len(molecules)), [len(m.charges) for m in molecules])
    volume = abs(np.linalg.det(cell))
    if not alpha:
        alpha = np.sqrt(np.pi) * (len(owner) / volume**2) ** (1 / 6)
    energy = _waves(atoms, cell, alpha) + _near(atoms, owner, cell, alpha)
    # Each atom with itself, and with its molecule, in what the waves have
    b = [2 * alpha / np.sqrt(np.pi) * (2 * alpha**2) ** n / (2 * n + 1) for n in range(3)]
    energy -= 0.5 * b[0] * float((atoms.charges**2).sum())
    energy -= 0.5 * b[1] * float((atoms.dipoles**2).sum())
    energy -= 0.25 * b[2] * float((atoms.seconds**2).sum())
    return energy


def _waves(atoms: Multipoles, cell: np.ndarray, alpha: float) -> float:
    """2 pi/V sum_k exp(-k^2/4 alpha^2)/k^2 |sum_a (q + i k.mu - k.T.k/2) exp(i k.R)|^2."""
    longest = 2 * alpha * _DECAY
    counts = np.floor(longest * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int)
    orders = np.array(list(product(*[range(-n, n + 1) for n in counts])))
    half = orders[len(orders) // 2 + 1 :]  # the other half is the same
    k = 2 * np.pi * half @ np.linalg.inv(cell).T
    k = k[(k**2).sum(axis=1) < longest**2]
    total = 0.0
    step = max(1, _AT_ONCE // len(atoms.charges))
    for start in range(0, len(k), step):
        some = k[start : start + step]
        squares = (some**2).sum(axis=1)
        of_seconds = np.einsum("ki,aij,kj->ka", some, atoms.seconds, some, optimize=True)
        factors = atoms.charges - 0.5 * of_seconds + 1j * some @ atoms.dipoles.T
        waves = (factors * np.exp(1j * some @ atoms.positions.T)).sum(axis=1)
        total += float((np.exp(-squares / (4 * alpha**2)) / squares) @ np.abs(waves) ** 2)
    return 4 * np.pi / abs(np.linalg.det(cell)) * total


def _near(atoms: Multipoles, owner: np.ndarray, cell: np.ndarray, alpha: float) -> float:
    """Near pairs of different molecules, and what the waves have of pairs of the same one."""
    reach = _DECAY / alpha
    inverse = np.linalg.inv(cell)
    spread = np.ptp(atoms.positions @ inverse, axis=0)
    counts = np.ceil(reach * np.linalg.norm(inverse, axis=0) + spread).astype(int)
    n, total = len(owner), 0.0
    i, j = np.divmod(np.arange(n * n), n)
    for order in product(*[range(-m, m + 1) for m in counts]):
        r = atoms.positions[j] + np.array(order) @ cell - atoms.positions[i]
        same = (owner[i] == owner[j]) if not any(order) else np.zeros(n * n, dtype=bool)
        squares = (r**2).sum(axis=1)
        apart = (squares < reach**2) & ~same
        total += _energies(atoms, i, j, r, apart, alpha, False)
        total -= _energies(atoms, i, j, r, same & (i != j), alpha, True)
    return 0.5 * total


def _energies(
    atoms: Multipoles,
    i: np.ndarray,
    j: np.ndarray,
    r: np.ndarray,
    chosen: np.ndarray,
    alpha: float,
    inside: bool,
) -> float:
    """Energy of chosen pairs through erfc(alpha r)/r, or with `inside` through erf(alpha r)/r."""
    if not chosen.any():
        return 0.0
    vectors = r[chosen]
    kernel = _screened(vectors, alpha)
    if inside:
        kernel = _point(vectors) - kernel
    return float(_pairs(atoms.taken(i[chosen]), atoms.taken(j[chosen]), vectors, kernel).sum())


def _point(r: np.ndarray) -> np.ndarray:
    """B_n (5, n) of 1/r: the n-th derivatives are made from them, B_n = -(1/r) dB_(n-1)/dr."""
    inverse = 1 / (r**2).sum(axis=1)
    out = [np.sqrt(inverse)]
    for n in range(1, _RANK + 1):
        out.append((2 * n - 1) * out[-1] * inverse)
    return np.array(out)


def _screened(r: np.ndarray, alpha: float) -> np.ndarray:
    """B_n (5, n) of erfc(alpha r)/r."""
    squares = (r**2).sum(axis=1)
    length = np.sqrt(squares)
    bell = np.exp(-(alpha**2) * squares) / (alpha * np.sqrt(np.pi))
    out = [erfc(alpha * length) / length]
    for n in range(1, _RANK + 1):
        out.append(((2 * n - 1) * out[-1] + (2 * alpha**2) ** n * bell) / squares)
    return np.array(out)


def _pairs(a: Multipoles, b: Multipoles, r: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Energies (n,) of pairs of atoms with r (n, 3) from the first to the second."""
    b0, b1, b2, b3, b4 = kernel
    along_a, along_b = (np.einsum("ni,ni->n", x.dipoles, r) for x in (a, b))
    bent_a, bent_b = (np.einsum("nij,nj->ni", x.seconds, r) for x in (a, b))
    square_a, square_b = (np.einsum("ni,ni->n", x, r) for x in (bent_a, bent_b))
    across = np.einsum("ni,ni->n", a.dipoles, b.dipoles)
    energy = a.charges * b.charges * b0 - b1 * (a.charges * along_b - b.charges * along_a)
    energy += b1 * across - b2 * along_a * along_b
    energy += 0.5 * b2 * (a.charges * square_b + b.charges * square_a)
    energy += 0.5 * b3 * (along_a * square_b - along_b * square_a)
    energy -= b2 * np.einsum("ni,ni->n", a.dipoles, bent_b)
    energy += b2 * np.einsum("ni,ni->n", b.dipoles, bent_a)
    energy += 0.25 * b4 * square_a * square_b - b3 * np.einsum("ni,ni->n", bent_a, bent_b)
    energy += 0.5 * b2 * np.einsum("nij,nij->n", a.seconds, b.seconds)
    return energy
