"""Unpaired electrons of the atoms: stockholder populations of a spin density.

    m_a = integral w_a m,  w_a = n_a / sum_b n_b

with the free all-electron atoms n of Hirshfeld charges. Their sum is the number of unpaired
electrons.
"""

from __future__ import annotations

import numpy as np

from denser.analysis.charges.stockholder import curve, deform
from denser.fields.windows import ball
from denser.types.density import Density, Field


def hirshfeld_spins(density: Density, spin: Field) -> np.ndarray:
    """Unpaired electrons of each atom (n_atoms,), positive for spin up.

    Parameters
    ----------
    density : Density
        As in `denser.analysis.charges.stockholder.hirshfeld`.
    spin : Field
        Spin density on the same grid, e/bohr^3.

    Raises
    ------
    InputError
        As `hirshfeld`; or the grids differ.
    """
    structure, grid = density.structure, density.grid
    grid.require_same(spin.grid)
    promolecule = deform(density, periodic=True)[1]
    m = np.asarray(spin.values, dtype=float)
    ratio = np.divide(m, promolecule, out=np.zeros_like(m), where=promolecule > 0)
    found = np.empty(len(structure))
    for a, (z, position) in enumerate(zip(structure.numbers, structure.positions, strict=True)):
        atom = curve(int(z))
        nodes, squared = ball(grid, position, atom.radius, periodic=True)
        wrapped = np.ix_(*(i % n for i, n in zip(nodes, grid.shape, strict=True)))
        share = atom.at(np.sqrt(squared), atom.all_electron) * ratio[wrapped]
        found[a] = share.sum() * grid.dv
    return found
