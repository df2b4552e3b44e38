"""Derivatives of the energies with respect to the atoms, on a grid that stays where it is.

All are exact derivatives of energies as they are computed, on the finite grid and in the finite
basis. What a moving grid would do is no part of them: see `docs/forces.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from pyscf import lib
from pyscf.pbc.dft import rks
from pyscf.pbc.dft.multigrid import MultiGridNumInt2, multigrid_pair
from pyscf.pbc.grad import rhf as rhf_grad
from pyscf.pbc.gto.pseudo import pp_int

from denser.dft.one_step import (
    SCREENING,
    XC_CUTOFF,
    OneStep,
    core_hamiltonian,
    derivative_wave_numbers,
    hartree_xc,
    potential_matrix,
    screened,
    wave_numbers,
)
from denser.dft.scf import KSResult, mean_field
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure

_GAMMA = np.zeros((1, 3))


@dataclass(frozen=True, eq=False)
class StepGradient:
    """Derivative of the energy of one Kohn-Sham step, but for how the input density moves.

    dE/dR = explicit + integral response(r) d rho_in(r)/dR dr

    Parameters
    ----------
    explicit : (n_atoms, 3) float
        With the input density's values on the grid held fixed, hartree/bohr.
    response : (nx, ny, nz) float
        Functional derivative of the energy with respect to the input density, hartree. It
        vanishes where the input density is self-consistent.
    """

    explicit: np.ndarray
    response: np.ndarray


def scf_gradient(
    structure: Structure, grid: Grid, result: KSResult, recipe: Recipe = Recipe()
) -> np.ndarray:
    """Derivative of the self-consistent energy (n_atoms, 3), hartree/bohr.

    Hellmann-Feynman terms of the pseudopotentials, the Pulay terms of the basis and the
    nuclear repulsion; the forces are its negative. The error is linear in how far `result` is
    from self-consistency.

    Parameters
    ----------
    structure, grid, recipe
        Those of `denser.dft.scf.scf`.
    result : KSResult
        Converged.

    Raises
    ------
    InputError
        The calculation has not converged.
    """
    if not result.converged:
        raise InputError(
            f"the SCF of {structure.formula} has not converged, so its energy has no derivative "
            "yet; raise max_cycle or start from another density"
        )
    mf = mean_field(structure, grid, recipe)
    core_hamiltonian(mf)  # makes the long-ranged pseudopotential
    rho = mf._numint.get_rho(mf.cell, result.dm, None).reshape(grid.shape)
    v = hartree_xc(mf._numint, mf.xc, rho)[0]
    occupied = result.mo_occ > 0
    c = result.mo_coeff[:, occupied]
    weighted = 2 * (c * result.mo_energy[occupied]) @ c.T
    return _contract(mf, [(result.dm, v)], weighted) + rhf_grad.grad_nuc(mf.cell)


def harris_gradient(step: OneStep) -> StepGradient:
    """Derivative of `step.e_harris`, the Harris-Foulkes energy of the input density.

    Its response is K_in (rho_out - rho_in), with K_in the kernel of Hartree, exchange and
    correlation at the input density.
    """
    residual = step.density.values - step.density_in.values
    return _gradient(step, step.potential_in, _kernel(step, step.density_in, residual))


def ks_gradient(step: OneStep) -> StepGradient:
    """Derivative of `step.e_ks`, the Kohn-Sham energy of the output orbitals."""
    return _gradient(step, step.potential, np.zeros(step.potential.shape))


def mixed_gradient(step: OneStep) -> StepGradient:
    """Derivative of `step.e_mixed`, (2 E_Harris + E_KS)/3.

    The errors of both forces, of second order in the density's, stand nearly as 1 to -2 too.
    """
    residual = step.density.values - step.density_in.values
    v = (2 * step.potential_in + step.potential) / 3
    return _gradient(step, v, _kernel(step, step.density_in, residual) * (2 / 3))


def step_gradient(step: OneStep) -> StepGradient:
    """Derivative of `step.e_tot`, the recommended estimate.

    E = E_KS + <S R|v_out - v_in>/2, with R = rho_out - rho_in and S the (symmetric) screening
    less one, see `denser.dft.one_step`. To first order in changes of the two densities

    dE = dE_KS + <w_out|d rho_out> - <w_in|d rho_in>, w = (S (v_out - v_in) + K S R)/2,

    each w with the kernel K at its own density.
    """

    def less_one(field: np.ndarray) -> np.ndarray:
        return screened(field, step.density.grid, *SCREENING) - field

    s_r = less_one(step.density.values - step.density_in.values)
    s_v = less_one(step.potential - step.potential_in)
    w_out = 0.5 * (s_v + _kernel(step, step.density, s_r))
    w_in = 0.5 * (s_v + _kernel(step, step.density_in, s_r))
    return _gradient(step, step.potential + w_out, -w_in)


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
    mf, ni = step.mf, step.mf._numint
    occupied = step.mo_occ > 0
    c, e = step.mo_coeff[:, occupied], step.mo_energy[occupied]
    empty, e_empty = step.mo_coeff[:, ~occupied], step.mo_energy[~occupied]
    change = (potential_matrix(ni, v) - potential_matrix(ni, step.potential_in)) @ c
    z = (empty.T @ change) / (e - e_empty[:, None])  # (a, i)
    half = 2 * empty @ z @ c.T
    dm_change = half + half.T
    weighted = 2 * empty @ (z * e) @ c.T
    weighted = weighted + weighted.T + 2 * c @ (np.diag(e) + c.T @ change) @ c.T
    explicit = _contract(mf, [(step.dm, v), (dm_change, step.potential_in)], weighted)
    moved = ni.get_rho(mf.cell, dm_change, None).reshape(v.shape)
    return StepGradient(
        explicit=explicit + rhf_grad.grad_nuc(mf.cell),
        response=direct + _kernel(step, step.density_in, moved),
    )


def _kernel(step: OneStep, density: Density, change: np.ndarray) -> np.ndarray:
    return kernel_product(step.mf._numint, step.mf.xc, density.values, change)


def kernel_product(
    ni: MultiGridNumInt2, xc: str, rho: np.ndarray, change: np.ndarray
) -> np.ndarray:
    """First-order change of the Hartree and exchange-correlation potential, hartree.

    K_Hxc d(r) = integral d(r')/|r - r'| dr' + integral f_xc[rho](r, r') d(r') dr', the
    derivative of `denser.dft.one_step.hartree_xc`.

    Parameters
    ----------
    ni : MultiGridNumInt2
        Its cell is orthorhombic.
    xc : str
        LDA or GGA.
    rho, change : (nx, ny, nz) float
        Where the kernel is taken, and d; e/bohr^3.

    Returns
    -------
    (nx, ny, nz) float
    """
    rho, change = np.asarray(rho, dtype=float), np.asarray(change, dtype=float)
    workers = lib.num_threads()
    g = wave_numbers(np.diag(ni.cell.lattice_vectors()), rho.shape)
    g_odd = derivative_wave_numbers(g, rho.shape)

    def back(field_g: np.ndarray) -> np.ndarray:
        return scipy.fft.irfftn(field_g, s=rho.shape, workers=workers)

    g2 = g[0] ** 2 + g[1] ** 2 + g[2] ** 2
    g2[0, 0, 0] = np.inf
    change_g = scipy.fft.rfftn(change, workers=workers)
    v = back(4 * np.pi * change_g / g2)
    here = rho > XC_CUTOFF
    kind = ni._xc_type(xc)
    fields, moved = [rho[here]], [change[here]]
    if kind == "GGA":
        rho_g = scipy.fft.rfftn(rho, workers=workers)
        fields += [back(1j * k * rho_g)[here] for k in g_odd]
        moved += [back(1j * k * change_g)[here] for k in g_odd]
    f_xc = ni.eval_xc_eff(xc, np.stack(fields), deriv=2, xctype=kind)[2]
    f_xc = np.asarray(f_xc).reshape(len(fields), len(fields), -1)
    w = np.einsum("xyg,yg->xg", f_xc, np.stack(moved))
    v[here] += w[0]
    for k, part in zip(g_odd, w[1:], strict=False):
        field = np.zeros_like(rho)
        field[here] = part
        v -= back(1j * k * scipy.fft.rfftn(field, workers=workers))
    return v


def _contract(
    mf: rks.RKS, pairs: list[tuple[np.ndarray, np.ndarray]], weighted: np.ndarray
) -> np.ndarray:
    """Derivative of sum_k tr D_k (h + V[v_k]) - tr W S with D_k, v_k and W fixed (n_atoms, 3).

    h is the kinetic energy and the pseudopotential; `pairs` holds density matrices D_k and
    potentials v_k on the grid, `weighted` is W.
    """
    cell, ni = mf.cell, mf._numint
    weight = cell.vol / np.prod(cell.mesh)
    total = sum(dm for dm, _ in pairs)
    ni.rhoG = None  # a density that PySCF keeps from an earlier derivative
    gradient = ni.vpploc_part1_nuc_grad(total, kpts=_GAMMA)
    gradient += pp_int.vpploc_part2_nuc_grad(cell, total)
    gradient += pp_int.vppnl_nuc_grad(cell, total)
    gradient -= 2 * rhf_grad._contract_vhf_dm(mf, cell.pbc_intor("int1e_ipkin"), total)
    gradient += 2 * rhf_grad._contract_vhf_dm(mf, cell.pbc_intor("int1e_ipovlp"), weighted)
    for dm, v in pairs:
        v_g = scipy.fft.fftn(v, workers=lib.num_threads()).ravel() * weight
        moved = multigrid_pair._get_j_pass2_ip1(ni, v_g + ni.vpplocG_part1, kpts=_GAMMA)[0]
        gradient -= 2 * rhf_grad._contract_vhf_dm(mf, moved, dm)
    return gradient
