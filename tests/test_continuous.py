"""Density, gradient and Hessian between the nodes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from denser.analysis.continuous import ContinuousDensity, laplacian_at_nodes, sharp, sharp_radius
from denser.atoms.free_atoms import complete, free_atom
from denser.atoms.sad import superposition, valence_charges
from denser.dft.cell import build_cell
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

LABELS = Path(__file__).parent / "reference" / "labels"


@pytest.fixture(scope="module")
def water():
    """Label, valence density on its own grid in double precision, and its continuous form."""
    label = read_label(LABELS / "H2O.npz")
    structure = label.structure
    values = density_on_grid(
        structure.numbers, structure.positions, label.mo_coeff, label.grid, dtype=torch.float64
    ).numpy()
    density = Density(
        label.grid, values, structure=structure, valence_charges=valence_charges(structure)
    )
    return label, density, ContinuousDensity(density)


def cores(structure, points, images):
    """Cores of free atoms with derivatives, summed image by image."""
    rho = np.zeros(len(points))
    gradient, hessian = np.zeros((len(points), 3)), np.zeros((len(points), 3, 3))
    for z, centre in zip(structure.numbers, structure.positions, strict=True):
        for shift in images:
            d = points - centre - shift
            r = np.linalg.norm(d, axis=1)
            u = d / r[:, None]
            value, slope, curvature = free_atom(int(z)).core_derivatives(r)
            uu = u[:, :, None] * u[:, None, :]
            rho += value
            gradient += slope[:, None] * u
            hessian += curvature[:, None, None] * uu
            hessian += (slope / r)[:, None, None] * (np.eye(3) - uu)
    return rho, gradient, hessian


def shifts(cell):
    return (np.array(list(np.ndindex(3, 3, 3))) - 1) @ cell


def test_agrees_with_the_derivatives_of_the_orbitals(water):
    label, _, field = water
    structure, grid = label.structure, label.grid
    rng = np.random.default_rng(0)
    points = structure.positions[rng.integers(0, 3, 3000)] + 1.2 * rng.normal(size=(3000, 3))
    cell = build_cell(structure, grid)
    ao = np.asarray(cell.pbc_eval_gto("GTOval_sph_deriv2", points - grid.origin))
    psi = ao @ label.mo_coeff
    rho = 2 * (psi[0] ** 2).sum(axis=1)
    gradient = 4 * np.einsum("ni,xni->nx", psi[0], psi[1:4])
    hessian = 4 * np.einsum("xni,yni->nxy", psi[1:4], psi[1:4])
    i, j = np.triu_indices(3)
    second = 4 * np.einsum("ni,xni->nx", psi[0], psi[4:])
    hessian[:, i, j] += second
    hessian[:, j[i != j], i[i != j]] += second[:, i != j]
    expected = [
        a + b
        for a, b in zip(
            (rho, gradient, hessian), cores(structure, points, shifts(grid.cell)), strict=True
        )
    ]
    distance = np.linalg.norm(points[:, None] - structure.positions, axis=-1)
    oxygen, nearest = distance[:, 0], distance.min(axis=1)
    found = field.evaluate(points, 2)
    for where, bounds in (
        ((oxygen > 1.2) & (nearest > 0.2), (4e-5, 6e-4, 1.2e-2)),
        ((oxygen > 0.8) & (nearest > 0.2), (1.2e-4, 2.5e-3, 6e-2)),
        ((oxygen > 0.5) & (nearest > 0.2), (5e-4, 1e-2, 0.2)),
    ):
        assert where.sum() > 100
        for a, b, bound in zip(found, expected, bounds, strict=True):
            assert np.abs(a - b)[where].max() < bound


def test_derivatives_are_those_of_the_value(water):
    _, _, field = water
    rng = np.random.default_rng(1)
    centre = field.structure.positions[rng.integers(0, 3, 500)]
    direction = rng.normal(size=(500, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    points = centre + direction * rng.uniform(0.25, 4.0, (500, 1))
    _, gradient, hessian = field.evaluate(points, 2)
    e = 1e-4
    for i, step in enumerate(e * np.eye(3)):
        ahead, behind = field.evaluate(points + step, 1), field.evaluate(points - step, 1)
        numeric = (ahead[0] - behind[0]) / (2 * e)
        np.testing.assert_allclose(gradient[:, i], numeric, rtol=1e-5, atol=2e-5)
        numeric = (ahead[1] - behind[1]) / (2 * e)
        np.testing.assert_allclose(hessian[:, i], numeric, rtol=1e-5, atol=2e-4)


def test_at_the_nodes_it_is_the_completed_density(water):
    _, density, field = water
    nodes = np.random.default_rng(2).integers(0, density.grid.size, 2000)
    points = density.grid.points().reshape(-1, 3)[nodes]
    rho, gradient, _ = field.evaluate(points, 2)
    np.testing.assert_allclose(rho, complete(density).values.ravel()[nodes], atol=1e-10)
    at_nodes = field.gradient_at_nodes().reshape(3, -1)[:, nodes].T
    np.testing.assert_allclose(gradient, at_nodes, rtol=1e-5, atol=1e-5)


def test_an_all_electron_density_gives_the_same(water):
    _, density, field = water
    points = np.random.default_rng(3).uniform(0, 7, (200, 3))
    again = ContinuousDensity(complete(density))
    for a, b in zip(field.evaluate(points, 2), again.evaluate(points, 2), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.fixture(scope="module")
def skewed():
    """A trigonometric valence density in a triclinic crystal of C and H, and its exact form."""
    cell = np.array([[6.0, 0.3, -0.2], [0.8, 6.5, 0.1], [-0.5, 0.9, 7.0]])
    grid = Grid(np.array([0.4, -0.3, 0.2]), cell, (36, 40, 42))
    structure = Structure([6, 1], [[1.0, 2.0, 3.0], [6.2, 6.6, 0.2]], cell=cell)
    waves = 2 * np.pi * np.array([[1, 0, 2], [-1, 2, 0], [0, 1, -1]]) @ np.linalg.inv(cell).T
    phases, sizes = np.array([0.3, 1.1, -0.4]), np.array([0.02, 0.03, 0.01])

    def smooth(points):
        angle = points @ waves.T + phases
        rho = 0.1 + np.cos(angle) @ sizes
        gradient = -(np.sin(angle) * sizes) @ waves
        hessian = -np.einsum("nk,ki,kj->nij", np.cos(angle) * sizes, waves, waves)
        return rho, gradient, hessian

    def exact(points):
        added = cores(structure, points, shifts(cell))
        return [a + b for a, b in zip(smooth(points), added, strict=True)]

    values = smooth(grid.points().reshape(-1, 3))[0].reshape(grid.shape)
    charges = valence_charges(structure)
    return ContinuousDensity(
        Density(grid, values, structure=structure, valence_charges=charges)
    ), exact


def test_triclinic_crystals(skewed):
    field, exact = skewed
    points = np.random.default_rng(4).uniform(0, 7, (800, 3))
    positions = field.structure.positions[:, None] + shifts(field.grid.cell)
    nearest = np.linalg.norm(points[:, None] - positions.reshape(-1, 3), axis=-1).min(axis=1)
    points = points[nearest > 0.8]
    bounds = (3e-4, 3e-3, 4e-2)
    for a, b, bound in zip(field.evaluate(points, 2), exact(points), bounds, strict=True):
        assert np.abs(a - b).max() < bound


def test_refinement_is_the_same_function_at_more_nodes(skewed):
    field, _ = skewed
    finer = field.refined()
    nodes = np.random.default_rng(8).integers(0, finer.grid.size, 500)
    points = finer.grid.points().reshape(-1, 3)[nodes]
    np.testing.assert_allclose(
        finer.values.ravel()[nodes], field.evaluate(points)[0], rtol=1e-10, atol=1e-10
    )
    np.testing.assert_allclose(finer.values[::2, ::2, ::2], field.values, rtol=1e-12)


def test_crystals_are_periodic(skewed):
    field, _ = skewed
    points = np.random.default_rng(5).uniform(0, 6, (50, 3))
    for a, b in zip(
        field.evaluate(points, 2),
        field.evaluate(points + [2, -1, 3] @ field.grid.cell, 2),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-8)


def test_laplacian_at_nodes_is_the_trace_of_the_hessian(skewed):
    field, _ = skewed
    laplacian = laplacian_at_nodes(field.smooth, field.grid).ravel()
    nodes = np.random.default_rng(6).integers(0, field.grid.size, 300)
    hessian = field._spline(field.grid.points().reshape(-1, 3)[nodes], 2)[2]
    np.testing.assert_allclose(laplacian[nodes], np.trace(hessian, axis1=1, axis2=2), atol=1e-10)


@pytest.mark.parametrize("z", [1, 6, 9, 17])
def test_sharp_part(z):
    atom = free_atom(z)
    r = np.linspace(0.05, 2.6, 400)
    value, slope, curvature = sharp(atom, r, 2)
    np.testing.assert_allclose(value, sharp(atom, r)[0], atol=1e-12)
    e = 1e-5
    numeric = (sharp(atom, r + e)[0] - sharp(atom, r - e)[0]) / (2 * e)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-6)
    numeric = (sharp(atom, r + e, 1)[1] - sharp(atom, r - e, 1)[1]) / (2 * e)
    np.testing.assert_allclose(curvature, numeric, rtol=1e-5, atol=1e-5)
    assert abs(sharp(atom, np.array([sharp_radius(atom)]))[0][0]) < 2e-6
    inner = np.array([0.01])
    np.testing.assert_allclose(sharp(atom, inner)[0], atom.all_electron(inner), rtol=1e-6)


def test_elements_without_a_free_atom_are_refused(sad_density):
    structure = Structure([79], [[0.0, 0.0, 0.0]])
    density = Density(
        sad_density.grid, sad_density.values, structure=structure, valence_charges=np.array([11.0])
    )
    with pytest.raises(InputError, match="free atom of Au"):
        ContinuousDensity(density)


def test_free_atoms_are_recovered_from_a_coarse_grid():
    """A superposition of pseudo-atoms becomes one of all-electron atoms."""
    structure = Structure([8], [[0.03, -0.05, 0.02]])
    grid = Grid.around(structure, padding=6.0, spacing=0.25)
    atom = free_atom(8)
    r = np.linalg.norm(grid.points() - structure.positions[0], axis=-1)
    density = Density(grid, atom.pseudo(r), structure=structure, valence_charges=np.array([6.0]))
    points = np.random.default_rng(7).normal(size=(300, 3))
    distance = np.linalg.norm(points - structure.positions[0], axis=1)
    rho, gradient = ContinuousDensity(density).evaluate(points, 1)
    value, slope, _ = atom.all_electron_derivatives(distance)
    np.testing.assert_allclose(rho, value, atol=1e-3)
    unit = (points - structure.positions[0]) / distance[:, None]
    np.testing.assert_allclose((gradient * unit).sum(axis=1), slope, atol=1e-2)
    assert superposition(structure, grid).integrate() == pytest.approx(
        density.integrate(), abs=0.02
    )
