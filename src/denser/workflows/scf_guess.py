"""Self-consistent calculations that start from a predicted density."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from denser.analysis.continuous import ContinuousDensity
from denser.analysis.potential.electrostatics import Potential
from denser.analysis.potential.ewald import core_charge
from denser.atoms.free_atoms import free_atom
from denser.dft.guess import coarse_calculation, density_matrix, have_cores, structure_of
from denser.dft.refine import refine
from denser.dft.scf import mean_field
from denser.fields.fourier import poisson
from denser.fields.periodic import images_near, wrapped
from denser.model.predictor import Predictor
from denser.types.density import Density, Field
from denser.types.recipe import Recipe
from denser.types.units import BOHR

if TYPE_CHECKING:
    from denser.dft.guess import Sources
    from denser.model.checkpoint import Model
    from denser.types.structure import Structure

SPACING = 0.3 * BOHR
"""Of the predicted density, angstrom. A finer grid saves no cycles."""


def pyscf_guess(
    mf: Any,
    model: str | Model | Predictor = "default",
    padding: float = 4.0,
    *,
    coarse: bool = True,
) -> np.ndarray:
    """Starting density matrix for a PySCF calculation: `mf.kernel(denser.pyscf_guess(mf))`.

    The density is predicted, and the cores of free atoms complete it where the calculation has
    all electrons. Its Kohn-Sham matrix (PBE, whatever the functional of `mf`) is made in
    the basis of `mf`, and the lowest orbitals are occupied. The spins of an unrestricted open shell
    molecule have orbitals of their own if the model predicts its spin density. From there a
    coarse calculation of a molecule (`denser.dft.guess.coarse_calculation`) is converged, with the
    functional and basis of `mf`.

    Parameters
    ----------
    mf : RHF, RKS, UHF, UKS, ROHF or ROKS of PySCF
        A molecule, or a cell at the Gamma point, in any basis; all electrons, the model's
        pseudopotentials, or effective core potentials with the same number of electrons.
    model : str, Model or Predictor
    padding : float
        Vacuum around a molecule, angstrom.
    coarse : bool
        Without it, or where it does not converge, the start is that of the predicted density.

    Returns
    -------
    (nao, nao) float, or (2, nao, nao) for open shells

    Raises
    ------
    InputError
        k points, spinors, other pseudopotentials; and the errors of `denser.predict`.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    recipe = predictor.model.recipe
    density = _predicted(predictor, structure_of(mf), padding)
    return start_from(mf, density, recipe, coarse=coarse)


def start_from(mf: Any, density: Density, recipe: Recipe, *, coarse: bool = True) -> np.ndarray:
    """As `pyscf_guess`, from a valence density of the structure of `mf`."""
    structure = density.structure
    cores = have_cores(mf, density.valence_charges, recipe)
    nuclei = structure.cell is not None and bool(cores.all())
    known = density.continuous if structure.spin and structure.cell is None else None
    spins = None if known is None else known.spin_fields
    dm = density_matrix(mf, _sources(density, cores, nuclei), recipe.xc, nuclei, spins)
    if not coarse or structure.cell is not None:
        return dm
    calculation = coarse_calculation(mf)
    calculation.kernel(dm)
    return np.asarray(calculation.make_rdm1()) if calculation.converged else dm


def _predicted(predictor: Predictor, structure: Structure, padding: float) -> Density:
    """The density; if the model knows closed shells only, the mean of both ions of a radical."""
    if not structure.spin or predictor.network.spins:
        return predictor.predict(structure, padding=padding, spacing=SPACING).density
    ions = [replace(structure, charge=structure.charge + q, spin=0) for q in (-1, 1)]
    anion, cation = (
        predictor.predict(ion, padding=padding, spacing=SPACING).density for ion in ions
    )
    values = (np.asarray(anion.values, dtype=float) + cation.values) / 2
    return Density(anion.grid, values, structure=structure, valence_charges=anion.valence_charges)


def _sources(density: Density, cores: np.ndarray, nuclei: bool) -> Sources:
    """The density with the cores of some atoms, and the potential energy of an electron in it.

    Parameters
    ----------
    density : Density
        Of the valence electrons.
    cores : (n_atoms,) bool
    nuclei : bool
        Whether the potential contains that of the nuclei.
    """
    structure, grid = density.structure, density.grid
    complete = ContinuousDensity(density)
    periodic = complete.periodic
    numbers, charges = structure.numbers, density.valence_charges
    reach = np.array([free_atom(int(z)).core_radius for z in numbers])
    centres, owner = structure.positions, np.arange(len(structure))
    if periodic:
        centres, owner = images_near(centres, grid, reach)
    hartree = None
    if periodic and not nuclei:
        hartree = Field(grid, poisson(np.asarray(density.values, dtype=float), grid))
    potential = None if hartree is not None else Potential(density)

    def at(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rho, gradient = complete.evaluate(points, 1)
        if periodic:
            points = wrapped(points, grid.cell, grid.origin)
        if potential is None:
            assert hartree is not None
            v = hartree.at(points)
        else:
            v = -potential(points)
        for centre, a in zip(centres, owner, strict=True):
            away = points - centre
            r = np.linalg.norm(away, axis=1)
            near = r < reach[a]
            z = int(numbers[a])
            if cores[a]:
                # the excess charge of the nucleus less the core electrons
                v[near] -= core_charge(z)(r[near]) / r[near]
            else:
                n, slope, _ = free_atom(z).core_derivatives(r[near])
                rho[near] -= n
                gradient[near] -= (slope / r[near])[:, None] * away[near]
            if not periodic:
                v += (numbers[a] if cores[a] else charges[a]) / r
        if not periodic:
            fractions = (points - grid.origin) @ np.linalg.inv(grid.cell)
            outside = ((fractions < 0) | (fractions > 1)).any(axis=1)
            rho[outside], gradient[outside] = 0.0, 0.0
        return rho, gradient, v

    return at


def dm_from_density(density: Density, recipe: Recipe, steps: int = 1) -> np.ndarray:
    """Density matrix (nao, nao) of the orbitals after Kohn-Sham steps on the density's own grid."""
    isolated = density.structure.isolated
    mf = mean_field(density.structure, density.grid, recipe, isolated=isolated, about=density)
    return refine(density, recipe, steps, mf=mf).dm
