"""The energy of one Kohn-Sham step in open space, and its exact derivative.

The energy is the Harris-Foulkes functional of the predicted density rho_0 (`denser.dft.open_space`;
R = rho - rho_0, F and F_0 are the density and its gradient of the output orbitals and of rho_0),

E = sum_i 2 e_i - <rho_0|V + v_H + v_xc> + <rho_0|V + v_H/2> + E_xc[rho_0] + E_nuc
  = tr P (T + V_nl) + sum_g w f + E_free + E_nuc,
f = R (V + v_H) + v_xc . (F - F_0) + rho_0 e_xc + delta (V + v_n + v_delta / 2),

with rho_0 = n + delta: free atoms and their deformation, with the potentials v_n and v_delta. V is
the local pseudopotential, E_free that of the free atoms alone, and w the weights of points that
move with their atoms (`denser.dft.atom_points`). The error is of second order in that of rho_0.
There is no box, and the only grid is that of the points.

The orbitals are eigenvectors of the matrix of which tr P H is a part of E, so that their change
does not contribute. With the orbital energies in W = 2 C e C^T, the derivative is the sum of

- tr P d(T + V_nl) - tr W dS: integrals of the basis functions;
- sum_g w v . dF: the basis functions in F at the points, v = (V + v_H + v_xc);
- sum_g w (R + delta) dV, with the slope of the local pseudopotentials;
- sum_g f dw (`weights_pullback`);
- dE_free, from the distances of the atoms, and dE_nuc;
- with point charges around the molecule (`denser.dft.point_charges`), whose potential is a part of
  H alone, tr P dV_q and the energy of the nuclei: rho_0 is that of the isolated molecule, and the
  orbitals are polarised;
- the change of rho_0: with the kernel k = d v_xc / dF_0 and g = k (F - F_0),

  df = -(V + v_H) dn + (R + delta) dv_n + g . d(n, grad n)
       -v_delta/2 d(delta) + (R + delta/2) dv_delta + g . d(delta, grad delta),

  which the prediction turns into derivatives with respect to atoms, coefficients and factors
  (`DeformedAtoms.pullback`), and the network into derivatives with respect to atoms.

Whatever depends on r - R_b at a point r of atom a moves with both atoms: its derivative with
respect to R_b has the opposite sign for R_a.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.linalg
from pyscf import gto
from pyscf.dft import numint
from pyscf.grad.rhf import grad_nuc

from denser.atoms.sad_fields import free_atoms_together
from denser.dft.atom_points import atom_points, weights_pullback
from denser.dft.molecular import build_molecule, dipole_of
from denser.dft.near_functions import AT_ONCE, near_functions
from denser.dft.open_space import Linear, core_of_element, core_slope, linearised
from denser.dft.point_charges import PointCharges
from denser.dft.pyscf_private import nonlocal_pseudopotential_gradient
from denser.dft.scf import FrontierOrbitals
from denser.fields.compact import compact_blocks
from denser.types.density import Continuous, FieldsSlope
from denser.types.recipe import Recipe
from denser.types.structure import Structure

_LEAST_DENSITY = 1e-10
"""The kernel of exchange and correlation is neglected below this, e/bohr^3."""

_LINEAR_DEPENDENCE = 1e-8
"""Combinations of basis functions with a smaller eigenvalue of the overlap are left out."""


@dataclass(frozen=True, eq=False)
class OpenStep(FrontierOrbitals):
    """One Kohn-Sham step in open space from a density of Gaussians.

    Parameters
    ----------
    energy : float
        Harris-Foulkes energy, hartree.
    mo_energy, mo_occ : (nmo,) float
        Orbital energies against the vacuum, hartree; occupations 2 or 0.
    mo_coeff : (nao, nmo) float
        Orbitals in columns, in PySCF's order.
    structure : Structure
    continuous : Continuous
        The density that the step starts from.
    recipe : Recipe
    mol : pyscf.gto.Mole
    linear : Linear
    parents : (n,) int
        Atom of each point of `linear`.
    charges : PointCharges, optional
        Outside the molecule.
    """

    energy: float
    mo_energy: np.ndarray
    mo_occ: np.ndarray
    mo_coeff: np.ndarray
    structure: Structure
    continuous: Continuous
    recipe: Recipe
    mol: gto.Mole
    linear: Linear
    parents: np.ndarray
    charges: PointCharges | None = None

    def __repr__(self) -> str:
        return f"OpenStep({self.structure.formula}, {self.energy:.6f} hartree)"

    @property
    def dm(self) -> np.ndarray:
        """Density matrix of the occupied orbitals (nao, nao)."""
        occupied = self.mo_coeff[:, self.mo_occ > 0]
        return 2 * occupied @ occupied.T

    def forces_on_charges(self) -> np.ndarray:
        """Forces on the point charges (n, 3), hartree/bohr."""
        if self.charges is None:
            return np.zeros((0, 3))
        of_electrons = self.charges.electronic_slopes(self.mol, self.dm)[1]
        z, positions = self.mol.atom_charges(), self.mol.atom_coords()
        return -of_electrons - self.charges.nuclear_slopes(z, positions)[1]

    def dipole(self) -> np.ndarray:
        """Dipole moment of the occupied orbitals (3,), e*bohr, about the centre of charge."""
        return dipole_of(self.mol, self.structure, self.dm[None])


def open_step(
    structure: Structure,
    continuous: Continuous,
    recipe: Recipe = Recipe(),
    charges: PointCharges | None = None,
    ghosts: Structure | None = None,
) -> OpenStep:
    """Solve the Kohn-Sham equations once in the potential of a density, in open space.

    Parameters
    ----------
    structure : Structure
        An isolated closed shell.
    continuous : Continuous
        Its density.
    recipe : Recipe
    charges : PointCharges, optional
        Outside the molecule. The energy has their interaction with it.
    ghosts : Structure, optional
        Places and elements of basis functions without an atom, for counterpoise corrections. There
        are no forces with them.
    """
    mol = build_molecule(structure, recipe.basis, recipe, ghosts)
    points, weights, parents = atom_points(mol)
    linear = linearised(mol, continuous, structure, recipe.xc, points, weights)
    values, vectors = scipy.linalg.eigh(mol.intor("int1e_ovlp"))
    kept = values > _LINEAR_DEPENDENCE
    basis = vectors[:, kept] / np.sqrt(values[kept])
    matrix = linear.matrix if charges is None else linear.matrix + charges.matrix(mol)
    mo_energy, mo_coeff = scipy.linalg.eigh(basis.T @ matrix @ basis)
    mo_occ = np.where(np.arange(len(mo_energy)) < mol.nelectron // 2, 2.0, 0.0)
    energy = float(mo_occ @ mo_energy) + linear.energy
    if charges is not None:
        energy += charges.nuclear_energy(mol.atom_charges(), mol.atom_coords())
    return OpenStep(
        energy, mo_energy, mo_occ, basis @ mo_coeff, structure, continuous, recipe,
        mol, linear, parents, charges,
    )  # fmt: skip


def step_slope(step: OpenStep) -> tuple[np.ndarray, FieldsSlope]:
    """Derivative of `OpenStep.energy`.

    Returns
    -------
    (n_atoms, 3) float
        Derivative without the change of the input density, hartree/bohr.
    FieldsSlope
        Derivative with respect to the input density.
    """
    mol, linear, structure = step.mol, step.linear, step.structure
    w, rho = linear.weights, linear.fields[0]
    v_delta, delta = linear.deformation[2], linear.deformation[0]
    local = linear.cores + linear.free[2] + v_delta
    by_orbitals = linear.v_xc.copy()
    by_orbitals[0] += local
    fields, gradient = _orbital_part(step, by_orbitals * w)
    change = fields - linear.fields
    values = change[0] * local + np.einsum("xg,xg->g", linear.v_xc, change) + rho * linear.e_xc
    values += delta * (linear.cores + linear.free[2] + 0.5 * v_delta)
    gradient += weights_pullback(mol, linear.points, w, step.parents, values)
    gradient += _core_part(step, w * (change[0] + delta))
    gradient += _integrals_part(step)
    gradient += grad_nuc(mol)
    if step.charges is not None:
        gradient += step.charges.electronic_slopes(mol, step.dm)[0]
        gradient += step.charges.nuclear_slopes(mol.atom_charges(), mol.atom_coords())[0]
    factors = step.continuous.exact_factors
    _, of_atoms, by_factor = free_atoms_together(
        structure.numbers,
        structure.positions,
        factors,
        step.continuous.recipe,
        partial(core_of_element, mol, structure.numbers),
    )
    gradient += of_atoms
    kernel = _kernel_times(linear.fields, change, step.recipe.xc) * w
    slopes = kernel[1:] if len(kernel) > 1 else np.zeros((3, len(w)))
    free = kernel[0] - w * local, slopes, w * (change[0] + delta)
    deformation = kernel[0] - 0.5 * w * v_delta, slopes, w * (change[0] + 0.5 * delta)
    return gradient, FieldsSlope(linear.points, step.parents, free, deformation, by_factor)


def _orbital_part(step: OpenStep, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density and gradient (4, n) of the orbitals, and the derivative of sum by . F (n_atoms, 3).

    `by` (4, n) has the weights; one row for an LDA.
    """
    mol = step.mol
    occupied = step.mo_coeff[:, step.mo_occ > 0]
    gga = len(by) > 1
    fields = np.empty_like(by)
    gradient = np.zeros((mol.natm, 3))
    owners = np.repeat(np.arange(mol.natm), np.diff(mol.aoslice_by_atom()[:, 2:], axis=1)[:, 0])
    second = np.array([[4, 5, 6], [5, 7, 8], [6, 8, 9]])
    points, parents = step.linear.points, step.parents
    blocks = compact_blocks(points, AT_ONCE, parents)
    for some, used, ao in near_functions(mol, points, 2 if gga else 1, blocks):
        b, own = by[:, some], occupied[used]
        psi = own.T @ ao[: len(by)]
        fields[:, some] = 2 * np.einsum("ig,xig->xg", psi[0], psi)
        along = 2 * own @ np.einsum("xg,xig->ig", b, psi)
        pull = np.stack([_row_sums(ao[1 + y], along) for y in range(3)])
        if gga:
            here = 2 * own @ psi[0]
            for x in range(3):
                bent = here * b[1 + x]
                for y in range(3):
                    pull[y] += _row_sums(ao[second[y, x]], bent)
        np.add.at(gradient, owners[used], -2 * pull.T)
        gradient[parents[some[0]]] += 2 * pull.sum(axis=1)
    fields[1:] *= 2
    return fields, gradient


