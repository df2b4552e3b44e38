"""Paths of steepest ascent of a density from any point to its attractor."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from denser.analysis.continuous import ContinuousDensity

_STEP = 0.05


def ascend(
    field: ContinuousDensity, starts: np.ndarray, attractors: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Steepest ascents, dr/ds = grad rho/|grad rho|, by fourth-order Runge-Kutta.

    Parameters
    ----------
    field : ContinuousDensity
    starts : (n, 3) float
        Bohr.
    attractors : (m, 3) float
        Non-nuclear attractors.

    Returns
    -------
    ends : (n,) int
        Atom reached, -1 - k for the k-th attractor, or -1 - m if none is within 40 bohr.
    lines : list of (k, 3) float
        The paths, from the start to the nucleus (or its image), bohr.
    """
    cell, inverse = field.grid.cell, np.linalg.inv(field.grid.cell)
    nuclei, owner = field.nuclei()
    targets = np.concatenate([nuclei, attractors])
    names = np.concatenate([owner, -1 - np.arange(len(attractors))])
    tree = cKDTree(targets)
    x = starts.copy()
    ends = np.full(len(x), -1 - len(attractors))
    lines = [[point] for point in starts]
    active = np.arange(len(x))

    def direction(points: np.ndarray) -> np.ndarray:
        g = field.evaluate(points, 1)[1]
        return g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-300)

    for _ in range(int(40 / _STEP)):
        p = x[active]
        k1 = direction(p)
        k2 = direction(p + _STEP / 2 * k1)
        k3 = direction(p + _STEP / 2 * k2)
        k4 = direction(p + _STEP * k3)
        x[active] = p = p + _STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        home = np.floor((p - field.grid.origin) @ inverse) @ cell if field.periodic else 0 * p
        distance, nearest = tree.query(p - home)
        arrived = distance < 2 * _STEP
        for i, point in zip(active, p, strict=True):
            lines[i].append(point)
        for i, t, shift in zip(active[arrived], nearest[arrived], home[arrived], strict=True):
            ends[i] = names[t]
            lines[i].append(targets[t] + shift)
        active = active[~arrived]
        if active.size == 0:
            break
    return ends, [np.array(line) for line in lines]
