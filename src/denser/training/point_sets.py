"""Points of labels: nodes of their grids, drawn where the density or rho - SAD is large.

A network that predicts Gaussians gives its density at any point, so a step needs no box. If nodes
are drawn with probabilities q, the mean of |rho_pred - rho| dv / (N_e q) over them is an unbiased
estimate of Err_rho = (1/N_e) sum_r |rho_pred - rho| dv. They are drawn from every second plane of
nodes along each axis, with a random start. This takes an eighth of the nodes, and of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from denser.model.l1_distance import Cloud
from denser.model.network import Network
from denser.training.flat import FlatLabels
from denser.types.grid import Grid
from denser.types.structure import Structure

PER_LABEL = 16384
"""Number of nodes of each label."""

SHARES = (0.45, 0.3, 0.15, 0.1)
"""Shares of nodes drawn by |rho - SAD|, by SAD, by its square root, and evenly."""

_REACH = 7.0
"""Images of atoms within this distance (bohr) of the box are included."""


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
        rotations = None if rotation is None else rotation[None].cpu().numpy()
        return errors_of(network, [self], [chosen], rotations)[0][0]

    def cloud(self, config: AsphericalConfig, chosen: slice) -> Cloud:
        """Some of the nodes and rho - SAD there, for `denser.model.l1_distance`."""
        nodes = self.nodes[chosen]
        target = self.rho[chosen] - self.sad[chosen]
        weights = self.weights[chosen] * (len(self.nodes) / len(nodes))
        where = (len(self.graph.numbers), self.images, self.parents)
        return Cloud.of(nodes, target, weights, *where, config.all_exponents, config.output_degree)

    def add_to(self, flat: FlatLabels, chosen: Sequence[slice]) -> tuple[int, list[int]]:
        """Add the graph, and a cloud of each choice of nodes; return their indices."""
        clouds = []
        for some in chosen:
            spin = None
            if flat.config.spin:
                spin = torch.zeros_like(self.rho) if self.spin is None else self.spin
                spin = spin[some]
            clouds.append(flat.clouds.add(self.cloud(flat.config, some), spin))
        return flat.add(self.graph), clouds


def errors_of(
    network: Network,
    sets: Sequence[PointSet],
    chosen: Sequence[slice],
    rotations: np.ndarray | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Errors of several labels at once (n_labels,), each from some of its nodes.

    As `denser.training.flat.Batch.errors` gives them.

    Parameters
    ----------
    network : Network
    sets : sequence of PointSet
    chosen : sequence of slice
        Nodes of each label.
    rotations : (n_labels, 3, 3) float, optional
        Orthogonal matrices that the labels are rotated by.
    """
    flat = FlatLabels(network.config, network.device)
    places = [x.add_to(flat, [nodes]) for x, nodes in zip(sets, chosen, strict=True)]
    labels = [label for label, _ in places]
    return flat.batch(labels, [clouds[0] for _, clouds in places], rotations).errors(network)


def point_set(
    label: Label | PackedLabel,
    sad: str,
    config: AsphericalConfig,
    seed: Sequence[int],
    superposed: bool = True,
) -> PointSet:
    """Points of a label and its graph, on the CPU.

    Parameters
    ----------
    label : Label or PackedLabel
        Points of a label from a shard are those in the shard.
    sad : str
        SAD recipe.
    config : AsphericalConfig
        Of the network.
    seed : sequence of int
        Of the random points of a label with orbitals.
    superposed : bool
        False: the SAD of a label from a shard is left out of `sad` and of `rho`, whose difference
        is all that a step needs. This takes a third less time.
    """
    if isinstance(label, PackedLabel):
        return _of_shard(label, config, superposed)
    return _drawn(label, sad, config, np.random.default_rng(seed))


def _of_shard(label: PackedLabel, config: AsphericalConfig, superposed: bool) -> PointSet:
    """The points in the shard."""
    points = label.points()
    where = (label.structure, label.grid, points.xyz)
    sad = np.zeros(len(points.xyz))
    if superposed:
        sad = denser.atoms.sad.superposition_at(*where, label.recipe.sad)
    return _point_set(config, *where, sad, sad + points.deformation, points.weights, points.spin)


def _drawn(
    label: Label, sad_recipe: str, config: AsphericalConfig, rng: np.random.Generator
) -> PointSet:
    structure, grid = label.structure, _every_other(label.grid, rng)

    def rendered(orbitals: np.ndarray) -> np.ndarray:
        where = (structure.numbers, structure.positions)
        values = density_on_grid(*where, orbitals, grid, torch.device("cpu"))
        return values.numpy().ravel().astype(float)

    m = None
    if structure.spin:
        up, down = (rendered(orbitals) for orbitals in label.spin_orbitals)
        rho, m = up + down, up - down
    else:
        rho = rendered(label.orbitals)
    density = denser.atoms.sad.superposition(structure, grid, sad_recipe)
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
    return _point_set(config, structure, grid, xyz, sad[node], rho[node], weights, spin)


def _point_set(
    config: AsphericalConfig,
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
        return torch.as_tensor(x, dtype=torch.float32)

    return PointSet(
        Graph.of(structure, grid, config),
        tensor(images),
        torch.as_tensor(parents),
        tensor(xyz),
        tensor(sad),
        tensor(rho),
        tensor(weights),
        None if spin is None else tensor(spin),
    )


def _every_other(grid: Grid, rng: np.random.Generator) -> Grid:
    """Every second node along each axis with an even number of nodes, with a random start."""
    shape = np.array(grid.shape)
    every = np.where(shape % 2, 1, 2)
    start = rng.integers(every) @ (grid.cell / shape[:, None])
    nx, ny, nz = (int(n) for n in shape // every)
    return Grid(grid.origin + start, grid.cell, (nx, ny, nz))
