"""Kinetic energy density without orbitals, from the features of the trained network.

The electrons of one orbital have tau_W = |grad rho|^2 / (8 rho), and others have more:

tau(r) = tau_W(r) + tau_0(r) exp(g(r)),   tau_0 = sum_a sum_k exp(b_k) exp(-beta_k |r - R_a|^2)
g(r) = sum_a sum_k sum_lm c_aklm S_lm(r - R_a) exp(-alpha_k |r - R_a|^2)

with the same b for all atoms of an element, S_lm = r^l Y_lm, and coefficients c that are linear in
the features of the atom. It is never below tau_W, so that the electron localisation function is
between 0 and 1. The exponential serves relative errors: tau - tau_W ranges over five orders of
magnitude where the electron localisation function is of interest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from denser.model.deformed_atoms import expansion_on_grid
from denser.model.expansion import orthonormal_radial
from denser.model.harmonics import spherical_harmonics
from denser.types.grid import Grid
from denser.types.structure import Structure

DEGREE = 4

EXPONENTS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""alpha, bohr^-2."""

OF_ATOMS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""beta, bohr^-2."""

_START = (-9.0, -7.0, -5.0, -3.0, -2.0, -1.0, 0.0, 0.0)
"""b of an untrained head."""

_LARGEST = 8.0
"""Largest |g|."""


class KineticHead(nn.Module):
    """Coefficients of `tau_0` and `g`.

    Parameters
    ----------
    elements : sequence of int
        Atomic numbers.
    channels : int
        Channels of the features.
    """

    rows: Tensor
    mean: Tensor
    scale: Tensor
    radial: Tensor

    def __init__(self, elements: Sequence[int], channels: int) -> None:
        super().__init__()
        n, k = len(elements), len(EXPONENTS)
        rows = torch.full((119,), -1)
        rows[list(elements)] = torch.arange(n)
        radial = np.stack([orthonormal_radial(EXPONENTS, degree) for degree in range(DEGREE + 1)])
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("radial", torch.as_tensor(radial).float(), persistent=False)
        self.register_buffer("mean", torch.zeros(channels))  # of degree 0
        self.register_buffer("scale", torch.ones(DEGREE + 1, channels))
        self.of_atoms = nn.Parameter(torch.tensor(_START).repeat(n, 1))
        self.constants = nn.Parameter(torch.zeros(n, k))
        self.weights = nn.Parameter(torch.zeros(DEGREE + 1, n, k, channels))

    @classmethod
    def of(cls, elements: Sequence[int], tensors: Mapping[str, np.ndarray]) -> KineticHead:
        """A head with the tensors of a file."""
        head = cls(elements, len(tensors["mean"]))
        head.load_state_dict({key: torch.as_tensor(x) for key, x in tensors.items()})
        return head.eval().requires_grad_(False)

    def standardise(self, features: Tensor) -> None:
        """Set mean and scale to those of features (n_atoms, channels, lm)."""
        self.mean.copy_(features[:, :, 0].mean(dim=0))
        for n in range(DEGREE + 1):
            part = features[:, :, n * n : (n + 1) ** 2]
            part = part - self.mean[:, None] if n == 0 else part
            self.scale[n] = part.square().mean(dim=(0, 2)).sqrt() + 1e-3

    def coefficients(self, numbers: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Coefficients of g (n_atoms, n_exponents, lm) and exp(b) (n_atoms, n_of_atoms).

        Parameters
        ----------
        numbers : (n_atoms,) int tensor
        features : (n_atoms, channels, lm) tensor
            As of `denser.model.aspherical.Aspherical.features`.
        """
        rows, parts = self.rows[numbers], []
        for n in range(DEGREE + 1):
            part = features[:, :, n * n : (n + 1) ** 2]
            part = part - self.mean[:, None] if n == 0 else part
            found = self.weights[n][rows] @ (part / self.scale[n][:, None])
            found = found + self.constants[rows][:, :, None] if n == 0 else found
            parts.append(self.radial[n].T @ found)
        return torch.cat(parts, dim=2), self.of_atoms[rows].exp()

    def at(self, x: Tensor, owner: Tensor, of_g: Tensor, of_atoms: Tensor) -> Tensor:
        """Tau - tau_W (n_points,), hartree/bohr^3.

        Parameters
        ----------
        x : (n_images, n_points, 3) tensor
            From each atom, or image of one, to each point, bohr.
        owner : (n_images,) int tensor
            Atom of each image.
        of_g, of_atoms
            As from `coefficients`.
        """
        r2 = x.square().sum(dim=-1)[:, None]  # (image, 1, point)
        alphas, betas = (torch.tensor(e)[:, None] for e in (EXPONENTS, OF_ATOMS))
        tau_0 = (of_atoms[owner][:, :, None] * torch.exp(-betas * r2)).sum(dim=(0, 1))
        terms = of_g[owner].transpose(1, 2) @ torch.exp(-alphas * r2)  # (image, lm, point)
        harmonics = spherical_harmonics(x, DEGREE).transpose(1, 2)
        return raised(tau_0, (terms * harmonics).sum(dim=(0, 1)))

    def on_grid(self, structure: Structure, features: Tensor, grid: Grid) -> np.ndarray:
        """As `at`, of an isolated molecule at the nodes of a grid (nx, ny, nz), float32."""
        of_g, of_atoms = self.coefficients(torch.tensor(structure.numbers), features)
        # Y_00 is 1 / sqrt(4 pi)
        spherical = of_atoms[:, :, None] * math.sqrt(4 * math.pi)
        tau_0, g = (
            torch.as_tensor(expansion_on_grid(structure, None, c, torch.tensor(exponents), grid))
            for c, exponents in ((spherical, OF_ATOMS), (of_g, EXPONENTS))
        )
        return raised(tau_0, g).numpy()


def raised(tau_0: Tensor, g: Tensor) -> Tensor:
    """tau_0 exp(g), with a bound on g."""
    return tau_0 * torch.exp(g.clamp(-_LARGEST, _LARGEST))
