"""Bader's basins."""

import json
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from denser.analysis.charges.bader import _fraction, bader
from denser.analysis.charges.weight_method import voronoi_faces
from denser.analysis.continuous import ContinuousDensity
from denser.analysis.topology.critical_points import critical_points
from denser.analysis.topology.interatomic_surfaces import interatomic_surfaces
from denser.atoms.free_atoms import free_atom
from denser.atoms.sad import valence_charges
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

REFERENCE = Path(__file__).parent / "reference"
BADER = json.loads((REFERENCE / "bader.json").read_text())


def isolated(name, spacing=0.1571, shift=(0.0, 0.0, 0.0)):
    """Valence density of a label's orbitals around the isolated molecule."""
    label = read_label(REFERENCE / "labels" / f"{name}.npz")
    structure = Structure(label.structure.numbers, label.structure.positions)
    grid = Grid.around(structure, padding=6.0, spacing=spacing)
    grid = Grid(grid.origin + np.array(shift) * spacing, grid.cell, grid.shape)
    values = density_on_grid(
        structure.numbers, structure.positions, label.mo_coeff, grid, dtype=torch.float64
    ).numpy()
    return Density(grid, values, structure=structure, valence_charges=valence_charges(structure))


@cache
def basins(name):
    return bader(isolated(name))


@pytest.fixture(scope="module")
def water():
    return isolated("H2O"), basins("H2O")


@pytest.mark.parametrize("name", ["H2O", "H2CO"])
def test_agrees_with_quadrature_along_gradient_paths(name):
    """An independent program on the analytic density; see `make_bader.py`."""
    expected = BADER[f"{name} completed"]
    found = basins(name)
    np.testing.assert_allclose(found.electrons, expected["electrons"], atol=0.003)
    np.testing.assert_allclose(found.volumes, expected["volumes_bohr3"], rtol=0.01)
    assert np.abs(found.laplacians).max() < 0.04


def test_charges_are_those_of_an_all_electron_calculation(water):
    """PBE/cc-pVTZ with all electrons, integrated independently."""
    expected = BADER["H2O all_electron"]
    np.testing.assert_allclose(
        water[1].charges[1:], 1 - np.array(expected["electrons"][1:]), atol=0.02
    )


def test_all_electrons_are_in_a_basin(water):
    density, found = water
    cores = (density.structure.numbers - density.valence_charges).sum()
    total = found.electrons.sum() + found.vacuum_electrons
    assert total == pytest.approx(density.integrate() + cores, abs=2e-4)
    assert 0 < found.vacuum_electrons < 1e-3


def test_moments_add_up_to_the_dipole(water):
    """mu = sum q_a R_a + sum mu_a."""
    density, found = water
    total = found.charges @ density.structure.positions + found.dipoles.sum(axis=0)
    expected = density.dipole()
    origin = density.structure.nuclear_charge_centre
    # both about the same point, since the orbitals hold not quite eight electrons
    total = total - found.charges.sum() * origin
    np.testing.assert_allclose(total, expected, atol=2e-3)


def test_equal_atoms_are_equal(water):
    _, found = water
    assert found.charges[1] == pytest.approx(found.charges[2], abs=1e-3)
    assert found.volumes[1] == pytest.approx(found.volumes[2], rel=2e-3)
    np.testing.assert_allclose(np.trace(found.quadrupoles, axis1=1, axis2=2), 0, atol=1e-10)


@pytest.mark.parametrize(("spacing", "shift"), [(0.1571, (0.5, 0.3, 0.7)), (0.2, (0.0, 0.0, 0.0))])
def test_charges_do_not_depend_on_the_grid(water, spacing, shift):
    moved = bader(isolated("H2O", spacing, shift))
    np.testing.assert_allclose(moved.charges, water[1].charges, atol=0.006)


def test_a_coarse_grid_is_refined():
    """At 0.166 angstrom hydrogen's maximum falls between the nodes.

    Such a grid does not resolve oxygen's valence shell, and holds 0.004 electrons less.
    """
    coarse, fine = bader(isolated("H2CO", 0.3142)), basins("H2CO")
    np.testing.assert_allclose(coarse.charges, fine.charges, atol=0.01)


