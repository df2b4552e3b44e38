"""Which optimiser updates which weights."""

from __future__ import annotations

import torch
from torch import nn

from denser.training.config import OptimizerConfig
from denser.training.muon import Muon

_EDGES = ("stem", "head", "conv1.0", "conv3", "embedding", "gates")
"""First and last layers, and tables by element: sizes that Muon would throw away matter there."""


def optimizers_of(settings: OptimizerConfig, network: nn.Module) -> list[torch.optim.Optimizer]:
    """Adam for everything, or Muon for hidden convolutions and AdamW for the rest.

    Each group of parameters keeps its full learning rate as `base_lr`.
    """
    everything = list(network.parameters())
    if settings.name == "adam":
        optimizers = [torch.optim.Adam(everything, settings.lr, settings.betas)]
    elif settings.name == "adamw":
        optimizers = [
            torch.optim.AdamW(
                everything, settings.lr, settings.betas, weight_decay=settings.weight_decay
            )
        ]
    else:
        hidden = [
            p for key, p in network.named_parameters() if p.ndim > 1 and not key.startswith(_EDGES)
        ]
        chosen = {id(p) for p in hidden}
        rest = [p for p in everything if id(p) not in chosen]
        optimizers = [
            Muon(hidden, settings.lr, weight_decay=settings.weight_decay),
            torch.optim.AdamW(rest, settings.lr_rest, settings.betas, weight_decay=0.0),
        ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers
