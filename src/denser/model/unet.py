"""A local residual U-Net without normalisation, from SAD to density.

No part of it depends on the whole box, so the prediction is size-consistent and does not depend on
the padding. No convolution has a bias, and every activation maps 0 to 0. Vacuum therefore gives no
signal, and the density is zero where the SAD is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denser.model.image_network import ImageNetwork
from denser.types.errors import InputError


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the network.

    Parameters
    ----------
    channels : tuple of int
        Width at 1/2, 1/4, 1/8, ... of the fine resolution.
    blocks : tuple of int
        Residual blocks on the way down, per level; the last one is the bottom.
    decoder_blocks : tuple of int
        Residual blocks on the way up, per level but the bottom.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 2, 4)
    decoder_blocks: tuple[int, ...] = (2, 2)

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "decoder_blocks"):
            object.__setattr__(self, name, tuple(int(n) for n in getattr(self, name)))
        levels = len(self.channels)
        if levels < 1 or len(self.blocks) != levels or len(self.decoder_blocks) != levels - 1:
            raise InputError(
                f"a U-Net of {levels} levels needs {levels} entries in blocks and {levels - 1} in "
                f"decoder_blocks, found {self.blocks} and {self.decoder_blocks}"
            )


def space_to_depth(x: Tensor) -> Tensor:
    """(b, c, 2x, 2y, 2z) to (b, 8c, x, y, z)."""
    b, c, nx, ny, nz = x.shape
    x = x.reshape(b, c, nx // 2, 2, ny // 2, 2, nz // 2, 2)  # (b, c, x, i, y, j, z, k)
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, nx // 2, ny // 2, nz // 2)


def depth_to_space(x: Tensor) -> Tensor:
    """(b, 8c, x, y, z) to (b, c, 2x, 2y, 2z), the inverse of `space_to_depth`."""
    b, c, nx, ny, nz = x.shape
    x = x.reshape(b, c // 8, 2, 2, 2, nx, ny, nz)  # (b, c, i, j, k, x, y, z)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, 2 * nx, 2 * ny, 2 * nz)


class Convolution(nn.Module):
    """3x3x3 convolution without bias, padded with vacuum or periodically."""

    def __init__(self, c_in: int, c_out: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in, 3, 3, 3))
        nn.init.normal_(self.weight, std=gain * (2.0 / (27 * c_in)) ** 0.5 if gain else 0.0)

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        """Same shape as `x`."""
        if periodic:
            return F.conv3d(F.pad(x, (1,) * 6, mode="circular"), self.weight)
        if x.shape[2] == 2:
            # oneDNN's gradient of weights in bfloat16 reads memory that is not its own here.
            return F.conv3d(F.pad(x, (1,) * 6), self.weight)
        return F.conv3d(x, self.weight, padding=1)


class Block(nn.Module):
    """x + conv(silu(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Convolution(channels, channels)
        self.conv2 = Convolution(channels, channels, gain=0.1)

    def forward(self, x: Tensor, periodic: bool) -> Tensor:
        """Same shape as `x`."""
        return x + self.conv2(F.silu(self.conv1(x, periodic)), periodic)


class UNet(ImageNetwork):
    """rho = relu(SAD (1 + u) + sqrt(SAD) v), with fields u, v from a U-Net on the SAD.

    The trunk starts at half of the fine resolution (space to depth). The two fields of the head
    are on the fine grid, where they multiply the SAD.
    """

    samples = "windows"
    local = True
    any_spacing = False
    any_shape = True
    bf16 = True
    edges = ("stem", "head")
    fine_tuning: ClassVar[dict[str, dict[str, Any]]] = {
        "optimizer": {"name": "muon", "lr": 3e-4, "lr_rest": 1e-4},
        "sample": {"batch": 1, "crop": 64, "margin": 8},
    }

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        channels = config.channels
        self.stem = Convolution(8 * 4, channels[0])
        self.down_blocks = nn.ModuleList(
            nn.ModuleList(Block(c) for _ in range(n))
            for c, n in zip(channels, config.blocks, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv3d(a, b, 2, stride=2, bias=False)
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        self.up = nn.ModuleList(
            nn.Conv3d(b, 8 * a, 1, bias=False)
            for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        self.up_blocks = nn.ModuleList(
            nn.ModuleList(Block(c) for _ in range(n))
            for c, n in zip(channels[:-1], config.decoder_blocks, strict=True)
        )
        self.head = Convolution(channels[0], 8 * 2, gain=0.0)

    @property
    def multiple_of(self) -> int:
        """Grid shapes that are multiples of this need no padding."""
        return 2 ** len(self.config.channels)

    @property
    def reach(self) -> int:
        """Receptive field in fine voxels to each side of a voxel."""
        levels = len(self.config.channels)
        total = 4 + 4  # stem and head
        for level in range(levels):
            n = self.config.blocks[level]
            n += self.config.decoder_blocks[level] if level < levels - 1 else 0
            total += 2 * n * 2 ** (level + 1) + 2 ** (level + 2)
        return total

    def forward(self, sad: Tensor, periodic: bool = True) -> Tensor:
        """Raw density from superposed atomic densities.

        Parameters
        ----------
        sad : (b, 1, nx, ny, nz)
            e/bohr^3, on the fine grid; any shape.
        periodic : bool
            Whether the box is periodic or surrounded by vacuum.

        Returns
        -------
        (b, 1, nx, ny, nz) in float32, not negative, not yet normalised to N_e.
        """
        shape = sad.shape[2:]
        missing = [-n % self.multiple_of for n in shape]
        if any(missing):
            sad = _extend(sad, missing, periodic)
        root = sad.sqrt()
        x = torch.cat([4 * sad, 2 * root, sad / (sad + 0.01), root / (root + 0.01)], dim=1)
        x = space_to_depth(x).contiguous(memory_format=torch.channels_last_3d)
        x = self.stem(x, periodic)  # (b, c, x/2, y/2, z/2)
        skips = []
        for level, blocks in enumerate(self.down_blocks):
            for block in blocks.children():
                x = block(x, periodic)
            if level < len(self.down):
                skips.append(x)
                x = self.down[level](x)
        for level in reversed(range(len(self.up))):
            x = skips[level] + depth_to_space(self.up[level](x))
            for block in self.up_blocks[level].children():
                x = block(x, periodic)
        with torch.autocast(sad.device.type, enabled=False):
            u, v = depth_to_space(self.head(x.float(), periodic)).chunk(2, dim=1)
            rho = F.relu(sad * (1 + u) + root * v)
        return rho[..., : shape[0], : shape[1], : shape[2]]


def _extend(sad: Tensor, missing: list[int], periodic: bool) -> Tensor:
    """Extend the density at the far ends, periodically or by vacuum."""
    pad = [n for m in reversed(missing) for n in (0, m)]
    return F.pad(sad, pad, mode="circular") if periodic else F.pad(sad, pad)
