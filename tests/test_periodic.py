"""Periodic images of points and vectors."""

import numpy as np
import pytest

from denser.fields.periodic import adjacent_images, images_near, nearest_image, wrapped
from denser.types.grid import Grid

CELLS = [np.diag([7.0, 8, 9]), np.array([[7.0, 0, 0], [2, 8, 0], [-1, 3, 9]])]


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(scale=20, size=(40, 3))


@pytest.mark.parametrize("cell", CELLS)
def test_images_differ_by_lattice_vectors(points, cell):
    origin = np.array([1.0, -2, 3])
    for moved in (wrapped(points, cell, origin), nearest_image(points, cell)):
        whole = (points - moved) @ np.linalg.inv(cell)
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    fraction = (wrapped(points, cell, origin) - origin) @ np.linalg.inv(cell)
    assert fraction.min() >= 0 and fraction.max() < 1
    assert np.abs(nearest_image(points, cell) @ np.linalg.inv(cell)).max() <= 0.5 + 1e-12


def test_the_nearest_image_is_the_shortest_in_an_orthorhombic_cell(points):
    cell = CELLS[0]
    near = nearest_image(points, cell)
    every = adjacent_images(near, cell).reshape(27, -1, 3)
    shortest = np.linalg.norm(every, axis=-1).min(axis=0)
    np.testing.assert_allclose(np.linalg.norm(near, axis=-1), shortest)


@pytest.mark.parametrize("cell", CELLS)
def test_images_near_a_box_are_all_within_reach(points, cell):
    grid = Grid([0.5, 1.0, -2.0], cell, (4, 4, 4))
    reach = np.where(np.arange(len(points)) % 2, 3.0, 11.0)
    found, owner = images_near(points, grid, reach)
    whole = (found - points[owner]) @ np.linalg.inv(cell)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    # every image whose ball of this radius meets the box is there
    home = wrapped(points, cell, grid.origin)
    corners = grid.origin + np.array(list(np.ndindex(2, 2, 2))) @ cell
    expected = 0
    for n in np.ndindex(7, 7, 7):
        images = home + (np.array(n) - 3) @ cell
        distance = np.linalg.norm(images[:, None] - corners, axis=-1).min(axis=1)
        for i in np.flatnonzero(distance < reach):
            expected += 1
            assert np.abs(found[owner == i] - images[i]).sum(axis=1).min() < 1e-9
    assert expected > len(points)
