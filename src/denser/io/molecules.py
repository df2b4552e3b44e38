"""Read MDL molfiles and SDF (V2000 and V3000) and Tripos mol2, with RDKit; SMILES lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from scipy.spatial.distance import cdist

from denser.io.frames import ROUNDED, Frame, checked, is_drawing, open_valences, rdkit
from denser.io.smiles import embed as make_geometry
from denser.io.smiles import from_rdkit, from_smiles
from denser.types.errors import InputError

_OVERLAP = 0.7
"""Atoms of different molecules nearer than this times the sum of their covalent radii overlap.

Oxygen at a metal, the shortest contact without a bond in some files, is above 0.72."""


def read_sdf(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the records of an SDF file, or the molecule of a molfile.

    Parameters
    ----------
    text : str
    embed : bool
        Add hydrogens that are missing, and make a geometry for a drawing or a salt whose ions
        overlap.
    """
    for record in re.split(r"^\$\$\$\$.*\n?", text, flags=re.MULTILINE):
        if record.strip():
            yield _attempt(_of_mdl, record, embed)


def read_mol2(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the molecules of a mol2 file; `embed` as in `read_sdf`."""
    for part in text.split("@<TRIPOS>MOLECULE")[1:]:
        yield _attempt(_of_mol2, "@<TRIPOS>MOLECULE" + part, embed)


def read_smi(text: str, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield the molecules of a list of SMILES, each followed by its name; # begins a comment."""
    for smiles, title in smiles_lines(text):
        yield _attempt(_of_smiles, smiles, title)


def smiles_lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the SMILES of a list and their names, as of `read_smi`, without reading them."""
    for line in text.splitlines():
        smiles, _, title = line.strip().partition("\t" if "\t" in line.strip() else " ")
        if smiles and smiles[0] != "#" and smiles.lower() not in ("smiles", "canonical_smiles"):
            yield smiles, title.strip()


def _attempt(read: Any, *arguments: Any) -> Frame | InputError:
    try:
        return read(*arguments)
    except InputError as error:
        return error


def _of_smiles(smiles: str, title: str) -> Frame:
    return Frame(from_smiles(smiles), title or smiles)


def _of_mdl(record: str, embed: bool) -> Frame:
    Chem = rdkit(".sdf and .mol files")
    molecule = Chem.MolFromMolBlock(record, sanitize=False, removeHs=False, strictParsing=False)
    if molecule is None:
        raise InputError("cannot be read as a molfile; is it damaged?")
    code = [*record.splitlines(), "", ""][1][20:22]
    frame = frame_of_molecule(molecule, embed, {"2D": True, "3D": False}.get(code))
    if spin := _unpaired(record):
        frame.atoms.info["spin"] = spin
    formal = frame.atoms.info["charge"]
    said = re.search(_CHARGE_FIELD, record, flags=re.MULTILINE | re.IGNORECASE)
    if said and int(said[1]) != formal:
        note = f"a data field says charge {int(said[1])}; that of the atoms is taken, {formal}"
        return Frame(frame.atoms, frame.title, (*frame.notes, note))
    return frame


_CHARGE_FIELD = r"^>.*<(?:\w*total_?|formal_?|net_?|molecular_?)?charge>.*\n\s*([+-]?\d+)\s*$"
"""A charge among the data of a record, such as PUBCHEM_TOTAL_CHARGE."""


def _unpaired(record: str) -> int:
    """Unpaired electrons of a molfile: its radicals are singlets (1), doublets (2), triplets (3).

    RDKit does not tell singlets from triplets.
    """
    lines = [line.split()[3:] for line in record.splitlines() if line.startswith("M  RAD")]
    kinds = [word for line in lines for word in line[1::2]]  # V2000: pairs of atom and kind
    kinds += re.findall(r"^M  V30 .*\bRAD=(\d)", record, flags=re.MULTILINE)
    return sum(max(int(kind) - 1, 0) for kind in kinds if kind.isdigit())


def _of_mol2(block: str, embed: bool) -> Frame:
    Chem = rdkit(".mol2 files")
    for cleaned in (True, False):  # RDKit's formal charges of CO2- and others, if it finds them
        molecule = Chem.MolFromMol2Block(
            block, sanitize=False, removeHs=False, cleanupSubstructures=cleaned
        )
        if molecule is not None:
            break
    else:
        raise InputError("cannot be read as mol2; is it damaged?")
    frame = frame_of_molecule(molecule, embed)
    kind = str(molecule.GetPropsAsDict(True).get("_TriposChargeType", ""))
    properties = [atom.GetPropsAsDict() for atom in molecule.GetAtoms()]
    charges = [float(found.get("_TriposPartialCharge", 0)) for found in properties]
    formal = frame.atoms.info["charge"]
    if kind.strip() == "NO_CHARGES" or (formal and not any(charges)):
        what = f"{formal:+d} from its bonds and atom types" if formal else "neutral"
        note = f"the file has no charges; taken as {what}"
        return Frame(frame.atoms, frame.title, (*frame.notes, note))
    total = round(sum(charges), 3)
    charge = round(total) if abs(total - round(total)) <= ROUNDED else total
    if charge != formal:
        frame.atoms.info.pop("bonds", None)  # they come with other formal charges
    frame.atoms.info["charge"] = charge
    return frame


def frame_of_molecule(molecule: Any, embed: bool = False, says_flat: bool | None = None) -> Frame:
    """Structure of an RDKit molecule with coordinates.

    Parameters
    ----------
    molecule : rdkit.Chem.Mol
    embed : bool
        Add missing hydrogens: to the places of the file, or with a new geometry if the molecule
        is a drawing or one of several that overlap.
    says_flat : bool or None
        As in `is_drawing`.

    Raises
    ------
    InputError
        No coordinates, an atom that is no element, or a drawing, overlapping molecules or
        missing hydrogens without `embed`.
    """
    Chem = rdkit("molecules of RDKit")
    title = molecule.GetProp("_Name").strip() if molecule.HasProp("_Name") else ""
    for i, atom in enumerate(molecule.GetAtoms(), start=1):
        if atom.GetAtomicNum() == 0:
            raise InputError(f"atom {i} ({atom.GetSymbol()}) is no element")
    if molecule.GetNumAtoms() == 0:
        raise InputError("the structure has no atoms")
    if molecule.GetNumConformers() == 0:
        raise InputError(
            "the RDKit molecule has no coordinates; add hydrogens with Chem.AddHs and make them "
            "with AllChem.EmbedMolecule"
        )
    atoms = _atoms(molecule)
    if not says_flat and (overlap := _overlap(molecule)):
        if not embed:
            raise InputError(
                f"{overlap}, as RDKit places the ions of a salt; --embed makes a geometry in which "
                "the molecules are side by side"
            )
        return _embedded(molecule, title, f"{overlap}; the geometry was made from the bonds")
    if is_drawing(atoms, says_flat) or _lies_flat(molecule):
        if not embed:
            raise InputError(
                f"{atoms.get_chemical_formula()} is a flat drawing, not a structure; --embed adds "
                "the hydrogens and makes a geometry from its bonds"
            )
        note = "the file holds a flat drawing; hydrogens and geometry were made from its bonds"
        return _embedded(molecule, title, note)
    if embed and open_valences(atoms) > 0:
        whole = _sanitized(molecule)
        n = whole.GetNumAtoms()
        whole = Chem.AddHs(whole, addCoords=True)
        if added := whole.GetNumAtoms() - n:
            note = f"{added} hydrogens were added to the atoms of the file, after them"
            return checked(Frame(_atoms(whole), title, (note,)))
    return checked(Frame(atoms, title))


def _lies_flat(molecule: Any) -> bool:
    """Whether all atoms are in one plane although one of the main group has four neighbours."""
    four = (a.GetDegree() > 3 and a.GetAtomicNum() in (6, 7, 14, 15) for a in molecule.GetAtoms())
    return _is_plane(molecule) and any(four)


def _is_plane(molecule: Any) -> bool:
    return float(np.ptp(molecule.GetConformer().GetPositions()[:, 2])) < 1e-4


def _overlap(molecule: Any) -> str:
    """Which two molecules overlap, if there are several and any do; otherwise an empty text."""
    Chem = rdkit("molecules of RDKit")
    part = np.empty(molecule.GetNumAtoms(), dtype=int)
    for k, own in enumerate(Chem.GetMolFrags(molecule)):
        part[list(own)] = k
    if part.max() == 0 or molecule.GetNumBonds() == 0:
        return ""
    x = molecule.GetConformer().GetPositions()
    radii = covalent_radii[[atom.GetAtomicNum() for atom in molecule.GetAtoms()]]
    apart = cdist(x, x)
    share = np.where(part[:, None] == part, np.inf, apart / (radii[:, None] + radii))
    i, j = divmod(int(share.argmin()), len(part))
    if share[i, j] > _OVERLAP:
        return ""
    symbols = [molecule.GetAtomWithIdx(k).GetSymbol() for k in (i, j)]
    return (
        f"its molecules overlap: atoms {i + 1} ({symbols[0]}) and {j + 1} ({symbols[1]}) of two "
        f"molecules are {apart[i, j]:.2f} angstrom apart"
    )


def _embedded(molecule: Any, title: str, note: str) -> Frame:
    """A new geometry from the bonds; the atoms of the file keep their order, hydrogens follow."""
    atoms = make_geometry(_sanitized(molecule), title or "the drawing")
    return Frame(atoms, title, (note,))


def _sanitized(molecule: Any) -> Any:
    Chem = rdkit("molecules without hydrogens")
    whole = Chem.Mol(molecule)
    try:
        Chem.SanitizeMol(whole)
    except ValueError as error:
        raise InputError(f"no hydrogens can be added ({error}); mend its bonds") from error
    if not _is_plane(whole):
        Chem.AssignStereochemistryFrom3D(whole)
    else:
        Chem.DetectBondStereochemistry(whole)
        Chem.AssignChiralTypesFromBondDirs(whole)
        Chem.AssignStereochemistry(whole, cleanIt=True, force=True)
    return whole


def _atoms(molecule: Any) -> Atoms:
    """Atoms with the charge, and with the bonds if they are usual ones."""
    Chem = rdkit("molecules")
    kinds = Chem.BondType
    usual = {kinds.SINGLE, kinds.DOUBLE, kinds.TRIPLE, kinds.AROMATIC}
    if all(bond.GetBondType() in usual for bond in molecule.GetBonds()):
        with suppress(InputError):  # aromatic bonds that have no Kekule form
            return from_rdkit(molecule)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    atoms = Atoms(numbers, molecule.GetConformer().GetPositions())
    atoms.info["charge"] = Chem.GetFormalCharge(molecule)
    return atoms
