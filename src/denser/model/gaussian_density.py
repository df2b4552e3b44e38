"""Density of deformed atoms at many points, fast.

With monomials in place of harmonics, a deformation is

delta(x, y, z) = sum_ijl x^i y^j z^l W_ijl(r),    W_ijl = sum_k c_kijl exp(-alpha_k r^2),

and the sum over i, j and l is Horner's scheme in x, then in y and z. In single precision, whose
relative error of 1e-6 suffices for a deformation.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from denser.atoms.sad import gaussians
from denser.model.gaussian_fields import shells
from denser.model.harmonics import solid_harmonics

NEGLIGIBLE = 1e-8
"""An atom ends where its density is below this, e/bohr^3."""

_AT_ONCE = 8192

_RADII = np.arange(0.25, 25.01, 0.25)
"""Where it is looked whether an atom still has density, bohr."""


def deformed_atom(
    x: np.ndarray, z: int, recipe: str, coefficients: np.ndarray, exponents: np.ndarray
) -> np.ndarray:
    """Density (n,) of a free atom and its deformation, e/bohr^3.

    Parameters
    ----------
    x : (3, n) float
        From the atom to the points, bohr.
    z : int
        Atomic number.
    recipe : str
        SAD recipe.
    coefficients : (n_exponents, (degree + 1)^2) float
    exponents : (n_exponents,) float
    """
    degree = round(coefficients.shape[1] ** 0.5) - 1
    polynomials = torch.as_tensor(_in_monomials(degree) @ coefficients.T).float()
    alphas, s, p = gaussians(z, recipe)
    spherical = torch.as_tensor(np.stack([s, p])).float()
    out = np.empty(x.shape[1])
    points = torch.as_tensor(x).float()
    for inside, close in shells(x, np.concatenate([exponents, alphas])):
        near, of_atom = np.split(close, [len(exponents)])
        own, two = polynomials[:, torch.as_tensor(near)], spherical[:, torch.as_tensor(of_atom)]
        for start in range(0, len(inside), _AT_ONCE):
            some = inside[start : start + _AT_ONCE]
            block = points.index_select(1, torch.from_numpy(some))  # faster than [:, some]
            r2 = (block * block).sum(dim=0)
            constant, slope = two @ _gaussians(r2, alphas[of_atom])
            delta = _horner(block, own @ _gaussians(r2, exponents[near]), degree)
            out[some] = (delta + constant).addcmul_(slope, r2).numpy()
    return out


def reach(z: int, recipe: str, coefficients: np.ndarray, exponents: np.ndarray) -> float:
    """Distance beyond which the density of a deformed atom is below `NEGLIGIBLE`, bohr."""
    degree = round(coefficients.shape[1] ** 0.5) - 1
    powers = np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)
    r2 = _RADII**2
    sizes = np.abs(coefficients) @ _RADII ** powers[:, None]
    alphas, s, p = gaussians(z, recipe)
    bound = (sizes * np.exp(-exponents[:, None] * r2)).sum(axis=0)
    bound += (np.abs(s[:, None] + p[:, None] * r2) * np.exp(-alphas[:, None] * r2)).sum(axis=0)
    return float(_RADII[np.flatnonzero(bound > NEGLIGIBLE).max(initial=0)])


def _gaussians(r2: Tensor, alphas: np.ndarray) -> Tensor:
    """exp(-alpha_k r^2) (k, n); that of half an exponent, squared, where there is one."""
    out = r2.new_empty((len(alphas), len(r2)))
    known: dict[float, int] = {}
    for k, alpha in enumerate(alphas.tolist()):
        half = known.get(alpha / 2)
        if half is None:
            torch.exp(-alpha * r2, out=out[k])
        else:
            torch.mul(out[half], out[half], out=out[k])
        known[alpha] = k
    return out


def _horner(points: Tensor, weights: Tensor, degree: int) -> Tensor:
    """Sum of monomials of points (3, n) times weights (monomials, n), which are overwritten."""
    x, y, z = points
    sizes = [n * (n + 1) // 2 for n in range(degree + 1, 0, -1)]  # monomials of y and z for x^i
    *others, total = weights.split(sizes)
    for part in reversed(others):
        part[: len(total)].addcmul_(total, x)
        total = part
    of_degree = total.split([n + 1 for n in range(degree + 1)])  # y^n, y^(n-1) z, ..., z^n
    for low, high in zip(of_degree[-2::-1], of_degree[:0:-1], strict=True):
        low.addcmul_(high[1:], z)
        low[0].addcmul_(high[0], y)
    return of_degree[0][0]


@cache
def _in_monomials(degree: int) -> np.ndarray:
    """r^l Y_lm in monomials, in the order of `_horner` (monomials, lm)."""
    rows = [
        (i, j, n - j)
        for i in range(degree + 1)
        for n in range(degree + 1 - i)
        for j in range(n, -1, -1)
    ]
    return np.stack([solid_harmonics(degree)[:, i, j, k] for i, j, k in rows])
