"""Self-consistent calculations that start from a predicted density."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from denser.dft.guess import guess_for, structure_of
from denser.dft.refine import refine
from denser.dft.scf import mean_field
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.recipe import Recipe

if TYPE_CHECKING:
    from denser.model.checkpoint import Model


def pyscf_guess(
    mf: Any, model: str | Model | Predictor = "default", steps: int = 1, padding: float = 4.0
) -> np.ndarray:
    """Starting density matrix for a PySCF calculation: `mf.kernel(denser.pyscf_guess(mf))`.

    The density is predicted, and Kohn-Sham steps in the basis of `mf` give its orbitals. Each
    step costs about as much as a cycle. One more diagonalisation follows.

    Parameters
    ----------
    mf : pyscf RKS or RHF
        A molecule, or a cell at the Gamma point; closed shell, any basis, GTH
        pseudopotentials of the model.
    model : str, Model or Predictor
    steps : int
    padding : float
        Vacuum around a molecule, angstrom.

    Returns
    -------
    (nao, nao) float

    Raises
    ------
    InputError
        k points, open shells, all-electron atoms or other pseudopotentials; and the errors of
        `denser.predict`.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    recipe = predictor.model.recipe
    structure = structure_of(mf, recipe)
    density = predictor.predict(structure, padding=padding).density
    return guess_for(mf, density, recipe, steps)


def dm_from_density(density: Density, recipe: Recipe, steps: int = 1) -> np.ndarray:
    """Density matrix (nao, nao) of the orbitals after Kohn-Sham steps on the density's own grid."""
    isolated = density.structure.cell is None
    mf = mean_field(density.structure, density.grid, recipe, isolated=isolated)
    return refine(density, recipe, steps, mf=mf).dm
