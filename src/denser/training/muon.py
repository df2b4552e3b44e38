"""Muon: momentum whose matrix is replaced by the nearest orthogonal one.

K. Jordan et al., 2024. Each hidden convolution is a matrix (c_out, c_in * k^3); the singular
values of its momentum are all set to about one by five Newton-Schulz steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from denser.model.precision import fast_bf16


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration (..., m, n) to U V^T of singular value decompositions, roughly."""
    a, b, c = 3.4445, -4.7750, 2.0315
    transposed = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT.contiguous() if transposed else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    if fast_bf16(x.device):
        x = x.bfloat16()  # the iteration tolerates the rounding
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if transposed else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for weights of two or more dimensions.

    Weights of one shape are updated together. With an attribute `found_inf`, a tensor that is not
    zero, nothing changes, as with torch's fused optimisers.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for some in shapes.values():
                self._update(some, group, found_inf)

    def _update(self, some: list[Tensor], group: dict[str, Any], found_inf: Tensor | None) -> None:
        """One update of weights of one shape."""
        for p in some:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        moments = [self.state[p]["momentum"] for p in some]
        gradients = [p.grad for p in some if p.grad is not None]
        before = torch.stack(moments).flatten(2)
        gradient = torch.stack(gradients).flatten(2)
        share = group["momentum"]
        momentum = before.lerp(gradient, 1 - share)
        direction = gradient.lerp(momentum, share)
        rows, columns = direction.shape[1:]
        step = orthogonalise(direction) * (-group["lr"] * max(1.0, rows / columns) ** 0.5)
        decay = 1 - group["lr"] * group["weight_decay"]
        weights = torch.stack([p.detach() for p in some]).flatten(2)
        changed = decay * weights + step
        if found_inf is not None:
            good = found_inf == 0
            momentum = torch.where(good, momentum, before)
            changed = torch.where(good, changed, weights)
        for p, own, value, moment in zip(some, moments, changed, momentum, strict=True):
            own.copy_(moment.view_as(own))
            p.copy_(value.view_as(p))
