"""How a predicted density follows its atoms, by back-propagation.

A density is some million numbers and an energy is one, so what is needed is never d rho/dR itself
but its product with a field f on the grid, sum_r f(r) d rho(r)/dR: one pass backwards through
normalisation, network and superposition, whatever the number of atoms.
"""

from __future__ import annotations

import numpy as np
import torch

from denser.model.normalise import normalise
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError


def prediction_pullback(
    predictor: Predictor, sad: Density, field: np.ndarray, periodic: bool = False
) -> np.ndarray:
    """sum_r f(r) d rho(r)/dR_a of a predicted density, on a grid that stays (n_atoms, 3).

    Exact for the density as `Predictor.density` computes it, but for the change of the factors
    that share the electrons out among distant molecules (see `denser.model.normalise`).

    Parameters
    ----------
    predictor : Predictor
        In single precision (`bf16=False`): rounding to bfloat16 has no derivative. Not one that
        averages over copies of the molecule.
    sad : Density
        Superposed atomic densities of the structure.
    field : (nx, ny, nz) float
        f.
    periodic : bool
        As in `Predictor.density`.

    Returns
    -------
    (n_atoms, 3) float
        Unit of f times e/bohr^4.

    Raises
    ------
    InputError
        A predictor with `average` above 1.
    """
    if (copies := len(predictor.operations)) > 1:
        raise InputError(
            f"derivatives are those of one prediction, but this predictor averages over {copies} "
            "copies of the molecule; make it with average=1"
        )
    return predictor.network.pullback(
        sad,
        lambda raw: _before_scaling(raw, predictor, sad, field),
        periodic,
        predictor.model.recipe.sad,
    )


def _before_scaling(
    raw: torch.Tensor, predictor: Predictor, sad: Density, field: np.ndarray
) -> torch.Tensor:
    """The field that acts on the raw density as `field` does on the normalised one."""
    rho, _ = normalise(raw, sad, predictor.model.recipe.sad)
    f = torch.tensor(field, dtype=torch.float64, device=predictor.device)
    # rho = N_e t / sum t with t = raw * factors, hence d rho / d raw = (rho / raw)(1 - <.>)
    mean = (f * rho).sum() / rho.sum(dtype=torch.float64)
    return torch.where(raw > 0, (f - mean) * rho / raw, 0.0)
