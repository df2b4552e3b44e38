"""The aspherical network: an equivariant network from atoms to the density.

rho(r) = max(0, sum_a [n_a(|r - R_a|) + delta_a(r - R_a)]): each spherical atom of the SAD gets
a deformation delta_a, a sum of Gaussians times spherical harmonics up to a degree. A
message-passing network computes its coefficients from the environment of the atom.

The features of an atom are functions on the sphere around it, stored as values at Lebedev points
and limited to a degree. A message multiplies the features of a neighbour by a function that is
symmetric about the line between the two atoms, or that deviates from this symmetry as their
electrons do. An update mixes channels point by point. Both commute with rotations, except for the
parts that the point-wise non-linearity adds beyond the degree that the points resolve; training on
rotated molecules reduces this remainder. Nothing depends on a grid. Messages have a range of
`layers` times the cutoff. Other atoms within a larger reach enter once and linearly. The electrons
at each atom and between neighbours come from `denser.model.tight_binding`, which treats the
molecule as a whole. The density may have harmonics of a higher degree than the features; these are
sums over neighbours only. `denser.model.spin` adds the spin density of open shells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from ase.data import chemical_symbols
from scipy.integrate import lebedev_rule
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from denser.atoms.sad_derivatives import superposition_pullback
from denser.fields.cube_group import CubeOperation
from denser.model.aspherical_config import SHORTEST, AsphericalConfig
from denser.model.deformed_atoms import DeformedAtoms, neutral, on_nodes
from denser.model.expansion import orthogonal_to, orthonormal_radial, project
from denser.model.expected_error import ExpectedError
from denser.model.fragments import in_fragments
from denser.model.graph import Graph
from denser.model.growing import grown, rows_of
from denser.model.harmonics import invariants, spherical_harmonics
from denser.model.messages import add_messages, messages
from denser.model.molecular_electrons import electrons_of_molecules
from denser.model.network import FieldOf, Network
from denser.model.precision import fast_bf16, in_single_precision
from denser.model.spin import Spin, populations
from denser.model.tight_binding import (
    N_BOND,
    N_SCALARS,
    N_TENSORS,
    N_VECTORS,
    Electrons,
)
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

_MESSAGE_SCALE = 0.3
"""Scales a sum over about ten neighbours to the size of one atom's features."""

_EPSILON = 1e-3
"""Mean square below which the features of an atom are not scaled up."""

_RESIDUAL_SCALE = 0.5
"""Factor of the initial weights of each update, for stable first steps."""

_FAR = 5
"""Functions of the distance of far atoms: Gaussians at 1 bohr spacing up to reach - 1 bohr."""

_FAR_FADE = 2.0
"""They go to zero smoothly over this length before the reach, bohr."""

_PAIRS_AT_ONCE = 10_000
_ATOMS_AT_ONCE = 400
"""Larger structures are computed in blocks, if no derivatives are wanted."""

_AXIS = np.array([0.0, 1.0, (1 + 5**0.5) / 2])
_FIVE = Rotation.from_rotvec(np.outer(0.4 * np.pi * np.arange(5), _AXIS / np.linalg.norm(_AXIS)))
"""Rotations about an axis of the icosahedron that shares its other axes with a cube."""


