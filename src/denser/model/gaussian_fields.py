"""Density, gradient and Coulomb potential of the deformation of an atom at any points.

With the solid harmonics S_lm = r^l Y_lm and x = r - R_a, a deformation of an atom has

delta(x) = sum_lm S_lm(x) sum_k c_klm exp(-alpha_k x^2)
v(x)     = sum_lm S_lm(x) sum_k c_klm (2 pi / alpha_k) F_l(alpha_k x^2),

where F_l is Boys' function, because S_lm exp(-alpha x^2) is a derivative of a Gaussian. Where
alpha_k x^2 is large, v is that of multipoles. All is computed in single precision, which suffices
for a deformation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.special import gamma, gammainc
from torch import Tensor

from denser.model.harmonics import harmonics_at, solid_harmonics

Fields = tuple[np.ndarray, np.ndarray, np.ndarray]

_STEP, _TERMS = 0.0625, 4
LARGE = 21.0
"""Beyond this, Gaussians are zero and potentials those of multipoles, to 1e-9."""

_SHELLS = (0.0, 2.3, 3.3, 5.0, 7.0, 9.5)
"""From these distances (bohr) on, up to where all Gaussians end, the same ones are computed."""

AT_ONCE = 8192

_FAINT = 1e-8
"""A multipole is left out where its potential is below this, hartree."""

NEAR = 2.0
"""Closer than this (bohr) to the nucleus, `far_potential` would lose digits."""


def deformation(
    x: np.ndarray, coefficients: np.ndarray, exponents: np.ndarray, potential: bool = True
) -> Fields:
    """Density (n,), gradient (3, n) and potential (n,) of the deformation of one atom.

    Parameters
    ----------
    x : (3, n) float
        From the atom to the points, bohr.
    coefficients : (n_exponents, (degree + 1)^2) float
    exponents : (n_exponents,) float
    potential : bool
        Without it the potential is zero, which is faster.
    """
    n = x.shape[1]
    found = np.zeros(n), np.zeros((3, n)), np.zeros(n)
    add_deformation(found, x, coefficients, exponents, potential)
    return found


def add_deformation(
    fields: Fields,
    x: np.ndarray,
    coefficients: np.ndarray,
    exponents: np.ndarray,
    potential: bool = True,
) -> None:
    """Add `deformation` to fields, where there is something to add."""
    rho, gradient, v = fields
    c, alphas = torch.as_tensor(coefficients).double(), torch.as_tensor(exponents).double()
    rounded = torch.as_tensor(x, dtype=torch.float32)
    for inside, near in shells(x, exponents):
        moments = None if near.all() else moments_of(c[~near], alphas[~near])
        if not near.any():
            if not potential:
                continue
            assert moments is not None
            for start in range(0, len(inside), AT_ONCE):
                some = inside[start : start + AT_ONCE]
                v[some] += _far(rounded[:, some], moments).numpy()
            continue
        weights = _Weights.of(c[near], alphas[near], moments)
        for start in range(0, len(inside), AT_ONCE):
            some = inside[start : start + AT_ONCE]
            points = rounded[:, some]
            own = [field.numpy() for field in _shell(points, weights, potential)]
            rho[some] += own[0]
            gradient[:, some] += own[1]
            if potential:
                v[some] += own[2]


def _far(x: Tensor, moments: Tensor) -> Tensor:
    """Potential (n,) at points (3, n) beyond all Gaussians: sum_m M_m S_m(x / r^2) / r."""
    inverse = 1 / (x * x).sum(dim=0)
    degree = round(len(moments) ** 0.5) - 1
    return (moments @ harmonics_at(x * inverse, degree)).mul_(inverse.sqrt())


def far_potential(
    x: np.ndarray, atoms: np.ndarray, coefficients: np.ndarray, exponents: np.ndarray
) -> np.ndarray:
    """Potential (n,) of the deformation of an atom at each of some points, not near its nucleus.

    That of its multipoles, minus what of the Gaussians lies beyond r: with t = alpha r^2,
    F_l(t) = [Gamma(l + 1/2) - Gamma(l + 1/2, t)] / (2 t^(l + 1/2)). The second part fades as
    exp(-t), so that only diffuse Gaussians have it. In double precision.

    Parameters
    ----------
    x : (3, n) float
        From the atom to the points, bohr; no shorter than `NEAR`.
    atoms : (n,) int
        The atom of each point.
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) float
    exponents : (n_exponents,) float
    """
    c = torch.as_tensor(coefficients).double()
    degree = round(c.shape[2] ** 0.5) - 1
    every = torch.as_tensor(multipoles(coefficients, exponents).T)
    by_exponent = c.permute(1, 2, 0).contiguous()
    sizes = [float(every[n * n : (n + 1) ** 2].norm(dim=0).max()) for n in range(degree + 1)]
    v = np.empty(len(atoms))
    order = np.argsort((x * x).sum(axis=0))
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        owner = torch.as_tensor(atoms[some])
        points = torch.as_tensor(x[:, some]).double()
        r2 = (points * points).sum(dim=0)
        degree = _degree(sizes, float(r2[0]) ** 0.5, exponents)
        moments = every[: (degree + 1) ** 2]
        radial = moments[:, owner]
        power = 1 / r2.sqrt()
        for n in range(degree + 1):
            radial[n * n : (n + 1) ** 2] *= power
            power = power / r2
        for k, alpha in enumerate(exponents.tolist()):
            inside = int(torch.searchsorted(r2, LARGE / alpha))
            if not inside:
                continue
            t = alpha * r2[:inside]
            power, decay = t.sqrt(), torch.exp(-t)
            incomplete = math.sqrt(math.pi) * torch.special.erfc(power)  # Gamma(1/2, t)
            weights = by_exponent[k][: len(moments), owner[:inside]]
            for n in range(degree + 1):
                block = slice(n * n, (n + 1) ** 2)
                radial[block, :inside] -= weights[block] * (incomplete / power * (math.pi / alpha))
                incomplete = (n + 0.5) * incomplete + power * decay
                power = power * t
        harmonics = harmonics_at(points, degree)
        v[some] = (harmonics * radial).sum(dim=0).numpy()
    return v


def multipoles(coefficients: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """Factors (n_atoms, lm) of S_lm / r^(2l + 1) in the potential far from each atom.

    Parameters
    ----------
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) float
    exponents : (n_exponents,) float
    """
    alphas = torch.as_tensor(exponents).double()
    c = torch.as_tensor(coefficients).double()
    degree = round(c.shape[2] ** 0.5) - 1
    parts = [
        torch.einsum("k,akm->am", multipole(alphas, n), c[:, :, n * n : (n + 1) ** 2])
        for n in range(degree + 1)
    ]
    return torch.cat(parts, dim=1).numpy()


def _degree(sizes: list[float], r: float, exponents: np.ndarray) -> int:
    """The highest degree of multipoles of some size that matters at a distance of at least r.

    |sum_m M_lm S_lm(x)| / r^(2l + 1) <= |M_l| sqrt((2l + 1) / 4 pi) / r^(l + 1).
    """
    degree = len(sizes) - 1
    if exponents.min() * r * r < LARGE:
        return degree
    while degree and sizes[degree] * math.sqrt((2 * degree + 1) / 12) / r ** (degree + 1) < _FAINT:
        degree -= 1
    return degree


def shells(x: np.ndarray, exponents: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points at similar distances, and which Gaussians are computed there."""
    r2 = np.einsum("ij,ij->j", x, x)
    end = float(np.sqrt(1.1 * LARGE / exponents.min()))
    edges = [low for low in _SHELLS if low < end] + [end]
    shell = np.zeros(len(r2), dtype=np.uint8)
    for low in edges[1:]:
        shell += r2 >= low**2
    order = np.argsort(shell, kind="stable")  # of bytes it is fast
    ends = np.cumsum(np.bincount(shell, minlength=len(edges))).tolist()
    for low, i, j in zip(edges, [0, *ends], ends, strict=False):
        if i < j:
            yield order[i:j], exponents * low**2 < LARGE


