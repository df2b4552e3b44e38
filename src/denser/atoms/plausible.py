"""What is strange about a structure: bonds of unlikely length, and ground states with open shells.

The ranges are those of stable molecules (Allen et al., J. Chem. Soc. Perkin Trans. 2, S1, 1987, and
the small molecules of the NIST CCCBDB).
"""

from __future__ import annotations

import numpy as np
from ase.data import (
    atomic_numbers,
    chemical_symbols,
    covalent_radii,
    ground_state_magnetic_moments,
    vdw_radii,
)
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from denser.atoms.radii import bonds
from denser.fields.periodic import nearest_image
from denser.types.structure import Structure
from denser.types.units import BOHR

_SLACK = 0.15
"""A bond is strange if it is this far outside its range, angstrom."""

_TIMES = 4.0
"""... and further than this times the standard deviation of the other bonds, which is large in
structures with thermal or random displacements."""

_FAR = 0.5
"""A bond that is this far outside is always strange, angstrom."""

_BROKEN = 1.58
"""Atoms nearer than this times the sum of their covalent radii are too near for a contact."""

_RANGES = {
    "H H": (0.74, 0.80), "H B": (1.17, 1.35), "H C": (1.05, 1.12), "H N": (0.99, 1.06),
    "H O": (0.95, 1.03), "H F": (0.91, 0.95), "H Si": (1.46, 1.52), "H P": (1.38, 1.45),
    "H S": (1.32, 1.38), "H Cl": (1.27, 1.32), "H Br": (1.41, 1.46), "B B": (1.50, 1.95),
    "B C": (1.45, 1.70), "B N": (1.36, 1.75), "B O": (1.20, 1.55), "B F": (1.26, 1.45),
    "B Cl": (1.72, 1.90), "C C": (1.18, 1.65), "C N": (1.13, 1.56), "C O": (1.12, 1.50),
    "C F": (1.26, 1.42), "C Si": (1.70, 1.95), "C P": (1.54, 1.90), "C S": (1.53, 1.88),
    "C Cl": (1.62, 1.88), "C Br": (1.78, 2.02), "N N": (1.09, 1.64), "N O": (1.06, 1.50),
    "N F": (1.31, 1.52), "N Si": (1.60, 1.85), "N P": (1.48, 1.80), "N S": (1.42, 1.80),
    "N Cl": (1.70, 1.98), "O O": (1.20, 1.52), "O F": (1.35, 1.45), "O Si": (1.50, 1.72),
    "O P": (1.43, 1.72), "O S": (1.40, 1.72), "O Cl": (1.40, 1.75), "O Br": (1.60, 1.90),
    "F F": (1.38, 1.45), "F Si": (1.54, 1.72), "F P": (1.52, 1.66), "F S": (1.53, 1.72),
    "F Cl": (1.57, 1.72), "Si Si": (2.10, 2.42), "Si P": (2.10, 2.32), "Si S": (1.93, 2.20),
    "Si Cl": (2.00, 2.15), "P P": (1.89, 2.28), "P S": (1.85, 2.15), "P Cl": (1.95, 2.20),
    "S S": (1.88, 2.15), "S Cl": (1.95, 2.25), "Cl Cl": (1.97, 2.05), "Cl Br": (2.10, 2.20),
    "Br Br": (2.26, 2.36),
}  # fmt: skip
"""Shortest and longest bonds between two elements, angstrom."""

_LONGEST_OF_TERMINAL = {
    "O C1": 1.15, "O C2": 1.20, "O C3": 1.32, "O C4": 1.43, "O N1": 1.16, "O N2": 1.26,
    "O N3": 1.31, "O N4": 1.43, "O O1": 1.35, "O O2": 1.32, "O S1": 1.50, "O S2": 1.47,
    "O S3": 1.50, "O S4": 1.54, "O P2": 1.52, "O P3": 1.54, "O P4": 1.62, "N C1": 1.20,
    "N C2": 1.20, "N N1": 1.12, "N N2": 1.20, "S C1": 1.56, "S C2": 1.62, "C O1": 1.15,
    "C N1": 1.20, "C N2": 1.20,
}  # fmt: skip
"""Longest bond of an atom with one neighbour, to an element with this number of neighbours."""


def strange(structure: Structure) -> list[str]:
    """Sentences about what is strange in a structure; none for an ordinary one."""
    return [*strange_bonds(structure), *open_shells(structure)]


