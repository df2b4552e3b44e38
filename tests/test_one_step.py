"""One Kohn-Sham step: exact at self-consistency, quadratic around it."""

from pathlib import Path

import numpy as np
import pytest

from denser.atoms.sad import superposition
from denser.dft.cell import density_from_dm
from denser.dft.functionals import hartree_xc
from denser.dft.one_step import (
    CoarseGridWarning,
    on_recipe_grid,
    one_step,
)
from denser.dft.pyscf_private import core_hamiltonian, potential_matrix
from denser.dft.refine import UNCERTAINTY_FLOOR, refine
from denser.dft.scf import mean_field, scf
from denser.fields.fourier import resample
from denser.fields.metrics import err_rho
from denser.labels.reading import read_label
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

LABELS = Path(__file__).parent / "reference" / "labels"


@pytest.fixture(scope="module")
def water():
    """Label, mean field and self-consistent density."""
    label = read_label(LABELS / "H2O.npz")
    mf = mean_field(label.structure, label.grid)
    core_hamiltonian(mf)
    dm = 2 * label.mo_coeff @ label.mo_coeff.T
    return label, mf, density_from_dm(mf.cell, dm, label.grid, label.structure), dm


@pytest.fixture(scope="module")
def errors(water):
    """Steps from the self-consistent density with 4, 8 and 16 % of the way to the SAD."""
    label, mf, rho, _ = water
    sad = superposition(label.structure, label.grid)
    shares = (0.04, 0.08, 0.16)
    steps = [
        one_step(rho.with_values((1 - x) * rho.values + x * sad.values), mf=mf) for x in shares
    ]
    return shares, steps


def test_a_self_consistent_density_is_reproduced(water):
    label, mf, rho, dm = water
    fock = core_hamiltonian(mf) + mf.get_veff(dm=dm)
    potential, _ = hartree_xc(mf.xc, rho.values, rho.grid)
    ours = core_hamiltonian(mf) + potential_matrix(mf, potential)
    np.testing.assert_allclose(ours, fock, atol=1e-8)
    step = one_step(rho, mf=mf)
    for energy in (step.e_ks, step.e_harris, step.e_tot):
        assert energy == pytest.approx(label.e_tot, abs=1e-8)
    np.testing.assert_allclose(step.dm, dm, atol=1e-4)
    n = label.mo_coeff.shape[1]
    assert step.homo == pytest.approx(label.mo_energy[n - 1], abs=1e-5)
    assert step.gap == pytest.approx(label.mo_energy[n] - label.mo_energy[n - 1], abs=1e-5)


def test_both_energies_are_quadratic_and_the_estimate_is_better(water, errors):
    label, _, rho, _ = water
    shares, steps = errors
    for name in ("e_ks", "e_harris"):
        wrong = np.abs([getattr(step, name) - label.e_tot for step in steps])
        slope = np.polyfit(np.log(shares), np.log(wrong), 1)[0]
        assert slope == pytest.approx(2, abs=0.1)
    for step in steps:
        wrong = [abs(e - label.e_tot) for e in (step.e_tot, step.e_harris, step.e_ks)]
        assert wrong[0] < 0.5 * min(wrong[1:])
        assert step.e_ks > label.e_tot
    # The second-order terms of the docstring, with the exact error of the input.
    step, dv = steps[0], rho.grid.dv
    residual = step.density.values - step.density_in.values
    change = step.potential - step.potential_in
    error = step.density_in.values - rho.values
    harris, ks = (0.5 * np.vdot(f, change) * dv for f in (error, error + residual))
    assert step.e_harris - label.e_tot == pytest.approx(harris, rel=0.03)
    assert step.e_ks - label.e_tot == pytest.approx(ks, rel=0.03)


def test_local_response_removes_most_of_the_error_of_the_output(water, errors):
    """The change of a step is less the error of its input, to first order and but for chi."""
    _, mf, rho, _ = water
    predicted = Predictor("default").density(superposition(rho.structure, rho.grid), periodic=True)
    for step in (*errors[1], one_step(predicted, mf=mf)):
        inside, out = err_rho(step.density_in, rho), err_rho(step.density, rho)
        changed = rho.with_values(step.density_in.values + step.change)
        assert err_rho(changed, rho) < 0.45 * min(inside, out)
        assert step.change.sum() * rho.grid.dv == pytest.approx(
            step.density.integrate() - step.density_in.integrate(), abs=1e-9
        )


def test_potential_is_the_derivative_of_the_energy(water):
    _, _, rho, _ = water
    change = rho.values * np.cos(rho.grid.points() @ np.array([0.7, -0.4, 0.5]))
    small = 1e-3
    energies = [hartree_xc("pbe", rho.values + s * change, rho.grid)[1] for s in (small, -small)]
    slope = (energies[0] - energies[1]) / (2 * small)
    potential, _ = hartree_xc("pbe", rho.values, rho.grid)
    assert slope == pytest.approx(np.vdot(potential, change) * rho.grid.dv, rel=1e-5)
    with pytest.raises(KeyError):
        hartree_xc("no-such-functional", rho.values, rho.grid)


