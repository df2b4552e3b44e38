"""Polarizability of a molecule and its atoms without orbitals, learnt by the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from denser.atoms.sad import require_closed_shell
from denser.model.heads import head_of_molecules
from denser.model.polarizable_atoms import PolarizableAtoms
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.tensors import anisotropy, isotropic
from denser.types.units import BOHR

INSTEAD = "compute it (--polarizability)"


@dataclass(frozen=True, eq=False)
class LearnedPolarizability:
    """Static dipole polarizability as a sum over atoms.

    Parameters
    ----------
    structure : Structure
    atoms : (n_atoms, 3, 3) float
        Shares of the atoms, bohr^3. Only their sum was learnt.
    error_percent : float
        Mean error of the isotropic polarizability of molecules that a fit has not seen, with the
        element of this molecule for which it is largest.
    """

    structure: Structure
    atoms: np.ndarray
    error_percent: float

    @property
    def tensor(self) -> np.ndarray:
        """Polarizability (3, 3), bohr^3."""
        return self.atoms.sum(axis=0)

    @property
    def mean(self) -> float:
        """A third of the trace, bohr^3."""
        return isotropic(self.tensor)

    @property
    def anisotropy(self) -> float:
        """sqrt([3 tr(a^2) - (tr a)^2] / 2), bohr^3; a_par - a_perp of a linear molecule."""
        return anisotropy(self.tensor)

    @property
    def of_atoms(self) -> np.ndarray:
        """A third of the trace of each atom's share (n_atoms,), bohr^3."""
        return np.trace(self.atoms, axis1=1, axis2=2) / 3

    def to_dict(self) -> dict:
        """Return plain data in bohr^3 and angstrom^3."""
        return {
            "method": "learned",
            "expected_error_percent": self.error_percent,
            "tensor_bohr3": self.tensor.tolist(),
            "mean_bohr3": self.mean,
            "anisotropy_bohr3": self.anisotropy,
            "mean_angstrom3": self.mean * BOHR**3,
            "anisotropy_angstrom3": self.anisotropy * BOHR**3,
            "symbols": self.structure.symbols,
            "atomic_mean_bohr3": self.of_atoms.tolist(),
            "atomic_tensors_bohr3": self.atoms.tolist(),
        }

    def lines(self) -> list[str]:
        """Return readable lines."""
        out = [
            f"polarizability (learnt, expected error {self.error_percent:.0f} %): mean "
            f"{self.mean:.2f} bohr^3 = {self.mean * BOHR**3:.2f} angstrom^3, anisotropy "
            f"{self.anisotropy:.2f} bohr^3"
        ]
        for name, row in zip("xyz", self.tensor, strict=True):
            out.append(f"  {name} " + " ".join(f"{value:9.2f}" for value in row) + " bohr^3")
        shares = zip(self.structure.symbols, self.of_atoms, strict=True)
        return out + [f"  {s}{i} {x:8.2f} bohr^3" for i, (s, x) in enumerate(shares, start=1)]


def learned_polarizability(density: Density, predictor: Predictor) -> LearnedPolarizability:
    """Polarizability of a molecule from features of the network.

    The same quantity as that of `denser.dft.polarizability.polarizability`, from which it was
    learnt, in the time of a prediction. That of long conjugated chains is too small. How good it
    is: docs/analyze.md.

    Parameters
    ----------
    density : Density
        Of an isolated molecule; only its atoms and charge count.
    predictor : Predictor
        Of the default model.

    Raises
    ------
    InputError
        A periodic structure, an open shell or an anion; another model, or an element that it was
        not learnt for; or a result that cannot be, as it is not positive.
    """
    structure = density.structure
    require_closed_shell(structure, "learnt polarizabilities")
    known = head_of_molecules(
        "polarizability", structure, predictor.model, "polarizabilities", "the polarizability was",
        INSTEAD,
    )  # fmt: skip
    head = PolarizableAtoms.of(known.elements, known.tensors)
    positions = torch.tensor(structure.positions)
    features = predictor.features(structure)
    atoms = head(torch.tensor(structure.numbers), positions, features).numpy()
    if np.linalg.eigvalsh(atoms.sum(axis=0))[0] <= 0:
        raise InputError(
            f"the learnt polarizability of {structure.formula} is not positive, as it is unlike "
            f"those it was learnt from; {INSTEAD}"
        )
    errors = known.info["measured"]["with_percent"]
    return LearnedPolarizability(structure, atoms, max(errors[x] for x in structure.symbols))
