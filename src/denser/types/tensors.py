"""Invariants of symmetric tensors (3, 3), such as polarizabilities."""

from __future__ import annotations

import numpy as np


def isotropic(a: np.ndarray) -> float:
    """A third of the trace, in the unit of the tensor (3, 3)."""
    return float(np.trace(a)) / 3


def anisotropy(a: np.ndarray) -> float:
    """sqrt([3 tr(a^2) - (tr a)^2] / 2) of a tensor (3, 3); a_par - a_perp of a linear molecule."""
    return float(np.sqrt(max(0.0, (3 * np.trace(a @ a) - np.trace(a) ** 2) / 2)))
