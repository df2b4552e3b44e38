"""A structure of a file with what the file says of it, and checks that it is one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from scipy.spatial import cKDTree

from denser.types.errors import InputError

_BOND = 1.3
"""Atoms nearer than this times the sum of their covalent radii are counted as bonded here."""

_PAULING = 0.31
"""Bond order exp((r0 - r) / this), angstrom: 1, 1.5 and 3 for C-C of 1.52, 1.40 and 1.18."""

_TRIPLE = 2.2
"""A carbon atom with one bond of a higher order, to nitrogen or oxygen, is that of CO or CN."""

_MISSING = 2.5
"""More open valences than this, summed over all carbon atoms, are missing hydrogens."""

_MISSING_ELSEWHERE = 1.6
"""The same for nitrogen and oxygen; two, as of the O of a water, are more."""

SPARSE = 100.0
"""Cubic angstrom per atom; a cell of a PDB or mmCIF file or of a trajectory with more holds a
single molecule."""

ROUNDED = 0.1
"""The sum of the partial charges in a file may miss a whole number by this, e."""

ISOTOPES = {"D": "H", "T": "H"}

_IONS = {"SOD": "Na", "CLA": "Cl", "POT": "K", "CAL": "Ca", "CES": "Cs"}
"""Names of ions in CHARMM's force field."""

_ION_CHARGES = {
    **dict.fromkeys(("LI", "NA", "K", "RB", "CS", "AG", "CU1", "TL", "SOD", "POT", "CES"), 1),
    **dict.fromkeys(("MG", "CA", "SR", "BA", "MN", "CO", "NI", "CU", "ZN", "CD", "HG", "PB"), 2),
    **dict.fromkeys(("FE2", "CAL"), 2), **dict.fromkeys(("FE", "AL", "GA", "CR", "MN3"), 3),
    **dict.fromkeys(("F", "CL", "BR", "IOD", "CLA"), -1),
}  # fmt: skip
"""Charges of residues that are one ion: the PDB's chemical components, and CHARMM's names."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A structure of a file: a frame of a trajectory, a record of an SDF file, a model, ...

    Parameters
    ----------
    atoms : ase.Atoms
        `info` has "charge", "multiplicity" and "spin" as far as the file states them.
    title : str
        The title or name that the file gives it.
    notes : tuple of str
        Sentences about what was chosen or left out.
    """

    atoms: Atoms
    title: str = ""
    notes: tuple[str, ...] = ()


def symbol_of(label: str) -> str:
    """Element symbol of an atom in a coordinate file: a symbol, a label or an atomic number.

    `C`, `CL`, `6`, `C1`, `Cl2`, `H1A`, `D` and `T` are clear. `CA` is not: it is calcium, or the
    alpha carbon of a protein.

    Raises
    ------
    InputError
        The label is no element, or may be one of two.
    """
    label = label.strip()
    if label == "X":  # a ghost, which predictions refuse by name
        return label
    if re.fullmatch(r"\d+", label):
        number = int(label)
        if 1 <= number < len(chemical_symbols):
            return chemical_symbols[number]
        raise InputError(f"atomic number {number} is no element")
    match = re.fullmatch(r"([A-Za-z]{1,2})(?:\d+[A-Za-z]?)?", label)
    letters = match[1] if match else label
    symbol = ISOTOPES.get(letters.capitalize(), letters.capitalize())
    if match is None or symbol not in atomic_numbers or symbol == "X":
        raise InputError(f"unknown symbol {label!r}")
    upper = len(letters) == 2 and letters.isupper() and symbol != "Cl"
    if upper and letters[0] in "CHNO" and letters not in ("HE", "NE", "NI"):
        raise InputError(
            f"unclear symbol {label!r}: write {symbol} for the element, or {letters[0]} for an "
            "atom with this name"
        )
    return symbol


def ghost_of(label: str) -> str | None:
    """Label of the element whose functions a ghost has: `X-O`, `ghost-O`, `Gh(O)`, `O-Bq`, `O-Gh`.

    None if it is no ghost.
    """
    match = re.fullmatch(
        r"(?:X|ghost)[-_](\w+)|Gh\((\w+)\)|(\w+)-(?:Bq|Gh)", label.strip(), flags=re.IGNORECASE
    )
    return None if match is None else next(part for part in match.groups() if part)