def _row_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum_g a_pg b_pg (p,), without a copy."""
    return np.einsum("pg,pg->p", a, b)


def _core_part(step: OpenStep, density: np.ndarray) -> np.ndarray:
    """Derivative of sum_g density V of the local pseudopotentials (n_atoms, 3)."""
    gradient = np.zeros((step.mol.natm, 3))
    for atom, position in enumerate(step.mol.atom_coords()):
        x = step.linear.points - position
        r = np.maximum(np.linalg.norm(x, axis=1), 1e-9)
        pull = (density * core_slope(step.mol, atom, r) / r)[:, None] * x
        gradient[atom] -= pull.sum(axis=0)
        np.add.at(gradient, step.parents, pull)
    return gradient


def _integrals_part(step: OpenStep) -> np.ndarray:
    """Derivative of tr P (T + V_nl) - tr W S with P and W fixed (n_atoms, 3)."""
    mol, dm = step.mol, step.dm
    occupied = step.mo_coeff[:, step.mo_occ > 0]
    weighted = 2 * (occupied * step.mo_energy[step.mo_occ > 0]) @ occupied.T
    by_function = -2 * np.einsum("xpq,pq->xp", mol.intor("int1e_ipkin"), dm)
    by_function += 2 * np.einsum("xpq,pq->xp", mol.intor("int1e_ipovlp"), weighted)
    gradient = np.add.reduceat(by_function, mol.aoslice_by_atom()[:, 2], axis=1).T
    return gradient + nonlocal_pseudopotential_gradient(mol, dm)


def _kernel_times(fields: np.ndarray, change: np.ndarray, xc: str) -> np.ndarray:
    """Kernel of exchange and correlation times a change of density and gradient (4, n)."""
    integrator = numint.NumInt()
    known = np.flatnonzero(fields[0] > _LEAST_DENSITY)
    kind = integrator._xc_type(xc)
    kernel = integrator.eval_xc_eff(xc, fields[:, known], deriv=2, xctype=kind)[2]
    out = np.zeros_like(fields)
    out[:, known] = np.einsum("xyg,yg->xg", kernel, change[:, known])
    return out
