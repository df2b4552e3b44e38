"""Spin densities of open shells, and what unpaired electrons change in the density.

m(r) = sum_a m_a(r - R_a), each m_a a sum of Gaussians as the deformation of the density. With the
difference D = P_up - P_down of the density matrices of both spins, of a Hamiltonian that the
network corrects (`denser.model.unpaired`),

m_a = D_ss n_s(r) + sum_ij D_ij 3 u_i u_j n_p(r) + 2 sum_i D_si u_i (3 n_s(r) n_p(r))^(1/2)
      + delta_a,    u = r / |r|,

where n_s and n_p are the densities of an s and a p electron of the free atom, and the network
computes delta_a. The matrices L of the correction come from the features of the network without
unpaired electrons. The features z of the spin density are functions on the spheres, linear in D:
they start as the elements of D at the atom and between neighbours, and are multiplied by functions
of the features of the density, in messages and updates. So m is odd in D: it changes its sign with
the spin, and is zero for closed shells. It turns with the molecule as the density does.

The density gets what is even: the Hamiltonians that the network is shown get the same orbitals
occupied once, and its features and coefficients get the effectively unpaired electrons F and
products of z. A network without unpaired electrons computes none of this.

The trace of D is 2S. The integral of m over the atoms of each molecule is made that of D, so that
the integral of m is 2S exactly.
"""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from denser.atoms.sad import gaussians
from denser.model.aspherical_config import AsphericalConfig
from denser.model.diagonalisation import Blocks
from denser.model.graph import Graph
from denser.model.hamiltonians import ELEMENTS
from denser.model.messages import messages
from denser.model.normalise import electron_factors
from denser.model.tight_binding import (
    N_BOND,
    N_BOND_TENSORS,
    N_BOND_VECTORS,
    N_SCALARS,
    N_TENSORS,
    N_VECTORS,
    SPREAD,
    Electrons,
    shown_of,
    together,
    typical_of,
)
from denser.types.structure import Structure

_SHOWN = 0.05
"""Size of the first weights: elements of D come in units of 0.1."""

_FULL = 2.1
"""Electrons of a filled s shell, and a little more."""

_FAINT = 1e-6
"""Added to the unpaired electrons of each atom, which share the correction of the integral."""

_HIDDEN = 32
"""Functions on the sphere between the features and L."""

_LEVEL = 0.05
"""Unit of L, hartree."""

_NOISE = 0.03
"""Standard deviation of the noise on L at the start of a training, hartree."""

_EXCHANGE = (0.15, 0.05)
"""First x_0 and x_1 of the exchange."""

_N_SHOWN = N_SCALARS + N_VECTORS + N_TENSORS


