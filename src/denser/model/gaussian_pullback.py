"""Derivatives of the fields of `denser.model.gaussian_fields` by points and coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from denser.model.gaussian_fields import (
    AT_ONCE,
    Fields,
    boys,
    gradient_of_harmonics,
    moments_of,
    multipole,
    shells,
)
from denser.model.harmonics import harmonics_at


def deformation_pullback(
    x: np.ndarray, coefficients: np.ndarray, exponents: np.ndarray, by: Fields
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of sum_i (a_i delta_i + b_i . grad delta_i + c_i v_i) of `deformation`.

    Parameters
    ----------
    x, coefficients, exponents
        As of `deformation`.
    by : tuple
        a (n,), b (3, n) and c (n,).

    Returns
    -------
    (3, n) float
        With respect to each point.
    (n_exponents, (degree + 1)^2) float
        With respect to the coefficients.
    """
    by_points, by_coefficients = np.zeros(x.shape), np.zeros(coefficients.shape)
    c, alphas = torch.as_tensor(coefficients).double(), torch.as_tensor(exponents).double()
    rounded = [torch.as_tensor(f, dtype=torch.float32) for f in (x, *by)]
    for inside, near in shells(x, exponents):
        if not near.any():
            moments, of_moments = moments_of(c, alphas), torch.zeros(c.shape[1], dtype=c.dtype)
            for start in range(0, len(inside), AT_ONCE):
                some = inside[start : start + AT_ONCE]
                points, weights = rounded[0][:, some], rounded[3][some]
                by_points[:, some], added = _far_pullback(points, moments, weights)
                of_moments += added
            by_coefficients += _moments_pullback(of_moments, alphas)
            continue
        adjoint = _Adjoint.of(c, alphas, torch.as_tensor(near))
        for start in range(0, len(inside), AT_ONCE):
            some = inside[start : start + AT_ONCE]
            by_points[:, some] = adjoint.add(*(f[..., some] for f in rounded))
        by_coefficients += adjoint.by_coefficients()
    return by_points, by_coefficients


