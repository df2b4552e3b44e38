"""Networks from image to image: the density from a SAD, and its derivative by the atoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from denser.atoms.sad_derivatives import superposition_pullback
from denser.fields.cube_group import CubeOperation, window
from denser.model import tiling
from denser.model.network import FieldOf, Network
from denser.types.density import Density
from denser.types.errors import InputError


class ImageNetwork(Network):
    """A network from image to image.

    Its `forward(sad, periodic)` takes SADs (b, 1, nx, ny, nz), e/bohr^3, and whether the box is
    periodic, and returns densities of the same shape.
    """

    def raw_density(
        self,
        sad: Density,
        periodic: bool,
        operations: Sequence[CubeOperation] = (CubeOperation(),),
        bf16: bool = False,
    ) -> Tensor:
        """As of `Network`.

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
        device = self.device
        image = torch.tensor(sad.values, dtype=torch.float32, device=device)
        raw = torch.zeros_like(image)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            for operation in operations:
                turned = window(image, operation=operation).contiguous()
                found = tiling.apply(self, turned, periodic).float()
                raw += window(found, operation=operation.inverse)
        return raw / len(operations)

    def pullback(self, sad: Density, field_of: FieldOf, periodic: bool, recipe: str) -> np.ndarray:
        """As of `Network`."""
        image = torch.tensor(sad.values, dtype=torch.float32, device=self.device)
        image.requires_grad_()
        raw = tiling.apply(self, image, periodic)
        field = field_of(raw.detach(), None).to(raw.dtype)
        (back,) = torch.autograd.grad(raw, image, field)
        return superposition_pullback(back.double().cpu().numpy(), sad.structure, sad.grid, recipe)
