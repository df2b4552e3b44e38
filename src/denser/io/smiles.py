"""Structures from SMILES, and from RDKit's molecules."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from denser.io.bond_lengths import ANGLES, CORRECTED, UFF_CORRECTED
from denser.types.bonds import Bonds
from denser.types.errors import InputError
from denser.types.structure import Structure

if TYPE_CHECKING:
    from rdkit import Chem

_STIFF = (1e3, 1e4, 1e5)
"""Force constants that hold a bond at its length, one after the other, kcal/mol/angstrom^2."""


def from_smiles(smiles: str) -> Atoms:
    """Build a 3-D structure from SMILES.

    See `embed`. The molecules of a SMILES with several (`[Na+].[Cl-]`) are placed side by side in
    contact. `info["geometry"]` says how the geometry was made.

    Parameters
    ----------
    smiles : str

    Returns
    -------
    ase.Atoms
        With `info["charge"]`, the sum of the formal charges, and, for radicals,
        `info["spin"]`.

    Raises
    ------
    InputError
        RDKit is missing, or the SMILES cannot be parsed or embedded, or has atoms that neither
        force field covers.
    """
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise InputError("--smiles needs RDKit; pip install 'denser[smiles]'") from error
    RDLogger.DisableLog("rdApp.*")
    if not isinstance(smiles, str) or not smiles.strip():
        found = "an empty text" if isinstance(smiles, str) else type(smiles).__name__
        raise InputError(f"expected a SMILES, found {found}")
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise InputError(f"SMILES {smiles!r} cannot be parsed; check brackets, rings and valences")
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        raise InputError(f"SMILES {smiles!r} has a wildcard (*), which is no element")
    return embed(molecule, f"SMILES {smiles!r}")


def parts_of_smiles(smiles: str) -> list[str]:
    """The molecules of a SMILES as SMILES, the one with most heavy atoms first.

    One that cannot be parsed, or of a single molecule, is returned as it is.
    """
    if "." not in smiles:
        return [smiles]
    try:
        from rdkit import Chem
    except ImportError:  # which `from_smiles` reports
        return [smiles]
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        return [smiles]
    parts = Chem.GetMolFrags(molecule, asMols=True)
    order = sorted(parts, key=lambda part: -part.GetNumHeavyAtoms())
    return [Chem.MolToSmiles(part) for part in order] or [smiles]


def matches(structure: Structure, smarts: str) -> list[int]:
    """Atoms that a SMARTS matches, counted from 0, and their hydrogens.

    Raises
    ------
    InputError
        The SMARTS cannot be parsed, or matches nothing.
    """
    from denser.io.bond_orders import find_bonds, rdkit_molecule

    try:
        from rdkit import Chem
    except ImportError as error:
        raise InputError("SMARTS need RDKit; pip install 'denser[smiles]'") from error
    pattern = Chem.MolFromSmarts(smarts)
    if pattern is None:
        raise InputError(f"SMARTS {smarts!r} cannot be parsed")
    molecule = rdkit_molecule(structure.numbers, find_bonds(structure)[0]).GetMol()
    Chem.SanitizeMol(molecule)
    found = {i for match in molecule.GetSubstructMatches(pattern) for i in match}
    for i in list(found):
        around = molecule.GetAtomWithIdx(i).GetNeighbors()
        found |= {atom.GetIdx() for atom in around if atom.GetAtomicNum() == 1}
    if not found:
        raise InputError(f"SMARTS {smarts!r} matches no atom of {structure.formula}")
    return sorted(found)


def embed(molecule: Chem.Mol, name: str) -> Atoms:
    """Build the 3-D structure of an RDKit molecule; missing hydrogens are added.

    ETKDG embedding with a fixed seed, then MMFF94, or UFF where that lacks an element or an
    atom has six neighbours (only UFF keeps an octahedron). Bonds that the force field does not
    know, such as those of CO2, are held at the lengths of `denser.io.bond_lengths`. Each molecule
    of several is built on its own.

    Parameters
    ----------
    molecule : rdkit.Chem.Mol
    name : str
        Of the molecule, for errors.

    Returns
    -------
    ase.Atoms
        As from `from_rdkit`, with a sentence in `info["geometry"]`.

    Raises
    ------
    InputError
        No geometry was found, or no force field covers the atoms.
    """
    from rdkit import Chem

    molecule = Chem.AddHs(molecule, addCoords=True)
    parts: list[tuple[int, ...]] = []
    fragments = Chem.GetMolFrags(molecule, asMols=True, fragsMolAtomMapping=parts)
    made = [_embedded(Chem.Mol(fragment), name) for fragment in fragments]
    positions = np.zeros((molecule.GetNumAtoms(), 3))
    for part, placed in zip(parts, _side_by_side([m for m, _ in made]), strict=True):
        positions[list(part)] = placed
    conformer = Chem.Conformer(molecule.GetNumAtoms())
    conformer.SetPositions(positions)
    molecule.RemoveAllConformers()
    molecule.AddConformer(conformer)
    atoms = from_rdkit(molecule)
    said = [" or ".join(dict.fromkeys(way for _, way in made if way))]
    if len(made) > 1:
        said.append(f"{len(made)} molecules placed side by side in contact, not optimised")
    atoms.info["geometry"] = "; ".join(part for part in said if part)
    return atoms


def from_rdkit(molecule: Chem.Mol) -> Atoms:
    """Atoms of an RDKit molecule with its conformer, charge, spin (`info`) and bonds.

    An atom with an odd number of radical electrons has one unpaired electron. Two of them at one
    atom, as in a carbene, are taken for a pair: RDKit has the same number for both.

    Raises
    ------
    InputError
        No Kekule form fits the aromatic bonds.
    """
    from rdkit import Chem

    molecule = Chem.Mol(molecule)
    try:
        Chem.Kekulize(molecule, clearAromaticFlags=True)
    except Chem.MolSanitizeException as error:
        raise InputError(f"the aromatic bonds cannot be kekulized ({error})") from error
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    atoms = Atoms(numbers, molecule.GetConformer().GetPositions())
    atoms.info["charge"] = Chem.GetFormalCharge(molecule)
    if spin := sum(atom.GetNumRadicalElectrons() % 2 for atom in molecule.GetAtoms()):
        atoms.info["spin"] = spin
    bonds = list(molecule.GetBonds())
    Bonds(
        np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in bonds], dtype=int),
        np.array([int(b.GetBondTypeAsDouble()) for b in bonds], dtype=int),
        np.array([atom.GetFormalCharge() for atom in molecule.GetAtoms()], dtype=int),
    ).put_into(atoms)
    return atoms


def _embedded(molecule: Any, name: str) -> tuple[Any, str]:
    """A molecule of one piece with a conformer, and the name of the force field."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    octahedral = [atom for atom in molecule.GetAtoms() if atom.GetDegree() == 6]
    for atom in octahedral:
        if not atom.HasProp("_chiralPermutation"):
            atom.SetChiralTag(Chem.ChiralType.CHI_OCTAHEDRAL)
            atom.SetIntProp("_chiralPermutation", 1)
    plain = {"useBasicKnowledge": False, "useExpTorsionAnglePrefs": False}
    for options in ({}, {"useRandomCoords": True}, plain):
        if rdDistGeom.EmbedMolecule(molecule, randomSeed=7, **options) == 0:
            break
    else:
        raise InputError(f"{name}: no 3-D geometry found; give a structure file")
    way = relax(molecule, name)
    return molecule, f"ETKDG and {way}" if way else ""


