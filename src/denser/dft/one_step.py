"""One Kohn-Sham step from a density: energies, orbitals and a better density."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
from pyscf.pbc.dft import rks, uks

from denser.dft.cell import require_electrons
from denser.dft.functionals import MOST_POLARISED, XC_CUTOFF
from denser.dft.isolated import potential_and_energy, spin_potential_and_energy
from denser.dft.local_response import LocalResponse
from denser.dft.pyscf_private import (
    core_hamiltonian,
    density_on_mesh,
    local_matrix,
    potential_matrix,
)
from denser.dft.scf import FrontierOrbitals, mean_field
from denser.fields.fourier import resample
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.units import BOHR

ELECTRON_TOLERANCE = 1e-3
"""Largest relative error in the number of electrons of a density that a step starts from."""

NEGATIVE_TOLERANCE = 1e-3
"""Largest allowed share of (negative) electrons in negative regions."""

COARSE_SPACING = 0.42
"""Beyond this spacing (bohr) a density cannot be interpolated to 10 meV. For H2CO, HCN, H2O and CH4
the error was at most 2 meV up to 0.40 and 7 meV at 0.46."""


class CoarseGridWarning(UserWarning):
    """The grid of a density is too coarse for its energy."""


@dataclass(frozen=True, eq=False)
class OneStep(FrontierOrbitals):
    """Orbitals in the potential of a given density, with energies and densities from them.

    For unpaired electrons the arrays of the orbitals have a first axis of length 2, for the two
    spins, and both densities have a spin density.

    Parameters
    ----------
    e_ks : float
        Kohn-Sham energy functional of the output orbitals and their own density, hartree; never
        below the self-consistent energy.
    e_harris : float
        Harris-Foulkes functional of the input density, hartree.
    e_tot : float
        The recommended estimate of the self-consistent energy, hartree.
    mo_energy, mo_occ : (nmo,) float
        Hartree; occupations 2 or 0, or 1 or 0 of each spin.
    mo_coeff : (nao, nmo) float
        Output orbitals in columns, in PySCF's order; nmo is nao less the linear dependences of
        the basis.
    dm : (nao, nao) float
        Density matrix of the occupied orbitals.
    density_in, density : Density
        The input, and the density of `dm`; both on the grid of the calculation.
    potential_in, potential : (nx, ny, nz) float
        Hartree plus exchange-correlation potential of `density_in` and of `density`, hartree; with
        that of isolation; for unpaired electrons the mean of both spins.
    change : (nx, ny, nz) float
        Estimate of the self-consistent density minus `density_in`, e/bohr^3.
    mf : pyscf.pbc.dft.rks.RKS or pyscf.pbc.dft.uks.UKS
        Cell, integrals and multigrid of the calculation.
    seconds : float
        Wall time.
    """

    e_ks: float
    e_harris: float
    e_tot: float
    mo_energy: np.ndarray
    mo_occ: np.ndarray
    mo_coeff: np.ndarray
    dm: np.ndarray
    density_in: Density
    density: Density
    potential_in: np.ndarray
    potential: np.ndarray
    change: np.ndarray
    mf: rks.RKS
    seconds: float

    def __repr__(self) -> str:
        return f"OneStep({self.density.structure.formula}, {self.e_tot:.6f} hartree)"

    @property
    def residual(self) -> float:
        """sum_r |rho_out - rho_in| dv / N_e: deviation of the input from self-consistency."""
        change = np.abs(self.density.values - self.density_in.values).sum()
        return float(change * self.density.grid.dv / self.density.n_electrons)

    @property
    def e_mixed(self) -> float:
        """(2 E_Harris + E_KS)/3, hartree: a less accurate estimate with simple derivatives."""
        return (2 * self.e_harris + self.e_ks) / 3


def one_step(
    density: Density,
    recipe: Recipe = Recipe(),
    *,
    mf: rks.RKS | None = None,
    isolated: bool = False,
) -> OneStep:
    """Solve the Kohn-Sham equations once in the potential of a density.

    With rho_in the density given and rho_out that of the occupied eigenvectors of
    h + v_H[rho_in] + v_xc[rho_in],

    E_Harris = sum_i f_i e_i - <rho_in |v_in> + E_H[rho_in]  + E_xc[rho_in]  + E_nuc,
    E_KS     = sum_i f_i e_i - <rho_out|v_in> + E_H[rho_out] + E_xc[rho_out] + E_nuc,

    where v_in = v_H[rho_in] + v_xc[rho_in] (Harris 1985; Foulkes and Haydock 1989). Both are
    wrong in second order of the density's error only.

    The estimate `e_tot` removes most of that. Let rho* be self-consistent, K the kernel of
    Hartree, exchange and correlation, chi_0 the response of the independent electrons (not
    positive), a = rho_in - rho* and R = rho_out - rho_in. Then rho_out - rho* = chi_0 K a and
    R = -(1 - chi_0 K) a in first order. The gradient of E_Harris is K R, hence
    E_Harris - E* = <a|K|R>/2; expanding the functional of v-representable densities,
    whose second derivative is K - 1/chi_0, gives E_KS - E* = <a + R|K|R>/2. So

    E* = E_Harris + <(1 - chi_0 K)^-1 R|K|R>/2,   E_KS - E_Harris = <R|K|R>/2,

    up to third order, and rho* = rho_in + (1 - chi_0 K)^-1 R up to second. The inverse of
    1 - chi_0 K, which is the inverse dielectric operator, is that of a local response
    (`denser.dft.local_response`); K R is v[rho_out] - v[rho_in], which is known.

    With unpaired electrons rho stands for the densities of both spins: the orbitals of each spin
    are those in its own potential v +- w (`denser.dft.functionals.spin_hartree_xc`), and
    <rho|v> for <rho|v> + <m|w> with the spin density m. What the local response adds to R belongs
    to each spin in proportion to its density. If the spin density of the input is not known, it is
    that of the lowest orbitals in the potential of a closed shell with this density.

    Parameters
    ----------
    density : Density
        Its box is the period of the calculation. If its spacing is not that of the recipe (within a
        tenth), it is resampled spectrally.
    recipe : Recipe
    mf : pyscf.pbc.dft.rks.RKS, optional
        From `denser.dft.scf.mean_field` for the same structure and grid (or another
        closed-shell Gamma-point object with `MultiGridNumInt2` on that grid): keeps its
        integrals from one step to the next. `recipe` and `isolated` are ignored then.
    isolated : bool
        As in `denser.dft.scf.mean_field`, in open space if `density` is known between the nodes.

    Returns
    -------
    OneStep

    Raises
    ------
    InputError
        The density has values that are not finite, another number of electrons than its structure,
        or negative regions; `mf` belongs to another grid; or as in `denser.dft.scf.mean_field` and
        `denser.dft.cell.require_electrons`.

    Warns
    -----
    CoarseGridWarning
        The grid is too coarse for an energy.
    """
    start = time.perf_counter()
    check_density(density)
    if mf is None:
        density = on_recipe_grid(density, recipe)
        mf = mean_field(density.structure, density.grid, recipe, isolated=isolated, about=density)
    elif tuple(mf.cell.mesh) != density.grid.shape:
        raise InputError(
            f"the calculation has a mesh of {tuple(int(n) for n in mf.cell.mesh)}, the density a "
            f"grid of shape {density.grid.shape}; build both with mean_field(structure, grid)"
        )
    dv = float(density.grid.dv)
    if density.structure.spin and density.spin_density is None:
        density = with_lowest_spin(density, mf)
    before = EffectivePotential.of(mf, density)
    mo_energy, mo_coeff = eigenstates(mf, before.fock(mf))
    mo_occ = np.asarray(mf.get_occ(mo_energy, mo_coeff))
    dm = np.asarray(mf.make_rdm1(mo_coeff, mo_occ))
    out = density.with_values(density_on_mesh(mf, dm))
    require_electrons(mf.cell, out.values)
    if density.structure.spin:
        out = out.with_spin_density(density_on_mesh(mf, dm[0] - dm[1]))
    after = EffectivePotential.of(mf, out)
    e_band = float(np.vdot(mo_occ, mo_energy) + mf.energy_nuc())
    e_harris = e_band - before.times(density) + before.energy
    e_ks = e_band - before.times(out) + after.energy
    rho_in, rho_out = (np.asarray(x.values, dtype=float) for x in (density, out))
    known = mf.open_space
    if known is not None:
        in_box, e_ks = e_ks, known.energy_of(mo_coeff[:, mo_occ > 0], rho_out - known.rho, mf)
        if before.v is not known.potential:  # the same error of the box
            e_harris += e_ks - in_box
    # <R|K|R>/2 is computed from the energies, which includes all orders.
    residual = rho_out - rho_in
    change = LocalResponse(rho_in, density.grid).screened(residual)
    slope = after.v - before.v
    if after.w is not None and before.w is not None:
        slope = slope + polarisation(density) * (after.w - before.w)
    e_tot = e_ks + 0.5 * float(np.vdot(change - residual, slope)) * dv
    return OneStep(
        e_ks=e_ks,
        e_harris=e_harris,
        e_tot=e_tot,
        mo_energy=mo_energy,
        mo_occ=mo_occ,
        mo_coeff=mo_coeff,
        dm=dm,
        density_in=density,
        density=out,
        potential_in=before.v,
        potential=after.v,
        change=change,
        mf=mf,
        seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True, eq=False)
class EffectivePotential:
    """Potential and energy of Hartree, exchange, correlation and isolation of a density, hartree.

    `v` (nx, ny, nz), and `w` for unpaired electrons, with the potentials v + w and v - w of the
    spins.
    """

    v: np.ndarray
    w: np.ndarray | None
    energy: float

    @classmethod
    def of(cls, mf: rks.RKS | uks.UKS, density: Density) -> EffectivePotential:
        """Those of a density, and its spin density if it has one, on the mesh of `mf`."""
        rho, grid = np.asarray(density.values, dtype=float), density.grid
        if density.spin_density is None:
            v, energy = potential_and_energy(mf, rho, grid)
            return cls(v, None, energy)
        return cls(*spin_potential_and_energy(mf, rho, polarisation(density) * rho, grid))

    def fock(self, mf: rks.RKS | uks.UKS) -> np.ndarray:
        """Fock matrix (nao, nao), or (2, nao, nao) for a spin-polarised calculation, hartree."""
        fock = core_hamiltonian(mf) + potential_matrix(mf, self.v)
        if not isinstance(mf, uks.UKS):
            return fock
        spin = 0.0 if self.w is None else local_matrix(mf, self.w)
        return np.stack([fock + spin, fock - spin])

    def times(self, density: Density) -> float:
        """<rho|v> + <m|w>, hartree."""
        total = float(np.vdot(np.asarray(density.values, dtype=float), self.v))
        if self.w is not None and density.spin_density is not None:
            m = np.asarray(density.spin_density.values, dtype=float)
            total += float(np.vdot(m, self.w))
        return total * float(density.grid.dv)


def polarisation(density: Density) -> np.ndarray:
    """m/rho (nx, ny, nz), between -1 and 1.

    Where |m| exceeds rho, which is so in places for predicted densities, it is `MOST_POLARISED`.
    """
    assert density.spin_density is not None
    rho = np.asarray(density.values, dtype=float)
    m = np.asarray(density.spin_density.values, dtype=float)
    out = np.divide(m, rho, out=np.zeros_like(m), where=rho > XC_CUTOFF)
    return np.where(np.abs(out) > 1.0, MOST_POLARISED * np.sign(out), out)


def with_lowest_spin(density: Density, mf: uks.UKS) -> Density:
    """Return the density with the spin density of the lowest orbitals of both spins.

    Both are those in the potential of a closed shell with this density.
    """
    alone = density.with_values(density.values)
    mo_energy, mo_coeff = eigenstates(mf, EffectivePotential.of(mf, alone).fock(mf))
    up, down = mf.make_rdm1(mo_coeff, mf.get_occ(mo_energy, mo_coeff))
    return density.with_spin_density(density_on_mesh(mf, up - down))


def check_density(density: Density) -> None:
    """Raise an InputError unless a Kohn-Sham step can start from this density."""
    values, n_electrons = density.values, density.n_electrons
    n_bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if n_bad:
        raise InputError(
            f"{n_bad} of {values.size} values of the density are not finite numbers; make or "
            "read it again"
        )
    total = density.integrate()
    if abs(total - n_electrons) > ELECTRON_TOLERANCE * n_electrons:
        raise InputError(
            f"the density holds {total:.4g} electrons, {density.structure.formula} with charge "
            f"{density.structure.charge} has {n_electrons:g} valence electrons; is it "
            "the valence density of this charge in e/bohr^3, on a grid that is fine enough?"
        )
    missing = -float(values[values < 0].sum(dtype=float)) * density.grid.dv
    if missing > NEGATIVE_TOLERANCE * n_electrons:
        raise InputError(
            f"the density is negative in places, which hold {-missing:.3g} electrons; a density "
            "to start from must not be a difference of densities"
        )


def on_recipe_grid(density: Density, recipe: Recipe) -> Density:
    """Return the density with the recipe's spacing (within a tenth), resampled if necessary."""
    grid = density.grid
    lengths = np.linalg.norm(grid.cell, axis=1)
    if (np.abs(grid.spacing / recipe.spacing - 1) < 0.1).all():
        return density
    if grid.spacing.max() > COARSE_SPACING:
        warnings.warn(
            f"the density's grid has a spacing of {grid.spacing.max() * BOHR:.3f} angstrom; "
            f"beyond {COARSE_SPACING * BOHR:.2f} expect errors of 10 meV and more, so give a "
            "finer one",
            CoarseGridWarning,
            stacklevel=3,
        )
    nx, ny, nz = (int(n) for n in 2 * np.ceil(lengths / (2 * recipe.spacing) - 1e-6))
    return resampled(density, (nx, ny, nz))


def resampled(density: Density, shape: tuple[int, int, int]) -> Density:
    """Return the density at other nodes of its box, spectrally interpolated."""
    grid = density.grid
    if grid.shape == shape:
        return density
    out = Density(
        Grid(grid.origin, grid.cell, shape),
        resample(density.values, shape),
        structure=density.structure,
        valence_charges=density.valence_charges,
    )
    if density.continuous is not None:
        out = out.known_between_nodes(density.continuous)
    if density.spin_density is not None:
        out = out.with_spin_density(resample(density.spin_density.values, shape))
    return out


def eigenstates(mf: rks.RKS, fock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies (nmo,), hartree, and orbitals (nao, nmo) of a Fock matrix (nao, nao).

    All with a first axis of two spins for a spin-polarised calculation.

    As in PySCF's own SCF, directions are left out in which the basis is nearly linearly dependent,
    which happens in tight boxes. With them, the energies would be those of another basis, with
    noise.
    """
    if getattr(mf, "_denser_basis", None) is None:
        mf._denser_basis = np.asarray(mf.check_linear_dependency(mf.get_ovlp()))
    mo_energy, mo_coeff = mf.eig(fock, None, x=mf._denser_basis)
    return np.asarray(mo_energy), np.asarray(mo_coeff)
