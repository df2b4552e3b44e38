import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denser import Grid, InputError, Structure
from denser.types.recipe import PAPER_SPACING
from denser.types.units import BOHR


def test_nodes_exclude_the_end_point():
    grid = Grid([1.0, 2.0, 3.0], np.diag([4.0, 5.0, 6.0]), (4, 5, 3))
    points = grid.points()
    np.testing.assert_allclose(points[0, 0, 0], [1, 2, 3])
    np.testing.assert_allclose(points[-1, -1, -1], [4, 6, 7])
    for i in range(3):
        np.testing.assert_allclose(np.unique(points[..., i]), grid.axis(i))
    assert grid.dv == pytest.approx(2.0)


@given(
    st.floats(2.0, 8.0),
    st.sampled_from([2, 4, 8]),
    st.lists(st.tuples(*[st.floats(-9, 9)] * 3), min_size=1, max_size=4, unique=True),
)
def test_box_around_atoms(padding, multiple, positions):
    structure = Structure.__new__(Structure)  # skip the check of distances
    object.__setattr__(structure, "numbers", np.ones(len(positions), int))
    object.__setattr__(structure, "positions", np.array(positions))
    grid = Grid.around(structure, padding, 0.3, multiple)
    assert all(n % multiple == 0 for n in grid.shape)
    np.testing.assert_allclose(grid.spacing, 0.3)
    low, high = structure.positions.min(0), structure.positions.max(0)
    assert (low - grid.origin >= padding - 1e-6).all()
    assert (grid.origin + np.diag(grid.cell) - high >= padding - 1e-6).all()
    # no larger than needed
    assert (np.diag(grid.cell) < high - low + 2 * padding + 0.3 * multiple + 1e-6).all()


def test_paper_box_is_the_protocols():
    # extent 1.5 x 0 x 0.7 angstrom: (2h) ceil((extent + 4)/(2h)), mesh twice the count
    structure = Structure([8, 1], np.array([[0, 0, 0], [1.5, 0, 0.7]]) / BOHR)
    grid = Grid.paper(structure)
    h = PAPER_SPACING * BOHR
    counts = [int(np.ceil((extent + 4) / (2 * h))) for extent in (1.5, 0.0, 0.7)]
    assert grid.shape == tuple(2 * n for n in counts)
    lengths = np.array([2 * h * n for n in counts]) - 1e-4
    np.testing.assert_allclose(np.diag(grid.cell) * BOHR, lengths)
    centre = grid.origin + np.diag(grid.cell) / 2
    np.testing.assert_allclose(centre, structure.positions.mean(axis=0))


def test_periodic_grid_fills_the_cell():
    cell = np.diag([10.0, 12.0, 14.0])
    grid = Grid.periodic(Structure([2], [[1, 1, 1]], cell=cell), 0.2, 8)
    np.testing.assert_allclose(grid.cell, cell)
    assert grid.shape == (48, 64, 72)
    oblique = np.array([[10.0, 0, 0], [-6.0, 10.4, 0], [0, 0, 14.0]])
    assert Grid.periodic(Structure([2], [[1, 1, 1]], cell=oblique), 0.2, 8).shape == (48, 64, 72)


def test_coarsen_keeps_every_second_node():
    grid = Grid([0, 0, 0], np.eye(3) * 6, (6, 8, 10))
    np.testing.assert_allclose(grid.coarsen(2).points(), grid.points()[::2, ::2, ::2])
    with pytest.raises(InputError, match=r"not divisible by 4.*multiple_of=4"):
        grid.coarsen(4)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_bad_lengths(value):
    structure = Structure([2], [[0, 0, 0]])
    with pytest.raises(InputError, match="positive length"):
        Grid.around(structure, padding=value)
    with pytest.raises(InputError, match="positive length"):
        Grid.around(structure, spacing=value)


def test_bad_grids():
    with pytest.raises(InputError, match="at least one node"):
        Grid([0, 0, 0], np.eye(3), (4, 0, 4))
    with pytest.raises(InputError, match="no volume"):
        Grid([0, 0, 0], np.zeros((3, 3)), (4, 4, 4))
