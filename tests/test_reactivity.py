"""Fukui functions and frontier levels, against PySCF's molecular code."""

import json
from pathlib import Path

import numpy as np
import pytest

from denser.analysis.energies.reactivity import reactivity
from denser.atoms.sad import superposition, valence_charges
from denser.dft.frontier import density_with
from denser.dft.one_step import one_step
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import HARTREE

REFERENCE = Path(__file__).parent / "reference"
PYSCF = json.loads((REFERENCE / "molecules.json").read_text())["molecules"]
COARSE = Recipe(spacing=0.24)


def step_of(name: str, padding: float, recipe: Recipe = COARSE):
    """One step from the converged orbitals of a label, in vacuum."""
    label = read_label(REFERENCE / "labels" / f"{name}.npz")
    structure = Structure(label.structure.numbers, label.structure.positions)
    grid = Grid.around(structure, padding, recipe.spacing)
    values = density_on_grid(structure.numbers, structure.positions, label.mo_coeff, grid).numpy()
    density = Density(grid, values, structure=structure, valence_charges=valence_charges(structure))
    density = density.with_values(values * (density.n_electrons / density.integrate()))
    return one_step(density, recipe, isolated=True)


@pytest.fixture(scope="module")
def water():
    return step_of("H2O", 6.0)


def test_fukui_functions_hold_one_electron(water):
    found = reactivity(water)
    assert found.f_plus.integrate() == pytest.approx(1, abs=1e-4)
    assert found.f_minus.integrate() == pytest.approx(1, abs=1e-4)
    assert found.f_zero.integrate() == pytest.approx(1, abs=1e-4)
    assert found.dual.integrate() == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(found.condensed.sum(axis=1), [1, 1, 0], atol=2e-3)
    # The HOMO is the lone pair of oxygen, perpendicular to the molecule.
    assert found.condensed[1, 0] > 0.8 and found.condensed[2, 0] < -0.2
    np.testing.assert_allclose(found.condensed[:, 1], found.condensed[:, 2], atol=1e-3)
    in_plane = np.abs(found.f_minus.grid.axis(0) - water.density.structure.positions[0, 0]) < 0.15
    assert found.f_minus.values[in_plane].max() < 0.2 * found.f_minus.values.max()
    assert len(found.lines()) == 3 + 3 and found.to_dict()["f_minus"][0] > 0.8
    # Any partition will do: two halves of the box.
    half = np.zeros((2, found.f_plus.grid.size))
    first = (found.f_plus.grid.points()[..., 0] < 0).ravel()
    half[0, first] = half[1, ~first] = 1
    parts = reactivity(water, weights=half).condensed
    assert parts.shape == (3, 2) and parts[0].sum() == pytest.approx(1, abs=1e-4)


def test_levels_against_vacuum_are_those_of_a_molecule(water):
    found, expected = reactivity(water), PYSCF["H2O"]
    assert found.homo == pytest.approx(expected["homo"], abs=2e-3)
    assert found.lumo == pytest.approx(expected["lumo"], abs=2e-3)
    mu, eta = (found.homo + found.lumo) / 2, found.lumo - found.homo
    assert found.chemical_potential == pytest.approx(mu)
    assert found.electrophilicity == pytest.approx(mu**2 / (2 * eta))
    assert found.to_dict()["hardness_ev"] == pytest.approx(eta * HARTREE)


def test_a_degenerate_level_is_averaged():
    step = step_of("CH4", 5.0)
    found = reactivity(step)
    assert found.degeneracy[0] == 3
    hydrogens = found.condensed[1, 1:]
    np.testing.assert_allclose(hydrogens, hydrogens.mean(), atol=1e-4)
    assert "mean of 3 HOMO" in found.lines()[2]


def test_a_crystal_has_no_vacuum():
    cell = np.diag([7.0, 7.5, 8.0])
    crystal = Structure(np.array([2]), np.array([[3.5, 3.7, 4.0]]), cell=cell)
    step = one_step(superposition(crystal, Grid.periodic(crystal, 0.25)), Recipe(spacing=0.25))
    found = reactivity(step)
    assert not found.against_vacuum and found.electrophilicity is None
    assert found.to_dict()["chemical_potential_ev"] is None
    assert "no vacuum level" in found.lines()[0]


@pytest.mark.slow
def test_relaxed_fukui_functions(water):
    frozen, relaxed = reactivity(water), reactivity(water, relaxed=True)
    assert relaxed.f_plus.integrate() == pytest.approx(1, abs=1e-4)
    assert relaxed.f_minus.integrate() == pytest.approx(1, abs=1e-4)
    # The other electrons follow: the lone pair loses less than the whole electron.
    assert 0.5 < relaxed.condensed[1, 0] < frozen.condensed[1, 0] - 0.1


def test_an_electron_less_in_the_frontier_level():
    helium = Structure(np.array([2]), np.zeros((1, 3)))
    step = one_step(superposition(helium, Grid.around(helium, 4.5, 0.2)), Recipe(spacing=0.2))
    ion = density_with(step, -1)
    assert ion.integrate() == pytest.approx(1, abs=1e-5)
    r2 = np.square(ion.grid.points()).sum(axis=-1)
    spread = [(d.values * r2).sum() * d.grid.dv for d in (ion, step.density)]
    assert spread[0] < 0.4 * spread[1]  # half the electrons, and each held tighter
