import numpy as np
import pytest
from scipy.special import erf

from denser.fields.derivatives import divergence, gradient
from denser.fields.fourier import poisson, poisson_isolated, wave_vectors
from denser.types.errors import InputError
from denser.types.grid import Grid


def gaussian(grid, centre, b):
    """Unit charge (b/pi)^1.5 exp(-b r^2) and its potential erf(sqrt(b) r)/r."""
    r = np.linalg.norm(grid.points() - centre, axis=-1)
    rho = (b / np.pi) ** 1.5 * np.exp(-b * r**2)
    near = np.maximum(r, 1e-9)
    return rho, erf(np.sqrt(b) * near) / near


def charges(grid):
    """A compact, a diffuse and a displaced negative Gaussian."""
    pairs = [
        (1.0, gaussian(grid, [0.3, -0.2, 0.1], 0.5)),
        (2.5, gaussian(grid, [-0.6, 0.4, 1.1], 0.45)),
        (-1.5, gaussian(grid, [0.9, 0.8, -1.3], 0.55)),
    ]
    return tuple(sum(q * pair[k] for q, pair in pairs) for k in range(2))


@pytest.mark.parametrize(
    "lengths, shape", [((20, 20, 20), (48, 48, 48)), ((18, 20, 26.0), (44, 49, 65))]
)
def test_isolated_gaussians_have_the_potential_of_the_error_function(lengths, shape):
    grid = Grid(-np.array(lengths) / 2, np.diag(lengths), shape)
    rho, exact = charges(grid)
    np.testing.assert_allclose(poisson_isolated(rho, grid), exact, atol=2e-9)


def test_isolated_error_falls_exponentially_with_the_spacing():
    errors = []
    for n in (16, 24, 32):
        grid = Grid(np.full(3, -9.0), 18 * np.eye(3), (n, n, n))
        rho, exact = charges(grid)
        errors.append(np.abs(poisson_isolated(rho, grid) - exact).max())
    assert errors[1] < errors[0] / 20 and errors[2] < errors[1] / 200


def test_isolated_potential_is_right_for_a_charge_beside_a_face():
    grid = Grid(np.zeros(3), np.diag([14.0, 16.0, 20.0]), (56, 64, 80))
    rho, exact = gaussian(grid, [5.0, 6.0, 14.0], 2.0)
    np.testing.assert_allclose(poisson_isolated(rho, grid), exact, atol=2e-9)


def test_isolated_needs_an_orthorhombic_box():
    cell = np.array([[8.0, 1, 0], [0, 8, 0], [0, 0, 8]])
    with pytest.raises(InputError, match="orthorhombic"):
        poisson_isolated(np.zeros((4, 4, 4)), Grid(np.zeros(3), cell, (4, 4, 4)))


CELLS = [np.diag([7.0, 8, 9]), np.array([[7.0, 0, 0], [2, 8, 0], [-1, 3, 9]])]


def plane_wave(grid):
    """A real wave, and its wave vector."""
    g = 2 * np.pi * np.linalg.inv(grid.cell) @ np.array([2, -1, 3])
    return np.cos(grid.points() @ g + 0.4), np.sin(grid.points() @ g + 0.4), g


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("shape", [(12, 11, 14), (9, 10, 13)])
def test_waves_are_eigenfunctions_of_the_periodic_solver(cell, shape):
    grid = Grid(np.array([0.3, -1.0, 2.0]), cell, shape)
    cosine, _, g = plane_wave(grid)
    np.testing.assert_allclose(
        poisson(cosine + 0.7, grid), 4 * np.pi / (g @ g) * cosine, atol=1e-12
    )


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_of_a_wave(cell):
    grid = Grid(np.zeros(3), cell, (12, 11, 14))
    cosine, sine, g = plane_wave(grid)
    expected = -g[:, None, None, None] * sine
    np.testing.assert_allclose(list(gradient(cosine, grid)), expected, atol=1e-12)
    np.testing.assert_allclose(divergence(expected, grid), -(g @ g) * cosine, atol=1e-11)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_of_noise_is_that_of_its_waves(cell):
    grid = Grid(np.zeros(3), cell, (9, 11, 7))  # no wave at the Nyquist frequency
    noise = np.random.default_rng(4).random(grid.shape)
    waves = np.fft.rfftn(noise)
    expected = [np.fft.irfftn(1j * g * waves, grid.shape, (0, 1, 2)) for g in wave_vectors(grid)]
    np.testing.assert_allclose(list(gradient(noise, grid)), expected, atol=1e-12)


def test_periodic_potential_is_the_ewald_sum_of_gaussians():
    """Madelung's constant of rock salt, from Gaussians that do not overlap: -1.747564594633."""
    length, b = 8.0, 9.0
    grid = Grid(np.zeros(3), length * np.eye(3), (80, 80, 80))
    rho = np.zeros(grid.shape)
    for x in range(2):
        for y in range(2):
            for z in range(2):
                r = grid.points() - np.array([x, y, z]) * length / 2
                r2 = ((r - length * np.round(r / length)) ** 2).sum(axis=-1)
                rho += (-1) ** (x + y + z) * (b / np.pi) ** 1.5 * np.exp(-b * r2)
    own = 2 * np.sqrt(b / np.pi)  # potential of a Gaussian in its own centre
    madelung = (poisson(rho, grid)[0, 0, 0] - own) * length / 2
    assert madelung == pytest.approx(-1.747564594633, abs=1e-9)
