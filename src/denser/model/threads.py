"""The number of threads that pays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

FEW = 60
"""Predictions of fewer atoms gain less than a tenth from a second thread, which costs a core, and
lose much if no core is free (`benchmarks/threads.py`)."""


@contextmanager
def paying_threads(n_atoms: int) -> Iterator[None]:
    """One thread for the network of few atoms, otherwise as many as there are.

    A number that the user gave (`--threads`, `OMP_NUM_THREADS`) is kept.
    """
    before = torch.get_num_threads()
    if n_atoms >= FEW or before == 1 or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
