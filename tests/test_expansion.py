"""Gaussian expansions: orthonormality, grid against points, derivatives."""

import numpy as np
import pytest
import torch
from scipy.integrate import lebedev_rule

from denser.model.expansion import (
    add_to_grid,
    evaluate,
    orthonormal_radial,
    project,
)
from denser.model.harmonics import solid_harmonics, spherical_harmonics
from denser.types.grid import Grid

ALPHAS = torch.tensor([0.3, 0.6, 2.5], dtype=torch.float64)


def test_harmonics_are_orthonormal():
    points, weights = lebedev_rule(15)
    y = spherical_harmonics(torch.tensor(points.T), 5).numpy()
    np.testing.assert_allclose(y.T @ (weights[:, None] * y), np.eye(36), atol=1e-12)


def test_first_harmonics_are_y_z_x():
    u = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64)
    y = spherical_harmonics(u, 1)[0].numpy()
    root = np.sqrt(3 / (4 * np.pi))
    np.testing.assert_allclose(y[1:], root * np.array([0.0, 0.8, 0.6]), atol=1e-14)


def test_solid_harmonics_are_homogeneous_polynomials():
    rng = np.random.default_rng(1)
    v = rng.normal(size=(20, 3))
    r = np.linalg.norm(v, axis=1)
    y = spherical_harmonics(torch.tensor(v / r[:, None]), 4).numpy()
    powers = [v[:, [i]] ** np.arange(5) for i in range(3)]
    polynomial = np.einsum("mijk,pi,pj,pk->pm", solid_harmonics(4), *powers)
    degrees = np.array([n for n in range(5) for _ in range(2 * n + 1)])
    np.testing.assert_allclose(polynomial, y * r[:, None] ** degrees, atol=1e-10)


@pytest.mark.parametrize("degree", [0, 1, 4])
def test_radial_functions_are_orthonormal(degree):
    exponents = (0.2, 0.5, 1.3)
    x = orthonormal_radial(exponents, degree)
    r = np.linspace(0, 12, 20001)
    f = r**degree * (x @ np.exp(-np.outer(exponents, r * r)))
    overlap = np.trapezoid(f[:, None] * f * r * r, r, axis=-1)
    np.testing.assert_allclose(overlap, np.eye(3), atol=1e-7)


def random_case(degree=4, box=(7.0, 9.0, 8.0)):
    generator = torch.Generator().manual_seed(2)
    grid = Grid(np.array([-1.0, 0.5, 2.0]), np.diag(box), (28, 36, 30))
    positions = torch.tensor([[0.2, 3.0, 4.0], [5.5, 9.2, 2.1]], dtype=torch.float64)
    c = torch.randn(2, 3, (degree + 1) ** 2, generator=generator, dtype=torch.float64)
    return grid, positions, 0.1 * c


def displacements_to(grid: Grid, positions: torch.Tensor, points: np.ndarray):
    shifts = np.array(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3)).reshape(3, -1).T @ grid.cell
    images = (positions[:, None] + torch.tensor(shifts)[None]).reshape(-1, 3)
    parents = torch.arange(len(positions)).repeat_interleave(len(shifts))
    return torch.tensor(points)[None] - images[:, None], parents


def test_grid_and_points_agree_with_periodic_images():
    grid, positions, c = random_case()
    values = torch.zeros(grid.shape, dtype=torch.float64)
    add_to_grid(values, grid, positions, c, ALPHAS)
    chosen = np.random.default_rng(0).integers(0, grid.size, 200)
    d, parents = displacements_to(grid, positions, grid.points().reshape(-1, 3)[chosen])
    expected = evaluate(c, ALPHAS, d, parents).numpy()
    np.testing.assert_allclose(values.numpy().ravel()[chosen], expected, atol=5e-6)


def test_only_s_functions_hold_charge():
    grid, positions, c = random_case(box=(14.0, 18.0, 16.0))
    values = torch.zeros(grid.shape, dtype=torch.float64)
    add_to_grid(values, grid, positions, c, ALPHAS)
    y00 = np.sqrt(1 / (4 * np.pi))
    charge = (c[:, :, 0] * y00 * (np.pi / ALPHAS) ** 1.5).sum()
    assert float(values.sum()) * grid.dv == pytest.approx(float(charge), abs=1e-4)


def test_projection_is_the_adjoint_and_its_derivatives_are_those_of_differences():
    grid, positions, c = random_case(degree=2)
    weight = torch.randn(
        grid.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    values = torch.zeros(grid.shape, dtype=torch.float64)
    add_to_grid(values, grid, positions, c, ALPHAS)
    r, k = positions.clone().requires_grad_(), c.clone().requires_grad_()
    total = project(weight, grid, r, k, ALPHAS)
    assert float(total.detach()) == pytest.approx(float((weight * values).sum()), rel=1e-12)
    total.backward()
    np.testing.assert_allclose(
        float((k.grad * c).sum()), float(total.detach()), rtol=1e-10
    )  # linear in c
    for atom, axis in ((0, 0), (1, 2)):
        step = torch.zeros_like(positions)
        step[atom, axis] = 1e-4
        up, down = (project(weight, grid, positions + s * step, c, ALPHAS) for s in (1, -1))
        assert float(r.grad[atom, axis]) == pytest.approx(float(up - down) / 2e-4, rel=1e-3)
