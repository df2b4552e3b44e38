"""The local response that screens a step: its symmetries, its inverse, its derivative."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from denser import Grid, Structure, superposition
from denser.dft.local_response import FLOOR, RANGE, TOLERANCE, LocalResponse
from denser.types.units import BOHR

WATER = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]]) / BOHR


def structure(*places: float) -> Structure:
    """Waters at some x, bohr."""
    positions = np.concatenate([WATER + [x, 0, 0] for x in places])
    return Structure(np.array([8, 1, 1] * len(places)), positions)


@pytest.fixture(scope="module")
def water() -> LocalResponse:
    molecule = structure(0.0)
    grid = Grid.around(molecule, 5.0, 0.3)
    return LocalResponse(superposition(molecule, grid).values, grid)


def noise(grid: Grid, seed: int) -> np.ndarray:
    """A smooth random field."""
    field = np.random.default_rng(seed).normal(size=grid.shape)
    return gaussian_filter(field, 2.0, mode="wrap")


def test_smoothing_is_a_convolution_with_a_gaussian(water):
    field = noise(water.grid, 0)
    expected = gaussian_filter(field, RANGE / water.grid.spacing, mode="wrap", truncate=6.0)
    np.testing.assert_allclose(water.smooth(field), expected, atol=1e-5 * abs(field).max())
    assert water.smooth(np.ones(water.grid.shape)) == pytest.approx(1.0, abs=1e-12)


def test_chi_is_symmetric_and_not_positive_and_keeps_the_charge(water):
    u, v = noise(water.grid, 1), noise(water.grid, 2)
    assert np.vdot(u, water.chi(v)) == pytest.approx(np.vdot(v, water.chi(u)), rel=1e-10)
    assert np.vdot(v, water.chi(v)) < 0
    scale = abs(water.chi(v)).sum()
    assert abs(water.chi(v).sum()) < 1e-10 * scale
    assert abs(water.chi(np.ones(water.grid.shape))).sum() < 1e-10 * scale


def test_screening_is_the_inverse_of_one_less_chi_v(water):
    x = water.rho * noise(water.grid, 3)
    residual = x - water.chi(water.coulomb(x))
    wrong = water.screened(residual) - x
    norm = np.vdot(residual, water.coulomb(residual))
    assert np.vdot(wrong, water.coulomb(wrong)) < 4 * TOLERANCE**2 * norm
    assert water.screened(residual).sum() == pytest.approx(residual.sum(), abs=1e-10)
    v = noise(water.grid, 4)
    v -= v.mean()
    assert np.vdot(v, water.screened(residual)) == pytest.approx(
        np.vdot(water.screened_potential(v), residual), rel=5e-3
    )


def test_fast_waves_are_not_screened_and_slow_ones_are(water):
    x = water.grid.points()[..., 0]
    length = water.grid.cell[0, 0]
    lost = []
    for n in (1, 6, 24):
        wave = water.rho * np.sin(2 * np.pi * n * (x - water.grid.origin[0]) / length)
        lost.append(abs(water.screened(wave) - wave).sum() / abs(wave).sum())
    assert 0.25 < lost[0] < 0.8
    assert lost[0] > lost[1] > lost[2]
    assert lost[2] < 0.15


def test_chi_slope_is_the_slope(water):
    u, w = noise(water.grid, 5), noise(water.grid, 6)
    change = water.rho * noise(water.grid, 7)
    slope = np.vdot(water.chi_slope(u, w), change)
    small = 1e-4
    values = [
        np.vdot(u, LocalResponse(water.rho + s * change, water.grid).chi(w))
        for s in (small, -small)
    ]
    assert slope == pytest.approx((values[0] - values[1]) / (2 * small), rel=1e-6)


def test_molecules_apart_do_not_exchange_electrons():
    """What a residual of one molecule becomes does not depend on another 20 bohr away."""
    both = structure(-10.0, 10.0)
    grid = Grid.around(both, 6.0, 0.35)
    alone = structure(-10.0)
    rho = superposition(alone, grid).values
    residual = rho * noise(grid, 8)
    residual -= rho * residual.sum() / rho.sum()
    with_other = LocalResponse(superposition(both, grid).values, grid).screened(residual)
    here = LocalResponse(rho, grid).screened(residual)
    left = grid.points()[..., 0] < 0
    scale = abs(residual).sum() * grid.dv
    assert abs((with_other - here)[left]).sum() * grid.dv < 0.01 * scale
    # The dipole of the first polarises the second, which keeps its electrons.
    assert abs(with_other[~left].sum()) * grid.dv < 1e-3 * scale


def test_vacuum_does_not_answer(water):
    far = water.rho < 1e-9
    assert far.any()
    v = noise(water.grid, 9)
    assert abs(water.chi(v)[far]).max() < 1e-9 / np.sqrt(FLOOR) * abs(v).max()
