"""Free atoms at the basis-set limit, with all electrons and with the GTH pseudopotential.

A spherical, spin-averaged Kohn-Sham atom is a problem in one dimension. The radial functions
u(r) = r R(r) are expanded in finite elements (polynomials between Lobatto nodes). These describe
both the cusp at the nucleus and the tail, and the energies converge to about 1e-9 hartree (the
method of HelFEM: Lehtola, Int. J. Quantum Chem. 119, e25945, 2019). Beyond argon, atoms with all
electrons are scalar relativistic (spin-free exact two-component theory, X2C), as the GTH
pseudopotentials are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import gamma
from pathlib import Path

import numpy as np
import pyscf
from pyscf.data import elements
from pyscf.dft import libxc
from scipy.interpolate import BarycentricInterpolator
from scipy.linalg import eigh
from scipy.special import erf

from denser.dft.basis import pseudopotential, valence
from denser.dft.pyscf_private import x2c_hcore

RELATIVISTIC = 18
"""All-electron atoms beyond this atomic number are scalar relativistic."""

_CORES: dict[int, tuple[int, ...]] = {
    0: (), 2: (2,), 10: (4, 6), 18: (6, 12), 28: (6, 12, 10), 36: (8, 18, 10), 46: (8, 18, 20),
}  # fmt: skip
"""Electrons of each angular momentum in the cores of GTH, by their sum."""

R_MAX = 40.0
"""The atoms are in a sphere of this radius, bohr."""

TABLE_R = 25.0 * np.expm1(np.linspace(0.0, 8.0, 401)) / np.expm1(8.0)
"""Radii of the shipped table, bohr: 2e-4 apart at the nucleus, 0.5 at the end."""


@dataclass(frozen=True, eq=False)
class FiniteElements:
    """Functions u_i(r) on (0, R_MAX) that vanish at both ends, on quadrature points.

    Parameters
    ----------
    r, weights : (n_points,) float
    u, du : (n_functions, n_points) float
    edges : (n_elements + 1,) float
    nodes : (order,) float
        Lobatto nodes of an element on [-1, 1].
    """

    r: np.ndarray
    weights: np.ndarray
    u: np.ndarray
    du: np.ndarray
    edges: np.ndarray
    nodes: np.ndarray

    @classmethod
    def build(cls, n_elements: int = 20, order: int = 13, r_max: float = R_MAX) -> FiniteElements:
        """Elements that grow from the nucleus outwards."""
        legendre = np.polynomial.legendre.Legendre.basis(order - 1)
        nodes = np.concatenate([[-1.0], legendre.deriv().roots().real, [1.0]])
        x, w = np.polynomial.legendre.leggauss(3 * order)
        shapes = BarycentricInterpolator(nodes, np.eye(order), rng=np.random.default_rng(0))
        edges = np.expm1(np.log1p(40 * r_max) * np.linspace(0, 1, n_elements + 1) ** 1.25) / 40
        u = np.zeros((n_elements * (order - 1) + 1, n_elements * x.size))
        du, r, weights = np.zeros_like(u), np.empty(u.shape[1]), np.empty(u.shape[1])
        for k, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            rows = slice(k * (order - 1), k * (order - 1) + order)
            columns = slice(k * x.size, (k + 1) * x.size)
            half = (high - low) / 2
            r[columns], weights[columns] = low + half * (x + 1), half * w
            u[rows, columns] = shapes(x).T
            du[rows, columns] = shapes.derivative(x).T / half
        return cls(r, weights, u[1:-1], du[1:-1], edges, nodes)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """Matrix of a function of r, integral of u_i values u_j dr."""
        return (self.u * (self.weights * values)) @ self.u.T

    def evaluate(self, coefficients: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and first derivatives of sum_i c_i u_i at other radii (n_orbitals, n_r)."""
        padded = np.pad(coefficients, ((1, 1), (0, 0)))
        order = self.nodes.size
        shapes = BarycentricInterpolator(self.nodes, np.eye(order), rng=np.random.default_rng(0))
        element = np.clip(np.searchsorted(self.edges, r, side="right") - 1, 0, len(self.edges) - 2)
        half = np.diff(self.edges)[element] / 2
        x = (r - self.edges[element]) / half - 1
        c = padded[element[:, None] * (order - 1) + np.arange(order)]  # (r, order, orbital)
        value = np.einsum("rk,rko->or", shapes(x), c)
        slope = np.einsum("rk,rko->or", shapes.derivative(x), c) / half
        return value, slope


