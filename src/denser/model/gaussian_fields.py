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
    rho, gradient, v = np.zeros(n), np.zeros((3, n)), np.zeros(n)
    c, alphas = torch.as_tensor(coefficients).double(), torch.as_tensor(exponents).double()
    rounded = torch.as_tensor(x, dtype=torch.float32)
    for inside, near in shells(x, exponents):
        moments = moments_of(c[~near], alphas[~near]) if potential else None
        if not near.any():
            if moments is None:
                continue
            for start in range(0, len(inside), AT_ONCE):
                some = inside[start : start + AT_ONCE]
                v[some] = _far(rounded[:, some], moments)
            continue
        weights = _weights(c[near], alphas[near])
        for start in range(0, len(inside), AT_ONCE):
            some = inside[start : start + AT_ONCE]
            points = rounded[:, some]
            rho[some], gradient[:, some], v[some] = _shell(points, *weights, moments)
    return rho, gradient, v


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
    r2 = (x * x).sum(axis=0)
    end = float(np.sqrt(1.1 * LARGE / exponents.min()))
    edges = [low for low in _SHELLS if low < end] + [end, math.inf]
    for low, high in zip(edges, edges[1:], strict=False):
        yield np.flatnonzero((r2 >= low**2) & (r2 < high**2)), exponents * low**2 < LARGE


def _weights(c: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of Gaussians (row, k) and of Boys' functions (lm, k), and the exponents (k, 1)."""
    degree = round(c.shape[-1] ** 0.5) - 1
    slopes = torch.as_tensor(gradient_of_harmonics(degree))
    by_axis = torch.einsum("kl,ilm->imk", c, slopes).reshape(3 * degree**2, len(c))
    rows = torch.cat([c.T, (-2 * exponents[:, None] * c).T, by_axis])
    of_boys = (2 * np.pi / exponents[:, None] * c).T
    return rows.float(), of_boys.float(), exponents[:, None].float()


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


def _shell(
    x: Tensor, of_gaussians: Tensor, of_boys: Tensor, alphas: Tensor, moments: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Density (n,), gradient (3, n) and potential (n,) at points (3, n); 0 without moments."""
    m = len(of_boys)
    degree = round(m**0.5) - 1
    lower = degree**2
    r2 = (x * x).sum(dim=0)
    harmonics = harmonics_at(x, degree)  # (lm, n)
    t = alphas * r2
    radial = of_gaussians @ torch.exp(-t)
    rho = (harmonics * radial[:m]).sum(dim=0)
    slope = (harmonics * radial[m : 2 * m]).sum(dim=0)
    along = (radial[2 * m :].view(3, lower, -1) * harmonics[:lower]).sum(dim=1)
    v = torch.zeros_like(rho)
    if moments is None:
        return rho, along + slope * x, v
    inverse = 1 / r2.clamp(min=1e-12)
    power = inverse.sqrt()
    for n, f in enumerate(boys(t, degree)):
        some = slice(n * n, (n + 1) ** 2)
        radial_v = of_boys[some] @ f
        if moments.any():
            radial_v = radial_v + moments[some, None] * power
            power = power * inverse
        v = v + (harmonics[some] * radial_v).sum(dim=0)
    return rho, along + slope * x, v


def boys(t: Tensor, degree: int) -> list[Tensor]:
    """F_l(t) = integral_0^1 u^(2l) exp(-t u^2) du for l = 0 .. degree, each of the shape of `t`.

    From a Taylor series of the highest degree, F_l' = -F_(l+1), and downward recursion.
    """
    largest = float(t.max()) if t.numel() else 0.0
    nodes = 1 << max(9, int(largest / _STEP + 1).bit_length())
    table = torch.as_tensor(_boys_table(degree, nodes), dtype=t.dtype)
    node = (t / _STEP).round()
    index, d = node.long(), node * _STEP - t
    top = table[_TERMS - 1][index]
    for n in reversed(range(_TERMS - 1)):
        top = torch.addcmul(table[n][index], top, d, value=1 / (n + 1))
    decay, twice = torch.exp(-t), 2 * t
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
