"""Ionisation energies and electron affinities as differences of self-consistent energies.

Orbital energies of a semilocal functional are no substitute: the HOMO lies several eV above minus
the ionisation energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.dft.molecular import MolecularResult, NotConverged, converge
from denser.types.recipe import Recipe
from denser.types.structure import Structure


@dataclass(frozen=True)
class Ionisation:
    """Vertical ionisation energy and electron affinity by difference, hartree.

    There is no affinity if the anion does not converge, which happens if it is not bound.
    """

    e_ionisation: float
    e_affinity: float | None


def ionisation(whole: MolecularResult, structure: Structure, recipe: Recipe) -> Ionisation:
    """E(cation) - E and E - E(anion) at the same geometry, all self-consistent.

    Both ions are spin-polarised doublets. They start from the orbitals of the molecule.

    Parameters
    ----------
    whole : MolecularResult
        Of a closed shell; the ions have its basis.
    structure : Structure
    recipe : Recipe

    Raises
    ------
    InputError
        As in `denser.dft.molecular.converge`.
    """
    n = int(np.count_nonzero(whole.mo_occ > 0))
    up = whole.mo_coeff[:, :n] @ whole.mo_coeff[:, :n].T

    def energy(charge: int, other: int) -> float:
        """With one electron more or less: `other` electrons of one of the spins."""
        changed = whole.mo_coeff[:, :other] @ whole.mo_coeff[:, :other].T
        dm0 = np.array([up, changed] if charge == 1 else [changed, up])
        ion = Structure(structure.numbers, structure.positions, structure.charge + charge, spin=1)
        return converge(ion, whole.basis, recipe, dm0=dm0).e_tot

    cation = energy(1, n - 1)
    try:
        anion = energy(-1, n + 1)
    except NotConverged:
        return Ionisation(cation - whole.e_tot, None)
    return Ionisation(cation - whole.e_tot, whole.e_tot - anion)
