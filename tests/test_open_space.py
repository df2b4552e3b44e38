"""Isolated molecules in open space: fields of Gaussians, invariance, agreement with PySCF."""

import warnings

import numpy as np
import pytest
import scipy.linalg
from ase.build import molecule
from pyscf.dft import gen_grid
from scipy.spatial.transform import Rotation
from scipy.special import erf

from denser.atoms.sad_fields import energy_of_free_atoms, free_atom
from denser.dft import open_space
from denser.dft.gradient import mixed_gradient
from denser.dft.one_step import CoarseGridWarning, one_step
from denser.dft.open_space import SecondOrder, box_spacing, linearised
from denser.dft.pyscf_private import molecule_of
from denser.dft.refine import refine
from denser.dft.scf import mean_field
from denser.dft.turned_points import principal_axes, quadrature
from denser.model.gaussian_fields import boys, deformation, gradient_of_harmonics
from denser.model.harmonics import harmonics_at, spherical_harmonics
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.units import BOHR, HARTREE

RECIPE = "gth-szv-1e"
WATER = -17.220200740929524
"""Hartree; PySCF 2.14, dft.RKS of ASE's molecule("H2O"), gth-tzv2p, gth-pbe, PBE, grid level 5."""

MEV = 1000 * HARTREE


@pytest.fixture(scope="module")
def predictor():
    return Predictor()


@pytest.fixture(scope="module")
def water(predictor):
    return predictor.predict(molecule("H2O"), padding=2.5).density


def harris(density):
    """Harris-Foulkes energy in open space, hartree."""
    mol = molecule_of(mean_field(density.structure, density.grid).cell, density.grid.origin)
    linear = linearised(mol, density.continuous, density.structure, "pbe")
    values = scipy.linalg.eigh(linear.matrix, mol.intor("int1e_ovlp"), eigvals_only=True)
    return 2 * values[: mol.nelectron // 2].sum() + linear.energy


def test_functions_of_boys():
    import torch

    t = torch.tensor([1e-9, 0.3, 4.0, 17.3, 20.999, 21.001, 80.0], dtype=torch.float64)
    found = boys(t, 5)
    x = t.numpy()
    np.testing.assert_allclose(found[0], np.sqrt(np.pi / x) / 2 * erf(np.sqrt(x)), rtol=1e-8)
    for n in range(5):  # F_n' = -F_(n+1), by the recursion
        expected = ((2 * n + 1) * found[n] - torch.exp(-t)) / (2 * t)
        np.testing.assert_allclose(found[n + 1][1:], expected[1:], rtol=1e-5, atol=1e-10)


def test_harmonics_from_monomials():
    import torch

    x = torch.randn(3, 20, dtype=torch.float64)
    expected = spherical_harmonics(x.T, 5).T
    np.testing.assert_allclose(harmonics_at(x, 5), expected, atol=1e-10)


def test_gradient_of_harmonics():
    import torch

    x = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64, requires_grad=True)
    values = spherical_harmonics(x, 4)[0]
    slopes = np.array([torch.autograd.grad(v, x, retain_graph=True)[0][0].numpy() for v in values])
    lower = spherical_harmonics(x.detach(), 3)[0].numpy()
    np.testing.assert_allclose(gradient_of_harmonics(4) @ lower, slopes.T, atol=1e-12)


def test_potential_of_a_deformation_solves_poissons_equation():
    rng = np.random.default_rng(0)
    exponents = np.array([0.3, 0.9, 5.0])
    coefficients = rng.normal(size=(3, 16))
    x = rng.normal(size=(3, 40)) * 1.5
    h = 0.05
    rho, gradient, v = deformation(x, coefficients, exponents)
    laplacian = -3 * 5 / 2 * v
    for axis in range(3):
        step = np.zeros((3, 1))
        step[axis] = h
        ahead, behind = (deformation(x + s * step, coefficients, exponents) for s in (1, -1))
        slope = (ahead[0] - behind[0]) / (2 * h)
        np.testing.assert_allclose(gradient[axis], slope, atol=0.03 * np.abs(gradient).max())
        laplacian += 4 / 3 * (ahead[2] + behind[2])
        for s in (2, -2):
            laplacian -= deformation(x + s * step, coefficients, exponents)[2] / 12
    scale = 4 * np.pi * np.abs(rho).max()
    np.testing.assert_allclose(laplacian / h**2, -4 * np.pi * rho, atol=0.02 * scale)


def test_potential_far_from_a_deformation_is_that_of_its_moments():
    """Charge and dipole of Gaussians, at distances where their Boys functions are asymptotes."""
    c = np.zeros((2, 4))
    c[:, 0], c[:, 2] = (0.4, -0.1), (0.2, 0.3)  # Y_00 and Y_10
    a = np.array([0.5, 2.0])
    x = np.array([[0.0, 5.0], [0.0, 0.0], [12.0, 6.0]])
    charge = np.sqrt(1 / (4 * np.pi)) * (c[:, 0] * (np.pi / a) ** 1.5).sum()
    dipole = np.sqrt(3 / (4 * np.pi)) * (c[:, 2] * (np.pi / a) ** 1.5 / (2 * a)).sum()
    r = np.linalg.norm(x, axis=0)
    expected = charge / r + dipole * x[2] / r**3
    np.testing.assert_allclose(deformation(x, c, a)[2], expected, rtol=1e-5)


