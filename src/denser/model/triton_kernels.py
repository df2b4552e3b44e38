"""Messages and sums of Gaussians as Triton kernels, for CUDA.

Only `denser.model.fused` imports this module, when the kernels are wanted.

What the plain functions write to memory for each pair or block and read again stays in registers
here: the messages of `denser.model.messages`, and the polynomials and Gaussians of
`denser.model.l1_distance`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from denser.model.harmonics import solid_harmonics
from denser.model.l1_distance import Cloud

_CHANNELS = 16
"""Channels of one program are this number or twice as many."""


@triton.jit
def _heard(
    x, weights, shapes, senders, order, ends, out,
    C: tl.constexpr, S: tl.constexpr, P: tl.constexpr,
    BC: tl.constexpr, BS: tl.constexpr, BP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Messages to atom i: sum over its pairs of (weights @ shapes) x_sender."""
    i, c = tl.program_id(0), tl.program_id(1) * BC + tl.arange(0, BC)
    k, p = tl.arange(0, BS), tl.arange(0, BP)
    of_c, of_k, of_p = c[:, None] < C, k < S, p[None, :] < P
    total = tl.zeros((BC, BP), dtype=tl.float32)
    for place in range(tl.load(ends + i), tl.load(ends + i + 1)):
        e = tl.load(order + place)
        j = tl.load(senders + e)
        w = tl.load(weights + (e * C + c[:, None]) * S + k[None, :], of_c & of_k[None, :], 0.0)
        s = tl.load(shapes + (e * S + k[:, None]) * P + p[None, :], of_k[:, None] & of_p, 0.0)
        y = tl.load(x + (j * C + c[:, None]) * P + p[None, :], of_c & of_p, 0.0)
        total += tl.dot(w.to(tl.float32), s, input_precision=PRECISION) * y
    tl.store(out + (i * C + c[:, None]) * P + p[None, :], total, of_c & of_p)


