"""Kohn-Sham steps of open shells."""

import numpy as np
import pytest
from ase import Atoms
from pyscf.tools import molden

from denser.atoms.sad import superposition
from denser.dft.cell import density_from_dm
from denser.dft.functionals import hartree_xc, spin_hartree_xc
from denser.dft.gradient import mixed_gradient
from denser.dft.one_step import OneStep, one_step
from denser.dft.refine import refine
from denser.dft.scf import KSResult, mean_field, scf
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import HARTREE
from denser.workflows.energy import StartDensity, energy_record

RECIPE = Recipe(spacing=0.3)
METHYLENE = Structure.of(Atoms("CH2", [[0, 0, 0], [0.1, 0.99, 0.4], [0.1, -0.99, 0.4]]), spin=2)
GRID = Grid.around(METHYLENE, 5.0, RECIPE.spacing)


@pytest.fixture(scope="module")
def triplet() -> tuple[KSResult, Density, OneStep]:
    """SCF of methylene, its density with its spin density, and a step from there."""
    result = scf(METHYLENE, GRID, RECIPE, conv_tol=1e-10, isolated=True)
    mf = mean_field(METHYLENE, GRID, RECIPE, isolated=True)
    up, down = (density_from_dm(mf.cell, dm, GRID, METHYLENE) for dm in result.dm)
    rho = up.with_values(up.values + down.values).with_spin_density(up.values - down.values)
    return result, rho, one_step(rho, mf=mf)


def test_functional_of_equal_and_of_exchanged_spins():
    rho = superposition(METHYLENE, GRID)
    m = 0.3 * rho.values * np.cos(GRID.points() @ np.array([0.7, -0.4, 0.5]))
    v, energy = hartree_xc("pbe", rho.values, GRID)
    same, w, e = spin_hartree_xc("pbe", rho.values, 0 * m, GRID)
    assert e == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(same, v, atol=1e-8)
    assert np.abs(w).max() < 1e-10
    (v, w, e), (v_other, w_other, e_other) = (
        spin_hartree_xc("pbe", rho.values, sign * m, GRID) for sign in (1, -1)
    )
    assert e_other == pytest.approx(e, abs=1e-10) and e < energy
    np.testing.assert_allclose(v_other, v, atol=1e-8)
    np.testing.assert_allclose(w_other, -w, atol=1e-8)
    small = 1e-3 * rho.values  # both potentials are derivatives of the energy
    for a, b, potential in ((small, 0, v), (0, small, w)):
        ends = [spin_hartree_xc("pbe", rho.values + s * a, m + s * b, GRID)[2] for s in (1, -1)]
        expected = np.vdot(potential, small) * GRID.dv
        assert (ends[0] - ends[1]) / 2 == pytest.approx(expected, rel=1e-5)


def test_a_self_consistent_open_shell_is_reproduced(triplet):
    result, rho, step = triplet
    for energy in (step.e_ks, step.e_harris, step.e_tot):
        assert energy == pytest.approx(result.e_tot, abs=1e-6)
    assert step.mo_occ.sum(axis=1).tolist() == [4, 2]
    np.testing.assert_allclose(step.dm, result.dm, atol=1e-3)
    assert step.homo == pytest.approx(result.homo, abs=1e-4)
    assert step.lumo == pytest.approx(result.lumo, abs=1e-4)
    m = step.density.spin_density
    assert m.integrate() == pytest.approx(2, abs=1e-3)
    assert np.abs(m.values - rho.spin_density.values).sum() * GRID.dv < 2e-3
    with pytest.raises(InputError, match="forces cover closed shells only"):
        mixed_gradient(step)


def test_energies_of_exchanged_spins_are_equal(triplet):
    """The Fock matrices of the two spins are exchanged, and so their orbitals."""
    _, rho, step = triplet
    flipped = rho.with_spin_density(-rho.spin_density.values)
    other = one_step(flipped, mf=step.mf)
    assert other.e_harris > step.e_harris + 0.01  # four electrons in the orbitals of spin down
    np.testing.assert_allclose(other.mo_energy[::-1], step.mo_energy, atol=1e-7)


def test_steps_approach_self_consistency_without_a_known_spin_density(triplet):
    result, rho, step = triplet
    sad = superposition(METHYLENE, GRID)
    start = rho.with_values(0.8 * rho.values + 0.2 * sad.values)
    assert start.spin_density is None
    first = refine(start, mf=step.mf)
    second = refine(first.density, earlier=first.steps)
    wrong = [abs(r.e_tot - result.e_tot) * HARTREE for r in (first, second)]
    assert wrong[0] < 0.025 and wrong[1] < 0.2 * wrong[0]
    exact = rho.spin_density.values

    def off(density: Density) -> float:
        return np.abs(density.spin_density.values - exact).sum() / np.abs(exact).sum()

    errors = [off(d) for d in (first.steps[0].density_in, first.density, second.density)]
    assert errors[0] < 0.3 and errors[1] < 0.5 * errors[0] and errors[2] < 0.7 * errors[1]
    for refined in (first, second):
        assert refined.density.integrate() == pytest.approx(6, abs=1e-9)
        assert refined.density.spin_density.integrate() == pytest.approx(2, abs=1e-9)


def test_energy_of_a_density_with_its_spin_density(triplet, tmp_path):
    result, rho, _ = triplet
    record = energy_record(StartDensity(rho, None), RECIPE, 1, molden=tmp_path / "ch2.molden")
    assert record["e_tot_hartree"] == pytest.approx(result.e_tot, abs=1e-6)
    assert (record["spin"], record["calculation"]) == (2, "corrected box")
    mol, _, orbitals, occupations = molden.load(str(tmp_path / "ch2.molden"))[:4]
    assert occupations[0].sum() == 4 and occupations[1].sum() == 2
    assert orbitals[0].shape == orbitals[1].shape and mol.natm == 3
    with pytest.raises(InputError, match="orbitals of open shells are written to a Molden file"):
        energy_record(StartDensity(rho, None), RECIPE, 1, tmp_path / "a", ["homo"])