def strange_bonds(structure: Structure) -> list[str]:
    """One sentence if bonds are far too long or too short for their elements.

    It names the worst one. Bonds with metals and noble gases, and bridging hydrogens, are not
    judged, and neither is a cell that is not orthorhombic.
    """
    if structure.cell is not None and not structure.is_orthorhombic:
        return []
    pairs = bonds(structure)
    found = _stretched(structure, pairs) + _broken(structure, pairs)
    if not found:
        return []
    _, i, j, length, (low, high) = max(found)
    n = len(found) - 1
    more = f" ({n} more such pair{'s' if n > 1 else ''})" if n else ""
    i, j = sorted((i, j))
    return [
        f"atoms {i + 1} ({structure.symbols[i]}) and {j + 1} ({structure.symbols[j]}) are "
        f"{length:.2f} angstrom apart, but a bond between them is {low:.2f} to {high:.2f} "
        f"angstrom long{more}; is the geometry right?"
    ]


_Found = list[tuple[float, int, int, float, tuple[float, float]]]


def _stretched(structure: Structure, pairs: np.ndarray) -> _Found:
    """Bonds outside their ranges: deviation, two atoms, length and range in angstrom."""
    symbols, n_near = structure.symbols, np.bincount(pairs.ravel(), minlength=len(structure))
    lengths = _distances(structure, pairs)
    judged: _Found = []
    beside = _heavy_atoms_beside(structure)
    for (i, j), length in zip(pairs.tolist(), lengths.tolist(), strict=True):
        limits = _range(symbols[i], symbols[j], n_near[i], n_near[j])
        if limits is not None and not _bridges(beside, n_near, i, j):
            low, high = limits
            judged.append((max(low - length, length - high), i, j, length, limits))
    if not judged:
        return []
    off = np.array([length - sum(limits) / 2 for _, _, _, length, limits in judged])
    total, squares, n = off.sum(), (off**2).sum(), len(off) - 1
    found = []
    for entry, own in zip(judged, off, strict=True):
        spread = 0.0
        if n > 1:
            spread = np.sqrt(max((squares - own**2) / n - ((total - own) / n) ** 2, 0.0))
        if entry[0] > min(max(_SLACK, _TIMES * spread), _FAR):
            found.append(entry)
    return found


def _range(first: str, second: str, n_first: int, n_second: int) -> tuple[float, float] | None:
    """Shortest and longest bond of two elements with these numbers of neighbours, angstrom."""
    if atomic_numbers[first] > atomic_numbers[second]:
        first, second, n_first, n_second = second, first, n_second, n_first
    limits = _RANGES.get(f"{first} {second}")
    if limits is None:
        return None
    low, high = limits
    if n_first == 1:
        high = min(high, _LONGEST_OF_TERMINAL.get(f"{first} {second}{n_second}", high))
    if n_second == 1:
        high = min(high, _LONGEST_OF_TERMINAL.get(f"{second} {first}{n_first}", high))
    return low, high


def _heavy_atoms_beside(structure: Structure) -> dict[int, list[int]]:
    """For each hydrogen, the heavier atoms nearer than 1.7 angstrom."""
    hydrogen = structure.numbers == 1
    beside: dict[int, list[int]] = {int(i): [] for i in np.flatnonzero(hydrogen)}
    near = cKDTree(structure.positions).query_pairs(1.7 / BOHR, output_type="ndarray")
    for i, j in near[hydrogen[near].sum(axis=1) == 1].tolist():
        first, second = (i, j) if hydrogen[i] else (j, i)
        beside[first].append(second)
    return beside


def _bridges(beside: dict[int, list[int]], n_near: np.ndarray, i: int, j: int) -> bool:
    """Whether one of the atoms is a hydrogen between two atoms, as in a strong hydrogen bond."""
    for hydrogen, other in ((i, j), (j, i)):
        if hydrogen not in beside:
            continue
        if n_near[hydrogen] > 1 or any(k != other for k in beside[hydrogen]):
            return True
    return False


