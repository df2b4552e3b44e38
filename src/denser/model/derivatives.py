"""Derivatives of a predicted density with respect to the atoms, by back-propagation.

A density has about a million values and an energy only one. Therefore d rho/dR itself is never
needed, but only its product with a field f on the grid, sum_r f(r) d rho(r)/dR. This is one pass
backwards through normalisation, network and superposition, for any number of atoms.

The same holds for a density that is known as Gaussians: a number that depends on its fields at any
points, with a derivative with respect to each of them, has derivatives with respect to the
coefficients, and through the network with respect to the atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from denser.model.deformed_atoms import DeformedAtoms
from denser.model.normalise import normalise
from denser.model.predictor import Predictor
from denser.types.density import Density, FieldsSlope
from denser.types.errors import InputError
from denser.types.structure import Structure


def prediction_pullback(
    predictor: Predictor, sad: Density, field: np.ndarray, periodic: bool = False
) -> np.ndarray:
    """sum_r f(r) d rho(r)/dR_a of a predicted density, on a fixed grid (n_atoms, 3).

    Exact for the density of `Predictor.density`, except for the change of the factors that
    distribute electrons among distant molecules (see `denser.model.normalise`).

    Parameters
    ----------
    predictor : Predictor
        In single precision (`bf16=False`), because rounding to bfloat16 has no derivative, and
        without an average over copies of the molecule.
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
        The predictor has `average` above 1.
    """
    if (copies := len(predictor.operations)) > 1:
        raise InputError(
            f"derivatives need a single prediction, but this predictor averages over {copies} "
            "copies of the molecule; make it with average=1"
        )
    return predictor.network.pullback(
        sad,
        lambda raw, target: _before_scaling(raw, predictor, sad, field, target),
        periodic,
        predictor.model.recipe.sad,
    )


def _before_scaling(
    raw: torch.Tensor,
    predictor: Predictor,
    sad: Density,
    field: np.ndarray,
    target: np.ndarray | None,
) -> torch.Tensor:
    """The field that acts on the raw density as `field` does on the normalised one."""
    rho, _ = normalise(raw, sad, predictor.model.recipe.sad, target)
    f = torch.tensor(field, dtype=torch.float64, device=predictor.device)
    # rho = N_e t / sum t with t = raw * factors, hence d rho / d raw = (rho / raw)(1 - <.>)
    mean = (f * rho).sum() / rho.sum(dtype=torch.float64)
    return torch.where(raw > 0, (f - mean) * rho / raw, 0.0)


@dataclass(frozen=True, eq=False)
class GaussianPrediction:
    """The density of an isolated molecule as Gaussians, with derivatives.

    Parameters
    ----------
    atoms : DeformedAtoms
    coefficients : (n_atoms, n_exponents, (degree + 1)^2) tensor
        Those of `atoms`, as a function of `positions`.
    positions : (n_atoms, 3) tensor
    """

    atoms: DeformedAtoms
    coefficients: torch.Tensor
    positions: torch.Tensor

    def pullback(self, slope: FieldsSlope, rigid: bool = False) -> np.ndarray:
        """Derivative with respect to the atoms of a number that depends on `atoms.fields`.

        Parameters
        ----------
        slope : FieldsSlope
            Its derivative with respect to the fields.
        rigid : bool
            Leave out the change of the coefficients.

        Returns
        -------
        (n_atoms, 3) float
        """
        gradient, by_coefficients = self.atoms.pullback(slope)
        return gradient if rigid else gradient + self._of_network(by_coefficients)

    def pullback_apart(self, slope: FieldsSlope) -> tuple[np.ndarray, np.ndarray]:
        """As `pullback` for points that do not move with atoms, and with respect to them (n, 3)."""
        gradient, by_coefficients, points = self.atoms.pullback_apart(slope)
        return gradient + self._of_network(by_coefficients), points

    def _of_network(self, by_coefficients: np.ndarray) -> np.ndarray:
        weights = torch.as_tensor(by_coefficients).to(self.coefficients)
        (found,) = torch.autograd.grad(
            self.coefficients, self.positions, weights, retain_graph=True
        )
        return found.double().cpu().numpy()


def gaussian_prediction(predictor: Predictor, structure: Structure) -> GaussianPrediction | None:
    """The density of an isolated molecule as Gaussians; None if the network does not give it.

    It needs no grid. It is that of `Predictor.density` between the nodes, but for the mean over
    copies of `Network.coefficients_of`.
    """
    found = predictor.network.coefficients_of(structure)
    if found is None:
        return None
    coefficients, positions, target = found
    exponents = predictor.network.get_buffer("exponents")[: coefficients.shape[1]]
    recipe = predictor.model.recipe.sad
    atoms = DeformedAtoms.isolated(structure, recipe, coefficients.detach(), exponents, target)[0]
    return GaussianPrediction(atoms, coefficients, positions)