def atoms_on_grid(structure, grid, extra=0.0):
    values = np.zeros(grid.shape) + extra
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        r = np.linalg.norm(grid.points() - position, axis=-1)
        values += free_atom(int(z)).pseudo(r)
    return Density(grid, values, structure=structure, valence_charges=valence_charges(structure))


@pytest.mark.parametrize("offset", [0.0, 0.4])
def test_a_plane_of_symmetry_divides_equal_atoms(offset):
    """Wherever it lies among the nodes, and askew."""
    axis = np.array([1.0, 0.6, 0.3]) / np.linalg.norm([1.0, 0.6, 0.3])
    structure = Structure([6, 6], [-1.5 * axis, 1.5 * axis])
    grid = Grid.around(structure, padding=6.0, spacing=0.22)
    grid = Grid(grid.origin + offset * 0.22, grid.cell, grid.shape)
    found = bader(atoms_on_grid(structure, grid))
    assert found.charges[0] == pytest.approx(found.charges[1], abs=1e-3)
    assert found.volumes[0] == pytest.approx(found.volumes[1], rel=1e-3)
    np.testing.assert_allclose(found.dipoles[0], -found.dipoles[1], atol=2e-3)


def test_non_nuclear_attractors_have_their_own_basin():
    structure = Structure([1, 1], [[-6.0, 0.1, 0.0], [6.0, 0.0, 0.1]])
    grid = Grid.around(structure, padding=5.0, spacing=0.25)
    bump = 0.05 * np.exp(-(grid.points() ** 2).sum(axis=-1))
    found = bader(atoms_on_grid(structure, grid, bump))
    assert len(found.attractor_electrons) == 1
    np.testing.assert_allclose(found.attractor_positions[0], 0, atol=0.02)
    assert found.attractor_electrons[0] == pytest.approx(0.05 * np.pi**1.5, abs=0.01)
    assert "non-nuclear" in found.lines()[-1]
    assert found.basins.values.max() == 2


def test_a_periodic_box_may_be_rolled():
    label = read_label(REFERENCE / "labels" / "H2O.npz")
    structure = label.structure
    values = density_on_grid(structure.numbers, structure.positions, label.mo_coeff, label.grid)
    charges = valence_charges(structure)
    plain = Density(label.grid, values.numpy(), structure=structure, valence_charges=charges)
    steps = (25, 30, 20)
    moved = Structure(
        structure.numbers,
        structure.positions + (np.array(steps) / label.grid.shape) @ label.grid.cell,
        cell=structure.cell,
    )
    rolled = Density(
        label.grid,
        np.roll(values.numpy(), steps, (0, 1, 2)),
        structure=moved,
        valence_charges=charges,
    )
    one, other = bader(plain), bader(rolled)
    np.testing.assert_allclose(one.charges, other.charges, atol=2e-4)
    np.testing.assert_allclose(one.dipoles, other.dipoles, atol=1e-3)


def test_triclinic_crystal():
    """Two sheets of carbon and nitrogen: inversion makes equal atoms equal."""
    cell = np.array([[5.2, 0.0, 0.0], [0.9, 5.6, 0.0], [-0.5, 0.8, 6.0]])
    centre = np.array([0.3, 0.2, 0.1])
    half = np.array([1.1, 0.7, 0.2])
    structure = Structure(
        [6, 6, 7], [centre - half, centre + half, centre + cell.sum(axis=0) / 2], cell=cell
    )
    grid = Grid(np.zeros(3), cell, (26, 28, 30))
    values = np.zeros(grid.shape)
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        for shift in np.array(list(np.ndindex(5, 5, 5))) - 2:
            distance = np.linalg.norm(grid.points() - position - shift @ cell, axis=-1)
            near = distance < 9
            values[near] += free_atom(int(z)).pseudo(distance[near])
    charges = valence_charges(structure)
    found = bader(Density(grid, values, structure=structure, valence_charges=charges))
    assert found.charges[0] == pytest.approx(found.charges[1], abs=0.01)
    assert found.volumes.sum() == pytest.approx(grid.volume, rel=1e-6)
    assert found.vacuum_electrons == 0
    excess = values.sum() * grid.dv - charges.sum()  # tails beyond the images
    assert found.charges.sum() == pytest.approx(-excess, abs=1e-3)