def _broken(structure: Structure, pairs: np.ndarray) -> _Found:
    """Pairs of atoms in different molecules that are too far for a bond and too near for a contact.

    Only non-metals other than hydrogen are judged.
    """
    n, numbers = len(structure), structure.numbers
    graph = csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    n_parts, part = connected_components(graph, directed=False)
    if n_parts == 1:
        return []
    radii = covalent_radii[numbers]
    near = _near_pairs(structure, 2 * _BROKEN * float(radii.max()))
    near = near[part[near[:, 0]] != part[near[:, 1]]]
    lengths, symbols = _distances(structure, near), structure.symbols
    found = []
    for (i, j), length in zip(near.tolist(), lengths.tolist(), strict=True):
        limits = _range(symbols[i], symbols[j], 2, 2)
        if limits is None or 1 in (numbers[i], numbers[j]):
            continue
        contact = 0.75 * (vdw_radii[numbers[i]] + vdw_radii[numbers[j]])
        longest = min(_BROKEN * (radii[i] + radii[j]), contact)
        if limits[1] + _SLACK < length < longest:
            found.append((length - limits[1], i, j, length, limits))
    return found


def _near_pairs(structure: Structure, reach: float) -> np.ndarray:
    """Pairs (n, 2) of atoms nearer than `reach` in angstrom."""
    periodic = structure.is_orthorhombic
    tree = structure.tree() if periodic else cKDTree(structure.positions)
    return tree.query_pairs(reach / BOHR, output_type="ndarray")


def _distances(structure: Structure, pairs: np.ndarray) -> np.ndarray:
    """Distances of pairs of atoms, in an orthorhombic cell to the nearest image, angstrom."""
    steps = structure.positions[pairs[:, 0]] - structure.positions[pairs[:, 1]]
    if structure.cell is not None and structure.is_orthorhombic:
        steps = nearest_image(steps, structure.cell)
    return np.linalg.norm(steps, axis=1) * BOHR


_OPEN_SHELL = {
    "O2", "S2", "OS", "HN", "HP", "FN", "ClN", "BrN", "FP", "ClP", "B2", "Si2", "CH2", "BN", "C2O",
    "CN2", "HO+", "HS+", "H2N+", "CH-", "HSi-", "C2",
}  # fmt: skip
"""Molecules (Hill formula and charge) with an even number of electrons whose ground state is a
triplet, or, as that of C2 and BN, no closed shell that one determinant describes."""


def open_shells(structure: Structure) -> list[str]:
    """One sentence if the spin was assumed, or the ground state of a molecule has another one.

    Molecules with an even number of electrons are looked up, such as O2, NH and CH2, and single
    atoms. If there are several molecules, they are taken to be neutral, unless the structure is
    one molecule.
    """
    expected = _expected_spin(structure)
    if structure.spin < 2 and expected is not None and expected > structure.spin:
        state = "singlet" if structure.spin == 0 else "doublet"
        name = _formula(structure.numbers, structure.charge)
        return [
            f"the ground state of {name} has {expected} unpaired electrons, and this is an excited "
            f"{state}; --spin {expected} gives the ground state"
        ]
    if structure.spin_assumed and structure.spin:
        name = _formula(structure.numbers, structure.charge)
        return [f"{name} has an odd number of electrons; it is taken as a doublet (--spin 1)"]
    if structure.spin:
        return []
    if structure.cell is not None and not structure.is_orthorhombic:
        return []
    pairs = bonds(structure)
    n = len(structure)
    graph = csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    n_parts, part = connected_components(graph, directed=False)
    if n_parts > 1 and structure.charge:
        return []  # nobody knows which of the molecules has the charge
    order = np.argsort(part, kind="stable")
    for numbers in np.split(structure.numbers[order], np.cumsum(np.bincount(part))[:-1]):
        if len(numbers) > 3:
            continue
        name = _formula(numbers, structure.charge)
        if name in _OPEN_SHELL:
            return [
                f"the ground state of {name} has an open shell, and this is an excited singlet; "
                "--spin 2 gives the triplet"
            ]
    return []


def _expected_spin(structure: Structure) -> int | None:
    """Unpaired electrons of a single atom in its ground state, if they are known.

    An ion of a main-group element has those of the neutral atom with as many electrons.
    """
    if len(structure) != 1 or structure.numbers[0] == 0:
        return None
    z = int(structure.numbers[0])
    n_electrons = z - structure.charge
    if not 0 < n_electrons < len(ground_state_magnetic_moments):
        return 0
    transition = any(low <= k <= low + 9 for k in (z, n_electrons) for low in (21, 39, 57, 72))
    if structure.charge and transition:
        return None
    return round(ground_state_magnetic_moments[n_electrons])


def _formula(numbers: np.ndarray, charge: int) -> str:
    from ase.formula import Formula

    text = str(Formula.from_list([chemical_symbols[z] for z in numbers]).convert("hill"))
    if abs(charge) < 2:
        return text + ("-", "", "+")[charge + 1]
    return f"{text} {charge:+d}"
