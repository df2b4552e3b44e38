"""QCSchema, with QCElemental where it is installed, and the interface of the OpenFF toolkit."""

import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import AllChem

import denser
from denser.io.smiles import from_smiles
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE
from denser.workflows import qcschema
from denser.workflows.openff import ToolkitWrapper, rdkit_charges


def test_molecules_go_there_and_back():
    for atoms in (from_smiles("CC(=O)[O-]"), molecule("CH3OH")):
        structure = Structure.of(atoms)
        known = qcschema.molecule_of(structure)
        back = qcschema.structure_of(known)
        assert back.positions == pytest.approx(structure.positions)
        assert (back.formula, back.charge) == (structure.formula, structure.charge)
    triplet = qcschema.structure_of(
        {"symbols": ["o", "O"], "geometry": [0, 0, 0, 0, 0, 2.3], "molecular_multiplicity": 3}
    )
    assert triplet.spin == 2 and triplet.formula == "O2"


def test_gradient():
    structure = Structure.of(molecule("H2O"))
    found = qcschema.compute(
        {
            "molecule": qcschema.molecule_of(structure),
            "driver": "gradient",
            "model": {"method": "default"},
        }
    )
    assert found["success"], found
    atoms = molecule("H2O")
    atoms.calc = denser.Calculator()
    forces = atoms.get_forces().ravel() * BOHR / HARTREE
    assert found["return_result"] == pytest.approx(-forces, abs=1e-6)
    assert found["properties"]["return_energy"] * HARTREE == pytest.approx(
        atoms.get_potential_energy(), abs=1e-4
    )


@pytest.mark.parametrize(
    "change, words",
    [
        ({"driver": "hessian"}, "unknown driver 'hessian'"),
        ({"model": {"method": "default", "basis": "sto-3g"}}, "no basis to choose"),
        ({"molecule": {"symbols": ["H"]}}, "with symbols and geometry"),
        ({"keywords": {"pading": 3}}, "unknown keyword"),
        (
            {"molecule": {"symbols": ["H", "H"], "geometry": [0] * 3 + [1.4] * 3, "real": [1, 0]}},
            "1 atoms of the molecule are ghosts",
        ),
    ],
)
def test_failures_are_records(change, words):
    wanted = {
        "molecule": qcschema.molecule_of(Structure.of(molecule("H2O"))),
        "driver": "energy",
        "model": {"method": "default"},
    } | change
    found = qcschema.compute(wanted)
    assert not found["success"]
    assert words in found["error"]["error_message"]
    assert found["error"]["error_type"] == "input_error"


def test_qcelemental():
    models = pytest.importorskip("qcelemental.models")
    structure = Structure.of(from_smiles("CO"))
    own = models.Molecule(**qcschema.molecule_of(structure))
    assert np.asarray(own.geometry) == pytest.approx(structure.positions, abs=1e-7)
    assert len(own.connectivity) == 5
    wanted = models.AtomicInput(molecule=own, driver="properties", model={"method": "default"})
    found = models.AtomicResult(**qcschema.compute(wanted))
    assert found.success
    assert sum(found.return_result["hirshfeld_charges"]) == pytest.approx(0, abs=1e-6)
    broken = qcschema.compute(wanted.copy(update={"driver": "hessian"}))
    assert models.FailedOperation(**broken).error.error_type == "input_error"


class OpenFFMolecule:
    """What the toolkit's documentation says of `Molecule`, as far as a wrapper may use it."""

    def __init__(self, smiles: str) -> None:
        self._rdkit = Chem.AddHs(Chem.MolFromSmiles(smiles))
        self.partial_charges = None

    def to_rdkit(self) -> Chem.Mol:
        return self._rdkit


class Angstroms:
    """A Quantity of Pint, as far as a wrapper may use it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def m_as(self, unit: str) -> np.ndarray:
        assert unit == "angstrom"
        return self.values


def test_openff_wrapper():
    wrapper = ToolkitWrapper()
    assert wrapper.is_available()
    acetate = OpenFFMolecule("CC(=O)[O-]")
    wrapper.assign_partial_charges(acetate)
    values = np.asarray(getattr(acetate.partial_charges, "m", acetate.partial_charges))
    assert values.sum() == pytest.approx(-1, abs=1e-6)
    assert values[2] == pytest.approx(values[3], abs=1e-6)  # equivalent oxygens
    AllChem.EmbedMolecule(acetate.to_rdkit(), randomSeed=3)
    geometry = acetate.to_rdkit().GetConformer().GetPositions()
    direct = rdkit_charges(acetate.to_rdkit(), "cm5")
    wrapper.assign_partial_charges(
        acetate, "denser-cm5", use_conformers=[Angstroms(geometry), Angstroms(geometry)]
    )
    found = np.asarray(getattr(acetate.partial_charges, "m", acetate.partial_charges))
    assert found == pytest.approx(direct, abs=1e-6)
    with pytest.raises(Exception, match="'am1bcc' is not available from denser"):
        wrapper.assign_partial_charges(acetate, "am1bcc")


def test_rdkit_molecules_that_do_not_work():
    with pytest.raises(InputError, match="6 hydrogens are no atoms"):
        rdkit_charges(Chem.MolFromSmiles("CCO"))
    with pytest.raises(InputError, match="found 2 that are not bonded"):
        rdkit_charges(Chem.AddHs(Chem.MolFromSmiles("[Na+].[Cl-]")))
    with pytest.raises(InputError, match="unknown charges 'am1bcc'"):
        rdkit_charges(Chem.AddHs(Chem.MolFromSmiles("C")), "am1bcc")
