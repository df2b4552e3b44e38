"""Real spherical harmonics, orthonormal on the sphere, in torch."""

from __future__ import annotations

import math
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor


def spherical_harmonics(u: Tensor, degree: int) -> Tensor:
    """Y_lm of unit vectors, l = 0 .. degree and m = -l .. l, without Condon-Shortley phase.

    Parameters
    ----------
    u : (..., 3) tensor
        Unit vectors; for other vectors the result is the polynomial r^l Y_lm.
    degree : int

    Returns
    -------
    (..., (degree + 1)^2) tensor
        Orthonormal: integral Y_lm Y_l'm' over the sphere is 1 or 0.
    """
    x, y, z = u.unbind(-1)
    return torch.stack(harmonic_terms(x, y, z, degree), dim=-1)


def harmonic_terms(x: Tensor, y: Tensor, z: Tensor, degree: int) -> list[Tensor]:
    """r^l Y_lm of points, one tensor of the shape of `x` for each l and m, in the same order."""
    square = x * x + y * y + z * z
    cosine, sine = [torch.ones_like(x)], [torch.zeros_like(x)]  # of m phi, times (r sin theta)^m
    for _ in range(degree):
        cosine.append(x * cosine[-1] - y * sine[-1])
        sine.append(x * sine[-1] + y * cosine[-2])
    legendre: dict[tuple[int, int], Tensor] = {}  # r^(l-m) P_l^m / sin^m theta
    for m in range(degree + 1):
        legendre[m, m] = torch.full_like(x, float(math.prod(range(1, 2 * m, 2))))
        if m < degree:
            legendre[m + 1, m] = (2 * m + 1) * z * legendre[m, m]
        for n in range(m + 2, degree + 1):
            lower = (n + m - 1) * square * legendre[n - 2, m]
            legendre[n, m] = ((2 * n - 1) * z * legendre[n - 1, m] - lower) / (n - m)
    out = []
    for n in range(degree + 1):
        for m in range(-n, n + 1):
            k = abs(m)
            norm = (2 * n + 1) / (4 * math.pi) * math.factorial(n - k) / math.factorial(n + k)
            angle = (cosine if m >= 0 else sine)[k]
            out.append(math.sqrt(norm * (2 if m else 1)) * legendre[n, k] * angle)
    return out


def harmonics_at(points: Tensor, degree: int) -> Tensor:
    """r^l Y_lm of many points (3, n): ((degree + 1)^2, n), from monomials of rising degree."""
    monomials = [torch.ones_like(points[:1])]
    for n in range(degree):  # last come those without x, and z^n
        last = monomials[-1]
        without_x = last[-(n + 1) :] * points[1]
        monomials.append(torch.cat([last * points[0], without_x, last[-1:] * points[2]]))
    out = points.new_empty(((degree + 1) ** 2, points.shape[1]))
    for n, values in enumerate(monomials):
        torch.mm(_of_monomials(n).to(points), values, out=out[n * n : (n + 1) ** 2])
    return out


@cache
def _of_monomials(n: int) -> Tensor:
    """Coefficients of r^n Y_nm in the monomials of degree n, in the order of `harmonics_at`."""
    some = slice(n * n, (n + 1) ** 2)
    powers = [(i, j, n - i - j) for i in range(n, -1, -1) for j in range(n - i, -1, -1)]
    rows = [solid_harmonics(n)[some, i, j, k] for i, j, k in powers]
    return torch.as_tensor(np.stack(rows, axis=1))


@cache
def solid_harmonics(degree: int) -> np.ndarray:
    """Coefficients of r^l Y_lm in monomials x^i y^j z^k, i, j, k = 0 .. degree.

    Returns
    -------
    ((degree + 1)^2, degree + 1, degree + 1, degree + 1) float
    """
    return oblique_harmonics(degree, np.eye(3))


def oblique_harmonics(degree: int, axes: np.ndarray) -> np.ndarray:
    """As `solid_harmonics`, in monomials of coordinates along three vectors, the rows of `axes`."""
    points = np.random.default_rng(0).normal(size=(400, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    values = spherical_harmonics(torch.as_tensor(points @ axes), degree).numpy()
    x, y, z = points.T
    out = np.zeros(((degree + 1) ** 2, *(degree + 1,) * 3))
    for n in range(degree + 1):
        powers = [p for p in product(range(n + 1), repeat=3) if sum(p) == n]
        monomials = np.stack([x**i * y**j * z**k for i, j, k in powers], axis=1)
        # r^l Y_lm is homogeneous of degree l, so the fit is exact.
        fit = np.linalg.lstsq(monomials, values[:, n * n : (n + 1) ** 2], rcond=None)[0]
        for (i, j, k), row in zip(powers, fit, strict=True):
            out[n * n : (n + 1) ** 2, i, j, k] = np.where(np.abs(row) > 1e-12, row, 0.0)
    return out


def invariants(features: Tensor) -> Tensor:
    """Invariants (n_atoms, n) of features (n_atoms, channels, lm): l = 0, and lengths of each l."""
    degree = round(features.shape[2] ** 0.5) - 1
    lengths = [features[:, :, n * n : (n + 1) ** 2].norm(dim=2) for n in range(1, degree + 1)]
    return torch.cat([features[:, :, 0], *lengths], dim=1)
