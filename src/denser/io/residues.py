"""Charges of amino acids and nucleotides, from the hydrogens that a file gives them.

A free neutral molecule of the residue has n hydrogens. Each bond to another residue (peptide,
phosphodiester, disulfide) costs one, so a residue with b such bonds and h hydrogens has the charge

q = h - (n - b).

So the protonation state that the file shows decides, and not the name: ASP with its acid hydrogen
is neutral, and HIS with both hydrogens has +1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from ase.data import atomic_numbers, covalent_radii
from scipy.spatial import cKDTree

_BOND = 1.25
"""Heavy atoms nearer than this times the sum of their covalent radii are bonded."""

_SAME = {
    **dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP", "HISD", "HISE", "HISH"), "HIS"),
    **dict.fromkeys(("CYX", "CYM", "CYS2", "CYSH"), "CYS"),
    "ASH": "ASP", "ASPH": "ASP", "GLH": "GLU", "GLUH": "GLU", "LYN": "LYS", "LYSH": "LYS",
}  # fmt: skip
"""Names of force fields for protonation states."""

_HYDROGENS = {"ARG": 14, "HIS": 9, "LYS": 14, "ACE": 4, "NH2": 3, "NME": 5, "NMA": 5}
"""Hydrogens of free neutral molecules where gemmi's table (of the PDB) has ions or nothing."""

_ACIDS, _BASES = ("ASP", "GLU", "CYS", "TYR"), ("ARG", "HIS", "LYS")
_PHOSPHATES = ("SEP", "TPO", "PTR")


@dataclass(frozen=True)
class ResidueAtom:
    """An atom of a PDB, mmCIF or GROMACS file.

    Parameters
    ----------
    element : str
    position : (3,) tuple of float
        Angstrom.
    residue : tuple of str
        The same for all atoms of a residue.
    kind : str
        Name of the residue, such as "ALA".
    name : str
        Name of the atom, such as "CA".
    charge : int
        In the file.
    altloc : str
        Label of the alternate location.
    occupancy : float
    """

    element: str
    position: tuple[float, float, float]
    residue: tuple[str, ...]
    kind: str
    name: str = ""
    charge: int = 0
    altloc: str = ""
    occupancy: float = 1.0


def charge_of_residues(atoms: Sequence[ResidueAtom], notes: list[str]) -> int:
    """Total charge of the amino acids and nucleotides among the atoms; notes say what it is.

    Residues whose hydrogens fit no charge that they can have (as of united atoms) count as neutral.

    Parameters
    ----------
    atoms : sequence of ResidueAtom
    notes : list of str
        Sentences are added to it.
    """
    kinds = {atom.residue: kind for atom in atoms if _hydrogens(kind := _plain(atom.kind))}
    if not kinds:
        return 0
    hydrogens = Counter(a.residue for a in atoms if a.element in ("H", "D", "T"))
    phosphorus = {a.residue for a in atoms if a.element == "P"}
    bonds = _bonds_between(atoms)
    total, found, strange = 0, Counter[str](), Counter[str]()
    for key, kind in kinds.items():
        neutral = _hydrogens(kind) - bonds[key]
        nucleotide = gemmi.find_tabulated_residue(kind).is_nucleic_acid()
        if nucleotide and key not in phosphorus:
            neutral -= 1  # a nucleoside
        charge = hydrogens[key] - neutral
        low, high = _range(kind, nucleotide, bonds[key])
        if not low <= charge <= high:
            strange[kind] += 1
            continue
        total += charge
        if charge:
            found[f"{kind} {charge:+d}"] += 1
    if found:
        listed = ", ".join(f"{n} {name}" for name, n in sorted(found.items()))
        notes.append(
            f"charges of residues follow from their hydrogens ({listed}): {total:+d} in all, "
            "unless --charge is given"
        )
    if strange and len(kinds) > 1:
        listed = ", ".join(f"{n} {name}" for name, n in sorted(strange.items()))
        notes.append(
            f"hydrogens or other atoms of residues are missing, or too many, so that these count "
            f"as neutral unless --charge is given: {listed}"
        )
    return total


def is_known(kind: str) -> bool:
    """Whether this is the name of a residue whose charge follows from its hydrogens."""
    return _hydrogens(_plain(kind)) > 0


def _plain(kind: str) -> str:
    """The PDB's name of a residue that a force field may name otherwise."""
    kind = kind.strip().upper()
    kind = _SAME.get(kind, kind)
    if nucleotide := re.fullmatch(r"R?([ACGU]|D[ACGT])[35N]?", kind):
        return nucleotide[1]
    if len(kind) == 4 and kind[0] in "NC" and not _hydrogens(kind):  # the end of a chain
        return _SAME.get(kind[1:], kind[1:])
    return kind


def _hydrogens(kind: str) -> int:
    """Hydrogens of the free neutral molecule; 0 for another residue."""
    if kind in _HYDROGENS:
        return _HYDROGENS[kind]
    entry = gemmi.find_tabulated_residue(kind)
    return entry.hydrogen_count if entry.is_amino_acid() or entry.is_nucleic_acid() else 0


def _range(kind: str, nucleotide: bool, n_bonds: int) -> tuple[int, int]:
    """Smallest and largest charge; ends of chains may have one more."""
    if nucleotide:
        return (-1, 0) if n_bonds > 1 else (-2, 0)
    low = -2 if kind in _PHOSPHATES else -int(kind in _ACIDS)
    high = int(kind in _BASES)
    return (low, high) if n_bonds > 1 else (low - 1, high + 1)


def _bonds_between(atoms: Sequence[ResidueAtom]) -> Counter[tuple[str, ...]]:
    """Number of bonds of each residue to others, among heavy nonmetals."""
    heavy = [a for a in atoms if a.element in ("C", "N", "O", "P", "S", "Se")]
    found: Counter[tuple[str, ...]] = Counter()
    if len(heavy) < 2:
        return found
    places = np.array([a.position for a in heavy])
    radii = covalent_radii[[atomic_numbers[a.element] for a in heavy]]
    pairs = cKDTree(places).query_pairs(2 * _BOND * radii.max(), output_type="ndarray")
    i, j = pairs.T
    near = np.linalg.norm(places[i] - places[j], axis=1) < _BOND * (radii[i] + radii[j])
    for a, b in pairs[near]:
        if heavy[a].residue != heavy[b].residue:
            found[heavy[a].residue] += 1
            found[heavy[b].residue] += 1
    return found
