"""Check values of a configuration against the type hints of a dataclass."""

from __future__ import annotations

import math
from contextlib import suppress
from types import UnionType
from typing import Any, get_args, get_origin

from denser.types.errors import InputError

_WORDS = {
    bool: ("true or false", "values true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("a text", "texts"),
    dict: ("a table", "tables"),
}


def checked(value: Any, hint: Any, where: str) -> Any:
    """Return plain data converted to the type of a hint.

    Integers are accepted as floats, lists as tuples, and a single text as a tuple of texts.

    Parameters
    ----------
    value
        A value from TOML or JSON.
    hint : type
        `bool`, `int`, `float`, `str`, `dict`, a tuple of these, or a union of such types.
    where : str
        Name of the key, for the error.

    Raises
    ------
    InputError
        The value has another type; the message names the key, the expected type and the value.
    """
    try:
        return _converted(value, hint)
    except (TypeError, OverflowError):
        raise InputError(f"{where} must be {_described(hint)}, found {value!r}") from None


def _converted(value: Any, hint: Any) -> Any:
    """Like `checked`, but raise a TypeError."""
    if isinstance(hint, UnionType):
        for choice in get_args(hint):
            with suppress(TypeError):
                return _converted(value, choice)
        raise TypeError
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        if first is str and isinstance(value, str):
            return (value,)
        n = None if others == [Ellipsis] else 1 + len(others)
        if not isinstance(value, list | tuple) or n not in (None, len(value)):
            raise TypeError
        return tuple(_converted(item, first) for item in value)
    kind = get_origin(hint) or hint
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError
    if kind is float and not math.isfinite(value):
        raise TypeError
    return value


def _described(hint: Any) -> str:
    """Description of the expected type."""
    if isinstance(hint, UnionType):
        *most, last = [_described(choice) for choice in get_args(hint)]
        return f"{', '.join(most)} or {last}"
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        if others == [Ellipsis]:
            return f"a list of {_WORDS[first][1]}"
        return f"a list of {1 + len(others)} {_WORDS[first][1]}"
    return _WORDS[get_origin(hint) or hint][0]
