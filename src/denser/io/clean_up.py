"""Clean up a sketched geometry with a force field."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from denser.io.bond_orders import UNKNOWN, find_bonds, rdkit_molecule
from denser.io.smiles import relax
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

if TYPE_CHECKING:
    from rdkit import Chem

MAX_ATOMS = 200
STEPS = 500


def clean_up(structure: Structure) -> Structure:
    """Optimise bonds, angles and torsions with MMFF94, or UFF where that lacks parameters.

    Bonds and their orders follow from the distances and the charge. The molecule stays where it
    is: the new positions are shifted and turned onto the old ones.

    Raises
    ------
    InputError
        RDKit is missing; the structure is a crystal or too large; its bonds do not fit its
        charge, or no force field covers it.
    """
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise InputError("the clean-up needs RDKit; pip install 'denser[smiles]'") from error
    if structure.cell is not None:
        raise InputError("a crystal cannot be cleaned up, because force fields see one molecule")
    if len(structure) > MAX_ATOMS:
        raise InputError(
            f"{structure.formula} has {len(structure)} atoms; the clean-up takes up to {MAX_ATOMS}"
        )
    known, _ = find_bonds(structure)
    molecule = rdkit_molecule(structure.numbers, known)
    conformer = Chem.Conformer(len(structure))
    conformer.SetPositions(structure.positions * BOHR)
    molecule.AddConformer(conformer)
    unknown = InputError(
        f"the bonds of {structure.formula} with charge {structure.charge} are not clear, so no "
        "force field fits; move its atoms first"
    )
    RDLogger.DisableLog("rdApp.*")
    try:
        if (known.orders == UNKNOWN).any() or Chem.SanitizeMol(molecule, catchErrors=True):
            raise unknown
        if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
            raise unknown
        if sum(atom.GetFormalCharge() for atom in molecule.GetAtoms()) != structure.charge:
            raise unknown
        for part in Chem.GetMolFrags(molecule):
            _relax_part(molecule, list(part), structure.formula)
    finally:
        RDLogger.EnableLog("rdApp.*")
    new = molecule.GetConformer().GetPositions() / BOHR
    return replace(structure, positions=_onto(new, structure.positions))


def _relax_part(molecule: Chem.RWMol, part: list[int], name: str) -> None:
    """Relax one molecule of several where it stands."""
    from rdkit import Chem

    conformer = molecule.GetConformer()
    alone = Chem.RWMol(molecule)
    for atom in sorted(set(range(molecule.GetNumAtoms())) - set(part), reverse=True):
        alone.RemoveAtom(atom)
    alone = alone.GetMol()
    Chem.SanitizeMol(alone)
    relax(alone, name, STEPS)
    positions = conformer.GetPositions()
    positions[part] = _onto(alone.GetConformer().GetPositions(), positions[part])
    conformer.SetPositions(positions)


def _onto(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Positions (n, 3) shifted and turned to fit the old ones in the least-squares sense."""
    centre, there = new.mean(axis=0), old.mean(axis=0)
    if len(new) == 1:
        return old
    u, _, vt = np.linalg.svd((new - centre).T @ (old - there))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (new - centre) @ (u @ mirror @ vt) + there
