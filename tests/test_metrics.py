"""Where errors sit, and what two densities of anyone have in common."""

import numpy as np
import pytest
from ase.build import molecule

import denser
from denser.atoms.radii import covalent_radius
from denser.atoms.sad import superposition
from denser.fields.metrics import compare, err_rho
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.evaluate.error_by_place import (
    SHELLS,
    error_around_elements,
    error_by_distance,
    squared_distances,
)


@pytest.fixture(scope="module")
def water():
    structure = Structure.of(molecule("H2O"))
    return superposition(structure, Grid.around(structure, 6.0, 0.3))


def box(lengths=(9.0, 10.0, 11.0), shape=(30, 32, 36), origin=(0.5, -1.0, 2.0)):
    return Grid(origin, np.diag(lengths), shape)


def test_distances_are_to_the_nearest_image():
    grid = box()
    positions = np.array([[0.6, -0.9, 2.1], [5.0, 4.0, 8.0], [9.4, 8.8, 12.9]])
    structure = Structure([8, 1, 1], positions)
    found = squared_distances(structure, grid)
    images = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T @ grid.cell
    points = grid.points()[::7, ::5, ::6]
    for z, atoms in ((8, positions[:1]), (1, positions[1:])):
        everywhere = (atoms[:, None] + images[None]).reshape(-1, 3)
        d2 = ((points[..., None, :] - everywhere) ** 2).sum(axis=-1).min(axis=-1)
        np.testing.assert_allclose(found[z][::7, ::5, ::6], d2, rtol=1e-5, atol=1e-5)


def test_an_error_in_one_sphere_is_seen_there_only(water):
    """Electrons moved within 0.4 bohr of one H: around H, in the innermost shell, nowhere else."""
    grid, structure = water.grid, water.structure
    distances = squared_distances(structure, grid)
    inside = ((grid.points() - structure.positions[1]) ** 2).sum(axis=-1) < 0.4**2
    assert inside.sum() > 3
    values = water.values.copy()
    values[inside] *= 1.5
    wrong = water.with_values(values)
    around = error_around_elements(wrong, water, distances)
    assert set(around) == {"H", "O"}
    assert around["O"] == 0.0
    radius = covalent_radius(1)
    in_sphere = np.zeros(grid.shape, dtype=bool)
    for position in structure.positions[1:]:
        in_sphere |= ((grid.points() - position) ** 2).sum(axis=-1) < radius**2
    expected = 0.5 * water.values[inside].sum() / water.values[in_sphere].sum()
    assert around["H"] == pytest.approx(expected, rel=1e-3)
    error, electrons = error_by_distance(wrong, water, distances)
    assert error[0] == pytest.approx(err_rho(wrong, water))
    assert not error[1:].any()
    assert electrons.sum() == pytest.approx(1.0)


def test_the_shells_add_up_to_err_rho_and_fill_as_the_volume_does(water):
    other = superposition(water.structure, water.grid, "gth-szv-1e-atrocious")
    distances = squared_distances(water.structure, water.grid)
    error, _ = error_by_distance(other, water, distances)
    assert error.sum() == pytest.approx(err_rho(other, water))
    assert error.shape == (len(SHELLS) - 1,)
    oxygen = Structure([8], water.structure.positions[:1])
    flat = Density(water.grid, np.ones(water.grid.shape), structure=oxygen, valence_charges=[6])
    _, volume = error_by_distance(flat, flat, squared_distances(oxygen, water.grid)) * 6
    edges = np.array(SHELLS[:-1]) / BOHR
    np.testing.assert_allclose(volume[:-1], np.diff(4 / 3 * np.pi * edges**3), rtol=0.06)
    assert volume.sum() == pytest.approx(water.grid.volume)


def test_grids_that_differ_are_told_apart(water):
    def on(grid):
        return Field(grid, np.zeros(grid.shape))

    box().require_same(box())
    with pytest.raises(InputError, match=r"grids differ.*box is the same.*number of nodes"):
        box().require_same(box(shape=(30, 32, 40)))
    with pytest.raises(InputError, match=r"shifted by \(-0.1000, 0.0000, 0.0000\) bohr"):
        box().require_same(box(origin=(0.6, -1.0, 2.0)))
    with pytest.raises(InputError, match=r"on the grid of the other"):
        box().require_same(box(lengths=(9.0, 10.0, 11.1)))
    with pytest.raises(InputError, match="holds no electrons"):
        err_rho(on(box()), on(box()))


def test_err_rho_of_a_reference_without_atoms_counts_its_electrons(water):
    field = Field(water.grid, water.values)
    assert err_rho(water.with_values(1.1 * water.values), field) == pytest.approx(0.1)


def test_compare_finds_size_place_and_dipole_of_a_difference(water):
    node = (12, 20, 9)
    values = water.values.copy()
    values[node] -= 0.25
    moved = water.with_values(values)
    found = denser.compare(moved, water)
    dv = water.grid.dv
    assert found.err_rho == pytest.approx(0.25 * dv / 8)
    assert found.electrons[1] - found.electrons[0] == pytest.approx(0.25 * dv)
    assert found.largest == pytest.approx(-0.25)
    np.testing.assert_allclose(found.where, water.grid.points()[node])
    np.testing.assert_allclose(found.dipoles[0], moved.dipole())
    assert found.notes == ()
    assert found.to_dict()["err_rho_percent"] == pytest.approx(100 * found.err_rho)


def test_compare_tells_of_atoms_and_electrons_that_do_not_fit(water):
    structure = water.structure

    def with_atoms(numbers, positions, charges=(6, 1, 1)):
        atoms = Structure(numbers, positions)
        return Density(water.grid, water.values, structure=atoms, valence_charges=charges)

    swapped = structure.positions[[0, 2, 1]]
    assert compare(with_atoms([8, 1, 1], swapped), water).notes == ()
    image = structure.positions + [[0, 0, 0], [0, 0, 0], water.grid.cell[2]]
    assert compare(with_atoms([8, 1, 1], image), water).notes == ()
    pushed = structure.positions + [[0, 0, 0], [0, 0, 0], [0.0, 0.1 / BOHR, 0.0]]
    (note,) = compare(with_atoms([8, 1, 1], pushed), water).notes
    assert "up to 0.100 angstrom away" in note
    (note,) = compare(with_atoms([9, 1, 1], structure.positions), water).notes
    assert note == "the atoms differ: A is H2F, B is H2O"
    all_electron = with_atoms([8, 1, 1], structure.positions, (8, 1, 1))
    found = compare(water, all_electron)
    assert found.err_rho == 0.0
    assert found.dipoles[1] is None
    assert (
        "integrates to 8.0000 electrons, but its atoms and their charges give 10"
        in (found.notes[0])
    )


def test_compare_takes_densities_only(water):
    potential = Field(water.grid, water.values, "hartree")
    with pytest.raises(InputError, match="second file has values in hartree"):
        compare(water, potential)
    broken = water.values.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="first file has values that are not finite"):
        compare(water.with_values(broken), water)