def relax(molecule: Chem.Mol, name: str, steps: int = 2000) -> str:
    """Optimise the conformer of a molecule of one piece with MMFF94, or else with UFF.

    Parameters
    ----------
    molecule : rdkit.Chem.Mol
        Sanitized, with all hydrogens; its conformer is changed.
    name : str
        Of the molecule, for errors.
    steps : int
        Largest number of steps.

    Returns
    -------
    str
        Name of the force field.

    Raises
    ------
    InputError
        Neither force field covers the atoms.
    """
    from rdkit.Chem import rdForceFieldHelpers as fields
    from rdkit.ForceField import rdForceField  # noqa: F401  (RDKit 2024 does not load its classes)

    if molecule.GetNumAtoms() == 1:
        return ""
    octahedral = any(atom.GetDegree() == 6 for atom in molecule.GetAtoms())
    lengths, angles = _known_lengths(molecule, CORRECTED), _known_angles(molecule)
    if not octahedral and fields.MMFFHasAllMoleculeParams(molecule):
        way = "MMFF94"
        properties = fields.MMFFGetMoleculeProperties(molecule)
        field = fields.MMFFGetMoleculeForceField(molecule, properties)
        hold, bend = field.MMFFAddDistanceConstraint, field.MMFFAddAngleConstraint
    else:
        way, model = "UFF", _with_uff_types(molecule)
        if not fields.UFFHasAllMoleculeParams(model):
            raise InputError(
                f"{name}: neither MMFF94 nor UFF covers these atoms; give a structure file"
            )
        lengths = _known_lengths(molecule, UFF_CORRECTED) | lengths
        field = fields.UFFGetMoleculeForceField(model)
        hold, bend = field.UFFAddDistanceConstraint, field.UFFAddAngleConstraint
    field.Initialize()
    for stiffness in _STIFF if lengths else _STIFF[:1]:
        for (i, j), length in lengths.items():
            hold(i, j, False, length, length, stiffness)
        for *three, angle in angles:
            bend(*three, False, angle, angle, stiffness / 10)
        field.Minimize(maxIts=steps)
    positions = np.array(field.Positions()).reshape(-1, 3)
    _turn_cumulenes(molecule, positions)
    molecule.GetConformer().SetPositions(positions)
    return way + (" with known bond lengths" if lengths else "")