class Aspherical(Network):
    """From a `Graph` to coefficients (n_atoms, n_exponents, (output_degree + 1)^2) of Gaussians.

    Those of `denser.model.expansion`: delta in e/bohr^3, lengths in bohr.
    """

    samples = "points"
    local = True
    any_spacing = True  # Gaussians can be evaluated at any nodes
    any_shape = True
    bf16 = False  # sums of Gaussians lose too much in it
    edges = ("head", "diffuse", "embedding", "gates", "spin.heads")
    multiple_of = 8
    fine_tuning: ClassVar[dict[str, dict[str, Any]]] = {
        "optimizer": {"name": "muon", "lr": 5e-4, "lr_rest": 3.5e-6},
        "sample": {"batch": 4, "points": 1024},
    }
    step_sizes: ClassVar[dict[str, float]] = {
        "shown_atoms": 0.3, "shown_far.*": 6, "shown_bonds.*": 2, "scales.*": 4, "embedding.*": 70,
        "filters.*.0.weight": 8, "filters.*.2.weight": 2, "filters.*.bias": 600, "gates.*": 700,
        "mix.0.weight": 2, "mix.*.weight": 1, "mix.*.bias": 300,
        "unmix.0.weight": 0.07, "unmix.*.weight": 1, "unmix.*.bias": 300,
        "heads.0": 0.2, "heads.[123]": 1, "heads.4": 6, "heads.*": 0.2, "diffuse": 0.2,
        "spin.to_levels.*": 8,
    }  # fmt: skip
    """As in `Network`. With one rate for all, a step in `unmix.0` or the heads increases the error
    far more than one in the filters or biases, which then hardly learn
    (`benchmarks/step_sizes.py`).
    """

    points: Tensor
    to_harmonics: Tensor
    harmonics: Tensor
    limit: Tensor
    radial: Tensor
    exponents: Tensor
    radial_diffuse: Tensor
    centres: Tensor
    rows: Tensor

    def __init__(self, config: AsphericalConfig = AsphericalConfig()) -> None:
        super().__init__(config)
        c, degree, n = config.channels, config.degree, len(config.exponents)
        degrees = range(config.output_degree + 1)
        n_elements = len(config.elements)
        points, weights = lebedev_rule(config.order)
        harmonics = spherical_harmonics(torch.as_tensor(points.T), config.output_degree)
        to_harmonics = harmonics * torch.as_tensor(weights)[:, None]
        low = slice((degree + 1) ** 2)
        radial = np.stack([orthonormal_radial(config.exponents, n) for n in degrees])
        constants = {
            "points": points.T,
            "to_harmonics": to_harmonics,  # (point, lm), all degrees of the density
            "harmonics": harmonics[:, low],  # (point, lm), those of the features
            # (point, point): keeps degrees up to `degree`
            "limit": to_harmonics[:, low] @ harmonics[:, low].T,
            "radial": radial,  # (l, k orthonormal, k Gaussian)
            "exponents": np.array(config.all_exponents),
            "radial_diffuse": orthogonal_to(config.diffuse, config.exponents),  # (k, Gaussian)
            "centres": np.linspace(SHORTEST, config.cutoff, config.radial),
        }
        for name, value in constants.items():
            value = torch.as_tensor(value, dtype=torch.float32)
            self.register_buffer(name, value, persistent=False)
        rows = torch.full((len(chemical_symbols),), -1)
        rows[list(config.elements)] = torch.arange(n_elements)
        self.register_buffer("rows", rows, persistent=False)
        self.embedding = nn.Embedding(n_elements, c)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(c, 1)) for _ in range(config.layers))
        self.filters = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.radial, config.hidden),
                nn.SiLU(),
                nn.Linear(config.hidden, c * config.n_shapes),
            )
            for _ in range(config.layers)
        )
        wide = config.width * c
        self.mix = nn.ModuleList(nn.Linear(2 * c, wide) for _ in range(config.layers))
        self.gates = nn.ModuleList(nn.Embedding(n_elements, wide) for _ in range(config.layers))
        unmix = [nn.Linear(wide, c) for _ in range(config.layers)]
        self.unmix = nn.ModuleList(unmix)
        # The untrained network returns the SAD.
        self.heads = nn.ParameterList(
            nn.Parameter(torch.zeros(n_elements, n, c if k <= degree else config.hidden))
            for k in degrees
        )
        if config.diffuse:
            self.diffuse = nn.Parameter(torch.zeros(n_elements, len(config.diffuse), c))
        if config.electrons:
            shown = config.electrons * (N_SCALARS + N_VECTORS + N_TENSORS)
            self.shown_atoms = nn.Parameter(torch.zeros(c, n_elements, shown))
            shown_bonds = [
                nn.Linear(config.electrons * N_BOND, config.hidden, bias=False)
                for _ in range(config.layers)
            ]
            for layer in shown_bonds:
                nn.init.zeros_(layer.weight)
            self.shown_bonds = nn.ModuleList(shown_bonds)
        if config.reach:
            self.shown_far = nn.ParameterList(
                nn.Parameter(torch.zeros(c, n_elements * _FAR)) for _ in range(degree + 1)
            )
        self.spin = Spin(config) if config.spin else None
        self._in_bf16 = False
        self.expected_error = ExpectedError(c * (degree + 1)) if config.errors else None
        with torch.no_grad():
            for layer in unmix:
                layer.weight *= _RESIDUAL_SCALE

    @property
    def open_shells(self) -> bool:
        """As in `Network`: the electrons that it is shown occupy orbitals of both spins."""
        return self.config.electrons > 0

    def in_fragments(self, structure: Structure) -> bool:
        """As in `Network`."""
        return self.config.electrons > 0 and in_fragments(len(structure))

    @property
    def spins(self) -> bool:
        """As in `Network`."""
        return self.spin is not None

    @property
    def wrong_of_unpaired(self) -> float:
        """As in `Network`."""
        return 0.0 if self.spin is None else float(self.spin.wrong)

    def disturb(self, size: float, seed: int) -> None:
        """As in `Network`."""
        if self.spin is not None:
            self.spin.disturb(size, seed)

    def use_bf16(self, enabled: bool) -> None:
        """As in `Network`: filters and mixing. Heads and sums of Gaussians nearly cancel."""
        self._in_bf16 = enabled

    def _rounded(self, device: torch.device) -> AbstractContextManager[object]:
        if self._in_bf16 and fast_bf16(device):
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the network knows."""
        return self.config.elements

    def require_elements(self, structure: Structure) -> None:
        """Raise an InputError if the network does not know an element."""
        missing = sorted(set(structure.numbers.tolist()) - set(self.config.elements))
        if missing:
            raise InputError(
                f"this model does not know {chemical_symbols[missing[0]]}; it was made for "
                + " ".join(chemical_symbols[z] for z in self.config.elements)
                + "; `denser models info` describes it"
            )

    def raw_density(
        self,
        sad: Density,
        periodic: bool,
        operations: Sequence[CubeOperation] = (CubeOperation(),),
        bf16: bool = False,
    ) -> Tensor:
        """As in `Network`; atoms of a periodic box interact with their periodic images.

        Raises
        ------
        InputError
            The network does not know an element.
        """
        box = sad.grid if periodic else None
        coefficients, exponents, _ = self._coefficients(sad.structure, box, operations)
        return on_nodes(sad, coefficients, exponents).clamp_(min=0.0)

    def deformed_atoms(
        self,
        sad: Density,
        periodic: bool,
        recipe: str,
        operations: Sequence[CubeOperation] = (CubeOperation(),),
    ) -> tuple[DeformedAtoms, Tensor]:
        """As in `Network`."""
        box = sad.grid if periodic else None
        coefficients, exponents, known = self._coefficients(sad.structure, box, operations)
        atoms, raw = DeformedAtoms.of(sad, periodic, recipe, coefficients, exponents)
        return replace(atoms, **known), raw

    def isolated_atoms(
        self,
        structure: Structure,
        recipe: str,
        operations: Sequence[CubeOperation] = (CubeOperation(),),
        box: Grid | None = None,
    ) -> tuple[DeformedAtoms, float]:
        """As in `Network`."""
        coefficients, exponents, known = self._coefficients(structure, box, operations)
        atoms, excess = DeformedAtoms.isolated(
            structure, recipe, coefficients, exponents, known["target"]
        )
        return replace(atoms, box=box, **known), excess

    def _coefficients(
        self, structure: Structure, box: Grid | None, operations: Sequence[CubeOperation]
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """As `coefficients`, without derivatives, exponents, and what else `DeformedAtoms` has.

        The integral of the spin density is exact. There are no environments of a mean over copies.
        If no atom has diffuse functions, the coefficients end with those of the other exponents.
        """
        self.require_elements(structure)
        graph = Graph.of(structure, box, self.config, self.device)
        environments = None
        with torch.no_grad():
            found, spin, harmonics, unpaired = self._forward(graph)
            environments = invariants(harmonics)
            if len(operations) > 1:
                turns = [torch.as_tensor(o.matrix.T).to(graph.vectors) for o in operations]
                found, spin = self.averaged(graph, turns)
                environments = None
        found, n = self._used(found), len(self.config.exponents)
        known: dict[str, Any] = {
            "environments": environments,
            "target": electrons_of_molecules(structure, graph.electrons),
        }
        if self.spin is not None and spin is not None and unpaired is not None:
            own, singly = (populations(x) for x in unpaired)
            exact = self.spin.exact(structure, spin[:, :n], own, self.exponents[:n])
            known["spin"] = F.pad(exact, (0, 0, 0, found.shape[1] - n))
            known["singly"] = float(singly.sum())
        return found, self.exponents[: found.shape[1]], known

    def coefficients_of(self, structure: Structure) -> tuple[Tensor, Tensor, np.ndarray]:
        """As of `Network`, the mean of five copies that are turned by 72 degrees.

        The network commutes with the rotations of a cube, and the mean with those of an icosahedron
        too. The energy of H2CO then changes by 0.003 meV when the molecule turns, not by 0.08.
        """
        self.require_elements(structure)
        positions = torch.tensor(structure.positions, device=self.device).requires_grad_()
        graph = Graph.of(structure, None, self.config, self.device, positions)
        turns = torch.as_tensor(_FIVE.as_matrix()).to(graph.vectors)
        target = electrons_of_molecules(structure, graph.electrons)
        return self._used(self.averaged(graph, list(turns))[0]), positions, target

    def _used(self, coefficients: Tensor) -> Tensor:
        """Coefficients without those of the diffuse functions, if no atom has any."""
        n = len(self.config.exponents)
        return coefficients if coefficients[:, n:].any() else coefficients[:, :n]

    def pullback(self, sad: Density, field_of: FieldOf, periodic: bool, recipe: str) -> np.ndarray:
        """As of `Network`."""
        structure, grid = sad.structure, sad.grid
        positions = torch.tensor(structure.positions, device=self.device).requires_grad_()
        box = grid if periodic else None
        graph = Graph.of(structure, box, self.config, self.device, positions)
        target = electrons_of_molecules(structure, graph.electrons)
        field = field_of(self.raw_density(sad, periodic), target)
        total = project(field.float(), grid, positions, self(graph), self.exponents)
        (deformations,) = torch.autograd.grad(total, positions)
        atoms = superposition_pullback(field.double().cpu().numpy(), structure, grid, recipe)
        return neutral(sad) * atoms + deformations.double().cpu().numpy()

    def grown(self, options: Mapping[str, Any]) -> Aspherical:
        """As in `Network`, with the options of `denser.model.growing`."""
        return grown(self, options)

    def rows_of(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """As in `Network`."""
        return rows_of(self, numbers)

    def closed_shell_part(self) -> dict[str, Tensor]:
        """As in `Network`."""
        part = super().closed_shell_part()
        if self.config.diffuse:
            part["diffuse"] &= (self.diffuse != 0).any(dim=-1, keepdim=True).cpu()
        return part

    def forward(self, graph: Graph) -> Tensor:
        """Coefficients (n_atoms, n_exponents, (output_degree + 1)^2)."""
        return self.coefficients(graph)[0]

    def coefficients(self, graph: Graph) -> tuple[Tensor, Tensor | None]:
        """Coefficients of the density as in `forward`, and those of the spin density.

        The latter (n_atoms, n_exponents, (degree + 1)^2); None for closed shells, and without a
        `spin` of the config.
        """
        found, spin, *_ = self._forward(graph)
        return found, spin

    def environments(self, graph: Graph) -> Tensor:
        """As in `Network`: the last features without degree, and their length in each degree."""
        return invariants(self._forward(graph)[2])

    def features(self, graph: Graph) -> Tensor:
        """The last features (n_atoms, channels, (degree + 1)^2), as harmonics."""
        return self._forward(graph)[2]

    def unpaired(self, graph: Graph) -> tuple[Electrons, Electrons, Electrons] | None:
        """D, F and what is shown (`Spin.solved`); None without unpaired electrons."""
        if self.spin is None or graph.open_shells is None:
            return None
        with torch.set_grad_enabled(torch.is_grad_enabled() and graph.vectors.requires_grad):
            known = self._forward(replace(graph, open_shells=None))[2] @ self.harmonics.T
        mean = self.to_harmonics[:, 0] / math.sqrt(4 * math.pi)
        return self.spin.solved(graph, known, self.points, mean)

    def _forward(
        self, graph: Graph
    ) -> tuple[Tensor, Tensor | None, Tensor, tuple[Electrons, Electrons] | None]:
        """As `coefficients`, the last features (atom, channel, lm), and D and F."""
        config, rows, electrons = self.config, self.rows[graph.numbers], graph.electrons
        if (electrons is None) != (config.electrons == 0):
            raise ValueError("the graph was made for a network with another config")
        spin = self.spin
        difference = unpaired = singly = None
        if spin is not None and (solved := self.unpaired(graph)) is not None:
            difference, unpaired, electrons = solved
            singly = self._on_spheres(unpaired)
        r = graph.vectors.norm(dim=-1)
        direction = graph.vectors / r[:, None]
        envelope = 0.5 * (torch.cos(math.pi * r / config.cutoff) + 1)[:, None]
        sharpness = ((config.radial - 1) / (config.cutoff - SHORTEST)) ** 2
        radial = torch.exp(-sharpness * (r[:, None] - self.centres) ** 2) * envelope
        features = self.embedding(rows)[:, :, None].expand(-1, -1, len(self.points))
        if electrons is not None:
            shown = self._on_spheres(electrons)
            features = features + self.shown_atoms[:, rows].transpose(0, 1) @ shown
        if spin is not None and singly is not None:
            features = features + spin.shown_unpaired[:, rows].transpose(0, 1) @ singly
        if config.reach:
            features = features + self._far_atoms(graph)
        pairs = graph.senders, graph.receivers
        kept = difference is not None or torch.is_grad_enabled()
        blocks = _blocks(len(r), _PAIRS_AT_ONCE, kept)
        # of all pairs, if there are few
        shapes = self._shapes(direction, electrons, envelope, blocks[0])
        z, about_line = None, shapes[:, : config.degree + 1]
        layers = zip(self.scales, self.filters, self.mix, self.gates, self.unmix, strict=True)
        for n, (scale, to_filter, mix, gate, unmix) in enumerate(layers):
            to_hidden, activate, to_weights = to_filter.children()
            hidden = to_hidden(radial)
            if electrons is not None:
                hidden = hidden + self.shown_bonds[n](electrons.bonds)
            hidden = activate(hidden)
            if n == 0 and spin is not None and difference is not None:
                on_spheres = self._on_spheres(difference)
                z = spin.start(rows, on_spheres, hidden, about_line, difference, pairs)
            size = features.square().mean(dim=(1, 2), keepdim=True)
            x = scale * features * torch.rsqrt(size + _EPSILON)  # (atom, channel, point)
            if len(blocks) == 1:
                with self._rounded(r.device):
                    weights = to_weights(hidden).view(-1, config.channels, config.n_shapes)
                heard = messages(x, weights, shapes, *pairs)
            else:
                heard = torch.zeros_like(x)
                for some in blocks:
                    weights = to_weights(hidden[some]).view(-1, config.channels, config.n_shapes)
                    shapes = self._shapes(direction, electrons, envelope, some)
                    add_messages(heard, x, weights, shapes, *(p[some] for p in pairs))
            of_atoms = _blocks(len(x), _ATOMS_AT_ONCE, kept)
            if len(of_atoms) > 1 and n == 0:
                features = features.clone()  # changed in place, to save memory
            for some in of_atoms:
                y = torch.cat([x[some], _MESSAGE_SCALE * heard[some]], dim=1).transpose(1, 2)
                with self._rounded(r.device):
                    y = mix(y)
                if z is not None and spin is not None:
                    y = y + spin.squares[n](z.square().transpose(1, 2))
                y = F.silu(y) * (1 + gate(rows[some])[:, None])  # (atom, point, channel)
                if z is not None and spin is not None:
                    z = spin.update(n, z, y, hidden, about_line, self.limit, pairs)
                with self._rounded(r.device):
                    y = unmix(y)
                change = y.to(self.limit.dtype).transpose(1, 2) @ self.limit
                if len(of_atoms) == 1:
                    features = features + change
                else:
                    features[some] += change
        harmonics, found = self._of_heads(graph, rows, features, direction, hidden * envelope)
        of_spin = None
        if z is not None and spin is not None and difference is not None and singly is not None:
            where = (self.radial, self.to_harmonics)
            even = spin.even(rows, z, singly, *where)
            found = found + F.pad(even, (0, found.shape[-1] - even.shape[-1]))
            on_spheres = self._on_spheres(difference)[:, N_SCALARS:]
            of_spin = spin.coefficients(rows, z, difference, *where, on_spheres)
        if config.diffuse:
            more = (0, 0, 0, len(config.diffuse))
            amounts = torch.einsum("akc,ac->ak", self.diffuse[rows], harmonics[:, :, 0])
            spherical = (amounts @ self.radial_diffuse)[:, :, None]
            found = F.pad(found, more) + F.pad(spherical, (0, found.shape[-1] - 1))
            of_spin = None if of_spin is None else F.pad(of_spin, more)
        both = None if difference is None or unpaired is None else (difference, unpaired)
        return found, of_spin, harmonics, both

    @in_single_precision
    def _of_heads(
        self, graph: Graph, rows: Tensor, features: Tensor, direction: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Last features (atom, channel, lm), and coefficients without diffuse functions."""
        degree = self.config.degree
        harmonics = features @ self.to_harmonics[:, : (degree + 1) ** 2]
        parts = []
        for n, head in enumerate(self.heads):
            # orthonormal functions to Gaussians, element by element
            head = torch.einsum("kg,ekc->egc", self.radial[n], head)
            if n <= degree:
                parts.append(head[rows] @ harmonics[:, :, n * n : (n + 1) ** 2])
            else:
                parts.append(self._steep(graph, direction, known, head, n))
        return harmonics, torch.cat(parts, dim=-1)

    def _shapes(
        self, direction: Tensor, electrons: Electrons | None, envelope: Tensor, some: slice
    ) -> Tensor:
        """Functions (pair, shape, point) on the sphere of the receiver, of some of the pairs.

        Legendre polynomials about the line to the sender, and deviations of the pair's electrons
        from this symmetry.
        """
        cosine = direction[some] @ self.points.T  # (pair, point)
        legendre = [torch.ones_like(cosine), cosine]
        for n in range(2, self.config.degree + 1):
            legendre.append(((2 * n - 1) * cosine * legendre[-1] - (n - 1) * legendre[-2]) / n)
        parts = [torch.stack(legendre[: self.config.degree + 1], dim=1)]
        if electrons is not None and self.config.electrons > 1:
            parts += self._about_bonds(electrons, some)
        return torch.cat([part * envelope[some, None] for part in parts], dim=1)

    def averaged(self, graph: Graph, rotations: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Mean of the coefficients of rotated copies of the atoms, rotated back; as `coefficients`.

        Parameters
        ----------
        graph : Graph
        rotations : sequence of (3, 3) tensor
            Orthogonal matrices, as in `Graph.turned`.
        """
        total = torch.zeros((), device=self.points.device)
        of_spin = None
        for rotation in rotations:
            harmonics = spherical_harmonics(self.points @ rotation, self.config.output_degree)
            back = self.to_harmonics.T @ harmonics  # Y(r rotation) = Y(r) back
            found, spin = self.coefficients(graph.turned(rotation))
            total = total + found @ back.T
            if spin is not None:
                low = spin.shape[-1]
                spin = spin @ back[:low, :low].T / len(rotations)
                of_spin = spin if of_spin is None else of_spin + spin
        return total / len(rotations), of_spin

    def _on_spheres(self, electrons: Electrons) -> Tensor:
        """Electrons of each atom as functions on the sphere (atom, function, point)."""
        scalars = electrons.scalars[:, :, None].expand(-1, -1, len(self.points))
        vectors = electrons.vectors @ self.points.T
        return torch.cat([scalars, vectors, self._quadratic(electrons.tensors)], dim=1)

    def _far_atoms(self, graph: Graph) -> Tensor:
        """Atoms within reach, by element and distance, as functions (atom, channel, point)."""
        assert graph.far is not None  # `Graph.of` makes it for a config with a reach
        senders, receivers, vectors = graph.far
        reach, degree = self.config.reach, self.config.degree
        r = vectors.norm(dim=1)
        centres = reach - _FAR + torch.arange(_FAR, device=r.device)
        x = ((r - (reach - _FAR_FADE)) / _FAR_FADE).clamp(0.0, 1.0)
        fade = 1 - x**2 * (3 - 2 * x)
        n = len(graph.numbers)
        kinds = len(self.config.elements)
        places = receivers * kinds + self.rows[graph.numbers][senders]
        seen = r.new_zeros(n * kinds, _FAR, (degree + 1) ** 2)  # (atom and element, distance, lm)
        for some in _blocks(len(r), _PAIRS_AT_ONCE, torch.is_grad_enabled()):
            radial = torch.exp(-((r[some, None] - centres) ** 2)) * fade[some, None]
            harmonics = spherical_harmonics(vectors[some] / r[some, None], degree)
            found = radial[:, :, None] * harmonics[:, None]
            if torch.is_grad_enabled():
                seen = seen.index_add(0, places[some], found)
            else:
                seen.index_add_(0, places[some], found)
        seen = seen.reshape(n, kinds * _FAR, -1)
        parts = [
            weights @ seen[:, :, k * k : (k + 1) ** 2] for k, weights in enumerate(self.shown_far)
        ]
        return torch.cat(parts, dim=-1) @ self.harmonics.T

    def _steep(
        self, graph: Graph, direction: Tensor, known: Tensor, head: Tensor, degree: int
    ) -> Tensor:
        """Coefficients (atom, Gaussian, m) of a degree above that of the features.

        The points do not resolve this degree. The coefficients are a sum over neighbours of the
        harmonics of their direction, times the output of the head (element, Gaussian, hidden) for
        the pair.
        """
        n_elements, n_gaussians, _ = head.shape
        sizes = F.linear(known, head.flatten(0, 1)).view(-1, n_elements, n_gaussians)
        receivers = self.rows[graph.numbers][graph.receivers]
        sizes = sizes[torch.arange(len(sizes), device=sizes.device), receivers]
        harmonics = spherical_harmonics(direction, degree)[:, None, degree**2 :]
        total = sizes.new_zeros(len(graph.numbers), n_gaussians, 2 * degree + 1)
        return total.index_add(0, graph.receivers, sizes[:, :, None] * harmonics)

    def _about_bonds(self, electrons: Electrons, some: slice) -> list[Tensor]:
        """Deviation of pairs' electrons from axial symmetry, as functions (pair, function, point).

        They are functions on the sphere of the receiver.
        """
        vectors = electrons.bond_vectors[some] @ self.points.T
        return [vectors, self._quadratic(electrons.bond_tensors[some])]

    def _quadratic(self, tensors: Tensor) -> Tensor:
        """u^T T u of tensors (a, t, 3, 3) at the points u: (a, t, point)."""
        squares = self.points[:, :, None] * self.points[:, None]  # (point, 3, 3)
        return tensors.flatten(2) @ squares.flatten(1).T


def _blocks(n: int, most: int, together: bool) -> list[slice]:
    """Slices of at most `most` of n, or one for all."""
    if together or n <= most:
        return [slice(0, n)]
    return [slice(i, min(i + most, n)) for i in range(0, n, most)]