class Spin(nn.Module):
    """The part of `denser.model.aspherical` for open shells."""

    shapes: Tensor
    wrong: Tensor

    def __init__(self, config: AsphericalConfig) -> None:
        super().__init__()
        self.config = config
        c, wide, n_shapes = config.spin, config.width * config.channels, config.degree + 1
        n_elements, n = len(config.elements), len(config.exponents)
        layers = range(config.layers)
        self.to_levels = nn.Sequential(
            nn.Linear(config.channels, _HIDDEN), nn.SiLU(), _linear(_HIDDEN, 4)
        )
        self.exchange = nn.Parameter(torch.tensor(_EXCHANGE))
        first = _SHOWN * torch.randn(c, 1, _N_SHOWN)
        self.shown_atoms = nn.Parameter(first.repeat(1, n_elements, 1))
        self.shown_unpaired = nn.Parameter(torch.zeros(config.channels, n_elements, _N_SHOWN))
        self.shown_bonds = _linear(N_BOND - 1, config.hidden)
        self.bonds = _linear(config.hidden, c * n_shapes)
        self.filters = nn.ModuleList(_linear(config.hidden, c * n_shapes) for _ in layers)
        self.mix = nn.ModuleList(_linear(2 * c, 2 * c) for _ in layers)
        self.gating = nn.ModuleList(_linear(wide, 2 * c) for _ in layers)
        self.unmix = nn.ModuleList(_linear(2 * c, c) for _ in layers)
        self.squares = nn.ModuleList(_linear(c, wide) for _ in layers)
        self.products = _linear(c, 2 * c)
        # The untrained network returns the atoms with the elements of D.
        self.heads = nn.ParameterList(
            nn.Parameter(torch.zeros(n_elements, n, c)) for _ in range(n_shapes)
        )
        self.heads_even = nn.ParameterList(
            nn.Parameter(torch.zeros(n_elements, n, c + _N_SHOWN)) for _ in range(n_shapes)
        )
        with torch.no_grad():
            for weights in (*self.squares.parameters(), *self.to_levels[2].parameters()):
                weights.zero_()
        self.noise: tuple[float, torch.Generator] | None = None
        shapes = np.stack([atom_shapes(z, config.exponents) for z in config.elements])
        self.register_buffer("shapes", torch.as_tensor(shapes).float(), persistent=False)
        # expected wrong electrons of the density for each unpaired electron
        self.register_buffer("wrong", torch.zeros(()))

    def disturb(self, size: float, seed: int) -> None:
        """Add noise to L from now on: `size` (1: `_NOISE`) and the seed of the random numbers.

        An orbital far above another gives no gradient that would exchange them. With noise, that
        is large early in a training, they come near each other now and then.
        """
        self.noise = (size * _NOISE, torch.Generator().manual_seed(seed)) if size > 0 else None

    def solved(
        self, graph: Graph, features: Tensor, points: Tensor, mean: Tensor
    ) -> tuple[Electrons, Electrons, Electrons]:
        """D, F and the P_k that are shown, as inputs of the network.

        D and F have one solution, and are zero for closed shells.

        Parameters
        ----------
        graph : Graph
            With open shells.
        features : (n_atoms, channels, n_points) tensor
            Last features of the network without unpaired electrons.
        points : (n_points, 3) tensor
            On the sphere.
        mean : (n_points,) tensor
            Weights of the points for a mean.
        """
        assert graph.open_shells is not None
        x = features * torch.rsqrt(features.square().mean(dim=(1, 2), keepdim=True) + 1e-3)
        found = self.to_levels(x.transpose(1, 2)) * mean[:, None]  # (atom, point, function)
        levels = found.new_zeros(len(found), 4, 4)
        levels[:, 0, 0] = found[:, :, 0].sum(dim=1)
        levels[:, 0, 1:] = levels[:, 1:, 0] = 3 * found[:, :, 1] @ points
        identity = torch.eye(3, device=points.device)
        tensors = (points[:, :, None] * points[:, None, :] - identity / 3).flatten(1)
        levels[:, 1:, 1:] = (7.5 * found[:, :, 3] @ tensors).view(-1, 3, 3)
        levels[:, 1:, 1:] += found[:, :, 2].sum(dim=1)[:, None, None] * identity
        levels = _LEVEL * levels.double().cpu()
        if self.noise is not None:
            noise = torch.randn(levels.shape, generator=self.noise[1], dtype=torch.float64)
            levels = levels + 0.5 * self.noise[0] * (noise + noise.transpose(1, 2))
        exchange = self.exchange.double().cpu()
        vectors = graph.vectors.double().cpu()
        odd, even, corrected = [], [], []
        atom = pair = 0
        assert graph.electrons is not None
        electrons = graph.electrons
        for shell, (n_atoms, n_pairs) in zip(graph.open_shells, graph.sizes, strict=True):
            atoms, pairs = slice(atom, atom + n_atoms), slice(pair, pair + n_pairs)
            atom, pair = atoms.stop, pairs.stop
            its_vectors = vectors[pairs]
            shown: list[Blocks] = []
            if shell is None:
                nothing = _nothing(n_atoms, n_pairs)
                odd.append(nothing)
                even.append(nothing)
            else:
                zero = torch.zeros(n_atoms, 4, dtype=torch.float64)
                d, f, shown = shell.solved(levels[atoms], exchange)
                odd.append(shown_of(d, zero, its_vectors))
                even.append(shown_of(f, zero, its_vectors))
            if shown:
                typical = typical_of(graph.numbers[atoms].tolist())
                parts = [
                    shown_of(x, y, its_vectors)
                    for x, y in zip(shown, typical[: len(shown)], strict=True)
                ]
                corrected.append(together(parts).to(features.device))
            else:
                corrected.append(electrons.part(atoms, pairs))
        device = features.device
        return _joined(odd).to(device), _joined(even).to(device), _joined(corrected)

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
        # the last input is a bond order, which is even in D
        weights = self.bonds(hidden * self.shown_bonds(spin.bonds[:, :-1]))
        weights = weights.unflatten(1, (self.config.spin, -1))
        return _bounded(z + messages(torch.ones_like(z), weights, shapes, *pairs))

    def update(
        self, n: int, z: Tensor, x: Tensor, hidden: Tensor, shapes: Tensor, limit: Tensor,
        pairs: tuple[Tensor, Tensor],
    ) -> Tensor:  # fmt: skip
        """Features after layer `n`; `x` (atom, point, wide) are those of the density there."""
        weights = self.filters[n](hidden).unflatten(1, (self.config.spin, -1))
        heard = messages(z, weights, shapes, *pairs)
        mixed = self.mix[n](torch.cat([z, heard], dim=1).transpose(1, 2)) * self.gating[n](x)
        return _bounded(z + self.unmix[n](mixed).transpose(1, 2) @ limit)

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
            Vectors, then traceless tensors of D as functions on the sphere.
        """
        found = _of_heads(self.heads, rows, z, radial, to_harmonics)
        s, p = (SPREAD * spin.scalars[:, i, None] for i in (0, 1))
        shapes = self.shapes[rows]  # (atom, shape, exponent)
        mean = s * shapes[:, 0] + 3 * p * shapes[:, 1]
        vector = quadratic[:, 0] @ to_harmonics[:, 1:4]
        along = quadratic[:, N_VECTORS] @ to_harmonics[:, 4:9]
        start = torch.zeros_like(found)
        start[:, :, 0] = math.sqrt(4 * math.pi) * mean
        start[:, :, 1:4] = 2 * math.sqrt(3) * SPREAD * shapes[:, 3, :, None] * vector[:, None]
        start[:, :, 4:9] = 3 * SPREAD * shapes[:, 2, :, None] * along[:, None]
        return found + start

    def even(
        self, rows: Tensor, z: Tensor, on_spheres: Tensor, radial: Tensor, to_harmonics: Tensor
    ) -> Tensor:
        """What is added to the coefficients of the density; F is on the spheres."""
        first, second = self.products(z.transpose(1, 2)).transpose(1, 2).chunk(2, dim=1)
        known = torch.cat([first * second, SPREAD * on_spheres], dim=1)
        return _of_heads(self.heads_even, rows, known, radial, to_harmonics)

    def exact(
        self, structure: Structure, coefficients: Tensor, unpaired: np.ndarray, exponents: Tensor
    ) -> Tensor:
        """Coefficients whose integral over each molecule is that of D, and 2S in all.

        What is missing goes to the atoms in proportion to their unpaired electrons (n_atoms,), the
        traces of D, with the density of a p electron, or of an s electron of H.
        """
        unpaired = unpaired * (structure.spin / unpaired.sum())
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


def _bounded(z: Tensor) -> Tensor:
    """Features of a mean square below 1, odd in D as before.

    Usual ones, of 0.003, hardly change. Without a limit, those of an unusual molecule may grow from
    layer to layer, as each is multiplied by what the squares of the last have changed.
    """
    return z * torch.rsqrt(1 + z.square().mean(dim=(1, 2), keepdim=True))


def populations(spin: Electrons) -> np.ndarray:
    """Unpaired electrons of each atom (n_atoms,), from D."""
    s, p = (SPREAD * spin.scalars[:, i].detach().double().cpu().numpy() for i in (0, 1))
    return s + 3 * p


def _of_heads(
    heads: nn.ParameterList, rows: Tensor, z: Tensor, radial: Tensor, to_harmonics: Tensor
) -> Tensor:
    """Coefficients (atom, Gaussian, lm) of functions on the spheres (atom, channel, point)."""
    harmonics = z @ to_harmonics[:, : len(heads) ** 2]
    parts = []
    for n, head in enumerate(heads):
        head = torch.einsum("kg,ekc->egc", radial[n], head)
        parts.append(head[rows] @ harmonics[:, :, n * n : (n + 1) ** 2])
    return torch.cat(parts, dim=-1)


def _nothing(n_atoms: int, n_pairs: int) -> Electrons:
    """D of a closed shell."""
    sizes = (
        (n_atoms, N_SCALARS), (n_atoms, N_VECTORS, 3), (n_atoms, N_TENSORS, 3, 3),
        (n_pairs, N_BOND), (n_pairs, N_BOND_VECTORS, 3), (n_pairs, N_BOND_TENSORS, 3, 3),
    )  # fmt: skip
    return Electrons(*(torch.zeros(size, dtype=torch.float64) for size in sizes))


def _joined(parts: list[Electrons]) -> Electrons:
    """Of one structure after the other."""
    names = [field.name for field in fields(Electrons)]
    return Electrons(*(torch.cat([getattr(x, name) for x in parts]) for name in names))


def _linear(n: int, m: int) -> nn.Linear:
    return nn.Linear(n, m, bias=False)


@cache
def atom_shapes(z: int, exponents: tuple[float, ...]) -> np.ndarray:
    """Densities of an s and of a p electron of a free atom, fitted with Gaussians (4, n).

    n_s and n_p in exp(-alpha r^2), each with an integral of one, n_p in r^2 exp(-alpha r^2), and
    (n_s n_p)^(1/2) in r exp(-alpha r^2). An atom without p electrons has n_s in place of n_p, and
    nothing in the last two rows.
    """
    alphas = np.array(exponents)
    r = np.linspace(0.0, 12.0, 1200)
    of_s, of_p = _electrons_of_atom(z, r)
    basis = np.exp(-alphas * r[:, None] ** 2)

    def fitted(values: np.ndarray, power: int) -> np.ndarray:
        functions = r[:, None] ** (power + 1) * basis
        return np.linalg.lstsq(functions, r * values, rcond=1e-6)[0]

    out = np.zeros((4, len(alphas)))
    out[0] = out[1] = fitted(of_s, 0)
    if of_p is not None:
        out[1] = fitted(of_p, 0)
        out[2] = fitted(of_p, 2)
        out[2] /= out[2] @ (1.5 / alphas * (np.pi / alphas) ** 1.5)
        out[3] = fitted(np.sqrt(of_s * of_p), 1)
    out[:2] /= (out[:2] @ (np.pi / alphas) ** 1.5)[:, None]
    return out


def _electrons_of_atom(z: int, r: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Densities of an s and of a p electron (n,), from the superposed atom or a Slater function.

    The tables of superposed atoms separate valence s and p electrons only where the core has no
    others.
    """
    a, s, p = gaussians(z)
    radial = np.exp(-a * r[:, None] ** 2)
    of_s, of_p = radial @ s, r**2 * (radial @ p)
    n_s, n_p = _integral(r, of_s), _integral(r, of_p)
    if z == 1 or (0.9 < n_s < _FULL and 0.1 < n_p < 2.5 * _FULL):
        found = of_s, of_p if n_p > _FAINT else None
    else:
        _, shell, *zetas, _, _ = ELEMENTS[z]
        of_s, of_p = (r ** (2 * shell - 2) * np.exp(-2 * zeta * r) for zeta in zetas)
        found = of_s, of_p
    # the densities may be slightly negative where they are faint
    normed = [None if n is None else np.maximum(n, 0.0) for n in found]
    one, two = (None if n is None else n / _integral(r, n) for n in normed)
    assert one is not None
    return one, two


def _integral(r: np.ndarray, density: np.ndarray) -> float:
    """4 pi integral r^2 n(r) dr."""
    return float(4 * np.pi * np.trapezoid(r**2 * density, r))
