"""Polarizable atoms, from the features of the trained network.

Each atom has a polarizability of its own,

A_a = exp(c + w . p_a) (1 + sum_k (v_k + sum_i G_ki p_ai) Q_ak),

with invariants p (features of degree 0, and lengths of the others, centred, whitened and cut off),
and symmetric traceless tensors Q, which are features of degree 2. c is a constant of the element;
w and v have a part for all elements and one for each. In a field the atoms also feel the dipoles
of each other (Applequist), which are spread out (Thole, Chem. Phys. 59, 341 (1981), with
exponential charges; van Duijnen and Swart, J. Phys. Chem. A 102, 2399 (1998)):

alpha = sum_ab [(A^-1 - t)^-1]_ab,   t_ab = 3 f_5 r r^T / r^5 - f_3 1 / r^3,
f_3 = 1 - (1 + s + s^2/2) e^-s,   f_5 = f_3 - s^3/6 e^-s,   s = d r / (tr A_a tr A_b / 9)^(1/6).

The polarizability turns with the molecule as the features do. That of two molecules far from each
other is the sum of theirs and what induced dipoles do to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from denser.model.whitened_features import N_INVARIANTS, N_TENSORS, WhitenedFeatures

N_PRODUCTS = 8
"""Number of p that are multiplied with Q."""

DAMPING = 2.1304
"""Thole's d at first."""


class PolarizableAtoms(WhitenedFeatures):
    """Polarizabilities of atoms from their features.

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
        self.constants = nn.Parameter(torch.zeros(n))
        self.shared = nn.Parameter(torch.zeros(N_INVARIANTS))
        self.own = nn.Parameter(torch.zeros(n, N_INVARIANTS))
        self.shared_of_tensors = nn.Parameter(torch.zeros(N_TENSORS))
        self.own_of_tensors = nn.Parameter(torch.zeros(n, N_TENSORS))
        self.products = nn.Parameter(torch.zeros(N_TENSORS, N_PRODUCTS))
        self.damping = nn.Parameter(torch.tensor(DAMPING))
        self.double()

    def forward(self, numbers: Tensor, positions: Tensor, features: Tensor) -> Tensor:
        """Shares of the atoms (n_atoms, 3, 3) in the polarizability of a molecule, bohr^3.

        Parameters
        ----------
        numbers : (n_atoms,) int tensor
        positions : (n_atoms, 3) tensor
            Bohr.
        features : (n_atoms, channels, lm) tensor
            As of `denser.model.aspherical.Aspherical.features`.
        """
        return self.coupled(self.alone(numbers, *self.inputs(features)), positions.double())

    def alone(self, numbers: Tensor, p: Tensor, q: Tensor) -> Tensor:
        """A (n_atoms, 3, 3) of atoms, from p and Q."""
        rows = self.rows[numbers]
        sizes = self.constants[rows] + p @ self.shared + (p * self.own[rows]).sum(dim=1)
        of_q = self.shared_of_tensors + self.own_of_tensors[rows]
        of_q = of_q + p[:, :N_PRODUCTS] @ self.products.T
        shapes = torch.einsum("ak,akm,mij->aij", of_q, q, self.directions)
        identity = torch.eye(3, dtype=p.dtype)
        return sizes.exp()[:, None, None] * (identity + shapes)

    def coupled(self, alone: Tensor, positions: Tensor) -> Tensor:
        """Shares (..., n_atoms, 3, 3) of atoms (..., n_atoms, 3, 3) that feel each other.

        The sum over the atoms is the polarizability. Positions (..., n_atoms, 3) in bohr; atoms
        infinitely far away feel nothing.
        """
        n = alone.shape[-3]
        identity = torch.eye(3, dtype=alone.dtype)
        x = positions[..., :, None, :] - positions[..., None, :, :]
        r = x.norm(dim=-1) + torch.eye(n, dtype=x.dtype)
        size = alone.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
        s = self.damping * r / (size[..., :, None] * size[..., None, :]) ** (1 / 6)
        decay = torch.exp(-s)
        f_3 = 1 - (1 + s + s**2 / 2) * decay
        f_5 = f_3 - s**3 / 6 * decay
        outer = x[..., :, None] * x[..., None, :]
        t = (3 * f_5 / r**5)[..., None, None] * outer - (f_3 / r**3)[..., None, None] * identity
        own = torch.eye(n, dtype=x.dtype)[:, :, None, None]
        blocks = own * torch.linalg.inv(alone)[..., None, :, :] - (1 - own) * t
        matrix = blocks.transpose(-3, -2).reshape(*alone.shape[:-3], 3 * n, 3 * n)
        ones = identity.repeat(n, 1).expand(*alone.shape[:-3], 3 * n, 3)
        shares = torch.linalg.solve(matrix, ones).unflatten(-2, (n, 3))
        return (shares + shares.transpose(-1, -2)) / 2
