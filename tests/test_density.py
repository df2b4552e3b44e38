import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from denser import Density, Field, Grid, InputError, Structure, err_rho
from denser.atoms.sad import superposition
from denser.types.arrays import seal


def gaussian(grid: Grid, centre: np.ndarray, n: float, a: float = 1.3) -> np.ndarray:
    r2 = ((grid.points() - centre) ** 2).sum(axis=-1)
    return n * (a / np.pi) ** 1.5 * np.exp(-a * r2)


def test_integral_and_dipole_of_a_gaussian():
    grid = Grid([-8, -9, -7], np.diag([16.0, 18.0, 15.0]), (64, 72, 60))
    centre = np.array([0.3, -0.2, 0.5])
    structure = Structure([8], [[0.1, 0.1, 0.1]])
    rho = Density(grid, gaussian(grid, centre, 6.0), structure=structure, valence_charges=[6])
    assert rho.integrate() == pytest.approx(6.0, abs=1e-10)
    np.testing.assert_allclose(rho.dipole(), 6 * (structure.positions[0] - centre), atol=1e-9)


def test_dipole_moves_with_nothing(ethanol):
    """The dipole of a neutral molecule does not depend on where it stands."""
    moved = Structure(ethanol.numbers, ethanol.positions + [50.0, -20.0, 3.0])
    dipoles = []
    for s in (ethanol, moved):
        sad = superposition(s, Grid.around(s, 8.0, 0.3))
        tilted = sad.values * (1 + 0.1 * np.sin(sad.grid.points() - s.positions[0])[..., 0])
        dipoles.append(sad.with_values(tilted * 20 / tilted.sum() / sad.grid.dv).dipole())
    np.testing.assert_allclose(dipoles[0], dipoles[1], atol=2e-2)
    assert np.linalg.norm(dipoles[0]) > 0.1


def test_err_rho_is_the_papers(sad_density):
    scaled = sad_density.with_values(sad_density.values * 1.02)
    assert err_rho(scaled, sad_density) == pytest.approx(0.02)
    assert err_rho(sad_density, sad_density) == 0.0


def test_err_rho_needs_the_same_grid(ethanol, sad_density):
    other = superposition(ethanol, Grid.around(ethanol, padding=8.0, spacing=0.4))
    with pytest.raises(InputError, match="grids differ"):
        err_rho(other, sad_density)


def test_fields_check_their_shape(ethanol):
    grid = Grid([0, 0, 0], np.eye(3), (2, 3, 4))
    with pytest.raises(InputError, match=r"\(2, 3, 4\)"):
        Field(grid, np.zeros((4, 3, 2)))
    with pytest.raises(InputError, match="valence charges"):
        Density(grid, np.zeros((2, 3, 4)), structure=ethanol, valence_charges=[1, 2])
    with pytest.raises(TypeError, match="structure"):
        Density(grid, np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), replace]
)
def test_arrays_are_read_only(sad_density, copied):
    density = copied(sad_density)
    grid = density.grid
    for array in (density.values, density.valence_charges, grid.origin, grid.cell):
        with pytest.raises(ValueError, match="read-only"):
            array *= 2
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_values_are_copied_unless_nobody_can_write_them():
    grid = Grid(np.zeros(3), np.eye(3), (2, 2, 2))
    mine = np.zeros((2, 2, 2))
    field = Field(grid, mine)
    mine += 1
    assert field.values.sum() == 0
    view = mine.view()
    view.setflags(write=False)  # read-only, but not what it is a view of
    field = Field(grid, view)
    mine += 1
    assert field.values.sum() == 8
    flat = np.ones(8)
    field = Field(grid, seal(flat.reshape(2, 2, 2)))
    assert np.shares_memory(field.values, flat)
    with pytest.raises(ValueError, match="read-only"):
        flat += 1
    assert np.shares_memory(replace(field, unit="1").values, flat)