def plain_symbol(text: str) -> str:
    """Element symbol from one in any case, also of an isotope; an InputError if it is none."""
    symbol = text.strip().capitalize()
    symbol = ISOTOPES.get(symbol, symbol)
    if symbol not in atomic_numbers or symbol == "X":
        raise InputError(f"unknown symbol {symbol!r}")
    return symbol


def element_of_name(name: str, residue: str, biopolymer: bool) -> str:
    """Element symbol of an atom from its name in a file without elements, such as `.gro`.

    Parameters
    ----------
    name, residue : str
        Such as "CA" and "ALA".
    biopolymer : bool
        Whether the residue is an amino acid or a nucleotide.

    Raises
    ------
    InputError
        No element follows from the name: a virtual site, or a bead of a coarse model.
    """
    letters = re.sub(r"[^A-Za-z].*", "", name.strip().lstrip("0123456789'\""))
    same = re.sub(r"[^A-Za-z]", "", residue).upper() == letters.upper()
    whole = letters.capitalize()
    if letters.upper() in _IONS:
        return _IONS[letters.upper()]
    if same and whole in atomic_numbers and whole != "W":
        return whole
    if biopolymer:
        return "Se" if letters.upper() == "SE" else _first(letters, name)
    if letters[:2].upper() in ("CL", "BR") or (
        len(letters) == 2 and letters[1].islower() and whole in atomic_numbers
    ):
        return letters[:2].capitalize()
    return _first(letters, name)


def charge_of_ions(atoms: Iterable[tuple[str, str]], notes: list[str]) -> int:
    """Sum of the charges of ions to which a file gives none; a note says so.

    Parameters
    ----------
    atoms : iterable of (str, str)
        Residue and element of the atoms without a charge, such as ("NA", "Na").
    notes : list of str
        The note is added to it.
    """
    found = []
    for residue, element in atoms:
        name = residue.strip().upper().rstrip("+-")
        plain = {"IOD": "I"}.get(name, _IONS.get(name, name.rstrip("123").capitalize()))
        if name in _ION_CHARGES and plain == element:
            found.append(name)
    total = sum(_ION_CHARGES[name] for name in found)
    if found:
        names = ", ".join(sorted(set(found)))
        notes.append(
            f"the file gives no charge of {len(found)} ion(s) ({names}); unless --charge is given, "
            f"they count as {f'{total:+d}' if total else 'neutral'} in all"
        )
    return total


def _first(letters: str, name: str) -> str:
    first = ISOTOPES.get(letters[:1].upper(), letters[:1].upper())
    if first in ("H", "B", "C", "N", "O", "F", "P", "S", "I"):
        return first
    raise InputError(f"no element follows from the atom name {name.strip()!r}")


def stated_in_comment(comment: str) -> dict[str, Any]:
    """Charge and spin in a comment line: `-2 1`, `charge -2 mult 1`, `total_charge=-2 spin=2`.

    Returns
    -------
    dict
        "charge", "multiplicity" and "spin", as far as they are there.
    """
    pair = re.fullmatch(r"\s*([+-]?\d{1,2})[\s,]+([1-9])\s*", comment)
    if pair := pair or re.match(r"\s*([+-]\d{1,2}|0)[\s,]+([1-9])\s+[A-Za-z]", comment):
        return {"charge": int(pair[1]), "multiplicity": int(pair[2])}
    found: dict[str, Any] = {}
    for key, words in (
        ("charge", r"(?:(?:total|tot|net|mol|molecular|formal|system)[_ ]?)?(?:charge|chrg)|q"),
        ("multiplicity", r"(?:spin[_ ]?)?mult(?:iplicity)?"),
        ("spin", r"(?:total[_ ]?)?spin"),
    ):
        pattern = rf"(?<![\w.])(?<!\w-)(?:{words}){_STATED}"
        if match := re.search(pattern, comment, flags=re.IGNORECASE):
            number = float(match[1]) * (-1 if match[2] == "-" else 1)
            found[key] = int(number) if number.is_integer() else number
    return found