def test_energy_of_free_atoms_is_that_of_quadrature(water):
    """Functions of distances against a sum over many points."""
    s = water.structure
    mol = molecule_of(mean_field(s, water.grid).cell, water.grid.origin)
    grids = gen_grid.Grids(mol)
    grids.level = 6
    grids.verbose = 0
    grids.build()
    factors = np.array([1.1, 0.9, 0.8])
    parts = [
        [f * k for k in free_atom((grids.coords - p).T, int(z), RECIPE)]
        for z, p, f in zip(s.numbers, s.positions, factors, strict=True)
    ]
    rho, v = sum(p[0] for p in parts), sum(p[2] for p in parts)
    expected = 0.5 * grids.weights @ (rho * v)
    found = energy_of_free_atoms(s.numbers, s.positions, factors, RECIPE, lambda z, r: 0 * r)
    assert found == pytest.approx(expected, abs=2e-5)


def test_fields_of_a_prediction(water):
    atoms = water.continuous
    mol = molecule_of(mean_field(water.structure, water.grid).cell, water.grid.origin)
    points, weights = quadrature(mol)
    free, deformed = atoms.fields(points)
    rho = free[0] + deformed[0]
    assert weights @ rho == pytest.approx(8, abs=1e-4)
    np.testing.assert_allclose(np.maximum(rho, 0), atoms.at(points), atol=3e-5)


def test_few_points_suffice_for_the_second_order(predictor, monkeypatch):
    """Exchange and correlation of second order, against PySCF's points of level 5."""
    density = predictor.predict(molecule("C2F4")).density
    step = one_step(density, isolated=True)
    mol, occupied = step.mf.open_space.mol, step.mo_coeff[:, step.mo_occ > 0]
    found = step.mf.open_space.second_order.of(occupied)
    grids = gen_grid.Grids(mol)
    grids.level = 5
    grids.verbose = 0
    grids.build()
    monkeypatch.setattr(open_space, "quadrature", lambda *_, **__: (grids.coords, grids.weights))
    every = SecondOrder.about(mol, density.continuous, "pbe")
    assert len(every.weights) > 5 * len(step.mf.open_space.second_order.weights)
    expected = every.of(occupied)
    assert abs(expected) * MEV > 0.5
    assert found == pytest.approx(expected, rel=0.03)


def test_axes_turn_with_the_molecule(water):
    turn = Rotation.random(rng=3).as_matrix()
    numbers, positions = water.structure.numbers, water.structure.positions
    axes = principal_axes(numbers, positions)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    # the same axes, of either direction
    turned = principal_axes(numbers, positions @ turn.T + 1.0)
    np.testing.assert_allclose(np.abs(turned @ turn @ axes.T), np.eye(3), atol=1e-9)


def test_energy_agrees_with_pyscf_and_does_not_depend_on_place(predictor, water):
    first = harris(water)
    assert abs(first - WATER) * MEV < 0.2
    atoms = molecule("H2O")
    atoms.positions = atoms.positions @ Rotation.random(rng=5).as_matrix().T + [0.03, 0.4, 0.1]
    turned = predictor.predict(atoms, padding=2.5).density
    assert abs(harris(turned) - first) * MEV < 0.01


def test_a_step_does_not_depend_on_the_orientation(predictor):
    recipe = Recipe(spacing=0.2)
    energies = []
    for angle in (0, 25):
        atoms = molecule("H2O")
        atoms.rotate(angle, (1, 2, 3))
        density = predictor.predict(atoms, padding=2.5, spacing=0.2 * BOHR).density
        step = one_step(density, recipe, isolated=True)
        energies.append([step.e_harris, step.e_ks, step.e_tot])
    assert np.ptp(energies, axis=0).max() * MEV < 0.1  # several meV in the box
    with pytest.raises(InputError, match="open space"):
        mixed_gradient(step)


def test_what_the_box_does_needs_no_fine_grid(predictor):
    """The grid of the box becomes coarser for the energy, and the density keeps its own."""
    density = predictor.predict(molecule("H2O"), padding=2.5).density
    coarse = refine(density, isolated=True)
    assert box_spacing(density.structure, Recipe()) == pytest.approx(0.24, abs=1e-3)
    step = coarse.steps[0]
    assert step.density.grid.size < 0.4 * density.grid.size
    mf = mean_field(density.structure, density.grid, isolated=True, about=density)
    fine = refine(density, mf=mf)
    assert coarse.e_tot == pytest.approx(fine.e_tot, abs=0.03 / MEV)
    assert coarse.homo == pytest.approx(fine.homo, abs=5 / MEV)
    assert coarse.density.grid.shape == fine.density.grid.shape == density.grid.shape
    assert coarse.density.integrate() == pytest.approx(8, abs=1e-6)
    difference = coarse.density - fine.density
    assert np.abs(difference.values).sum() * difference.grid.dv < 0.0015 * 8
    assert coarse.error_before == pytest.approx(fine.error_before, rel=0.3)
    # continued on the grid of the first step
    again = refine(coarse.density, earlier=coarse.steps)
    assert again.steps[-1].density.grid.shape == step.density.grid.shape
    assert again.e_tot == pytest.approx(fine.e_tot, abs=0.1 / MEV)


def test_a_coarse_density_is_no_reason_to_refuse_steps(predictor):
    """Interpolation from its grid makes negative values; the energy does not depend on the grid."""
    hydrogen = molecule("H2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoarseGridWarning)
        coarse, fine = (
            refine(predictor.predict(hydrogen, spacing=h).density, isolated=True)
            for h in (0.2, 0.09)
        )
    assert coarse.e_tot == pytest.approx(fine.e_tot, abs=2e-5)
    assert coarse.density.grid.shape != fine.density.grid.shape
    assert coarse.density.values.min() >= 0
