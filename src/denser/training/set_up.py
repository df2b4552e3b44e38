"""Labels made ready for training by worker processes, while it goes on.

A label takes some 30 ms of one core: its points, its neighbours and its electrons. Workers make the
labels in the order in which the steps need them, so a run starts with the first ones and waits only
for a label that is not ready yet. The steps are the same with any number of workers.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch

from denser.model.aspherical_config import AsphericalConfig
from denser.model.graph import Graph
from denser.model.l1_distance import Cloud
from denser.model.network import Network
from denser.training.config import Config
from denser.training.dataset import AnyLabel
from denser.training.point_sets import point_set

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_AT_ONCE = 4
"""Labels of one task."""


@dataclass(frozen=True)
class Wanted:
    """Clouds that are made of a label.

    Parameters
    ----------
    nodes : int
        About so many nodes of the label for each cloud.
    clouds : int
        At most so many clouds, each with other nodes.
    """

    nodes: int
    clouds: int


@dataclass(frozen=True, eq=False)
class Ready:
    """A label that steps can use: its graph, and clouds of some of its points.

    Parameters
    ----------
    graph : Graph
    clouds : list of Cloud
    spins : list of tensor or None
        Spin density at the points of each cloud, for networks with spin densities.
    """

    graph: Graph
    clouds: list[Cloud]
    spins: list[torch.Tensor | None]


def made_ready(
    label: AnyLabel, sad: str, config: AsphericalConfig, seed: tuple[int, int], wanted: Wanted
) -> Ready:
    """Make a label ready; the other parameters are those of `point_set`.

    Cloud k has every n-th node from the k-th of a few evenly spread starts. Nodes are stratified,
    so each cloud covers the molecule.
    """
    found = point_set(label, sad, config, seed, superposed=False)
    every = max(1, len(found.nodes) // wanted.nodes)
    n = min(every, wanted.clouds)
    chosen = [slice(k * every // n, None, every) for k in range(n)]
    m = found.spin if found.spin is not None else torch.zeros_like(found.rho)
    return Ready(
        found.graph,
        [found.cloud(config, some) for some in chosen],
        [m[some].clone() if config.spin else None for some in chosen],
    )


class Workers:
    """Processes that make labels ready.

    A worker that dies, for example for lack of memory, leaves the rest to this process.
    """

    def __init__(self, n: int, sad: str, config: AsphericalConfig) -> None:
        self.sad, self.config = sad, config
        self._executor = ProcessPoolExecutor(n, get_context("spawn"), _start_worker)
        self._tasks: dict[AnyLabel, tuple[Future, int]] = {}

    def begin(self, tasks: Sequence[tuple[AnyLabel, tuple[int, int]]], wanted: Wanted) -> None:
        """Let the workers make these labels, each with its seed, in this order."""
        for start in range(0, len(tasks), _AT_ONCE):
            some = tasks[start : start + _AT_ONCE]
            try:
                future = self._executor.submit(_work, some, self.sad, self.config, wanted)
            except BrokenExecutor:
                return
            for place, (label, _) in enumerate(some):
                self._tasks[label] = (future, place)

    @property
    def waiting(self) -> int:
        """Number of labels that are not ready, or not taken yet."""
        return len(self._tasks)

    def take(self, label: AnyLabel) -> Ready | None:
        """A label, when it is ready; None if the workers cannot make it.

        Raises
        ------
        InputError
            The label cannot be used.
        """
        if label not in self._tasks:
            return None
        future, place = self._tasks.pop(label)
        try:
            return pickle.loads(future.result()[place])
        except BrokenExecutor:
            self._tasks.clear()
            return None

    def finished(self, among: Container[AnyLabel]) -> list[AnyLabel]:
        """Those of some labels that can be taken without waiting."""
        tasks = self._tasks.items()
        return [label for label, (future, _) in tasks if future.done() and label in among]

    def stop(self) -> None:
        """End the processes."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@contextmanager
def workers_of(n: int, config: Config, network: Network) -> Iterator[Workers]:
    """Workers for a network that learns from points, which end with the context."""
    workers = Workers(n, config.data.sad, network.config)
    try:
        yield workers
    finally:
        workers.stop()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    for name in THREADS:
        os.environ[name] = "1"
    torch.set_num_threads(1)


def _work(
    tasks: Sequence[tuple[AnyLabel, tuple[int, int]]],
    sad: str,
    config: AsphericalConfig,
    wanted: Wanted,
) -> list[bytes]:
    return [_packed(made_ready(label, sad, config, seed, wanted)) for label, seed in tasks]


class _Pickler(pickle.Pickler):
    """Tensors as NumPy's arrays.

    Between processes, torch would take a file descriptor for each, and pickle is slow with them.
    """

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, torch.Tensor):
            return torch.from_numpy, (obj.detach().numpy(),)
        return NotImplemented


def _packed(ready: Ready) -> bytes:
    file = io.BytesIO()
    _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(ready)
    return file.getvalue()
