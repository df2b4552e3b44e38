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
from denser.model.unpaired import OpenShell
from denser.types.grid import Grid
from denser.types.structure import MANY, Structure, pairs_within


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
    open_shells : tuple of OpenShell or None, optional
        One for each structure, None if it is a closed shell; for networks with spin densities, if
        electrons are unpaired.
    sizes : tuple of (int, int)
        Number of atoms and of pairs of each structure.
    far : tuple of tensor, optional
        Senders, receivers and vectors of all pairs within the config's reach.
    """

    numbers: Tensor
    senders: Tensor
    receivers: Tensor
    vectors: Tensor
    electrons: Electrons | None = None
    far: tuple[Tensor, Tensor, Tensor] | None = None
    open_shells: tuple[OpenShell | None, ...] | None = None
    sizes: tuple[tuple[int, int], ...] = ()

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
        reach = max(config.cutoff, config.reach)
        if grid is None and len(structure) >= MANY:
            receivers, senders = pairs_within(structure.positions, reach)
            steps = structure.positions[senders] - structure.positions[receivers]
            shifts = np.zeros((len(senders), 3), dtype=int)
        else:
            receivers, senders, steps, shifts = primitive_neighbor_list(
                "ijDS", (grid is not None,) * 3, cell, structure.positions, reach
            )
        near = np.linalg.norm(steps, axis=1) < config.cutoff
        if positions is None:
            vectors = torch.as_tensor(steps)
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
        electrons = open_shells = None
        if config.electrons:
            pairs = Neighbours(structure.numbers, senders, receivers, vectors, config.cutoff)
            periods = None if grid is None else cell
            electrons = solve(
                pairs,
                structure.charge,
                shifts,
                periods,
                config.electrons,
                structure.spin,
                structure.positions,
            )
            electrons = electrons.to(device)
            if config.spin and structure.spin:
                open_shells = (
                    OpenShell.of(
                        pairs,
                        structure.charge,
                        shifts,
                        periods,
                        config.electrons,
                        structure.spin,
                    ),
                )
        return cls(
            torch.tensor(structure.numbers, device=device),
            torch.as_tensor(senders, device=device),
            torch.as_tensor(receivers, device=device),
            vectors.to(device, torch.float32),
            electrons,
            far,
            open_shells,
            ((len(structure), len(senders)),),
        )

    def turned(self, rotation: Tensor) -> Graph:
        """The same graph, with each vector multiplied by an orthogonal matrix (3, 3)."""
        electrons = None if self.electrons is None else self.electrons.turned(rotation)
        shells = self.open_shells and tuple(x and x.turned(rotation) for x in self.open_shells)
        far = self.far and (*self.far[:2], self.far[2] @ rotation)
        vectors = self.vectors @ rotation
        return replace(
            self,
            vectors=vectors,
            electrons=electrons,
            far=far,
            open_shells=shells,
        )

    @classmethod
    def joined(cls, graphs: Sequence[Graph]) -> Graph:
        """One graph of several, which are not connected; their atoms follow each other.

        Parameters
        ----------
        graphs : sequence of Graph
            All made for the same config.
        """
        first = [0, *accumulate(len(graph.numbers) for graph in graphs)]

        def put(parts: Iterable[Tensor], shifted: bool = False) -> Tensor:
            """Parts one after the other; indices of atoms are shifted."""
            moved = parts if not shifted else (x + n for x, n in zip(parts, first, strict=False))
            return torch.cat(list(moved))

        far = None
        if graphs[0].far is not None:
            parts = list(zip(*(graph.far for graph in graphs if graph.far), strict=True))
            far = (put(parts[0], True), put(parts[1], True), put(parts[2]))
        shown = [graph.electrons for graph in graphs if graph.electrons is not None]
        electrons = None
        if shown:
            names = [f.name for f in fields(Electrons)]
            electrons = Electrons(*(put(getattr(x, name) for x in shown) for name in names))
        shells = None
        if any(graph.open_shells is not None for graph in graphs):
            shells = tuple((graph.open_shells or (None,))[0] for graph in graphs)
        return cls(
            put(graph.numbers for graph in graphs),
            put((graph.senders for graph in graphs), True),
            put((graph.receivers for graph in graphs), True),
            put(graph.vectors for graph in graphs),
            electrons,
            far,
            shells,
            tuple(size for graph in graphs for size in graph.sizes),
        )
