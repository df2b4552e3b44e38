import copy
import pickle
from dataclasses import replace

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
    assert Structure.of(water).cell is None
    water.pbc = True
    structure = Structure.of(water)
    np.testing.assert_allclose(np.diag(structure.cell) * BOHR, [5, 6, 7])
    assert structure.is_orthorhombic
    assert not Structure.from_ase(bulk("Al")).is_orthorhombic


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True)])
def test_slabs_and_wires_are_refused(water, pbc):
    water.set_cell([5, 6, 7])
    water.pbc = pbc
    with pytest.raises(InputError, match=r"pbc = [TF ]+\); for a slab or a wire set pbc to True"):
        Structure.of(water)
    assert Structure.of(water, isolated=True).cell is None


def test_the_arrays_of_the_user_stay_the_users(water):
    water.pbc, water.cell = True, np.diag([5.0, 6, 7])
    numbers, positions, cell = np.array([8, 1, 1]), water.positions / BOHR, np.diag([9.0, 9, 9])
    for structure in (Structure.of(water), Structure(numbers, positions, cell=cell)):
        before = [structure.numbers.copy(), structure.positions.copy(), structure.cell.copy()]
        water.symbols[0] = "S"
        water.positions += 1
        water.cell[0, 0] = 20
        for array in (numbers, positions, cell):
            array += 1  # the caller's own: they can still be written
        for name, value in zip(("numbers", "positions", "cell"), before, strict=True):
            np.testing.assert_array_equal(getattr(structure, name), value)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), replace]
)
def test_arrays_are_read_only(water, copied):
    water.pbc, water.cell = True, np.diag([5.0, 6, 7])
    structure = copied(Structure.of(water))
    for array in (structure.numbers, structure.positions, structure.cell):
        with pytest.raises(ValueError, match="read-only"):
            array += 1


@pytest.mark.parametrize("charge", [np.nan, np.inf, 0.5, "one", None, 1j])
def test_a_charge_is_a_whole_number(charge):
    with pytest.raises(InputError, match="the charge must be a whole number of electrons, found"):
        Structure([1], [[0, 0, 0]], charge)
    if charge is not None:
        with pytest.raises(InputError, match="the charge must be a whole number"):
            Structure.of(Atoms("H", info={"charge": charge}))


def test_initial_charges_that_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="whole number of electrons, found nan"):
        Structure.of(Atoms("H", charges=[np.nan]))


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
