"""Hydrogens of proteins, nucleic acids and ligands of PDB files, and charges of residues."""

import builtins

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from denser.io.hydrogens import LENGTHS
from denser.io.structures import read_structures
from denser.types.errors import InputError
from denser.types.structure import Structure


def heavy(molecule, kind="", shift=0.0):
    """PDB lines of the atoms of a molecule other than hydrogen."""
    with_h = Chem.AddHs(molecule, addResidueInfo=True)
    AllChem.EmbedMolecule(with_h, randomSeed=1, useRandomCoords=True)
    AllChem.MMFFOptimizeMolecule(with_h)
    lines = Chem.MolToPDBBlock(Chem.RemoveHs(with_h)).splitlines()
    return "".join(
        line[:17] + (f"{kind:3s} B 900" if kind else line[17:26]) + line[26:30]
        + f"{float(line[30:38]) + shift:8.3f}" + line[38:78] + "\n"
        for line in lines if line[:6].strip() in ("ATOM", "HETATM")
    )  # fmt: skip


def added(tmp_path, text):
    (tmp_path / "a.pdb").write_text(text + "END\n")
    (frame,) = read_structures(tmp_path / "a.pdb", embed=True)
    return frame


@pytest.mark.parametrize(
    ("sequence", "flavor", "formula", "charge"),
    [("GKDE", 0, "C17H28N5O9", -1), ("HRC", 0, "C15H27N8O4S", 1), ("AC", 2, "C19H24N8O11P", -1)],
)
def test_hydrogens_of_polymers(tmp_path, sequence, flavor, formula, charge):
    text = heavy(Chem.MolFromSequence(sequence, flavor=flavor))
    frame = added(tmp_path, text)
    assert Structure.of(frame.atoms).charge == charge
    assert frame.atoms.get_chemical_formula() == formula
    assert "hydrogens added by hydride: amino acids with their charges at pH 7" in frame.notes[0]
    distances = frame.atoms.get_all_distances()
    np.fill_diagonal(distances, 9)
    for i in np.flatnonzero(frame.atoms.numbers == 1):
        j = int(distances[i].argmin())
        assert distances[i, j] == pytest.approx(LENGTHS[frame.atoms.symbols[j]], abs=2e-3)
        distances[i, j] = 9
        assert distances[i].min() > 1.5  # no other atom is near


def test_waters_ligands_and_ions(tmp_path):
    ethanol = heavy(Chem.MolFromSmiles("OCC"), "EOH").replace("O1 ", "O  ")
    unknown = heavy(Chem.MolFromSmiles("CCN"), "UNL", 9.0)
    more = (
        "HETATM  900  O   HOH A 901      20.000  10.000  10.000  1.00  0.00           O\n"
        "HETATM  901 ZN    ZN A 902      30.000  10.000  10.000  1.00  0.00          ZN\n"
    )
    peptide = heavy(Chem.MolFromSequence("G"), shift=-12.0)
    frame = added(tmp_path, peptide + ethanol + unknown + more)
    assert frame.atoms.info["charge"] == 2
    notes = " ".join(frame.notes)
    assert "no hydrogens were added to UNL" in notes and "ZN" in notes
    assert frame.atoms.get_chemical_formula() == "C6H13N2O4Zn"


def test_residues_with_hydrogens_stay_as_they_are(tmp_path):
    glycine = Chem.AddHs(Chem.MolFromSequence("G"), addResidueInfo=True)
    AllChem.EmbedMolecule(glycine, randomSeed=1)
    frame = added(tmp_path, Chem.MolToPDBBlock(glycine).replace("END", ""))
    assert frame.atoms.get_chemical_formula() == "C2H5NO2" and frame.notes == ()


def test_it_says_what_to_install(tmp_path, monkeypatch):
    whole = builtins.__import__

    def without(name, *rest):
        if name == "hydride":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.pdb").write_text(heavy(Chem.MolFromSequence("GG")))
    (error,) = read_structures(tmp_path / "a.pdb", embed=True)
    assert isinstance(error, InputError) and "pip install 'denser[proteins]'" in str(error)
    (error,) = read_structures(tmp_path / "a.pdb")
    assert "--add-hydrogens" in str(error)
