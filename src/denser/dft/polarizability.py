"""Dipole polarizability of an isolated molecule by coupled-perturbed equations.

The field enters as E.r with the dipole integrals of the Gaussians; no sawtooth potential is needed.
The box is periodic, but the field of the images' induced dipoles is no part of the kernel
(`denser.dft.isolated`), so the box need not be large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyscf.pbc.dft import rks

from denser.dft.isolated import kernel
from denser.dft.one_step import OneStep, one_step
from denser.dft.pyscf_private import density_on_mesh, potential_matrix
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

RESIDUAL = 0.01
"""Residual of the coupled-perturbed equations relative to the bare response; the error of the
polarizability is of second order in it."""

RESPONDING = 1e-6
"""Below this density (e/bohr^3) the response of exchange and correlation is neglected, which
changes the polarizability of water by 0.003 %. The second derivatives of the functional diverge in
the tails, where a change of the density is noise."""

COARSE = Recipe(spacing=0.24)
"""Level of theory with a spacing that changes a mean polarizability by 0.02 % (C5H12O)."""

MARGIN = 5.0
"""Smallest distance of an atom from the faces of the box, bohr."""


@dataclass(frozen=True, eq=False)
class Polarizability:
    """Static dipole polarizability of an isolated molecule.

    Parameters
    ----------
    tensor : (3, 3) float
        bohr^3.
    uncoupled : (3, 3) float
        Polarizability of independent electrons, without their interaction; bohr^3.
    """

    tensor: np.ndarray
    uncoupled: np.ndarray

    @property
    def mean(self) -> float:
        """A third of the trace, bohr^3."""
        return float(np.trace(self.tensor)) / 3

    @property
    def anisotropy(self) -> float:
        """sqrt([3 tr(a^2) - (tr a)^2] / 2), bohr^3; a_par - a_perp of a linear molecule."""
        a = self.tensor
        return float(np.sqrt(max(0.0, (3 * np.trace(a @ a) - np.trace(a) ** 2) / 2)))

    def to_dict(self) -> dict:
        """Return plain data in bohr^3 and angstrom^3."""
        return {
            "method": "coupled-perturbed",
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
            f"polarizability (coupled-perturbed): mean {self.mean:.3f} bohr^3 = "
            f"{self.mean * BOHR**3:.3f} angstrom^3, anisotropy {self.anisotropy:.3f} bohr^3"
        ]
        for name, row in zip("xyz", self.tensor, strict=True):
            out.append(f"  {name} " + " ".join(f"{value:10.3f}" for value in row) + " bohr^3")
        return out


def polarizability(density: Density, recipe: Recipe = COARSE) -> Polarizability:
    """Polarizability of a density's molecule: one Kohn-Sham step, then `coupled_perturbed`.

    Parameters
    ----------
    density : Density
        Valence density of an isolated molecule.
    recipe : Recipe
        Its spacing is that of the calculation; the default is coarser than that of energies.
    """
    return coupled_perturbed(one_step(density, recipe, isolated=True))


def coupled_perturbed(step: OneStep, max_cycle: int = 12) -> Polarizability:
    """Polarizability of the orbitals of one Kohn-Sham step, with their self-consistent response.

    The first-order density of the field E_j solves d = chi_0 (r_j + K d), with chi_0 the
    response of independent electrons in the step's orbitals and energies,

    D_j = 2 sum_ia (|a><a| r_j + K d |i><i| + c.c.) / (e_i - e_a),  alpha_ij = -tr(r_i D_j),

    and K the kernel of Hartree, exchange and correlation. At a self-consistent density it is the
    limit of calculations in weak fields; for a predicted density it has an error of first order in
    that of the density.

    Parameters
    ----------
    step : OneStep
        With `isolated`, and with `MARGIN` around every atom in the box.
    max_cycle : int

    Raises
    ------
    InputError
        The structure is periodic, the step is not for an isolated molecule, the box is too small,
        or `max_cycle` cycles do not converge.
    """
    density, mf = step.density, step.mf
    require_isolated(density.structure, density.grid)
    if mf.isolation is None:
        raise InputError("a polarizability needs a step with isolated=True")
    response = kernel(mf, density.values, density.grid, RESPONDING)
    occupied = np.asarray(step.mo_occ) > 0
    c_i, c_a = step.mo_coeff[:, occupied], step.mo_coeff[:, ~occupied]
    gaps = step.mo_energy[occupied][None, :] - step.mo_energy[~occupied][:, None]
    pseudo = potential_matrix(mf, np.zeros(density.grid.shape))  # a part of every such matrix

    def between(operator: np.ndarray) -> np.ndarray:
        return (c_a.T @ operator @ c_i).ravel()

    def screening(x: np.ndarray) -> np.ndarray:
        """<a|K d|i> of the density d of amplitudes x."""
        half = c_a @ x.reshape(gaps.shape) @ c_i.T
        d = density_on_mesh(mf, half + half.T)
        return between(potential_matrix(mf, response(d)) - pseudo)

    fields = np.array([between(r) for r in dipole_integrals(mf)])
    weight = gaps.ravel() / 2  # makes the equations symmetric
    bare = fields / weight
    # Galerkin's method in a growing space: the error of alpha is of second order in the residual.
    space, image, residual = np.empty((0, bare.shape[1])), np.empty((0, bare.shape[1])), bare
    for _ in range(max_cycle):
        new = np.linalg.qr((residual - (residual @ space.T) @ space).T)[0].T
        space = np.vstack([space, new])
        image = np.vstack([image, [v - screening(v) / weight for v in new]])
        y = np.linalg.solve((space * weight) @ image.T, space @ fields.T)
        residual = bare - y.T @ image
        if np.linalg.norm(residual) < RESIDUAL * np.linalg.norm(bare):
            break
    else:
        raise InputError(
            f"the response of {density.structure.formula} has not converged in {max_cycle} "
            f"cycles; its gap is {step.gap:.3f} hartree"
        )
    uncoupled, tensor = -2 * fields @ bare.T, -2 * fields @ (y.T @ space).T
    return Polarizability((tensor + tensor.T) / 2, uncoupled)


def require_isolated(structure: Structure, grid: Grid) -> None:
    """Raise an InputError unless a molecule is isolated in a box that is large enough."""
    if structure.cell is not None:
        raise InputError(
            "a polarizability from dipoles needs an isolated molecule, but the structure is "
            "periodic; use a structure without a cell"
        )
    fractions = (structure.positions - grid.origin) @ np.linalg.inv(grid.cell)
    heights = 1 / np.linalg.norm(np.linalg.inv(grid.cell), axis=0)
    margin = float((np.minimum(fractions, 1 - fractions) * heights).min())
    if margin < MARGIN:
        raise InputError(
            f"an atom is {margin * BOHR:.2f} angstrom from the face of the box, but a "
            f"polarizability needs {MARGIN * BOHR:.2f}; use a larger box (Grid.around)"
        )


def dipole_integrals(mf: rks.RKS) -> np.ndarray:
    """<p| r - R |q> of the molecule's own Gaussians (3, nao, nao), bohr; R is its middle."""
    molecule = mf.cell.to_mol()
    with molecule.with_common_origin(molecule.atom_coords().mean(axis=0)):
        return molecule.intor("int1e_r")