@triton.jit
def _heard_pullback(
    gradient, x, weights, shapes, receivers, order, ends, of_x, of_weights,
    C: tl.constexpr, S: tl.constexpr, P: tl.constexpr,
    BC: tl.constexpr, BS: tl.constexpr, BP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Derivatives by the features of atom j and by the weights of the pairs that it sends to."""
    j, c = tl.program_id(0), tl.program_id(1) * BC + tl.arange(0, BC)
    k, p = tl.arange(0, BS), tl.arange(0, BP)
    of_c, of_k, of_p = c[:, None] < C, k < S, p[None, :] < P
    total = tl.zeros((BC, BP), dtype=tl.float32)
    own = tl.load(x + (j * C + c[:, None]) * P + p[None, :], of_c & of_p, 0.0)
    for place in range(tl.load(ends + j), tl.load(ends + j + 1)):
        e = tl.load(order + place)
        i = tl.load(receivers + e)
        at_w = (e * C + c[:, None]) * S + k[None, :]
        w = tl.load(weights + at_w, of_c & of_k[None, :], 0.0)
        s = tl.load(shapes + (e * S + k[:, None]) * P + p[None, :], of_k[:, None] & of_p, 0.0)
        g = tl.load(gradient + (i * C + c[:, None]) * P + p[None, :], of_c & of_p, 0.0)
        total += tl.dot(w.to(tl.float32), s, input_precision=PRECISION) * g
        d = tl.dot(g * own, tl.trans(s), input_precision=PRECISION)
        tl.store(of_weights + at_w, d.to(of_weights.dtype.element_ty), of_c & of_k[None, :])
    tl.store(of_x + (j * C + c[:, None]) * P + p[None, :], total, of_c & of_p)


def messages(
    features: Tensor, weights: Tensor, shapes: Tensor, senders: Tensor, receivers: Tensor
) -> Tensor:
    """As `denser.model.messages.messages`, without derivatives by the shapes."""
    return _Messages.apply(features, weights, shapes, senders, receivers)


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
        features, weights, shapes = (x.contiguous() for x in (features, weights, shapes))
        ctx.save_for_backward(features, weights, shapes, senders, receivers)
        out = torch.empty_like(features)
        grid, sizes = _launch(features, weights)
        order, ends = _by_atom(receivers, len(features))
        _heard[grid](features, weights, shapes, senders, order, ends, out, **sizes)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weights, shapes, senders, receivers = ctx.saved_tensors
        of_features, of_weights = torch.empty_like(features), torch.empty_like(weights)
        grid, sizes = _launch(features, weights)
        order, ends = _by_atom(senders, len(features))
        _heard_pullback[grid](
            gradient.contiguous(), features, weights, shapes, receivers, order, ends,
            of_features, of_weights, **sizes,
        )  # fmt: skip
        return of_features, of_weights, None, None, None


def _launch(features: Tensor, weights: Tensor) -> tuple[tuple[int, int], dict[str, Any]]:
    """Grid of programs and sizes of the kernels of messages."""
    n, channels, points = features.shape
    shapes = weights.shape[2]
    several = _CHANNELS * (2 if channels % (2 * _CHANNELS) == 0 else 1)
    sizes = {
        "C": channels, "S": shapes, "P": points, "BC": several,
        "BS": max(16, triton.next_power_of_2(shapes)),
        "BP": max(16, triton.next_power_of_2(points)),
        "PRECISION": "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee",
    }  # fmt: skip
    return (n, triton.cdiv(channels, several)), sizes


def _by_atom(atoms: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Pairs in the order of one of their atoms, and the first of each atom (n + 1,)."""
    counts = torch.zeros(n + 1, dtype=torch.int64, device=atoms.device)
    counts.index_add_(0, atoms + 1, torch.ones_like(atoms))
    return torch.argsort(atoms, stable=True), counts.cumsum(0)


@triton.jit
def _functions(
    points, centres, members, exponents, powers, block, last,
    DEGREE: tl.constexpr, M: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Monomials (M, Q) and Gaussians (BK, Q) of a block of points, their indices, and a mask."""
    q, k, a = tl.arange(0, Q), tl.arange(0, BK), tl.arange(0, M)
    index = tl.load(members + block * Q + q)
    used = index != last
    x = tl.load(points + index * 3) - tl.load(centres + block * 3)
    y = tl.load(points + index * 3 + 1) - tl.load(centres + block * 3 + 1)
    z = tl.load(points + index * 3 + 2) - tl.load(centres + block * 3 + 2)
    alpha = tl.load(exponents + k, k < K, 0.0)
    gaussians = tl.exp(-alpha[:, None] * (x * x + y * y + z * z)[None, :])
    i, j, h = tl.load(powers + a), tl.load(powers + M + a), tl.load(powers + 2 * M + a)
    monomials = tl.full((M, Q), 1.0, dtype=tl.float32)
    for t in tl.static_range(DEGREE):
        monomials *= tl.where(i[:, None] > t, x[None, :], 1.0)
        monomials *= tl.where(j[:, None] > t, y[None, :], 1.0)
        monomials *= tl.where(h[:, None] > t, z[None, :], 1.0)
    return monomials, gaussians, index, used


@triton.jit
def _sums(
    factors, points, centres, atoms, members, exponents, powers, delta, last,
    DEGREE: tl.constexpr, M: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Add the Gaussians of the atom of a block to delta at its points."""
    block = tl.program_id(0)
    monomials, gaussians, index, used = _functions(
        points, centres, members, exponents, powers, block, last, DEGREE, M, K, BK, Q
    )
    a, k = tl.arange(0, M), tl.arange(0, BK)
    place = (tl.load(atoms + block) * M + a[:, None]) * BK + k[None, :]
    terms = tl.dot(tl.load(factors + place), gaussians, input_precision="ieee")
    tl.atomic_add(delta + index, tl.sum(terms * monomials, axis=0), used)


@triton.jit
def _sums_pullback(
    slope, points, centres, atoms, members, exponents, powers, gradient, last,
    DEGREE: tl.constexpr, M: tl.constexpr, K: tl.constexpr, BK: tl.constexpr, Q: tl.constexpr,
):  # fmt: skip
    """Add the derivative by the factors of the atom of a block."""
    block = tl.program_id(0)
    monomials, gaussians, index, used = _functions(
        points, centres, members, exponents, powers, block, last, DEGREE, M, K, BK, Q
    )
    a, k = tl.arange(0, M), tl.arange(0, BK)
    seen = tl.load(slope + index, used, 0.0)
    terms = tl.dot(monomials * seen[None, :], tl.trans(gaussians), input_precision="ieee")
    place = (tl.load(atoms + block) * M + a[:, None]) * BK + k[None, :]
    tl.atomic_add(gradient + place, terms)


def sums_at(coefficients: Tensor, alphas: tuple[float, ...], cloud: Cloud) -> Tensor:
    """Delta at the points of a cloud (n + 1,); that of the last one, which fills blocks, is zero.

    The parameters are those of `denser.model.l1_distance.l1_distances`.
    """
    to_monomials, arrays, sizes = _arguments(coefficients, alphas, cloud)
    factors = torch.zeros(len(coefficients), sizes["M"], sizes["BK"], device=coefficients.device)
    factors[:, :, : len(alphas)] = to_monomials.T @ coefficients.transpose(1, 2)
    delta = torch.zeros_like(cloud.target)
    _sums[(len(cloud.atoms),)](factors, *arrays, delta, len(delta) - 1, **sizes)
    return delta


def sums_pullback(
    slope: Tensor, coefficients: Tensor, alphas: tuple[float, ...], cloud: Cloud
) -> Tensor:
    """Sum over points of slope (n + 1,) times the derivative of delta, as the coefficients."""
    to_monomials, arrays, sizes = _arguments(coefficients, alphas, cloud)
    gradient = torch.zeros(len(coefficients), sizes["M"], sizes["BK"], device=coefficients.device)
    _sums_pullback[(len(cloud.atoms),)](slope, *arrays, gradient, len(slope) - 1, **sizes)
    return (to_monomials @ gradient[:, :, : len(alphas)]).transpose(1, 2).contiguous()


def _arguments(
    coefficients: Tensor, alphas: tuple[float, ...], cloud: Cloud
) -> tuple[Tensor, tuple[Tensor, ...], dict[str, int]]:
    degree = round(coefficients.shape[-1] ** 0.5) - 1
    to_monomials, powers, exponents = _tables(degree, alphas, coefficients.device)
    sizes = {
        "DEGREE": degree, "M": powers.shape[1], "K": len(alphas),
        "BK": max(16, triton.next_power_of_2(len(alphas))), "Q": cloud.members.shape[1],
    }  # fmt: skip
    geometry = (cloud.points, cloud.centres, cloud.atoms, cloud.members)
    arrays = (*(x.contiguous() for x in geometry), exponents, powers)
    return to_monomials, arrays, sizes


@cache
def _tables(
    degree: int, alphas: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Harmonics in monomials (lm, M), powers of the monomials (3, M), and the exponents (k,)."""
    n = degree + 1
    found = [(i, j, k) for i in range(n) for j in range(n) for k in range(n) if i + j + k < n]
    size = max(16, triton.next_power_of_2(len(found)))
    harmonics = torch.as_tensor(solid_harmonics(degree), dtype=torch.float32)
    to_monomials = torch.zeros(n * n, size)
    powers = torch.zeros(3, size, dtype=torch.int32)
    for place, (i, j, k) in enumerate(found):
        to_monomials[:, place] = harmonics[:, i, j, k]
        powers[:, place] = torch.tensor([i, j, k])
    return to_monomials.to(device), powers.to(device), torch.tensor(alphas, device=device)
