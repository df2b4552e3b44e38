"""Atoms and their neighbours, the input of `denser.model.aspherical`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import numpy as np
import torch
from ase.neighborlist import primitive_neighbor_list
from torch import Tensor

from denser.model.aspherical_config import AsphericalConfig
from denser.model.hamiltonians import Neighbours
from denser.model.tight_binding import Electrons, solve
from denser.types.grid import Grid
from denser.types.structure import Structure


@dataclass(frozen=True, eq=False)
class Graph:
    """Atoms and their neighbours.

    Parameters
    ----------
    numbers : (n_atoms,) int tensor
    senders, receivers : (n_pairs,) int tensor
    vectors : (n_pairs, 3) tensor
        From receiver to sender, or to the image of it, bohr.
    electrons : Electrons, optional
    far : tuple of tensor, optional
        Senders, receivers and vectors of all pairs within the config's reach.
    """

    numbers: Tensor
    senders: Tensor
    receivers: Tensor
    vectors: Tensor
    electrons: Electrons | None = None
    far: tuple[Tensor, Tensor, Tensor] | None = None

    @classmethod
    def of(
        cls,
        structure: Structure,
        grid: Grid | None,
        config: AsphericalConfig,
        device: torch.device | str = "cpu",
        positions: Tensor | None = None,
    ) -> Graph:
        """Neighbours within the cutoff; with a grid, its box is the period.

        With `positions` (n_atoms, 3), a tensor equal to those of the structure, the result has
        derivatives.
        """
        cell = np.eye(3) if grid is None else grid.cell
        receivers, senders, vectors, shifts = primitive_neighbor_list(
            "ijDS",
            (grid is not None,) * 3,
            cell,
            structure.positions,
            max(config.cutoff, config.reach),
        )
        near = np.linalg.norm(vectors, axis=1) < config.cutoff
        if positions is None:
            vectors = torch.as_tensor(vectors)
        else:
            moved = positions.cpu().double()
            vectors = moved[senders] - moved[receivers] + torch.as_tensor(shifts @ cell)
        far = None
        if config.reach:
            far = (
                torch.as_tensor(senders, device=device),
                torch.as_tensor(receivers, device=device),
                vectors.to(device, torch.float32),
            )
        receivers, senders, shifts = receivers[near], senders[near], shifts[near]
        vectors = vectors[torch.as_tensor(near)]
        electrons = None
        if config.electrons:
            pairs = Neighbours(structure.numbers, senders, receivers, vectors, config.cutoff)
            periods = None if grid is None else cell
            electrons = solve(pairs, structure.charge, shifts, periods, config.electrons).to(device)
        senders, receivers = (torch.as_tensor(x, device=device) for x in (senders, receivers))
        numbers = torch.tensor(structure.numbers, device=device)
        return cls(numbers, senders, receivers, vectors.to(device, torch.float32), electrons, far)

    def turned(self, rotation: Tensor) -> Graph:
        """The same graph, with each vector multiplied by an orthogonal matrix (3, 3)."""
        electrons = None if self.electrons is None else self.electrons.turned(rotation)
        far = self.far and (*self.far[:2], self.far[2] @ rotation)
        return replace(self, vectors=self.vectors @ rotation, electrons=electrons, far=far)

    @classmethod
    def joined(cls, graphs: Sequence[Graph], rotations: Tensor | None = None) -> Graph:
        """One graph of several, which are not connected; their atoms follow each other.

        Parameters
        ----------
        graphs : sequence of Graph
            All made for the same config.
        rotations : (n_graphs, 3, 3) tensor, optional
            Each graph is multiplied by its own orthogonal matrix, as in `turned`.
        """
        n_atoms = [len(graph.numbers) for graph in graphs]
        first = [0, *accumulate(n_atoms)]
        device = graphs[0].numbers.device

        def put(parts: Iterable[Tensor], shifted: bool = False) -> Tensor:
            """Parts one after the other; indices of atoms are shifted."""
            moved = parts if not shifted else (x + n for x, n in zip(parts, first, strict=False))
            return torch.cat(list(moved))

        def each(counts: list[int]) -> Tensor | None:
            """Rotation of each row (n_rows, 3, 3)."""
            if rotations is None:
                return None
            chosen = torch.tensor(counts, device=device)
            return rotations.repeat_interleave(chosen, dim=0, output_size=sum(counts))

        of_atoms = each(n_atoms)
        of_pairs = each([len(graph.senders) for graph in graphs])
        far = None
        if graphs[0].far is not None:
            parts = list(zip(*(graph.far for graph in graphs if graph.far), strict=True))
            of_far = each([len(x) for x in parts[0]])
            far = (put(parts[0], True), put(parts[1], True), _turned(put(parts[2]), of_far))
        electrons = None
        if graphs[0].electrons is not None:
            found = {
                f.name: put(getattr(graph.electrons, f.name) for graph in graphs)
                for f in fields(Electrons)
            }
            for name, turns in (("", of_atoms), ("bond_", of_pairs)):
                found[name + "vectors"] = _turned(found[name + "vectors"], turns)
                both = _turned(found[name + "tensors"], turns).transpose(-1, -2)
                found[name + "tensors"] = _turned(both, turns).transpose(-1, -2)
            electrons = Electrons(**found)
        return cls(
            put(graph.numbers for graph in graphs),
            put((graph.senders for graph in graphs), True),
            put((graph.receivers for graph in graphs), True),
            _turned(put(graph.vectors for graph in graphs), of_pairs),
            electrons,
            far,
        )


def _turned(x: Tensor, rotations: Tensor | None) -> Tensor:
    """Vectors (n, ..., 3), each row multiplied by its matrix (n, 3, 3)."""
    if rotations is None:
        return x
    return torch.bmm(x.reshape(len(x), -1, 3), rotations).view(x.shape)
