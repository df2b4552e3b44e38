"""The L1 distance of sums of Gaussians from a known density at points, and its gradient.

A Gaussian r^l Y_lm exp(-alpha r^2) matters only within a few bohr of its atom: 11 bohr for an
alpha of 0.16, 1.4 bohr for 10.24. So points are sorted by the atoms that they are near. For each
atom, or periodic image of one, they come in blocks of 64 at similar distances, and in a block only
those Gaussians are evaluated that reach its nearest point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denser.model.expansion import radial_gaussians
from denser.model.fused import kernels
from denser.model.harmonics import harmonic_terms
from denser.model.precision import in_single_precision

NEGLIGIBLE = 1e-5
"""A Gaussian ends where it is below this fraction of its maximum."""

_SIZE = 64
"""Points of a block."""

_AT_ONCE = 1 << 14
"""Number of pairs of atom and point that are evaluated at a time on a CPU."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one or several molecules, with the atoms near them.

    Parameters
    ----------
    points : (n + 1, 3) tensor
        Bohr. The last one has a weight of zero; it fills blocks.
    target : (n + 1,) tensor
        e/bohr^3.
    weights : (n + 1,) tensor
    n_points : tuple of int
        Number of points of each molecule.
    of_points : (n,) int tensor
        Molecule of each point.
    of_atoms : (n_atoms,) int tensor
        Molecule of each atom.
    centres : (n_blocks, 3) tensor
        Position of the atom, or of the image of it, of each block.
    atoms : (n_blocks,) int tensor
    members : (n_blocks, 64) int tensor
        Points of each block.
    reaching : (n_blocks,) int
        Number of exponents, from the smallest, that reach a block; in decreasing order.
    """

    points: Tensor
    target: Tensor
    weights: Tensor
    n_points: tuple[int, ...]
    of_points: Tensor
    of_atoms: Tensor
    centres: Tensor
    atoms: Tensor
    members: Tensor
    reaching: np.ndarray

    @classmethod
    def of(
        cls,
        points: Tensor,
        target: Tensor,
        weights: Tensor,
        n_atoms: int,
        images: Tensor,
        parents: Tensor,
        exponents: Sequence[float],
        degree: int,
    ) -> Cloud:
        """Cloud of one molecule.

        Parameters
        ----------
        points, target, weights
            As in the class, without the last one.
        n_atoms : int
        images : (n_images, 3) tensor
            Positions of atoms and their images, bohr.
        parents : (n_images,) int tensor
            Index of the atom of each image.
        exponents : sequence of float
            Bohr^-2.
        degree : int
            Highest degree of the harmonics.
        """
        n = len(points)
        x, y = (a.cpu().numpy().astype(np.float32) for a in (points, images))
        square = sum(
            (np.subtract.outer(y[:, i], x[:, i]) ** 2 for i in range(3)),
            np.zeros((len(y), n), np.float32),
        )
        reaching = np.zeros(square.shape, np.uint8)
        for reach in _reaches(tuple(sorted(exponents)), degree):
            reaching += square < reach**2
        near = np.flatnonzero(reaching)
        image, point = np.divmod(near, n)
        found = reaching.ravel()[near]
        order = np.argsort(255 - found, kind="stable")
        order = order[np.argsort(image[order].astype(np.uint16), kind="stable")]
        counts = np.bincount(image, minlength=len(y))
        blocks = -(-counts // _SIZE)
        owner = np.repeat(np.arange(len(y)), blocks)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
        place = within[:, None] * _SIZE + np.arange(_SIZE)
        start = (np.cumsum(counts) - counts)[owner, None]
        index = order[np.minimum(start + place, max(len(order) - 1, 0))]
        members = np.where(place < counts[owner, None], point[index], n)
        levels = found[index[:, 0]]
        order = np.argsort(255 - levels, kind="stable")
        chosen = torch.as_tensor(owner[order], device=images.device)
        return cls(
            torch.cat([points, points[:1]]),
            torch.cat([target, target.new_zeros(1)]),
            torch.cat([weights, weights.new_zeros(1)]),
            (n,),
            torch.zeros(n, dtype=torch.int64, device=points.device),
            torch.zeros(n_atoms, dtype=torch.int64, device=points.device),
            images[chosen],
            parents[chosen],
            torch.as_tensor(members[order], device=points.device),
            levels[order],
        )


def l1_distances(coefficients: Tensor, exponents: Sequence[float], cloud: Cloud) -> Tensor:
    """Sum over the points of each molecule of weight |delta - target|.

    Delta is that of `denser.model.expansion.evaluate`. The result is differentiable only in the
    coefficients.

    Parameters
    ----------
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) tensor
        Of the atoms of all molecules.
    exponents : sequence of float
        Bohr^-2.
    cloud : Cloud
        For these exponents and this degree.

    Returns
    -------
    (n_molecules,) tensor
    """
    order = tuple(sorted(range(len(exponents)), key=lambda k: exponents[k]))
    if order != tuple(range(len(exponents))):
        coefficients = coefficients.index_select(1, _index(order, coefficients.device))
    return _L1Distances.apply(coefficients, [exponents[k] for k in order], cloud)


class _L1Distances(torch.autograd.Function):
    """Compute the gradient together with the value, a few blocks at a time.

    Nothing here waits for the device: numbers of blocks and exponents are known on the host.
    """

    @staticmethod
    @in_single_precision
    def forward(ctx: Any, coefficients: Tensor, exponents: list[float], cloud: Cloud) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        fused = kernels(coefficients)
        kept: list[_Block] = []
        if fused is not None:
            delta = fused.sums_at(coefficients, tuple(exponents), cloud)
        else:
            delta, kept = sums_at(coefficients, exponents, cloud, wanted)
        error = delta - cloud.target
        if wanted:
            slope = cloud.weights * error.sign()
            if fused is not None:
                gradient = fused.sums_pullback(slope, coefficients, tuple(exponents), cloud)
            else:
                gradient = sums_pullback(slope, coefficients, kept)
            ctx.save_for_backward(gradient, cloud.of_atoms)
        return _sums((cloud.weights * error.abs())[:-1], cloud)

    @staticmethod
    def backward(ctx: Any, scales: Tensor) -> tuple[Tensor | None, ...]:
        gradient, of_atoms = ctx.saved_tensors
        return scales[of_atoms][:, None, None] * gradient, None, None


_Block = tuple[Tensor, Tensor, Tensor, Tensor]
"""Harmonics (block, lm, point), Gaussians (block, k, point), points and atoms of some blocks."""


def sums_at(
    coefficients: Tensor, alphas: Sequence[float], cloud: Cloud, keep: bool = True
) -> tuple[Tensor, list[_Block]]:
    """Delta at the points of a cloud (n + 1,), and with `keep` what `sums_pullback` needs.

    The exponents are in rising order. The value at the last point, which fills blocks, is of no
    use.
    """
    degree = round(coefficients.shape[-1] ** 0.5) - 1
    delta = torch.zeros_like(cloud.target)
    n = max(1, _AT_ONCE // _SIZE) if delta.is_cpu else max(1, len(cloud.atoms) // 16)
    kept: list[_Block] = []
    for start in range(0, len(cloud.atoms), n):
        some = slice(start, start + n)
        m = int(cloud.reaching[start])
        members, atoms = cloud.members[some], cloud.atoms[some]
        d = cloud.points.T[:, members] - cloud.centres[some].T[:, :, None]
        x, y, z = d.unbind(0)  # (block, point)
        harmonics = torch.stack(harmonic_terms(x, y, z, degree), dim=1)
        radial = radial_gaussians(x * x + y * y + z * z, alphas[:m])
        sums = torch.bmm(coefficients[atoms, :m], harmonics).mul_(radial).sum(dim=1)
        delta.index_add_(0, members.flatten(), sums.flatten())
        if keep:
            kept.append((harmonics, radial, members, atoms))
    return delta, kept


def sums_pullback(slope: Tensor, coefficients: Tensor, kept: list[_Block]) -> Tensor:
    """Sum over points of slope (n + 1,) times the derivative of delta; this changes `kept`."""
    gradient = torch.zeros_like(coefficients)
    for harmonics, radial, members, atoms in kept:
        radial *= slope[members][:, None]
        part = torch.bmm(radial, harmonics.transpose(1, 2))
        gradient[:, : radial.shape[1]].index_add_(0, atoms, part)
    return gradient


def _sums(values: Tensor, cloud: Cloud) -> Tensor:
    """Sums (n_molecules,) over the points of each molecule."""
    n = len(cloud.n_points)
    if len({*cloud.n_points}) == 1:
        return values.view(n, -1).sum(dim=1)
    sums = torch.zeros(n, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, cloud.of_points, values.double()).to(values.dtype)


@cache
def _index(order: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(order, device=device)


@cache
def _reaches(exponents: tuple[float, ...], degree: int) -> tuple[float, ...]:
    """Where r^degree exp(-alpha r^2) falls below `NEGLIGIBLE` of its maximum, bohr."""
    found = []
    for alpha in exponents:
        top = (degree / (2 * alpha)) ** 0.5
        r = (top**2 - np.log(NEGLIGIBLE) / alpha) ** 0.5
        for _ in range(20):
            grown = degree * np.log(r / top) if degree else 0.0
            r = (top**2 + (grown - np.log(NEGLIGIBLE)) / alpha) ** 0.5
        found.append(float(r))
    return tuple(found)
