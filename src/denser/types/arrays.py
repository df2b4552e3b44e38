"""Read-only arrays for frozen types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def read_only(array: ArrayLike, dtype: DTypeLike | None = None) -> np.ndarray:
    """Return a read-only array with these values, of `dtype` if that is given.

    The values are copied, so that the caller may still change the original array. Only an array
    that is read-only already, and is not a view of a writable one, is returned without a copy;
    `seal` makes such an array.
    """
    given = np.asarray(array)
    if _is_sealed(given) and (dtype is None or given.dtype == np.dtype(dtype)):
        return given
    copy = np.array(given, dtype=dtype)
    copy.setflags(write=False)
    return copy


def seal(array: np.ndarray) -> np.ndarray:
    """Make an array, and the array that it is a view of, read-only in place, and return it.

    Use it for large new arrays to which there is no other reference: `read_only` then returns them
    without a copy.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner.setflags(write=False)
        owner = owner.base
    return array


def restore(self: object, state: dict[str, Any]) -> None:
    """Set the attributes of an unpickled or deeply copied object; `__setstate__` of the types.

    NumPy makes unpickled arrays writable.
    """
    for value in state.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    self.__dict__.update(state)


def _is_sealed(array: np.ndarray) -> bool:
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return True
