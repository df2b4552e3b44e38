from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import denser
from denser.atoms.plausible import open_shells, strange, strange_bonds
from denser.labels.packed import read_shard
from denser.types.errors import InputError
from denser.types.structure import Structure

SHARDS = Path(__file__).parents[1] / "data"


def scaled(name: str, factor: float) -> Atoms:
    atoms = molecule(name)
    atoms.set_initial_magnetic_moments()
    atoms.positions *= factor
    return atoms


def stretched_methanol(length: float) -> Atoms:
    atoms = molecule("CH3OH")
    bond = atoms.positions[1] - atoms.positions[0]
    atoms.positions[[1, 3]] += bond * (length / np.linalg.norm(bond) - 1)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (stretched_methanol(2.2), "atoms 1 (C) and 2 (O) are 2.20 angstrom apart, but a bond"),
        (stretched_methanol(1.8), "1.80 angstrom apart"),
        (stretched_methanol(0.9), "0.90 angstrom apart"),
        # what force fields make of them
        (Atoms("OCO", [[-1.405, 0, 0], [0, 0, 0], [1.405, 0, 0]]), "1.41 angstrom apart"),
        (Atoms("N2", [[0, 0, 0], [1.46, 0, 0]]), "1.46 angstrom apart, but a bond between them is"),
        (Atoms("CN", [[0, 0, 0], [1.461, 0, 0]]), "1.46 angstrom apart"),
        (Atoms("SCS", [[-1.798, 0, 0], [0, 0, 0], [1.798, 0, 0]]), "(1 more such pair)"),
        (Atoms("N3", [[-1.46, 0, 0], [0, 0, 0], [1.46, 0, 0]]), "1.46 angstrom apart"),
        (Atoms("OSO", [[-1.432, 0.835, 0], [0, 0, 0], [1.432, 0.835, 0]]), "1.66 angstrom apart"),
        (scaled("C6H6", 1.3), "more such pairs"),
    ],
)
def test_bonds_of_unlikely_length(atoms, words):
    (sentence,) = strange_bonds(Structure.of(atoms))
    assert words in sentence and sentence.endswith("is the geometry right?")


def test_molecules_of_the_g2_set_are_not_strange():
    from ase.data.g2 import molecule_names

    for name in molecule_names:
        atoms = scaled(name, 1)
        assert strange_bonds(Structure.of(atoms)) == [], name


@pytest.mark.parametrize(
    ("atoms", "charge"),
    [
        (Atoms("OHOH4", [  # Zundel's cation: a proton between two waters
            [-1.2, 0, 0], [0, 0, 0], [1.2, 0, 0], [-1.75, 0.55, 0.55], [-1.75, -0.55, -0.55],
            [1.75, 0.55, -0.55], [1.75, -0.55, 0.55]]), 1),
        (Atoms("FHF", [[-1.15, 0, 0], [0, 0, 0], [1.15, 0, 0]]), -1),
        (Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]]), 0),
        (denser.from_smiles("[O-][N+](=O)[N+](=O)[O-]"), 0),
    ],
)  # fmt: skip
def test_ions_and_strong_hydrogen_bonds_are_not_strange(atoms, charge):
    assert strange_bonds(Structure.of(atoms, charge)) == []


def test_labels_are_not_strange_though_a_third_is_distorted():
    labels = read_shard(SHARDS / "labels-0001.shard").labels[::3]
    found = [label.name for label in labels if strange(label.structure)]
    assert len(found) <= 1, found  # one has displacements of 0.1 angstrom


def test_a_molecule_across_the_faces_of_its_cell():
    atoms = molecule("CH3OH")
    atoms.set_cell([6, 7, 8])
    atoms.pbc = True
    atoms.positions += [0.1 - atoms.positions[0, 0], 0, 0]
    atoms.wrap()
    assert np.ptp(atoms.positions[:, 0]) > 3
    assert strange(Structure.of(atoms)) == []


@pytest.mark.parametrize("name", ["O2", "S2", "SO", "NH", "CH2_s3B1d"])
def test_ground_states_with_open_shells(name):
    atoms = scaled(name, 1)
    (sentence,) = open_shells(Structure.of(atoms, spin=0))
    assert "has an open shell" in sentence and "excited singlet" in sentence
    assert open_shells(Structure.of(atoms, spin=2)) == []


def test_open_shells_among_other_molecules_and_ions():
    both = scaled("O2", 1) + molecule("H2O")
    both.positions[2:] += [0, 0, 5]
    assert "O2" in open_shells(Structure.of(both, spin=0))[0]
    for symbol, charge, n in (
        ("Mg", 0, 0), ("C", 0, 1), ("N", 1, 1), ("Na", 1, 0), ("Cl", -1, 0), ("O", 0, 1),
        ("N", 0, 1), ("Fe", 2, 0),
    ):  # fmt: skip
        assert len(open_shells(Structure(Atoms(symbol).numbers, np.zeros((1, 3)), charge))) == n
    for name in ("N2", "CO", "H2O", "SO2", "SiH2_s1A1d"):
        assert open_shells(Structure.of(scaled(name, 1), spin=0)) == []


def test_an_assumed_doublet_is_said():
    radical = Structure(np.array([8, 1]), np.array([[0.0, 0, 0], [0, 0, 1.83]]))
    assert open_shells(radical) == [
        "HO has an odd number of electrons; it is taken as a doublet (--spin 1)"
    ]
    assert open_shells(Structure.of(radical, spin=1)) == []
    (sentence,) = open_shells(Structure.of(radical, charge=-2))
    assert "HO -2 has an odd number" in sentence
    (sentence,) = open_shells(Structure(np.array([7]), np.zeros((1, 3))))
    assert "N has 3 unpaired electrons, and this is an excited doublet; --spin 3" in sentence
    assert open_shells(Structure(np.array([7]), np.zeros((1, 3)), spin=3)) == []


def test_python_warns():
    apart = pytest.warns(UserWarning, match="CH4O: atoms 1 .C. and 2 .O. are 2.20 angstrom apart")
    unknown = pytest.warns(UserWarning, match="CH4O: .* expected error .* most of it at O2, C1")
    with apart, unknown:
        denser.predict(stretched_methanol(2.2), spacing=0.4, padding=2.0, device="cpu")


@pytest.mark.parametrize("symbols", ["TiO", "Cr2", "FeO", "NiO"])
def test_transition_metals_are_refused_with_a_sentence(symbols):
    from denser.workflows.scan import scan

    atoms = Atoms(symbols, [[0, 0, 0], [0, 0, 1.7]])
    for call in (
        lambda: denser.predict(atoms),
        lambda: denser.Calculator().get_potential_energy(atoms),
        lambda: scan(symbols),
    ):
        with pytest.raises(InputError, match="atom 1 is "):
            call()