def _with_uff_types(molecule: Any) -> Any:
    """A copy with phosphorus where UFF has no S with six bonds, or Cl or Br with three."""
    from rdkit import Chem

    model = Chem.Mol(molecule)
    for atom in model.GetAtoms():
        z, degree = atom.GetAtomicNum(), atom.GetDegree()
        if z == 16 and degree == 6:
            atom.SetAtomicNum(15)
            atom.SetFormalCharge(-1)
        elif z in (17, 35) and degree == 3:
            atom.SetAtomicNum(15)
    return model


@cache
def _pattern(smarts: str) -> Any:
    from rdkit import Chem

    return Chem.MolFromSmarts(smarts)


def _known_lengths(
    molecule: Any, table: tuple[tuple[str, float], ...]
) -> dict[tuple[int, int], float]:
    """Length in angstrom of each bond (i < j) that fits a pattern of the table."""
    lengths: dict[tuple[int, int], float] = {}
    for smarts, length in table:
        for match in molecule.GetSubstructMatches(_pattern(smarts), uniquify=False):
            lengths.setdefault((min(match[:2]), max(match[:2])), length)
    return lengths


def _known_angles(molecule: Any) -> list[tuple[int, int, int, float]]:
    """Three atoms and their angle in degrees, for all that fit `ANGLES`."""
    return [
        (match[i], match[j], match[k], angle)
        for smarts, parts in ANGLES
        for match in molecule.GetSubstructMatches(_pattern(smarts))
        for i, j, k, angle in parts
    ]


def _turn_cumulenes(molecule: Any, positions: np.ndarray) -> None:
    """Turn the ends of cumulenes: planar if the number of double bonds is odd, else at 90 degrees.

    Force fields and ETKDG do not know it. `positions` (n_atoms, 3) are changed.
    """
    from rdkit import Chem

    for n_bonds in range(2, 8):
        chain = "[#6X3;!R]" + "=[#6X2;!R]" * (n_bonds - 1) + "=[#6X3;!R]"
        for match in molecule.GetSubstructMatches(_pattern(chain)):
            first, second, last, before = match[0], match[1], match[-1], match[-2]
            axis = positions[last] - positions[first]
            axis /= np.linalg.norm(axis)
            left = _neighbour(molecule, first, second)
            right = _neighbour(molecule, last, before)
            bond = molecule.GetBondBetweenAtoms(last, before).GetIdx()
            parts = Chem.GetMolFrags(Chem.FragmentOnBonds(molecule, [bond], addDummies=False))
            side = list(next(part for part in parts if last in part))
            a = positions[left] - positions[first]
            b = positions[right] - positions[last]
            a, b = a - axis * (a @ axis), b - axis * (b @ axis)
            angle = np.arctan2(axis @ np.cross(b, a), a @ b)  # from b to a
            wanted = 0.0 if n_bonds % 2 else np.pi / 2
            # the nearest of the equivalent angles
            period = np.pi
            turn = (angle - wanted + period / 2) % period - period / 2
            moved = positions[side] - positions[last]
            positions[side] = positions[last] + _rotated(moved, axis, turn)


def _neighbour(molecule: Any, atom: int, other: int) -> int:
    """A neighbour of an atom that is not `other`."""
    around = molecule.GetAtomWithIdx(atom).GetNeighbors()
    return next(n.GetIdx() for n in around if n.GetIdx() != other)


