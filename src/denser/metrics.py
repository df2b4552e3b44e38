"""One metric, one definition."""

from __future__ import annotations

import numpy as np

from denser.density import Density
from denser.errors import InputError


def err_rho(predicted: Density, reference: Density) -> float:
    """Relative absolute error of a density, a fraction (not percent).

    (1/N_e) * integral |rho_pred - rho_ref| dr, Li et al. (2025), equation 3.

    Raises
    ------
    InputError
        The two grids differ, or the reference holds no electrons.
    """
    if not predicted.grid.same_as(reference.grid):
        raise InputError(
            f"the grids differ: {_describe(predicted)} against {_describe(reference)}; "
            "predict on the grid of the reference"
        )
    n_electrons = reference.n_electrons
    if n_electrons <= 0:
        raise InputError("the reference density holds no electrons")
    difference = np.abs(
        np.asarray(predicted.values, dtype=np.float64) - np.asarray(reference.values, np.float64)
    )
    return float(difference.sum() * reference.grid.dv / n_electrons)


def _describe(density: Density) -> str:
    grid = density.grid
    origin = ", ".join(f"{x:.4f}" for x in grid.origin)
    return f"shape {grid.shape}, origin ({origin}) bohr, volume {grid.volume:.4f} bohr^3"
