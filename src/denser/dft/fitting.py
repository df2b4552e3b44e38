"""Density fitting: the best expansion of a density in a set of atom-centred Gaussians.

Li et al. (2025) use it for comparison: a model that predicts such coefficients cannot be better.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from pyscf.df import aug_etb
from pyscf.gto.mole import cart2sph
from scipy.linalg import eigh
from scipy.sparse import block_diag, diags_array

from denser.dft.basis import basis_name
from denser.dft.tables.sad import pseudo_atom
from denser.labels.render import axis_functions
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure

BETA = 2.0
"""Ratio of neighbouring exponents of the even-tempered basis; PySCF's default."""

LINEAR_DEPENDENCE = 1e-9
"""Combinations of normalised functions with a smaller relative squared norm are left out; this is
PySCF's threshold for density fitting."""

MAX_FUNCTIONS = 12_000

_BLOCK = 64


def auxiliary_shells(
    structure: Structure, basis: str = Recipe().basis, beta: float = BETA
) -> list[tuple[int, int, float]]:
    """Even-tempered auxiliary basis of an orbital basis: (atom, angular momentum, exponent).

    Exponents alpha_l beta^n that span the products of the orbital basis, angular momenta up to
    twice its largest (`pyscf.df.aug_etb`).

    Raises
    ------
    InputError
        `beta` is not above 1.
    """
    if not (np.isfinite(beta) and beta > 1):
        raise InputError(f"exponents need a ratio beta above 1, found {beta:g}; 2 is usual")
    return [
        (i, angular, exponent)
        for i, symbol in enumerate(structure.symbols)
        for angular, exponent in _element_shells(symbol, basis, beta)
    ]


@cache
def _element_shells(symbol: str, basis: str, beta: float) -> list[tuple[int, float]]:
    shells = aug_etb(pseudo_atom(symbol, basis_name(symbol, basis)), beta=beta)[symbol]
    return [(angular, float(exponent)) for angular, (exponent, _) in shells]


class AuxiliaryBasis:
    """Periodic images of solid harmonic Gaussians on the nodes of an orthorhombic grid.

    chi_k(r) = c_k S_lm(r - R) exp(-a |r - R|^2), with c_k such that the integral of chi_k^2 is 1.
    A Cartesian Gaussian is a product of one-dimensional functions, so integrals over the grid
    are products of sums over its axes.

    Parameters
    ----------
    density : Density
        Its atoms are the centres of the functions, which are evaluated on its grid.
    shells : list of (atom, angular momentum, exponent)
    """

    def __init__(self, density: Density, shells: list[tuple[int, int, float]]) -> None:
        self.grid = grid = density.grid
        if not grid.is_orthorhombic:
            raise InputError("density fitting needs an orthorhombic grid along x, y and z")
        atoms, exponents, powers, harmonics = [], [], [], []
        for atom, angular, exponent in shells:
            monomials = [(angular - i, i - j, j) for i in range(angular + 1) for j in range(i + 1)]
            powers += monomials
            atoms += [atom] * len(monomials)
            exponents += [exponent] * len(monomials)
            harmonics.append(cart2sph(angular, normalized="sp"))
        if len(exponents) > MAX_FUNCTIONS:
            raise InputError(
                f"{density.structure.formula} would need {len(exponents)} fitting functions; "
                f"fitting is for molecules of up to {MAX_FUNCTIONS}"
            )
        a, power = np.array(exponents), np.array(powers)
        centres = density.structure.positions[np.array(atoms)]
        self._axes = [
            axis_functions(grid.axis(i), grid.cell[i, i], centres[:, i], a, power[:, i])
            for i in range(3)
        ]
        fx, fy, fz = self._axes
        cartesian = block_diag(harmonics, format="csr")  # (n_cartesian, n)
        overlap = (fx @ fx.T) * (fy @ fy.T) * (fz @ fz.T) * grid.dv
        overlap = cartesian.T @ (cartesian.T @ overlap).T  # symmetric
        norm = 1.0 / np.sqrt(np.diag(overlap))
        self._cartesian = cartesian @ diags_array(norm)
        self.overlap = overlap * norm * norm[:, None]
        """(n, n) integrals of chi_k chi_l."""

    def project(self, values: np.ndarray) -> np.ndarray:
        """Integrals of chi_k with a function on the grid (n,)."""
        fx, fy, fz = self._axes
        out = np.empty(len(fx))
        for i in range(0, len(fx), _BLOCK):
            part = slice(i, i + _BLOCK)
            planes = np.tensordot(fx[part], values, 1)  # (k, y, z)
            out[part] = np.einsum("kyz,ky,kz->k", planes, fy[part], fz[part], optimize=True)
        return self._cartesian.T @ out * self.grid.dv

    def charges(self) -> np.ndarray:
        """Integrals of chi_k (n,)."""
        fx, fy, fz = (f.sum(axis=1) for f in self._axes)
        return self._cartesian.T @ (fx * fy * fz) * self.grid.dv

    def evaluate(self, coefficients: np.ndarray) -> np.ndarray:
        """sum_k c_k chi_k on the nodes (nx, ny, nz)."""
        fx, fy, fz = self._axes
        c = self._cartesian @ coefficients
        out = np.zeros(self.grid.shape)
        flat = out.reshape(self.grid.shape[0], -1)
        for i in range(0, len(c), _BLOCK):
            part = slice(i, i + _BLOCK)
            planes = (c[part, None] * fy[part])[:, :, None] * fz[part][:, None, :]  # (k, y, z)
            flat += fx[part].T @ planes.reshape(len(planes), -1)
        return out


def fit_density(density: Density, basis: str = Recipe().basis, beta: float = BETA) -> Density:
    """Fit a density with atom-centred Gaussians in the overlap metric.

    Minimises integral |rho - sum_k c_k chi_k|^2 dr and conserves the number of electrons,
    integral sum_k c_k chi_k dr = integral rho dr:

    S c = b + lambda q, with S_kl = <chi_k|chi_l>, b_k = <chi_k|rho> and q_k = integral chi_k dr,

    all computed on the periodic grid. The basis is the even-tempered one that PySCF generates for
    density fitting with the orbital basis.

    Parameters
    ----------
    density : Density
        On an orthorhombic grid, whose box is the period.
    basis : str
        Orbital basis that the auxiliary basis belongs to, in PySCF's names.
    beta : float
        Ratio of neighbouring exponents.

    Returns
    -------
    Density
        e/bohr^3, float64; it may be negative in places.

    Raises
    ------
    InputError
        The grid is not orthorhombic, there are too many functions, or `beta` is not above 1.

    References
    ----------
    Li et al. (2025), who find an Err_rho of 0.29 % on QM9.
    """
    auxiliary = AuxiliaryBasis(density, auxiliary_shells(density.structure, basis, beta))
    values = np.asarray(density.values, dtype=np.float64)
    weights, vectors = eigh(auxiliary.overlap, driver="evd")
    kept = weights > LINEAR_DEPENDENCE * weights[-1]
    weights, vectors = weights[kept], vectors[:, kept]
    b, q = vectors.T @ auxiliary.project(values), vectors.T @ auxiliary.charges()
    missing = density.integrate() - q @ (b / weights)
    multiplier = missing / (q @ (q / weights))
    coefficients = vectors @ ((b + multiplier * q) / weights)
    return density.with_values(auxiliary.evaluate(coefficients))
