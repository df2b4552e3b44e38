"""Atomic charges fitted to the electrostatic potential around a molecule.

CHELPG: Breneman and Wiberg, J. Comput. Chem. 11, 361 (1990). Merz-Kollman: Singh and Kollman, J.
Comput. Chem. 5, 129 (1984); Besler, Merz and Kollman, ibid. 11, 431 (1990). RESP: Bayly,
Cieplak, Cornell and Kollman, J. Phys. Chem. 97, 10269 (1993). The fit is in
`denser.analysis.charges.esp_fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from ase.data import chemical_symbols
from ase.data.vdw import vdw_radii
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from denser.analysis.charges.esp_fit import (
    RESTRAINTS,
    TIGHTNESS,
    EspCharges,
    fit_charges,
    fit_resp,
    fitted,
)
from denser.analysis.potential.electrostatics import Potential
from denser.fields.windows import points_near
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

CHELPG_RADII = {1: 1.45, 6: 1.5, 7: 1.7, 8: 1.7}
"""Radii (angstrom) of Breneman and Wiberg's short set; Bondi's for other elements."""

MERZ_KOLLMAN_RADII = {
    1: 1.20, 2: 1.20, 3: 1.37, 4: 1.45, 5: 1.45, 6: 1.50, 7: 1.50, 8: 1.40, 9: 1.35, 10: 1.30,
    11: 1.57, 12: 1.36, 13: 1.24, 14: 1.17, 15: 1.80, 16: 1.75, 17: 1.70,
}  # fmt: skip
"""Radii (angstrom) of the Merz-Kollman scheme, as in GAMESS; Bondi's for other elements."""


def chelpg(
    density: Density,
    spacing: float = 0.3,
    reach: float = 2.8,
    radii: dict[int, float] | None = None,
    potential: Potential | None = None,
) -> EspCharges:
    """Charges fitted on a cubic lattice of points (CHELPG).

    Parameters
    ----------
    density : Density
        Of an isolated molecule.
    spacing : float
        Spacing of the points, angstrom.
    reach : float
        Points farther than this from every atom are left out, angstrom.
    radii : dict, optional
        Radii by atomic number (angstrom) within which there are no points.
    potential : Potential, optional
        Of this density, if it is at hand.

    Raises
    ------
    InputError
        A periodic structure, or no room for points.
    """
    structure = _molecule(density)
    points = chelpg_points(structure, spacing, reach, radii)
    values = (potential or Potential(density))(points)
    return _fit("CHELPG", [structure], [points], [values])


def merz_kollman(
    density: Density,
    point_density: float = 1.0,
    radii: dict[int, float] | None = None,
    potential: Potential | None = None,
) -> EspCharges:
    """Charges fitted on four shells of points at 1.4 to 2.0 radii (Merz and Kollman).

    Parameters
    ----------
    density : Density
        Of an isolated molecule.
    point_density : float
        Points per area, 1/angstrom^2.
    radii : dict, optional
        Radii by atomic number, angstrom.
    potential : Potential, optional
        Of this density, if it is at hand.

    Raises
    ------
    InputError
        A periodic structure.
    """
    structure = _molecule(density)
    points = merz_kollman_points(structure, point_density, radii)
    values = (potential or Potential(density))(points)
    return _fit("Merz-Kollman", [structure], [points], [values])


def resp(
    densities: Density | Sequence[Density],
    point_density: float = 1.0,
    radii: dict[int, float] | None = None,
    restraints: tuple[float, float] = RESTRAINTS,
    tightness: float = TIGHTNESS,
    potential: Potential | Sequence[Potential] | None = None,
) -> EspCharges:
    """Restrained charges in two stages, from one or more conformers, for force fields.

    The fit uses Merz-Kollman points. First all charges are fitted with the weak restraint.
    Topologically equivalent atoms get equal charges, except for the atoms of CH2 and CH3 groups,
    which are independent. Then the charges of CH2 and CH3 groups are fitted again with the strong
    restraint and equal charges of equivalent atoms, while all others are kept.

    Force fields of the Amber family expect the potential of HF/6-31G*, which is more polar than
    that of an isolated molecule in PBE.

    Parameters
    ----------
    densities : Density or sequence of Density
        Conformers of one isolated molecule, atoms in the same order.
    point_density, radii
        As in `merz_kollman`.
    restraints : (float, float)
        Strength a in both stages, atomic units.
    tightness : float
        b, e.
    potential : Potential or sequence of Potential, optional
        Of these densities, if it is known already.

    Raises
    ------
    InputError
        A periodic structure, or conformers that are not the same molecule.
    """
    densities = [densities] if isinstance(densities, Density) else list(densities)
    if not densities:
        raise InputError("resp needs the density of at least one conformer")
    structures = [_molecule(density) for density in densities]
    if potential is None:
        potentials = [Potential(density) for density in densities]
    else:
        potentials = [potential] if isinstance(potential, Potential) else list(potential)
    points = [merz_kollman_points(s, point_density, radii) for s in structures]
    values = [v(p) for v, p in zip(potentials, points, strict=True)]
    return fit_resp(structures, points, values, restraints, tightness)