@dataclass(frozen=True, eq=False)
class _Weights:
    """Factors of the harmonics of one atom in what `_shell` sums over k Gaussians.

    Parameters
    ----------
    of_degrees : list of (k, 2 l + 1) or (k + 1, 2 l + 1) tensor
        c_klm of each degree l, and a row with the moments of Gaussians that end closer to the atom.
    of_slopes : (3 k, degree^2) tensor
        sum_m c_km D S_m / dx_i in the lower harmonics.
    alphas : (k, 1) tensor
    """

    of_degrees: list[Tensor]
    of_slopes: Tensor
    alphas: Tensor

    @classmethod
    def of(cls, c: Tensor, exponents: Tensor, moments: Tensor | None) -> _Weights:
        """Those of the coefficients (k, lm) and exponents (k,)."""
        degree = round(c.shape[-1] ** 0.5) - 1
        slopes = torch.as_tensor(gradient_of_harmonics(degree))
        of_slopes = torch.einsum("km,iml->ikl", c, slopes).reshape(3 * len(c), degree**2)
        rows = c.float() if moments is None else torch.cat([c.float(), moments[None]])
        parts = rows.split([2 * n + 1 for n in range(degree + 1)], dim=1)
        return cls([p.contiguous() for p in parts], of_slopes.float(), exponents[:, None].float())


