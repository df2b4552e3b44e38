"""Training points: nodes of the labels' grids, drawn where the density or rho - SAD is large.

A network that predicts Gaussians gives its density at any point, so a step needs no box. If nodes
are drawn with probabilities q, the mean of |rho_pred - rho| dv / (N_e q) over them is an unbiased
estimate of Err_rho = (1/N_e) sum_r |rho_pred - rho| dv. They are drawn from every second plane of
nodes along each axis, with a random start. This takes an eighth of the nodes, and of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import denser.atoms.sad
from denser.fields.periodic import images_near
from denser.labels.label import Label
from denser.labels.packed import PackedLabel
from denser.labels.render import density_on_grid
from denser.model.aspherical_config import AsphericalConfig
from denser.model.graph import Graph
from denser.model.l1_distance import Cloud, l1_distances
from denser.model.network import Network
from denser.training.config import Config, DataConfig
from denser.training.processes import Processes
from denser.training.sampling import labels_of_step
from denser.types.grid import Grid
from denser.types.structure import Structure

PER_LABEL = 16384
"""Number of nodes of each label."""

SHARES = (0.45, 0.3, 0.15, 0.1)
"""Shares of nodes drawn by |rho - SAD|, by SAD, by its square root, and evenly."""

_USUAL = 0.01
"""Err_rho of a molecule whose weight does not depend on `sample.exponent`."""

_REACH = 7.0
"""Images of atoms within this distance (bohr) of the box are included."""


_ATOMS = {"cpu": 40, "cuda": 8192}
"""Number of atoms that are computed together."""

_Sample = tuple[int, np.ndarray, int]
"""Label, rotation and first node."""


@dataclass(frozen=True, eq=False)
class PointSet:
    """Points of one label.

    Parameters
    ----------
    graph : Graph
    images : (n_images, 3) tensor
        Atoms in and around the box, with their periodic images, bohr.
    parents : (n_images,) int tensor
    nodes : (n, 3) tensor
        Bohr.
    sad, rho : (n,) tensor
        Superposed atomic densities (not scaled to N_e) and reference, e/bohr^3.
    weights : (n,) tensor
        dv / (N_e q n), so that sum weights |rho_pred - rho| estimates Err_rho.
    spin : (n,) tensor, optional
        Spin density of an open shell, unpaired e/bohr^3.
    """

    graph: Graph
    images: Tensor
    parents: Tensor
    nodes: Tensor
    sad: Tensor
    rho: Tensor
    weights: Tensor
    spin: Tensor | None = None

    def error(self, network: Network, chosen: slice, rotation: Tensor | None = None) -> Tensor:
        """Err_rho estimated from some of the nodes, after a rotation by a (3, 3) matrix."""
        rotations = None if rotation is None else rotation[None]
        return errors_of(network, [self], [chosen], rotations)[0][0]

    def cloud(self, config: AsphericalConfig, chosen: slice, rotation: Tensor | None) -> Cloud:
        """Some of the nodes and rho - SAD there, for `denser.model.l1_distance`."""
        nodes, images = self.nodes[chosen], self.images
        if rotation is not None:
            nodes, images = nodes @ rotation, images @ rotation
        target = self.rho[chosen] - self.sad[chosen]
        weights = self.weights[chosen] * (len(self.nodes) / len(nodes))
        n_atoms = len(self.graph.numbers)
        where = (n_atoms, images, self.parents)
        return Cloud.of(nodes, target, weights, *where, config.all_exponents, config.output_degree)


def errors_of(
    network: Network,
    sets: Sequence[PointSet],
    chosen: Sequence[slice],
    rotations: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Errors of several labels at once (n_labels,), each from some of its nodes.

    First Err_rho, then (1/N_e) integral |m_pred - m| dr of the spin density m, which is zero for
    closed shells; None if all are closed shells, or the network predicts no spin densities.

    Parameters
    ----------
    network : Network
    sets : sequence of PointSet
    chosen : sequence of slice
        Nodes of each label.
    rotations : (n_labels, 3, 3) tensor, optional
        Orthogonal matrices that the labels are rotated by.
    """
    turns = [None] * len(sets) if rotations is None else list(rotations)
    clouds = [
        points.cloud(network.config, nodes, turn)
        for points, nodes, turn in zip(sets, chosen, turns, strict=True)
    ]
    graph = Graph.joined([points.graph for points in sets], rotations)
    found, spin = network.coefficients(graph)
    exponents = network.get_buffer("exponents")
    errors = l1_distances(found, exponents, Cloud.joined(clouds))
    if spin is None:
        return errors, None
    of_spin = []
    for cloud, points, nodes in zip(clouds, sets, chosen, strict=True):
        m = torch.zeros_like(cloud.target)
        if points.spin is not None:
            m[:-1] = points.spin[nodes]
        of_spin.append(replace(cloud, target=m))
    return errors, l1_distances(spin, exponents, Cloud.joined(of_spin))


