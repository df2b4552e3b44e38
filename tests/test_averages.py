"""Coarse grids keep charge and dipole; averages over planes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denser.analysis.averages import coarsen, planar_average
from denser.atoms.sad import superposition
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

SKEWED = np.array([[6.0, 0.3, -0.2], [0.5, 5.0, 0.4], [1.0, -0.6, 7.0]])


def wave(n, mode, phase=0.3):
    return np.cos(2 * np.pi * mode * np.arange(n) / n + phase)


@given(factor=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_charge_is_kept_for_any_field(factor, seed):
    values = np.random.default_rng(seed).random((12, 24, 12))
    field = Field(Grid(np.zeros(3), SKEWED, values.shape), values)
    coarse = coarsen(field, factor)
    assert coarse.grid.same_as(field.grid.coarsen(factor))
    assert coarse.integrate() == pytest.approx(field.integrate(), rel=1e-12)
    assert coarse.values.min() >= 0


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_dipole_is_kept(factor, ethanol):
    fine = superposition(ethanol, Grid.around(ethanol, 9.0, spacing=0.3, multiple_of=12))
    coarse = coarsen(fine, factor)
    assert isinstance(coarse, Density)
    assert coarse.structure is ethanol
    np.testing.assert_allclose(coarse.dipole(), fine.dipole(), atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_the_spread_of_a_smooth_density_grows_as_said(factor):
    grid = Grid([-24.0, -24.0, -24.0], 48 * np.eye(3), (48, 48, 48))
    r2 = ((grid.points() - [0.2, -0.1, 0.4]) ** 2).sum(axis=-1)
    fine = Field(grid, np.exp(-0.04 * r2))

    def spread(field):
        moments = np.einsum("ijk,ijkx->x", field.values, field.grid.points() ** 2)
        return moments * field.grid.dv

    growth = fine.integrate() * (factor**2 - 1) / 6
    np.testing.assert_allclose(spread(coarsen(fine, factor)) - spread(fine), growth, rtol=1e-4)


def test_one_node_is_shared_by_its_neighbours():
    values = np.zeros((4, 4, 4))
    values[1, 0, 2] = 8.0
    coarse = coarsen(Field(Grid(np.zeros(3), np.eye(3), (4, 4, 4)), values), 2)
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 1] = expected[1, 0, 1] = 0.5
    np.testing.assert_allclose(coarse.values, expected)


@pytest.mark.parametrize("factor", [0, 2.5, 5])
def test_factors_that_do_not_fit(sad_density, factor):
    with pytest.raises(InputError, match=r"factor|divisible"):
        coarsen(sad_density, factor)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planar_average_of_a_wave(axis):
    shape = (12, 10, 16)
    n = shape[axis]
    values = np.random.default_rng(1).normal(size=shape)
    values -= values.mean(axis=tuple(i for i in range(3) if i != axis), keepdims=True)
    values += np.moveaxis(wave(n, 2)[:, None, None], 0, axis)
    grid = Grid([1.0, 2.0, 3.0], SKEWED, shape)
    found = planar_average(Field(grid, values, "hartree/e"), "xyz"[axis])
    np.testing.assert_allclose(found.values, wave(n, 2), atol=1e-12)
    # Heights over the plane of the other two vectors, from all nodes of each plane.
    normal = np.linalg.inv(grid.cell)[:, axis]
    normal /= np.linalg.norm(normal)
    heights = np.moveaxis(grid.points() @ normal, axis, 0).reshape(n, -1)
    np.testing.assert_allclose(heights, np.tile(found.coordinate[:, None], heights.shape[1]))


def test_the_integral_along_the_axis_counts_electrons(sad_density):
    found = planar_average(sad_density, 2)
    area = sad_density.grid.cell[0, 0] * sad_density.grid.cell[1, 1]
    height = sad_density.grid.spacing[2]
    assert found.values.sum() * area * height == pytest.approx(sad_density.n_electrons)


def test_output(sad_density):
    found = planar_average(sad_density, "y")
    data = json.loads(json.dumps(found.to_dict()))
    assert data["axis"] == "y"
    np.testing.assert_allclose(data["coordinate_angstrom"], sad_density.grid.axis(1) * BOHR)
    assert "planar average along y" in found.lines()[0]


def test_bad_input(sad_density):
    with pytest.raises(InputError, match="axis"):
        planar_average(sad_density, "w")


def test_left_handed_boxes():
    values = wave(8, 1)[:, None, None] * np.ones((8, 2, 2))
    cell = np.diag([4.0, 5.0, 6.0])[[0, 2, 1]]
    found = planar_average(Field(Grid(np.zeros(3), cell, values.shape), values), 0)
    np.testing.assert_allclose(found.coordinate, np.arange(8) * 0.5)
