"""Points in groups that lie together, so that what is far from all of a group is left out once."""

from __future__ import annotations

import numpy as np


def compact_blocks(
    points: np.ndarray, most: int, kinds: np.ndarray | None = None
) -> list[np.ndarray]:
    """Indices of points (n, 3) in groups of at most `most`, halved along their longest side.

    With `kinds` (n,) int, all points of a group are of one kind.
    """
    if kinds is None:
        kinds = np.zeros(len(points), dtype=int)
    waiting, done = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)], []
    while waiting:
        block = waiting.pop()
        if len(block) <= most:
            if len(block):
                done.append(np.sort(block))
            continue
        x = points[block]
        along = x[:, int(np.argmax(np.ptp(x, axis=0)))]
        order = np.argpartition(along, len(block) // 2)
        waiting += [block[order[len(block) // 2 :]], block[order[: len(block) // 2]]]
    return done