_STATED = r"(?:\s*[:=]\s*[\"'\[(]?|\s+(?:is\s+|of\s+)?)([+-]?\d+(?:\.\d*)?)([+-]?)e?(?![\w.])"
"""What follows the name of a number: a sign or a blank, and the number, also as `2-`."""


def checked(frame: Frame) -> Frame:
    """Return the frame, with a note if hydrogens seem to be missing or lengths to be in bohr.

    Raises
    ------
    InputError
        There are no atoms; or no hydrogens at carbon atoms (or, without carbon atoms that miss
        some, none at all), although atoms of an organic molecule have open valences; or it is a
        flat drawing.
    """
    atoms = frame.atoms
    if len(atoms) == 0:
        raise InputError("the structure has no atoms")
    if (apart := _apart(atoms)) is not None:
        note = (
            f"no atoms are bonded: neighbours are {apart:.1f} times as far apart as bonded atoms; "
            "lengths in bohr must be converted to angstrom"
        )
        return replace(frame, notes=(*frame.notes, note))
    missing, what = open_valences(atoms), "carbon atoms"
    enough = _MISSING
    if missing <= enough:
        missing, what = (
            _open_hetero_atoms(atoms) - abs(atoms.info.get("charge", 0)),
            "N and O atoms",
        )
        enough = _MISSING_ELSEWHERE
    if missing <= enough:
        return frame
    valences = f"its {what} have about {missing:.0f} open valences"
    some = 1 in atoms.numbers
    if 6 in atoms.numbers and missing > _MISSING and (not some or _polar_alone(atoms)):
        raise InputError(
            f"{atoms.get_chemical_formula()} has no hydrogens{' at carbon atoms' if some else ''}, "
            f"but {valences}; add the hydrogens (--add-hydrogens does so for .pdb, mmCIF, .sdf, "
            ".mol and .mol2)"
        )
    flat = not atoms.pbc.any() and np.ptp(atoms.positions[:, 2]) < 1e-4
    if some and missing > _MISSING and flat and not _linear(atoms):
        raise InputError(
            f"{atoms.get_chemical_formula()} is a flat drawing, not a structure: all z are the "
            f"same, and {valences}; make a geometry first, such as from its SMILES (--smiles)"
        )
    return replace(frame, notes=(*frame.notes, f"hydrogens may be missing: {valences}"))


def compare_hydrogens(atoms: Atoms, formula: str, notes: list[str]) -> None:
    """Compare the hydrogens, for each other atom, with those of a formula such as "C6 H12 O6".

    Raises
    ------
    InputError
        There are hydrogens in the formula and none among the atoms.
    """
    counts = [
        (symbol in ("H", *ISOTOPES), float(n or 1))
        for symbol, n in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula)
    ]
    light, heavy = (sum(n for is_h, n in counts if is_h == kind) for kind in (True, False))
    if not light or not heavy:
        return
    found = int((atoms.numbers == 1).sum())
    expected = round(light / heavy * (len(atoms) - found))
    if found == 0 and expected:
        raise InputError(
            f"its formula is {formula}, but its sites hold no hydrogens; add them to the file"
        )
    if found < 0.95 * expected:
        notes.append(
            f"hydrogens may be missing: its formula is {formula}, which makes {expected} in the "
            f"cell, and its sites hold {found}"
        )


def open_valences(atoms: Atoms) -> float:
    """Free valences of the carbon atoms, judged by Pauling's bond orders from the distances.

    Returns
    -------
    float
        Sum over all carbon atoms of 4 minus the orders of their bonds, if that is above 0.8. The
        carbon atoms of CO and of CN- and NC groups have none.
    """
    carbon = atoms.numbers == 6
    if not carbon.any() or not np.isfinite(atoms.positions).all():
        return 0.0
    i, j, orders = _orders(atoms)
    triple = np.bincount(i, (orders > _TRIPLE) & np.isin(atoms.numbers[j], (7, 8)), len(atoms)) > 0
    free = 4.0 - np.bincount(i, orders, minlength=len(atoms))
    return float(free[carbon & ~triple & (free > 0.8)].sum())


