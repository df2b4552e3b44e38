"""Functions of image networks: the density from a SAD, and its derivative by the atoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from denser.atoms.sad_derivatives import superposition_pullback
from denser.fields.cube_group import CubeOperation, window
from denser.model import tiling
from denser.model.network import Network
from denser.types.density import Density
from denser.types.errors import InputError


def raw_density(
    network: Network,
    sad: Density,
    periodic: bool,
    operations: Sequence[CubeOperation],
    bf16: bool,
) -> Tensor:
    """`Network.raw_density` of a network from image (b, 1, nx, ny, nz) to image.

    Raises
    ------
    InputError
        The grid is not orthorhombic: on its nodes an image would be distorted.
    """
    if not sad.grid.is_orthorhombic:
        raise InputError(
            "networks of images need an orthorhombic box along x, y and z; the model 'default' "
            "takes any cell"
        )
    device = network.device
    image = torch.tensor(sad.values, dtype=torch.float32, device=device)
    raw = torch.zeros_like(image)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for operation in operations:
            turned = window(image, operation=operation).contiguous()
            found = tiling.apply(network, turned, periodic).float()
            raw += window(found, operation=operation.inverse)
    return raw / len(operations)


def pullback(
    network: Network,
    sad: Density,
    field_of: Callable[[Tensor], Tensor],
    periodic: bool,
    recipe: str,
) -> np.ndarray:
    """`Network.pullback` of a network from image to image (n_atoms, 3)."""
    image = torch.tensor(sad.values, dtype=torch.float32, device=network.device)
    image.requires_grad_()
    raw = tiling.apply(network, image, periodic)
    field = field_of(raw.detach()).to(raw.dtype)
    (back,) = torch.autograd.grad(raw, image, field)
    return superposition_pullback(back.double().cpu().numpy(), sad.structure, sad.grid, recipe)
