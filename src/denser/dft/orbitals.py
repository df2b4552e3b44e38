"""Orbitals as fields and as Molden files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pyscf.pbc import gto as pbcgto
from pyscf.tools import molden

from denser.io.files import replacing
from denser.types.density import Density

_BLOCK = 40_000


def orbital(cell: pbcgto.Cell, mo: np.ndarray, density: Density) -> Density:
    """Values of one orbital on the grid of a density.

    psi(r) = sum_p c_p phi_p(r), phi_p summed over its periodic images.

    Parameters
    ----------
    cell : pyscf.pbc.gto.Cell
        From `build_cell` with the density's structure and grid.
    mo : (nao,) float
    density : Density
        Density with the grid and the atoms.

    Returns
    -------
    Density
        The orbital in "bohr^-3/2", with the atoms for files.
    """
    grid = density.grid
    points = (grid.points() - grid.origin).reshape(-1, 3)
    values = np.empty(len(points))
    for i in range(0, len(points), _BLOCK):
        block = slice(i, i + _BLOCK)
        values[block] = np.asarray(cell.pbc_eval_gto("GTOval_sph", points[block])) @ mo
    return Density(
        grid,
        values.reshape(grid.shape),
        "bohr^-3/2",
        structure=density.structure,
        valence_charges=density.valence_charges,
    )


def write_molden(
    path: Path,
    cell: pbcgto.Cell,
    origin: np.ndarray,
    mo_coeff: np.ndarray,
    mo_energy: np.ndarray,
    mo_occ: np.ndarray,
) -> None:
    """Write orbitals and their basis to a Molden file, in the coordinates of the molecule.

    Molden files have no periodic images: the orbitals are those of the cell, but the overlap is
    that of the molecule. Both agree if there is enough vacuum in the box.

    Parameters
    ----------
    path : Path
    cell : pyscf.pbc.gto.Cell
    origin : (3,) float
        Origin of the cell's coordinates, bohr.
    mo_coeff : (nao, n) float
    mo_energy, mo_occ : (n,) float
    """
    molecule = cell.to_mol()
    molecule.set_geom_(cell.atom_coords() + origin, unit="bohr")
    with replacing(Path(path)) as temporary:
        molden.from_mo(
            molecule, str(temporary), mo_coeff, ene=mo_energy, occ=mo_occ, ignore_h=False
        )
