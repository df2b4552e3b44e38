"""Orders of bonds and SYBYL types, for files of molecules that name them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from denser.atoms.radii import bond_length, bonds
from denser.types.bonds import Bonds
from denser.types.structure import Structure
from denser.types.units import BOHR

UNKNOWN = 0
"""Order of a bond that nobody knows."""

_HOLDS = {7: 1, 16: 2, 8: 3, 9: 4}
"""The larger, the rather an atom keeps a negative charge than its unpaired electron."""


def find_bonds(structure: Structure) -> tuple[Bonds, str]:
    """Bonds of a structure with orders and formal charges, and a sentence if they are not known.

    Those of the input count if they fit the charge and the positions. Else bonds are judged by
    distance, and RDKit looks for orders that fit the charge and the unpaired electrons. If it
    finds none, all orders are `UNKNOWN` and all formal charges are 0.
    """
    own = structure.bonds
    if own is not None and int(own.formal_charges.sum()) == structure.charge:
        ends = structure.positions[own.pairs]
        lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        usual = [bond_length(*structure.numbers[pair]) for pair in own.pairs]
        if (lengths < 1.5 * np.array(usual)).all():
            return own, ""
    pairs = bonds(structure)
    unknown = Bonds(pairs, np.full(len(pairs), UNKNOWN), np.zeros(len(structure), dtype=int))
    try:
        from rdkit import Chem, RDLogger
        from rdkit.Chem import rdDetermineBonds
    except ImportError:
        return unknown, (
            "the orders of the bonds are unknown without RDKit (pip install 'denser[smiles]'), and "
            "the file says so"
        )
    molecule = rdkit_molecule(
        structure.numbers, Bonds(pairs, np.ones(len(pairs)), np.zeros(len(structure)))
    )
    formal: np.ndarray | None
    conformer = Chem.Conformer(len(structure))
    conformer.SetPositions(structure.positions * BOHR)
    molecule.AddConformer(conformer)
    RDLogger.DisableLog("rdApp.*")
    try:
        # a radical has the bonds of its anion
        rdDetermineBonds.DetermineBondOrders(molecule, charge=structure.charge - structure.spin)
        Chem.Kekulize(molecule, clearAromaticFlags=True)
    except (ValueError, RuntimeError):  # no orders fit
        formal = None
    else:
        formal = np.array([atom.GetFormalCharge() for atom in molecule.GetAtoms()], dtype=int)
        negative = np.flatnonzero(formal < 0)
        softest = negative[np.argsort([_HOLDS.get(z, 0) for z in structure.numbers[negative]])]
        formal[softest[: structure.spin]] += 1
    finally:
        RDLogger.EnableLog("rdApp.*")
    if formal is None or formal.sum() != structure.charge:
        return unknown, (
            f"no orders of the bonds fit the charge {structure.charge:+d}; they are unknown in the "
            "file, and so are the formal charges (a SMILES or an SDF as input brings them)"
        )
    orders = [molecule.GetBondBetweenAtoms(int(i), int(j)).GetBondTypeAsDouble() for i, j in pairs]
    return Bonds(pairs, np.array(orders, dtype=int), formal), ""


def rdkit_molecule(numbers: np.ndarray, known: Bonds) -> Any:
    """RDKit's molecule with these bonds and formal charges, without further hydrogens."""
    from rdkit import Chem

    molecule = Chem.RWMol()
    for z, charge in zip(numbers, known.formal_charges, strict=True):
        atom = Chem.Atom(int(z))
        atom.SetNoImplicit(True)
        atom.SetFormalCharge(int(charge))
        molecule.AddAtom(atom)
    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    for (i, j), order in zip(known.pairs, known.orders, strict=True):
        molecule.AddBond(int(i), int(j), kinds.get(int(order), Chem.BondType.SINGLE))
    return molecule


def unpaired_electrons(structure: Structure, known: Bonds) -> list[tuple[int, int]]:
    """Atoms with unpaired electrons, by their valences, and the numbers of these.

    None if they do not add up to the spin of the structure.
    """
    if not structure.spin or (known.orders == UNKNOWN).any():
        return []
    from rdkit import Chem

    molecule = rdkit_molecule(structure.numbers, known)
    molecule.UpdatePropertyCache(strict=False)
    Chem.AssignRadicals(molecule)
    found = [(atom.GetIdx(), atom.GetNumRadicalElectrons()) for atom in molecule.GetAtoms()]
    found = [(i, n) for i, n in found if n]
    return found if sum(n for _, n in found) == structure.spin else []


def sybyl_types(structure: Structure, known: Bonds) -> tuple[list[str], list[str]]:
    """SYBYL types of the atoms (C.3, N.am, O.co2, ...) and of the bonds (1, 2, am, ar, un, ...).

    Benzene-like rings of six are aromatic. Without known orders, or without RDKit for the rings,
    atoms have the type of their element.
    """
    if (known.orders == UNKNOWN).any():
        return list(structure.symbols), ["un"] * len(known.pairs)
    try:
        ring_bonds = _aromatic_bonds(structure, known)
    except ImportError:
        return list(structure.symbols), [str(order) for order in known.orders]
    graph = _Graph(structure, known, {i for pair in ring_bonds for i in pair})
    types = [graph.type_of(i) for i in range(len(structure))]
    kinds = []
    for (i, j), order in zip(known.pairs.tolist(), known.orders.tolist(), strict=True):
        ends = {types[i], types[j]}
        if frozenset((i, j)) in ring_bonds or ("O.co2" in ends and ends & {"C.2"}):
            kinds.append("ar")
        elif "N.am" in ends and "C.2" in ends and graph.is_carbonyl(i if types[i] == "C.2" else j):
            kinds.append("am")
        else:
            kinds.append(str(order))
    return types, kinds


