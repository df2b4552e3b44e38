"""Electrons of a molecule from one small diagonalisation, as input for networks.

With the Hamiltonian H and overlap S of `denser.model.hamiltonians`:

H' = S^(-1/2) H S^(-1/2) = sum_i e_i |i><i|
P = sum_i f_i |i><i|,  W = sum_i f_i e_i |i><i|,  f_i = 2 / (1 + exp((e_i - mu) / kT)),  tr P = N_e

A second solution includes the interaction of the electrons. Starting from V = 0, a few times

q_a = sum_m P_mm - Z_a,  V_a <- (1 - x) V_a + x sum_b g_ab q_b,  H' + V

with m the functions of atom a, Z its valence electrons and g_ab a softened Coulomb repulsion (G.
Klopman, J. Am. Chem. Soc. 86, 4550, 1964; K. Ohno, Theor. Chim. Acta 2, 219, 1964) that vanishes
with the overlap. It describes the response of the electrons to the charges.

The first two solutions are those of Hueckel theory, the third and fourth the same for PBE's tables.

The blocks of P and W contain information that a network of finite range learns slowly: the
delocalisation of electrons, stretched bonds, and the effect of a charge. They rotate with the
molecule, do not depend on molecules without overlap, and have derivatives by the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from denser.model.diagonalisation import Blocks, Whole
from denser.model.fragments import Fragments, in_fragments
from denser.model.hamiltonians import (
    ELEMENTS,
    Neighbours,
    hueckel,
    require_parameters,
    tabulated,
)
from denser.types.units import HARTREE

_TYPICAL = {
    1: (0.97, 0.0, -0.82, 0.0),
    3: (0.05, 0.03, -0.17, -0.12),
    4: (0.51, 0.20, -1.01, -0.59),
    5: (0.65, 0.35, -1.49, -1.05),
    6: (1.02, 0.91, -0.80, -0.80),
    7: (1.34, 1.38, -0.42, -0.47),
    8: (1.61, 1.73, -0.13, -0.21),
    9: (1.79, 1.91, -0.01, -0.06),
    11: (0.04, 0.03, -0.16, -0.11),
    12: (0.53, 0.13, -0.61, -0.26),
    13: (0.52, 0.34, -1.31, -0.98),
    14: (1.03, 0.72, -0.80, -0.83),
    15: (0.81, 0.69, -1.34, -1.47),
    16: (1.32, 1.05, -0.54, -0.71),
    17: (1.78, 1.79, -0.08, -0.11),
    19: (0.07, 0.05, -0.19, -0.14),
    20: (0.10, 0.06, -0.38, -0.28),
    29: (0.52, 0.05, -0.51, -0.13),
    30: (0.88, 0.26, -0.77, -0.51),
    32: (1.00, 0.68, -0.79, -0.89),
    33: (1.41, 0.90, -0.44, -0.79),
    34: (1.58, 1.38, -0.26, -0.49),
    35: (1.82, 1.75, -0.06, -0.18),
    53: (1.85, 1.72, -0.07, -0.16),
}
"""Mean scalars of an atom in small molecules, which are subtracted."""

_TYPICAL_TABLES = {
    1: (0.90, 0.0, -0.97, 0.0),
    3: (0.18, 0.11, -0.27, -0.23),
    4: (0.68, 0.33, -0.90, -0.77),
    5: (0.79, 0.60, -0.91, -1.08),
    6: (0.97, 0.99, -0.58, -1.03),
    7: (1.31, 1.33, -0.30, -0.79),
    8: (1.55, 1.64, -0.13, -0.46),
    9: (1.77, 1.85, -0.01, -0.20),
    11: (0.13, 0.06, -0.18, -0.16),
    12: (0.59, 0.18, -0.34, -0.27),
    13: (0.63, 0.40, -0.98, -0.98),
    14: (1.00, 0.81, -0.56, -0.86),
    15: (1.07, 0.82, -0.62, -1.15),
    16: (1.54, 1.42, -0.10, -0.52),
    17: (1.83, 1.81, 0.02, -0.13),
    19: (0.13, 0.08, -0.21, -0.18),
    20: (0.48, 0.23, -0.34, -0.40),
    29: (0.35, 0.09, -0.42, -0.25),
    30: (0.71, 0.23, -0.59, -0.49),
    32: (1.10, 0.77, -0.45, -0.85),
    33: (1.55, 0.97, -0.02, -0.79),
    34: (1.64, 1.36, -0.01, -0.52),
    35: (1.84, 1.79, 0.02, -0.16),
    53: (1.90, 1.73, 0.03, -0.13),
}
"""The same for the solutions of PBE's tables."""

