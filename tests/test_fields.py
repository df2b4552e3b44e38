"""Derivatives against formulas, differences, and electrons in a region."""

from pathlib import Path

import numpy as np
import pytest

from denser.analysis.fields import (
    PAIRS,
    S_CONSTANT,
    S_MAX,
    Cuboid,
    Sphere,
    deformation_density,
    difference,
    gradient,
    gradient_norm,
    hessian,
    hessian_eigenvalue_2,
    laplacian,
    middle_eigenvalue_is_negative,
    overlap,
    reduced_density_gradient,
)
from denser.atoms.free_atoms import complete, free_atom
from denser.atoms.sad import superposition, valence_charges
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

LABELS = Path(__file__).parent / "reference" / "labels"
SKEW = Grid([0.3, -0.2, 0.1], [[9.0, 0, 0], [1.5, 8.0, 0], [-0.7, 0.9, 10.0]], (18, 17, 20))
WAVES = np.array([[1, 0, 0], [0, 2, 1], [-2, 1, 3]])


def waves(grid: Grid):
    """A periodic field with its exact gradient (..., 3) and Hessian (..., 3, 3)."""
    g = 2 * np.pi * WAVES @ np.linalg.inv(grid.cell).T
    phase = (grid.points() - grid.origin) @ g.T + np.array([0.3, 1.1, -0.4])
    return (
        Field(grid, 2 + np.cos(phase).sum(axis=-1)),
        -np.einsum("...k,ki->...i", np.sin(phase), g),
        -np.einsum("...k,ki,kj->...ij", np.cos(phase), g, g),
    )


@pytest.fixture(scope="module")
def water():
    """Density of water in a box, isolated."""
    label = read_label(LABELS / "H2O.npz")
    structure = Structure(label.structure.numbers, label.structure.positions)
    values = density_on_grid(structure.numbers, structure.positions, label.mo_coeff, label.grid)
    charges = valence_charges(structure)
    return Density(
        label.grid, values.numpy().astype(float), structure=structure, valence_charges=charges
    )


def test_spectral_derivatives_are_exact_in_a_skew_cell():
    field, slope, curvature = waves(SKEW)
    found = np.stack(list(gradient(field)), axis=-1)
    np.testing.assert_allclose(found, slope, atol=1e-10)
    np.testing.assert_allclose(gradient_norm(field).values, np.linalg.norm(slope, axis=-1))
    for (i, j), component in zip(PAIRS, hessian(field), strict=True):
        np.testing.assert_allclose(component, curvature[..., i, j], atol=1e-9)
    trace = np.trace(curvature, axis1=-2, axis2=-1)
    np.testing.assert_allclose(laplacian(field).values, trace, atol=1e-9)
    assert laplacian(field).integrate() == pytest.approx(0, abs=1e-8)


def test_local_differences_are_of_sixth_order():
    errors = []
    for n in (24, 48):
        field, slope, curvature = waves(Grid(SKEW.origin, SKEW.cell, (n, n, n)))
        found = np.stack(list(gradient(field, local=True)), axis=-1)
        second = list(hessian(field, local=True))
        errors.append([np.abs(found - slope).max(), np.abs(second[1] - curvature[..., 0, 1]).max()])
    ratio = np.array(errors[0]) / errors[1]
    np.testing.assert_allclose(np.log2(ratio), 6, atol=0.2)


def test_middle_eigenvalue_against_diagonalisation():
    h = np.random.default_rng(5).normal(size=(6, 4000))
    full = np.empty((4000, 3, 3))
    for (i, j), component in zip(PAIRS, h, strict=True):
        full[:, i, j] = full[:, j, i] = component
    expected = np.linalg.eigvalsh(full)[:, 1] < 0
    assert 0.3 < expected.mean() < 0.7
    np.testing.assert_array_equal(middle_eigenvalue_is_negative(h), expected)


def test_reduced_gradient_of_a_uniform_and_of_an_exponential_density():
    grid = Grid(np.full(3, -4.0), np.eye(3) * 8.0, (80,) * 3)
    s = reduced_density_gradient(Field(grid, np.full(grid.shape, 0.02)))
    assert np.abs(s.values).max() < 1e-9
    # rho = exp(-2 k r): |grad rho| = 2 k rho, so s = 2 k / (c rho^(1/3)).
    r = np.linalg.norm(grid.points(), axis=-1)
    rho = np.exp(-1.2 * r)
    expected = 1.2 / (S_CONSTANT * rho ** (1 / 3))
    found = reduced_density_gradient(Field(grid, rho)).values
    smooth = (r > 1.0) & (r < 3.0)
    np.testing.assert_allclose(found[smooth], expected[smooth], rtol=1e-4)
    assert reduced_density_gradient(Field(grid, 0 * rho)).values.min() == S_MAX


def test_sign_of_the_middle_eigenvalue_of_a_gaussian():
    grid = Grid(np.full(3, -4.0), np.eye(3) * 8.0, (40,) * 3)
    r2 = np.square(grid.points()).sum(axis=-1)
    rho = np.exp(-r2)
    signed = hessian_eigenvalue_2(Field(grid, rho)).values
    # Two of the eigenvalues are rho'/r < 0 everywhere.
    inside = r2 < 9
    np.testing.assert_allclose(signed[inside], -rho[inside])


