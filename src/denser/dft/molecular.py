"""Self-consistent calculations of isolated molecules in any basis.

PySCF's molecular code: no box and no plane waves, so that basis functions may reach far. The
Coulomb energy is density-fitted, exchange and correlation are sums over the points of
`denser.dft.open_space`, which turn with the molecule. The first Kohn-Sham matrix is that of the
predicted Gaussians (`denser.dft.open_space.linearised`). The prediction is that of the model's
basis, and in another basis one or two steps would not suffice, so the steps go on to
self-consistency.

A basis that is not for GTH pseudopotentials has all electrons, on PySCF's own points.

Ghosts are basis functions at places without an atom.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from pyscf import dft, gto

from denser.atoms.sad import count_electrons
from denser.dft.atom_points import POINTS
from denser.dft.basis import (
    AUGMENTED,
    all_electron,
    all_electron_shells,
    pseudopotential,
    shells_of,
)
from denser.dft.functionals import require_density_functional
from denser.dft.open_space import linearised, spin_matrices
from denser.dft.pyscf_private import without_check_file
from denser.dft.scf import FrontierOrbitals, excited, lower_of
from denser.dft.turned_points import turned_grids
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure

CONVERGED = 1e-7
"""Change of the energy in the last cycle, hartree."""

MAX_CYCLE = 60

ALL_ELECTRON_LEVEL = 4
"""Level of PySCF's grids in calculations with all electrons."""

_BLOCK = 20_000

_FEW = 300
"""Up to this number of basis functions the integrals of the density fitting are kept in memory."""


class NotConverged(InputError):
    """A calculation that has not converged."""


