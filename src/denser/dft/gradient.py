"""Derivatives of the energies with respect to the atoms, on a fixed grid.

They are exact derivatives of the computed energies, on the finite grid and in the finite basis.
They do not include the effect of a moving grid: see `docs/forces.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pyscf.pbc.dft import rks

from denser.atoms.sad import require_closed_shell
from denser.dft.isolated import kernel, potential_and_energy
from denser.dft.local_response import LocalResponse
from denser.dft.one_step import OneStep
from denser.dft.pyscf_private import (
    contract_by_atom,
    density_on_mesh,
    nuclear_repulsion_gradient,
    potential_matrix,
    potential_matrix_slope,
    pseudopotential_gradient,
)
from denser.dft.scf import KSResult, mean_field
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure


@dataclass(frozen=True, eq=False)
class StepGradient:
    """Derivative of the energy of one Kohn-Sham step, without the change of the input density.

    dE/dR = explicit + integral response(r) d rho_in(r)/dR dr

    Parameters
    ----------
    explicit : (n_atoms, 3) float
        Derivative with fixed values of the input density on the grid, hartree/bohr.
    response : (nx, ny, nz) float
        Functional derivative of the energy with respect to the input density, hartree. It
        vanishes where the input density is self-consistent.
    """

    explicit: np.ndarray
    response: np.ndarray


def scf_gradient(
    structure: Structure,
    grid: Grid,
    result: KSResult,
    recipe: Recipe = Recipe(),
    *,
    isolated: bool = False,
) -> np.ndarray:
    """Derivative of the self-consistent energy (n_atoms, 3), hartree/bohr.

    Hellmann-Feynman terms of the pseudopotentials, the Pulay terms of the basis and the
    nuclear repulsion; the forces are its negative. The error is linear in the deviation of
    `result` from self-consistency.

    Parameters
    ----------
    structure, grid, recipe, isolated
        Those of `denser.dft.scf.scf`.
    result : KSResult
        Converged.

    Raises
    ------
    InputError
        The calculation has not converged, or the structure has unpaired electrons.
    """
    if not result.converged:
        raise InputError(
            f"the SCF of {structure.formula} has not converged, so there is no derivative of its "
            "energy; raise max_cycle or start from another density"
        )
    require_closed_shell(structure, "forces")
    mf = mean_field(structure, grid, recipe, isolated=isolated)
    rho = density_on_mesh(mf, result.dm)
    v = potential_and_energy(mf, rho, grid)[0]
    occupied = result.mo_occ > 0
    c = result.mo_coeff[:, occupied]
    weighted = 2 * (c * result.mo_energy[occupied]) @ c.T
    return _contract(mf, [(result.dm, v)], weighted) + _nuclear_gradient(mf, rho)


def mixed_gradient(step: OneStep) -> StepGradient:
    """Derivative of `step.e_mixed`, (2 E_Harris + E_KS)/3.

    The errors of both forces are of second order in that of the density, and their ratio is nearly
    1 to -2 too.
    """
    residual = step.density.values - step.density_in.values
    v = (2 * step.potential_in + step.potential) / 3
    return _gradient(step, v, _kernel(step, step.density_in)(residual) * (2 / 3))


def step_gradient(step: OneStep) -> StepGradient:
    """Derivative of `step.e_tot`, the recommended estimate.

    E = E_KS + <x - R|D>/2 with R = rho_out - rho_in, D = v_out - v_in and x = (1 - chi V)^-1 R;
    chi is a functional of rho_in (`denser.dft.local_response`). With u = (1 - V chi)^-1 D

    dE = dE_KS + <u - D|dR>/2 + <x - R|dD>/2 + <u|d chi V x>/2.
    """
    residual = step.density.values - step.density_in.values
    d = step.potential - step.potential_in
    response = LocalResponse(step.density_in.values, step.density.grid)
    x = step.change
    u = response.screened_potential(d)
    by_potential = 0.5 * (x - residual)
    w_out = 0.5 * (u - d) + _kernel(step, step.density)(by_potential)
    w_in = 0.5 * (u - d) + _kernel(step, step.density_in)(by_potential)
    by_chi = 0.5 * response.chi_slope(u, response.coulomb(x))
    return _gradient(step, step.potential + w_out, by_chi - w_in)


def _gradient(step: OneStep, v: np.ndarray, direct: np.ndarray) -> StepGradient:
    """Derivative of an energy E = tr P h + f[rho_out, rho_in] + E_nuc of a step.

    P is the output density matrix and h the one-electron part. The occupied orbitals are
    eigenvectors in the potential v_in, so with v = df/drho_out their first-order change needs
    no iteration: F is the Fock matrix of v over the orbitals (occupied i, empty a), and
    Z_ai = F_ai / (e_i - e_a) multiplies the derivative of the Fock matrix of v_in.

    Parameters
    ----------
    step : OneStep
    v, direct : (nx, ny, nz) float
        df/drho_out, and df/drho_in with the output density held fixed; hartree.
    """
    require_closed_shell(step.density.structure, "forces")
    mf = step.mf
    if mf.open_space is not None:
        raise InputError(
            "there are no derivatives of energies in open space; take the step in a box: "
            "one_step(density, mf=mean_field(structure, grid, isolated=True))"
        )
    occupied = step.mo_occ > 0
    c, e = step.mo_coeff[:, occupied], step.mo_energy[occupied]
    empty, e_empty = step.mo_coeff[:, ~occupied], step.mo_energy[~occupied]
    change = (potential_matrix(mf, v) - potential_matrix(mf, step.potential_in)) @ c
    z = (empty.T @ change) / (e - e_empty[:, None])  # (a, i)
    half = 2 * empty @ z @ c.T
    dm_change = half + half.T
    weighted = 2 * empty @ (z * e) @ c.T
    weighted = weighted + weighted.T + 2 * c @ (np.diag(e) + c.T @ change) @ c.T
    explicit = _contract(mf, [(step.dm, v), (dm_change, step.potential_in)], weighted)
    moved = density_on_mesh(mf, dm_change)
    return StepGradient(
        explicit=explicit + _nuclear_gradient(mf, step.density.values + moved),
        response=direct + _kernel(step, step.density_in)(moved),
    )


def _kernel(step: OneStep, density: Density) -> Callable[[np.ndarray], np.ndarray]:
    """Kernel of Hartree, exchange and correlation at a density of the step."""
    return kernel(step.mf, density.values, density.grid)


def _nuclear_gradient(mf: rks.RKS, rho: np.ndarray) -> np.ndarray:
    """Derivative of nuclear repulsion and isolation with the density fixed (n_atoms, 3).

    That of isolation is linear in the density, so a change of the orbitals adds its own.
    """
    gradient = nuclear_repulsion_gradient(mf)
    return gradient if mf.isolation is None else gradient + mf.isolation.gradient(rho)


def _contract(
    mf: rks.RKS, pairs: list[tuple[np.ndarray, np.ndarray]], weighted: np.ndarray
) -> np.ndarray:
    """Derivative of sum_k tr D_k (h + V[v_k]) - tr W S with D_k, v_k and W fixed (n_atoms, 3).

    h is the kinetic energy and the pseudopotential; `pairs` contains density matrices D_k and
    potentials v_k on the grid, `weighted` is W.
    """
    cell = mf.cell
    total = sum((dm for dm, _ in pairs), np.zeros_like(weighted))
    gradient = pseudopotential_gradient(mf, total)
    gradient -= 2 * contract_by_atom(mf, cell.pbc_intor("int1e_ipkin"), total)
    gradient += 2 * contract_by_atom(mf, cell.pbc_intor("int1e_ipovlp"), weighted)
    for dm, v in pairs:
        gradient -= 2 * contract_by_atom(mf, potential_matrix_slope(mf, v), dm)
    return gradient
