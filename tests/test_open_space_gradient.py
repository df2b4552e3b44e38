"""Forces in open space: each piece and the whole against differences, invariance, and PySCF."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from pyscf import dft
from pyscf.dft import gen_grid
from scipy.spatial.transform import Rotation

from denser.atoms.sad_fields import free_atom, free_atom_pullback, free_atoms_together
from denser.dft.atom_points import atom_points, weights_pullback
from denser.dft.molecular import build_molecule
from denser.dft.one_step import OneStep
from denser.dft.open_space import core_of_element, core_slope
from denser.dft.open_space_gradient import OpenStep
from denser.model.gaussian_fields import deformation
from denser.model.gaussian_pullback import deformation_pullback
from denser.model.normalise import electron_factors, factors_pullback
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE
from denser.workflows.calculator import Calculator

RECIPE = "gth-szv-1e"
RNG = np.random.default_rng(0)


def slope(function, step: float):
    """Derivative at zero, exact to fourth order."""
    a, b, c, d = (function(n * step) for n in (-2, -1, 1, 2))
    return (8 * (c - b) - (d - a)) / (12 * step)


def distorted(name: str) -> Atoms:
    atoms = molecule(name)
    atoms.positions += 0.03 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    return atoms


@pytest.fixture(scope="module")
def calculator():
    return Calculator(device="cpu")


@pytest.fixture(scope="module")
def water(calculator):
    atoms = distorted("H2O")
    atoms.calc = calculator
    return atoms


def weighted(by, fields) -> np.ndarray:
    """What each point contributes to the sum of fields times weights (n,)."""
    return by[0] * fields[0] + (by[1] * fields[1]).sum(axis=0) + by[2] * fields[2]


def gradient(function, x: np.ndarray, step: float) -> np.ndarray:
    """Derivative of values (n,) at points (3, n) with respect to each point."""
    axes = np.eye(3)[:, :, None]
    return np.array([slope(lambda h, axis=axis: function(x + h * axis), step) for axis in axes])


def test_pullback_of_a_free_atom():
    x = RNG.normal(size=(3, 30)) * 3
    x[:, 0] *= 40 / np.linalg.norm(x[:, 0])  # beyond its reach
    by = RNG.normal(size=30), RNG.normal(size=(3, 30)), RNG.normal(size=30)

    def each(x):
        return weighted(by, free_atom(x, 8, RECIPE))

    found, total = free_atom_pullback(x, 8, RECIPE, by)
    assert total == pytest.approx(each(x).sum())
    np.testing.assert_allclose(found, gradient(each, x, 1e-3), atol=1e-5)


def test_pullback_of_a_deformation():
    exponents = np.array([0.16, 0.9, 5.0])
    c, d = RNG.normal(size=(2, 3, 16))
    x = RNG.normal(size=(3, 200)) * RNG.uniform(0.2, 6, 200)  # some points are far
    by = RNG.normal(size=200), RNG.normal(size=(3, 200)), RNG.normal(size=200)

    def each(x, c=c):
        return weighted(by, deformation(x, c, exponents))

    by_points, by_coefficients = deformation_pullback(x, c, exponents, by)
    assert np.vdot(by_coefficients, d) == pytest.approx(each(x, d).sum(), rel=1e-5)
    size = np.sqrt((by_points**2).mean())
    np.testing.assert_allclose(by_points, gradient(each, x, 5e-3), atol=3e-3 * size)


def test_energy_of_free_atoms_has_a_slope(water):
    s = Structure.of(water)
    mol = build_molecule(s, "gth-tzv2p")
    factors, moved, changed = np.array([0.9, 1.1, 1.2]), RNG.normal(size=(3, 3)), RNG.normal(size=3)

    def energy(h):
        def local(z, r):
            return core_of_element(mol, s.numbers, z, r)

        positions = s.positions + h * moved
        return free_atoms_together(s.numbers, positions, factors + h * changed, RECIPE, local)

    _, by_position, by_factor = energy(0)
    expected = slope(lambda h: energy(h)[0], 1e-2)
    found = np.vdot(by_position, moved) + by_factor @ changed
    assert found == pytest.approx(expected, rel=1e-7)


def test_slope_of_the_local_pseudopotential(water):
    mol = build_molecule(Structure.of(water), "gth-tzv2p")
    r = np.array([0.05, 0.3, 1.0, 4.0])
    for atom, z in enumerate(water.numbers[:2]):
        expected = slope(lambda h, z=z: core_of_element(mol, water.numbers, int(z), r + h), 1e-3)
        np.testing.assert_allclose(core_slope(mol, atom, r), expected, rtol=1e-7)


def test_weights_are_those_of_becke_and_have_slopes(monkeypatch):
    monkeypatch.setattr("denser.dft.atom_points._NEGLIGIBLE", -1.0)  # always the same points
    s = Structure.of(distorted("H2CO"))
    moved = RNG.normal(size=s.positions.shape)
    values = None

    def total(h):
        mol = build_molecule(Structure(s.numbers, s.positions + h * moved), "gth-tzv2p")
        points, weights, parents = atom_points(mol)
        return weights @ (values if values is not None else np.exp(-(points[:, 0] ** 2))), parents

    mol = build_molecule(s, "gth-tzv2p")
    points, weights, parents = atom_points(mol)
    own = gen_grid.Grids(mol)  # the density of a Gaussian is integrated
    own.level, own.verbose = 5, 0
    own.build()
    bell = [np.exp(-((p - s.positions[0]) ** 2).sum(axis=1)) for p in (points, own.coords)]
    assert weights @ bell[0] == pytest.approx(own.weights @ bell[1], abs=1e-6)
    assert weights @ bell[0] == pytest.approx(np.pi**1.5, abs=1e-6)
    # values that move with the points, so that only the weights change
    smooth = np.exp(-0.3 * ((points - s.positions[parents]) ** 2).sum(axis=1))
    values = smooth * (1 + parents)
    found = np.vdot(weights_pullback(mol, points, weights, parents, values), moved)
    assert found == pytest.approx(slope(lambda h: total(h)[0], 1e-3), rel=1e-6)


def test_factors_of_distant_molecules_have_slopes():
    """Atoms between one and two molecules, where the excess of electrons flows slowly."""
    s = Structure.of(Atoms("OHOH", [(0, 0, 0), (0.9, 0.2, 0), (6.5, 1, 0), (7.2, 1.2, 0.5)]))
    electrons, target = np.array([6.3, 0.8, 6.1, 1.2]), np.array([6.0, 1.0, 6.0, 1.0])
    g, moved, changed = RNG.normal(size=4), RNG.normal(size=(4, 3)), RNG.normal(size=4)

    def total(h):
        there = Structure(s.numbers, s.positions + h * moved)
        m = electrons + h * changed
        f = electron_factors(there, m, m - target)
        return g @ (f * target.sum() / (f @ m))

    by_position, by_electrons = factors_pullback(s, electrons, electrons - target, g)
    found = np.vdot(by_position, moved) + by_electrons @ changed
    assert np.abs(by_position).max() > 1e-3
    assert found == pytest.approx(slope(total, 1e-3), rel=1e-6)


def test_forces_are_the_slope_of_the_energy(calculator, water):
    forces = water.get_forces()
    assert isinstance(calculator.step, OpenStep)
    assert np.abs(forces).max() > 0.3
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-9)
    direction = RNG.normal(size=forces.shape)
    direction /= np.linalg.norm(direction)

    def energy(h):
        there = water.copy()
        there.positions += h * direction
        there.calc = calculator
        return there.get_potential_energy()

    expected = slope(energy, 0.01)
    assert np.vdot(forces, direction) == pytest.approx(-expected, abs=2e-4)  # eV/angstrom


def test_energy_and_forces_turn_with_the_molecule(calculator, water):
    forces, energy = water.get_forces(), water.get_potential_energy()
    dipole = water.get_dipole_moment()
    turn = Rotation.random(rng=4).as_matrix()
    turned = water.copy()
    turned.positions = water.positions @ turn.T + 0.7
    turned.calc = calculator
    assert turned.get_potential_energy() == pytest.approx(energy, abs=1e-5)
    np.testing.assert_allclose(turned.get_forces(), forces @ turn.T, atol=1e-3)
    np.testing.assert_allclose(turned.get_dipole_moment(), turn @ dipole, atol=1e-4)


def test_a_small_turn_gives_no_torque(calculator):
    """Otherwise rotations have frequencies; 5e-4 eV per radian^2 are 10/cm for water."""
    atoms = molecule("H2O")  # along the axes, where the spheres of points are symmetric
    atoms.rotate(0.02 * 180 / np.pi, "x", center="COM")
    atoms.calc = calculator
    arms = atoms.positions - atoms.get_center_of_mass()
    torque = np.cross(arms, atoms.get_forces()).sum(axis=0)
    assert np.abs(torque).max() < 0.02 * 2e-3


@pytest.mark.slow
def test_energy_and_forces_agree_with_pyscf(calculator, water):
    """The error of the prediction, of second order, is left."""
    mf = dft.RKS(build_molecule(Structure.of(water), "gth-tzv2p"), xc="pbe")
    mf.grids.level = 4
    energy = mf.kernel() * HARTREE
    gradient = mf.nuc_grad_method()
    gradient.verbose = 0
    expected = -gradient.kernel() * HARTREE / BOHR
    assert water.get_potential_energy() == pytest.approx(energy, abs=5e-4)
    np.testing.assert_allclose(water.get_forces(), expected, atol=5e-3)


def test_the_box_and_the_density_on_request(calculator, water):
    water.get_potential_energy()
    density = calculator.density
    assert density.integrate() == pytest.approx(8, abs=1e-3)
    np.testing.assert_allclose(density.dipole() * BOHR, water.get_dipole_moment(), atol=2e-3)
    assert calculator.density is density
    charges = water.get_charges()
    assert charges.sum() == pytest.approx(0, abs=1e-3)
    hydrogen = molecule("H2")
    hydrogen.calc = Calculator(estimate="mixed", padding=2.0, device="cpu")
    hydrogen.get_potential_energy()
    assert isinstance(hydrogen.calc.step, OneStep)
    with pytest.raises(InputError, match="unknown estimate"):
        Calculator(estimate="best")


def test_rigid_forces_leave_out_the_network(calculator, water):
    exact = water.get_forces()
    other = water.copy()
    other.calc = Calculator(forces="rigid", device="cpu")
    rigid = other.get_forces()
    assert 1e-4 < np.abs(rigid - exact).max() < 0.2
    assert other.get_potential_energy() == water.get_potential_energy()
    assert torch.is_grad_enabled()