@dataclass(frozen=True, eq=False)
class MolecularResult(FrontierOrbitals):
    """A self-consistent calculation in open space.

    The arrays of unpaired electrons have a first axis of length 2, for the two spins.

    Parameters
    ----------
    e_tot : float
        Hartree.
    mo_energy, mo_occ : (nmo,) float
        Hartree, relative to the vacuum; occupations.
    mo_coeff : (nao, nmo) float
        Orbitals in columns.
    dm : (nao, nao) float
        Density matrix.
    dipole : (3,) float
        About the centre of nuclear charge, e bohr.
    cycles : int
        Fock matrices, without that of the start.
    removed : int
        Linear dependences of the basis that were left out: nao - nmo.
    basis : str
    mf : pyscf.dft.rks.RKS or pyscf.dft.uks.UKS
    seconds : float
        Wall time.
    """

    e_tot: float
    mo_energy: np.ndarray
    mo_occ: np.ndarray
    mo_coeff: np.ndarray
    dm: np.ndarray
    dipole: np.ndarray
    cycles: int
    removed: int
    basis: str
    mf: dft.rks.RKS
    seconds: float

    def __repr__(self) -> str:
        return f"MolecularResult({self.e_tot:.6f} hartree, {self.basis}, {self.cycles} cycles)"

    def density_on(self, density: Density) -> Density:
        """The density of the orbitals at the nodes of another density of the molecule.

        With the spin density, if electrons are unpaired.
        """
        occupations = np.atleast_2d(self.mo_occ)
        coefficients = self.mo_coeff.reshape(len(occupations), *self.mo_coeff.shape[-2:])
        spins = [
            self._on_nodes(density, c[:, n > 0] * np.sqrt(n[n > 0]), np.square)
            for c, n in zip(coefficients, occupations, strict=True)
        ]
        found = density.with_values(np.sum(spins, axis=0))
        return found if len(spins) == 1 else found.with_spin_density(spins[0] - spins[1])

    def orbital(self, index: int, density: Density) -> Density:
        """An orbital at the nodes of a density of the molecule, bohr^-3/2."""
        values = self._on_nodes(density, self.mo_coeff[:, [index]], lambda psi: psi)
        return replace(density, values=values, unit="bohr^-3/2")

    def _on_nodes(
        self, density: Density, orbitals: np.ndarray, of: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Sum over orbitals (nao, n) of a function of their values (nx, ny, nz)."""
        points = density.grid.points().reshape(-1, 3)
        values = np.empty(len(points))
        for start in range(0, len(points), _BLOCK):
            some = slice(start, start + _BLOCK)
            psi = self.mf.mol.eval_gto("GTOval_sph", points[some]) @ orbitals
            values[some] = of(psi).sum(axis=1)
        return values.reshape(density.grid.shape)


def build_molecule(
    structure: Structure,
    basis: str = AUGMENTED,
    recipe: Recipe = Recipe(),
    ghosts: Structure | None = None,
) -> gto.Mole:
    """PySCF's molecule with GTH pseudopotentials, or with all electrons.

    Parameters
    ----------
    structure : Structure
        Without a cell.
    basis : str
        As in `denser.dft.basis.shells_of`, or a basis of PySCF for all electrons.
    recipe : Recipe
        Its pseudopotentials.
    ghosts : Structure, optional
        Places and elements of basis functions without an atom.

    Raises
    ------
    InputError
        The structure is periodic, has no electrons or an unknown element, or the basis lacks one.
    """
    if structure.cell is not None:
        raise InputError(
            "another basis is for isolated molecules, but the structure is periodic; give --box "
            "isolated, or use a structure without a cell"
        )
    count_electrons(structure)
    atoms = list(zip(structure.symbols, structure.positions, strict=True))
    load = all_electron_shells if all_electron(basis) else shells_of
    basis_sets = {s: load(s, basis) for s in set(structure.symbols)}
    if ghosts is not None:
        atoms += [(f"ghost-{s}", x) for s, x in zip(ghosts.symbols, ghosts.positions, strict=True)]
        basis_sets |= {f"ghost-{s}": load(s, basis) for s in set(ghosts.symbols)}
    pseudo = {}
    if not all_electron(basis):
        pseudo = {s: pseudopotential(s, recipe.pseudo) for s in set(structure.symbols)}
    return gto.M(
        atom=atoms, unit="bohr", basis=basis_sets, pseudo=pseudo, charge=structure.charge,
        spin=structure.spin, verbose=0,
    )  # fmt: skip


def molecular_mean_field(
    structure: Structure,
    basis: str = AUGMENTED,
    recipe: Recipe = Recipe(),
    ghosts: Structure | None = None,
    *,
    for_forces: bool = False,
    level: int | None = None,
) -> dft.rks.RKS:
    """PySCF's density-fitted RKS (or UKS) on points that turn with the molecule.

    Parameters and errors as in `build_molecule`; `for_forces` and `level` as in `converge`.
    """
    require_density_functional(recipe.xc)
    mol = build_molecule(structure, basis, recipe, ghosts)
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc=recipe.xc).density_fit()
    mf.conv_tol, mf.max_cycle = CONVERGED, MAX_CYCLE
    without_check_file(mf)
    if mol.nao <= _FEW:  # otherwise they are computed anew for each matrix
        mf.with_df.build()
    if level is not None or all_electron(basis):
        mf.grids.level = ALL_ELECTRON_LEVEL if level is None else level
    elif for_forces:
        mf.grids.atom_grid, mf.grids.radii_adjust = POINTS, None
    else:
        mf.grids = turned_grids(mol)
    with warnings.catch_warnings():  # about integrals that PySCF calls experimental
        warnings.filterwarnings("ignore", "Function int1e_r[24]_origi", UserWarning)
        hcore = mf.get_hcore()
    mf.get_hcore = lambda *_: hcore
    return mf


def converge(
    structure: Structure,
    basis: str = AUGMENTED,
    recipe: Recipe = Recipe(),
    *,
    about: Density | None = None,
    ghosts: Structure | None = None,
    dm0: np.ndarray | None = None,
    conv_tol: float = CONVERGED,
    for_forces: bool = False,
    level: int | None = None,
) -> MolecularResult:
    """Converge the Kohn-Sham equations of a molecule in open space.

    Parameters
    ----------
    structure, basis, recipe, ghosts
        As in `build_molecule`; unpaired electrons are spin-polarised.
    about : Density, optional
        A prediction of the default model for the structure: the start. Without a spin density,
        both spins have the same orbitals in it. Otherwise, and for densities that are not known
        between their nodes, PySCF's `minao` guess, and with all electrons too.
    dm0 : (nao, nao) or (2, nao, nao) float, optional
        Density matrix to start from instead.
    conv_tol : float
        Change of the energy in the last cycle, hartree; the gradient of the orbitals is below its
        square root.
    for_forces : bool
        On the points of `denser.dft.atom_points`, which move with the atoms and keep their
        orientation in space, as `energy_gradient` needs.
    level : int, optional
        Take PySCF's grids of this level. Those of level 0 have a fifth of the points; an energy
        is then off by 1 to 3 millihartree, a polarizability by 0.1 % (of water by 0.25 %).

    Raises
    ------
    InputError
        As in `build_molecule`; `NotConverged` if the calculation does not converge.
    """
    start = time.perf_counter()
    mf = molecular_mean_field(structure, basis, recipe, ghosts, for_forces=for_forces, level=level)
    mf.conv_tol = conv_tol
    if all_electron(basis):
        about = None
    if dm0 is None and about is not None and about.continuous is not None:
        known = about.continuous
        linear = linearised(mf.mol, known, structure, recipe.xc)
        fock = linear.matrix
        if structure.spin:
            spins = spin_matrices(mf.mol, linear, known, recipe.xc)
            fock = np.stack([fock, fock]) if spins is None else spins
        x = mf.check_linear_dependency(mf.get_ovlp())
        energy, orbitals = mf.eig(fock, None, x=x)
        dm0 = mf.make_rdm1(orbitals, mf.get_occ(energy, orbitals))
    mf.kernel(dm0)
    if not mf.converged:
        charge = f" with charge {structure.charge:+d}" if structure.charge else ""
        raise NotConverged(
            f"the calculation of {structure.formula}{charge} in {basis} has not converged in "
            f"{MAX_CYCLE} cycles"
        )
    coefficients = np.asarray(mf.mo_coeff)
    dm = np.asarray(mf.make_rdm1())
    return MolecularResult(
        e_tot=float(mf.e_tot),
        mo_energy=np.asarray(mf.mo_energy),
        mo_occ=np.asarray(mf.mo_occ),
        mo_coeff=coefficients,
        dm=dm,
        dipole=dipole_of(mf.mol, structure, dm.reshape(-1, *dm.shape[-2:])),
        cycles=int(mf.cycles),
        removed=coefficients.shape[-2] - coefficients.shape[-1],
        basis=basis,
        mf=mf,
        seconds=time.perf_counter() - start,
    )


def energy_gradient(result: MolecularResult) -> np.ndarray:
    """Derivative of the energy of `converge(..., for_forces=True)` (n_atoms, 3), hartree/bohr.

    PySCF's, with the change of the points and of the fitting functions.
    """
    slope = result.mf.nuc_grad_method()
    slope.grid_response, slope.verbose = True, 0
    with warnings.catch_warnings():  # as above
        warnings.filterwarnings("ignore", "Function int1e_", UserWarning)
        return np.asarray(slope.kernel())


def lowest_state(
    structure: Structure, basis: str = AUGMENTED, recipe: Recipe = Recipe()
) -> tuple[MolecularResult, tuple[float, ...]]:
    """Converge an open shell twice, the second time with one electron excited at the start.

    Parameters
    ----------
    structure, basis, recipe
        As in `build_molecule`; with unpaired electrons.

    Returns
    -------
    MolecularResult
        Of the lower state.
    tuple of float
        Energies of the one or two states that were found, hartree, lowest first.

    Raises
    ------
    InputError
        As in `converge`.
    """
    first = converge(structure, basis, recipe)
    try:
        second = converge(structure, basis, recipe, dm0=excited(first))
    except NotConverged:
        return first, (first.e_tot,)
    return lower_of(first, second)


def dipole_of(mol: gto.Mole, structure: Structure, dm: np.ndarray) -> np.ndarray:
    """Dipole moment (3,) about the centre of nuclear charge, e bohr.

    `dm` are the density matrices of both spins, or of all electrons (2 or 1, nao, nao).
    """
    centre = structure.nuclear_charge_centre
    with mol.with_common_origin(centre):
        electrons = np.einsum("xpq,sqp->x", mol.intor_symmetric("int1e_r", comp=3), dm)
    return mol.atom_charges() @ (mol.atom_coords() - centre) - electrons


def removed_text(result: MolecularResult) -> str:
    """A sentence if functions were left out."""
    n = result.removed
    if not n:
        return ""
    return (
        f"{n} of {len(result.mo_coeff[-1])} directions of the basis {result.basis} are nearly "
        "linearly dependent and were left out"
    )
