"""Contacts between atoms: the two atoms around a point, and the kind of contact."""

from __future__ import annotations

import numpy as np

from denser.atoms.radii import BONDED, covalent_radius
from denser.fields.periodic import adjacent_images, nearest_image
from denser.types.structure import Structure

WEAK = 0.01
"""Contacts with |sign(lambda_2) rho| up to this, e/bohr^3, are van der Waals contacts."""

STRONG = 0.02
"""The same limit for attractions, except between H and N, O, F, S or Cl."""

ACCEPTORS = (7, 8, 9, 16, 17)
"""Nitrogen, oxygen, fluorine, sulphur and chlorine."""


def kind_of_contact(strength: float, numbers: np.ndarray) -> str:
    """Name a contact of two elements by its sign(lambda_2) rho, e/bohr^3."""
    if strength > WEAK:
        return "steric"
    if strength >= -WEAK:
        return "van der Waals"
    hydrogen = (numbers == 1) & np.isin(numbers[::-1], ACCEPTORS)
    if hydrogen.any():
        return "hydrogen bond"
    return "strong attraction" if strength < -STRONG else "van der Waals"


class Contacts:
    """Finds the two atoms between which a point lies."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.radii = np.array([covalent_radius(int(z)) for z in structure.numbers])

    def pair(self, point: np.ndarray) -> tuple[int, int, float]:
        """Two atoms, not bonded to each other, with the point between them, and their distance.

        Among the pairs with an angle of more than 120 degrees at the point, the pair with the
        smallest sum of distances is taken; without such a pair, the two nearest atoms.
        """
        vectors = self.structure.positions - point
        owner = np.arange(len(vectors))
        if self.structure.cell is not None:
            cell = self.structure.cell
            vectors = adjacent_images(nearest_image(vectors, cell), cell)
            owner = np.tile(owner, 27)
        d = np.linalg.norm(vectors, axis=1)
        near = np.argsort(d, kind="stable")[:24]
        vectors, d, owner = vectors[near], np.maximum(d[near], 1e-6), owner[near]
        apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=-1)
        bonded = apart < BONDED * (self.radii[owner][:, None] + self.radii[owner][None])
        cosine = (vectors @ vectors.T) / np.outer(d, d)
        total = d[:, None] + d[None]
        total[bonded | (cosine > -0.5)] = np.inf
        if np.isfinite(total).any():
            a, b = divmod(int(np.argmin(total)), len(d))
        else:
            a, b = 0, min(1, len(d) - 1)
        a, b = sorted((a, b), key=lambda k: owner[k])
        return int(owner[a]), int(owner[b]), float(apart[a, b])
