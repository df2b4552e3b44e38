"""Forces of radicals: the slope of the self-consistent energy in open space."""

import numpy as np
import pytest
from ase import Atoms

from denser import Calculator
from denser.types.errors import InputError
from denser.types.grid import Grid

NH2 = Atoms("NH2", [[0.02, 0.01, 0.14], [0.05, 0.83, -0.49], [-0.04, -0.78, -0.52]])


@pytest.fixture(scope="module")
def calculator():
    return Calculator(padding=2.5, device="cpu", conv_tol=1e-10)


def test_forces_are_the_slope_of_the_energy(calculator):
    atoms = NH2.copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-8)
    atom, axis, step = 1, 1, 0.002
    energies = []
    for sign in (1, -1):
        moved = NH2.copy()
        moved.positions[atom, axis] += sign * step
        moved.calc = calculator
        energies.append(moved.get_potential_energy())
    assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / 0.004, abs=2e-4)


def test_density_dipole_and_charges(calculator):
    atoms = NH2.copy()
    atoms.calc = calculator
    moment = atoms.get_dipole_moment()
    assert calculator.result.cycles < 12
    density = calculator.density
    assert density.spin_density.integrate() == pytest.approx(1, abs=0.01)
    assert density.integrate() == pytest.approx(7, abs=0.02)
    assert moment @ (atoms.positions[1:].mean(axis=0) - atoms.positions[0]) > 0
    assert atoms.get_charges().sum() == pytest.approx(0, abs=0.01)


def test_boxes_are_refused():
    atoms = NH2.copy()
    atoms.calc = Calculator(grid=Grid(np.full(3, -8.0), np.eye(3) * 16, (40, 40, 40)))
    with pytest.raises(InputError, match=r"1 unpaired electron.*in a box cover closed shells only"):
        atoms.get_potential_energy()