class Points:
    """Point sets of labels, made at the first request and cached."""

    def __init__(
        self,
        labels: list[Label | PackedLabel],
        sad: str,
        device: torch.device,
        config: AsphericalConfig,
        seed: int = 0,
    ) -> None:
        self.labels, self.sad, self.device = labels, sad, device
        self.config, self.seed = config, seed
        self._kept: dict[Label | PackedLabel, PointSet] = {}

    @classmethod
    def of(
        cls,
        labels: list[Label | PackedLabel],
        data: DataConfig,
        network: Network,
        device: torch.device,
    ) -> Points:
        """Points for a network, from the section `data` of a configuration."""
        return cls(labels, data.sad, device, network.config)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> PointSet:
        """Point set of label `i`."""
        label = self.labels[i]
        if label in self._kept:
            return self._kept[label]
        if isinstance(label, PackedLabel):
            self._kept[label] = self._of_shard(label)
        else:
            # a label that occurs twice always has the points of its first position
            rng = np.random.default_rng([self.seed, self.labels.index(label)])
            self._kept[label] = self._draw(label, rng)
        return self._kept[label]

    def _of_shard(self, label: PackedLabel) -> PointSet:
        """The points in the shard."""
        points = label.points()
        sad = denser.atoms.sad.superposition_at(
            label.structure, label.grid, points.xyz, label.recipe.sad
        )
        where = (label.structure, label.grid, points.xyz)
        return self._point_set(*where, sad, sad + points.deformation, points.weights, points.spin)

    def _draw(self, label: Label, rng: np.random.Generator) -> PointSet:
        structure, grid = label.structure, _every_other(label.grid, rng)

        def rendered(orbitals: np.ndarray) -> np.ndarray:
            where = (structure.numbers, structure.positions)
            values = density_on_grid(*where, orbitals, grid, self.device)
            return values.cpu().numpy().ravel().astype(float)

        m = None
        if structure.spin:
            up, down = (rendered(orbitals) for orbitals in label.spin_orbitals)
            rho, m = up + down, up - down
        else:
            rho = rendered(label.orbitals)
        density = denser.atoms.sad.superposition(structure, grid, self.sad)
        sad = density.values.ravel() * (density.valence_charges.sum() / label.n_electrons)
        parts = (np.abs(rho - sad), sad, np.sqrt(sad), np.ones_like(sad))
        q = sum(share * part / part.sum() for share, part in zip(SHARES, parts, strict=True))
        cumulative = np.cumsum(q)
        # They are stratified along the grid, and so is every n-th of them.
        places = (np.arange(PER_LABEL) + rng.random(PER_LABEL)) / PER_LABEL * cumulative[-1]
        node = np.minimum(np.searchsorted(cumulative, places), grid.size - 1)
        index = np.stack(np.unravel_index(node, grid.shape), axis=1)
        xyz = grid.origin + (index / np.array(grid.shape)) @ grid.cell
        weights = grid.dv / (q[node] / cumulative[-1] * PER_LABEL * label.n_electrons)
        spin = None if m is None else m[node]
        return self._point_set(structure, grid, xyz, sad[node], rho[node], weights, spin)

    def _point_set(
        self,
        structure: Structure,
        grid: Grid,
        xyz: np.ndarray,
        sad: np.ndarray,
        rho: np.ndarray,
        weights: np.ndarray,
        spin: np.ndarray | None,
    ) -> PointSet:
        images, parents = images_near(structure.positions, grid, _REACH)

        def tensor(x: np.ndarray) -> Tensor:
            return torch.as_tensor(x, dtype=torch.float32, device=self.device)

        return PointSet(
            Graph.of(structure, grid, self.config, self.device),
            tensor(images),
            torch.as_tensor(parents, device=self.device),
            tensor(xyz),
            tensor(sad),
            tensor(rho),
            tensor(weights),
            None if spin is None else tensor(spin),
        )

    def backward(
        self,
        network: Network,
        config: Config,
        step: int,
        done: float,
        n_train: int,
        peers: Processes,
    ) -> tuple[float, list[str]]:
        """Add the gradients of the loss of a batch; return this process's share of mean Err_rho.

        The loss is the mean of Err_rho, or of its power `sample.exponent`, divided by the exponent
        and by `_USUAL`^(exponent - 1); the weight of a molecule then grows with its error. For open
        shells (1/N_e) integral |m_pred - m| dr of the spin density m is added. Each sample is
        rotated or reflected at random, to reduce the deviation from equivariance.
        """
        rng = np.random.default_rng([config.seed, step])
        batch, exponent = config.sample.batch, config.sample.exponent
        chosen = labels_of_step(config, len(self), n_train, step, batch, rng)
        stride = max(1, PER_LABEL // config.sample.points)
        turns = [np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in chosen]
        starts = rng.integers(stride, size=batch)
        share = list(zip(chosen, turns, starts, strict=True))
        # Large ones first, alternately to and fro, so that all processes have equal work.
        share.sort(key=lambda sample: len(self.labels[sample[0]].structure), reverse=True)
        round_trip = 2 * peers.size
        share = share[peers.rank :: round_trip] + share[round_trip - 1 - peers.rank :: round_trip]
        # none in the last third
        network.disturb(max(0.0, 1.0 - 1.5 * done), int(rng.integers(2**31)))
        total = 0.0
        for group in self._groups(share):
            sets = [self[i] for i, _, _ in group]
            nodes = []
            for points, (_, _, start) in zip(sets, group, strict=True):
                # a label of a shard has fewer points, and more of them are used in a step
                every = max(1, min(stride, len(points.nodes) // config.sample.points))
                nodes.append(slice(int(start) % every, None, every))
            turns_of = torch.as_tensor(
                np.stack([turn for _, turn, _ in group]), dtype=torch.float32, device=self.device
            )
            errors, of_spin = errors_of(network, sets, nodes, turns_of)
            errors = errors / batch
            found = errors.detach()
            if of_spin is not None:
                errors = errors + of_spin / batch
            if errors.requires_grad:
                errors.backward((found * batch / _USUAL) ** (exponent - 1))
            total += float(found.sum())
        return total, [self.labels[i].name for i in chosen]

    def _groups(self, share: list[_Sample]) -> Iterator[list[_Sample]]:
        """Samples that are computed together."""
        group: list[_Sample] = []
        n = 0
        for sample in share:
            size = len(self.labels[sample[0]].structure)
            if group and n + size > _ATOMS.get(self.device.type, 8192):
                yield group
                group, n = [], 0
            group.append(sample)
            n += size
        if group:
            yield group

    def errors(self, network: Network, bf16: bool, peers: Processes) -> np.ndarray:
        """Err_rho (a fraction) of each label (n_labels,), estimated from up to 8,192 of its nodes.

        Always in float32: `bf16` is for image networks.
        """
        found = [0.0] * len(self)
        with torch.no_grad():
            for i in range(peers.rank, len(self), peers.size):
                every = max(1, len(self[i].nodes) // 8192)
                found[i] = float(self[i].error(network, slice(0, None, every)))
        return np.array(peers.sum(*found))


def _every_other(grid: Grid, rng: np.random.Generator) -> Grid:
    """Every second node along each axis with an even number of nodes, with a random start."""
    shape = np.array(grid.shape)
    every = np.where(shape % 2, 1, 2)
    start = rng.integers(every) * (np.diag(grid.cell) / shape)
    nx, ny, nz = (int(n) for n in shape // every)
    return Grid(grid.origin + start, grid.cell, (nx, ny, nz))
