import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from denser import InputError, Structure
from denser.types.units import BOHR


def test_round_trip_through_ase_keeps_the_frame(water):
    water.translate([3.0, -7.5, 100.0])
    structure = Structure.from_ase(water)
    assert structure.cell is None
    back = structure.to_ase()
    np.testing.assert_allclose(back.positions, water.positions, atol=1e-12)
    assert back.symbols.get_chemical_formula() == "H2O"


def test_charge_comes_from_info_then_initial_charges(water):
    assert Structure.of(water).charge == 0
    water.set_initial_charges([0.5, 0.5, 0.0])
    assert Structure.of(water).charge == 1
    water.info["charge"] = -2
    assert Structure.of(water).charge == -2
    assert Structure.of(water, charge=3).charge == 3


def test_cell_is_taken_only_when_periodic_everywhere(water):
    water.set_cell([5, 6, 7])
    water.pbc = (True, True, False)
    assert Structure.of(water).cell is None
    water.pbc = True
    structure = Structure.of(water)
    np.testing.assert_allclose(np.diag(structure.cell) * BOHR, [5, 6, 7])
    assert structure.is_orthorhombic
    assert not Structure.from_ase(bulk("Al")).is_orthorhombic


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms(), "no atoms"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.3]]), "closer than 0.4 angstrom"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), "not a finite number"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.inf]]), "not a finite number"),
        (Atoms("H2", [[0, 0, 0.1], [0, 0, 4.9]], cell=[5, 5, 5], pbc=True), "closer than"),
        (Atoms("H", [[0, 0, 0]], cell=np.zeros((3, 3)), pbc=True), "no volume"),
    ],
)
def test_unusable_atoms_are_one_sentence(atoms, words):
    with pytest.raises(InputError, match=words):
        Structure.from_ase(atoms)


def test_positions_must_fit_numbers():
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        Structure([1, 1], [[0, 0, 0]])
    with pytest.raises(InputError, match="atomic number 119"):
        Structure([119], [[0, 0, 0]])
    with pytest.raises(InputError, match=r"ase\.Atoms"):
        Structure.of("H2O")


def test_formula_and_symbols():
    assert Structure.from_ase(molecule("CH3CH2OH")).formula == "C2H6O"
