"""PySCF's cells from structures and grids, and densities from density matrices."""

from __future__ import annotations

import numpy as np
from pyscf.pbc import gto
from pyscf.pbc.dft.multigrid import MultiGridNumInt2

from denser.atoms.sad import count_electrons, valence_charges
from denser.dft.basis import basis_name, pseudopotential, shells
from denser.types.arrays import seal
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

PRECISION = 1e-6
"""PySCF's `cell.precision`: accuracy of lattice sums and of the multigrid's grid levels."""

PRECISION_OF_MOLOPT = 1e-8
"""The same where an atom has a MOLOPT basis, whose contractions cancel: at 1e-6 the multigrid's
density of HI errs by 0.8 %, at 1e-8 by less than 0.001 %."""

PRECISION_OF_SKEW_CELLS = 1e-7
"""The same in skew cells. With an angle of 45 degrees, orbitals of water err by 0.007 % (and its
energy by 2 meV) at 1e-6, and by 0.004 % (1.5 meV) at 1e-7, which takes 1.5 times as long."""


def build_cell(structure: Structure, grid: Grid, recipe: Recipe = Recipe()) -> gto.Cell:
    """Return the periodic cell of a calculation whose plane-wave mesh is `grid`.

    The origin of the cell's coordinates is `grid.origin`, so that PySCF's uniform grid points are
    the nodes of `grid`: PySCF's coordinate is r - grid.origin. The structure is not changed.
    Lattice sums use PySCF's own (strict) cutoffs: `rcut_by_shell_radius` of older versions is
    `use_loose_rcut` in 2.14 and changes CH4 by 0.0015 meV.

    Parameters
    ----------
    structure : Structure
    grid : Grid
        Its box is the period of the calculation.
    recipe : Recipe
        Basis and pseudopotential.

    Returns
    -------
    pyscf.pbc.gto.Cell
        Built, without output; lengths in bohr.

    Raises
    ------
    InputError
        An element is not supported, there are no electrons, the basis or pseudopotential is
        unknown, or the box is left-handed.
    """
    count_electrons(structure)
    if np.linalg.det(grid.cell) < 0:
        raise InputError("the grid's cell is left-handed; swap two of its vectors")
    cell = gto.Cell()
    cell.atom = list(zip(structure.symbols, structure.positions - grid.origin, strict=True))
    cell.unit = "bohr"
    cell.a = grid.cell
    # Set explicitly: a mesh derived from a cutoff would be odd and one node larger.
    cell.mesh = list(grid.shape)
    cell.charge = structure.charge
    cell.spin = structure.spin
    elements = sorted(set(structure.symbols))
    cell.basis = {s: shells(s, basis_name(s, recipe.basis)) for s in elements}
    cell.pseudo = {s: pseudopotential(s, recipe.pseudo) for s in elements}
    molopt = any("MOLOPT" in basis_name(s, recipe.basis).upper() for s in elements)
    cell.precision = PRECISION if grid.is_orthorhombic else PRECISION_OF_SKEW_CELLS
    if molopt:
        cell.precision = PRECISION_OF_MOLOPT
    cell.verbose = 0
    cell.build()
    return cell


def density_from_dm(cell: gto.Cell, dm: np.ndarray, grid: Grid, structure: Structure) -> Density:
    """Evaluate a density matrix on the cell's own grid by GPW multigrid.

    rho(r) = sum_pq D_pq phi_p(r) phi_q(r)

    Parameters
    ----------
    cell : pyscf.pbc.gto.Cell
        From `build_cell` with the same structure and grid.
    dm : (nao, nao) or (2, nao, nao) float
        Spin-summed, or of both spins.
    grid : Grid
    structure : Structure

    Returns
    -------
    Density
        e/bohr^3, float64, neither clipped at zero nor scaled to N_e.

    Raises
    ------
    InputError
        The density matrix does not fit the basis, or the cell does not belong to the grid.
    """
    require_fitting_dm(cell, dm)
    if tuple(cell.mesh) != grid.shape or not np.allclose(cell.lattice_vectors(), grid.cell):
        raise InputError(
            f"the cell has a mesh of {tuple(int(n) for n in cell.mesh)}, which is not the grid "
            f"of shape {grid.shape}; build it with build_cell(structure, grid)"
        )
    dm = np.asarray(dm)
    rho = MultiGridNumInt2(cell).get_rho(cell, dm if dm.ndim == 2 else dm.sum(axis=0), None)
    return Density(
        grid,
        seal(rho.reshape(grid.shape)),
        structure=structure,
        valence_charges=valence_charges(structure),
    )


def require_electrons(cell: gto.Cell, rho: np.ndarray) -> None:
    """Raise an InputError unless the integral of a density (nx, ny, nz) is the number of electrons.

    In dense crystals, such as MgO and cells narrower than about 3 angstrom, the basis is nearly
    linearly dependent, PySCF's multigrid does not integrate its orbitals, and an SCF may converge
    to a wrong result.
    """
    found = float(rho.sum()) * cell.vol / rho.size
    if not abs(found - cell.nelectron) < 0.05 * cell.nelectron:
        sides = " x ".join(
            f"{x:.2f}" for x in BOHR * np.linalg.norm(cell.lattice_vectors(), axis=1)
        )
        raise InputError(
            f"on the grid of this cell ({sides} angstrom) {cell.nelectron} electrons become "
            f"{found:.1f}: the basis is nearly linearly dependent in so dense a crystal, so it "
            "has no Kohn-Sham orbitals here; use the predicted density alone"
        )


def require_fitting_dm(cell: gto.Cell, dm: np.ndarray) -> None:
    """Raise an InputError unless `dm` is a matrix over the cell's basis functions."""
    nao = cell.nao_nr()
    if np.shape(dm) not in ((nao, nao), (2, nao, nao)):
        raise InputError(
            f"the basis has {nao} functions, so the density matrix must have shape "
            f"({nao}, {nao}); found {np.shape(dm)}"
        )
