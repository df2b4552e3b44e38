"""Messages between atoms: functions on a sphere, multiplied by a function of the pair."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from denser.model.fused import kernels

_PAIRS = {"cpu": 32, "cuda": 16384}
"""Number of messages at a time; they fit into a core's cache, or into a GPU's memory."""


def messages(
    features: Tensor, weights: Tensor, shapes: Tensor, senders: Tensor, receivers: Tensor
) -> Tensor:
    """Messages to each atom: the sum over its pairs of features_sender (weights @ shapes).

    Messages are not stored for the gradient but computed again.

    Parameters
    ----------
    features : (n_atoms, n_channels, n_points) tensor
    weights : (n_pairs, n_channels, n_shapes) tensor
        May be of bfloat16; products of weights and shapes are then rounded to it.
    shapes : (n_pairs, n_shapes, n_points) tensor
    senders, receivers : (n_pairs,) int tensor

    Returns
    -------
    (n_atoms, n_channels, n_points) tensor
    """
    fused = kernels(features)
    if fused is not None and not shapes.requires_grad:
        return fused.messages(features, weights, shapes, senders, receivers)
    return _Messages.apply(features, weights, shapes, senders, receivers)


def add_messages(
    heard: Tensor,
    features: Tensor,
    weights: Tensor,
    shapes: Tensor,
    senders: Tensor,
    receivers: Tensor,
) -> None:
    """Add the messages of some pairs to `heard` (n_atoms, n_channels, n_points), without gradient.

    The other parameters are those of `messages`.
    """
    for part in _parts(senders):
        sent = features.index_select(0, senders[part])  # faster than features[...]
        message = _product(weights[part], shapes[part]).mul_(sent)
        heard.index_add_(0, receivers[part], message)


class _Messages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weights: Tensor,
        shapes: Tensor,
        senders: Tensor,
        receivers: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(features, weights, shapes, senders, receivers)
        heard = torch.zeros_like(features)
        add_messages(heard, features, weights, shapes, senders, receivers)
        return heard

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weights, shapes, senders, receivers = ctx.saved_tensors
        of_features = torch.zeros_like(features)
        of_weights = torch.empty_like(weights)
        of_shapes = torch.empty_like(shapes) if ctx.needs_input_grad[2] else None
        for part in _parts(senders):
            arrived = gradient.index_select(0, receivers[part])
            through = _product(weights[part], shapes[part]).mul_(arrived)
            of_features.index_add_(0, senders[part], through)
            arrived *= features.index_select(0, senders[part])
            arrived = arrived.to(weights.dtype)
            their_shapes = shapes[part].to(weights.dtype)
            of_weights[part] = torch.bmm(arrived, their_shapes.transpose(1, 2))
            if of_shapes is not None:
                of_shapes[part] = torch.bmm(weights[part].transpose(1, 2), arrived)
        return of_features, of_weights, of_shapes, None, None


def _product(weights: Tensor, shapes: Tensor) -> Tensor:
    """Weights times shapes, in the type of the shapes."""
    return torch.bmm(weights, shapes.to(weights.dtype)).to(shapes.dtype)


def _parts(pairs: Tensor) -> list[slice]:
    n = _PAIRS.get(pairs.device.type, 16384)
    return [slice(i, i + n) for i in range(0, len(pairs), n)]


__all__ = ["add_messages", "messages"]
