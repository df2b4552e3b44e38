"""Charges of PBE mapped to those of HF/6-31G*, which Amber's force fields expect.

    q_i -> m + SCALE (q_i - m) + sum of the increments of the bonds of atom i,

with the mean charge m. An increment belongs to a kind of bond, the elements of its two atoms and
how many neighbours each has (hydrogen: one kind), and moves charge from one atom to the other, so
that the charge of the molecule stays. Bonds without an increment are left alone. Scale and
increments are fitted to the potentials of HF/6-31G* of 200 molecules and ions with H, C, N, O, F,
P, S and Cl (`benchmarks/hf_charges.py`, which prints this table).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from denser.analysis.charges.esp_fit import Group, neighbours_of
from denser.types.structure import Structure

Kind = tuple[int, int, int, int]
"""Element and number of neighbours of the first and of the second atom of a bond."""

SCALE = 1.037

INCREMENTS: dict[Kind, float] = {
    (1, 0, 6, 2): 0.024, (1, 0, 6, 3): 0.016, (1, 0, 6, 4): -0.003, (1, 0, 6, 5): -0.003,
    (1, 0, 7, 2): 0.022, (1, 0, 7, 3): 0.029, (1, 0, 7, 4): -0.006, (1, 0, 8, 2): 0.030,
    (1, 0, 8, 3): -0.004, (1, 0, 15, 3): -0.016, (1, 0, 16, 2): 0.007, (1, 0, 16, 6): 0.111,
    (6, 2, 6, 3): 0.017, (6, 2, 6, 4): 0.009, (6, 2, 7, 1): -0.004, (6, 2, 7, 2): 0.047,
    (6, 2, 8, 1): 0.081, (6, 2, 15, 3): -0.020, (6, 2, 16, 1): 0.092, (6, 2, 16, 2): 0.042,
    (6, 3, 6, 4): 0.003, (6, 3, 7, 2): 0.015, (6, 3, 7, 3): 0.061, (6, 3, 7, 4): 0.002,
    (6, 3, 8, 1): 0.055, (6, 3, 8, 2): 0.049, (6, 3, 9, 1): 0.036, (6, 3, 15, 4): -0.015,
    (6, 3, 16, 1): 0.091, (6, 3, 16, 2): 0.034, (6, 3, 16, 3): 0.024, (6, 3, 16, 4): -0.028,
    (6, 3, 17, 1): 0.030, (6, 4, 6, 5): -0.000, (6, 4, 7, 2): -0.006, (6, 4, 7, 3): 0.013,
    (6, 4, 7, 4): -0.025, (6, 4, 8, 2): 0.025, (6, 4, 8, 3): 0.003, (6, 4, 9, 1): 0.024,
    (6, 4, 15, 3): -0.003, (6, 4, 15, 4): -0.057, (6, 4, 16, 1): 0.009, (6, 4, 16, 2): -0.000,
    (6, 4, 16, 3): -0.014, (6, 4, 16, 4): -0.011, (6, 4, 17, 1): 0.026, (6, 5, 7, 3): 0.009,
    (6, 5, 8, 2): 0.029, (7, 1, 7, 2): 0.132, (7, 2, 7, 3): 0.047, (7, 2, 8, 1): 0.045,
    (7, 2, 8, 2): 0.035, (7, 2, 16, 2): -0.025, (7, 2, 16, 4): -0.061, (7, 2, 17, 1): 0.050,
    (7, 3, 8, 1): 0.063, (7, 3, 8, 2): 0.018, (7, 3, 9, 1): 0.023, (7, 3, 16, 4): -0.044,
    (7, 4, 8, 1): 0.028, (8, 1, 15, 4): -0.101, (8, 1, 16, 2): -0.086, (8, 1, 16, 3): -0.096,
    (8, 1, 16, 4): -0.114, (8, 1, 17, 4): -0.027, (8, 2, 9, 1): 0.037, (8, 2, 15, 4): -0.061,
    (8, 2, 16, 3): -0.052, (8, 2, 16, 4): -0.051, (8, 2, 17, 4): 0.018, (9, 1, 16, 4): -0.065,
    (9, 1, 16, 6): -0.093, (16, 4, 17, 1): 0.061,
}  # fmt: skip
"""What the first atom of a bond gains and the second loses, e."""


def like_hartree_fock(
    charges: np.ndarray, structure: Structure, groups: Sequence[Group] = ()
) -> np.ndarray:
    """Charges fitted to the potential of PBE (n_atoms,), e, made more like those of HF/6-31G*.

    Parameters
    ----------
    charges : (n_atoms,) float
    structure : Structure
    groups : sequence of (atoms, charge)
        Sums that are kept, as in `denser.analysis.charges.esp_fit.fit_resp`.
    """
    mean = charges.mean()
    found = mean + SCALE * (charges - mean)
    for i, j, kind in kinds_of_bonds(structure):
        shift = INCREMENTS.get(kind, 0.0)
        found[i] += shift
        found[j] -= shift
    inside = np.zeros(len(found), dtype=bool)
    for atoms, charge in groups:
        index = list(atoms)
        found[index] += (charge - found[index].sum()) / len(index)
        inside[index] = True
    if not inside.all():
        found[~inside] += (charges.sum() - found.sum()) / (~inside).sum()
    return found


def kinds_of_bonds(structure: Structure) -> Iterator[tuple[int, int, Kind]]:
    """First atom, second atom and kind of all bonds between atoms that are not of one kind."""
    neighbours = neighbours_of(structure)
    kinds = [
        (int(z), 0 if z == 1 else len(near))
        for z, near in zip(structure.numbers, neighbours, strict=True)
    ]
    for i, near in enumerate(neighbours):
        for j in near:
            if kinds[i] < kinds[j]:
                yield i, j, (*kinds[i], *kinds[j])
