"""Fukui functions, frontier levels and polarizabilities, against PySCF's molecular code."""

import json
from pathlib import Path

import numpy as np
import pytest

from denser.analysis.energies.reactivity import reactivity
from denser.atoms.sad import superposition, valence_charges
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.frontier import density_with
from denser.dft.one_step import one_step
from denser.dft.polarizability import (
    Polarizability,
    coupled_perturbed,
    dipole_integrals,
    require_isolated,
)
from denser.dft.pyscf_private import core_hamiltonian
from denser.dft.scf import mean_field, scf
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

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


# Polarizability


def test_mean_and_anisotropy():
    found = Polarizability(np.diag([2.0, 2.0, 5.0]), np.eye(3))
    assert found.mean == pytest.approx(3) and found.anisotropy == pytest.approx(3)
    assert found.to_dict()["mean_angstrom3"] == pytest.approx(3 * BOHR**3)
    assert "anisotropy 3.000 bohr^3" in found.lines()[0]


def test_polarizability_of_water_is_that_of_the_molecule(water):
    found = coupled_perturbed(water)
    expected = np.array(PYSCF["H2O"]["polarizability"])
    np.testing.assert_allclose(found.tensor, expected, atol=0.01 * expected.max())
    assert (np.diag(found.uncoupled) > 1.1 * np.diag(found.tensor)).all()


def finite_field(structure: Structure, grid: Grid, recipe: Recipe, field: float = 2e-3):
    """alpha_iz = [mu_i(+E_z) - mu_i(-E_z)] / (2 E_z) of two self-consistent calculations."""
    mf = mean_field(structure, grid, recipe, isolated=True)
    mf.conv_tol, mf.max_cycle = 1e-10, 60
    hcore = core_hamiltonian(mf)
    mf.get_hcore = lambda *_: hcore
    mf.kernel()
    assert mf.converged
    start, dipoles = mf.make_rdm1(), dipole_integrals(mf)
    moments = np.zeros((2, 3))
    for k, sign in enumerate((1, -1)):
        # An electron has the energy +E.r in the field E.
        mf.get_hcore = lambda *_, h=hcore + sign * field * dipoles[2]: h
        mf.kernel(start)
        assert mf.converged
        moments[k] = -np.einsum("xpq,qp->x", dipoles, mf.make_rdm1())
    return (moments[0] - moments[1]) / (2 * field)


@pytest.mark.slow
def test_finite_field_is_the_same_with_self_consistent_orbitals(water):
    structure, grid = water.density.structure, water.density.grid
    result = scf(structure, grid, COARSE, isolated=True)
    density = density_from_dm(build_cell(structure, grid, COARSE), result.dm, grid, structure)
    found = finite_field(structure, grid, COARSE)
    coupled = coupled_perturbed(one_step(density, COARSE, isolated=True))
    np.testing.assert_allclose(found, coupled.tensor[:, 2], atol=2e-3)


def test_a_polarizability_needs_room():
    label = read_label(REFERENCE / "labels" / "H2O.npz")
    with pytest.raises(InputError, match="structure is periodic"):
        require_isolated(label.structure, label.grid)
    free = Structure(label.structure.numbers, label.structure.positions)
    with pytest.raises(InputError, match="use a larger box"):
        require_isolated(free, label.grid)
