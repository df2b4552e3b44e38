"""Steps of a network that learns from points: molecules in flat tensors on one device.

Each label is made ready once (`denser.training.set_up`), when it is needed first or by workers. A
step takes a cloud of each of its molecules, rotated at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from denser.model.aspherical_config import AsphericalConfig
from denser.model.network import Network
from denser.model.precision import tf32
from denser.training.config import Config, DataConfig
from denser.training.dataset import AnyLabel
from denser.training.flat import FlatLabels
from denser.training.point_sets import PER_LABEL, PointSet, point_set
from denser.training.processes import Processes
from denser.training.sampling import labels_of_step
from denser.training.set_up import Ready, Wanted, Workers, made_ready

_USUAL = 0.01
"""Err_rho of a molecule whose weight does not depend on `sample.exponent`."""

_ATOMS = {"cpu": 40, "cuda": 32768}
"""Number of atoms that are computed together; they fit into a cache, or into a GPU's memory."""

_CLOUDS = 4
"""Most clouds of a label: nodes that different steps use."""

VALIDATION = Wanted(8192, 1)
"""Nodes of a label that its validation error is estimated from."""

_Sample = tuple[int, np.ndarray, int]
"""Label, rotation and first node."""


class Points:
    """Labels, and those of them that are ready on a device."""

    def __init__(
        self,
        labels: Sequence[AnyLabel],
        sad: str,
        device: torch.device,
        config: AsphericalConfig,
        seed: int = 0,
    ) -> None:
        self.labels, self.sad, self.device = list(labels), sad, device
        self.config, self.seed = config, seed
        self._workers: Workers | None = None
        self._first = {label: i for i, label in reversed(list(enumerate(self.labels)))}
        self.flat = FlatLabels(config, device)
        self._ready: dict[tuple[AnyLabel, Wanted], tuple[int, list[int]]] = {}
        self._sets: dict[AnyLabel, PointSet] = {}

    @classmethod
    def of(
        cls, labels: Sequence[AnyLabel], data: DataConfig, network: Network, device: torch.device
    ) -> Points:
        """Points for a network, from the section `data` of a configuration."""
        return cls(labels, data.sad, device, network.config)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> PointSet:
        """All points of label `i`, on the CPU."""
        label = self.labels[i]
        if label not in self._sets:
            self._sets[label] = point_set(label, self.sad, self.config, self._seed(label))
        return self._sets[label]

    def _seed(self, label: AnyLabel) -> tuple[int, int]:
        """A label that occurs twice always has the points of its first position."""
        return self.seed, self._first[label]

    def begin(self, workers: Workers, order: Iterable[int], wanted: Wanted) -> None:
        """Let workers make labels ready, in an order."""
        self._workers = workers
        labels = dict.fromkeys(self.labels[i] for i in order)
        workers.begin([(label, self._seed(label)) for label in labels], wanted)

    def place(self, i: int, wanted: Wanted) -> tuple[int, list[int]]:
        """Index of a label in the flat data, and of its clouds; it is made ready if needed."""
        label = self.labels[i]
        if (label, wanted) not in self._ready:
            found = self._workers.take(label) if self._workers is not None else None
            if found is None:
                found = made_ready(label, self.sad, self.config, self._seed(label), wanted)
            self._add(label, wanted, found)
        return self._ready[label, wanted]

    def collect(self, wanted: Wanted) -> None:
        """Take the labels that workers have made ready meanwhile."""
        if self._workers is not None:
            for label in self._workers.finished(self._first):
                found = self._workers.take(label)
                if found is not None:
                    self._add(label, wanted, found)

    def _add(self, label: AnyLabel, wanted: Wanted, ready: Ready) -> None:
        both = zip(ready.clouds, ready.spins, strict=True)
        clouds = [self.flat.clouds.add(cloud, spin) for cloud, spin in both]
        self._ready[label, wanted] = (self.flat.add(ready.graph), clouds)

    def backward(
        self,
        network: Network,
        config: Config,
        step: int,
        done: float,
        n_train: int,
        peers: Processes,
    ) -> tuple[Tensor, list[str]]:
        """Add the gradients of the loss of a batch; return this process's share of mean Err_rho.

        The loss is the mean of Err_rho, or of its power `sample.exponent`, divided by the exponent
        and by `_USUAL`^(exponent - 1); the weight of a molecule then grows with its error. For open
        shells (1/N_e) integral |m_pred - m| dr of the spin density m is added. Each sample is
        rotated or reflected at random, to reduce the deviation from equivariance. Without open
        shells nothing here waits for the device.
        """
        rng = np.random.default_rng([config.seed, step])
        batch, exponent = config.sample.batch, config.sample.exponent
        chosen = labels_of_step(config, len(self), n_train, step, batch, rng)
        wanted = training_clouds(config)
        turns = np.linalg.qr(rng.normal(size=(batch, 3, 3)))[0]
        starts = rng.integers(max(1, PER_LABEL // wanted.nodes), size=batch)
        share = list(zip(chosen, turns, starts.tolist(), strict=True))
        # Large ones first, alternately to and fro, so that all processes have equal work.
        share.sort(key=lambda sample: len(self.labels[sample[0]].structure), reverse=True)
        round_trip = 2 * peers.size
        share = share[peers.rank :: round_trip] + share[round_trip - 1 - peers.rank :: round_trip]
        # none in the last third
        network.disturb(max(0.0, 1.0 - 1.5 * done), int(rng.integers(2**31)))
        self.collect(wanted)
        total = torch.zeros((), device=self.device)
        for group in self._groups(share):
            places = [self.place(i, wanted) for i, _, _ in group]
            clouds = [
                clouds[start % len(clouds)]
                for (_, clouds), (_, _, start) in zip(places, group, strict=True)
            ]
            where = [label for label, _ in places]
            made = self.flat.batch(where, clouds, np.stack([turn for _, turn, _ in group]))
            errors, of_spin = made.errors(network)
            errors = errors / batch
            found = errors.detach()
            if of_spin is not None:
                errors = errors + of_spin / batch
            if errors.requires_grad:
                errors.backward((found * batch / _USUAL) ** (exponent - 1))
            total += found.sum()
        return total, [self.labels[i].name for i in chosen]

    def _groups(self, share: list[_Sample]) -> Iterator[list[_Sample]]:
        """Samples that are computed together."""
        group: list[_Sample] = []
        n = 0
        for sample in share:
            size = len(self.labels[sample[0]].structure)
            if group and n + size > _ATOMS[self.device.type]:
                yield group
                group, n = [], 0
            group.append(sample)
            n += size
        if group:
            yield group

    def errors(self, network: Network, bf16: bool, peers: Processes) -> np.ndarray:
        """Err_rho (a fraction) of each label (n_labels,), estimated from up to 8,192 of its nodes.

        Always in single precision.
        """
        self.collect(VALIDATION)
        own = [(i, np.eye(3), 0) for i in range(peers.rank, len(self), peers.size)]
        found = torch.zeros(len(self), dtype=torch.float64)
        with torch.no_grad(), tf32(False):
            for group in self._groups(own):
                places = [self.place(i, VALIDATION) for i, _, _ in group]
                made = self.flat.batch([x for x, _ in places], [c[0] for _, c in places])
                found[[i for i, _, _ in group]] = made.errors(network)[0].double().cpu()
        return np.array(peers.sum(*found.tolist()))


def training_clouds(config: Config) -> Wanted:
    """Clouds of a label that the steps use."""
    return Wanted(config.sample.points, _CLOUDS)


def order_of_use(config: Config, n_labels: int, n_train: int, first_step: int) -> list[int]:
    """Labels in the order in which the steps from `first_step` on need them, each once."""
    found: dict[int, None] = {}
    batch = config.sample.batch
    for step in range(first_step, first_step + 2 * -(-n_labels // batch)):
        rng = np.random.default_rng([config.seed, step])
        found |= dict.fromkeys(labels_of_step(config, n_labels, n_train, step, batch, rng))
    return [*found, *(i for i in range(n_labels) if i not in found)]
