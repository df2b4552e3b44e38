"""Orbitals as fields and as Molden files."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
from pyscf import gto
from pyscf.pbc import gto as pbcgto
from pyscf.tools import molden

from denser.dft.pyscf_private import molecule_of
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

    Molden files have no periodic images. The orbitals of the cell are orthonormalised in the
    overlap of the molecule, which other programs check.

    Parameters
    ----------
    path : Path
    cell : pyscf.pbc.gto.Cell
    origin : (3,) float
        Origin of the cell's coordinates, bohr.
    mo_coeff : (nao, n) float
        Or (2, nao, n) with both spins, and so the others.
    mo_energy, mo_occ : (n,) float
    """
    molden_of(path, molecule_of(cell, origin), mo_coeff, mo_energy, mo_occ)


def molden_of(
    path: Path,
    molecule: gto.Mole,
    mo_coeff: np.ndarray,
    mo_energy: np.ndarray,
    mo_occ: np.ndarray,
) -> None:
    """Write orbitals of a molecule as `write_molden` does."""
    both = mo_occ.ndim == 2
    mo_coeff, mo_energy, mo_occ = (x if both else x[None] for x in (mo_coeff, mo_energy, mo_occ))
    overlap = molecule.intor("int1e_ovlp")
    found = [
        _of_molecule(mo, energy, occ, overlap)
        for mo, energy, occ in zip(mo_coeff, mo_energy, mo_occ, strict=True)
    ]
    with replacing(Path(path)) as temporary, open(temporary, "w") as file:
        header = StringIO()
        molden.header(molecule, header, ignore_h=False)
        file.write(header.getvalue().replace("GHOST-", ""))  # their charge of zero says it
        for spin, (mo, energy, occupations) in zip(("Alpha", "Beta"), found, strict=False):
            molden.orbital_coeff(
                molecule, file, mo, spin, ene=energy, occ=occupations, ignore_h=False
            )


def _of_molecule(
    mo_coeff: np.ndarray, mo_energy: np.ndarray, mo_occ: np.ndarray, overlap: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orbitals that are orthonormal in the overlap of the molecule, occupied ones first."""
    occupied, empty = mo_coeff[:, mo_occ > 0], mo_coeff[:, mo_occ == 0]
    occupied = orthonormal(occupied, overlap)
    empty = orthonormal(empty - occupied @ (occupied.T @ overlap @ empty), overlap)
    order = np.argsort(mo_occ == 0, kind="stable")
    return np.hstack([occupied, empty]), mo_energy[order], mo_occ[order]


def orthonormal(orbitals: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Symmetrically orthonormalised orbitals C (C^T S C)^(-1/2), the nearest orthonormal ones."""
    values, vectors = np.linalg.eigh(orbitals.T @ overlap @ orbitals)
    return orbitals @ (vectors / np.sqrt(values)) @ vectors.T
