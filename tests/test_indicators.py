"""IRI, DORI and IGMH: exact densities, Q-stack's DORI, and the independent gradient model."""

import json
from pathlib import Path

import numpy as np
import pytest

from denser.analysis.fields import S_CONSTANT, reduced_density_gradient
from denser.analysis.interactions.indicators import IRI_EMPTY, IRI_LEAST, dori, igmh, iri
from denser.analysis.properties import Analysis
from denser.atoms.free_atoms import free_atom
from denser.atoms.sad import superposition, valence_charges
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def water() -> Density:
    """The water dimer of converged orbitals."""
    with np.load(REFERENCE / "water_dimer.npz") as data:
        structure, c = Structure(data["numbers"], data["positions"]), data["mo_coeff"]
    grid = Grid.around(structure, spacing=np.pi / 20)
    values = density_on_grid(structure.numbers, structure.positions, c, grid).numpy()
    return Density(grid, values, structure=structure, valence_charges=valence_charges(structure))


def made_of(function) -> tuple[Density, np.ndarray]:
    """A density of a formula, with the distances from the middle."""
    structure = Structure([2], np.zeros((1, 3)))
    grid = Grid([-4.0] * 3, np.eye(3) * 8, (80,) * 3)
    points = grid.points()
    return Density(
        grid, function(points), structure=structure, valence_charges=np.array([2.0])
    ), np.linalg.norm(points, axis=-1)


def test_exponential_decay_has_no_dori_and_its_own_iri():
    """rho = exp(-2 z r): IRI = 2 z rho^-0.1, and k^2 = 4 z^2 does not change."""
    density, r = made_of(lambda x: np.exp(-1.6 * np.linalg.norm(x, axis=-1)))
    outside = (r > 1.0) & (r < 3.5)
    np.testing.assert_allclose(
        iri(density).values[outside], 1.6 * density.values[outside] ** -0.1, rtol=1e-3
    )
    assert dori(density).values[outside].max() < 1e-4


def test_gaussian():
    """rho = exp(-a r^2): k = -2 a r, so that theta = 1 / (a^2 r^4)."""
    density, r = made_of(lambda x: np.exp(-0.5 * (x**2).sum(axis=-1)))
    some = (density.values > 2e-4) & (r < 3.6)
    theta = 1 / (0.25 * np.maximum(r, 1e-9) ** 4)
    np.testing.assert_allclose(dori(density).values[some], (theta / (1 + theta))[some], atol=1e-4)
    np.testing.assert_allclose(
        iri(density).values[some], (r * density.values**-0.1)[some], atol=1e-4
    )


def test_iri_is_the_reduced_gradient_with_another_power(water):
    s, found, rho = reduced_density_gradient(water).values, iri(water).values, water.values
    dense = rho > IRI_LEAST
    np.testing.assert_allclose(
        found[dense], S_CONSTANT * (s * rho ** (4 / 3 - 1.1))[dense], rtol=1e-6
    )
    assert (found[~dense] == IRI_EMPTY).all()


def test_dori_is_that_of_q_stack(water):
    data = json.loads((REFERENCE / "dori.json").read_text())
    nodes = np.array(data["nodes"])
    np.testing.assert_allclose(water.values.ravel()[nodes], data["rho"], rtol=1e-4)
    np.testing.assert_allclose(dori(water).values.ravel()[nodes], data["dori"], atol=2e-3)
    assert np.std(data["dori"]) > 0.05


def test_igmh_of_superposed_atoms_is_the_independent_gradient_model():
    """There w_A rho are the free atoms, whose gradients are known: sum |n'| - |sum n'|."""
    structure = Structure([10, 18], [[0, 0, 0], [0.3, 0.2, 5.9]])
    grid = Grid.around(structure, padding=5.0, spacing=0.2)
    points, h = grid.points(), 1e-3
    size, total = np.zeros((*grid.shape, 3)), np.zeros((*grid.shape, 3))
    values, far = np.zeros(grid.shape), np.ones(grid.shape, dtype=bool)
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        atom, x = free_atom(int(z)), points - position
        r = np.linalg.norm(x, axis=-1)
        values += atom.pseudo(r)
        slope = (atom.all_electron(r + h) - atom.all_electron(r - h)) / (2 * h)
        own = slope[..., None] * x / r[..., None]
        size, total, far = size + np.abs(own), total + own, far & (r > 2.0) & (r < 5.0)
    density = Density(grid, values, structure=structure, valence_charges=valence_charges(structure))
    found = igmh(density).values
    expected = np.linalg.norm(size, axis=-1) - np.linalg.norm(total, axis=-1)
    assert expected[far].max() > 2e-3
    np.testing.assert_allclose(found[far], expected[far], atol=5e-5)
    assert found.min() >= 0


def test_igmh_is_between_the_molecules(water):
    """It peaks between O and H of the hydrogen bond, and one molecule alone has none."""
    found = igmh(water)
    node = np.unravel_index(np.argmax(found.values), found.values.shape)
    place = water.grid.points()[node]
    a, b = water.structure.positions[[2, 3]]
    along = (place - a) @ (b - a) / ((b - a) @ (b - a))
    assert 0.2 < along < 0.8 and np.linalg.norm(place - a - along * (b - a)) < 0.5
    named = igmh(water, "4-6,1-3")
    np.testing.assert_allclose(named.values, found.values, atol=1e-9)
    alone = superposition(Structure([10], np.zeros((1, 3))), water.grid)
    with pytest.raises(InputError, match="nothing that interacts"):
        igmh(alone)


def test_fields_of_the_catalogue(water):
    analysis = Analysis(water)
    for name, unit in (("iri", "a.u."), ("dori", "1"), ("igmh", "e/bohr^4")):
        assert analysis.field(name).unit == unit
