"""Polarisation of a molecule by others, from one Kohn-Sham step in open space.

With the orbitals of a step from the molecule's own density (`denser.dft.open_space_gradient`) and a
potential V, the energy of a second step with V in its matrix is lower than the first order, tr P V,

E_pol = sum_i 2 e_i[V] - sum_i 2 e_i[0] - tr P[0] V <= 0.

V is the potential of frozen-density embedding (Wesolowski and Warshel, J. Phys. Chem. 97, 8050
(1993)): the nuclei and electrons of the others, and what keeps electrons apart where densities
overlap, exchange and correlation and the kinetic energy of Thomas and Fermi,

V = V_nuc,B + v_H[rho_B] + v_xc[rho_A + rho_B] - v_xc[rho_A] + v_T[rho_A + rho_B] - v_T[rho_A],
v_T[rho] = (3 pi^2 rho)^(2/3) / 2,

in the local density approximation. Without the last four terms the electrons of A fall into the
potential of B, where those of B already are. Far away only the first two are left.

The electrons respond without the interaction of what responds. In a basis without diffuse
functions the error of this is about as large as that of the basis, with the opposite sign
(docs/embedding.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pyscf.dft import numint

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
    potential, around = np.zeros((2, len(points)))
    for structure, density in others:
        cores = build_molecule(structure, step.recipe.basis, step.recipe)
        electrons = density.potential(points, np.zeros(len(structure)))
        potential += local_pseudopotential(cores, points) - electrons
        around += density.at(points)
    own = step.linear.fields[0]
    potential += overlap_potential(own, around)
    matrix = local_matrix(step.mol, points, 0.5 * (weights * potential)[None])
    within = step.mo_coeff.T @ matrix @ step.mo_coeff
    n = int(np.count_nonzero(step.mo_occ))
    lowered = np.linalg.eigvalsh(np.diag(step.mo_energy) + within)[:n]
    return float(2 * (lowered.sum() - step.mo_energy[:n].sum() - np.trace(within[:n, :n])))


def overlap_potential(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Exchange-correlation and kinetic part of V (n,), hartree, of two densities (n,), e/bohr^3."""
    own, both = np.maximum(own, 0.0), np.maximum(own, 0.0) + np.maximum(others, 0.0)
    return _local_potential(both) - _local_potential(own)


def _local_potential(rho: np.ndarray) -> np.ndarray:
    """v_xc (Dirac; Perdew and Wang 1992) and v_T."""
    v_xc = numint.NumInt().eval_xc_eff("LDA,PW", rho[None], deriv=1, xctype="LDA")[1][0]
    return np.asarray(v_xc) + 0.5 * (3 * np.pi**2 * rho) ** (2 / 3)