SPREAD = 0.1
"""Standard deviation of the scalars, and size of the vectors and tensors."""

_BOND_SIZE = 0.3
"""Size of the inputs of a pair."""

_UNIT = 5.0 / HARTREE
"""Unit of the energies in the input of a network, hartree."""

N_SOLUTIONS = 4
"""Solutions without and with V, for Hueckel's parameters and for PBE's tables."""

N_SCALARS, N_VECTORS, N_TENSORS, N_BOND = 4, 2, 2, 11
N_BOND_VECTORS, N_BOND_TENSORS = 4, 2
"""Number of inputs of each kind per solution: first those of an atom, then those of a pair."""


@dataclass(frozen=True, eq=False)
class Electrons:
    """Inputs of a network from P and W, one solution after the other (n of them).

    Parameters
    ----------
    scalars : (n_atoms, 4 n) tensor
        From each atom's block: s and mean p occupation, and the same for W - h P, minus the
        typical values of the element. Energies in units of 5 eV; all values are scaled to about 1.
    vectors : (n_atoms, 2 n, 3) tensor
        Elements between s and p.
    tensors : (n_atoms, 2 n, 3, 3) tensor
        Elements between p and p without their trace.
    bonds : (n_pairs, 11 n) tensor
        From each pair's blocks of P and W: ss, s sigma, sigma s, sigma sigma, mean of pi pi; and
        the bond order (sum of squares of P).
    bond_vectors : (n_pairs, 4 n, 3) tensor
        Elements of these blocks between s and the p perpendicular to the bond, and vice versa.
    bond_tensors : (n_pairs, 2 n, 3, 3) tensor
        Elements between p and p, without the part that is symmetric about the bond.
    """

    scalars: Tensor
    vectors: Tensor
    tensors: Tensor
    bonds: Tensor
    bond_vectors: Tensor
    bond_tensors: Tensor

    def turned(self, rotation: Tensor) -> Electrons:
        """The same, with each vector multiplied by an orthogonal matrix (3, 3)."""
        return replace(
            self,
            vectors=self.vectors @ rotation,
            tensors=rotation.T @ self.tensors @ rotation,
            bond_vectors=self.bond_vectors @ rotation,
            bond_tensors=rotation.T @ self.bond_tensors @ rotation,
        )

    def part(self, atoms: slice, pairs: slice) -> Electrons:
        """Those of some atoms and pairs."""
        chosen = {
            f.name: getattr(self, f.name)[pairs if f.name.startswith("bond") else atoms]
            for f in fields(self)
        }
        return Electrons(**chosen)

    def to(self, device: torch.device | str) -> Electrons:
        """The same in single precision on a device."""
        return Electrons(*(getattr(self, f.name).to(device, torch.float32) for f in fields(self)))


