"""Dipole polarizability of an isolated molecule by coupled-perturbed equations.

In open space and with diffuse functions: without them, polarizabilities are 20 to 30 % too small.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from pyscf import dft, gto
from pyscf.dft import gen_grid

from denser.atoms.sad import require_closed_shell
from denser.dft.basis import AUGMENTED, all_electron
from denser.dft.molecular import MolecularResult, converge, removed_text
from denser.dft.turned_points import turned_grids
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.tensors import anisotropy, isotropic
from denser.types.units import BOHR

RESIDUAL = 0.01
"""Residual of the coupled-perturbed equations relative to the bare response; the error of the
polarizability is of second order in it."""

ALL_ELECTRON_LEVEL_OF_RESPONSE = 1
"""Level of PySCF's grids of the kernel in calculations with all electrons."""


@dataclass(frozen=True, eq=False)
class Polarizability:
    """Static dipole polarizability of an isolated molecule.

    Parameters
    ----------
    tensor : (3, 3) float
        bohr^3.
    uncoupled : (3, 3) float
        Polarizability of independent electrons, without their interaction; bohr^3.
    basis : str
    note : str
        About linear dependences of the basis.
    """

    tensor: np.ndarray
    uncoupled: np.ndarray
    basis: str = AUGMENTED
    note: str = ""

    @property
    def mean(self) -> float:
        """A third of the trace, bohr^3."""
        return isotropic(self.tensor)

    @property
    def anisotropy(self) -> float:
        """sqrt([3 tr(a^2) - (tr a)^2] / 2), bohr^3; a_par - a_perp of a linear molecule."""
        return anisotropy(self.tensor)

    def to_dict(self) -> dict:
        """Return plain data in bohr^3 and angstrom^3."""
        return {
            "method": "coupled-perturbed",
            "basis": self.basis,
            "tensor_bohr3": self.tensor.tolist(),
            "mean_bohr3": self.mean,
            "anisotropy_bohr3": self.anisotropy,
            "tensor_angstrom3": (self.tensor * BOHR**3).tolist(),
            "mean_angstrom3": self.mean * BOHR**3,
            "anisotropy_angstrom3": self.anisotropy * BOHR**3,
        }

    def lines(self) -> list[str]:
        """Return readable lines."""
        out = [
            f"polarizability (coupled-perturbed, {self.basis}): mean {self.mean:.3f} bohr^3 = "
            f"{self.mean * BOHR**3:.3f} angstrom^3, anisotropy {self.anisotropy:.3f} bohr^3"
        ]
        for name, row in zip("xyz", self.tensor, strict=True):
            out.append(f"  {name} " + " ".join(f"{value:10.3f}" for value in row) + " bohr^3")
        return [*out, self.note] if self.note else out


def polarizability(
    density: Density, basis: str | None = None, recipe: Recipe = Recipe()
) -> Polarizability:
    """Polarizability of a density's molecule: an SCF in open space, then `coupled_perturbed`.

    It is that of the self-consistent density, and the given one is the start.

    Parameters
    ----------
    density : Density
        Valence density of an isolated molecule.
    basis : str, optional
        As in `denser.dft.basis.shells_of`; default `AUGMENTED`.
    recipe : Recipe

    Raises
    ------
    InputError
        As in `denser.dft.molecular.converge`; or an open shell.
    """
    require_closed_shell(density.structure, "polarizabilities")
    result = converge(density.structure, basis or AUGMENTED, recipe, about=density)
    return coupled_perturbed(result)


def coupled_perturbed(result: MolecularResult, max_cycle: int = 12) -> Polarizability:
    """Polarizability of self-consistent orbitals of a closed shell, the limit of weak fields.

    The first-order density of the field E_j solves d = chi_0 (r_j + K d), with chi_0 the
    response of independent electrons in the orbitals and energies,

    D_j = 2 sum_ia (|a><a| r_j + K d |i><i| + c.c.) / (e_i - e_a),  alpha_ij = -tr(r_i D_j),

    and K the kernel of Hartree, exchange and correlation. K is integrated on a third of the points
    of the SCF, which changes alpha by 0.005 % (with metals 0.1 %).

    Raises
    ------
    InputError
        `max_cycle` cycles do not converge.
    """
    occupied = result.mo_occ > 0
    c_i, c_a = result.mo_coeff[:, occupied], result.mo_coeff[:, ~occupied]
    gaps = result.mo_energy[occupied][None, :] - result.mo_energy[~occupied][:, None]
    response = _on_few_points(result).gen_response(hermi=1)

    def between(operators: np.ndarray) -> np.ndarray:
        return np.array([(c_a.T @ operator @ c_i).ravel() for operator in operators])

    def screening(vectors: np.ndarray) -> np.ndarray:
        """<a|K d|i> of the densities d of amplitudes."""
        half = np.array([c_a @ x.reshape(gaps.shape) @ c_i.T for x in vectors])
        return between(response(half + half.transpose(0, 2, 1)))

    fields = between(dipole_integrals(result.mf.mol))
    weight = gaps.ravel() / 2  # makes the equations symmetric
    bare = fields / weight
    # Galerkin's method in a growing space: the error of alpha is of second order in the residual.
    space, image, residual = np.empty((0, bare.shape[1])), np.empty((0, bare.shape[1])), bare
    for _ in range(max_cycle):
        new = np.linalg.qr((residual - (residual @ space.T) @ space).T)[0].T
        space = np.vstack([space, new])
        image = np.vstack([image, new - screening(new) / weight])
        y = np.linalg.solve((space * weight) @ image.T, space @ fields.T)
        residual = bare - y.T @ image
        if np.linalg.norm(residual) < RESIDUAL * np.linalg.norm(bare):
            break
    else:
        raise InputError(
            f"the response has not converged in {max_cycle} cycles; the gap of the molecule is "
            f"{result.gap:.3f} hartree"
        )
    uncoupled, tensor = -2 * fields @ bare.T, -2 * fields @ (y.T @ space).T
    return Polarizability((tensor + tensor.T) / 2, uncoupled, result.basis, removed_text(result))


def _on_few_points(result: MolecularResult) -> dft.rks.RKS:
    """The mean field with a third of the points or fewer."""
    mf = copy(result.mf)
    if all_electron(result.basis):
        mf.grids = gen_grid.Grids(mf.mol)
        mf.grids.level = ALL_ELECTRON_LEVEL_OF_RESPONSE
    else:
        mf.grids = turned_grids(mf.mol, few=True)
    return mf


def dipole_integrals(mol: gto.Mole) -> np.ndarray:
    """<p| r - R |q> (3, nao, nao), bohr; R is the middle of the molecule."""
    with mol.with_common_origin(mol.atom_coords().mean(axis=0)):
        return mol.intor("int1e_r")
