"""Derivatives of the energies against finite differences of the energies, on a fixed grid."""

import numpy as np
import pytest
from ase.build import molecule
from pyscf.pbc.grad.rks import Gradients

from denser.atoms.sad import valence_charges
from denser.dft.functionals import hartree_xc, hartree_xc_kernel
from denser.dft.gradient import (
    mixed_gradient,
    scf_gradient,
    step_gradient,
)
from denser.dft.one_step import one_step
from denser.dft.pyscf_private import density_on_mesh
from denser.dft.scf import mean_field, scf
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

MEV_PER_ANGSTROM = 1e3 * HARTREE / BOHR
COARSE = Recipe(spacing=0.25)
STEPS = np.array([-0.02, -0.01, 0.01, 0.02])  # bohr


DIRECTION = np.random.default_rng(5).normal(size=(5, 3))
DIRECTION /= np.abs(DIRECTION).max()
"""Of all atoms at once: one slope tests every component."""


def moved(structure: Structure, step: float) -> Structure:
    positions = structure.positions + step * DIRECTION
    return Structure(structure.numbers, positions, structure.charge)


def slope(values: list) -> np.ndarray:
    """Derivative from values at STEPS, exact to fourth order."""
    values = np.asarray(values)
    return (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * STEPS[2])


def blobs(structure: Structure, grid: Grid) -> Density:
    """Gaussians that move with their atoms: a smooth input, far from self-consistent."""
    charges = valence_charges(structure)
    values = np.zeros(grid.shape)
    for charge, position in zip(charges, structure.positions, strict=True):
        x, y, z = (
            sum(
                np.exp(-0.5 * (grid.axis(i) - position[i] - n * grid.cell[i, i]) ** 2)
                for n in (-1, 0, 1)
            )
            for i in range(3)
        )
        values += charge * np.einsum("i,j,k->ijk", x, y, z)
    values *= charges.sum() / (values.sum() * grid.dv)
    return Density(grid, values, structure=structure, valence_charges=charges)


@pytest.fixture(scope="module")
def methane() -> tuple[Structure, Grid]:
    """Distorted, in a small box and on a coarse grid: only consistency is at stake."""
    structure = Structure.of(molecule("CH4"))
    shifts = np.random.default_rng(2).normal(0, 0.1, (5, 3))
    structure = Structure(structure.numbers, structure.positions + shifts)
    return structure, Grid.around(structure, 1.6 / BOHR, COARSE.spacing)


@pytest.fixture(scope="module")
def converged(methane):
    structure, grid = methane
    return scf(structure, grid, COARSE, conv_tol=1e-11)


def test_scf_gradient_is_the_slope_of_the_energy(methane, converged):
    structure, grid = methane
    gradient = scf_gradient(structure, grid, converged, COARSE)
    assert np.abs(gradient).max() > 0.01
    energies = [
        scf(moved(structure, h), grid, COARSE, 1e-11, dm0=converged.dm).e_tot for h in STEPS
    ]
    error = np.vdot(gradient, DIRECTION) - slope(energies)
    assert abs(error) * MEV_PER_ANGSTROM < 0.5


def test_scf_gradient_is_that_of_pyscf(methane, converged):
    structure, grid = methane
    mf = mean_field(structure, grid, COARSE)
    mf.get_hcore()
    mf.mo_coeff, mf.mo_energy, mf.mo_occ = (
        converged.mo_coeff, converged.mo_energy, converged.mo_occ,
    )  # fmt: skip
    theirs = Gradients(mf)
    theirs.verbose = 0
    ours = scf_gradient(structure, grid, converged, COARSE)
    np.testing.assert_allclose(ours, theirs.kernel(), atol=1e-8)


def test_one_step_gradients_are_the_slopes_of_their_energies(methane):
    structure, grid = methane
    step = one_step(blobs(structure, grid), COARSE)
    gradients = {
        "e_mixed": mixed_gradient(step),
        "e_tot": step_gradient(step),
    }
    densities = [blobs(moved(structure, h), grid) for h in STEPS]
    steps = [one_step(density, COARSE) for density in densities]
    d_rho = slope([density.values for density in densities])
    for name, gradient in gradients.items():
        response = np.vdot(gradient.response, d_rho) * grid.dv
        assert abs(response) * MEV_PER_ANGSTROM > 20, "the response must matter here"
        expected = slope([getattr(s, name) for s in steps])
        error = np.vdot(gradient.explicit, DIRECTION) + response - expected
        assert abs(error) * MEV_PER_ANGSTROM < 0.5, name


def test_at_self_consistency_one_step_has_the_gradient_of_the_scf(methane, converged):
    structure, grid = methane
    mf = mean_field(structure, grid, COARSE)
    rho = density_on_mesh(mf, converged.dm)
    step = one_step(blobs(structure, grid).with_values(rho), COARSE)
    reference = scf_gradient(structure, grid, converged, COARSE)
    for gradient in (mixed_gradient(step), step_gradient(step)):
        error = np.abs(gradient.explicit - reference).max()
        assert error * MEV_PER_ANGSTROM < 0.1
        assert np.abs(gradient.response * rho).max() < 1e-3


@pytest.mark.parametrize("xc", ["pbe", "lda,vwn"])
def test_kernel_is_the_derivative_of_the_potential(methane, xc):
    structure, grid = methane
    rho = blobs(structure, grid).values
    wave = grid.points() @ (2 * np.pi / np.diag(grid.cell) * [1, 2, 1])
    change = rho * np.sin(wave)
    potentials = [hartree_xc(xc, rho + h / 4 * change, grid)[0] for h in STEPS]
    kernel = hartree_xc_kernel(xc, rho, grid)
    product = kernel(change)
    np.testing.assert_allclose(product, 4 * slope(potentials), atol=1e-5 * np.abs(product).max())
    # symmetric: <a|K b> = <b|K a>
    other = rho * np.cos(wave - 0.7)
    left = np.vdot(other, product)
    assert left == pytest.approx(np.vdot(change, kernel(other)))


def test_an_unconverged_energy_has_no_gradient(methane):
    structure, grid = methane
    result = scf(structure, grid, COARSE, max_cycle=1)
    with pytest.raises(InputError, match="has not converged"):
        scf_gradient(structure, grid, result, COARSE)
