"""Densities expanded in Gaussians at the atoms: values at points and nodes, and the adjoint.

delta(r) = sum_a sum_k sum_lm c_aklm r_a^l Y_lm(r_a) exp(-alpha_k r_a^2),   r_a = r - R_a - L

Each term is a polynomial times a Gaussian, and therefore a short sum of products of functions of x,
y and z. An atom needs a few matrix products on a patch of the grid. All functions have torch
derivatives with respect to coefficients and positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import gamma

import numpy as np
import torch
from torch import Tensor

from denser.fields.windows import (
    axis_window,
    block,
    gaussian_reach,
    groups_of_like_reach,
    orthogonal_axis,
    pieces,
    touching,
    unit_vectors,
)
from denser.model.harmonics import harmonic_terms, oblique_harmonics, solid_harmonics
from denser.types.grid import Grid

CUTOFF = 1e-6
"""A patch ends where its Gaussians are below this, e/bohr^3."""


@cache
def orthonormal_radial(exponents: tuple[float, ...], degree: int) -> np.ndarray:
    """Symmetric orthonormalisation of r^l exp(-alpha_k r^2): rows are the new functions.

    Loewdin: X = S^(-1/2), S_kk' = integral r^(2l+2) exp(-(alpha_k + alpha_k') r^2) dr. The
    coefficients of the new functions are of similar size; those of the Gaussians nearly cancel.
    """
    a = np.array(exponents)
    overlap = 0.5 * gamma(degree + 1.5) / (a[:, None] + a) ** (degree + 1.5)
    norm = 1.0 / np.sqrt(np.diag(overlap))
    values, vectors = np.linalg.eigh(overlap * norm[:, None] * norm)
    return (vectors / np.sqrt(values)) @ vectors.T * norm


def orthogonal_to(exponents: tuple[float, ...], others: tuple[float, ...]) -> np.ndarray:
    """Gaussians exp(-alpha r^2) made orthonormal to those of other exponents, and to each other.

    Rows are the new functions as sums over the Gaussians of `others` and then of `exponents`.
    """
    if not exponents:
        return np.zeros((0, len(others)))
    a = np.array(others + exponents)
    overlap = 0.5 * gamma(1.5) / (a[:, None] + a) ** 1.5
    rows = np.eye(len(a))[len(others) :]
    known = np.eye(len(a))[: len(others)]
    out: list[np.ndarray] = []
    for row in rows:
        basis = np.array([*known, *out])
        inside = np.linalg.solve(basis @ overlap @ basis.T, basis @ overlap @ row)
        row = row - inside @ basis
        out.append(row / np.sqrt(row @ overlap @ row))
    return np.array(out)


def evaluate(
    coefficients: Tensor, exponents: Tensor, displacements: Tensor, parents: Tensor
) -> Tensor:
    """Delta at points.

    Parameters
    ----------
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) tensor
    exponents : (n_exponents,) tensor
    displacements : (n_images, n_points, 3) tensor
        From each atom, or image of one, to each point, bohr.
    parents : (n_images,) tensor
        Index of the atom of each image.

    Returns
    -------
    (n_points,) tensor, e/bohr^3
    """
    degree = round(coefficients.shape[-1] ** 0.5) - 1
    x, y, z = displacements.unbind(-1)
    harmonics, radial = _factors(x, y, z, exponents, degree)
    terms = torch.bmm(coefficients[parents].transpose(1, 2), radial)  # (images, lm, points)
    return (terms * harmonics).sum(dim=(0, 1))


def _factors(
    x: Tensor, y: Tensor, z: Tensor, exponents: Tensor, degree: int
) -> tuple[Tensor, Tensor]:
    """r^l Y_lm (images, lm, points) and the Gaussians of displacements (images, points)."""
    harmonics = torch.stack(harmonic_terms(x, y, z, degree), dim=1)
    return harmonics, radial_gaussians(x * x + y * y + z * z, exponents.tolist())


def radial_gaussians(r2: Tensor, alphas: Sequence[float]) -> Tensor:
    """exp(-alpha_k r^2) (a, k, points) of r^2 (a, points): that of half the alpha, squared."""
    found: list[Tensor] = []
    for k, alpha in enumerate(alphas):
        halves = [i for i in range(k) if 2 * alphas[i] == alpha]
        found.append(found[halves[0]].square() if halves else torch.exp(-alpha * r2))
    return torch.stack(found, dim=1)


def add_to_grid(
    values: Tensor, grid: Grid, positions: Tensor, coefficients: Tensor, exponents: Tensor
) -> None:
    """Add delta to `values` (nx, ny, nz) on a periodic grid of any shape, in place.

    Positions (n_atoms, 3) in bohr; coefficients (n_atoms, n_exponents, (degree + 1)^2).
    """
    for nodes, patch in _patches(grid, positions, coefficients, exponents):
        for on_grid, in_patch in pieces(nodes, grid.shape):
            values[on_grid] += patch[in_patch]


def project(
    weight: Tensor, grid: Grid, positions: Tensor, coefficients: Tensor, exponents: Tensor
) -> Tensor:
    """Sum over nodes of weight times delta: the adjoint of `add_to_grid`, differentiable."""
    total = torch.zeros((), dtype=torch.float64, device=weight.device)
    for nodes, patch in _patches(grid, positions, coefficients, exponents):
        index = [torch.as_tensor(n % m) for n, m in zip(nodes, grid.shape, strict=True)]
        seen = weight[index[0]][:, index[1]][:, :, index[2]]
        total = total + (seen * patch).sum().double()
    return total


def _patches(
    grid: Grid, positions: Tensor, coefficients: Tensor, exponents: Tensor
) -> Iterator[tuple[list[np.ndarray], Tensor]]:
    """Nodes per axis and delta at them, by atom and group of exponents of similar range."""
    degree = round(coefficients.shape[-1] ** 0.5) - 1
    if grid.is_orthorhombic:
        patch, in_monomials = _patch, solid_harmonics(degree)
    else:
        patch, in_monomials = _oblique_patch, oblique_harmonics(degree, unit_vectors(grid))
    tensor = torch.as_tensor(in_monomials, dtype=coefficients.dtype, device=coefficients.device)
    polynomials = torch.einsum("akm,mxyz->akxyz", coefficients, tensor)
    size = coefficients.detach().abs().sum(dim=-1).cpu().numpy()
    alphas = exponents.cpu().numpy().astype(float)
    centres = positions.detach().cpu().numpy().astype(float)
    reaches = gaussian_reach(size, alphas, degree, CUTOFF)
    for a in np.flatnonzero(touching(grid, centres, reaches.max(axis=1))):
        centre, reach = centres[a], reaches[a]
        for group in groups_of_like_reach(reach):
            radius = reach[group[0]]
            yield patch(grid, centre, positions[a], radius, polynomials[a, group], alphas[group])


def _patch(
    grid: Grid,
    centre: np.ndarray,
    position: Tensor,
    radius: float,
    polynomials: Tensor,
    alphas: np.ndarray,
) -> tuple[list[np.ndarray], Tensor]:
    """Delta of one atom (nx, ny, nz) on a patch, and its nodes per axis."""
    degree = polynomials.shape[-1] - 1
    alpha = torch.as_tensor(alphas, dtype=polynomials.dtype, device=polynomials.device)
    nodes, factors = [], []
    windows = [axis_window(grid, i, centre[i], radius) for i in range(3)]
    if not all(index.size for index, _ in windows):  # beside a slab
        return [index for index, _ in windows], polynomials.new_zeros((0, 0, 0))
    for i, (index, distances) in enumerate(windows):
        n = grid.shape[i]
        d = torch.as_tensor(distances, dtype=polynomials.dtype, device=polynomials.device)
        d = d - (position[i] - position[i].detach()).to(d.dtype)  # zero, but with a derivative
        gaussian = torch.exp(-alpha[:, None] * d * d)  # (k, n)
        powers = [torch.ones_like(d)]
        for _ in range(degree):
            powers.append(powers[-1] * d)
        f = gaussian[:, None] * torch.stack(powers)  # (k, p, n)
        if index.size > n:  # the patch overlaps its own images: sum them
            folded = f.new_zeros((*f.shape[:2], n))
            f = folded.index_add(2, torch.as_tensor(index % n, device=f.device), f)
            index = np.arange(n)
        nodes.append(index)
        factors.append(f)
    fx, fy, fz = factors
    t = torch.einsum("kxyz,kzn->kxyn", polynomials, fz)  # (k, i, j, z)
    u = torch.einsum("kym,kxyn->kxmn", fy, t)  # (k, i, y, z)
    ny, nz = u.shape[2:]
    patch = fx.flatten(0, 1).T @ u.flatten(0, 1).flatten(1)  # (x, y z)
    return nodes, patch.reshape(fx.shape[-1], ny, nz)


def _oblique_patch(
    grid: Grid,
    centre: np.ndarray,
    position: Tensor,
    radius: float,
    polynomials: Tensor,
    alphas: np.ndarray,
) -> tuple[list[np.ndarray], Tensor]:
    """As `_patch` on any grid; polynomials of the coordinates u_i along the cell's vectors.

    r^2 is sum_i u_i^2 + 2 sum_{i<j} cos_ij u_i u_j, so a Gaussian is a product of three functions
    of two coordinates, each with half of u_i^2 and of u_j^2. They are at most 1 between 60 and 120
    degrees.
    """
    degree = polynomials.shape[-1] - 1
    lengths = np.linalg.norm(grid.cell, axis=1)
    nodes, offsets = block(grid, centre, radius, periodic=True)
    moved = (position - position.detach()).double()  # zero, but with a derivative
    moved = moved @ torch.as_tensor(np.linalg.inv(grid.cell) * lengths, device=position.device)
    u = [
        torch.as_tensor(offset * length, device=position.device) - shift
        for offset, length, shift in zip(offsets, lengths, moved, strict=True)
    ]
    axes = unit_vectors(grid)
    cosines = axes @ axes.T
    across = orthogonal_axis(grid)
    if across is not None:
        return nodes, _layered_patch(u, across, cosines, polynomials, alphas)
    powers = [torch.stack([x**p for p in range(degree + 1)]).to(polynomials.dtype) for x in u]
    x, y, z = powers
    patch = polynomials.new_zeros(tuple(len(n) for n in nodes))
    for polynomial, alpha in zip(polynomials, alphas.tolist(), strict=True):
        t = torch.einsum("xyz,zn->xyn", polynomial, z)
        t = torch.einsum("ym,xyn->xmn", y, t)
        part = (x.T @ t.flatten(1)).reshape(patch.shape)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            a, b = u[i][:, None], u[j][None]
            form = 0.5 * (a * a + b * b) + 2 * float(cosines[i, j]) * a * b
            pair = torch.exp(-alpha * form).to(part.dtype)
            part = part * pair.unsqueeze(3 - i - j)
        patch = patch + part
    return nodes, patch


def _layered_patch(
    u: list[Tensor], across: int, cosines: np.ndarray, polynomials: Tensor, alphas: np.ndarray
) -> Tensor:
    """Values of `_oblique_patch` if the axis `across` is orthogonal to the two others.

    A Gaussian is a function of the plane times one of this axis, so that all exponents are one
    matrix product, as on an orthorhombic grid.
    """
    degree = polynomials.shape[-1] - 1
    i, j = (axis for axis in range(3) if axis != across)
    order = (0, 1 + i, 1 + j, 1 + across)
    alpha = torch.as_tensor(alphas, device=polynomials.device)
    dtype = polynomials.dtype

    def powers(x: Tensor) -> Tensor:
        return torch.stack([x**p for p in range(degree + 1)])

    a, b = u[i][:, None], u[j][None]
    form = a * a + b * b + 2 * float(cosines[i, j]) * a * b
    plane = torch.exp(-alpha[:, None, None] * form).to(dtype)
    x, y = powers(u[i]).to(dtype), powers(u[j]).to(dtype)
    t = torch.einsum("kabc,bn->kcan", polynomials.permute(order), y)
    t = torch.einsum("am,kcan->kcmn", x, t) * plane[:, None]
    gaussian = torch.exp(-alpha[:, None] * u[across] ** 2)
    f = (powers(u[across])[None] * gaussian[:, None]).to(dtype)  # (k, c, n)
    patch = t.flatten(2).flatten(0, 1).T @ f.flatten(0, 1)
    patch = patch.reshape(len(u[i]), len(u[j]), len(u[across]))
    back = np.argsort([i, j, across]).tolist()
    return patch.permute(back)