@dataclass(frozen=True, eq=False)
class RadialAtom:
    """A converged spherical atom.

    Parameters
    ----------
    energy : float
        Total energy, hartree.
    orbitals : list of ((n_functions, n_l) float, float)
        For each angular momentum the coefficients and the electrons of each radial function.
    """

    elements: FiniteElements
    energy: float
    orbitals: list[tuple[np.ndarray, np.ndarray]]

    def density(self, r: np.ndarray) -> np.ndarray:
        """n(r) = sum over orbitals of f u^2 / (4 pi r^2), e/bohr^3; at r = 0, u/r is u'."""
        n = np.zeros_like(r)
        for c, f in self.orbitals:
            value, slope = self.elements.evaluate(c, r)
            radial = np.where(r > 0, value / np.where(r > 0, r, 1.0), slope)
            n += f @ radial**2 / (4 * np.pi)
        return n


def configuration(symbol: str, pseudo: bool) -> list[np.ndarray]:
    """Electrons in the shells of each angular momentum of a neutral atom, those of GTH-PBE.

    Shells of one angular momentum fill in order and share their electrons evenly.
    """
    counts = list(pseudopotential(symbol)[0])
    if not pseudo:
        core = _CORES[elements.charge(symbol) - valence(symbol)]
        counts = [sum(both) for both in zip_longest(core, counts, fillvalue=0)]
    shells = []
    for angular, n in enumerate(counts):
        full = 4 * angular + 2
        shells.append(np.array([full] * (n // full) + [n % full] * (n % full > 0), dtype=float))
    return shells


def free_atom(
    symbol: str,
    pseudo: bool,
    xc: str = "pbe",
    n_elements: int = 20,
    relativistic: bool | None = None,
) -> RadialAtom:
    """Solve the spherical, spin-averaged Kohn-Sham equations of a neutral atom.

    Parameters
    ----------
    symbol : str
    pseudo : bool
        With the GTH-PBE pseudopotential and its valence electrons, otherwise with all electrons.
    xc : str
        An LDA or GGA by PySCF's name.
    n_elements : int
    relativistic : bool, optional
        Scalar relativistic; default: for all electrons beyond argon.
    """
    fe = FiniteElements.build(n_elements)
    r, w = fe.r, fe.weights
    z = elements.charge(symbol)
    if relativistic is None:
        relativistic = z > RELATIVISTIC and not pseudo
    shells = configuration(symbol, pseudo)
    n_electrons = float(sum(shell.sum() for shell in shells))
    kinetic = 0.5 * (fe.du * w) @ fe.du.T
    centrifugal = fe.matrix(1 / r**2)
    overlap = fe.matrix(np.ones_like(r))
    nuclear = _gth_local_potential(symbol, r) if pseudo else -z / r
    v_ext = fe.matrix(nuclear)
    hcore = []
    for angular in range(len(shells)):
        t = kinetic + 0.5 * angular * (angular + 1) * centrifugal
        if relativistic:
            # p V p of functions u(r) Y / r
            slope = fe.du - fe.u / r
            pvp = (slope * (w * nuclear)) @ slope.T
            pvp += angular * (angular + 1) * fe.matrix(nuclear / r**2)
            hcore.append(x2c_hcore(t, v_ext, pvp, overlap))
        else:
            hcore.append(t + v_ext)
    if pseudo:
        for angular, (radius, n, h) in enumerate(pseudopotential(symbol)[5:][: len(shells)]):
            p = fe.u @ (w * r * _gth_projectors(angular, radius, n, r)).T
            hcore[angular] = hcore[angular] + p @ np.reshape(h, (n, n)) @ p.T

    screened = fe.matrix(n_electrons * (1 - np.exp(-r)) / r) * (1 - 1 / max(n_electrons, 2))
    fock = [h + screened for h in hcore]
    history: list[tuple[list[np.ndarray], np.ndarray]] = []
    energy, converged = 0.0, False
    for _ in range(100):
        orbitals = []
        for f, occupation in zip(fock, shells, strict=True):
            _, c = eigh(f, overlap, subset_by_index=[0, max(occupation.size, 1) - 1])
            orbitals.append((c[:, : occupation.size], occupation))
        dms = [(c * f) @ c.T for c, f in orbitals]
        v_eff, e_eff = _effective_potential(fe, orbitals, kinetic, n_electrons, xc)
        fock = [h + v_eff for h in hcore]
        last, energy = energy, e_eff + sum(np.sum(h * d) for h, d in zip(hcore, dms, strict=True))
        error = np.concatenate(
            [(f @ d @ overlap - overlap @ d @ f).ravel() for f, d in zip(fock, dms, strict=True)]
        )
        if np.abs(error).max() < 1e-9 and abs(energy - last) < 1e-10:
            converged = True
            break
        history = [*history[-9:], (fock, error)]
        fock = _extrapolate(history)
    if not converged:
        raise RuntimeError(f"the {symbol} atom did not converge")
    return RadialAtom(fe, energy, orbitals)


def _effective_potential(
    fe: FiniteElements, orbitals: list, kinetic: np.ndarray, n_electrons: float, xc: str
) -> tuple[np.ndarray, float]:
    """Hartree and exchange-correlation matrix between radial functions, and their energy."""
    r, w = fe.r, fe.weights
    u2, u_du = np.zeros_like(r), np.zeros_like(r)
    for c, f in orbitals:
        value, slope = c.T @ fe.u, c.T @ fe.du
        u2 += f @ value**2
        u_du += f @ (value * slope)
    n = u2 / (4 * np.pi * r**2)
    dn = (2 * u_du / r**2 - 2 * u2 / r**3) / (4 * np.pi)
    # Poisson: w = r v_H obeys w'' = -4 pi r n with w(0) = 0 and w(R) = N; N r / R has no w''
    v_h = np.linalg.solve(2 * kinetic, fe.u @ (w * u2 / r)) @ fe.u / r + n_electrons / R_MAX
    rho = np.array([n, dn, 0 * n, 0 * n])
    if libxc.xc_type(xc) == "LDA":
        e, v = libxc.eval_xc(xc, n, deriv=1)[:2]
        v_rho, v_sigma = v[0], np.zeros_like(n)
    else:
        e, v = libxc.eval_xc(xc, rho, deriv=1)[:2]
        v_rho, v_sigma = v[0], v[1]
    local = fe.matrix(v_h + v_rho - 4 * v_sigma * dn / r)
    cross = (fe.u * (w * 2 * v_sigma * dn)) @ fe.du.T
    energy = float((w * u2) @ (0.5 * v_h + e))
    return local + cross + cross.T, energy


def _extrapolate(history: list) -> list[np.ndarray]:
    """Pulay's DIIS over the Fock matrices."""
    errors = np.array([error for _, error in history])
    n = len(history)
    b = np.zeros((n + 1, n + 1))
    b[:n, :n] = errors @ errors.T
    b[:n, :n] /= max(np.abs(b[:n, :n]).max(), 1e-300)
    b[n, :n] = b[:n, n] = 1.0
    c = np.linalg.lstsq(b, np.eye(n + 1)[n], rcond=1e-14)[0][:n]
    n_angular = len(history[0][0])
    return [
        sum(ci * fock[a] for ci, (fock, _) in zip(c, history, strict=True))
        for a in range(n_angular)
    ]


def gth_local(symbol: str) -> tuple[float, float, tuple[float, ...]]:
    """Charge, r_loc (bohr) and coefficients C_k (hartree) of a GTH-PBE local potential.

    V(r) = -Z erf(x / sqrt(2)) / r + exp(-x^2 / 2) sum_k C_k x^(2 (k - 1)), x = r / r_loc
    (Hartwigsen, Goedecker and Hutter, Phys. Rev. B 58, 3641, 1998, equation 1).
    """
    occupation, r_loc, _, coefficients = pseudopotential(symbol)[:4]
    return float(sum(occupation)), r_loc, tuple(coefficients)


def _gth_local_potential(symbol: str, r: np.ndarray) -> np.ndarray:
    charge, r_loc, coefficients = gth_local(symbol)
    x2 = (r / r_loc) ** 2
    polynomial = sum(c * x2**k for k, c in enumerate(coefficients))
    return -charge * erf(np.sqrt(x2 / 2)) / r + np.exp(-x2 / 2) * polynomial


def _gth_projectors(angular: int, radius: float, n: int, r: np.ndarray) -> np.ndarray:
    """Radial projectors p_i(r) of Hartwigsen et al. (1998), equation 3 (n, n_r)."""
    rows = np.empty((n, r.size))
    for i in range(1, n + 1):
        power = angular + 2 * (i - 1)
        half = angular + (4 * i - 1) / 2
        rows[i - 1] = np.sqrt(2 / gamma(half)) / radius**half * r**power
    return rows * np.exp(-0.5 * (r / radius) ** 2)


def write_table(folder: Path, symbols: Sequence[str]) -> None:
    """Make the densities of these elements anew in `free_atoms.npz`; others are kept.

    At `TABLE_R`, e/bohr^3, with the program that made them.
    """
    path = folder / "free_atoms.npz"
    table = dict(np.load(path)) if path.exists() else {}
    table["source"] = np.array(
        "denser.dft.tables.free_atoms: spherical spin-averaged PBE atoms in radial finite "
        "elements, scalar relativistic beyond argon, "
        f"GTH-PBE pseudopotentials, libxc of PySCF {pyscf.__version__}; e/bohr^3"
    )
    table["r"] = TABLE_R
    for symbol in symbols:
        table[f"{symbol}_valence"] = np.array(valence(symbol))
        for kind in ("all_electron", "pseudo"):
            table[f"{symbol}_{kind}"] = free_atom(symbol, kind == "pseudo").density(TABLE_R)
    np.savez_compressed(path, allow_pickle=False, **table)
