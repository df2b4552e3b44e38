"""False critical points, which ripples of a density make in pairs.

A ripple makes an attractor and a bond, a bond and a ring, or a ring and a cage. A pair is left out
if the density changes by less than

1e-4 e/bohr^3 + 1 % of the density

on the straight line between its points. This is about the error of a predicted density, and more
than that of the splines. The change on a line is not less than the persistence of the pair, the
difference of its two densities. The sum of Poincare and Hopf does not change, because a pair adds
nothing to it.
"""

from __future__ import annotations

import numpy as np

from denser.analysis.continuous import ContinuousDensity
from denser.fields.periodic import nearest_image

KINDS = ("cage", "ring", "bond", "attractor")
"""Kinds of critical points by the number of negative eigenvalues."""

NOISE = (1e-4, 0.01)
"""Ripples that are taken for noise: the first number, e/bohr^3, plus this share of the density."""

_PAIR = 2.0
"""Largest distance between two points of a false pair, bohr."""

Bond = tuple[tuple[int, int], np.ndarray]
"""Ends and points of a bond path, as in `denser.analysis.topology.critical_points.BondPath`."""


def noise_pairs(
    field: ContinuousDensity,
    points: np.ndarray,
    rho: np.ndarray,
    kinds: list[str],
    bonds: list[Bond],
) -> list[tuple[int, int]]:
    """Pairs of critical points that ripples of the density make, those of the smallest first.

    Each is of two kinds that follow one another, and no point is in two pairs.

    Parameters
    ----------
    field : ContinuousDensity
    points : (n, 3) float
    rho : (n,) float
    kinds : list of str
        "attractor", "bond", "ring" or "cage"; no nuclei.
    bonds : list of Bond
        Paths of the bonds. An attractor goes with a bond whose path ends at it.
    """
    index = np.array([KINDS.index(kind) for kind in kinds], dtype=int)
    step = points[None] - points[:, None]
    if field.periodic:
        step = nearest_image(step, field.grid.cell)
    near = (np.linalg.norm(step, axis=-1) < _PAIR) & (index[:, None] == index + 1)
    attractors, of_bonds = np.flatnonzero(index == 3), np.flatnonzero(index == 2)
    near[attractors] = False
    for point, (ends, _) in zip(of_bonds, bonds, strict=True):
        if ends[0] != ends[1]:
            near[[attractors[-1 - k] for k in ends if -len(attractors) <= k < 0], point] = True
    limit = NOISE[0] + NOISE[1] * rho
    upper, lower = np.nonzero(near & (np.abs(rho[:, None] - rho) < limit[:, None]))
    if not upper.size:
        return []
    share = np.linspace(0, 1, 17)[:, None, None]
    line = points[upper] + share * step[upper, lower]
    values = field.evaluate(line.reshape(-1, 3))[0].reshape(len(share), -1)
    change = np.ptp(values, axis=0)
    pairs: list[tuple[int, int]] = []
    used: set[int] = set()
    for k in np.argsort(change, kind="stable"):
        i, j = int(upper[k]), int(lower[k])
        if change[k] < limit[i] and not used & {i, j}:
            pairs.append((i, j))
            used |= {i, j}
    return pairs


def without_noise(
    bonds: list[Bond],
    false: list[tuple[int, int]],
    of_bonds: np.ndarray,
    of_attractors: np.ndarray,
) -> list[Bond]:
    """Bond paths without those of false points; paths to a false attractor go on.

    They go on from the attractor over the bond that is left out with it. `of_bonds` and
    `of_attractors` are the indices of these points in the pairs.
    """
    bonds = list(bonds)
    gone = {int(b) for pair in false for b in np.flatnonzero(np.isin(of_bonds, pair))}
    left = list(range(len(of_attractors)))
    for upper, lower in false:
        if upper not in of_attractors:
            continue
        k = int(np.flatnonzero(of_attractors == upper)[0])
        left.remove(k)
        end = -1 - k
        over, onward = bonds[int(np.flatnonzero(of_bonds == lower)[0])]
        if over[0] != end:
            over, onward = over[::-1], onward[::-1]
        for b, (ends, path) in enumerate(bonds):
            if ends[0] == end:
                path = np.concatenate([onward[::-1], path[1:]])
                ends = (over[1], ends[1])
            if ends[1] == end:
                path = np.concatenate([path, onward[1:]])
                ends = (ends[0], over[1])
            bonds[b] = (ends, path)
    number = {-1 - k: -1 - i for i, k in enumerate(left)}
    number[-1 - len(of_attractors)] = -1 - len(left)  # paths that end nowhere
    kept = []
    for b, ((start, end), path) in enumerate(bonds):
        if b not in gone:
            a, c = number.get(start, start), number.get(end, end)
            kept.append(((c, a), path[::-1]) if a > c else ((a, c), path))
    return kept
