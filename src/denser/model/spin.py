"""Spin densities of open shells, from the difference of the electrons of both spins.

m(r) = sum_a m_a(r - R_a), each m_a a sum of Gaussians as the deformation of the density. With the
density matrices of both spins of `denser.model.tight_binding`, D = P_up - P_down,

m_a = D_ss n_s(r) + sum_ij D_ij 3 u_i u_j n_p(r) + delta_a,    u = r / |r|,

where n_s and n_p are the densities of an s and a p electron of the free atom, and the network
computes delta_a. Its features z are functions on the spheres, linear in D: they start as the
elements of D at the atom and between neighbours, and are multiplied by functions of the features
of the density, in messages and updates. So m is odd in D: it changes its sign with the spin, and
is zero for closed shells. It turns with the molecule as the density does. The features of the
density get z^2, which is even. A network without unpaired electrons computes none of this.

The trace of D is 2S. The integral of m over the atoms of each molecule is made that of D, so that
the integral of m is 2S exactly.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from denser.atoms.sad import gaussians
from denser.model.aspherical_config import AsphericalConfig
from denser.model.messages import messages
from denser.model.normalise import electron_factors
from denser.model.tight_binding import N_BOND, N_SCALARS, N_TENSORS, N_VECTORS, SPREAD, Electrons
from denser.types.structure import Structure

_SHOWN = 0.05
"""Size of the first weights: elements of D come in units of 0.1."""

_FAINT = 1e-6
"""Added to the unpaired electrons of each atom, which share the correction of the integral."""


class Spin(nn.Module):
    """The part of `denser.model.aspherical` that predicts spin densities."""

    shapes: Tensor

    def __init__(self, config: AsphericalConfig) -> None:
        super().__init__()
        self.config = config
        c, wide, n_shapes = config.spin, config.width * config.channels, config.degree + 1
        n_elements, n = len(config.elements), len(config.exponents)
        shown = config.electrons * (N_SCALARS + N_VECTORS + N_TENSORS)
        layers = range(config.layers)
        self.shown_atoms = nn.Parameter(_SHOWN * torch.randn(c, n_elements, shown))
        self.shown_bonds = _linear(config.electrons * (N_BOND - 1), config.hidden)
        self.bonds = _linear(config.hidden, c * n_shapes)
        self.filters = nn.ModuleList(_linear(config.hidden, c * n_shapes) for _ in layers)
        self.mix = nn.ModuleList(_linear(2 * c, 2 * c) for _ in layers)
        self.gating = nn.ModuleList(_linear(wide, 2 * c) for _ in layers)
        self.unmix = nn.ModuleList(_linear(2 * c, c) for _ in layers)
        self.squares = nn.ModuleList(_linear(c, wide) for _ in layers)
        # The untrained network returns the atoms with the elements of D.
        self.heads = nn.ParameterList(
            nn.Parameter(torch.zeros(n_elements, n, c)) for _ in range(n_shapes)
        )
        with torch.no_grad():
            for weights in self.squares.parameters():
                weights.zero_()
        shapes = np.stack([atom_shapes(z, config.exponents) for z in config.elements])
        self.register_buffer("shapes", torch.as_tensor(shapes).float(), persistent=False)

    def start(
        self, rows: Tensor, on_spheres: Tensor, hidden: Tensor, shapes: Tensor, spin: Electrons,
        pairs: tuple[Tensor, Tensor],
    ) -> Tensor:  # fmt: skip
        """First features z (atom, channel, point), linear in D.

        Parameters
        ----------
        rows : (n_atoms,) int tensor
            Row of the element of each atom.
        on_spheres : (n_atoms, n, n_points) tensor
            D at the atoms.
        hidden : (n_pairs, hidden) tensor
            From the data of a pair.
        shapes : (n_pairs, degree + 1, n_points) tensor
            Functions about the line between the atoms.
        spin : Electrons
            From D.
        pairs : tuple of (n_pairs,) int tensor
            Senders and receivers.
        """
        z = self.shown_atoms[:, rows].transpose(0, 1) @ on_spheres
        # the last input of a solution is a bond order, which is even in D
        bonds = spin.bonds.unflatten(1, (-1, N_BOND))[:, :, :-1].flatten(1)
        weights = self.bonds(hidden * self.shown_bonds(bonds)).unflatten(1, (self.config.spin, -1))
        return z + messages(torch.ones_like(z), weights, shapes, *pairs)

    def update(
        self, n: int, z: Tensor, x: Tensor, hidden: Tensor, shapes: Tensor, limit: Tensor,
        pairs: tuple[Tensor, Tensor],
    ) -> Tensor:  # fmt: skip
        """Features after layer `n`; `x` (atom, point, wide) are those of the density there."""
        weights = self.filters[n](hidden).unflatten(1, (self.config.spin, -1))
        heard = messages(z, weights, shapes, *pairs)
        mixed = self.mix[n](torch.cat([z, heard], dim=1).transpose(1, 2)) * self.gating[n](x)
        return z + self.unmix[n](mixed).transpose(1, 2) @ limit

    def coefficients(
        self, rows: Tensor, z: Tensor, spin: Electrons, radial: Tensor, to_harmonics: Tensor,
        quadratic: Tensor,
    ) -> Tensor:  # fmt: skip
        """Coefficients (n_atoms, n_exponents, (degree + 1)^2) of the Gaussians of m.

        Parameters
        ----------
        rows, z, spin
            As in `start`.
        radial : (n_degrees, n, n) tensor
            From orthonormal functions to Gaussians.
        to_harmonics : (n_points, n) tensor
        quadratic : (n_atoms, n, n_points) tensor
            Traceless tensors of D as functions on the sphere.
        """
        low = (self.config.degree + 1) ** 2
        harmonics = z @ to_harmonics[:, :low]
        parts = []
        for n, head in enumerate(self.heads):
            head = torch.einsum("kg,ekc->egc", radial[n], head)
            parts.append(head[rows] @ harmonics[:, :, n * n : (n + 1) ** 2])
        found = torch.cat(parts, dim=-1)
        last = N_SCALARS * (self.config.electrons - 1)
        s, p = (SPREAD * spin.scalars[:, last + i, None] for i in (0, 1))
        shapes = self.shapes[rows]  # (atom, shape, exponent)
        mean = s * shapes[:, 0] + 3 * p * shapes[:, 1]
        along = quadratic[:, N_TENSORS * (self.config.electrons - 1)] @ to_harmonics[:, 4:9]
        start = torch.zeros_like(found)
        start[:, :, 0] = math.sqrt(4 * math.pi) * mean
        start[:, :, 4:9] = 3 * SPREAD * shapes[:, 2, :, None] * along[:, None]
        return found + start

    def exact(
        self, structure: Structure, coefficients: Tensor, spin: Electrons, exponents: Tensor
    ) -> Tensor:
        """Coefficients whose integral over each molecule is that of D, and 2S in all.

        What is missing goes to the atoms in proportion to their unpaired electrons, with the
        density of a p electron, or of an s electron of H.
        """
        last = N_SCALARS * (self.config.electrons - 1)
        s, p = (SPREAD * spin.scalars[:, last + i].double().cpu().numpy() for i in (0, 1))
        unpaired = s + 3 * p
        unpaired *= structure.spin / unpaired.sum()
        alphas = exponents.double().cpu().numpy()
        volumes = (np.pi / alphas) ** 1.5
        c = coefficients.detach().double().cpu().numpy()
        found = c[:, :, 0] @ volumes / math.sqrt(4 * math.pi)
        share = np.abs(unpaired) + _FAINT
        factors = electron_factors(structure, share, found - unpaired)
        missing = share * (factors - 1.0)
        for a, z in enumerate(structure.numbers):
            shape = atom_shapes(int(z), tuple(alphas.tolist()))[1]
            c[a, :, 0] += math.sqrt(4 * math.pi) * missing[a] * shape / (shape @ volumes)
        return torch.as_tensor(c, device=coefficients.device)


def _linear(n: int, m: int) -> nn.Linear:
    return nn.Linear(n, m, bias=False)


@cache
def atom_shapes(z: int, exponents: tuple[float, ...]) -> np.ndarray:
    """Densities of an s and of a p electron of a free atom, fitted with Gaussians (3, n).

    n_s and n_p in exp(-alpha r^2), each with an integral of one, and n_p in r^2 exp(-alpha r^2).
    An atom without p electrons has n_s in place of n_p, and nothing in the last row.
    """
    a, s, p = gaussians(z)
    alphas = np.array(exponents)
    r = np.linspace(0.0, 12.0, 1200)[:, None]
    basis, radial = np.exp(-alphas * r**2), np.exp(-a * r**2)

    def fitted(values: np.ndarray, functions: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(r * functions, r[:, 0] * values, rcond=1e-6)[0]

    out = np.zeros((3, len(alphas)))
    out[0] = out[1] = fitted(radial @ s, basis)
    if np.any(p):
        of_p = (r**2 * radial) @ p
        out[1] = fitted(of_p, basis)
        out[2] = fitted(of_p, r**2 * basis)
        out[2] /= out[2] @ (1.5 / alphas * (np.pi / alphas) ** 1.5)
    out[:2] /= (out[:2] @ (np.pi / alphas) ** 1.5)[:, None]
    return out
