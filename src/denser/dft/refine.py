"""Improvement of a predicted density by Kohn-Sham steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from pyscf import lib
from pyscf.pbc.dft import rks

from denser.dft.one_step import (
    EffectivePotential,
    OneStep,
    check_density,
    eigenstates,
    on_recipe_grid,
    one_step,
    polarisation,
    resampled,
)
from denser.dft.open_space import box_spacing
from denser.dft.scf import FrontierOrbitals
from denser.fields.fourier import resample, squared_wave_numbers
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.units import HARTREE

UNCERTAINTY = 0.25
"""Share of E_KS - E_Harris; nine of ten errors are below it."""

UNCERTAINTY_FLOOR = 0.1e-3 / HARTREE
"""Hartree, added in quadrature. E_KS - E_Harris = <R|K|R>/2 has a Hartree part above zero and a
part of exchange and correlation below it; if they cancel, it does not indicate the error."""

REMAINS = 0.3
"""Err_rho that a step leaves, as a share of the change by this step. Measured by
`benchmarks/one_step.py`."""


@dataclass(frozen=True, eq=False)
class Refined(FrontierOrbitals):
    """A density after Kohn-Sham steps, with its orbitals and energy.

    For unpaired electrons the arrays have a first axis of length 2, for the two spins.

    Parameters
    ----------
    density : Density
        On the grid of the calculation, in open space on that of the given density; exactly N_e
        electrons, no negative values; with a spin density if electrons are unpaired.
    e_tot : float
        Estimate of the self-consistent energy, hartree.
    uncertainty : float
        The error of `e_tot` is below this in nine of ten cases, hartree; at least
        `UNCERTAINTY_FLOOR`.
    mo_energy, mo_occ : (nmo,) float
        Of the potential after the last step, hartree; occupations 2 or 0, or 1 or 0 of each spin.
    mo_coeff : (nao, nmo) float
        Orbitals in columns, in PySCF's order; nmo is nao less the linear dependences of the basis.
    dm : (nao, nao) float
        Their density matrix.
    steps : tuple of OneStep
        All steps; the first one started from the given density.
    error_before, error_after : float
        Estimated Err_rho of the density before the steps and of the refined one, fractions: the
        change by all steps, and `REMAINS` of the change by the last one.
    seconds : float
        Wall time.
    """

    density: Density
    e_tot: float
    uncertainty: float
    mo_energy: np.ndarray
    mo_occ: np.ndarray
    mo_coeff: np.ndarray
    dm: np.ndarray
    steps: tuple[OneStep, ...]
    error_before: float
    error_after: float
    seconds: float

    def __repr__(self) -> str:
        formula, n = self.density.structure.formula, len(self.steps)
        return f"Refined({formula}, {self.e_tot:.6f} hartree, {n} step{'s' if n > 1 else ''})"


def refine(
    density: Density,
    recipe: Recipe = Recipe(),
    steps: int = 1,
    *,
    mf: rks.RKS | None = None,
    isolated: bool = False,
    earlier: tuple[OneStep, ...] = (),
) -> Refined:
    """Improve a density by Kohn-Sham steps.

    rho <- rho + (1 - chi V)^-1 (rho_out - rho)

    with chi the local response of `denser.dft.local_response` and V the Coulomb kernel. From the
    second step on, the result is that affine combination of all steps so far whose residual
    rho_out - rho has the least Coulomb energy (Pulay 1980). A spin density becomes the output of
    the step with its share of the local response, and counts in the residual like the density.
    Each step costs about a cycle and a half of a self-consistent calculation. The orbitals are
    those in the potential of the refined density, which costs one more matrix and diagonalisation.

    Parameters
    ----------
    density : Density
        As in `one_step`.
    recipe : Recipe
    steps : int
        At least one.
    mf : pyscf.pbc.dft.rks.RKS, optional
        As in `one_step`.
    isolated : bool
        As in `one_step`.
    earlier : tuple of OneStep
        Steps that led to this density, to continue from them: `refined.density, steps=1,
        earlier=refined.steps`.

    Returns
    -------
    Refined

    Raises
    ------
    InputError
        As in `one_step`; or `steps` is below 1.
    """
    start = time.perf_counter()
    if steps < 1:
        raise InputError(f"refining takes at least one step, found {steps}")
    done = list(earlier)
    given = density
    if mf is None and done:
        mf = done[-1].mf
        density = _positive(resampled(density, done[-1].density.grid.shape), density)
    elif mf is None and isolated and density.continuous is not None and not given.structure.spin:
        # what is left to the box is of second order, for which a coarser grid suffices
        recipe = replace(recipe, spacing=box_spacing(density.structure, recipe))
        check_density(density)
        density = _positive(on_recipe_grid(density, recipe), density)
    first = density
    for _ in range(steps):
        done.append(one_step(density, recipe, mf=mf, isolated=isolated))
        mf = done[-1].mf
        density = _next_density(done)
    step = done[-1]
    mf = step.mf
    on_a_coarser_grid = given.continuous is not None and first is not given
    mo_energy, mo_coeff = eigenstates(mf, EffectivePotential.of(mf, density).fock(mf))
    mo_occ = np.asarray(mf.get_occ(mo_energy, mo_coeff))
    return Refined(
        density=_changed(given, density, first) if on_a_coarser_grid else density,
        e_tot=step.e_tot,
        uncertainty=float(np.hypot(UNCERTAINTY * (step.e_ks - step.e_harris), UNCERTAINTY_FLOOR)),
        mo_energy=mo_energy,
        mo_occ=mo_occ,
        mo_coeff=mo_coeff,
        dm=np.asarray(mf.make_rdm1(mo_coeff, mo_occ)),
        steps=tuple(done),
        error_before=_distance(density, done[0].density_in),
        error_after=REMAINS * _distance(density, step.density_in),
        seconds=time.perf_counter() - start,
    )


def _next_density(steps: list[OneStep]) -> Density:
    """Density after the steps; no value is negative, all and unpaired electrons are exact."""
    density, weights = steps[-1].density_in, pulay_weights(steps)
    out = density.with_values(_exact(next_values(steps, weights), density))
    if density.spin_density is None:
        return out
    m = _combine([_next_spin(step) for step in steps], weights)
    return out.with_spin_density(m * (density.structure.spin / (m.sum() * density.grid.dv)))


def _next_spin(step: OneStep) -> np.ndarray:
    """Spin density after a step (nx, ny, nz): its output with its share of the local response."""
    assert step.density.spin_density is not None
    added = step.density_in.values + step.change - step.density.values
    return step.density.spin_density.values + polarisation(step.density_in) * added


def _distance(a: Density, b: Density) -> float:
    """sum_r |a - b| dv / N_e of densities on one grid."""
    return float(np.abs(a.values - b.values).sum() * a.grid.dv / a.n_electrons)


def _changed(given: Density, after: Density, before: Density) -> Density:
    """A density plus the difference of two on another grid of the same box."""
    if after.grid.shape == given.grid.shape:
        return after
    values = given.values + resample(after.values - before.values, given.grid.shape)
    return given.with_values(_exact(values, given))


def _positive(resampled: Density, density: Density) -> Density:
    """A resampled density without the negative values of an interpolation from a coarse grid."""
    if resampled is density:
        return density
    out = resampled.with_values(_exact(resampled.values, resampled))
    if density.continuous is not None:
        out = out.known_between_nodes(density.continuous)
    if resampled.spin_density is not None:
        out = out.with_spin_density(resampled.spin_density.values)
    return out


def _exact(values: np.ndarray, density: Density) -> np.ndarray:
    """Values without negative ones, with the electrons of a density on the same grid."""
    values = np.maximum(values, 0.0)
    return values * (density.n_electrons / (values.sum() * density.grid.dv))


def next_values(steps: list[OneStep], weights: np.ndarray) -> np.ndarray:
    """Input of the next step (nx, ny, nz), e/bohr^3, from all steps so far."""
    return _combine([step.density_in.values + step.change for step in steps], weights)


def _residuals(steps: list[OneStep]) -> list[list[np.ndarray]]:
    """Of the density of each step and, with unpaired electrons, of the spin density."""
    found = []
    for step in steps:
        pairs = [(step.density, step.density_in)]
        if step.density.spin_density is not None and step.density_in.spin_density is not None:
            pairs.append((step.density.spin_density, step.density_in.spin_density))
        found.append([out.values - start.values for out, start in pairs])
    return found


def _combine(fields: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    return sum(w * field.astype(float) for w, field in zip(weights, fields, strict=True))


def pulay_weights(steps: list[OneStep]) -> np.ndarray:
    """Weights (n,) with sum one that minimise the Coulomb energy of the combined residual."""
    n = len(steps)
    if n == 1:
        return np.ones(1)
    workers = lib.num_threads()
    g = np.sqrt(squared_wave_numbers(steps[-1].density.grid))
    waves = [
        np.stack([scipy.fft.rfftn(r, workers=workers) / g for r in both])
        for both in _residuals(steps)
    ]
    # The waves of +-k_z are one entry, except on the first plane (and a negligible last).
    for wave in waves:
        wave[..., 1:] *= np.sqrt(2.0)
    overlaps = np.array([[np.vdot(a, b).real for b in waves] for a in waves])
    # Bordered for the constraint, and scaled, because residuals differ by orders of magnitude.
    matrix = np.ones((n + 1, n + 1))
    matrix[:n, :n] = overlaps / overlaps[-1, -1]
    matrix[n, n] = 0.0
    return np.linalg.lstsq(matrix, np.append(np.zeros(n), 1.0), rcond=1e-14)[0][:n]
