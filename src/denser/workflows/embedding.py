"""A molecule whose predicted density follows its geometry, among the point charges of others.

E(R, r) = sum_i q_i V(r_i; R)
V(r; R) = sum_a Z_a / |r - R_a| - integral rho(r'; R) / |r - r'| dr'

is the electrostatic energy of point charges q_i, such as those of a force field, in the potential
of a molecule. rho is the prediction for the atoms at R, known as Gaussians, so that E is analytic
and needs no grid. Its derivatives are exact: with respect to the charges' places, to the atoms, and
through the network to what the density changes with the atoms. The density does not respond to the
charges.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from denser.atoms.sad import valence_charges
from denser.dft.point_charges import PointCharges
from denser.model.checkpoint import Model
from denser.model.derivatives import GaussianPrediction, gaussian_prediction
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.density import FieldsSlope
from denser.types.errors import InputError
from denser.types.structure import Structure


@dataclass(frozen=True, eq=False)
class EmbeddingEnergy:
    """Interaction of a molecule with point charges, atomic units.

    Parameters
    ----------
    energy : float
        Hartree.
    potential : (n,) float
        Potential of the molecule at the charges, hartree/e.
    forces_atoms : (n_atoms, 3) float
        Forces on the atoms, hartree/bohr.
    forces_charges : (n, 3) float
        Forces on the charges. With those on the atoms they add up to zero.
    """

    energy: float
    potential: np.ndarray
    forces_atoms: np.ndarray
    forces_charges: np.ndarray


class Embedding:
    """The predicted density of a molecule among point charges.

    Parameters
    ----------
    molecule : Structure or ase.Atoms
        The isolated molecule, in any geometry: its elements in their order, and its charge.
    model : str, Path or Model
        As in `denser.Predictor`; a model of Gaussians, as the default is.
    device : str
        As in `denser.Predictor`.

    Raises
    ------
    InputError
        A periodic structure, an element that the model does not know, or a model whose densities
        are known on a grid only.

    Examples
    --------
    ::

        embedding = Embedding(atoms)
        found = embedding(positions, points, charges)  # bohr, bohr, e
        found.energy, found.forces_atoms, found.forces_charges  # hartree, hartree/bohr
    """

    def __init__(
        self,
        molecule: Structure | Atoms,
        model: str | Path | Model = "default",
        device: str = "auto",
    ) -> None:
        self.structure = Structure.of(molecule)
        if not self.structure.isolated:
            raise InputError(
                f"an embedded molecule must be isolated, but {self.structure.formula} has a cell; "
                "remove the cell"
            )
        # Rounding to bfloat16 would make the energy jagged.
        self.predictor = Predictor.of(PredictionOptions(model=model, device=device), bf16=False)
        self.predictor.require_covered(self.structure)

    def prediction(self, positions: np.ndarray) -> GaussianPrediction:
        """The density with the atoms at `positions` (n_atoms, 3), bohr."""
        positions = np.asarray(positions, dtype=float)
        if positions.shape != self.structure.positions.shape:
            raise InputError(
                f"{self.structure.formula} has {len(self.structure)} atoms, found positions of "
                f"shape {positions.shape}"
            )
        there = Structure(
            self.structure.numbers,
            positions,
            self.structure.charge,
            spin=self.structure.spin,
        )
        found = gaussian_prediction(self.predictor, there)
        if found is None:
            raise InputError(
                "embedding needs a model that predicts Gaussians, as the default does; this one "
                "gives a density on a grid"
            )
        return found

    def __call__(
        self, positions: np.ndarray, points: np.ndarray, charges: np.ndarray
    ) -> EmbeddingEnergy:
        """Energy and forces.

        Parameters
        ----------
        positions : (n_atoms, 3) float
            Of the atoms, bohr.
        points : (n, 3) float
            Of the charges, bohr. One at a nucleus has an infinite energy.
        charges : (n,) float
            e.

        Raises
        ------
        InputError
            Arrays that do not fit, or numbers that are not finite.
        """
        return interaction(self.prediction(positions), PointCharges(points, charges))


def interaction(prediction: GaussianPrediction, around: PointCharges) -> EmbeddingEnergy:
    """Energy and forces of point charges in the potential of a predicted density."""
    atoms = prediction.atoms
    structure, points, charges = atoms.structure, around.points, around.charges
    z, n = valence_charges(structure), len(charges)
    potential = atoms.potential(points, z)
    of_electrons = np.zeros(n), np.zeros((3, n)), -charges
    slope = FieldsSlope(
        points, np.zeros(n, dtype=int), of_electrons, of_electrons, np.zeros(len(structure))
    )
    by_atoms, by_points = prediction.pullback_apart(slope)
    of_nuclei, of_points = around.nuclear_slopes(z, structure.positions)
    return EmbeddingEnergy(
        float(charges @ potential), potential, -by_atoms - of_nuclei, -by_points - of_points
    )
