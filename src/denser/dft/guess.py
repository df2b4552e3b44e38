"""Starting density matrices for PySCF calculations of any kind, from a density.

One Kohn-Sham matrix of the density, in the basis of the calculation:

F = T + V_nuc + v_H[rho] + v_xc[rho],

with the one-electron part of the calculation itself, and the two potentials integrated on
atom-centred grids. Its lowest orbitals give the density matrix. In a molecule, a coarse calculation
(`coarse_calculation`) can bring it to its own basis and functional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from pyscf import df, dft, gto
from pyscf.dft import gen_grid, numint
from pyscf.dft.rks import KohnShamDFT
from pyscf.pbc import gto as pbcgto
from pyscf.pbc.dft import gen_grid as pbc_grid
from pyscf.pbc.dft import numint as pbc_numint
from pyscf.pbc.scf.ghf import GHF as PeriodicGHF
from pyscf.pbc.scf.hf import SCF as PeriodicSCF
from pyscf.pbc.scf.khf import KSCF
from pyscf.pbc.scf.uhf import UHF as PeriodicUHF
from pyscf.scf.dhf import DHF
from pyscf.scf.ghf import GHF
from pyscf.scf.hf import SCF
from pyscf.scf.rohf import ROHF
from pyscf.scf.uhf import UHF

from denser.dft.functionals import spin_potentials
from denser.dft.pyscf_private import basis_and_pseudopotentials, without_check_file
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure

LEVEL = 1
"""Level of PySCF's grids, on which the potentials are integrated. A finer one saves no cycles."""

COARSE_LEVEL = 1
"""Level of PySCF's grids of the coarse calculation. With level 0 the SCF needs two cycles more."""

COARSE_TOLERANCE = 1e-5
"""Change of the energy in the last cycle of the coarse calculation, hartree."""

COARSE_CYCLES = 12

_MEMORY = 1000
"""For orbitals on the grid, MB."""

