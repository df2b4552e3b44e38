"""Selection of the labels of a step."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from denser.training.config import Config


def labels_of_step(
    config: Config, n_labels: int, n_train: int, step: int, batch: int, rng: np.random.Generator
) -> list[int]:
    """Labels of a step, which depend only on (seed, step); indices from `n_train` are rehearsal."""
    if config.sample.order == "random":
        chosen = [int(i) for i in rng.integers(n_train, size=batch)]
    else:
        chosen = [_shuffled(n_train, config.seed, step * batch + k) for k in range(batch)]
    if n_labels > n_train:
        rehearse = rng.random(batch) < config.data.rehearsal_share
        others = rng.integers(n_train, n_labels, size=batch)
        chosen = [int(j) if r else i for i, j, r in zip(chosen, others, rehearse, strict=True)]
    return chosen


def _shuffled(n: int, seed: int, k: int) -> int:
    """The k-th label, if every label is used once, in random order, before any is used again."""
    return int(_order(n, seed, k // n)[k % n])


@lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, n]).permutation(n)
