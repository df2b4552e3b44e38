"""When a prediction is in doubt, and the sentence that says so."""

from __future__ import annotations

import numpy as np

from denser.atoms.molecules import whole_molecules
from denser.atoms.sad import count_electrons, valence_charges
from denser.model.checkpoint import Model
from denser.model.deformed_atoms import DeformedAtoms
from denser.types.density import Density
from denser.types.structure import Structure

DOUBT = 0.5
"""A molecule is in doubt if its electrons are off by more than this times the mean error."""

WORSE = 2.0
"""It is in doubt, too, if its expected error is larger than this times the mean error."""

ADVICE = "; take Kohn-Sham steps (--refine) or fine-tune"
"""What a sentence of doubt ends with."""

_OCTET = 8.0

_SHARE = 0.1
"""A sentence on the expected error names atoms with at least this share of it."""

_SEVERAL = 0.25
"""Effectively unpaired electrons beyond the unpaired ones, from which on orbitals count as several.

Two orbitals with one electron have 0.5.
"""


def in_doubt(model: Model, excess: float, expected: float | None = None) -> bool:
    """Whether a molecule is in doubt, so that its error is likely larger than usual.

    If the model estimates its error, the molecule is in doubt if that is larger than `WORSE`
    times its mean error (`Model.mean_percent`). Otherwise: before scaling, the density of a
    molecule of a known kind holds N_e electrons almost exactly, and the molecule is in doubt if
    its number of electrons deviates by more than `DOUBT` times the mean error. If the mean
    error is not known, no molecule is in doubt. docs/model.md says how reliable this is.

    Parameters
    ----------
    model : Model
    excess : float
        Share of the electrons, as from `Predictor.normalised`.
    expected : float, optional
        `Prediction.worst_expected`.
    """
    error = model.mean_percent
    if error is None:
        return False
    if expected is not None:
        return expected > WORSE * error / 100
    return abs(excess) > DOUBT * error / 100


def least_error(model: Model, excess: float) -> float:
    """Error that the density of a molecule in doubt likely exceeds, percent.

    The mean error of the model, or the excess if that is larger.
    """
    return float(np.nanmax([model.mean_percent or 0.0, 100 * abs(excess)]))


def sentence_of(
    model: Model, structure: Structure, excess: float, wrong: np.ndarray | None = None
) -> str:
    """One sentence if the prediction of a structure is in doubt, otherwise an empty string.

    Parameters
    ----------
    model : Model
    structure : Structure
    excess : float
        As of `in_doubt`.
    wrong : (n_atoms,) float, optional
        Expected wrong electrons.
    """
    open_shell = structure.spin and not model.network.spins
    expected = None if wrong is None else of_worst_molecule(structure, wrong)
    if open_shell or not in_doubt(model, excess, expected):
        return unknown(model, structure)
    kind = "molecule" if structure.cell is None else "crystal"
    what = f"model {model.name!r} does not know this kind of {kind} well: "
    if expected is not None and wrong is not None:
        of_all = wrong.sum() / count_electrons(structure)
        where = " in one of its molecules" if expected > 1.001 * of_all else ""
        places = _places(structure, wrong)
        return f"{what}expected error {100 * expected:.2g} %{where}{places}{ADVICE}"
    which = "many" if excess > 0 else "few"
    return (
        f"{what}before scaling it had {100 * abs(excess):.2g} % too {which} electrons, and the "
        f"error of the density is likely above {least_error(model, excess):.2g} %{ADVICE}"
    )


def unknown(model: Model, structure: Structure) -> str:
    """One sentence on what the model has learnt little about, otherwise an empty string."""
    if structure.spin and not model.network.spins:
        return (
            f"model {model.name!r} learnt from closed shells only: expect an error of the "
            "density of 1 to 5 %, for the smallest radicals up to 10, and no spin density; "
            "Kohn-Sham steps (--refine) find both"
        )
    return model.seldom(structure.symbols)


def of_states(density: Density) -> str:
    """One sentence if several orbitals may hold the unpaired electrons, else an empty string."""
    atoms = density.continuous
    if not isinstance(atoms, DeformedAtoms) or atoms.singly is None:
        return ""
    if atoms.singly < density.structure.spin + _SEVERAL:
        return ""
    return (
        "several orbitals of nearly the same energy may hold the unpaired electrons: the spin "
        "density is their mean, and that of a single state may point in any of their directions"
    )


def of_worst_molecule(structure: Structure, wrong: np.ndarray) -> float:
    """Largest share of wrong electrons of a molecule, at least that of all together.

    How many electrons each of several molecules has is not known: the sum of its valence charges
    is taken, or eight for ions with few.
    """
    charges = valence_charges(structure)
    of_all = wrong.sum() / count_electrons(structure)
    molecules = [molecule.atoms for molecule in whole_molecules(structure)]
    if len(molecules) == 1:
        return float(of_all)
    shares = [wrong[a].sum() / max(charges[a].sum(), _OCTET) for a in molecules]
    return float(max(of_all, *shares))


def _places(structure: Structure, wrong: np.ndarray) -> str:
    """The atoms with most of the expected error, for a sentence."""
    order = np.argsort(-wrong)
    worst = [i for i in order[:4] if wrong[i] > _SHARE * wrong.sum()]
    if len(structure) < 4 or not worst:
        return ""
    return ", most of it at " + ", ".join(f"{structure.symbols[i]}{i + 1}" for i in worst)
