import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from denser import InputError, Structure
from denser.types import structure as structure_module
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


def test_spin_defaults_to_the_smallest_and_must_fit(water):
    assert (Structure.of(water).spin, Structure.of(water, charge=1).spin) == (0, 1)
    triplet = Structure.of(water, spin=2)
    assert (triplet.spin, triplet.spin_assumed) == (2, False)
    assert Structure.of(triplet) is triplet and Structure.of(triplet, isolated=True).spin == 2
    assert Structure.of(triplet, charge=1).spin == 1  # a spin belongs to a charge
    assert Structure.of(triplet, charge=1).spin_assumed
    assert "spin 2" in repr(triplet)
    for spin, words in (
        (1, r"H2O has 10 electrons, of which 1 cannot be unpaired \(their number must be even\)"),
        (12, "that is too many"), (-2, "number of unpaired electrons, found -2"),
        (0.5, "spin must be a whole number"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            Structure.of(water, spin=spin)


def test_spin_of_ase_atoms():
    oxygen = molecule("O2")  # with magnetic moments
    assert Structure.of(oxygen).spin == 2
    assert Structure.of(oxygen, spin=0).spin == 0
    assert Structure.of(oxygen, charge=1).spin == 1
    for key, value, spin in (
        ("multiplicity", 3, 2), ("multiplicity", 1, 0), ("spin", 2, 2), ("spin", 3, 2),
        ("spin", 1, 0), ("Spin", 0, 0), ("spin_multiplicity", 5, 4), ("spin", "high", 2),
    ):  # fmt: skip
        oxygen.info = {key: value}
        assert Structure.of(oxygen).spin == spin, (key, value)
    back = Structure.of(Structure.of(molecule("OH")).to_ase())
    assert back.spin == 1 and "spin" not in Structure.of(molecule("H2O")).to_ase().info
    iron = Atoms("Fe", magmoms=[2.7])
    with pytest.raises(InputError, match=r"moments of Fe add up to 2.7: .* remove them"):
        Structure.of(iron)
    ion = Atoms("H2O", molecule("H2O").positions, charges=[-1, 0, 0])
    assert Structure.of(ion, charge=0).charge == 0


def test_an_assumed_spin_is_assumed_anew_and_a_stated_one_is_kept():
    water = Structure.of(molecule("H2O"))
    cation = replace(water, charge=1)
    assert (cation.spin, cation.spin_assumed) == (1, True)
    assert replace(cation, charge=0).spin == 0
    stated = Structure.of(molecule("H2O"), charge=1, spin=1)
    with pytest.raises(InputError, match="of which 1 cannot be unpaired"):
        replace(stated, charge=0)
    assert pickle.loads(pickle.dumps(cation)).spin_assumed and json.dumps(cation.spin) == "1"


def test_neighbours_of_many_atoms_are_those_of_few(monkeypatch):
    """A tree, against ASE's list."""
    rng = np.random.default_rng(0)
    structure = Structure(np.ones(60, dtype=int), rng.uniform(0, 30, (60, 3)))
    radii = rng.uniform(2.0, 6.0, 60)
    for reach in (8.0, radii):
        monkeypatch.setattr(structure_module, "MANY", 1000)
        few = structure.neighbours(reach)
        monkeypatch.setattr(structure_module, "MANY", 1)
        many = structure.neighbours(reach)
        order = np.lexsort((few[1], few[0]))
        for found, expected in zip(many, few, strict=True):
            np.testing.assert_allclose(found, expected[order], atol=1e-12)