Sources = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""From points (n, 3), bohr, to the density (n,), e/bohr^3, its gradient (n, 3), and the
electrostatic energy of an electron there (n,), hartree."""


Spins = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray] | None]
"""From points (n, 3), bohr, to the spin density (n,) and its gradient (3, n), if it is known."""


def structure_of(mf: SCF) -> Structure:
    """Return the structure of a PySCF calculation, with its spin and without its ghost atoms.

    Parameters
    ----------
    mf : pyscf.scf.hf.SCF
        Hartree-Fock or Kohn-Sham of a molecule, or of a cell at the Gamma point: restricted,
        unrestricted or restricted open shell.

    Raises
    ------
    InputError
        The calculation is of another kind.
    """
    if not isinstance(mf, SCF):
        raise InputError(
            f"expected a Hartree-Fock or Kohn-Sham calculation of PySCF, found {type(mf).__name__}"
        )
    if isinstance(mf, KSCF):
        raise InputError(
            "there is no guess for k points; use a calculation at the Gamma point of a larger "
            "cell (pyscf.pbc.dft.RKS)"
        )
    if isinstance(mf, (GHF, DHF, PeriodicGHF)):
        raise InputError(
            f"there is a guess for restricted and unrestricted calculations only, found "
            f"{type(mf).__name__}; convert a density matrix of UKS"
        )
    if isinstance(mf, PeriodicSCF) and np.abs(mf.kpt).max() > 1e-9:
        raise InputError(
            "the calculation is at a k point; there is a guess only at the Gamma point"
        )
    mol = mf.mol
    atoms = real_atoms(mol)
    if not atoms.size:
        raise InputError("the calculation has no atoms, or ghost atoms only")
    numbers = np.array([gto.charge(mol.atom_pure_symbol(int(i))) for i in atoms])
    cell = mol.lattice_vectors() if isinstance(mol, pbcgto.Cell) else None
    return Structure(numbers, mol.atom_coords()[atoms], mol.charge, cell, spin=mol.spin)


def real_atoms(mol: gto.Mole) -> np.ndarray:
    """Indices of the atoms that are no ghosts (n,)."""
    return np.flatnonzero(mol.atom_charges())


def have_cores(mf: SCF, valence_charges: np.ndarray, recipe: Recipe = Recipe()) -> np.ndarray:
    """Whether each atom has all its electrons in the calculation (n_atoms,); ghosts left out.

    The others must have as many electrons as the pseudopotentials of a valence density.

    Parameters
    ----------
    mf : pyscf.scf.hf.SCF
    valence_charges : (n_atoms,) float
    recipe : Recipe
        Pseudopotential of the density.

    Raises
    ------
    InputError
        A pseudopotential or effective core potential with another core, or a cell in which
        only some of the atoms have one.
    """
    mol = mf.mol
    charges = mol.atom_charges()
    out = []
    for i, valence in zip(real_atoms(mol), valence_charges, strict=True):
        symbol = mol.atom_pure_symbol(int(i))
        bare = (
            not mol.atom_nelec_core(int(i))
            and mol.atom_symbol(int(i)) not in (basis_and_pseudopotentials(mol)[1])
        )
        if not bare and charges[i] != valence:
            raise InputError(
                f"the pseudopotential of atom {i + 1} ({symbol}) leaves {charges[i]} electrons, "
                f"but that of the model ({recipe.pseudo}) leaves {valence:g}; use a basis for all "
                f"electrons, or mol.pseudo = {recipe.pseudo!r}"
            )
        out.append(bare)
    if isinstance(mol, pbcgto.Cell) and len(set(out)) > 1:
        raise InputError(
            "some atoms of the cell have a pseudopotential and others all their electrons; there "
            "is a guess if all are alike"
        )
    return np.array(out, dtype=bool)


def density_matrix(
    mf: SCF, sources: Sources, xc: str, nuclei: bool = False, spins: Spins | None = None
) -> np.ndarray:
    """Density matrix of the lowest orbitals of F in the shape that `mf.kernel` takes.

    Parameters
    ----------
    mf : pyscf.scf.hf.SCF
    sources : Sources
        The density and the potential of the electrons.
    xc : str
        An LDA or GGA by PySCF's name.
    nuclei : bool
        Whether the potential contains that of the nuclei. F then takes only the kinetic
        energy from `mf`.
    spins : Spins, optional
        The spin density, for unrestricted calculations. Without it both spins have the same
        orbitals.
    """
    mol = mf.mol
    unrestricted = isinstance(mf, (UHF, PeriodicUHF))
    if not unrestricted or (spins is not None and spins(np.zeros((1, 3))) is None):
        spins = None
    fock = _potential_matrix(mol, sources, xc, spins)
    fock = fock + (_kinetic(mol) if nuclei else np.asarray(mf.get_hcore()))
    overlap = mf.get_ovlp()
    if unrestricted and fock.ndim == 2:
        fock = np.stack([fock, fock])
    energy, coefficients = mf.eig(fock, overlap)
    return mf.make_rdm1(coefficients, mf.get_occ(energy, coefficients))


def coarse_calculation(mf: SCF) -> dft.rks.RKS:
    """The calculation of a molecule with density fitting, a coarse grid and a loose threshold.

    It has the functional, the basis and the one-electron part of `mf`, so that its orbitals are
    nearly those of `mf`. A cycle costs a fraction of one of `mf`. If `mf` has fitted integrals,
    they are the same ones.

    Parameters
    ----------
    mf : pyscf.scf.hf.SCF
        Of a molecule.
    """
    kind = dft.UKS if isinstance(mf, UHF) else dft.ROKS if isinstance(mf, ROHF) else dft.RKS
    coarse = kind(mf.mol, xc=mf.xc if isinstance(mf, KohnShamDFT) else "hf").density_fit()
    fitted = getattr(mf, "with_df", None)
    if isinstance(fitted, df.DF):
        coarse.with_df = fitted
    coarse.nlc = 0  # dispersion hardly changes orbitals
    coarse.grids.level = COARSE_LEVEL
    coarse.conv_tol, coarse.max_cycle = COARSE_TOLERANCE, COARSE_CYCLES
    coarse.verbose = 0
    without_check_file(coarse)
    hcore, overlap = mf.get_hcore(), mf.get_ovlp()
    coarse.get_hcore, coarse.get_ovlp = lambda *_: hcore, lambda *_: overlap
    return coarse


def _kinetic(mol: gto.Mole) -> np.ndarray:
    if isinstance(mol, pbcgto.Cell):
        return np.asarray(mol.pbc_intor("int1e_kin", hermi=1)).real
    return mol.intor_symmetric("int1e_kin")


def _potential_matrix(mol: gto.Mole, sources: Sources, xc: str, spins: Spins | None) -> np.ndarray:
    """Matrix of the electrostatic and exchange-correlation potentials (nao, nao), hartree.

    With a spin density those of both spins (2, nao, nao).
    """
    ni = numint.NumInt()
    kind = "LDA" if ni._xc_type(xc) == "LDA" else "GGA"
    matrix = np.zeros((1 if spins is None else 2, mol.nao, mol.nao))
    for orbitals, weights, points in _blocks(mol, 0 if kind == "LDA" else 1):
        rho, gradient, electrostatic = sources(points)
        rho = np.maximum(rho, 1e-12)
        given = rho[None] if kind == "LDA" else np.vstack([rho, gradient.T])
        if spins is None:
            v = ni.eval_xc_eff(xc, given, deriv=1, xctype=kind)[1][None]
        else:
            found = spins(points)
            assert found is not None  # it was tried
            v = spin_potentials(xc, given, np.vstack(found)[: len(given)])
        v[:, 0] += electrostatic
        v *= weights
        v[:, 0] /= 2  # the other half comes with the transpose
        orbitals = orbitals[None] if kind == "LDA" else orbitals
        for own, of_spin in zip(matrix, v, strict=True):
            own += orbitals[0].T @ np.einsum("xgp,xg->gp", orbitals, of_spin)
    matrix += matrix.transpose(0, 2, 1)
    return matrix if len(matrix) > 1 else matrix[0]


def _blocks(mol: gto.Mole, deriv: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Basis functions, with derivatives, on blocks of points, with weights and points."""
    if isinstance(mol, pbcgto.Cell):
        grids = pbc_grid.BeckeGrids(mol)
        grids.level = LEVEL
        grids.build()
        loop = pbc_numint.NumInt().block_loop(
            mol, grids, mol.nao, deriv, kpt=np.zeros(3), max_memory=_MEMORY
        )
        for orbitals, _, _, weights, points in loop:
            yield np.asarray(orbitals).real, weights, points
        return
    grids = gen_grid.Grids(mol)
    grids.level = LEVEL
    grids.build()
    for orbitals, _, weights, points in numint.NumInt().block_loop(
        mol, grids, mol.nao, deriv, max_memory=_MEMORY
    ):
        yield orbitals, weights, points