def _aromatic_bonds(structure: Structure, known: Bonds) -> set[frozenset[int]]:
    """Bonds of aromatic rings of six atoms that each have a double bond in the ring system."""
    from rdkit import Chem

    molecule = rdkit_molecule(structure.numbers, known)
    Chem.SanitizeMol(
        molecule,
        Chem.SanitizeFlags.SANITIZE_SYMMRINGS
        | Chem.SanitizeFlags.SANITIZE_SETCONJUGATION
        | Chem.SanitizeFlags.SANITIZE_SETHYBRIDIZATION
        | Chem.SanitizeFlags.SANITIZE_SETAROMATICITY,
        catchErrors=True,
    )
    aromatic = {atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetIsAromatic()}
    doubles = {tuple(pair) for pair in known.pairs[known.orders == 2].tolist()}
    benzenoid = {i for pair in doubles if aromatic.issuperset(pair) for i in pair}
    found: set[frozenset[int]] = set()
    for ring in molecule.GetRingInfo().AtomRings():
        if len(ring) == 6 and benzenoid.issuperset(ring):
            found |= {frozenset(pair) for pair in pairwise([*ring, ring[0]])}
    return found


class _Graph:
    """Neighbours of each atom with the orders of the bonds."""

    def __init__(self, structure: Structure, known: Bonds, aromatic: set[int]) -> None:
        self.symbols, self.charges = structure.symbols, known.formal_charges
        self.aromatic = aromatic
        self.near: list[dict[int, int]] = [{} for _ in range(len(structure))]
        for (i, j), order in zip(known.pairs.tolist(), known.orders.tolist(), strict=True):
            self.near[i][j] = self.near[j][i] = order

    def type_of(self, i: int) -> str:
        """SYBYL type of an atom."""
        symbol = self.symbols[i]
        rules = {"C": self._carbon, "N": self._nitrogen, "O": self._oxygen, "S": self._sulfur}
        if symbol in rules:
            return f"{symbol}.{rules[symbol](i)}"
        return "P.3" if symbol == "P" else symbol

    def is_carbonyl(self, i: int) -> bool:
        """Whether an atom is carbon with =O or =S."""
        return self.symbols[i] == "C" and any(
            order == 2 and self.symbols[j] in "OS" for j, order in self.near[i].items()
        )

    def _ends(self, i: int, symbols: str) -> list[int]:
        """Neighbours of these elements with no other neighbour."""
        return [j for j in self.near[i] if self.symbols[j] in symbols and len(self.near[j]) == 1]

    def _unsaturated(self, i: int) -> str:
        """1 for a triple or two double bonds, 2 for a double bond, 3 for neither."""
        orders = list(self.near[i].values())
        if 3 in orders or orders.count(2) > 1:
            return "1"
        return "2" if 2 in orders else "3"

    def _carbon(self, i: int) -> str:
        if i in self.aromatic:
            return "ar"
        nitrogens = [j for j in self.near[i] if self.symbols[j] == "N"]
        if len(nitrogens) == 3 and any(self.charges[j] > 0 for j in nitrogens):
            return "cat"
        return self._unsaturated(i)

    def _nitrogen(self, i: int) -> str:
        if i in self.aromatic:
            return "ar"
        if len(self.near[i]) == 4:
            return "4"
        unsaturated = self._unsaturated(i)
        if len(self.near[i]) == 3 and unsaturated == "2":
            return "pl3" if self._ends(i, "O") or self.charges[i] > 0 else "2"
        if unsaturated != "3":
            return unsaturated
        if any(self.is_carbonyl(j) for j in self.near[i]):
            return "am"
        flat = any(
            j in self.aromatic or 2 in self.near[j].values()
            for j in self.near[i]
            if self.symbols[j] in "CN"
        )
        return "pl3" if flat and len(self.near[i]) == 3 else "3"

    def _oxygen(self, i: int) -> str:
        if len(self.near[i]) == 1:
            [(j, order)] = self.near[i].items()
            others = self._ends(j, "O")
            charged = any(self.charges[k] < 0 for k in others)
            if self.symbols[j] in "CP" and len(others) > 1 and charged:
                return "co2"
            if self.symbols[j] == "N" and len(others) > 1:
                return "2"
            return "2" if order == 2 else "3"
        return "3"

    def _sulfur(self, i: int) -> str:
        oxygens = self._ends(i, "O")
        if len(self.near[i]) == 4 and len(oxygens) >= 2:
            return "O2"
        if len(self.near[i]) == 3 and len(oxygens) == 1:
            return "O"
        return "2" if 2 in self.near[i].values() and len(self.near[i]) < 3 else "3"
