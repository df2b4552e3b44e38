"""Predictions that are known between the nodes: exact moments, values at points, the excess."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from denser.analysis.moments import dipole_record, moments
from denser.atoms.sad import RECIPES, gaussians, superposition
from denser.fields.moments import grid_moments, shifted
from denser.model.predictor import Predictor
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE


@pytest.fixture(scope="module")
def predictor():
    return Predictor()


@pytest.fixture(scope="module")
def water():
    atoms = molecule("H2O")
    atoms.rotate(40, (1, 2, 3))
    return atoms


@pytest.fixture(scope="module")
def fine(predictor, water):
    return predictor.predict(water)


def test_exact_moments_are_those_of_a_fine_grid(fine):
    rho = fine.density
    summed = rho.with_values(rho.values)
    assert rho.continuous is not None and summed.continuous is None
    np.testing.assert_allclose(rho.dipole() * DEBYE, summed.dipole() * DEBYE, atol=1e-4)
    exact, grid = moments(rho), moments(summed)
    assert exact.charge == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(exact.dipole * DEBYE, grid.dipole * DEBYE, atol=1e-4)
    np.testing.assert_allclose(exact.quadrupole, grid.quadrupole, atol=2e-4)
    np.testing.assert_allclose(exact.octupole, grid.octupole, atol=3e-3)
    assert exact.electronic_extent == pytest.approx(grid.electronic_extent, rel=1e-5)


@pytest.mark.parametrize("spacing", [0.2, 0.4, 0.5])
def test_they_do_not_depend_on_the_spacing(predictor, water, fine, spacing):
    coarse = predictor.predict(water, spacing=spacing)
    rho = coarse.density
    np.testing.assert_allclose(rho.dipole() * DEBYE, fine.density.dipole() * DEBYE, atol=1e-4)
    np.testing.assert_allclose(moments(rho).quadrupole, moments(fine.density).quadrupole, atol=1e-3)
    assert coarse.excess == pytest.approx(fine.excess, abs=2e-6)
    assert dipole_record(rho)["dipole_from"] == "Gaussians"
    if spacing == 0.5:  # the sum over the nodes is wrong: what was printed
        assert np.abs(rho.with_values(rho.values).dipole() - rho.dipole()).max() * DEBYE > 0.01


@pytest.mark.parametrize("charge", [0, -2])
def test_they_move_and_turn_with_the_molecule(predictor, water, charge):
    def dipole(atoms):
        return predictor.predict(atoms, charge=charge, spacing=0.4).density.dipole()

    moved = water.copy()
    moved.translate([1.234, -5.1, 0.77])
    np.testing.assert_allclose(dipole(moved), dipole(water), atol=2e-5)
    turned = water.copy()
    turned.rotate(90, "z")
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    # the network itself is equivariant but for a small remainder
    np.testing.assert_allclose(dipole(turned), quarter @ dipole(water), atol=5e-3)


def test_the_excess_is_that_of_the_nodes(predictor, fine):
    raw = predictor.raw(fine.sad)
    assert fine.excess == pytest.approx(predictor.normalised(raw, fine.sad)[1], abs=5e-6)


def test_values_at_points(fine):
    """At the nodes those of the grid; beyond the box the tail; between nodes no interpolation."""
    rho = fine.density
    nodes = np.stack(np.meshgrid(*[np.arange(0, n, 5) for n in rho.grid.shape], indexing="ij"), -1)
    points = rho.grid.origin + (nodes / rho.grid.shape) @ rho.grid.cell
    expected = rho.values[tuple(np.moveaxis(nodes, -1, 0))]
    found = rho.continuous.at(points.reshape(-1, 3)).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    far = rho.structure.positions[:1] + [[0.0, 0.0, 12.0 / BOHR]]
    assert 0 <= rho.continuous.at(far)[0] < 1e-8


def test_values_at_points_of_a_cell(predictor, water):
    atoms = water.copy()
    atoms.set_cell([4.0, 4.4, 5.0])
    atoms.pbc = True
    rho = predictor.predict(atoms).density
    nodes = np.argwhere(np.ones([4, 4, 4])) * (np.array(rho.grid.shape) // 4)
    points = rho.grid.origin + (nodes / rho.grid.shape) @ rho.grid.cell
    expected = rho.values[tuple(nodes.T)]
    for shift in ([0, 0, 0], [1, -2, 3]):
        found = rho.continuous.at(points + shift @ rho.grid.cell)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_two_molecules_have_a_factor_each(predictor, water):
    """The dipole of two distant molecules is the sum of both."""
    other = molecule("NH3")
    other.translate([9.0, 0.5, 0.0])
    both = predictor.predict(water + other, spacing=0.4).density
    parts = [predictor.predict(x, spacing=0.4).density.dipole() for x in (water, other)]
    np.testing.assert_allclose(both.dipole(), sum(parts), atol=5e-4)


def test_the_paper_box_and_refined_densities_are_left_to_the_grid(predictor, water):
    assert predictor.predict(water, box="paper", spacing=0.4).density.continuous is None
    rho = predictor.predict(water, spacing=0.4).density
    assert replace(rho, values=rho.values * 2).continuous is None
    copy = pickle.loads(pickle.dumps(rho))
    np.testing.assert_array_equal(copy.dipole(), rho.dipole())


def test_moments_of_superposed_atoms(fine):
    """Free atoms by hand: no first moments, <r^2> of each Gaussian."""
    atoms = fine.density.continuous
    bare = replace(
        atoms,
        coefficients=atoms.coefficients * 0,
        clipped=(0.0, *(x * 0 for x in atoms.clipped[1:])),
    )
    bare = bare.scaled(fine.density.valence_charges, 8.0)[0]
    structure = fine.density.structure
    n, first, second, _ = bare.moments(structure.positions[0])
    assert n == pytest.approx(8, abs=1e-12)
    x = structure.positions - structure.positions[0]
    np.testing.assert_allclose(first, fine.density.valence_charges @ x, atol=1e-5)
    square = sum(
        ((np.pi / a) ** 1.5 * (1.5 * s / a + 3.75 * p / a**2)).sum()
        for a, s, p in (gaussians(int(z), RECIPES[0]) for z in structure.numbers)
    )
    expected = square + fine.density.valence_charges @ (x**2).sum(axis=1)
    assert np.trace(second) == pytest.approx(expected, rel=1e-5)


def test_shifted_moments():
    rng = np.random.default_rng(2)
    grid = Grid(np.zeros(3), np.diag([1.0, 1.2, 0.9]), (4, 5, 6))
    values, by = rng.normal(size=grid.shape), np.array([0.3, -1.0, 2.0])

    def about(origin):
        fractions = (np.asarray(origin) - grid.origin) @ np.linalg.inv(grid.cell)
        nodes = [np.arange(n) / n - f for n, f in zip(grid.shape, fractions, strict=True)]
        return grid_moments(values, nodes, grid.cell, grid.dv)

    found = shifted([np.asarray(m)[None] for m in about(by)], by[None])
    for mine, expected in zip(found, about([0, 0, 0]), strict=True):
        np.testing.assert_allclose(mine[0], expected, atol=1e-10)


def test_networks_from_image_to_image_have_none(small_model, water):
    rho = Predictor(small_model).predict(water, padding=2.5).density
    assert rho.continuous is None
    assert dipole_record(rho)["dipole_from"] == "grid"


def test_a_prediction_is_that_of_the_network_alone(predictor, water):
    structure = Structure.of(water)
    sad = superposition(structure, Grid.around(structure, spacing=0.6))
    rho = predictor.density(sad)
    expected = predictor.normalised(predictor.raw(sad), sad)[0]
    np.testing.assert_array_equal(rho.values, expected.values)
