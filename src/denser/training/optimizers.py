"""Optimisers of the groups of weights."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import Tensor

from denser.model.network import Network
from denser.training.config import OptimizerConfig
from denser.training.muon import Muon


def optimizers_of(settings: OptimizerConfig, network: Network) -> list[torch.optim.Optimizer]:
    """Adam or AdamW for all weights, or Muon for hidden matrices and AdamW for the others.

    With Muon, the `edges` of a network do not count as hidden, and its `step_sizes` multiply the
    learning rates. Each group of parameters stores its full learning rate as `base_lr`.
    """
    everything = [p for p in network.parameters() if p.requires_grad]
    optimizers: list[torch.optim.Optimizer]
    if settings.name == "adam":
        optimizers = [torch.optim.Adam(everything, settings.lr, settings.betas, fused=True)]
    elif settings.name == "adamw":
        optimizers = [
            torch.optim.AdamW(
                everything,
                settings.lr,
                settings.betas,
                weight_decay=settings.weight_decay,
                fused=True,
            )
        ]
    else:
        hidden: dict[float, list[Tensor]] = {}
        rest: dict[float, list[Tensor]] = {}
        for key, p in network.named_parameters():
            if not p.requires_grad:
                continue
            chosen = hidden if p.ndim > 1 and not key.startswith(network.edges) else rest
            chosen.setdefault(step_size(network, key), []).append(p)
        decay = settings.weight_decay
        optimizers = []
        if hidden:
            muon = Muon(
                [  # a longer step does not increase the weight decay
                    {"params": p, "lr": settings.lr * size, "weight_decay": decay / max(1.0, size)}
                    for size, p in hidden.items()
                ]
            )
            optimizers.append(muon)
        if rest:
            groups = [{"params": p, "lr": settings.lr_rest * size} for size, p in rest.items()]
            optimizers.append(
                torch.optim.AdamW(groups, betas=settings.betas, weight_decay=0.0, fused=True)
            )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def load_optimizers(optimizers: list[torch.optim.Optimizer], states: list[dict]) -> None:
    """Load states of `state_dict`; those of older versions did not use fused steps."""
    for optimizer, state in zip(optimizers, states, strict=True):
        for group in state["param_groups"]:
            if "fused" in group:
                group["fused"] = True
        optimizer.load_state_dict(state)


def step_size(network: Network, name: str) -> float:
    """Factor of a parameter's learning rate: that of the first matching pattern, or 1."""
    sizes = network.step_sizes.items()
    return next((size for pattern, size in sizes if fnmatchcase(name, pattern)), 1.0)
