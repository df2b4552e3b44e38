"""Electrostatic similarity of two molecules, and complementarity of two in contact.

With the potentials of predicted densities at points r_i outside of both molecules,

Carbo    sum V_A V_B / sqrt(sum V_A^2 sum V_B^2)     (Carbo et al., Int. J. Quantum Chem. 17, 1185)
Hodgkin  2 sum V_A V_B / (sum V_A^2 + sum V_B^2)     (Hodgkin and Richards, ibid. 32, 105)

are 1 for the same potentials and -1 for opposite ones; the first does not see their sizes. The
points are those of the Merz-Kollman scheme around either molecule, without those within the spheres
of the other one. Molecules are compared as they are placed.

Complementarity is Pearson's correlation of V_A and -V_B on the surface of either molecule where it
faces the other one, the mean of both surfaces (McCoy, Epa and Colman, J. Mol. Biol. 268, 570).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from denser.analysis.charges.esp_charges import merz_kollman_points, radii_of, sphere_points
from denser.analysis.charges.without_grid import Conformer
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

PROBE = 2.8 / BOHR
"""Faces are this far apart at most, the diameter of a water, bohr."""

_INNERMOST = 1.4
_FEWEST = 10


@dataclass(frozen=True)
class Similarity:
    """Similarity of two potentials.

    Parameters
    ----------
    carbo, hodgkin : float
    n_points : int
    """

    carbo: float
    hodgkin: float
    n_points: int


def similarity(first: Conformer, second: Conformer) -> Similarity:
    """Similarity of the potentials of two molecules, superposed as they are.

    Raises
    ------
    InputError
        Their centres are more than 5 angstrom apart.
    """
    apart = np.linalg.norm(
        first.structure.positions.mean(axis=0) - second.structure.positions.mean(axis=0)
    )
    if apart > 5 / BOHR:
        raise InputError(
            f"the centres of the molecules are {apart * BOHR:.1f} angstrom apart; superpose them "
            "first, as they are compared as they are placed"
        )
    points = np.concatenate(
        [
            _outside(merz_kollman_points(own.structure), other.structure, _INNERMOST)
            for own, other in ((first, second), (second, first))
        ]
    )
    a, b = first.potential(points), second.potential(points)
    product = float(a @ b)
    sizes = float(a @ a), float(b @ b)
    return Similarity(
        product / np.sqrt(sizes[0] * sizes[1]), 2 * product / (sizes[0] + sizes[1]), len(points)
    )


def complementarity(first: Conformer, second: Conformer) -> float | None:
    """Complementarity of two molecules in contact; None if hardly any of their surfaces meet."""
    found = []
    for own, other in ((first, second), (second, first)):
        points = _outside(sphere_points(own.structure, 1.0), other.structure, 1.0)
        radii = radii_of(other.structure)
        gap = (cdist(points, other.structure.positions) - radii).min(axis=1)
        points = points[gap < PROBE]
        if len(points) < _FEWEST:
            return None
        found.append(np.corrcoef(own.potential(points), -other.potential(points))[0, 1])
    return float(np.mean(found))


def _outside(points: np.ndarray, structure: Structure, scale: float) -> np.ndarray:
    """Points that are in no scaled sphere of a molecule."""
    distance = cdist(points, structure.positions)
    return points[(distance >= scale * radii_of(structure)).all(axis=1)]
