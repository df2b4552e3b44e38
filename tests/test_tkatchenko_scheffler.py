"""Dispersion coefficients from Hirshfeld volumes."""

import numpy as np
import pytest
from ase.build import molecule

from denser.analysis.charges.stockholder import Hirshfeld
from denser.analysis.charges.tkatchenko_scheffler import tkatchenko_scheffler
from denser.analysis.charges.without_grid import Conformer
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure


def hirshfeld(structure, ratios):
    n = len(structure)
    zeros = np.zeros((n, 3)), np.zeros((n, 3, 3))
    return Hirshfeld(structure, np.zeros(n), *zeros, np.ones(n), np.array(ratios), 0.0)


def test_free_atoms_have_their_reference_values():
    atoms = Structure(np.array([1, 6]), np.array([[0, 0, 0], [0, 0, 9.0]]))
    found = tkatchenko_scheffler(hirshfeld(atoms, [1.0, 1.0]))
    np.testing.assert_allclose(found.polarizabilities, [4.5, 12.0])
    np.testing.assert_allclose(np.diag(found.c6), [6.5, 46.6])
    expected = 2 * 6.5 * 46.6 / (12 / 4.5 * 6.5 + 4.5 / 12 * 46.6)
    np.testing.assert_allclose(found.c6[0, 1], expected)
    np.testing.assert_array_equal(found.c6, found.c6.T)
    half = tkatchenko_scheffler(hirshfeld(atoms, [1.0, 0.5]))
    assert half.c6[1, 1] == pytest.approx(46.6 / 4)


@pytest.mark.parametrize(
    ("name", "smallest", "largest"), [("H2O", 34.5, 44.1), ("NH3", 65.4, 77.8)]
)
def test_c6_lies_between_those_of_bases_without_and_with_diffuse_functions(name, smallest, largest):
    """PBE with all electrons by PySCF, in cc-pVTZ and aug-cc-pVTZ, with the same free atoms."""
    structure = Structure.of(molecule(name))
    atoms = Predictor("default", "cpu").gaussians(structure)[0]
    found = tkatchenko_scheffler(Conformer(structure, atoms).hirshfeld)
    assert smallest < found.c6.sum() < largest


def test_the_c6_of_benzene_is_that_of_its_oscillator_strengths():
    """1723 hartree bohr^6 (Kumar and Meath 1992)."""
    structure = Structure.of(molecule("C6H6"))
    atoms = Predictor("default", "cpu").gaussians(structure)[0]
    found = tkatchenko_scheffler(Conformer(structure, atoms).hirshfeld)
    assert found.c6.sum() == pytest.approx(1723, rel=0.055)  # the mean error of the method


def test_elements_without_reference_values_are_named():
    atoms = Structure(np.array([19, 9]), np.array([[0, 0, 0], [0, 0, 4.2]]))
    with pytest.raises(InputError, match=r"atom 1 \(K\) has no reference"):
        tkatchenko_scheffler(hirshfeld(atoms, [1.0, 1.0]))
