"""Precision of single operations: bfloat16, TF32 on CUDA, and single precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is many times slower."""
    if device.type == "cuda":
        # Cards before Ampere emulate it, which is slower than single precision.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16"))


@contextmanager
def tf32(enabled: bool) -> Iterator[None]:
    """Matrix products on CUDA round their factors to TF32 (10 bits), or do not."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_tf32
    settings.allow_tf32 = enabled
    try:
        yield
    finally:
        settings.allow_tf32 = before


def in_single_precision(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose matrix products keep single precision, whatever the caller allows."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with tf32(False):
            return function(*args, **kwargs)

    return inside
