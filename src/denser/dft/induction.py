"""Polarisation of a molecule by the potential of others, from one Kohn-Sham step in open space.

With the orbitals of a step from the molecule's own density (`denser.dft.open_space_gradient`) and a
potential V, the energy of a second step with V in its matrix is lower than the first order, tr P V,

E_pol = sum_i 2 e_i[V] - sum_i 2 e_i[0] - tr P[0] V <= 0.

The electrons respond without the interaction of what responds. In a basis without diffuse
functions the error of this is about as large as that of the basis, with the opposite sign
(docs/embedding.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from denser.dft.molecular import build_molecule
from denser.dft.open_space import local_matrix, local_pseudopotential
from denser.dft.open_space_gradient import OpenStep
from denser.types.density import Continuous
from denser.types.structure import Structure


def polarisation_energy(step: OpenStep, others: Sequence[tuple[Structure, Continuous]]) -> float:
    """Energy of the polarisation of a molecule by the densities and nuclei of others, hartree.

    Parameters
    ----------
    step : OpenStep
        Of the molecule on its own.
    others : sequence of (Structure, Continuous)
        Isolated molecules at their places, with their densities.
    """
    points, weights = step.linear.points, step.linear.weights
    potential = np.zeros(len(points))
    for structure, density in others:
        cores = build_molecule(structure, step.recipe.basis, step.recipe)
        electrons = density.potential(points, np.zeros(len(structure)))
        potential += local_pseudopotential(cores, points) - electrons
    matrix = local_matrix(step.mol, points, 0.5 * (weights * potential)[None])
    within = step.mo_coeff.T @ matrix @ step.mo_coeff
    n = int(np.count_nonzero(step.mo_occ))
    lowered = np.linalg.eigvalsh(np.diag(step.mo_energy) + within)[:n]
    return float(2 * (lowered.sum() - step.mo_energy[:n].sum() - np.trace(within[:n, :n])))