def moments_of(c: Tensor, exponents: Tensor) -> Tensor:
    """Factors (lm,) of S_lm / r^(2l + 1) in the potential far from the Gaussians."""
    degree = round(c.shape[-1] ** 0.5) - 1
    parts = [multipole(exponents, n) @ c[:, n * n : (n + 1) ** 2] for n in range(degree + 1)]
    return torch.cat(parts).float()


def multipole(exponents: Tensor, n: int) -> Tensor:
    """(2 pi / alpha) F_n(t) t^(n + 1/2) / alpha^(n + 1/2) for large t (k,)."""
    double = math.prod(range(1, 2 * n, 2))
    size = 2 * np.pi / exponents * double * np.sqrt(np.pi) / 2 ** (n + 1)
    return size / exponents ** (n + 0.5)


def _shell(x: Tensor, weights: _Weights, potential: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Density (n,), gradient (3, n) and potential (n,) at points (3, n)."""
    degree, alphas = len(weights.of_degrees) - 1, weights.alphas
    k = len(alphas)
    r2 = (x * x).sum(dim=0)
    harmonics = harmonics_at(x, degree)  # (lm, n)
    of_degrees = [
        w @ harmonics[n * n : (n + 1) ** 2] for n, w in enumerate(weights.of_degrees)
    ]  # (k, n) each, the sums over m
    t = alphas * r2
    gauss = torch.exp(-t)
    total = torch.stack([p[:k] for p in of_degrees]).sum(dim=0).mul_(gauss)
    rho = total.sum(dim=0)
    slope = -2 * (alphas[:, 0] @ total)
    along = (weights.of_slopes @ harmonics[: degree**2]).view(3, k, -1).mul_(gauss).sum(dim=1)
    gradient = along.addcmul_(slope, x)
    if not potential:
        return rho, gradient, torch.zeros_like(rho)
    inverse = 1 / r2.clamp(min=1e-12)
    power = inverse.sqrt()
    far, near = torch.zeros_like(rho), torch.zeros_like(t)
    for p, f in zip(of_degrees, boys(t, degree, gauss), strict=True):
        near.addcmul_(p[:k], f)
        if len(p) > k:
            far.addcmul_(p[k], power)
            power = power * inverse
    return rho, gradient, far + (2 * np.pi / alphas[:, 0]) @ near


def boys(t: Tensor, degree: int, decay: Tensor | None = None) -> list[Tensor]:
    """F_l(t) = integral_0^1 u^(2l) exp(-t u^2) du for l = 0 .. degree, each of the shape of `t`.

    `decay` is exp(-t), if it is known. From a Taylor series of the highest degree, F_l' = -F_(l+1),
    and downward recursion.
    """
    largest = float(t.max()) if t.numel() else 0.0
    nodes = 1 << max(9, int(largest / _STEP + 1).bit_length())
    table = torch.as_tensor(_boys_table(degree, nodes), dtype=t.dtype)
    node = (t / _STEP).round()
    index, d = node.long(), node * _STEP - t
    top = table[_TERMS - 1][index]
    for n in reversed(range(_TERMS - 1)):
        top = torch.addcmul(table[n][index], top, d, value=1 / (n + 1))
    decay, twice = torch.exp(-t) if decay is None else decay, 2 * t
    found = [top]
    for n in range(degree, 0, -1):
        found.append(torch.addcmul(decay, twice, found[-1]).mul_(1 / (2 * n - 1)))
    return found[::-1]


@cache
def _boys_table(degree: int, nodes: int) -> np.ndarray:
    """F_(degree + n) at multiples of the step (n_terms, n_nodes)."""
    t = np.arange(nodes) * _STEP
    half = degree + np.arange(_TERMS)[:, None] + 0.5
    positive = np.maximum(t, _STEP)
    found = gamma(half) * gammainc(half, positive) / (2 * positive**half)
    return np.where(t > 0, found, 0.5 / half)


@cache
def gradient_of_harmonics(degree: int) -> np.ndarray:
    """D S_lm / dx_i in harmonics of lower degree (3, (degree + 1)^2, degree^2)."""
    polynomials = solid_harmonics(degree)
    n = degree + 1
    flat = polynomials[: degree**2].reshape(degree**2, -1)
    out = np.zeros((3, n * n, degree**2))
    for axis in range(3):
        moved = np.moveaxis(polynomials, axis + 1, -1)
        derivative = np.zeros_like(moved)
        derivative[..., :-1] = moved[..., 1:] * np.arange(1, n)
        derivative = np.moveaxis(derivative, -1, axis + 1).reshape(n * n, -1)
        out[axis] = np.linalg.lstsq(flat.T, derivative.T, rcond=None)[0].T
    return np.where(np.abs(out) > 1e-12, out, 0.0)