def _rotated(vectors: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """Vectors (n, 3) turned about a unit vector (Rodrigues' formula)."""
    along = np.outer(vectors @ axis, axis)
    across = np.cross(axis, vectors)
    return along + (vectors - along) * np.cos(angle) + across * np.sin(angle)


def _side_by_side(molecules: list[Any]) -> list[np.ndarray]:
    """Positions of several molecules in contact, each (n_atoms, 3), angstrom.

    The largest comes first, and then one after the other, opposite charges in turn. Each is moved
    up to those before it, from a direction and in an orientation in which their partial charges
    attract each other most.
    """
    centred = []
    for molecule in molecules:
        x = molecule.GetConformer().GetPositions()
        centred.append(x - x.mean(axis=0))
    if len(molecules) == 1:
        return centred
    from scipy.spatial.distance import cdist
    from scipy.spatial.transform import Rotation

    charges = [_partial_charges(molecule) for molecule in molecules]
    left = sorted(range(len(molecules)), key=lambda k: -len(centred[k]))
    done = [left.pop(0)]
    turns = Rotation.random(12, rng=np.random.default_rng(7)).as_matrix()
    while left:
        total = sum(charges[k].sum() for k in done)
        new = min(left, key=lambda k: round(total) * charges[k].sum())  # the first of equals
        left.remove(new)
        there = np.concatenate([centred[k] for k in done])
        contact = np.concatenate([_contact(molecules[k], molecules[new]) for k in done])
        strength = np.outer(np.concatenate([charges[k] for k in done]), charges[new])
        best, lowest = centred[new], np.inf
        for turn in turns if len(centred[new]) > 1 else turns[:1]:
            for direction in _directions(40):
                moved = centred[new] @ turn.T + there.mean(axis=0)
                moved = moved + direction * _slide(there, moved, direction, contact)
                energy = float((strength / cdist(there, moved)).sum())
                if energy < lowest:
                    best, lowest = moved, energy
        centred[new] = best
        done.append(new)
    return centred


def _slide(there: np.ndarray, own: np.ndarray, direction: np.ndarray, radii: np.ndarray) -> float:
    """Smallest distance along a direction at which no two spheres overlap any more."""
    apart = own[None] - there[:, None]
    along = apart @ direction
    square = along**2 - (apart**2).sum(axis=-1) + radii**2
    return float(np.max(np.where(square > 0, np.sqrt(np.maximum(square, 0)) - along, 0.0)))


def _directions(n: int) -> np.ndarray:
    """Unit vectors (n, 3), evenly spread (Fibonacci's lattice)."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.arange(n) * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=1)


def _contact(first: Any, second: Any) -> np.ndarray:
    """Distances of atoms in contact (n_first, n_second), angstrom: sums of radii.

    A hydrogen bond is shorter than that.
    """
    (a, donors_a, acceptors_a), (b, donors_b, acceptors_b) = _radii(first), _radii(second)
    bonded = np.outer(donors_a, acceptors_b) | np.outer(acceptors_a, donors_b)
    return a[:, None] + b - 0.8 * bonded


def _radii(molecule: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radii in angstrom, and which atoms give and which accept hydrogen bonds.

    Van der Waals radii; ionic radii of single metal cations.
    """
    from rdkit import Chem

    atoms = list(molecule.GetAtoms())
    donors = [
        atom.GetAtomicNum() == 1 and any(n.GetAtomicNum() in _POLAR for n in atom.GetNeighbors())
        for atom in atoms
    ]
    acceptors = [atom.GetAtomicNum() in _POLAR and atom.GetFormalCharge() <= 0 for atom in atoms]
    table = Chem.GetPeriodicTable()
    radii = [table.GetRvdw(atom.GetAtomicNum()) for atom in atoms]
    if len(atoms) == 1 and atoms[0].GetFormalCharge() > 0:
        radii = [_IONIC.get(atoms[0].GetAtomicNum(), 1.2)]
    return np.array(radii), np.array(donors), np.array(acceptors)


_POLAR = (7, 8, 9, 16, 17, 35)

_IONIC = {3: 0.76, 4: 0.45, 11: 1.02, 12: 0.72, 13: 0.54, 19: 1.38, 20: 1.00}
"""Ionic radii by atomic number, angstrom (Shannon 1976, six neighbours)."""


def _partial_charges(molecule: Any) -> np.ndarray:
    """Gasteiger's charges (n_atoms,), or the formal ones where there are none, e."""
    from rdkit.Chem import rdPartialCharges

    atoms = list(molecule.GetAtoms())
    formal = np.array([float(atom.GetFormalCharge()) for atom in atoms])
    rdPartialCharges.ComputeGasteigerCharges(molecule)
    charges = np.array([atom.GetDoubleProp("_GasteigerCharge") for atom in atoms])
    usable = len(atoms) > 1 and bool(np.isfinite(charges).all())
    return charges if usable else formal
