"""The beginning of a run: its network, its samples and its record."""

from __future__ import annotations

import platform
from dataclasses import replace

import numpy as np
import torch
from ase.data import chemical_symbols

from denser.model.checkpoint import Model, build, require_options
from denser.model.network import Network
from denser.training.config import Config
from denser.training.dataset import AnyLabel, require_orbitals
from denser.training.images import Images
from denser.training.points import Points
from denser.training.processes import Processes
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.version import __version__


def samples_of(
    config: Config, labels: list[AnyLabel], network: Network, device: torch.device
) -> Images | Points:
    """Training samples of the network, of the kind that `Network.samples` names."""
    if network.samples == "points":
        return Points.of(labels, config.data, network, device)
    whose = f"an image network ({config.model.architecture}) learns from"
    return Images.of(require_orbitals(labels, whose), config.data, network, device)


def require_elements(network: Network, labels: list[AnyLabel]) -> None:
    """Raise an InputError that names a label with an element unknown to the network."""
    if network.elements is not None:
        for label in labels:
            missing = set(label.structure.numbers.tolist()) - set(network.elements)
            if missing:
                raise InputError(
                    f"label {label.name} contains {chemical_symbols[min(missing)]}, which the "
                    "network does not know; list it with the others in model.options.elements, or "
                    "leave the label out with data.exclude"
                )


def circumstances(peers: Processes, command: str) -> dict:
    """Versions, machine and command of a run, for its record."""
    device = platform.machine()
    if peers.device.type == "cuda":
        device = torch.cuda.get_device_name(peers.device)
    return {
        "versions": {
            "denser": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{device}; processes: {peers.size}, threads in each: {torch.get_num_threads()}",
        "command": command,
    }


def start_network(config: Config, start: Model | None, recipe: Recipe) -> Network:
    """A fresh network, or the one named by model.start."""
    if start is None:
        return build(config.model.architecture, config.model.options)
    start.recipe.require_same(recipe, config.model.start, "the labels of this run")
    if start.architecture != config.model.architecture:
        raise InputError(
            f"model.start is a {start.architecture}, model.architecture says "
            f"{config.model.architecture}"
        )
    require_options(start.architecture, config.model.options)
    network = start.network.grown(config.model.options).train()
    if config.model.learn in ("all", "closed shells") and network.expected_error is not None:
        network.expected_error = None  # its errors change
        network.config = replace(network.config, errors=False)
    return network


def copy_of(network: Network) -> Network:
    """A copy of the weights that does not learn."""
    copy = type(network)(network.config)
    copy.load_state_dict(network.state_dict())
    device = next(network.parameters()).device
    return on_device(copy, device).requires_grad_(False)


def on_device(network: Network, device: torch.device) -> Network:
    """Move it there, into the order in memory that convolutions of images are fastest in."""
    return network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
