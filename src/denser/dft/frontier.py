"""Frontier orbitals of a Kohn-Sham step: degenerate levels, added electrons."""

from __future__ import annotations

import copy

import numpy as np

from denser.dft.one_step import OneStep
from denser.dft.pyscf_private import core_hamiltonian, density_on_mesh
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError

DEGENERATE = 2e-3
"""Orbitals whose energies differ by less than this (hartree; 0.05 eV) are degenerate."""


def frontier_sets(step: OneStep) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the orbitals degenerate with the HOMO and with the LUMO."""
    e, occupied = np.asarray(step.mo_energy), np.asarray(step.mo_occ) > 0
    homo = np.flatnonzero(occupied & (e > step.homo - DEGENERATE))
    lumo = np.flatnonzero(~occupied & (e < step.lumo + DEGENERATE))
    return homo, lumo


def mean_orbital_density(step: OneStep, orbitals: np.ndarray) -> np.ndarray:
    """(1/n) sum_i |psi_i|^2 over n orbitals (nx, ny, nz), 1/bohr^3; integrates to one."""
    density = step.density
    structure = density.structure
    values = density_on_grid(
        structure.numbers, structure.positions, step.mo_coeff[:, orbitals], density.grid
    ).numpy()
    return values.astype(float) / (2 * len(orbitals))


def density_with(step: OneStep, electrons: int, conv_tol: float = 1e-7) -> Density:
    """Self-consistent density of the same atoms with `electrons` more (or fewer) electrons.

    Closed-shell Kohn-Sham with fractional occupations: the added or removed electrons are
    distributed equally over the orbitals of the frontier level, half of them with each spin. Spin
    polarisation is neglected, and a uniform background charge neutralises the box.

    Parameters
    ----------
    step : OneStep
        Its orbitals are the start.
    electrons : int
    conv_tol : float
        hartree.

    Raises
    ------
    InputError
        The SCF does not converge.
    """
    mf = copy.copy(step.mf)
    hcore = core_hamiltonian(mf)
    mf.get_hcore = lambda *_: hcore
    n_electrons = round(float(np.sum(step.mo_occ))) + electrons
    mf.get_occ = lambda mo_energy=None, mo_coeff=None: _occupations(mo_energy, n_electrons)
    mf.conv_tol, mf.max_cycle = conv_tol, 60
    occ = _occupations(np.asarray(step.mo_energy), n_electrons)
    mf.kernel((step.mo_coeff * occ) @ step.mo_coeff.T)
    if not mf.converged:
        raise InputError(
            f"the SCF of {step.density.structure.formula} with {electrons:+d} electrons has not "
            "converged; use the frontier orbitals instead"
        )
    return step.density.with_values(density_on_mesh(mf, mf.make_rdm1()))


def _occupations(mo_energy: np.ndarray, n_electrons: int) -> np.ndarray:
    """Fill from below; electrons of a partly filled level are shared by its degenerate orbitals."""
    e = np.asarray(mo_energy)
    occ = np.zeros(e.size)
    order = np.argsort(e, kind="stable")
    last = e[order[(n_electrons + 1) // 2 - 1]]
    level = np.abs(e - last) < DEGENERATE
    below = (e < last) & ~level
    occ[below] = 2.0
    occ[level] = (n_electrons - occ.sum()) / np.count_nonzero(level)
    return occ
