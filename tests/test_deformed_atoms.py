"""Predictions that are known between the nodes: exact moments, values at points, the excess."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from denser.analysis.moments import dipole_record, moments
from denser.atoms.sad import RECIPES, atomic_density, gaussians, superposition, valence_charges
from denser.fields.metrics import err_rho
from denser.fields.moments import grid_moments, shifted
from denser.io import read
from denser.model.gaussian_density import deformed_atom, reach
from denser.model.graph import Graph
from denser.model.harmonics import harmonic_terms
from denser.model.molecular_electrons import electrons_of_molecules
from denser.model.predictor import Predictor, predict
from denser.types.density import Density, Field
from denser.types.errors import InputError
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


def test_at_and_the_nodes_of_another_grid(predictor, water, fine):
    """Values of a prediction at points and on any nodes are those of its own grid."""
    rho = fine.density
    grid = Grid(rho.grid.origin + [1.0, 2.0, 3.0], np.diag([9.0, 8.0, 7.5]), (9, 11, 12))
    on = predict(water, grid=grid)
    assert on.grid is grid and on.n_electrons == 8
    np.testing.assert_allclose(on.values, rho.at(grid.points()), atol=2e-6)
    np.testing.assert_allclose(on.dipole(), rho.dipole(), atol=1e-5)
    skewed = Grid([-5.0, -4.0, -4.5], np.diag([9.0] * 3) + np.eye(3, k=1), (9, 10, 11))
    oblique = predict(water, grid=skewed)
    np.testing.assert_allclose(oblique.values, rho.at(skewed.points()), atol=2e-6)
    same = predict(water, grid=rho)
    assert err_rho(same, rho) < 2e-6
    splined = rho.with_values(rho.values).at(grid.points())
    away = np.linalg.norm(grid.points() - rho.structure.positions[0], axis=-1) > 1.0
    np.testing.assert_allclose(splined[away], on.values[away], atol=2e-4)
    with pytest.raises(InputError, match="outside the box of the grid"):
        rho.with_values(rho.values).at(rho.grid.origin - 1)
    with pytest.raises(InputError, match="three finite coordinates"):
        rho.at([1.0, 2.0])


def test_a_box_that_cuts_the_molecule_holds_what_is_in_it(water, fine):
    """No tail comes back in at the opposite face."""
    centre = fine.density.structure.positions.mean(axis=0)
    grid = Grid(centre - 2.5, np.diag([5.0, 5.0, 5.0]), (30, 30, 30))
    on = predict(water, grid=grid)
    np.testing.assert_allclose(on.values, fine.density.at(grid.points()), atol=2e-6)
    assert 6.0 < on.integrate() < 7.99


def test_grids_that_cannot_be_predicted_on(small_model, water):
    far = Grid([30.0, 0.0, 0.0], np.diag([9.0, 9.0, 9.0]), (9, 9, 9))
    good = Grid([-5.0] * 3, np.diag([10.0] * 3), (9, 9, 9))
    cell = water.copy()
    cell.set_cell([4.0, 4.4, 5.0])
    cell.pbc = True
    for atoms, options, message in (
        (water, {"grid": far}, "outside the box of the given grid"),
        (water, {"grid": good, "spacing": 0.2}, "spacing cannot be combined"),
        (water, {"grid": good, "box": "paper"}, "box cannot be combined"),
        (water, {"grid": good, "model": small_model}, "its own grid only"),
        (water, {"grid": "x.cube"}, "denser.read gives the field"),
        (cell, {"grid": good}, "not the cell of the structure"),
    ):
        with pytest.raises(InputError, match=message):
            predict(atoms, **options)


def test_the_reference_of_the_command_line(tmp_path, water, fine):
    from denser.cli.options import prediction_options

    coarse = fine.density.grid.coarsen(8)
    values = fine.density.at(coarse.points())
    Density(
        coarse, values, structure=fine.density.structure,
        valence_charges=fine.density.valence_charges,
    ).write(tmp_path / "ref.cube")  # fmt: skip
    options = prediction_options(None, "default", grid=tmp_path / "ref.cube")
    rho = Predictor().predict(water, options=options).density
    assert rho.grid.same_as(coarse)
    json.dumps(options.plain())
    np.testing.assert_allclose((rho - read(tmp_path / "ref.cube")).values, 0, atol=1e-4)


def test_differences_of_fields(fine):
    rho = fine.density
    half = rho.with_values(rho.values / 2)
    difference = rho - half
    assert type(difference) is Field and difference.unit == rho.unit
    assert difference.integrate() == pytest.approx(4, abs=1e-5)
    with pytest.raises(InputError, match=r"the grids differ.*--grid FILE"):
        rho - Field(rho.grid.coarsen(8), rho.values[::8, ::8, ::8])
    with pytest.raises(InputError, match="have no meaning"):
        rho - Field(rho.grid, rho.values, "hartree/e")
    with pytest.raises(TypeError):
        rho - 1.0


def test_values_at_points_of_a_cell(predictor, water):
    atoms = water.copy()
    atoms.set_cell([4.0, 4.4, 5.0])
    atoms.pbc = True
    rho = predictor.predict(atoms, spacing=0.15).density
    nodes = np.argwhere(np.ones([3, 3, 3])) * (np.array(rho.grid.shape) // 3)
    points = rho.grid.origin + (nodes / rho.grid.shape) @ rho.grid.cell
    expected = rho.values[tuple(nodes.T)]
    for shift in ([0, 0, 0], [1, -2, 3]):
        found = rho.at(points + shift @ rho.grid.cell)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)
        splined = rho.with_values(rho.values).at(points + shift @ rho.grid.cell)
        np.testing.assert_allclose(splined, expected, rtol=1e-5, atol=2e-6)
    moved = Grid(rho.grid.origin + 1.0, rho.grid.cell, (5, 6, 8))
    on = predict(atoms, grid=moved)
    np.testing.assert_allclose(on.values, rho.at(moved.points()), atol=2e-6)


def test_two_molecules_have_a_factor_each(predictor, water):
    """The dipole of two distant molecules is the sum of both."""
    other = molecule("NH3")
    other.translate([9.0, 0.5, 0.0])
    both = predictor.predict(water + other, spacing=0.4).density
    parts = [predictor.predict(x, spacing=0.4).density.dipole() for x in (water, other)]
    np.testing.assert_allclose(both.dipole(), sum(parts), atol=5e-4)


@pytest.mark.parametrize(("ion", "charge"), [("Na", 1), ("Cl", -1), ("Li", 1)])
def test_a_distant_ion_keeps_its_charge(predictor, water, ion, charge):
    """The water beside it is that without it, on the nodes and between them."""
    both = water + Atoms(ion, [[0.3, 0.2, 10.0]])
    rho = predictor.predict(both, charge, spacing=0.17)
    assert abs(rho.excess) < 0.1
    points = Structure.of(water).positions.mean(axis=0) + np.random.default_rng(0).normal(
        size=(200, 3)
    )
    alone = predictor.predict(water, spacing=0.4).density
    np.testing.assert_allclose(rho.density.at(points), alone.at(points), atol=3e-3)
    nodes = rho.density.grid.points()[::5, ::5, ::5]
    np.testing.assert_allclose(rho.density.values[::5, ::5, ::5], rho.density.at(nodes), 3e-3, 2e-4)
    near_ion = rho.density.grid.points()[..., 2] > 5.0 / BOHR
    found = rho.density.values[near_ion].sum() * rho.density.grid.dv
    whole = {"Na": 8, "Cl": 8, "Li": 2}[ion]
    assert found == pytest.approx(whole, abs=0.02)


def test_electrons_of_molecules(predictor, water):
    network = predictor.network

    def found(atoms, charge=0):
        whole = Structure.of(atoms)
        odd = int(valence_charges(whole).sum() - charge) % 2
        structure = Structure(whole.numbers, whole.positions, charge=charge, spin=odd)
        electrons = Graph.of(structure, None, network.config).electrons
        return electrons_of_molecules(structure, electrons)

    far = Atoms("Cl", [[0, 0, 9.0]])
    np.testing.assert_allclose(found(water), [6, 1, 1])
    np.testing.assert_allclose(found(water, 1), [5.25, 0.875, 0.875])
    np.testing.assert_allclose(found(water + far, -1), [6, 1, 1, 8])
    other = water.copy()
    other.translate([0, 0, 9.0])
    np.testing.assert_allclose(found(water + other, 1), [5.625, 0.9375, 0.9375] * 2)
    both = water + far + Atoms("Na", [[0, 9.0, 0]])
    np.testing.assert_allclose(found(both), [6, 1, 1, 8, 8])


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


def test_the_fast_density_of_an_atom_is_that_of_its_harmonics():
    """Against the sum over harmonics in double precision; rounding is relative to the terms."""
    rng = np.random.default_rng(3)
    exponents = np.array([0.16, 0.32, 0.9, 5.12])
    degree = np.repeat(np.arange(6), 2 * np.arange(6) + 1)
    coefficients = rng.normal(size=(4, 36)) * 0.05 / 3.0**degree
    u = rng.normal(size=(3, 500))
    x = u / np.linalg.norm(u, axis=0) * np.linspace(0, 16, 500)
    found = deformed_atom(x, 8, "gth-szv-1e", coefficients, exponents)
    r2 = (x * x).sum(axis=0)
    harmonics = np.stack(harmonic_terms(*torch.as_tensor(x), 5))
    sizes = coefficients.T @ np.exp(-exponents[:, None] * r2)
    expected = (sizes * harmonics).sum(axis=0) + atomic_density(8, np.sqrt(r2))
    a, s, p = (values[:, None] for values in gaussians(8, "gth-szv-1e"))
    scale = np.abs(sizes * harmonics).sum(axis=0) + 1e-8
    scale += ((np.abs(s) + np.abs(p) * r2) * np.exp(-a * r2)).sum(axis=0)
    inner = r2 < 11**2  # farther out, Gaussians are left out
    assert np.abs((found - expected) / scale)[inner].max() < 3e-6
    assert np.abs(found - expected)[~inner].max() < 1e-8
    end = reach(8, "gth-szv-1e", coefficients, exponents)
    assert np.abs(expected[r2 > end**2]).max() < 1e-8
