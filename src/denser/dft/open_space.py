"""Kohn-Sham steps of isolated molecules in open space.

A calculation in a box has two faults for a molecule on its own: the interaction with its images
(`denser.dft.isolated`), and the grid, on which the energy changes by some meV when an atom moves
through a period of it. A density that is known as Gaussians at the atoms
(`denser.types.density.Continuous`) needs neither box nor grid. Let rho_0 be this density, with the
Coulomb potential v_H and the exchange-correlation potential v_xc. The energy of a density matrix P
with the density rho is, to first order in rho - rho_0,

E = tr P [T + V_pp + v_H + v_xc] - <rho_0|v_H>/2 + E_xc[rho_0] - <rho_0|v_xc> + E_nuc.

The integral of the densities of free atoms, most of rho_0, times V_pp + v_H/2 is a function of the
distances of the atoms (`denser.atoms.sad_fields`), and only the rest is a sum over points.

All of this is computed in open space: T and the non-local pseudopotential from integrals of PySCF's
molecular code, local potentials and the energies of rho_0 on points around the atoms, where the
potential of Gaussians is known. The rest, of second order in rho - rho_0, is computed in the box,

E_2 = E_Hxc[rho] - E_Hxc[rho_0] - <rho - rho_0|v[rho_0]>,

where its error is that of the box times a small number. In the energy of orbitals, exchange and
correlation of second order are from the points, too (`OpenSpace.energy_of`). The points have the
orientation of the molecule, so that the energy does not change when it turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pyscf import gto
from pyscf.dft import numint
from scipy.special import erf

from denser.atoms.sad_fields import energy_of_free_atoms
from denser.dft.basis import basis_name, shells
from denser.dft.functionals import spin_potentials
from denser.dft.isolated import potential_and_energy
from denser.dft.near_functions import near_functions
from denser.dft.pyscf_private import (
    molecule_of,
    nonlocal_pseudopotential,
    pseudopotential_terms,
)
from denser.dft.turned_points import quadrature
from denser.fields.fourier import poisson
from denser.types.density import AtomFields, Continuous, Density
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure

if TYPE_CHECKING:
    from pyscf.pbc.dft import rks

LARGEST_SPACING = 0.24
"""Of the box, bohr."""

_CORE_ENDS = 9.0
"""Beyond this multiple of its r_loc a local pseudopotential is that of a charge, to 1e-17."""

_SHARPEST = 0.77
"""Spacing of the box times the square root of the largest exponent of heavy atoms."""


@dataclass(frozen=True, eq=False)
class Linear:
    """What `linearised` returns.

    Parameters
    ----------
    matrix : (nao, nao) float
        T + V_pp + v_H[rho_0] + v_xc[rho_0], hartree.
    energy : float
        -<rho_0|v_H>/2 + E_xc[rho_0] - <rho_0|v_xc> + E_nuc, hartree.
    points : (n, 3) float
        Bohr.
    weights : (n,) float
        Bohr^3.
    fields, v_xc : (4, n) float
        rho_0 and its gradient, and the derivative of the energy density with respect to them; (1,
        n) for an LDA.
    e_xc : (n,) float
        Exchange-correlation energy of an electron, hartree.
    free, deformation : AtomFields
        As of `Continuous.fields`.
    cores : (n,) float
        Local part of the pseudopotentials, hartree.
    """

    matrix: np.ndarray
    energy: float
    points: np.ndarray
    weights: np.ndarray
    fields: np.ndarray
    v_xc: np.ndarray
    e_xc: np.ndarray
    free: AtomFields
    deformation: AtomFields
    cores: np.ndarray


@dataclass(frozen=True, eq=False)
class SecondOrder:
    """E_xc[rho] - E_xc[rho_0] - <rho - rho_0|v_xc>, for which few points suffice.

    Parameters
    ----------
    mol : pyscf.gto.Mole
    xc : str
        An LDA or a GGA, in PySCF's names.
    points, weights, fields, v_xc, e_xc
        As of `Linear`.
    """

    mol: gto.Mole
    xc: str
    points: np.ndarray
    weights: np.ndarray
    fields: np.ndarray
    v_xc: np.ndarray
    e_xc: np.ndarray

    @classmethod
    def about(cls, mol: gto.Mole, continuous: Continuous, xc: str) -> SecondOrder:
        """That of a density rho_0."""
        points, weights = quadrature(mol, few=True)
        rho, gradient = continuous.gradients(points)
        fields, e_xc, v_xc = _exchange_correlation(xc, rho, gradient.T)
        return cls(mol, xc, points, weights, fields, v_xc, e_xc)

    def of(self, orbitals: np.ndarray) -> float:
        """Hartree, for the density of doubly occupied orbitals (nao, n)."""
        integrator = numint.NumInt()
        kind = integrator._xc_type(self.xc)
        rho = np.empty_like(self.fields)
        for some, used, values in near_functions(self.mol, self.points, int(kind == "GGA")):
            own = orbitals[used]
            rho[:, some] = np.einsum("pg,xpg->xg", 2 * own @ (own.T @ values[0]), values)
        rho[1:] *= 2
        e_xc = integrator.eval_xc_eff(self.xc, rho, deriv=0, xctype=kind)[0]
        change = np.einsum("xg,xg->g", self.v_xc, rho - self.fields)
        return float(self.weights @ (rho[0] * e_xc - self.fields[0] * self.e_xc - change))


@dataclass(frozen=True, eq=False)
class OpenSpace:
    """First-order part of the energy about a density rho_0, in open space.

    Parameters
    ----------
    mol : pyscf.gto.Mole
    linear : Linear
    second_order : SecondOrder
        Of exchange and correlation.
    rho : (nx, ny, nz) float
        rho_0 in the box, e/bohr^3.
    potential : (nx, ny, nz) float
        Potential of Hartree, exchange, correlation and isolation of rho_0 in the box, hartree.
    e_box : float
        Their energy, hartree.
    grid : Grid
        The box.
    overlap : (nao, nao) float
        Overlap of the basis functions without periodic images.
    """

    mol: gto.Mole
    linear: Linear
    second_order: SecondOrder
    rho: np.ndarray
    potential: np.ndarray
    e_box: float
    grid: Grid
    overlap: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """T + V_pp + v_H[rho_0] + v_xc[rho_0] (nao, nao), hartree."""
        return self.linear.matrix

    def energy_of(self, orbitals: np.ndarray, change: np.ndarray, mf: rks.RKS) -> float:
        """Energy of doubly occupied orbitals, hartree.

        Parameters
        ----------
        orbitals : (nao, n) float
        change : (nx, ny, nz) float
            Their density minus rho_0 in the box, e/bohr^3.
        mf : pyscf.pbc.dft.rks.RKS
            The calculation in the box.
        """
        potential = poisson(change, self.grid) + mf.isolation.kernel(change)
        second = 0.5 * float(np.vdot(change, potential)) * float(self.grid.dv)
        first = 2 * float(np.vdot(orbitals, self.matrix @ orbitals)) + self.linear.energy
        return first + second + self.second_order.of(orbitals)

    @property
    def constant(self) -> float:
        """What a calculation in the box adds to tr P matrix + E_Hxc[rho] - <rho|v[rho_0]>."""
        return (
            self.linear.energy
            - self.e_box
            + float(np.vdot(self.rho, self.potential) * self.grid.dv)
        )


def linearised(
    mol: gto.Mole,
    continuous: Continuous,
    structure: Structure,
    xc: str,
    points: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Linear:
    """First-order part of the energy about a density, in any basis.

    Parameters
    ----------
    mol : pyscf.gto.Mole
        With GTH pseudopotentials.
    continuous : Continuous
        Density of the valence electrons.
    structure : Structure
    xc : str
        An LDA or a GGA, in PySCF's names.
    points, weights : (n, 3) and (n,) float, optional
        By default those of `quadrature`.
    """
    if points is None or weights is None:
        points, weights = quadrature(mol)
    free, deformation = continuous.fields(points)
    rho, gradient, v_h = (a + b for a, b in zip(free, deformation, strict=True))
    cores = local_pseudopotential(mol, points)
    local = v_h + cores
    fields, e_xc, v_xc = _exchange_correlation(xc, rho, gradient)
    matrix = mol.intor("int1e_kin") + nonlocal_pseudopotential(mol)
    factors = v_xc * weights
    factors[0] = 0.5 * (factors[0] + local * weights)  # the other half is the transpose
    matrix += local_matrix(mol, points, factors)
    of_deformation = deformation[0] * (cores + free[2] + 0.5 * deformation[2])
    energy = weights @ (rho * (e_xc - local) + of_deformation) - np.einsum(
        "xg,xg,g->", fields, v_xc, weights, optimize=True
    )
    energy += energy_of_free_atoms(
        structure.numbers,
        structure.positions,
        continuous.exact_factors,
        continuous.recipe,
        partial(core_of_element, mol, structure.numbers),
    )
    energy += mol.energy_nuc()
    return Linear(
        matrix, float(energy), points, weights, fields, v_xc, e_xc, free, deformation, cores
    )


def _exchange_correlation(
    xc: str, rho: np.ndarray, gradient: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`fields`, `e_xc` and `v_xc` of `Linear` for a density (n,) and its gradient (3, n)."""
    integrator = numint.NumInt()
    kind = integrator._xc_type(xc)
    fields = np.vstack([rho, gradient])[: 4 if kind == "GGA" else 1]
    e_xc, v_xc = integrator.eval_xc_eff(xc, fields, deriv=1, xctype=kind)[:2]
    return fields, e_xc, v_xc