def test_surfaces_have_no_flux():
    field = ContinuousDensity(isolated("H2CO"))
    surfaces = interatomic_surfaces(field, critical_points(field))
    assert len(surfaces.points) > 2000
    assert {tuple(pair) for pair in np.sort(surfaces.atoms).tolist()} == {(0, 1), (1, 2), (1, 3)}
    rho, gradient = field.evaluate(surfaces.points, 1)
    flux = np.abs((gradient * surfaces.normals).sum(axis=1)) / np.linalg.norm(gradient, axis=1)
    assert np.quantile(flux, 0.99) < 0.02
    assert rho.min() > 1e-4
    # a step along the normal leads to the second basin's side, from which its nucleus is nearer
    ahead = surfaces.points + 0.2 * surfaces.normals
    behind = surfaces.points - 0.2 * surfaces.normals
    nuclei = field.structure.positions[surfaces.atoms]
    closer = np.linalg.norm(ahead - nuclei[:, 1], axis=1) < np.linalg.norm(
        behind - nuclei[:, 1], axis=1
    )
    assert closer.mean() > 0.95


def test_surfaces_divide_the_steepest_ascents_of_the_analytic_density():
    """A hundredth of a bohr on either side leads to that side's nucleus."""
    specification = spec_from_file_location("make_bader", REFERENCE / "make_bader.py")
    program = module_from_spec(specification)
    specification.loader.exec_module(program)
    field = ContinuousDensity(isolated("H2O"))
    surfaces = interatomic_surfaces(field, critical_points(field))
    some = np.random.default_rng(0).permutation(len(surfaces.points))[:150]
    points, normals = surfaces.points[some], 0.01 * surfaces.normals[some]
    for starts, side in ((points - normals, 0), (points + normals, 1)):
        ends = program.ends(*program.completed("H2O"), starts)
        np.testing.assert_array_equal(ends, surfaces.atoms[some, side])


def test_faces_of_the_voronoi_cell():
    grid = Grid(np.zeros(3), np.diag([2.0, 3.0, 5.0]), (10, 10, 10))
    faces = dict(voronoi_faces(grid))
    assert len(faces) == 6
    assert faces[(1, 0, 0)] == pytest.approx(0.3 * 0.5 / 0.2)
    skewed = Grid(np.zeros(3), [[2.0, 0.3, 0.1], [0.4, 3.0, -0.2], [1.0, 0.5, 2.5]], (10, 10, 10))
    faces = voronoi_faces(skewed)
    assert len(faces) == 14
    # a Voronoi cell is a sum of pyramids of height d/2, and its faces' flux of r is its volume
    tensor = np.zeros((3, 3))
    for step, weight in faces:
        d = (np.array(step) / 10) @ skewed.cell
        tensor += weight * np.outer(d, d) / 2
    np.testing.assert_allclose(tensor, skewed.dv * np.eye(3), atol=1e-12)


def test_fraction_of_a_cell_above_a_plane():
    rng = np.random.default_rng(0)
    widths = np.array([[0.15, 0.02, 0.08], [0.2, 0.0, 0.0], [0.1, 0.1, 0.1]])
    points = rng.uniform(-0.5, 0.5, (200_000, 3))
    for height in (-0.3, -0.07, 0.0, 0.03, 0.09, 0.3):
        expected = ((points @ widths.T + height) > 0).mean(axis=0)
        np.testing.assert_allclose(_fraction(np.full(3, height), widths), expected, atol=5e-3)


def test_misplaced_atoms_are_refused():
    density = isolated("H2O", 0.25)
    positions = density.structure.positions + [2.0, 0.0, 0.0]
    moved = Structure(density.structure.numbers, positions)
    with pytest.raises(InputError, match="no maximum at atom"):
        bader(
            Density(
                density.grid,
                density.values,
                structure=moved,
                valence_charges=np.array(moved.numbers, dtype=float),
                all_electron=True,
            )
        )


def test_report(water):
    _, found = water
    data = json.loads(json.dumps(found.to_dict()))
    assert data["charges_e"] == pytest.approx(found.charges.tolist())
    assert data["volumes_angstrom3"][0] == pytest.approx(found.volumes[0] * 0.529177**3, rel=1e-5)
    assert len(found.lines()) == 1 + 3
    assert set(np.unique(found.basins.values)) == {-1, 0, 1, 2}
