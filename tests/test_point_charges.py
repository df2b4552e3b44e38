"""Point charges around a molecule: integrals, exact forces, and ASE's QM/MM."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.qmmm import EIQMMM, LJInteractions
from ase.calculators.tip3p import TIP3P, epsilon0, sigma0

import denser
from denser.dft.molecular import build_molecule
from denser.dft.point_charges import PointCharges
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR


def test_matrix_is_that_of_nuclei():
    """Charges at which PySCF has its own code: those of nuclei."""
    structure = Structure.of(molecule("H2O"))
    mol = build_molecule(structure, "gth-tzv2p")
    charges = PointCharges(mol.atom_coords(), mol.atom_charges())
    with mol.with_rinv_origin(mol.atom_coord(0)):
        oxygen = -6 * mol.intor("int1e_rinv")
    of_all = charges.matrix(mol)
    assert PointCharges(mol.atom_coords()[:1], [6.0]).matrix(mol) == pytest.approx(oxygen)
    assert of_all == pytest.approx(mol.intor("int1e_nuc"), abs=1e-10)


@pytest.fixture(scope="module")
def dimer() -> Atoms:
    """A water by ASE's TIP3P beside one of the calculator."""
    waters = molecule("H2O") + molecule("H2O")
    waters.positions[3:] += [0.2, 3.0, 0.4]
    calculator = denser.Calculator()
    interaction = LJInteractions({("O", "O"): (epsilon0, sigma0)})
    waters.calc = EIQMMM([0, 1, 2], calculator, TIP3P(rc=20.0), interaction)
    return waters


def test_forces_of_qm_mm(dimer):
    forces = dimer.get_forces()
    alone = dimer[:3]
    alone.calc = denser.Calculator()
    assert np.abs(forces[:3] - alone.get_forces()).max() > 0.05
    found = calculate_numerical_forces(dimer, eps=0.003, iatoms=[0, 1, 5], icarts=[1])
    assert forces[[0, 1, 5], 1] == pytest.approx(found[:, 0], abs=2e-3)


def test_electrons_are_polarised():
    """In a weak field of far charges the dipole changes along it, and energies are of its order."""
    water = molecule("H2O")
    calculator = denser.Calculator()
    water.calc = calculator
    before, free = water.get_dipole_moment(), water.get_potential_energy()
    embedded = calculator.embed([30 / 2, -30 / 2])
    embedded.set_positions([[0, 0, -60.0], [0, 0, 60.0]])
    field = 2 * 15 / (60 / BOHR) ** 2  # along z, hartree/(e bohr)
    after, energy = water.get_dipole_moment(), water.get_potential_energy()
    alpha = (after - before)[2] / BOHR / field
    assert 5 < alpha < 15  # bohr^3; in this small basis
    linear = -(before[2] + 0.5 * (after - before)[2]) / BOHR * field * 27.2114
    assert energy - free == pytest.approx(linear, rel=0.03)


def test_bad_charges():
    with pytest.raises(InputError, match="2 points need as many"):
        PointCharges(np.zeros((2, 3)), [1.0])
    with pytest.raises(InputError, match="charges are in e"):
        PointCharges(np.ones((1, 3)), [417.0])
    with pytest.raises(InputError, match="one step in open space"):
        denser.Calculator(task="scf").embed([1.0])
