"""The number of threads that pays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

FEW = 60
"""Predictions of fewer atoms gain less than a tenth from a second thread, which costs a core, and
lose much if no core is free (`benchmarks/threads.py`)."""

_LOAD = Path("/proc/loadavg")
_LOOKS = 3
_BETWEEN = 0.005
"""Seconds between two looks: threads of this process that wait for work spin for less."""


@contextmanager
def paying_threads(n_atoms: int) -> Iterator[None]:
    """One thread for the network of few atoms, otherwise as many as cores are free.

    Threads that wait for a core spin and hold the others up. A number that the user gave
    (`--threads`, `OMP_NUM_THREADS`) is kept.
    """
    before = torch.get_num_threads()
    if before == 1 or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    free = 1 if n_atoms < FEW else max((os.cpu_count() or before) - others_running(), 1)
    torch.set_num_threads(min(before, free))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def others_running() -> int:
    """Number of other processes and threads of the machine that use a core or wait for one.

    The least of some looks within a hundredth of a second; 0 where the system does not say.
    """
    found = []
    for i in range(_LOOKS):
        if i:
            time.sleep(_BETWEEN)
        try:
            running, _, _ = _LOAD.read_text().split()[3].partition("/")
            found.append(int(running) - 1)  # without this thread
        except (OSError, ValueError, IndexError):  # not Linux
            return 0
    return max(min(found), 0)
