"""Editing molecules: move and turn atoms, change, add and remove them. Lengths in bohr.

Each function returns a new `Structure`, or raises an InputError with the reason.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase.data import atomic_numbers
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from denser.atoms.radii import bond_length, bonded_atoms, bonds
from denser.types.errors import InputError
from denser.types.structure import Structure

VALENCES = {1: 1, 5: 3, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 15: 3, 16: 2, 17: 1, 35: 1, 53: 1}
"""Usual number of bonds of a neutral atom."""

LONE_PAIRS = {7: 1, 8: 2, 9: 3, 15: 1, 16: 2, 17: 3, 35: 3, 53: 3}


def _check(structure: Structure, *atoms: int) -> None:
    for atom in atoms:
        if not 0 <= atom < len(structure):
            raise InputError(f"there is no atom {atom + 1} in {structure.formula}")


def neighbours(structure: Structure, atom: int) -> list[int]:
    """Atoms bonded to `atom`."""
    return bonded_atoms(structure)[atom]


def number_of(symbol: str) -> int:
    """Atomic number of an element's symbol."""
    number = atomic_numbers.get(str(symbol).strip().capitalize(), 0)
    if number < 1:
        raise InputError(f"{symbol!r} is not an element; give a symbol such as C, N or Cl")
    return number


def move(structure: Structure, atoms: list[int], positions: np.ndarray) -> Structure:
    """Put atoms at new positions (n, 3)."""
    _check(structure, *atoms)
    positions = np.asarray(positions, dtype=float)
    if positions.shape != (len(atoms), 3):
        raise InputError(f"{len(atoms)} atoms need as many positions, found {positions.shape}")
    moved = structure.positions.copy()
    moved[atoms] = positions
    return replace(structure, positions=moved, bonds=None)


def turn(structure: Structure, a: int, b: int, angle: float) -> Structure:
    """Rotate one side of the bond from `a` to `b` about it by `angle` in radians.

    The smaller side moves, in the direction that increases the dihedral angle by `angle`.
    """
    _check(structure, a, b)
    pairs = bonds(structure)
    bonded = ((pairs == (a, b)) | (pairs == (b, a))).all(axis=1)
    if not bonded.any():
        raise InputError(f"atoms {a + 1} and {b + 1} are not bonded; select the ends of a bond")
    rest, n = pairs[~bonded], len(structure)
    graph = csr_matrix((np.ones(len(rest)), rest.T), shape=(n, n))
    side = breadth_first_order(graph, b, directed=False, return_predecessors=False)
    if a in side:
        raise InputError(
            f"the bond between atoms {a + 1} and {b + 1} is part of a ring and cannot be turned"
        )
    if 2 * side.size > connected_size(graph, a, b):
        side = breadth_first_order(graph, a, directed=False, return_predecessors=False)
        a, b = b, a
    origin, axis = structure.positions[b], structure.positions[b] - structure.positions[a]
    axis = axis / np.linalg.norm(axis)
    v = structure.positions[side] - origin
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = v * cosine + np.cross(axis, v) * sine + np.outer(v @ axis, axis) * (1 - cosine)
    return move(structure, list(side), origin + turned)


def connected_size(graph: csr_matrix, a: int, b: int) -> int:
    """Numbers of atoms on the two sides of a cut bond."""
    labels = connected_components(graph, directed=False)[1]
    return int(np.isin(labels, labels[[a, b]]).sum())


def remove(structure: Structure, atoms: list[int], hydrogens: bool = True) -> Structure:
    """Remove atoms; with `hydrogens`, also their hydrogens, and their neighbours get new ones."""
    _check(structure, *atoms)
    gone = set(atoms)
    if hydrogens:
        heavy = [a for a in gone if structure.numbers[a] != 1]
        gone |= {h for a in heavy for h in neighbours(structure, a) if structure.numbers[h] == 1}
    kept = np.array([i for i in range(len(structure)) if i not in gone], dtype=int)
    if kept.size == 0:
        raise InputError("a molecule needs at least one atom; type a SMILES to start a new one")
    result = _select(structure, kept)
    if hydrogens:
        for a in gone:
            if structure.numbers[a] != 1:
                for b in neighbours(structure, a):
                    if b not in gone:
                        result = _attach(result, int(np.searchsorted(kept, b)), [1])
    return result


