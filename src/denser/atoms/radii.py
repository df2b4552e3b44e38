"""Radii of atoms, and bonds between atoms."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from scipy.spatial import cKDTree

from denser.fields.periodic import nearest_image
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

PYYKKO = dict(
    enumerate(
        [
            32, 46,
            133, 102, 85, 75, 71, 63, 64, 67,
            155, 139, 126, 116, 111, 103, 99, 96,
            196, 171, 148, 136, 134, 122, 119, 116, 111, 110, 112,
            118, 124, 121, 121, 116, 114, 117,
            210, 185, 163, 154, 147, 138, 128, 125, 125, 120, 128,
            136, 142, 140, 140, 136, 133, 131,
        ],
        start=1,
    )
)  # fmt: skip
"""Single-bond covalent radii by atomic number, pm (Pyykko and Atsumi 2009); those of
`ase.data` are Cordero's."""

BONDED = 1.25
"""Atoms nearer than this times the sum of their covalent radii are bonded."""


NON_METALS = np.array([1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(51, 55), 85, 86])

_ANIONS = np.array([1, 7, 8, 9, 16, 17, 34, 35, 52, 53])
"""Elements that are anions beside metals: H, N, O, F and their heavier ones."""

_HYDRIDE = 0.45
"""Radius of a hydride ion beside a metal, angstrom: Li-H is 2.04 angstrom in the crystal."""

_VALENCE = 4
"""Bonds of a carbon atom to non-metals."""

_METAL_BOND = 0.9
"""Two metals beside anions are bonded below this times the sum of their covalent radii."""


def covalent_radius(z: int) -> float:
    """Pyykko's single-bond radius, bohr; an InputError for an element beyond Xe."""
    if z not in PYYKKO:
        raise InputError(f"no covalent radius is known for {chemical_symbols[z]}, only for H to Xe")
    return PYYKKO[z] / 100 / BOHR


def bond_length(first: int, second: int) -> float:
    """Sum of the covalent radii (Cordero) of two atomic numbers, bohr."""
    return float(covalent_radii[first] + covalent_radii[second]) / BOHR


def bonds(structure: Structure, periodic: bool = True) -> np.ndarray:
    """Pairs of bonded atoms (n_bonds, 2) int, i < j in ascending order, from distances.

    Atoms are bonded if they are nearer than `BONDED` times the sum of their covalent radii
    (Cordero). A hydrogen with metals around it and nothing else is a hydride ion, which is larger.
    Two metal atoms that both have an anion beside them, as in NaCl, are cations, and not bonded
    unless they are very near. Nor are opposite atoms of a small ring bonded, where one of them is
    a carbon atom with four bonds to other non-metals.

    Parameters
    ----------
    structure : Structure
    periodic : bool
        Include bonds across the faces of a cell.
    """
    radii = covalent_radii[structure.numbers] * BONDED / BOHR
    pairs, lengths = _near(structure, radii, periodic)
    metal = ~np.isin(structure.numbers, NON_METALS)
    hydride = structure.numbers == 1
    hydride[pairs[~metal[pairs[:, ::-1]]]] = False
    if metal.any() and hydride.any():
        larger = np.where(hydride, _HYDRIDE * BONDED / BOHR, radii)
        pairs, lengths = _near(structure, larger, periodic)
        kept = metal[pairs].any(axis=1) | (lengths < radii[pairs].sum(axis=1))
        pairs, lengths = pairs[kept], lengths[kept]
    pairs, lengths = _without_cations(structure, pairs, lengths)
    return np.unique(_without_crossed(structure, pairs, lengths), axis=0)


def _near(structure: Structure, radii: np.ndarray, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (n, 2) of atoms nearer than the sum of their radii, i < j, and distances, bohr."""
    cell = structure.cell if periodic else None
    if cell is not None and not structure.is_orthorhombic:
        i, j, vectors = structure.neighbours(radii)
        return np.stack([i, j], axis=1)[i < j], np.linalg.norm(vectors[i < j], axis=1)
    tree = cKDTree(structure.positions) if cell is None else structure.tree()
    pairs = tree.query_pairs(2 * radii.max(), output_type="ndarray")
    steps = structure.positions[pairs[:, 0]] - structure.positions[pairs[:, 1]]
    if cell is not None:
        steps = nearest_image(steps, cell)
    lengths = np.linalg.norm(steps, axis=1)
    near = lengths < radii[pairs].sum(axis=1)
    return pairs[near], lengths[near]


def _without_cations(
    structure: Structure, pairs: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Leave out pairs of metals that both have an anion beside them.

    Parameters
    ----------
    pairs : (n, 2) int
    lengths : (n,) float
        Bohr.
    """
    metal = ~np.isin(structure.numbers, NON_METALS)
    anion = np.isin(structure.numbers, _ANIONS)
    cation = np.zeros(len(structure), dtype=bool)
    for first, second in (pairs.T, pairs.T[::-1]):
        cation[first[metal[first] & anion[second]]] = True
    radii = covalent_radii[structure.numbers] / BOHR
    far = lengths > _METAL_BOND * radii[pairs].sum(axis=1)
    kept = ~(cation[pairs].all(axis=1) & far)
    return pairs[kept], lengths[kept]


def _without_crossed(structure: Structure, pairs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Leave out pairs across a small ring, such as the bridgeheads of bicyclo[1.1.1]pentane.

    A carbon atom with more than four non-metals loses its longest bonds to C, N and O atoms that
    a third atom joins it to.
    """
    non_metal = np.isin(structure.numbers, NON_METALS)
    partners: list[set[int]] = [set() for _ in range(len(structure))]
    for i, j in pairs.tolist():
        if non_metal[i] and non_metal[j]:
            partners[i].add(j)
            partners[j].add(i)
    crowded = [i for i, z in enumerate(structure.numbers) if z == 6 and len(partners[i]) > _VALENCE]
    if not crowded:
        return pairs
    length = {frozenset(pair): x for pair, x in zip(pairs.tolist(), lengths, strict=True)}
    left_out = set()
    for i in crowded:
        ring = [j for j in partners[i] if structure.numbers[j] in (6, 7, 8)]
        ring.sort(key=lambda j: float(length[frozenset((i, j))]))
        while len(partners[i]) > _VALENCE and ring:
            j = ring.pop()
            if partners[i] & partners[j]:
                left_out.add(frozenset((i, j)))
                partners[i].discard(j)
                partners[j].discard(i)
    return pairs[[frozenset(pair) not in left_out for pair in pairs.tolist()]]


def bonded_atoms(structure: Structure) -> list[list[int]]:
    """For each atom, the atoms that it is bonded to, in ascending order."""
    out: list[list[int]] = [[] for _ in range(len(structure))]
    for i, j in bonds(structure):
        out[i].append(int(j))
        out[j].append(int(i))
    return [sorted(others) for others in out]
