"""Self-consistent Kohn-Sham calculations, the reference for models."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from pyscf.pbc.dft import rks, uks

from denser.atoms.sad import valence_charges
from denser.dft.cell import build_cell, require_electrons, require_fitting_dm
from denser.dft.functionals import require_density_functional
from denser.dft.isolated import Isolation
from denser.dft.open_space import open_space
from denser.dft.pyscf_private import density_on_mesh, multigrid_rks, multigrid_uks
from denser.io.structures import as_structure
from denser.types.density import Density
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure

SAME_STATE = 1e-5
"""States of an open shell whose energies differ by less than this (hartree) count as one."""


class HasEnergy(Protocol):
    """A calculation with an energy, hartree."""

    @property
    def e_tot(self) -> float: ...  # noqa: D102


State = TypeVar("State", bound=HasEnergy)


class FrontierOrbitals:
    """Orbitals with their energies and occupations: HOMO, LUMO and gap."""

    mo_energy: np.ndarray
    mo_occ: np.ndarray
    mo_coeff: np.ndarray

    @property
    def homo(self) -> float:
        """Energy of the highest occupied orbital, hartree."""
        return float(self.mo_energy[self.mo_occ > 0].max())

    @property
    def lumo(self) -> float:
        """Energy of the lowest empty orbital, hartree."""
        return float(self.mo_energy[self.mo_occ == 0].min())

    @property
    def gap(self) -> float:
        """LUMO minus HOMO, hartree."""
        return self.lumo - self.homo


@dataclass(frozen=True, eq=False)
class KSResult(FrontierOrbitals):
    """A Kohn-Sham calculation, in PySCF's names and order of basis functions.

    For unpaired electrons the arrays have a first axis of length 2, for the two spins.

    Parameters
    ----------
    e_tot : float
        Total energy of the cell, hartree.
    mo_energy : (nmo,) float
        Orbital energies, hartree; relative to the vacuum for an isolated molecule. In a periodic
        box they have no absolute zero.
    mo_occ : (nmo,) float
        Occupations, 2 or 0; 1 or 0 for unpaired electrons.
    mo_coeff : (nao, nmo) float
        Orbitals in columns; nmo is nao minus the number of linear dependences of the basis.
    dm : (nao, nao) float
        Density matrix of the occupied orbitals.
    cycles : int
        Fock builds, without the one for the starting density.
    converged : bool
    seconds : float
        Wall time, including the set-up.
    s_squared : float
        Expectation value of S^2; S (S + 1) without contamination by other spins.
    """

    e_tot: float
    mo_energy: np.ndarray
    mo_occ: np.ndarray
    mo_coeff: np.ndarray
    dm: np.ndarray
    cycles: int
    converged: bool
    seconds: float
    s_squared: float = 0.0

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        return f"KSResult({self.e_tot:.6f} hartree, {state}, {self.cycles} cycles)"


def mean_field(
    structure: Structure,
    grid: Grid,
    recipe: Recipe = Recipe(),
    *,
    isolated: bool = False,
    about: Density | None = None,
) -> rks.RKS | uks.UKS:
    """Return PySCF's Kohn-Sham object at Gamma with multigrid integration.

    Closed shells are restricted, structures with unpaired electrons are spin-polarised.

    Parameters
    ----------
    structure : Structure
    grid : Grid
    recipe : Recipe
    isolated : bool
        For a molecule on its own: remove the interaction with the periodic images and with the
        background of an ion (`denser.dft.isolated`). The labels have it.
    about : Density, optional
        On `grid`. For an isolated closed shell and a density that is known between the nodes (a
        prediction of the default model): what is of first order in the difference from it is
        computed in open space (`denser.dft.open_space`). The energy then hardly depends on the
        place of the atoms on the grid.

    Raises
    ------
    InputError
        As in `denser.dft.cell.build_cell`; or the functional is unknown or neither an LDA nor a
        GGA.
    """
    require_density_functional(recipe.xc)
    isolation = Isolation(structure, valence_charges(structure), grid) if isolated else None
    make = multigrid_uks if structure.spin else multigrid_rks
    mf = make(build_cell(structure, grid, recipe), recipe.xc, isolation)
    if isolated and not structure.spin and about is not None and about.continuous is not None:
        mf.open_space = open_space(mf, about)
    return mf


def scf(
    structure: Any,
    grid: Grid | None = None,
    recipe: Recipe = Recipe(),
    conv_tol: float = 1e-9,
    max_cycle: int = 50,
    dm0: np.ndarray | None = None,
    *,
    isolated: bool = False,
    about: Density | None = None,
) -> KSResult:
    """Converge the Kohn-Sham equations at the recipe's level of theory.

    Gaussian and plane waves: orbitals in Gaussians, density and potentials on `grid`, whose
    box is periodic, at the Gamma point.

    Parameters
    ----------
    structure : Structure, ase.Atoms, file name or SMILES
    grid : Grid, optional
        Default: `Grid.periodic` for a structure with a cell, otherwise `Grid.around`.
    recipe : Recipe
    conv_tol : float
        Change of the energy between cycles, hartree.
    max_cycle : int
    dm0 : (nao, nao) or (2, nao, nao) float, optional
        Density matrix to start from (with two spins for unpaired electrons); default PySCF's
        `minao` guess.
    isolated, about
        As in `mean_field`.

    Returns
    -------
    KSResult
        It may not have converged: check `converged`.

    Raises
    ------
    InputError
        As in `mean_field`; or `dm0` does not fit the basis, or the basis does not fit the
        crystal (`require_electrons`).
    """
    start = time.perf_counter()
    structure = as_structure(structure)
    if grid is None:
        make = Grid.around if structure.cell is None else Grid.periodic
        grid = make(structure, spacing=recipe.spacing)
    mf = mean_field(structure, grid, recipe, isolated=isolated, about=about)
    mf.conv_tol = conv_tol
    mf.max_cycle = max_cycle
    if dm0 is not None:
        require_fitting_dm(mf.cell, dm0)
    mf.kernel(dm0)
    if structure.cell is not None:
        require_electrons(mf.cell, density_on_mesh(mf, mf.make_rdm1()))
    e_tot, known = float(mf.e_tot), mf.open_space
    if known is not None:
        occupied = mf.mo_coeff[:, mf.mo_occ > 0]
        change = density_on_mesh(mf, mf.make_rdm1()) - known.rho
        e_tot = known.energy_of(occupied, change, mf)
    return KSResult(
        e_tot=e_tot,
        mo_energy=mf.mo_energy,
        mo_occ=mf.mo_occ,
        mo_coeff=mf.mo_coeff,
        dm=np.asarray(mf.make_rdm1()),
        cycles=int(mf.cycles),
        converged=bool(mf.converged),
        seconds=time.perf_counter() - start,
        s_squared=s_squared(mf) if structure.spin else 0.0,
    )


def not_converged(structure: Structure, result: KSResult) -> str:
    """Say that the SCF of a structure did not converge, and what to do."""
    return (
        f"the SCF of {structure.formula} did not converge in {result.cycles} cycles, so its energy "
        f"and density are no results; check the spin (--spin, here {structure.spin}), the charge "
        "and the geometry"
    )


def other_state(
    structure: Structure, grid: Grid, recipe: Recipe, result: KSResult, max_cycle: int = 50
) -> KSResult:
    """Converge again from the orbitals of an open shell with one electron excited (`excited`).

    The SCF finds the same state again, or another one, whose energy may be lower.

    Parameters
    ----------
    structure, grid, recipe
        Of `result`.
    result : KSResult
        Of an open shell.
    max_cycle : int
    """
    return scf(structure, grid, recipe, max_cycle=max_cycle, dm0=excited(result))


def excited(result: FrontierOrbitals) -> np.ndarray:
    """Density matrices (2, nao, nao) of an open shell with one electron excited.

    The electron goes from the highest occupied to the lowest empty orbital of the spin with the
    smaller gap.
    """
    n_occupied = np.count_nonzero(result.mo_occ > 0, axis=1)
    energy = result.mo_energy
    gaps = [e[n] - e[n - 1] if n else np.inf for e, n in zip(energy, n_occupied, strict=True)]
    spin = int(np.argmin(gaps))
    n = n_occupied[spin]
    occupied = [list(range(k)) for k in n_occupied]
    occupied[spin][-1] = n
    return np.array(
        [c[:, own] @ c[:, own].T for c, own in zip(result.mo_coeff, occupied, strict=True)]
    )


def lower_of(first: State, second: State) -> tuple[State, tuple[float, ...]]:
    """The state of lower energy, and the energies, lowest first; one if they are the same."""
    if abs(second.e_tot - first.e_tot) < SAME_STATE:
        return first, (first.e_tot,)
    low, high = sorted([first, second], key=lambda found: found.e_tot)
    return low, (low.e_tot, high.e_tot)


def s_squared(mf: Any) -> float:
    """<S^2> of PySCF's spin-polarised calculation.

    S_z (S_z + 1) + N_beta - sum_ij |<i alpha|j beta>|^2 over occupied orbitals.
    """
    alpha, beta = (c[:, occ > 0] for c, occ in zip(mf.mo_coeff, mf.mo_occ, strict=True))
    overlap = alpha.T @ np.asarray(mf.get_ovlp()) @ beta
    s_z = 0.5 * (alpha.shape[1] - beta.shape[1])
    return float(s_z * (s_z + 1) + beta.shape[1] - np.sum(overlap**2))