def _molecule(density: Density) -> Structure:
    if density.structure.cell is not None:
        raise InputError(
            "charges are fitted to the potential around an isolated molecule, and this structure "
            "is periodic; remove its cell if it is a molecule in a box"
        )
    return density.structure


def _fit(
    method: str,
    structures: Sequence[Structure],
    points: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
) -> EspCharges:
    positions = [structure.positions for structure in structures]
    charges = fit_charges(points, values, positions, structures[0].charge)
    return fitted(method, structures, points, values, charges)


# Points


def chelpg_points(
    structure: Structure,
    spacing: float = 0.3,
    reach: float = 2.8,
    radii: dict[int, float] | None = None,
) -> np.ndarray:
    """Lattice points outside the radii and within reach of an atom (n, 3), bohr."""
    low, high = structure.positions.min(axis=0), structure.positions.max(axis=0)
    h = spacing / BOHR
    counts = np.floor((high - low + 2 * reach / BOHR) / h).astype(int)
    axes = [
        middle + (np.arange(n) - (n - 1) / 2) * h
        for middle, n in zip((low + high) / 2, counts, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    kept = cKDTree(structure.positions).query(points)[0] <= reach / BOHR
    radius = _radii(structure, CHELPG_RADII, radii)
    for _, inside, _ in points_near(points, structure.positions, radius):
        kept[inside] = False
    return points[kept]


def merz_kollman_points(
    structure: Structure, point_density: float = 1.0, radii: dict[int, float] | None = None
) -> np.ndarray:
    """Points of Connolly's spheres at 1.4, 1.6, 1.8 and 2.0 radii around each atom (n, 3), bohr.

    Points within the sphere of another atom are left out.
    """
    scales = (1.4, 1.6, 1.8, 2.0)
    return np.concatenate(
        [sphere_points(structure, scale, point_density, radii) for scale in scales]
    )


def sphere_points(
    structure: Structure,
    scale: float,
    point_density: float = 1.0,
    radii: dict[int, float] | None = None,
) -> np.ndarray:
    """Points on spheres of scaled radii around the atoms, outside of all others (n, 3), bohr.

    Parameters
    ----------
    structure : Structure
    scale : float
        Of the radii of the Merz-Kollman scheme.
    point_density : float
        Angstrom^-2.
    radii : dict, optional
        Radii of elements in place of those of the scheme, angstrom.
    """
    tree, scaled = cKDTree(structure.positions), scale * radii_of(structure, radii)
    found = []
    for i, (centre, radius) in enumerate(zip(structure.positions, scaled, strict=True)):
        area = 4 * np.pi * (radius * BOHR) ** 2
        points = centre + radius * _sphere(int(point_density * area))
        near = tree.query_ball_point(centre, radius + scaled.max())
        others = np.setdiff1d(near, [i])
        distance = cdist(points, structure.positions[others])
        found.append(points[(distance >= scaled[others]).all(axis=1)])
    return np.concatenate(found)


def radii_of(structure: Structure, radii: dict[int, float] | None = None) -> np.ndarray:
    """Radii of the Merz-Kollman scheme (n_atoms,), bohr."""
    return _radii(structure, MERZ_KOLLMAN_RADII, radii)


@cache
def _sphere(n: int) -> np.ndarray:
    """About `n` points on the unit sphere, in rings of equal latitude (Connolly's, in GAMESS)."""
    equator = int(np.sqrt(np.pi * n))
    latitudes = np.pi * np.arange(equator // 2 + 1) / (equator // 2)
    rings = []
    for latitude in latitudes:
        count = max(1, int(equator * np.sin(latitude) + 1e-10))
        angle = 2 * np.pi * np.arange(count) / count
        xy = np.sin(latitude)
        rings.append(
            np.column_stack(
                [xy * np.cos(angle), xy * np.sin(angle), np.full(count, np.cos(latitude))]
            )
        )
    return np.concatenate(rings)[:n]


def _radii(
    structure: Structure, table: dict[int, float], given: dict[int, float] | None
) -> np.ndarray:
    """Radii of the atoms, bohr."""
    table = table | (given or {})
    out = np.array([table.get(int(z), vdw_radii[z]) for z in structure.numbers])
    if np.isnan(out).any():
        z = int(structure.numbers[np.argmax(np.isnan(out))])
        raise InputError(
            f"no van der Waals radius of {chemical_symbols[z]} is known; pass radii={{{z}: ...}} "
            "in angstrom"
        )
    return out / BOHR