def _linear(atoms: Atoms) -> bool:
    """Whether all atoms lie on a line, to about 0.1 angstrom."""
    centred = atoms.positions - atoms.positions.mean(axis=0)
    return bool(np.linalg.svd(centred, compute_uv=False)[1] < 0.1 * len(atoms) ** 0.5)


def _polar_alone(atoms: Atoms) -> bool:
    """Whether hydrogens are bonded, but none to carbon."""
    i, j, orders = _orders(atoms)
    partners = atoms.numbers[i[(atoms.numbers[j] == 1) & (orders > 0)]]
    return partners.size > 0 and bool((partners != 6).all())


def _apart(atoms: Atoms) -> float | None:
    """Median distance to the next atom, in sums of covalent radii, if it is that of bonds in bohr.

    That is only judged for three and more atoms with hydrogen, none of which is bonded.
    """
    if len(atoms) < 3 or 1 not in atoms.numbers or not np.isfinite(atoms.positions).all():
        return None
    if atoms.pbc.any() or (_orders(atoms)[2] > 0).any():
        return None
    distances, nearest = cKDTree(atoms.positions).query(atoms.positions, k=2)
    radii = covalent_radii[atoms.numbers]
    ratio = float(np.median(distances[:, 1] / (radii + radii[nearest[:, 1]])))
    return ratio if 1.5 < ratio < 2.2 else None


def _open_hetero_atoms(atoms: Atoms) -> float:
    """The same for N and O atoms that are bonded to C and H only, or to nothing."""
    hetero = np.isin(atoms.numbers, (7, 8))
    if len(atoms) < 2 or not hetero.any() or not np.isfinite(atoms.positions).all():
        return 0.0
    i, j, orders = _orders(atoms)
    other = np.bincount(i, (orders > 0) & ~np.isin(atoms.numbers[j], (1, 6)), len(atoms)) > 0
    free = np.where(atoms.numbers == 7, 3.0, 2.0) - np.bincount(i, orders, minlength=len(atoms))
    return float(free[hetero & ~other & (free > 0.8)].sum())


def _orders(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of near atoms in both directions, and Pauling's bond orders; 0 if they are too far."""
    radii = covalent_radii[atoms.numbers]
    if atoms.pbc.any():
        from ase.neighborlist import neighbor_list

        i, j, distance = neighbor_list("ijd", atoms, list(radii * _BOND))
    else:
        pairs = cKDTree(atoms.positions).query_pairs(2 * _BOND * radii.max(), output_type="ndarray")
        i, j = np.concatenate([pairs, pairs[:, ::-1]]).T
        distance = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    single = radii[i] + radii[j]
    orders = np.minimum(np.exp((single - distance) / _PAULING), 3.0) * (distance < _BOND * single)
    return i, j, orders


def is_drawing(atoms: Atoms, says_flat: bool | None) -> bool:
    """Whether this is a flat drawing and not a planar molecule.

    It is if all z are equal and the file says so; or the distances are no bond lengths; or, in a
    file that says nothing, there are no hydrogens although carbon atoms have open valences.

    Parameters
    ----------
    atoms : ase.Atoms
    says_flat : bool or None
        Whether the file says that its coordinates are those of a drawing, if it says anything.
    """
    if len(atoms) < 2 or np.ptp(atoms.positions[:, 2]) > 1e-4:
        return False
    if says_flat and len(atoms) > 2:
        return True
    if says_flat is None and 1 not in atoms.numbers and open_valences(atoms) > _MISSING:
        return True
    radii = covalent_radii[atoms.numbers]
    nearest = []
    for i, place in enumerate(atoms.positions):
        ratio = np.linalg.norm(atoms.positions - place, axis=1) / (radii + radii[i])
        ratio[i] = np.inf
        nearest.append(ratio.min())
    longer = np.array(nearest) - 1.0
    shorter = -longer / 1.5  # triple bonds have 0.77 of the sum of the radii
    return float(np.median(np.maximum(longer, shorter))) > 0.2


def rdkit(what: str) -> Any:
    """Return RDKit's module Chem, which does not print; an InputError if it is missing."""
    try:
        from rdkit import Chem, RDLogger
    except ImportError as error:
        raise InputError(f"{what} need RDKit; pip install 'denser[smiles]'") from error
    RDLogger.DisableLog("rdApp.*")
    return Chem