def test_derivatives_of_a_completed_density_are_analytic_in_the_cores(water):
    whole = complete(water)
    o = water.structure.positions[0]
    points = water.grid.points() - o
    r = np.linalg.norm(points, axis=-1)
    near = (r > 0.05) & (r < 0.5)
    _, slope, curvature = free_atom(8).core_derivatives(r[near])
    extra = laplacian(whole).values - laplacian(water).values
    np.testing.assert_allclose(extra[near], curvature + 2 * slope / r[near], rtol=1e-3, atol=1e-2)
    for j, (a, b) in enumerate(zip(gradient(whole), gradient(water), strict=True)):
        expected = slope * points[near][:, j] / r[near]
        np.testing.assert_allclose((a - b)[near], expected, atol=1e-2)
    # At half an angstrom the 1s shell still rises steeply to the nucleus; the valence does not.
    at = np.unravel_index(np.argmin(np.abs(r - 0.25)), r.shape)
    assert gradient_norm(whole).values[at] > 5 * gradient_norm(water).values[at]
    far = np.min(
        [np.linalg.norm(water.grid.points() - x, axis=-1) for x in water.structure.positions],
        axis=0,
    )
    change = np.abs(gradient_norm(whole).values - gradient_norm(water).values)
    assert change[far > 2.0].max() < 1e-3


def test_deformation_density_holds_no_electrons_and_ignores_the_cores(water):
    found = deformation_density(water)
    assert found.integrate() == pytest.approx(water.integrate() - 8, abs=1e-9)
    np.testing.assert_allclose(deformation_density(complete(water)).values, found.values)
    # Electrons gather between O and H.
    middle = water.structure.positions[:2].mean(axis=0)
    node = np.rint((middle - water.grid.origin) / water.grid.spacing).astype(int)
    assert found.values[tuple(node)] > 0.02
    atoms = superposition(water.structure, water.grid)
    np.testing.assert_allclose(deformation_density(atoms).values, 0, atol=1e-14)


def test_difference_needs_the_same_grid_kind_and_unit(water):
    atoms = superposition(water.structure, water.grid)
    both = difference(water, atoms)
    np.testing.assert_array_equal(both.values, water.values - atoms.values)
    with pytest.raises(InputError, match="the grids differ"):
        difference(water, superposition(water.structure, water.grid.coarsen(2)))
    with pytest.raises(InputError, match="complete the latter first"):
        difference(complete(water), atoms)
    with pytest.raises(InputError, match="have no meaning"):
        difference(gradient_norm(water), atoms)


def test_overlap_with_spheres_boxes_and_masks(water):
    grid = water.grid
    everything = overlap(water, Field(grid, np.ones(grid.shape)))
    assert everything.electrons == pytest.approx(water.integrate())
    assert everything.volume == pytest.approx(grid.volume)
    assert everything.share == pytest.approx(1)
    o = water.structure.positions[0]
    ball = overlap(water, Sphere(o, 1.5))
    assert ball.volume == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=2e-3)
    outside = np.linalg.norm(grid.points() - o, axis=-1) > 1.5
    rest = overlap(water, Field(grid, outside))
    assert ball.electrons + rest.electrons == pytest.approx(8, abs=0.02)
    low, high = grid.origin + np.array([1.0, 2.0, 3.05]), grid.origin + np.array([5.0, 6.3, 4.0])
    assert overlap(water, Cuboid(low, high)).volume == pytest.approx(np.prod(high - low))
    # With the core: two electrons more around oxygen, and ten in all.
    whole = complete(water)
    assert overlap(whole, Sphere(o, 1.5)).electrons == pytest.approx(ball.electrons + 2, abs=1e-6)
    assert overlap(whole, Sphere(o, 1.5)).share == pytest.approx((ball.electrons + 2) / 10, 1e-3)
    assert "e in" in ball.lines()[0] and ball.to_dict()["n_electrons"] == ball.electrons
    with pytest.raises(InputError, match="between 0 and 1"):
        overlap(water, Field(grid, 2 * np.ones(grid.shape)))
    with pytest.raises(InputError, match="positive radius"):
        overlap(water, Sphere(o, 0.0))
    with pytest.raises(InputError, match="low corner"):
        overlap(water, Cuboid(high, low))


def test_a_sphere_at_the_face_of_a_crystal_goes_on_at_the_other():
    cell = np.diag([6.0, 7.0, 8.0])
    crystal = Structure(np.array([10]), np.array([[0.1, 0.2, 0.1]]), cell=cell)
    grid = Grid(np.zeros(3), cell, (30, 35, 40))
    density = superposition(crystal, grid)
    ball = overlap(density, Sphere(crystal.positions[0], 2.0))
    assert ball.volume == pytest.approx(4 / 3 * np.pi * 8, rel=5e-3)
    free = Structure(np.array([10]), np.array([[3.0, 3.6, 4.0]]), cell=cell)
    middle = overlap(superposition(free, grid), Sphere(free.positions[0], 2.0))
    assert ball.electrons == pytest.approx(middle.electrons, rel=1e-3)
    corner = overlap(density, Cuboid(np.full(3, -1.0), np.full(3, 1.0)))
    assert corner.volume == pytest.approx(8.0)
