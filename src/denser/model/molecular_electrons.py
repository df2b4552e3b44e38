"""How many electrons each molecule of a structure has, from the tight-binding electrons.

A network's density does not hold exactly N_e electrons, and is scaled to them
(`denser.model.normalise`). If the structure has several molecules, each must get its own number:
the charge of Na+ beside a water belongs to Na, however far away the water is. A molecule far from
others has a whole number of electrons, so its charge

Q = sum_a (Z_a - p_a),    p_a: electrons of atom a in the last solution,

is rounded. Where that is not clear (`_SURE`), as in molecules that share electrons, what is left of
the total charge is shared in proportion to the electrons. The result is constant while atoms move,
and has no derivatives.
"""

from __future__ import annotations

import numpy as np

from denser.atoms.molecules import whole_molecules
from denser.atoms.sad import valence_charges
from denser.model.hamiltonians import ELEMENTS
from denser.model.tight_binding import N_SCALARS, SPREAD, Electrons, typical_of
from denser.types.structure import Structure

_SURE = 0.25
"""Largest distance of the charge of a molecule from a whole number that is rounded."""


def electrons_of_molecules(structure: Structure, electrons: Electrons | None) -> np.ndarray:
    """Electrons of the atoms (n_atoms,), such that each molecule has its number.

    Within a molecule they are shared in proportion to the neutral atoms. Their sum is N_e.

    Parameters
    ----------
    structure : Structure
    electrons : Electrons or None
        Inputs of the network; None: shared in proportion among all atoms.
    """
    neutral = valence_charges(structure).astype(float)
    shared = neutral * (1.0 - structure.charge / neutral.sum())
    if electrons is None or len(structure) == 1:
        return shared
    molecules = [molecule.atoms for molecule in whole_molecules(structure)]
    if len(molecules) == 1:
        return shared
    own = charges_of_atoms(structure, electrons)
    found = np.array([own[atoms].sum() for atoms in molecules])
    charges = np.round(found)
    sizes = np.array([neutral[atoms].sum() for atoms in molecules])
    unsure = np.abs(found - charges) > _SURE
    left = structure.charge - charges[~unsure].sum()
    if not unsure.any():
        unsure[:] = left != 0
        left = structure.charge - charges[~unsure].sum()
    if unsure.any():
        charges[unsure] = left * sizes[unsure] / sizes[unsure].sum()
    if (charges > sizes).any():
        return shared
    target = neutral.copy()
    for atoms, charge, size in zip(molecules, charges, sizes, strict=True):
        target[atoms] *= 1.0 - charge / size
    return target


def charges_of_atoms(structure: Structure, electrons: Electrons) -> np.ndarray:
    """Charges of the atoms (n_atoms,) in the last solution that a network is shown, e."""
    n_solutions = electrons.scalars.shape[1] // N_SCALARS
    numbers = structure.numbers.tolist()
    typical = typical_of(numbers)[n_solutions - 1].numpy()
    last = electrons.scalars[:, -N_SCALARS:].detach().double().cpu().numpy()
    occupation = SPREAD * last + typical
    valence = np.array([ELEMENTS[z][0] for z in numbers], dtype=float)
    return valence - occupation[:, 0] - 3.0 * occupation[:, 1]