def solve(
    pairs: Neighbours,
    charge: int,
    shifts: np.ndarray,
    cell: np.ndarray | None = None,
    n_solutions: int = N_SOLUTIONS,
    spin: int = 0,
    positions: np.ndarray | None = None,
) -> Electrons:
    """Solve for the electrons of a structure, given its pairs of neighbours.

    With unpaired electrons, the lowest orbitals of each spin are occupied, and P and W are the sums
    of both.

    Parameters
    ----------
    pairs : Neighbours
        The results have derivatives with respect to their vectors.
    charge : int
        Total charge.
    shifts : (n_pairs, 3) int
        Lattice vectors to the image of the sender.
    cell : (3, 3) float, optional
        Lattice vectors of a periodic structure, bohr. It is solved on the mesh of k points of
        `denser.model.diagonalisation.k_mesh`: at Gamma, for as many cells as are needed to make
        each period 15 bohr long.
    n_solutions : int
        1 to 4: without and with the interaction of the electrons, then the same for PBE's tables.
    spin : int
        Number of unpaired electrons.
    positions : (n_atoms, 3) float, optional
        Of the atoms, bohr. With them, large structures are solved in fragments, unless derivatives
        are wanted.

    Raises
    ------
    InputError
        An element without parameters.
    """
    numbers = pairs.numbers
    require_parameters(tuple(int(z) for z in numbers))
    solver: Whole | Fragments = Whole(pairs, shifts, cell)
    if positions is not None and in_fragments(len(numbers)) and not pairs.vectors.requires_grad:
        solver = Fragments(pairs, shifts, cell, positions)
    n_valence = torch.tensor([ELEMENTS[int(z)][0] for z in numbers], dtype=torch.float64)
    shown: list[Electrons] = []
    for make, typical in zip((hueckel, tabulated), typical_of(numbers)[::2], strict=True):
        if len(shown) == n_solutions:
            break
        found = make(pairs)
        interaction = None
        if n_solutions - len(shown) > 1:
            interaction = interaction_of(found.repulsion, pairs)
        solutions = solver.solutions(found, n_valence, charge, interaction, spin)
        shown += [shown_of(blocks, typical, pairs.vectors) for blocks in solutions]
    return together(shown)


def typical_of(numbers: Sequence[int] | np.ndarray) -> list[Tensor]:
    """Typical scalars (n_atoms, 4) that are subtracted, for each of the four solutions."""
    found = [
        torch.tensor([of.get(int(z), (0.0,) * 4) for z in numbers]).double()
        for of in (_TYPICAL, _TYPICAL_TABLES)
    ]
    return [found[0], found[0], found[1], found[1]]


def together(solutions: list[Electrons]) -> Electrons:
    """One solution after the other."""
    names = [f.name for f in fields(Electrons)]
    return Electrons(*(torch.cat([getattr(x, name) for x in solutions], dim=1) for name in names))


def interaction_of(repulsion: Tensor, pairs: Neighbours) -> Tensor:
    """Repulsion (n_pairs,) of electrons in two atoms, from that in one atom (n_atoms,), hartree."""
    r2 = pairs.vectors.square().sum(dim=1)
    softening = 0.5 * (1 / repulsion[pairs.receivers] + 1 / repulsion[pairs.senders])
    return (r2 + softening**2) ** -0.5 * (1 - r2 / pairs.cutoff**2) ** 2


def shown_of(blocks: Blocks, typical: Tensor, vectors: Tensor) -> Electrons:
    """Atom and pair blocks of P and W, split into scalars, vectors and tensors."""
    occupations: list[Tensor] = []
    levels: list[Tensor] = []
    vector_parts, tensors, bonds = [], [], []
    bond_vectors, bond_tensors, orders = [], [], []
    direction = vectors / vectors.norm(dim=1, keepdim=True)
    line = direction[:, :, None] * direction[:, None, :]
    identity = torch.eye(3, dtype=line.dtype)
    plane = identity - line
    p_and_w = (
        (blocks.p_atoms, blocks.p_pairs, occupations),
        (blocks.w_atoms / _UNIT, blocks.w_pairs / _UNIT, levels),
    )
    for block, pair, scalars in p_and_w:
        mean = block[:, 1:, 1:].diagonal(dim1=1, dim2=2).mean(dim=1)
        scalars += [block[:, 0, 0], mean]
        vector_parts.append(block[:, 0, 1:])
        tensors.append(block[:, 1:, 1:] - mean[:, None, None] * identity)
        orders.append(pair.square().sum(dim=(1, 2)))
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
        (torch.stack([*occupations, *levels], dim=1) - typical) / SPREAD,
        torch.stack(vector_parts, dim=1) / SPREAD,
        torch.stack(tensors, dim=1) / SPREAD,
        torch.stack([*bonds, orders[0]], dim=1) / _BOND_SIZE,  # of P
        torch.stack(bond_vectors, dim=1) / _BOND_SIZE,
        torch.stack(bond_tensors, dim=1) / _BOND_SIZE,
    )
