"""Run a local network over a box of any size, tile by tile, without the vacuum."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from denser.model.network import Network

VACUUM = 1e-6
"""Where the SAD is below this (e/bohr^3), it is used as the density."""

WHOLE = 30_000_000
"""Boxes with up to this number of nodes are not tiled."""

TILE, HALO = 224, 48
"""Nodes per side of the inner part of a tile, and of its halo (4 angstrom)."""


def apply(
    network: Network,
    sad: Tensor,
    periodic: bool,
    whole: int = WHOLE,
    tile: int = TILE,
    halo: int = HALO,
) -> Tensor:
    """Raw density (nx, ny, nz) of a SAD (nx, ny, nz), both e/bohr^3.

    A tile starts at a multiple of the network's `multiple_of`, so that its coarse voxels are those
    of the whole box. The result differs from that of the whole box only by the influence of nodes
    beyond the halo.
    """
    if sad.numel() <= whole or not network.local:
        return network(sad[None, None], periodic)[0, 0]
    step = network.multiple_of
    tile, halo = -(-tile // step) * step, -(-halo // step) * step
    out = sad.clone()
    for own in _tiles(sad.shape, tile):
        if float(sad[own].amax()) < VACUUM:
            continue
        seen, offset = _window(sad, own, halo, step, periodic)
        raw = network(seen[None, None], False)[0, 0]
        out[own] = raw[
            tuple(slice(i, i + s.stop - s.start) for i, s in zip(offset, own, strict=True))
        ]
    return out


def _tiles(shape: torch.Size, tile: int) -> Iterator[tuple[slice, slice, slice]]:
    starts = [range(0, n, tile) for n in shape]
    for corner in product(*starts):
        x, y, z = (slice(i, min(i + tile, n)) for i, n in zip(corner, shape, strict=True))
        yield x, y, z


def _window(
    sad: Tensor, own: tuple[slice, slice, slice], halo: int, step: int, periodic: bool
) -> tuple[Tensor, list[int]]:
    """The tile with its halo, and the start of the tile in it.

    The halo continues periodically, or ends at the faces of the box.
    """
    out, offset = sad, []
    for axis, part in enumerate(own):
        n = sad.shape[axis]
        first, last = part.start - halo, part.start + -(-(part.stop - part.start) // step) * step
        last += halo
        if periodic:
            out = out.index_select(axis, torch.arange(first, last, device=sad.device) % n)
        else:
            first, last = max(first, 0), min(last, n)
            out = out.narrow(axis, first, last - first)
        offset.append(part.start - first)
    return out, offset