def change_element(
    structure: Structure, atom: int, symbol: str, hydrogens: bool = True
) -> Structure:
    """Change the element of `atom`; with `hydrogens`, adjust their number to its valence.

    An atom with one neighbour moves to the new bond length.
    """
    _check(structure, atom)
    number, old = number_of(symbol), int(structure.numbers[atom])
    numbers = structure.numbers.copy()
    numbers[atom] = number
    positions = structure.positions.copy()
    around = neighbours(structure, atom)
    heavy = [b for b in around if structure.numbers[b] != 1]
    anchors = heavy if heavy else around
    if len(anchors) == 1:
        bond = positions[atom] - positions[anchors[0]]
        length = bond_length(number, int(structure.numbers[anchors[0]]))
        shift = bond * (length / np.linalg.norm(bond) - 1)
        moving = [atom, *(b for b in around if b not in anchors)]
        positions[moving] += shift
    result = replace(structure, numbers=numbers, positions=positions, bonds=None, spin=None)
    if not hydrogens or number not in VALENCES or old not in VALENCES:
        return result
    growth = VALENCES[number] - VALENCES[old]
    if growth > 0:
        return _attach(result, atom, [1] * growth)
    own = [b for b in around if structure.numbers[b] == 1 and b not in anchors][: -growth or 0]
    if old == 1 and not own:
        return result
    return _select(result, np.setdiff1d(np.arange(len(result)), own))


def add(structure: Structure, atom: int, symbol: str, hydrogens: bool = True) -> Structure:
    """Bond a new atom to `atom`.

    With `hydrogens` it replaces one of the atom's hydrogens, if there is one, and gets its own
    hydrogens.
    """
    _check(structure, atom)
    number = number_of(symbol)
    if not hydrogens:
        return _attach(structure, atom, [number])
    own = [b for b in neighbours(structure, atom) if structure.numbers[b] == 1]
    if own and structure.numbers[atom] != 1:
        return change_element(structure, own[-1], symbol)
    result = _attach(structure, atom, [number])
    missing = VALENCES.get(number, 1) - 1
    return _attach(result, len(result) - 1, [1] * missing)


def _select(structure: Structure, kept: np.ndarray) -> Structure:
    return replace(
        structure,
        numbers=structure.numbers[kept],
        positions=structure.positions[kept],
        bonds=None,
        spin=None,
    )


def _attach(structure: Structure, atom: int, new: list[int]) -> Structure:
    """Bond atoms to `atom`, as far as possible from its neighbours and lone pairs."""
    if not new:
        return structure
    number = int(structure.numbers[atom])
    centre = structure.positions[atom]
    around = structure.positions[neighbours(structure, atom)] - centre
    around /= np.maximum(np.linalg.norm(around, axis=1, keepdims=True), 1e-9)
    directions = _spread(around, len(new), LONE_PAIRS.get(number, 0))
    lengths = np.array([bond_length(number, z) for z in new])
    places = _clear(structure, atom, directions, lengths, around)
    return replace(
        structure,
        numbers=np.append(structure.numbers, new),
        positions=np.concatenate([structure.positions, places]),
        spin=None,
    )


def _spread(fixed: np.ndarray, n_new: int, n_pairs: int) -> np.ndarray:
    """Unit vectors (n_new, 3) that repel each other, the `fixed` ones and lone pairs as 1/d^2."""
    n = n_new + min(n_pairs, max(0, 4 - len(fixed) - n_new))
    free = np.random.default_rng(5).normal(size=(n, 3))
    if len(fixed):
        free -= 2 * fixed.sum(axis=0)
    free /= np.linalg.norm(free, axis=1, keepdims=True)
    for step in np.geomspace(0.3, 0.01, 300):
        others = np.concatenate([free, fixed])
        gap = free[:, None] - others
        square = (gap**2).sum(axis=-1)
        square[square < 1e-9] = np.inf
        push = (gap / square[..., None] ** 2).sum(axis=1)
        push -= (push * free).sum(axis=1, keepdims=True) * free
        free = free + step * push / (1 + np.linalg.norm(push, axis=1, keepdims=True))
        free /= np.linalg.norm(free, axis=1, keepdims=True)
    return free[:n_new]


def _clear(
    structure: Structure, atom: int, directions: np.ndarray, lengths: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """Positions (n, 3) of new atoms, rotated about the atom's only bond to avoid other atoms."""
    centre = structure.positions[atom]
    others = np.delete(structure.positions, atom, axis=0)
    best, widest = centre + directions * lengths[:, None], -1.0
    axis = fixed[0] if len(fixed) == 1 else np.array([0.0, 0.0, 1.0])
    angles = np.radians(np.arange(0, 360, 10)) if len(fixed) == 1 else [0.0]
    for angle in angles:
        c, s = np.cos(angle), np.sin(angle)
        turned = (
            directions * c
            + np.cross(axis, directions) * s
            + np.outer(directions @ axis, axis) * (1 - c)
        )
        places = centre + turned * lengths[:, None]
        room = np.linalg.norm(places[:, None] - others, axis=-1).min() if len(others) else np.inf
        if room > widest + 1e-9:
            best, widest = places, room
    return best
