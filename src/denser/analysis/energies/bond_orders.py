"""Bond orders and delocalisation indices of the orbitals of a Kohn-Sham step.

With the density matrix P and the overlap S of the basis functions, and atoms A and B,

    Mayer     B_AB = sum_(m in A, n in B) (PS)_mn (PS)_nm
    Wiberg    W_AB = sum_(m in A, n in B) (S^(1/2) P S^(1/2))_mn^2     in Loewdin's basis

(Mayer, Chem. Phys. Lett. 97, 270 (1983); Wiberg, Tetrahedron 24, 1083 (1968)). With overlaps of the
occupied orbitals in the share w_A of Hirshfeld's atom, S_ij(A) = integral w_A psi_i psi_j,

    delta_AB = 4 sum_ij S_ij(A) S_ij(B),    lambda_A = 2 sum_ij S_ij(A)^2,

are the electrons that two atoms share and that are localised on one (Fradera, Austen and Bader, J.
Phys. Chem. A 103, 304 (1999), with fuzzy atoms). All are for closed shells. The electrons are the
valence electrons. N_A = lambda_A + sum_B delta_AB / 2 are those in the share of the atom. The share
includes valence electrons at cores of neighbours, so that Z - N_A is not quite Hirshfeld's charge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg

from denser.analysis.charges.quadrature import Quadrature
from denser.analysis.charges.stockholder import curve
from denser.types.structure import Structure

if TYPE_CHECKING:
    from denser.dft.one_step import OneStep

LEAST = 0.05
"""Pairs of atoms are listed if one of their orders is above this."""

POINTS = (30, 17)
"""Radial points per atom and degree of the Lebedev rule (110 points)."""

_AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class BondOrders:
    """Bond orders of all pairs of atoms; symmetric matrices with zeros on the diagonal.

    Parameters
    ----------
    structure : Structure
    mayer, wiberg : (n_atoms, n_atoms) float
    delocalisation : (n_atoms, n_atoms) float or None
        delta_AB, Hirshfeld's atoms; None in a periodic cell.
    localisation : (n_atoms,) float or None
        lambda_A, e.
    populations : (n_atoms,) float or None
        N_A, valence electrons.
    """

    structure: Structure
    mayer: np.ndarray
    wiberg: np.ndarray
    delocalisation: np.ndarray | None
    localisation: np.ndarray | None
    populations: np.ndarray | None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs with an order above `LEAST`."""
        every = [self.mayer, self.wiberg]
        if self.delocalisation is not None:
            every.append(self.delocalisation)
        found = np.argwhere(np.triu(np.max(every, axis=0), 1) > LEAST)
        return [(int(i), int(j)) for i, j in found]

    def to_dict(self) -> dict:
        """Return plain data; atoms are counted from 1."""
        shared, local = self.delocalisation, self.localisation
        return {
            "bonds": [
                {
                    "atoms": [i + 1, j + 1],
                    "elements": [self.structure.symbols[i], self.structure.symbols[j]],
                    "distance_angstrom": self._distance(i, j),
                    "mayer": float(self.mayer[i, j]),
                    "wiberg_loewdin": float(self.wiberg[i, j]),
                    "delocalisation_hirshfeld": None if shared is None else float(shared[i, j]),
                }
                for i, j in self.pairs
            ],
            "mayer_valences": self.mayer.sum(axis=1).tolist(),
            "wiberg_valences": self.wiberg.sum(axis=1).tolist(),
            "localisation_hirshfeld_e": None if local is None else local.tolist(),
        }

    def lines(self) -> list[str]:
        """Readable lines, one per pair of atoms."""
        rows = [
            "bond orders:       angstrom    Mayer   Wiberg (Loewdin)  delocalisation (Hirshfeld)"
        ]
        symbols = self.structure.symbols
        for i, j in self.pairs:
            name = f"{symbols[i]}{i + 1}-{symbols[j]}{j + 1}"
            shared = "-" if self.delocalisation is None else f"{self.delocalisation[i, j]:.3f}"
            rows.append(
                f"  {name:14s} {self._distance(i, j):10.3f} {self.mayer[i, j]:8.3f} "
                f"{self.wiberg[i, j]:18.3f} {shared:>27s}"
            )
        return rows

    def _distance(self, i: int, j: int) -> float:
        return float(self.structure.to_ase().get_distance(i, j, mic=True))


def bond_orders(step: OneStep) -> BondOrders:
    """Mayer and Wiberg bond orders, and delocalisation indices of an isolated molecule.

    Mayer's order depends on the basis, and diffuse functions spoil it; Wiberg's in Loewdin's basis
    and the delocalisation index do less. Pairs that are not bonded have a few hundredths.

    Parameters
    ----------
    step : OneStep
        Of a closed shell.
    """
    structure, cell = step.density.structure, step.mf.cell
    overlap = np.asarray(step.mf.get_ovlp()).real
    owner = np.repeat(
        np.arange(len(structure)), [stop - start for *_, start, stop in cell.aoslice_by_atom()]
    )
    spread = np.eye(len(structure))[owner]  # (nao, n_atoms)
    ps = step.dm @ overlap
    root = scipy.linalg.sqrtm(overlap).real
    loewdin = root @ step.dm @ root
    mayer = spread.T @ (ps * ps.T) @ spread
    wiberg = spread.T @ loewdin**2 @ spread
    for orders in (mayer, wiberg):
        np.fill_diagonal(orders, 0.0)
    if structure.cell is not None:
        return BondOrders(structure, mayer, wiberg, None, None, None)
    overlaps = atomic_overlaps(step)
    shared = 4 * np.einsum("aij,bij->ab", overlaps, overlaps)
    local = np.diag(shared) / 2
    populations = 2 * np.trace(overlaps, axis1=1, axis2=2)
    np.fill_diagonal(shared, 0.0)
    return BondOrders(structure, mayer, wiberg, shared, local, populations)


def atomic_overlaps(step: OneStep) -> np.ndarray:
    """Overlaps of the occupied orbitals in Hirshfeld's atoms (n_atoms, n_occupied, n_occupied)."""
    structure = step.density.structure
    quadrature = Quadrature.compact(structure, *POINTS)
    promolecule = np.zeros(len(quadrature.points))
    own = []
    for atom, _, index, r in quadrature.pairs:
        free = curve(int(structure.numbers[atom]))
        own.append(free.at(r, free.all_electron))
        promolecule[index] += own[-1]
    mol = step.mf.cell.to_mol()
    occupied = step.mo_coeff[:, step.mo_occ > 0]
    points = quadrature.points + (mol.atom_coords()[0] - structure.positions[0])  # its own frame
    blocks = range(0, len(promolecule), _AT_ONCE)
    psi = np.concatenate(
        [mol.eval_gto("GTOval_sph", points[i : i + _AT_ONCE]) @ occupied for i in blocks]
    )
    share = quadrature.weights / promolecule
    out = np.empty((len(structure), occupied.shape[1], occupied.shape[1]))
    for (atom, _, index, _), n in zip(quadrature.pairs, own, strict=True):
        inside = psi[index]
        out[atom] = (inside * (share[index] * n)[:, None]).T @ inside
    return out
