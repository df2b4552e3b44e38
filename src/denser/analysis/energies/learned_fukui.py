"""Fukui functions of atoms without Kohn-Sham orbitals, learnt by the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from denser.analysis.energies.reactivity import condensed_lines, condensed_values
from denser.atoms.sad import require_closed_shell
from denser.model.frontier_atoms import FrontierAtoms, TightBinding
from denser.model.heads import head_of_molecules
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.structure import Structure

INSTEAD = "compute them (--reactivity)"


@dataclass(frozen=True, eq=False)
class LearnedFukui:
    """Shares of the atoms in the Fukui functions.

    Parameters
    ----------
    structure : Structure
    condensed : (3, n_atoms) float
        f+, f- and the dual descriptor f+ - f- of every atom; f+ and f- sum to one.
    errors : (2,) float
        Mean error of a share of f+ and of f- in molecules that the fit has not seen.
    """

    structure: Structure
    condensed: np.ndarray
    errors: tuple[float, float]

    def to_dict(self) -> dict:
        """Return plain data; Fukui functions per atom have no unit."""
        return {
            "method": "learned",
            "symbols": self.structure.symbols,
            **condensed_values(self.condensed),
            "expected_error": list(self.errors),
        }

    def lines(self) -> list[str]:
        """Return readable lines, one per atom."""
        plus, minus = self.errors
        how = f"learnt, expected error of a share {plus:.2f} and {minus:.2f}"
        return condensed_lines(how, self.structure.symbols, self.condensed, 3)


def learned_fukui(density: Density, predictor: Predictor) -> LearnedFukui:
    """Fukui functions of the atoms from features of the network and a tight-binding Hamiltonian.

    The same quantity as that of `denser.analysis.energies.reactivity.reactivity`, in the time of a
    prediction. Where two orbitals are nearly as high, the learnt function may be that of the other
    one. How good it is: docs/analyze.md.

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
        not learnt for.
    """
    structure = density.structure
    require_closed_shell(structure, "learnt Fukui functions")
    known = head_of_molecules(
        "fukui",
        structure,
        predictor.model,
        "learnt Fukui functions",
        "Fukui functions were",
        INSTEAD,
    )
    head = FrontierAtoms.of(known.elements, known.tensors)
    electrons = TightBinding.of([structure])
    p, q = (electrons.padded(x) for x in head.inputs(predictor.features(structure)))
    with torch.no_grad():
        plus, minus = head(electrons, p, q)[0].numpy()
    errors = known.info["measured"]
    return LearnedFukui(
        structure, np.array([plus, minus, plus - minus]), (errors["f_plus"], errors["f_minus"])
    )
