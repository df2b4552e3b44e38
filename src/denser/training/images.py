"""Training images: SAD and reference density of labels, and windows of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import denser.atoms.sad
from denser.fields.cube_group import CubeOperation, window
from denser.labels.label import Label
from denser.labels.render import density_on_grid
from denser.model.network import Network
from denser.model.precision import fast_bf16
from denser.training.config import Config, DataConfig, SampleConfig
from denser.training.processes import Processes
from denser.training.sampling import labels_of_step
from denser.types.errors import InputError
from denser.types.grid import Grid


class Images:
    """SAD and reference density of labels as float32 grids, cached within `cache_gb`.

    Parameters
    ----------
    labels : list of Label
    sad : str
        Recipe.
    cache_gb : float
        Memory for cached images.
    device : torch.device
    multiple_of : int
        Shapes are rounded up to multiples of this in the same box, for networks that need it.

    Raises
    ------
    InputError
        A box that is not orthorhombic.
    """

    def __init__(
        self,
        labels: list[Label],
        sad: str,
        cache_gb: float,
        device: torch.device,
        multiple_of: int = 1,
    ) -> None:
        skew = [label.name for label in labels if not label.grid.is_orthorhombic]
        if skew:
            raise InputError(
                f"networks of images need orthorhombic boxes along x, y and z, and {len(skew)} of "
                f"{len(labels)} labels have another one, such as {skew[0]}; leave them out, or "
                "train an aspherical network"
            )
        self.labels, self.sad, self.device = labels, sad, device
        self.grids = [_rounded(label.grid, multiple_of) for label in labels]
        self._cache: dict[Label, tuple[Tensor, Tensor]] = {}
        self._room = cache_gb * 1e9

    @classmethod
    def of(
        cls, labels: list[Label], data: DataConfig, network: Network, device: torch.device
    ) -> Images:
        """Images for a network, from the section `data` of a configuration."""
        multiple_of = 1 if network.any_shape else network.multiple_of
        return cls(labels, data.sad, data.cache_gb, device, multiple_of)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        """Return (sad, rho), each (nx, ny, nz), e/bohr^3."""
        label, grid = self.labels[i], self.grids[i]
        if label in self._cache:
            return self._cache[label]
        structure = label.structure
        sad = torch.tensor(
            denser.atoms.sad.superposition(structure, grid, self.sad).values,
            dtype=torch.float32,
            device=self.device,
        )
        rho = density_on_grid(
            structure.numbers, structure.positions, label.orbitals, grid, self.device
        )
        pair = (sad, rho)
        size = 8 * grid.size
        if size <= self._room:
            self._room -= size
            self._cache[label] = pair
        return pair

    def backward(
        self,
        network: Network,
        config: Config,
        step: int,
        done: float,
        n_train: int,
        peers: Processes,
    ) -> tuple[Tensor, list[str]]:
        """Add the gradients of a step's loss; return this process's share of it, and names.

        The loss is that of the whole batch, sum |rho_pred - rho| over the nodes of all samples,
        per electron in them; each process adds its share of both.
        """
        sample = config.sample
        whole = sample.crop == 0 or done >= 1 - sample.whole_box
        chosen = places(config, self, n_train, step, whole)
        windows = [place.cut(self) for place in chosen[peers.rank :: peers.size]]
        if whole or not windows:
            batches = [(sad[None], rho[None]) for sad, rho in windows]
        else:
            sads, rhos = zip(*windows, strict=True)
            batches = [(torch.stack(sads), torch.stack(rhos))]
        margin = 0 if whole else sample.margin
        inner = (..., *(slice(margin, -margin or None),) * 3)
        (electrons,) = peers.sum(sum(float(rho[inner].sum()) for _, rho in batches))
        total = torch.zeros((), device=peers.device)
        for sad, rho in batches:
            with _autocast(peers.device, config.bf16):
                predicted = network(sad[:, None], whole)[:, 0]
            loss = (predicted[inner] - rho[inner]).abs().sum() / electrons
            loss.backward()
            total += loss.detach()
        return total, [self.labels[place.label].name for place in chosen]

    def errors(self, network: Network, bf16: bool, peers: Processes) -> np.ndarray:
        """Err_rho (a fraction) of each label (n_labels,), whole boxes, scaled to N_e."""
        found = [0.0] * len(self)
        network.eval()
        for i in range(peers.rank, len(self), peers.size):
            sad, rho = self[i]
            with torch.no_grad(), _autocast(sad.device, bf16):
                predicted = network(sad[None, None], True)[0, 0]
            scale = rho.sum(dtype=torch.float64) / predicted.sum(dtype=torch.float64)
            error = (predicted * scale - rho).abs().sum(dtype=torch.float64)
            found[i] = float(error / rho.sum())
        network.train()
        return np.array(peers.sum(*found))


def _rounded(grid: Grid, multiple_of: int) -> Grid:
    nx, ny, nz = (-(-n // multiple_of) * multiple_of for n in grid.shape)
    return Grid(grid.origin, grid.cell, (nx, ny, nz))


@dataclass(frozen=True)
class Place:
    """A sample: a part of a label, and its rotation or reflection.

    Parameters
    ----------
    label : int
    operation : CubeOperation
    size : (3,) int or None
        Nodes of the window; None for the whole box.
    start : (3,) int
        Node of the label's grid that becomes the first.
    """

    label: int
    operation: CubeOperation
    size: tuple[int, int, int] | None = None
    start: tuple[int, int, int] = (0, 0, 0)

    def cut(self, images: Images) -> tuple[Tensor, Tensor]:
        """Return (sad, rho) of this sample, each (nx, ny, nz)."""
        sad, rho = images[self.label]
        where = (self.start, self.size, self.operation)
        return window(sad, *where), window(rho, *where)


def places(config: Config, images: Images, n_train: int, step: int, whole: bool) -> list[Place]:
    """Samples of a step, which depend only on (seed, step); labels from `n_train` are rehearsal."""
    sample = config.sample
    rng = np.random.default_rng([config.seed, step])
    batch = sample.whole_batch if whole and sample.crop else sample.batch
    chosen = labels_of_step(config, len(images), n_train, step, batch, rng)
    return [_place(sample, images, i, whole, rng) for i in chosen]


def _place(
    sample: SampleConfig, images: Images, i: int, whole: bool, rng: np.random.Generator
) -> Place:
    """A window around a random atom, or the whole box."""
    operation = CubeOperation.random(rng, sample.symmetry)
    if whole:
        return Place(i, operation)
    structure, grid = images.labels[i].structure, images.grids[i]
    atom = structure.positions[rng.integers(len(structure))]
    jitter = rng.uniform(-0.5, 0.5, size=3) * (sample.crop - 2 * sample.margin)
    centre = np.round((atom - grid.origin) / grid.spacing + jitter)
    new_start = operation.matrix @ centre - sample.crop // 2
    x, y, z = (int(n) for n in np.round(operation.matrix.T @ new_start))
    return Place(i, operation, (sample.crop,) * 3, (x, y, z))


def _autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """Context of bfloat16, if requested and if the device has instructions for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and fast_bf16(device))
