"""What an extremum of the potential on a surface belongs to: sigma-holes, lone pairs and others.

An extremum at p belongs to the nearest atom X. With the bonds R-X, the largest angle R-X-p says
whether it is on the extension of a bond. A maximum there is a sigma-hole (Clark, Hennemann, Murray
and Politzer, J. Mol. Model. 13, 291 (2007)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.atoms.radii import bonded_atoms
from denser.fields.periodic import nearest_image
from denser.types.structure import Structure
from denser.types.units import BOHR

ALONG = 150.0
"""From this angle R-X-p on (degrees), p is on the extension of the bond R-X."""

ACROSS = 30.0
"""Up to so many degrees from a right angle with all bonds, p is above the plane of its atom."""

_LONE_PAIRS = frozenset((7, 8, 9, 15, 16, 17, 33, 34, 35, 51, 52, 53))
"""Groups 15 to 17, N to I."""


@dataclass(frozen=True, eq=False)
class SurfaceSite:
    """Where an extremum is as seen from its atom.

    Parameters
    ----------
    kind : str
        Of maxima "hydrogen", "sigma hole" or "pi hole", of minima "lone pair" or "pi"; empty for
        others.
    distance : float
        From the atom, bohr.
    direction : (3,) float
        Unit vector from the atom.
    bonded : int or None
        Index of the bonded atom R with the largest angle R-X-p, if there is one.
    angle : float or None
        This angle, degrees.
    """

    kind: str
    distance: float
    direction: np.ndarray
    bonded: int | None
    angle: float | None

    def to_dict(self, structure: Structure) -> dict:
        """Return plain data in angstrom and degrees; atoms are counted from 1."""
        bonded = self.bonded
        return {
            "kind": self.kind,
            "distance_angstrom": self.distance * BOHR,
            "direction": self.direction.tolist(),
            "bonded_atom": None if bonded is None else bonded + 1,
            "bonded_element": None if bonded is None else structure.symbols[bonded],
            "angle_degree": self.angle,
        }


def sites(
    structure: Structure, points: np.ndarray, atoms: np.ndarray, maxima: bool
) -> list[SurfaceSite]:
    """What extrema at points (n, 3), bohr, near atoms (n,) belong to.

    Parameters
    ----------
    structure : Structure
    points : (n, 3) float
    atoms : (n,) int
        The nearest atom of each.
    maxima : bool
        Whether they are maxima; else minima.
    """
    neighbours = bonded_atoms(structure)
    return [
        _site(structure, point, int(a), neighbours[a], maxima)
        for point, a in zip(points, atoms, strict=True)
    ]


def _site(
    structure: Structure, point: np.ndarray, atom: int, neighbours: list[int], maximum: bool
) -> SurfaceSite:
    def vector(to: np.ndarray) -> np.ndarray:
        x = to - structure.positions[atom]
        return x if structure.cell is None else nearest_image(x, structure.cell)

    x = vector(point)
    distance = float(np.linalg.norm(x))
    direction = x / distance
    bonds = [vector(structure.positions[b]) for b in neighbours]
    cosines = [float(b @ direction) / np.linalg.norm(b) for b in bonds]
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    best = int(np.argmax(angles)) if neighbours else None
    z = int(structure.numbers[atom])
    above = len(neighbours) > 1 and bool((np.abs(angles - 90) <= ACROSS).all())
    if maximum:
        along = best is not None and angles[best] >= ALONG
        kind = "hydrogen" if z == 1 else "sigma hole" if along else "pi hole" if above else ""
    else:
        kind = "lone pair" if z in _LONE_PAIRS else "pi" if above else ""
    if best is None:
        return SurfaceSite(kind, distance, direction, None, None)
    return SurfaceSite(kind, distance, direction, neighbours[best], float(angles[best]))