def test_a_basis_all_but_linearly_dependent_is_that_of_the_scf():
    """Else the step is one in another basis, and lies below the self-consistent energy."""
    hydrogen = Structure(np.ones(6, int), np.outer(np.arange(6), [0, 0, 0.41 / BOHR]))
    grid = Grid.around(hydrogen, 2.0 / BOHR)
    converged = scf(hydrogen, grid)
    assert converged.mo_coeff.shape == (54, 52)
    mf = mean_field(hydrogen, grid)
    refined = refine(density_from_dm(mf.cell, converged.dm, grid, hydrogen), mf=mf)
    assert refined.mo_coeff.shape == (54, 52) == refined.steps[0].mo_coeff.shape
    assert refined.steps[0].e_ks == pytest.approx(converged.e_tot, abs=1e-8)
    np.testing.assert_allclose(refined.mo_energy[:3], converged.mo_energy[:3], atol=1e-4)


def test_a_crystal_too_dense_for_the_basis_is_refused():
    """Its SCF may converge, but with 40 electrons on the grid in place of 10."""
    sides = np.array([2.6, 2.6, 3.73]) / BOHR
    atoms = np.array([[1.3, 1.3, 1.3], [1.3, 1.3, 2.43]]) / BOHR
    nitrogen = Structure(np.array([7, 7]), atoms, cell=np.diag(sides))
    grid = Grid.periodic(nitrogen)
    with pytest.raises(InputError, match=r"2.60 x 2.60 x 3.73 angstrom\) 10 electrons"):
        scf(nitrogen, grid, max_cycle=3)
    with pytest.raises(InputError, match="nearly linearly dependent"):
        one_step(superposition(nitrogen, grid))


def test_refinement_approaches_self_consistency(water, errors):
    label, _, rho, _ = water
    start = errors[1][2].density_in
    first = refine(start)
    second = refine(first.density, earlier=first.steps)
    distance = [err_rho(density, rho) for density in (start, first.density, second.density)]
    assert distance[1] < 0.4 * distance[0] and distance[2] < 0.4 * distance[1]
    for result in (first, second):  # what the result says of its own errors
        assert result.error_before == pytest.approx(distance[0], rel=0.3)
    assert 0.4 < first.error_after / distance[1] < 2.5
    assert 0.4 < second.error_after / distance[2] < 2.5
    for result in (first, second):
        assert result.density.integrate() == pytest.approx(8, abs=1e-9)
        assert result.density.values.min() >= 0
        assert result.uncertainty > UNCERTAINTY_FLOOR
        assert np.trace(result.dm @ first.steps[0].mf.get_ovlp()) == pytest.approx(8)
    wrong = [abs(e - label.e_tot) for e in (errors[1][2].e_ks, first.e_tot, second.e_tot)]
    assert wrong[1] < 0.3 * wrong[0] and wrong[2] < 0.2 * wrong[0]
    n = label.mo_coeff.shape[1]
    plain, better = (abs(r.homo - label.mo_energy[n - 1]) for r in (first.steps[0], second))
    assert better < 0.5 * plain
    with pytest.raises(InputError, match="at least one step, found 0"):
        refine(start, steps=0)


def test_a_coarser_density_is_resampled_and_a_very_coarse_one_warned_of(water):
    label, _, rho, _ = water

    def sampled(spacing: float) -> Density:
        shape = tuple(int(n) for n in np.round(np.diag(rho.grid.cell) / spacing))
        grid = Grid(rho.grid.origin, rho.grid.cell, shape)
        return Density(
            grid, resample(rho.values, shape), structure=rho.structure,
            valence_charges=rho.valence_charges,
        )  # fmt: skip

    step = one_step(sampled(0.24))
    assert step.density.grid.shape == rho.grid.shape
    assert step.e_tot == pytest.approx(label.e_tot, abs=1e-5)
    with pytest.warns(CoarseGridWarning, match="give a finer one"):
        on_recipe_grid(sampled(0.5), Recipe())
    assert on_recipe_grid(rho, Recipe()) is rho


def test_what_a_step_cannot_start_from(water):
    _, mf, rho, _ = water
    with pytest.raises(InputError, match=r"holds 7.6 electrons, H2O with charge 0 has 8"):
        one_step(rho.with_values(0.95 * rho.values))
    spoilt = rho.values.copy()
    spoilt[3, 4, 5] = np.nan
    with pytest.raises(InputError, match=r"1 of \d+ values of the density are not finite"):
        one_step(rho.with_values(spoilt))
    wave = 1 + 3 * np.cos(rho.grid.points()[..., 0] * 2 * np.pi / rho.grid.cell[0, 0])
    wave *= rho.values
    wave *= 8 / (wave.sum() * rho.grid.dv)
    with pytest.raises(InputError, match="negative in places"):
        one_step(rho.with_values(wave))
    parts = {"structure": rho.structure, "valence_charges": rho.valence_charges}
    with pytest.raises(InputError, match="the calculation has a mesh"):
        one_step(Density(rho.grid.coarsen(2), rho.values[::2, ::2, ::2], **parts), mf=mf)
