"""Labels in flat tensors on one device; a batch of molecules is a few selections of rows.

The rows of all labels follow each other: atoms, pairs of neighbours, far atoms, points, and blocks
of points near an atom. The number of rows of each label is known on the host, so a batch is made
and computed without waiting for the device. What is a vector or a tensor is turned with the
molecule, all rows in one batched product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from denser.model.aspherical_config import AsphericalConfig
from denser.model.graph import Graph
from denser.model.l1_distance import Cloud, l1_distances
from denser.model.network import Network
from denser.model.tight_binding import (
    N_BOND_TENSORS,
    N_BOND_VECTORS,
    N_TENSORS,
    N_VECTORS,
    Electrons,
)
from denser.model.unpaired import OpenShell

_GROWTH = 1.25
"""A tensor that is full gets this many times as many rows."""


@dataclass(frozen=True)
class Batch:
    """Several molecules as one graph and one cloud of points.

    Parameters
    ----------
    graph : Graph
    cloud : Cloud
        Its target is rho - SAD.
    of_spin : Cloud, optional
        The same points with the spin density as target; for networks with spin densities.
    """

    graph: Graph
    cloud: Cloud
    of_spin: Cloud | None = None

    def errors(self, network: Network) -> tuple[Tensor, Tensor | None]:
        """Errors of each molecule (n_molecules,).

        First Err_rho, then (1/N_e) integral |m_pred - m| dr of the spin density m, which is zero
        for closed shells; None if all are closed shells, or the network predicts no spin densities.
        """
        found, spin = network.coefficients(self.graph)
        exponents = network.config.all_exponents
        errors = l1_distances(found, exponents, self.cloud)
        if spin is None or self.of_spin is None:
            return errors, None
        return errors, l1_distances(spin, exponents, self.of_spin)


class FlatLabels:
    """Graphs of labels, and clouds of some of their points.

    Parameters
    ----------
    config : AsphericalConfig
        Of the network.
    device : torch.device
    """

    def __init__(self, config: AsphericalConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.clouds = FlatClouds(len(config.all_exponents), device)
        self._atoms, self._pairs, self._far = (Table(device) for _ in range(3))
        self._shells: list[OpenShell | None] = []

    def __len__(self) -> int:
        return len(self._shells)

    def add(self, graph: Graph) -> int:
        """Add the graph of one label, and return its index."""
        electrons = graph.electrons
        atoms = {"numbers": graph.numbers}
        pairs = {"senders": graph.senders.int(), "receivers": graph.receivers.int()}
        turning = [graph.vectors[:, None]]
        if electrons is not None:
            atoms["scalars"] = electrons.scalars
            atoms["turning"] = torch.cat([electrons.vectors, electrons.tensors.flatten(1, 2)], 1)
            pairs["bonds"] = electrons.bonds
            turning += [electrons.bond_vectors, electrons.bond_tensors.flatten(1, 2)]
        self._atoms.add(**atoms)
        self._pairs.add(**pairs, turning=torch.cat(turning, dim=1))
        if graph.far is not None:
            senders, receivers, vectors = graph.far
            self._far.add(senders=senders.int(), receivers=receivers.int(), vectors=vectors)
        self._shells.append((graph.open_shells or (None,))[0])
        return len(self._shells) - 1

    def batch(
        self,
        labels: Sequence[int],
        clouds: Sequence[int],
        rotations: np.ndarray | None = None,
    ) -> Batch:
        """Some labels, each with one of its clouds.

        Parameters
        ----------
        labels, clouds : sequence of int
            Indices of `add` and of `clouds.add`.
        rotations : (n_labels, 3, 3) float, optional
            Orthogonal matrices by which the labels are rotated.
        """
        turns = None
        if rotations is not None:
            rotations = np.asarray(rotations, np.float32)
            turns = sent(rotations, self.device)
        chosen = np.asarray(labels)
        n_atoms = self._atoms.counts[chosen]
        before = np.cumsum(n_atoms) - n_atoms
        first = sent(before, self.device)  # atom of each label
        graph = self._graph(chosen, first, turns)
        if any(self._shells[i] is not None for i in labels):
            each = list(rotations) if rotations is not None else [None] * len(labels)
            shells = [(self._shells[i], turn) for i, turn in zip(labels, each, strict=True)]
            graph = replace(
                graph,
                open_shells=tuple(
                    shell if shell is None or turn is None else shell.turned(torch.as_tensor(turn))
                    for shell, turn in shells
                ),
            )
        cloud, of_spin = self.clouds.joined(clouds, n_atoms, first, turns)
        return Batch(graph, cloud, of_spin)

    def _graph(self, chosen: np.ndarray, first: Tensor, turns: Tensor | None) -> Graph:
        rows, owner = self._atoms.rows(chosen)
        numbers = self._atoms.take("numbers", rows)
        of_pairs, pair_owner = self._pairs.rows(chosen)
        shift = first[pair_owner]
        senders, receivers = (
            self._pairs.take(name, of_pairs) + shift for name in ("senders", "receivers")
        )
        n = self.config.electrons
        numbers_of = (1, N_BOND_VECTORS * n, N_BOND_TENSORS * n)
        turning = self._pairs.take("turning", of_pairs)
        vectors, bond_vectors, bond_tensors = _turned(turning, numbers_of, turns, pair_owner)
        electrons = None
        if n:
            kinds = (0, N_VECTORS * n, N_TENSORS * n)
            turning = self._atoms.take("turning", rows)
            _, atom_vectors, tensors = _turned(turning, kinds, turns, owner)
            electrons = Electrons(
                self._atoms.take("scalars", rows), atom_vectors, tensors,
                self._pairs.take("bonds", of_pairs), bond_vectors, bond_tensors,
            )  # fmt: skip
        far = None
        if len(self._far):
            index, far_owner = self._far.rows(chosen)
            shift = first[far_owner]
            there, here = (self._far.take(name, index) + shift for name in ("senders", "receivers"))
            far = (there, here, _rotated(self._far.take("vectors", index), turns, far_owner))
        sizes = zip(self._atoms.counts[chosen], self._pairs.counts[chosen], strict=True)
        return Graph(
            numbers, senders, receivers, vectors[:, 0], electrons, far, None,
            tuple((int(a), int(p)) for a, p in sizes),
        )  # fmt: skip


class FlatClouds:
    """Points of labels, with their blocks, as `denser.model.l1_distance.Cloud` has them."""

    def __init__(self, n_exponents: int, device: torch.device) -> None:
        self.n_exponents, self.device = n_exponents, device
        self._points, self._blocks = Table(device), Table(device)
        self._levels: list[np.ndarray] = []  # blocks of each cloud by their number of exponents

    def add(self, cloud: Cloud, spin: Tensor | None = None) -> int:
        """Add the cloud of one label, with its spin density (n,) there; return its index."""
        rows = {"points": cloud.points, "target": cloud.target, "weights": cloud.weights}
        if spin is not None:
            rows["spin"] = spin
        n = cloud.n_points[0]
        self._points.add(**{name: values[:n] for name, values in rows.items()})
        filled = torch.where(cloud.members == n, -1, cloud.members)
        self._blocks.add(centres=cloud.centres, atoms=cloud.atoms.int(), members=filled.short())
        self._levels.append(np.bincount(cloud.reaching, minlength=self.n_exponents + 1)[::-1])
        return len(self._levels) - 1

    def joined(
        self,
        chosen: Sequence[int],
        n_atoms: np.ndarray,
        first_atom: Tensor,
        turns: Tensor | None = None,
    ) -> tuple[Cloud, Cloud | None]:
        """One cloud of several, whose atoms follow each other; and that of the spin density.

        Parameters
        ----------
        chosen : sequence of int
        n_atoms : (n_clouds,) int
            Of each molecule.
        first_atom : (n_clouds,) tensor
            Index of its first atom.
        turns : (n_clouds, 3, 3) tensor, optional
            Points and centres are multiplied by these.
        """
        index = np.asarray(chosen)
        n_points = self._points.counts[index]
        total = int(n_points.sum())
        rows, of_points = self._points.rows(index)
        last = torch.cat([rows, rows[:1]])  # the last point fills blocks
        points = _rotated(
            self._points.take("points", last), turns, torch.cat([of_points, of_points[:1]])
        )
        weights = self._points.take("weights", last)
        weights[-1:].zero_()
        # Blocks with many exponents come first, each kind molecule by molecule.
        levels = np.stack([self._levels[i] for i in index])
        starts = self._blocks.starts[index][:, None] + np.cumsum(levels, axis=1) - levels
        sections, section = _rows(starts.T.ravel(), levels.T.ravel(), self.device)
        owner = section % len(index)
        members = self._blocks.take("members", sections).long()
        first_point = sent(np.cumsum(n_points) - n_points, self.device)
        members = torch.where(members < 0, total, members + first_point[owner, None])
        kinds = np.arange(levels.shape[1])[::-1]
        cloud = Cloud(
            points,
            self._points.take("target", last),
            weights,
            tuple(n_points.tolist()),
            of_points,
            _rows(np.zeros(len(index), int), n_atoms, self.device)[1],
            _rotated(self._blocks.take("centres", sections), turns, owner),
            self._blocks.take("atoms", sections) + first_atom[owner],
            members,
            np.repeat(kinds, levels.sum(axis=0)),
        )
        if "spin" not in self._points.columns:
            return cloud, None
        return cloud, replace(cloud, target=self._points.take("spin", last))


class Table:
    """Rows of several entries, one entry after the other, in tensors that grow."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.columns: dict[str, Tensor] = {}
        self._counts = np.zeros(0, int)
        self._n = self._used = 0

    def __len__(self) -> int:
        return self._n

    @property
    def counts(self) -> np.ndarray:
        """Number of rows of each entry."""
        return self._counts[: self._n]

    @property
    def starts(self) -> np.ndarray:
        """First row of each entry."""
        return np.cumsum(self.counts) - self.counts

    def add(self, **columns: Tensor) -> None:
        """Add the rows of one entry to each column."""
        (n,) = {len(rows) for rows in columns.values()}
        end = self._used + n
        for name, rows in columns.items():
            if name not in self.columns:
                self.columns[name] = torch.empty(0, *rows.shape[1:], dtype=rows.dtype)
            kept = self.columns[name]
            if end > len(kept):
                size = max(end, int(_GROWTH * len(kept)))
                wider = torch.empty(size, *rows.shape[1:], dtype=rows.dtype, device=self.device)
                wider[: self._used] = kept[: self._used]
                self.columns[name] = kept = wider
            kept[self._used : end] = rows
        if self._n == len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(self._n + 16, int)])
        self._counts[self._n] = n
        self._n, self._used = self._n + 1, end

    def rows(self, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows (n,) of the chosen entries, and which of the chosen ones each belongs to (n,)."""
        return _rows(self.starts[chosen], self.counts[chosen], self.device)

    def take(self, name: str, rows: Tensor) -> Tensor:
        """Some rows of a column; indices of any width become int64."""
        found = self.columns[name].index_select(0, rows)
        return found.long() if found.dtype == torch.int32 else found


def sent(values: np.ndarray, device: torch.device) -> Tensor:
    """Values on a device, copied there without waiting for it."""
    found = torch.as_tensor(np.ascontiguousarray(values))
    if device.type == "cuda":
        found = found.pin_memory()
    return found.to(device, non_blocking=True)


def _rows(starts: np.ndarray, counts: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices start, start + 1, ... of several ranges (n,), and the range of each (n,)."""
    total = int(counts.sum())
    both = sent(np.stack([starts - (np.cumsum(counts) - counts), counts]), device)
    owner = torch.repeat_interleave(both[1], output_size=total)
    return both[0][owner] + torch.arange(total, device=device), owner


def _rotated(x: Tensor, turns: Tensor | None, owner: Tensor) -> Tensor:
    """Vectors (n, ..., 3), each row multiplied by the matrix (3, 3) of its owner."""
    if turns is None:
        return x
    rows = x.shape[1:-1].numel()  # not -1: of lone atoms there are no pairs
    return torch.bmm(x.reshape(len(x), rows, 3), turns[owner]).view(x.shape)


def _turned(
    turning: Tensor, kinds: tuple[int, int, int], turns: Tensor | None, owner: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors (n, k, 3) of two kinds and tensors (n, k, 3, 3) from their rows (n, rows, 3).

    v R, and R^T T R = (R^T (T R))^T^T.
    """
    one, two, tensors = kinds
    found = _rotated(turning, turns, owner)
    matrices = found[:, one + two :].reshape(len(found), tensors, 3, 3)
    if turns is not None and tensors:
        matrices = _rotated(matrices.transpose(-1, -2), turns, owner).transpose(-1, -2)
    return found[:, :one], found[:, one : one + two], matrices


__all__ = ["Batch", "FlatClouds", "FlatLabels", "Table", "sent"]
