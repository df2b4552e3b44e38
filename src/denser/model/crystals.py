"""What is known of the errors of models that learnt from molecules, in crystals.

The estimate of errors (`denser.model.expected_error`) is fitted to molecules. Against densities
that were labelled in the cell, the default model errs in crystals of molecules that it has not
learnt by 1.09 (urea), 0.76 (NH3), 0.34 (H2CO), 0.43 (CO), 0.78 (H2NCN) and 0.59 % (HCN), 0.7 to 2.9
times what the estimate says; and where atoms or ions are bonded without end by 1.3 (cristobalite),
2.4 (diamond), 3.4 (NaCl), 4.6 (MgO) and 4.9 % (LiF), which the estimate does not see at all. So the
estimate is multiplied by `MOLECULAR` in crystals, and is at least `ENDLESS` where bonds have no
end, until a model has an estimate that was fitted to crystals, too.
"""

from __future__ import annotations

import numpy as np

from denser.atoms.molecules import whole_molecules
from denser.types.structure import Structure

MOLECULAR = 1.7
"""Geometric mean of the six ratios of true and expected errors above."""

ENDLESS = 0.03
"""Geometric mean of the last five errors above, a fraction."""

ENOUGH = 20
"""An estimate that was fitted to at least so many crystals is taken as it is."""

FITTED = "n_crystals_of_expected_errors"
"""Key in the information of a model: number of crystals that its estimate was fitted to."""


def of_crystal(structure: Structure, wrong: np.ndarray, n_electrons: float) -> np.ndarray:
    """Expected wrong electrons of each atom (n_atoms,), from those of an estimate for molecules.

    Parameters
    ----------
    structure : Structure
        A crystal (`denser.atoms.molecules.is_crystal`).
    wrong : (n_atoms,) float
    n_electrons : float
    """
    wrong = MOLECULAR * wrong
    if not any(molecule.endless for molecule in whole_molecules(structure)):
        return wrong
    return wrong * max(1.0, ENDLESS * n_electrons / wrong.sum())
