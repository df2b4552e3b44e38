"""Predictions of densities on grids whose nodes do not fit in memory, slab by slab.

They are those of `Predictor.predict`, to the rounding of single precision. There, the SAD is scaled
to N_e on the nodes, and the raw density rho(r) by sum_a w_a(r) f_a and then to N_e
(`denser.model.normalise`). The sums over all nodes that this takes are linear in the density:

N_SAD = sum_r n(r),   m_a = sum_b w_ab sum_(r in b) rho(r),   N = sum_r rho(r) sum_b I_rb phi_b,

with blocks b of nodes, phi_b = 1 + sum_a w_ab (f_a - 1) and linear interpolation I from the blocks
to the nodes. So sums over slabs add up, and f is needed only at the end, N being
sum_r rho(r) + sum_a (f_a - 1) sum_b w_ab sum_r I_rb rho(r). One pass over the slabs gives
N_SAD, a second one all others, and a third one the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from denser.atoms.sad import count_electrons, hirshfeld_weights, sum_of_atoms, valence_charges
from denser.model.deformed_atoms import DeformedAtoms, on_nodes
from denser.model.normalise import (
    BLOCK,
    between_blocks,
    block_grid,
    block_sums,
    electron_factors,
    wanted,
)
from denser.types.arrays import seal
from denser.types.density import SPIN_UNIT, Density, SlabDensity
from denser.types.grid import Grid

LARGEST = 16_000_000
"""Nodes of the largest slab, or four planes if these are more."""

BYTES_PER_NODE = 64
"""Of a slab."""

Part = tuple[int, int]
"""First node of a slab along its axis, and the one after the last."""

Track = Callable[[Sequence[Part], str], Iterable[Part]]
"""Shows progress: returns the parts, given what is done with them."""


def untracked(parts: Sequence[Part], doing: str) -> Iterable[Part]:
    """No progress."""
    return parts


@dataclass(frozen=True, eq=False)
class Slabs:
    """A prediction on a grid, slab by slab.

    Parameters
    ----------
    atoms : DeformedAtoms
        What does not depend on a grid; the factors do not matter.
    grid : Grid
        The box of a crystal, or one around an isolated molecule.
    memory : float
        Bytes for the largest slab; slabs have at least four planes.
    track : Track
    """

    atoms: DeformedAtoms
    grid: Grid
    memory: float = np.inf
    track: Track = untracked

    def parts(self, axis: int) -> list[Part]:
        """The slabs along an axis, each of whole blocks."""
        n = self.grid.shape[axis]
        plane = self.grid.size // n
        nodes = min(self.memory / BYTES_PER_NODE, LARGEST)
        thickness = max(1, int(nodes / plane) // BLOCK) * BLOCK
        return [(start, min(start + thickness, n)) for start in range(0, n, thickness)]

    def sad(self) -> SlabDensity:
        """Superposed atoms of N_e electrons, as of `superposition`."""
        n_electrons = count_electrons(self.atoms.structure)
        parts = self.track(self.parts(0), "superposing atoms")
        total = sum(float(self._superposed(0, part).sum()) for part in parts)
        scale = n_electrons / (total * self.grid.dv)

        def evaluate(axis: int) -> Iterator[np.ndarray]:
            for part in self.parts(axis):
                yield self._superposed(axis, part) * scale

        return self._density(evaluate)

    def density(self, sad: SlabDensity) -> tuple[Density, DeformedAtoms, float]:
        """The density, its atoms, and their excess as of `DeformedAtoms.scaled`."""
        structure, grid = self.atoms.structure, self.grid
        n, dv = len(structure), grid.dv
        electrons, neutral, shared, near = (np.zeros(n) for _ in range(4))
        clipped: tuple = 0.0, np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3, 3))
        total = 0.0
        parts = self.track(self.parts(0), "counting electrons")
        for part, values in zip(parts, sad.slabs(0), strict=True):
            superposed = self._known(sad, 0, part, values)
            of_part, raw = DeformedAtoms.of(
                superposed,
                self.atoms.box is not None,
                self.atoms.recipe,
                self.atoms.coefficients,
                self.atoms.exponents,
            )
            weights, blocks, inner = self._weights(0, part)
            own = weights[:, np.arange(np.prod(blocks)).reshape(blocks)[inner].ravel()]
            electrons += own @ block_sums(raw.cpu().numpy(), dv).ravel()
            neutral += own @ block_sums(values, dv).ravel()
            # the adjoint of the interpolation
            zero = torch.zeros(blocks, dtype=torch.float64, requires_grad=True)
            fine = self._between(zero, 0, part)
            (spread,) = torch.autograd.grad(fine, zero, raw.double().cpu())
            shared += weights @ spread.numpy().ravel() * dv
            total += float(raw.sum(dtype=torch.float64)) * dv
            clipped = tuple(a + b for a, b in zip(clipped, of_part.clipped, strict=True))
            near += 0.0 if of_part.clipped_near is None else of_part.clipped_near
        atoms = replace(
            self.atoms,
            factors=np.ones(n),
            clipped=clipped,
            clipped_near=near if self.atoms.box is None else None,
        )
        aim = wanted(neutral, sad, atoms.target)
        factors = electron_factors(structure, electrons, electrons - aim)
        left = (total + float(shared @ (factors - 1.0))) / sad.n_electrons
        atoms, excess = atoms.scaled(sad.valence_charges, sad.n_electrons)

        def evaluate(axis: int) -> Iterator[np.ndarray]:
            parts = self.track(self.parts(axis), "writing")
            for part, values in zip(parts, sad.slabs(axis), strict=True):
                superposed = self._known(sad, axis, part, values)
                raw = on_nodes(superposed, self.atoms.coefficients, self.atoms.exponents)
                raw.clamp_(min=0.0)
                weights, blocks, _ = self._weights(axis, part)
                field = torch.as_tensor((1.0 + weights.T @ (factors - 1.0)).reshape(blocks))
                factor = self._between(field.to(raw), axis, part)
                yield ((raw * factor).double() / left).to(raw.dtype).cpu().numpy()

        def spins(axis: int) -> Iterator[np.ndarray]:
            for part in self.parts(axis):
                values = atoms.spin_on_grid(grid, (axis, *part))
                assert values is not None
                yield values

        spin = None if atoms.spin is None else self._density(spins, SPIN_UNIT)
        return self._density(evaluate, spin=spin).known_between_nodes(atoms), atoms, excess

    def _density(
        self,
        evaluate: Callable[[int], Iterator[np.ndarray]],
        unit: str = Density.unit,
        spin: SlabDensity | None = None,
    ) -> SlabDensity:
        structure = self.atoms.structure
        charges = valence_charges(structure)
        return SlabDensity(
            self.grid,
            evaluate,
            structure=structure,
            valence_charges=charges,
            unit=unit,
            spin_density=spin,
        )

    def _known(self, sad: SlabDensity, axis: int, part: Part, values: np.ndarray) -> Density:
        """A slab of the SAD."""
        slab = self.grid.slab(axis, *part)
        return Density(
            slab, seal(values), structure=sad.structure, valence_charges=sad.valence_charges
        )

    def _superposed(self, axis: int, part: Part) -> np.ndarray:
        """Superposed atoms of a slab, not scaled."""
        slab = self.grid.slab(axis, *part)
        return np.maximum(sum_of_atoms(self.atoms.structure, slab, self.atoms.recipe), 0.0)

    def _weights(
        self, axis: int, part: Part
    ) -> tuple[csr_matrix, tuple[int, int, int], tuple[slice, ...]]:
        """Hirshfeld weights on the blocks of a slab and one more on each side.

        With the shape of these blocks, and where in it those of the slab are.
        """
        first, last = part[0] // BLOCK, -(-part[1] // BLOCK)
        blocks = block_grid(self.grid)
        start, stop = max(first - 1, 0), min(last + 1, blocks.shape[axis])
        blocks = blocks.slab(axis, start, stop)
        weights = hirshfeld_weights(self.atoms.structure, blocks, self.atoms.recipe)
        inner = [slice(None)] * 3
        inner[axis] = slice(first - start, last - start)
        return weights, blocks.shape, tuple(inner)

    def _between(self, field: Tensor, axis: int, part: Part) -> Tensor:
        """A field on the blocks of `_weights` at the nodes of the slab."""
        window = [slice(0, n) for n in self.grid.shape]
        first = BLOCK if part[0] else 0
        window[axis] = slice(first, first + part[1] - part[0])
        return between_blocks(field)[tuple(window)]
