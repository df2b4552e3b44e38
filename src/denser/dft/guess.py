"""Starting density matrices for self-consistent calculations, including the user's own."""

from __future__ import annotations

import numpy as np
from pyscf import gto
from pyscf.pbc import gto as pbcgto
from pyscf.pbc.scf.hf import RHF as PeriodicRHF
from pyscf.pbc.scf.khf import KSCF
from pyscf.scf.hf import RHF, SCF

from denser.dft.cell import PRECISION_OF_MOLOPT
from denser.dft.isolated import Isolation
from denser.dft.pyscf_private import basis_and_pseudopotentials, multigrid_rks
from denser.dft.refine import refine
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure


def structure_of(mf: SCF, recipe: Recipe = Recipe()) -> Structure:
    """Return the structure of a PySCF calculation that can start from a valence density.

    Parameters
    ----------
    mf : pyscf.scf.hf.RHF
        RKS or RHF of a molecule, or of a cell at the Gamma point, in any basis, with the
        recipe's pseudopotentials on all atoms.
    recipe : Recipe

    Raises
    ------
    InputError
        The calculation is of another kind.
    """
    if isinstance(mf, KSCF):
        raise InputError(
            "there is no guess for k points; use a calculation at the Gamma point of a larger "
            "cell (pyscf.pbc.dft.RKS)"
        )
    if not isinstance(mf, (RHF, PeriodicRHF)):
        what = type(mf).__name__
        raise InputError(
            f"only closed shells in PySCF's RKS or RHF can be started, found {what}; start that "
            "from the density matrix of an RKS calculation"
        )
    kpt = getattr(mf, "kpt", None)
    if kpt is not None and np.abs(kpt).max() > 1e-9:
        raise InputError(
            "the calculation is at a k point; there is a guess only at the Gamma point"
        )
    mol = mf.mol
    _, pseudopotentials = basis_and_pseudopotentials(mol)
    for i in range(mol.natm):
        symbol, pure = mol.atom_symbol(i), mol.atom_pure_symbol(i)
        found = pseudopotentials.get(symbol)
        if found is None:
            raise InputError(
                f"atom {i + 1} ({pure}) has all its electrons or an effective core potential, but "
                f"the model predicts valence densities; set mol.pseudo = {recipe.pseudo!r}"
            )
        if found != pbcgto.pseudo.load(recipe.pseudo, pure):
            raise InputError(
                f"the pseudopotential of atom {i + 1} ({pure}) is not {recipe.pseudo!r}, that of "
                "the model; set mol.pseudo to it"
            )
    numbers = np.array([gto.charge(mol.atom_pure_symbol(i)) for i in range(mol.natm)])
    cell = mol.lattice_vectors() if isinstance(mol, pbcgto.Cell) else None
    return Structure(numbers, mol.atom_coords(), mol.charge, cell)


def guess_for(mf: SCF, density: Density, recipe: Recipe = Recipe(), steps: int = 1) -> np.ndarray:
    """Density matrix (nao, nao) in the basis of `mf`, from Kohn-Sham steps in that basis.

    Parameters
    ----------
    mf : pyscf.scf.hf.RHF
        Its structure must be that of `density`, see `structure_of`.
    density : Density
        In the cell of `mf`, or in a box around its molecule.
    recipe : Recipe
        Its functional gives the potential.
    steps : int
        Number of steps of `denser.dft.refine.refine`.
    """
    mol, grid = mf.mol, density.grid
    cell = pbcgto.Cell()
    cell.atom = [(mol.atom_symbol(i), mol.atom_coord(i) - grid.origin) for i in range(mol.natm)]
    cell.unit, cell.a, cell.mesh = "bohr", grid.cell, list(grid.shape)
    cell.basis, cell.pseudo = basis_and_pseudopotentials(mol)
    cell.charge = mol.charge
    cell.cart, cell.precision, cell.verbose = mol.cart, PRECISION_OF_MOLOPT, 0
    cell.build()
    isolation = None
    if density.structure.cell is None:
        isolation = Isolation(density.structure, density.valence_charges, grid)
    result = refine(density, recipe, steps, mf=multigrid_rks(cell, recipe.xc, isolation))
    occupied = result.mo_coeff[:, result.mo_occ > 0]
    # The molecule's overlap has no periodic images: orthonormalise the orbitals again.
    values, vectors = np.linalg.eigh(occupied.T @ np.asarray(mf.get_ovlp()) @ occupied)
    occupied = occupied @ (vectors / np.sqrt(values)) @ vectors.T
    return 2 * occupied @ occupied.T