@dataclass(frozen=True, eq=False)
class _Adjoint:
    """Derivatives of L = sum_i (a delta + b . grad delta + c v), of some points after others.

    With the harmonics S_m, the sums rho_m, s_m and q_m over the Gaussians with factors c, -2 alpha
    c and 4 alpha^2 c, V_m over Boys' functions with U_m = dV_m/d(r^2), and d = b . grad:

    L       = sum_m [a S_m + dS_m] rho_m + (b . x) S_m s_m + c S_m V_m
    grad L  = sum_m (grad S_m) [a rho_m + (b . x) s_m + c V_m] + grad dS_m rho_m + b S_m s_m
              + x {[a S_m + dS_m] s_m + (b . x) S_m q_m + 2 c S_m U_m}.

    grad S_m = sum_l G_ml S_l (`gradient_of_harmonics`). `sums` holds S_m times a + d, times b . x
    and times c, each summed over points with the function of each exponent.
    """

    c: Tensor
    alphas: Tensor
    near: Tensor
    radial: Tensor
    of_boys: Tensor
    of_slopes: Tensor
    moments: Tensor
    scales: Tensor
    slopes: Tensor
    slopes_back: Tensor
    sums: list[Tensor]

    @classmethod
    def of(cls, c: Tensor, alphas: Tensor, near: Tensor) -> _Adjoint:
        """No points yet; `near` (k,) are the exponents that are computed."""
        own, scales = c[near], alphas[near, None]
        degree = round(c.shape[1] ** 0.5) - 1
        radial = torch.cat([own.T, (-2 * scales * own).T, (4 * scales**2 * own).T]).float()
        of_boys = (2 * np.pi / scales * own).T.float()
        of_slopes = (-2 * np.pi * own).T.float()
        slopes = torch.as_tensor(gradient_of_harmonics(degree), dtype=torch.float32)
        back = slopes.transpose(1, 2).reshape(3 * degree**2, -1).contiguous()
        size = c.shape[1], len(own)
        zeros = [torch.zeros(s, dtype=torch.float64) for s in (size, size, size, (size[0],))]
        moments = moments_of(c[~near], alphas[~near])
        return cls(
            c, alphas, near, radial, of_boys, of_slopes, moments, scales.float(), slopes, back,
            zeros,
        )  # fmt: skip

    def add(self, x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """Derivative with respect to points (3, n), from a (n,), b (3, n) and c (n,)."""
        m = self.c.shape[1]
        degree = round(m**0.5) - 1
        lower = degree**2
        r2 = (x * x).sum(dim=0)
        harmonics = harmonics_at(x, degree)  # (m, n)
        low = harmonics[:lower]
        gaussians = torch.exp(-self.scales * r2)
        rho, s, q = (self.radial @ gaussians).view(3, m, -1)
        bx = (b * x).sum(dim=0)
        slopes = (self.slopes.reshape(3 * m, lower) @ low).view(3, m, -1)
        first = a * harmonics
        for axis in range(3):
            first.addcmul_(slopes[axis], b[axis])
        along = harmonics * bx
        by_v = harmonics * c
        inverse = 1 / r2.clamp(min=1e-12)
        power = inverse.sqrt()
        functions = boys(self.scales * r2, degree + 1)
        v, u = torch.empty_like(rho), torch.empty_like(rho)
        for n in range(degree + 1):
            some = slice(n * n, (n + 1) ** 2)
            torch.mm(self.of_boys[some], functions[n], out=v[some])
            torch.mm(self.of_slopes[some], functions[n + 1], out=u[some])
            self.sums[2][some] += by_v[some] @ functions[n].T
            if len(self.near) > len(self.scales):
                far = self.moments[some, None] * power
                v[some] += far
                u[some] -= far * (inverse * (n + 0.5))
                self.sums[3][some] += by_v[some] @ power
                power = power * inverse
        self.sums[0] += first @ gaussians.T
        self.sums[1] += along @ gaussians.T
        inner = (first * s).addcmul_(along, q).addcmul_(by_v, u, value=2).sum(dim=0)
        found = x * inner + b * (harmonics * s).sum(dim=0)
        weighted = (a * rho).addcmul_(s, bx).addcmul_(v, c)
        # T_l = sum_m dS_m/dS_l rho_m, whose harmonics have a gradient of their own
        bent = (self.slopes_back @ rho).view(3, lower, -1)
        for axis in range(3):
            weighted[:lower].addcmul_(bent[axis], b[axis])
        return found.add_((slopes * weighted).sum(dim=1))

    def by_coefficients(self) -> np.ndarray:
        """Derivative with respect to the coefficients (n_exponents, m)."""
        first, along, of_v, far = self.sums
        scales = self.alphas[self.near]
        out = torch.zeros_like(self.c)
        out[self.near] = (first - 2 * scales * along + 2 * np.pi / scales * of_v).T
        out[~self.near] = torch.as_tensor(_moments_pullback(far, self.alphas[~self.near]))
        return out.numpy()


def _far_pullback(x: Tensor, moments: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of sum_i c_i v_i of `_far` by the points (3, n) and the moments (lm,)."""
    inverse = 1 / (x * x).sum(dim=0)
    degree = round(len(moments) ** 0.5) - 1
    harmonics = harmonics_at(x * inverse, degree)
    slopes = torch.as_tensor(gradient_of_harmonics(degree), dtype=x.dtype)
    orders = torch.as_tensor([2.0 * n + 1 for n in range(degree + 1) for _ in range(2 * n + 1)])
    weight = c * inverse.sqrt()
    inner = (moments * orders) @ harmonics
    along = torch.einsum("m,iml->il", moments, slopes) @ harmonics[: degree**2]
    return (along - x * inner) * (weight * inverse), (harmonics @ weight).double()


def _moments_pullback(far: Tensor, exponents: Tensor) -> np.ndarray:
    """Derivative by coefficients (k, lm) from that by the moments of `_moments` (lm,)."""
    out = np.empty((len(exponents), len(far)))
    for n in range(round(len(far) ** 0.5)):
        some = slice(n * n, (n + 1) ** 2)
        out[:, some] = (multipole(exponents, n)[:, None] * far[some]).numpy()
    return out
