"""Error of a density around elements and by distance from the nearest nucleus."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols

from denser.atoms.radii import covalent_radius
from denser.fields.windows import ball, pieces
from denser.types.density import Density
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

SHELLS = (0.0, 0.5, 1.0, 1.5, 2.0, np.inf)
"""Edges of the bins by distance from the nearest nucleus, angstrom."""

_REACH = 6.0
"""Bohr; beyond the last edge of `SHELLS` and all covalent radii."""


def squared_distances(structure: Structure, grid: Grid) -> dict[int, np.ndarray]:
    """Squared distance (nx, ny, nz), bohr^2, to the nearest atom of each atomic number.

    Infinite beyond `_REACH`. The box of the grid, of any shape, is the period.
    """
    out = {}
    for z in np.unique(structure.numbers):
        nearest = np.full(grid.shape, np.inf, dtype=np.float32)
        for position in structure.positions[structure.numbers == z]:
            nodes, squared = ball(grid, position, _REACH, periodic=True)
            for on_grid, in_patch in pieces(nodes, grid.shape):
                part = nearest[on_grid]
                np.minimum(part, squared[in_patch].astype(np.float32), out=part)
        out[int(z)] = nearest
    return out


def error_around_elements(
    predicted: Density, reference: Density, distances: dict[int, np.ndarray]
) -> dict[str, float]:
    """Relative absolute error within the covalent radius of the atoms of each element.

    integral_V |rho_pred - rho_ref| dr / integral_V rho_ref dr, with V the union of spheres of
    Pyykko's radius around the atoms of the element, as in Li et al. (2025). A fraction.

    Parameters
    ----------
    distances : dict
        From `squared_distances`.
    """
    error = np.abs((predicted - reference).values)
    out = {}
    for z, squared in distances.items():
        inside = squared < covalent_radius(z) ** 2
        electrons = reference.values[inside].sum(dtype=np.float64)
        if electrons > 0:
            out[chemical_symbols[z]] = float(error[inside].sum() / electrons)
    return out


def error_by_distance(
    predicted: Density, reference: Density, distances: dict[int, np.ndarray]
) -> np.ndarray:
    """Misplaced electrons, and electrons, by distance from the nearest nucleus.

    Returns
    -------
    (2, n_bins) float
        Integrals of |rho_pred - rho_ref| and of rho_ref over the bins of `SHELLS`, each
        divided by N_e: the first row sums to Err_rho.
    """
    error = np.abs((predicted - reference).values)
    nearest = np.minimum.reduce(list(distances.values()))
    bins = np.digitize(nearest, (np.array(SHELLS[1:-1]) / BOHR) ** 2).ravel()
    sums = [
        np.bincount(bins, weights=values.ravel(), minlength=len(SHELLS) - 1)
        for values in (error, np.asarray(reference.values, dtype=np.float64))
    ]
    return np.array(sums) * reference.grid.dv / reference.n_electrons
