"""Windows of periodic fields under the 48 symmetry operations of the cube."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import torch

_PERMUTATIONS = [(i, j, k) for i, j, k in permutations(range(3))]


@dataclass(frozen=True)
class CubeOperation:
    """Signed permutation of the axes: new axis i is `sign[i]` times old axis `permutation[i]`."""

    permutation: tuple[int, int, int] = (0, 1, 2)
    sign: tuple[int, int, int] = (1, 1, 1)

    @classmethod
    def random(cls, rng: np.random.Generator, kind: str = "cube") -> CubeOperation:
        """Draw one of 48 operations ("cube"), a rotation about an axis ("turn"), or none.

        "turn" is the augmentation of the paper: 0, 90, 180 or 270 degrees about x, y or z.
        """
        if kind == "cube":
            return cls(_PERMUTATIONS[rng.integers(6)], _three(rng.choice([-1, 1], size=3)))
        if kind == "turn":
            axis, quarter = int(rng.integers(3)), int(rng.integers(4))
            return cls.turn(axis, quarter)
        return cls()

    @classmethod
    def turn(cls, axis: int, quarters: int) -> CubeOperation:
        """Rotation by `quarters` times 90 degrees about an axis."""
        a, b = [i for i in range(3) if i != axis]
        permutation, sign = [0, 1, 2], [1, 1, 1]
        if quarters % 2:
            permutation[a], permutation[b] = b, a
        if quarters % 4 in (1, 2):
            sign[a] = -1
        if quarters % 4 in (2, 3):
            sign[b] = -1
        return cls(_three(permutation), _three(sign))

    @property
    def inverse(self) -> CubeOperation:
        """The inverse operation."""
        back = _three(self.permutation.index(i) for i in range(3))
        return CubeOperation(back, _three(self.sign[i] for i in back))

    @property
    def matrix(self) -> np.ndarray:
        """Matrix (3, 3) from old coordinates to new ones."""
        matrix = np.zeros((3, 3))
        for i, (j, s) in enumerate(zip(self.permutation, self.sign, strict=True)):
            matrix[i, j] = s
        return matrix


def _three(numbers: Iterable[int]) -> tuple[int, int, int]:
    x, y, z = numbers
    return int(x), int(y), int(z)


def cube_operations(n: int) -> list[CubeOperation]:
    """Return `n` of the 48 operations, the identity first, the others in a mixed order."""
    signs = product((1, -1), repeat=3)
    first, *others = [CubeOperation(p, _three(s)) for s in signs for p in _PERMUTATIONS]
    mixed = np.random.default_rng(0).permutation(len(others))
    return [first, *(others[i] for i in mixed)][:n]


def window(
    field: torch.Tensor,
    start: tuple[int, int, int] = (0, 0, 0),
    size: tuple[int, int, int] | None = None,
    operation: CubeOperation | None = None,
) -> torch.Tensor:
    """Window of a periodic field, transformed by a symmetry operation of the cube.

    new[n] = old[start + M^T n]: node `start` is fixed, and a mirrored axis counts backwards from it
    (flip, then roll by one), as node-centred grids need.

    Parameters
    ----------
    field : (nx, ny, nz) tensor
        One period.
    start : three int
        Old node that becomes node 0.
    size : three int, optional
        Size of the window along the new axes; by default the whole period.
    operation : CubeOperation, optional
    """
    operation = operation or CubeOperation()
    if size is None:
        size = _three(field.shape[j] for j in operation.permutation)
    index: list[torch.Tensor] = [torch.empty(0)] * 3
    for i, (j, s) in enumerate(zip(operation.permutation, operation.sign, strict=True)):
        steps = torch.arange(size[i], device=field.device)
        index[j] = (start[j] + s * steps) % field.shape[j]
    out = field[index[0][:, None, None], index[1][None, :, None], index[2][None, None, :]]
    return out.permute(operation.permutation)