def spin_matrices(
    mol: gto.Mole, linear: Linear, continuous: Continuous, xc: str
) -> np.ndarray | None:
    """`linear.matrix` for both spins (2, nao, nao), hartree; None without a spin density.

    Parameters
    ----------
    mol, continuous, xc
        As of `linearised`.
    linear : Linear
        What it returned.
    """
    found = continuous.spin_fields(linear.points)
    if found is None:
        return None
    m = np.vstack(found)[: len(linear.fields)]
    factors = (spin_potentials(xc, linear.fields, m) - linear.v_xc) * linear.weights
    factors[:, 0] *= 0.5  # the other half is the transpose
    return np.stack([linear.matrix + local_matrix(mol, linear.points, own) for own in factors])


def local_matrix(mol: gto.Mole, points: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """sum_g phi_p [sum_x factors_x d_x] phi_q plus its transpose (nao, nao).

    `factors` are those of the functions and, if there are four rows, of their gradients.
    """
    half = np.zeros((mol.nao, mol.nao))
    for some, used, values in near_functions(mol, points, int(len(factors) > 1)):
        weighted = np.einsum("xpg,xg->pg", values, factors[:, some])
        half[np.ix_(used, used)] += values[0] @ weighted.T
    return half + half.T


def box_spacing(structure: Structure, recipe: Recipe) -> float:
    """Spacing of the box (bohr), where only what is of second order is computed.

    The sharper the basis functions of the heavy atoms, the finer. Between this spacing and that of
    the default recipe, energies of water and isobutane differ by less than 0.01 meV.
    """
    exponents = [
        primitive[0]
        for symbol in set(structure.symbols) - {"H"}
        for shell in shells(symbol, basis_name(symbol, recipe.basis))
        for primitive in shell[1:]
    ]
    wanted = _SHARPEST / np.sqrt(max(exponents)) if exponents else LARGEST_SPACING
    return max(recipe.spacing, min(wanted, LARGEST_SPACING))


def local_pseudopotential(mol: gto.Mole, points: np.ndarray) -> np.ndarray:
    """Local part of the GTH pseudopotentials of all atoms at points (n, 3): (n,), hartree.

    -Z/r erf(r / (sqrt(2) r_loc)) + exp(-r^2 / (2 r_loc^2)) sum_i C_i (r / r_loc)^(2i - 2)
    (Goedecker, Teter and Hutter, Phys. Rev. B 54, 1703 (1996)).
    """
    v = np.zeros(len(points))
    for atom, position in enumerate(mol.atom_coords()):
        if mol.atom_charge(atom):  # no ghost
            v += _of_core(mol, atom, np.linalg.norm(points - position, axis=1))
    return v


def _of_core(mol: gto.Mole, atom: int, r: np.ndarray) -> np.ndarray:
    z, r_loc, terms = pseudopotential_terms(mol, atom)
    v = -z / np.maximum(r, 1e-9 * r_loc)
    near = np.flatnonzero(r < _CORE_ENDS * r_loc)
    r = np.maximum(r[near] / r_loc, 1e-9)
    local = np.exp(-0.5 * r**2) * np.polynomial.polynomial.polyval(r**2, terms or [0.0])
    v[near] = local - z / r_loc * erf(r / np.sqrt(2)) / r
    return v


def core_slope(mol: gto.Mole, atom: int, r: np.ndarray) -> np.ndarray:
    """Derivative of the local pseudopotential of an atom at distances r (n,), hartree/bohr."""
    z, r_loc, terms = pseudopotential_terms(mol, atom)
    r = np.maximum(r / r_loc, 1e-3)
    terms = terms or [0.0]
    polynomial = np.polynomial.polynomial
    bell = np.exp(-0.5 * r**2)
    factor = 2 * polynomial.polyval(r**2, polynomial.polyder(terms))
    local = bell * r * (factor - polynomial.polyval(r**2, terms))
    charge = erf(r / np.sqrt(2)) / r**2 - np.sqrt(2 / np.pi) * bell / r
    return (local + z / r_loc * charge) / r_loc


def core_of_element(mol: gto.Mole, numbers: np.ndarray, z: int, r: np.ndarray) -> np.ndarray:
    """Local pseudopotential of an element of the molecule at distances r (n,), hartree."""
    return _of_core(mol, int(np.flatnonzero(numbers == z)[0]), r)


def open_space(mf: rks.RKS, density: Density) -> OpenSpace:
    """First-order part of the energy of a calculation about a density.

    Parameters
    ----------
    mf : pyscf.pbc.dft.rks.RKS
        From `denser.dft.scf.mean_field` with `isolated=True`, on the density's grid.
    density : Density
        Known between the nodes; this is rho_0.
    """
    assert density.continuous is not None  # `mean_field` looks
    mol = molecule_of(mf.cell, density.grid.origin)
    known = density.continuous
    rho = np.asarray(density.values, dtype=float)
    potential, e_box = potential_and_energy(mf, rho, density.grid)
    overlap = mol.intor("int1e_ovlp")
    return OpenSpace(
        mol,
        linearised(mol, known, density.structure, mf.xc),
        SecondOrder.about(mol, known, mf.xc),
        rho,
        potential,
        e_box,
        density.grid,
        overlap,
    )
