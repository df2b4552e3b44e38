"""Images to train on: SAD and reference density of labels, and windows of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import denser.sad
from denser.data.crops import CubeOperation, window
from denser.data.labels import Label
from denser.data.render import density_on_grid
from denser.training.config import SampleConfig


class Images:
    """SAD and reference density of labels as float32 grids, kept while memory allows."""

    def __init__(self, labels: list[Label], sad: str, cache_gb: float, device: torch.device):
        self.labels, self.sad, self.device = labels, sad, device
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}
        self._room = cache_gb * 1e9

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Return (sad, rho), each (nx, ny, nz), e/bohr^3."""
        if i in self._cache:
            return self._cache[i]
        label = self.labels[i]
        structure, grid = label.structure, label.grid
        sad = torch.as_tensor(
            denser.sad.superposition(structure, grid, self.sad).values,
            dtype=torch.float32,
            device=self.device,
        )
        rho = density_on_grid(
            structure.numbers, structure.positions, label.mo_coeff, grid, self.device
        )
        pair = (sad, rho)
        size = 8 * grid.size
        if size <= self._room:
            self._room -= size
            self._cache[i] = pair
        return pair


def draw(
    sample: SampleConfig, images: Images, i: int, whole: bool, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A symmetry-transformed window (or the whole box) of label `i`: (sad, rho)."""
    sad, rho = images[i]
    operation = CubeOperation.random(rng, sample.symmetry)
    size, start = None, (0, 0, 0)
    if not whole:
        size = (sample.crop,) * 3
        structure, grid = images.labels[i].structure, images.labels[i].grid
        atom = structure.positions[rng.integers(len(structure))]
        jitter = rng.uniform(-0.5, 0.5, size=3) * (sample.crop - 2 * sample.margin)
        centre = np.round((atom - grid.origin) / grid.spacing + jitter)
        new_start = operation.matrix @ centre - sample.crop // 2
        start = tuple(int(n) for n in np.round(operation.matrix.T @ new_start))
    return window(sad, start, size, operation), window(rho, start, size, operation)
