"""Radii of atoms, and which atoms are bonded."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.formula import Formula

from denser.atoms.radii import bond_length, bonded_atoms, bonds, covalent_radius
from denser.io.bond_orders import find_bonds, unpaired_electrons
from denser.io.structures import from_smiles
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR


def test_covalent_radii():
    assert covalent_radius(6) * BOHR == pytest.approx(0.75)
    assert bond_length(6, 1) * BOHR == pytest.approx(0.76 + 0.31)
    with pytest.raises(InputError, match="no covalent radius is known for Cs"):
        covalent_radius(55)


def test_bonded_atoms_of_ethanol():
    atoms = molecule("CH3CH2OH")
    structure = Structure.of(atoms)
    found = bonded_atoms(structure)
    count = {"C": 4, "O": 2, "H": 1}
    assert [len(others) for others in found] == [count[s] for s in structure.symbols]
    assert len(bonds(structure)) == 8


@pytest.mark.parametrize("cubic", [True, False])
@pytest.mark.parametrize(
    ("name", "lattice", "a", "expected"),
    [
        ("NaCl", "rocksalt", 5.64, {"NaCl"}),
        ("MgO", "rocksalt", 4.21, {"MgO"}),
        ("LiH", "rocksalt", 4.08, {"LiH"}),
        ("KH", "rocksalt", 5.70, {"KH"}),
        ("CaF2", "fluorite", 5.46, {"CaF"}),
        ("Na", "bcc", 4.29, {"Na2"}),
    ],
)
def test_cations_are_not_bonded_to_each_other(name, lattice, a, expected, cubic):
    atoms = bulk(name, lattice, a=a, cubic=cubic)
    if name == "Na":
        atoms = atoms.repeat(2)
    structure = Structure.of(atoms)
    kinds = {atoms[pair].get_chemical_formula("metal") for pair in bonds(structure).tolist()}
    assert kinds == {Formula(text).format("metal") for text in expected}


def test_metals_that_are_very_near_are_bonded():
    quadruple = Atoms("Re2Cl2", [[0, 0, 0], [0, 0, 2.24], [2.3, 0, -0.5], [2.3, 0, 2.74]])
    assert [0, 1] in bonds(Structure.of(quadruple)).tolist()
    apart = Atoms("Na2Cl", [[0, 0, 0], [0, 0, 3.9], [2.0, 0, 1.95]])
    assert bonds(Structure.of(apart)).tolist() == [[0, 2], [1, 2]]


def test_hydrogen_of_a_molecule_is_no_hydride():
    methyllithium = Atoms("LiCH3", np.vstack([[0, 0, -2.0], molecule("CH3").positions]))
    methyllithium.positions[2:, 2] += 0.35
    assert len(bonds(Structure.of(methyllithium))) == 4
    stretched = Atoms("H2Na", [[0, 0, 0], [0, 0, 0.95], [0, 0, 6.0]])
    assert len(bonds(Structure.of(stretched))) == 0


def test_bonds_through_the_faces_of_a_cell():
    diamond = Structure.of(bulk("C", cubic=True))
    assert all(len(others) == 4 for others in bonded_atoms(diamond))
    inside = bonds(diamond, periodic=False)
    lengths = np.linalg.norm(np.diff(diamond.positions[inside], axis=1)[:, 0], axis=1)
    assert len(inside) < len(bonds(diamond)) == 16
    assert (lengths * BOHR < 1.6).all()


@pytest.mark.parametrize(
    ("smiles", "n"),
    [("C1C2CC1C2", 14), ("C1C2CC1O2", 12), ("CC12CC(C1)C2", 17), ("C1C2CC12", 11), ("C1CC1", 9)],
)
def test_opposite_atoms_of_small_rings(smiles, n):
    """The bridgeheads of bicyclo[1.1.1]pentane are 1.87 angstrom apart."""
    structure = Structure.of(from_smiles(smiles))
    assert len(bonds(structure)) == n
    found, problem = find_bonds(structure)
    assert problem == "" and (found.orders == 1).all() and len(found.pairs) == n


def test_a_carbon_atom_keeps_its_five_hydrogens():
    methonium = molecule("CH4")
    methonium += Atoms("H", [[0.0, 0.0, 1.2]])
    assert len(bonds(Structure.of(methonium))) == 5


@pytest.mark.parametrize(
    "smiles",
    [
        "[CH3]", "C[CH2]", "C[O]", "CC(=O)[O]", "C[N+](C)(C)[CH2]", "[NH3+][CH2]", "CN(C)[O]",
        "[O]c1ccccc1", "O=N[O]", "[N]=O", "[CH2]C=C", "C[C]=O", "[O-]C(=O)[CH2]", "CS[S]", "[O][O]",
    ],
)  # fmt: skip
def test_bonds_of_radicals(smiles):
    """Those of the SMILES, from charge, spin and geometry."""
    told = Structure.of(from_smiles(smiles))
    found, problem = find_bonds(replace(told, bonds=None))
    assert problem == "" and told.bonds is not None and told.spin
    expected = unpaired_electrons(told, told.bonds)
    assert sum(n for _, n in expected) == told.spin
    others = ("[CH2]C=C", "[O]c1ccccc1", "CC(=O)[O]", "O=N[O]", "[O-]C(=O)[CH2]")
    if smiles not in others:  # those have another structure of the same kind
        assert unpaired_electrons(told, found) == expected
    assert sorted(found.orders) == sorted(told.bonds.orders)
    assert sorted(found.formal_charges) == sorted(told.bonds.formal_charges)
