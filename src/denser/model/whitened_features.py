"""Features of atoms as few numbers and tensors, centred and of unit size, for read-outs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from denser.model.harmonics import invariants

N_INVARIANTS, N_TENSORS = 48, 48
"""Numbers of p and of Q."""

_FARTHEST = 4.0
"""Whitened features are cut off here."""

_FAINT = 1e-3
"""Added to the variances of whitened features."""


def tensors_of_degree_2() -> np.ndarray:
    """Symmetric traceless tensors (5, 3, 3) of Y_2m, m = -2 .. 2; the square of each sums to 1."""
    found = np.zeros((5, 3, 3))
    for m, (i, j) in ((0, (0, 1)), (1, (1, 2)), (3, (0, 2))):
        found[m, i, j] = found[m, j, i] = 1.0
    found[2] = np.diag([-1.0, -1.0, 2.0]) / np.sqrt(3)
    found[4] = np.diag([1.0, -1.0, 0.0])
    return found / np.sqrt(2)


class WhitenedFeatures(nn.Module):
    """Invariants p and symmetric traceless tensors Q of atoms, from their features.

    p are features of degree 0 and lengths of the others, centred, whitened and cut off; Q are
    features of degree 2.

    Parameters
    ----------
    elements : sequence of int
        Atomic numbers; `rows` holds their places.
    channels, n_invariants : int
        Sizes of the features and of their invariants.
    """

    rows: Tensor
    directions: Tensor
    mean: Tensor
    axes: Tensor
    axes_of_tensors: Tensor

    def __init__(self, elements: Sequence[int], channels: int, n_invariants: int) -> None:
        super().__init__()
        rows = torch.full((119,), -1)
        rows[list(elements)] = torch.arange(len(elements))
        directions = torch.as_tensor(tensors_of_degree_2())
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("directions", directions, persistent=False)
        self.register_buffer("mean", torch.zeros(n_invariants).double())
        self.register_buffer("axes", torch.zeros(n_invariants, N_INVARIANTS).double())
        self.register_buffer("axes_of_tensors", torch.zeros(channels, N_TENSORS).double())

    @classmethod
    def of(cls, elements: Sequence[int], tensors: Mapping[str, np.ndarray]) -> Self:
        """Those with the tensors of a file."""
        sizes = len(tensors["axes_of_tensors"]), len(tensors["mean"])
        head = cls(elements, *sizes)
        head.load_state_dict({key: torch.as_tensor(x) for key, x in tensors.items()})
        return head.eval().requires_grad_(False)

    def whiten(self, features: Tensor) -> None:
        """Set the means and axes of p and Q to those of features (n_atoms, channels, lm)."""
        known = invariants(features.double())
        scale = known.std(dim=0) + 1e-6
        self.mean.copy_(known.mean(dim=0))
        values, vectors = torch.linalg.eigh(((known - self.mean) / scale).T.cov())
        largest = slice(-N_INVARIANTS, None)
        found = vectors[:, largest] / (values[largest] + _FAINT).sqrt()
        self.axes.copy_((found / scale[:, None]).flip(1))
        second = features.double()[:, :, 4:9]
        mean_square = torch.einsum("acm,adm->cd", second, second) / (5 * len(second))
        values, vectors = torch.linalg.eigh(mean_square)
        largest = slice(-N_TENSORS, None)
        self.axes_of_tensors.copy_((vectors[:, largest] / values[largest].sqrt()).flip(1))

    def inputs(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return p (n_atoms, n) and Q (n_atoms, n, 5)."""
        features = features.double()
        p = ((invariants(features) - self.mean) @ self.axes).clamp(-_FARTHEST, _FARTHEST)
        return p, torch.einsum("acm,ck->akm", features[:, :, 4:9], self.axes_of_tensors)
