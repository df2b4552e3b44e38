"""Whether fused kernels take the place of the plain functions: only after they agreed with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from denser.model.precision import tf32

_ROUNDING = 1e-4
"""Largest difference of the kernels from the plain functions, relative to the largest value.

The latter leave out Gaussians below 1e-5 of their maximum.
"""

_kernels: ModuleType | None = None


def kernels(x: Tensor) -> ModuleType | None:
    """The module with the kernels, if they are used for this tensor."""
    return _kernels if x.is_cuda and x.dtype == torch.float32 else None


@contextmanager
def fused_kernels(device: torch.device) -> Iterator[str]:
    """Use the kernels of Triton on CUDA inside; yield a sentence that says whether they are.

    They are used if Triton is installed and if they agree with the plain functions on this device.
    """
    global _kernels
    if device.type != "cuda":
        yield "fused kernels are for CUDA only"
        return
    try:
        found = import_module("denser.model.triton_kernels")
        with tf32(False):
            difference = largest_difference(found, device)
    except Exception as error:  # a compiler's; the plain functions do the same work
        first = (str(error).splitlines() or [""])[0]
        yield f"no fused kernels: {type(error).__name__}: {first}"[:300]
        return
    if not difference < _ROUNDING:
        yield f"no fused kernels: they differ by {difference:.1e} from the plain functions"
        return
    _kernels = found
    try:
        yield f"fused kernels, which differ by {difference:.1e} from the plain functions"
    finally:
        _kernels = None


def largest_difference(found: ModuleType, device: torch.device) -> float:
    """Largest relative difference of values and derivatives on small random problems.

    Parameters
    ----------
    found : module
        `denser.model.triton_kernels`, or another with its functions.
    device : torch.device
    """
    from denser.model import l1_distance, messages

    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    n, channels, shapes, points, n_pairs = 6, 48, 13, 50, 20
    pairs = torch.randint(n, (2, n_pairs), generator=generator).to(device)
    given = random(n, channels, points), random(n_pairs, channels, shapes)
    about, seen = random(n_pairs, shapes, points), random(n, channels, points)
    rows: list[list[Tensor]] = []
    for function in (messages.messages, found.messages):
        x, weights = (part.clone().requires_grad_() for part in given)
        heard = function(x, weights, about, *pairs)
        rows.append([heard.detach(), *torch.autograd.grad((heard * seen).sum(), (x, weights))])
    alphas, degree = (0.16, 0.64, 10.24), 5
    positions = 2 * random(n, 3)
    nodes = positions[torch.arange(200, device=device) % n] + random(200, 3)
    where = (n, positions, torch.arange(n, device=device), alphas, degree)
    cloud = l1_distance.Cloud.of(nodes, random(200), random(200).abs(), *where)
    coefficients = random(n, len(alphas), (degree + 1) ** 2)
    slope = random(len(cloud.target))
    slope[-1] = 0.0
    plain = l1_distance.sums_at(coefficients, alphas, cloud)
    values = found.sums_at(coefficients, alphas, cloud)
    rows[0] += [plain[0][:-1], l1_distance.sums_pullback(slope, coefficients, plain[1])]
    rows[1] += [values[:-1], found.sums_pullback(slope, coefficients, alphas, cloud)]
    differences = [
        float((one - other).abs().max() / one.abs().max()) for one, other in zip(*rows, strict=True)
    ]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf
