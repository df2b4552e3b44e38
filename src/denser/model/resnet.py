"""The network of Li, Sharir, Yuan and Chan (2025): SRGAN's residual generator in 3-D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from denser.model.image_network import ImageNetwork
from denser.model.unet import depth_to_space
from denser.types.errors import InputError


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of the network; the defaults are the paper's x2 model.

    Parameters
    ----------
    channels, kernel, blocks : int
    stages : int
        Upscaling stages, each by 2 per axis.
    """

    channels: int = 32
    kernel: int = 5
    blocks: int = 32
    stages: int = 1

    def __post_init__(self) -> None:
        if min(self.channels, self.blocks, self.stages) < 1 or self.kernel % 2 == 0:
            raise InputError(f"sizes must be positive and the kernel odd, found {self}")


X2 = ResNetConfig()
X4 = ResNetConfig(channels=64, kernel=3, blocks=64, stages=2)


class _PixelShuffle3d(nn.Module):
    """(b, 8c, x, y, z) to (b, c, 2x, 2y, 2z); channels are read as (c, 2, 2, 2)."""

    def forward(self, x: Tensor) -> Tensor:
        return depth_to_space(x)


def _convolution(c_in: int, c_out: int, kernel: int) -> nn.Conv3d:
    return nn.Conv3d(c_in, c_out, kernel, padding=kernel // 2, padding_mode="circular")


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            _convolution(channels, channels, kernel),
            nn.InstanceNorm3d(channels),
            nn.PReLU(),
            _convolution(channels, channels, kernel),
            nn.InstanceNorm3d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResNet(ImageNetwork):
    """Coarse SAD to fine density; the state-dict keys are those of the published checkpoints."""

    samples = "windows"
    local = False  # instance norms see the whole box
    any_spacing = False
    any_shape = False
    bf16 = False  # instance norms lose too much in it
    edges = ("conv1.0", "conv3")
    fine_tuning: ClassVar[dict[str, dict[str, Any]]] = {
        "optimizer": {"name": "adam", "lr": 1e-3, "clip": 1e9},
        # A window and its box give different results.
        "sample": {"batch": 1, "crop": 0},
    }

    def __init__(self, config: ResNetConfig = X2) -> None:
        super().__init__(config)
        c, k = config.channels, config.kernel
        self.conv1 = nn.Sequential(_convolution(1, c, k), nn.PReLU())
        self.res_blocks = nn.Sequential(*[_ResidualBlock(c, k) for _ in range(config.blocks)])
        self.conv2 = nn.Sequential(_convolution(c, c, k), nn.InstanceNorm3d(c))
        stages: list[nn.Module] = []
        for _ in range(config.stages):
            stages += [
                _convolution(c, 8 * c, k),
                nn.InstanceNorm3d(8 * c),
                _PixelShuffle3d(),
                nn.PReLU(),
            ]
        self.upsampling = nn.Sequential(*stages)
        self.conv3 = nn.Sequential(_convolution(c, 1, k), nn.ReLU())

    @property
    def multiple_of(self) -> int:
        """Grid shapes must be a multiple of this."""
        return 2**self.config.stages

    def forward(self, sad: Tensor, periodic: bool = True) -> Tensor:
        """Density on the fine grid.

        Parameters
        ----------
        sad : (b, 1, nx, ny, nz)
            SAD on the fine grid, e/bohr^3; the network sees every `multiple_of`-th node.
        periodic : bool
            Ignored: the network always treats the box as periodic, and the instance norms depend
            on all of it.

        Returns
        -------
        (b, 1, nx, ny, nz), scaled to the sum of `sad`, so that it contains N_e electrons.
        """
        step = self.multiple_of
        if any(n % step for n in sad.shape[2:]):
            raise InputError(
                f"grid shape {tuple(sad.shape[2:])} is not divisible by {step}; build it with "
                f"Grid.around(structure, multiple_of={step})"
            )
        x = self.conv1(sad[:, :, ::step, ::step, ::step])
        x = x + self.conv2(self.res_blocks(x))
        rho = self.conv3(self.upsampling(x)).float()
        dims = (1, 2, 3, 4)
        total = rho.sum(dims, keepdim=True)
        return rho * (sad.sum(dims, keepdim=True) / total.clamp_min(torch.finfo(rho.dtype).tiny))


__all__ = ["X2", "X4", "ResNet", "ResNetConfig"]
