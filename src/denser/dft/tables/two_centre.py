"""Two-centre tables of PBE: Fock and overlap matrices of two superposed atoms by their distance.

Two spherical atoms a and b, R apart on the z axis, in the functions of their minimal basis sets
(`denser.dft.basis`):

F_mn(R) = <m| -nabla^2/2 + v_a + v_b + v_H[n_a + n_b] + v_xc[n_a + n_b] |n>,  S_mn(R) = <m|n>

with m on a and n on b, as in density-functional tight binding (D. Porezag, Th. Frauenheim, Th.
Koehler, G. Seifert, R. Kaschner, Phys. Rev. B 51, 12947, 1995). The levels are those of the free
atoms. If GTH includes inner s and p electrons (Li, Be, Na, Mg, K, Ca), the valence functions are
Slater functions (three Gaussians each), minus their components in the inner functions of both
atoms. Filled d shells (Cu, Zn) are inner functions too.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from pyscf import dft, gto
from scipy.linalg import solve

from denser.dft.basis import minimal_basis_name, pseudopotential, shells
from denser.dft.tables.free_atoms import free_atom


@dataclass(frozen=True)
class MinimalBasis:
    """Minimal functions of an atom.

    Parameters
    ----------
    electrons : tuple of float
        In each function of the minimal basis set, s before p before d.
    inner : tuple of int
        Indices of inner functions.
    slater : tuple, optional
        For atoms with inner s and p shells: shell (2 or 3) and exponent (bohr^-1) of the valence
        functions, chosen so large that they overlap only with neighbours. The functions of the
        minimal set then only contribute electrons.
    fitted : bool
        The orbitals of the free pseudo-atom in place of the minimal set, which gives poor atoms of
        the later rows (`denser.dft.tables.sad.fitted_expansion`).
    """

    electrons: tuple[float, ...]
    inner: tuple[int, ...] = ()
    slater: tuple[int, float] | None = None
    fitted: bool = False


def _valence(n: int, fitted: bool = False) -> MinimalBasis:
    return MinimalBasis((2.0, *[(n - 2) / 3] * 3), fitted=fitted)


def _filled_d(n: int, fitted: bool = False) -> MinimalBasis:
    electrons = (min(n, 2.0), *[max(n - 2, 0) / 3] * 3, *[2.0] * 5)
    return MinimalBasis(electrons, (4, 5, 6, 7, 8), fitted=fitted)


def _filled_sp(n: int, zeta: float) -> MinimalBasis:
    return MinimalBasis((2.0, float(n), 2.0, 2.0, 2.0), (0, 2, 3, 4), (3, zeta))


ATOMS = {
    "H": MinimalBasis((1.0,)),
    "Li": MinimalBasis((2.0, 1.0), (0,), (2, 1.0)),
    "Be": MinimalBasis((2.0, 2.0), (0,), (2, 1.1)),
    "B": _valence(3),
    "C": _valence(4),
    "N": _valence(5),
    "O": _valence(6),
    "F": _valence(7),
    "Na": _filled_sp(1, 1.1),
    "Mg": _filled_sp(2, 1.1),
    "Al": _valence(3),
    "Si": _valence(4),
    "P": _valence(5),
    "S": _valence(6),
    "Cl": _valence(7),
    "K": _filled_sp(1, 0.95),
    "Ca": _filled_sp(2, 1.0),
    "Cu": _filled_d(1),
    "Zn": _filled_d(2),
    "Ge": _valence(4, fitted=True),
    "As": _valence(5, fitted=True),
    "Se": _valence(6, fitted=True),
    "Br": _valence(7, fitted=True),
    "I": _valence(7, fitted=True),
}

DISTANCES = np.linspace(1.0, 8.0, 29)
"""Distances of the tables, bohr."""

_OUTSIDE = 4.0
"""Functions are positive at this distance, bohr."""

_GRID = 1
"""Level of the grids of PySCF."""

_RANGE, _PRIMITIVES = (0.03, 6.0), 8
"""Exponents of fitted orbitals, bohr^-2, and their number."""

_STO3G = {2: ("C", 1.72), 3: ("Si", 1.75)}
"""Basis in PySCF with the Gaussians of a Slater shell, and its Slater exponent."""


def _shells(symbol: str) -> list:
    """Shells of the minimal basis set, and of Slater functions where there are inner shells."""
    if ATOMS[symbol].fitted:
        return _fitted_shells(symbol)
    found = list(shells(symbol, minimal_basis_name(symbol)))
    slater = ATOMS[symbol].slater
    if slater is not None:
        n, zeta = slater
        model, scaled = _STO3G[n]
        outer = {angular: rows for angular, *rows in gto.basis.load("sto-3g", model)}
        factor = (zeta / scaled) ** 2
        found += [[k, *([a * factor, c] for a, c in rows)] for k, rows in outer.items()]
    return found


@cache
def _fitted_shells(symbol: str) -> list:
    """Orbitals of the free pseudo-atom, in Gaussians by least squares."""
    atom = free_atom(symbol, pseudo=True)
    r, w = np.linspace(0.0, 20.0, 2001)[1:], 0.01
    exponents = np.geomspace(*_RANGE, _PRIMITIVES)
    found = []
    for angular, (c, _) in enumerate(atom.orbitals):
        u = atom.elements.evaluate(c, r)[0][-1]
        norms = gto.gto_norm(angular, exponents)
        primitives = (norms * np.exp(-np.outer(r**2, exponents))) * r[:, None] ** (angular + 1)
        fit = np.linalg.lstsq(primitives, u, rcond=1e-8)[0]
        left = w * np.sum((primitives @ fit - u) ** 2)
        if left > 1e-3:
            raise RuntimeError(f"the orbital {angular} of {symbol} is not fitted ({left:.1e})")
        found.append([angular, *np.stack([exponents, fit], axis=1).tolist()])
    return found


def _roles(symbol: str) -> tuple[list[float], list[int], list[int]]:
    """Electrons of all functions, inner and valence, in PySCF's order (s before p)."""
    atom = ATOMS[symbol]
    electrons = list(atom.electrons)
    if not atom.slater:
        inner = list(atom.inner)
        return electrons, inner, [k for k in range(len(electrons)) if k not in inner]
    electrons = [*electrons[:2], 0.0, *electrons[2:], 0.0, 0.0, 0.0]  # two s of the minimal set
    inner = [k if k < 2 else k + 1 for k in atom.inner]
    return electrons, inner, [2, *range(len(electrons) - 3, len(electrons))]


def matrices(symbols: list[str], positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fock and overlap matrix of superposed neutral atoms in their valence functions.

    Parameters
    ----------
    symbols : list of str
    positions : (n_atoms, 3) float
        Bohr.

    Returns
    -------
    fock, overlap : (n, n) float
        Hartree; s, px, py, pz of each atom, of hydrogen s only.
    """
    electrons: list[float] = []
    inner: list[int] = []
    valence: list[int] = []
    for symbol in symbols:
        occupations, *roles = _roles(symbol)
        for rows, more in zip((inner, valence), roles, strict=True):
            rows += [len(electrons) + k for k in more]
        electrons += occupations
    mol = gto.M(
        atom=list(zip(symbols, positions.tolist(), strict=True)),
        basis={s: _shells(s) for s in set(symbols)},
        pseudo={s: pseudopotential(s) for s in set(symbols)},
        unit="bohr",
        spin=None,
        verbose=0,
    )
    mf = dft.RKS(mol, xc="pbe")
    mf.grids.level = _GRID
    with warnings.catch_warnings():
        # Some of the integrals of GTH's projectors are missing in PySCF's list of their sizes.
        warnings.filterwarnings("ignore", "Function int1e_r[24]_origi", UserWarning)
        fock = mf.get_hcore() + np.asarray(dft.rks.get_veff(mf, mol, np.diag(electrons)))
    overlap = mf.get_ovlp()
    change = np.diag(_signs(mol))[:, valence]
    change[inner] = -solve(overlap[np.ix_(inner, inner)], overlap[inner] @ change)
    return change.T @ fock @ change, change.T @ overlap @ change


def _signs(mol: gto.Mole) -> np.ndarray:
    """Signs (n,) that make each function positive far from its atom, p functions on their axes."""
    signs = []
    for shell in range(mol.nbas):
        values = np.exp(-mol.bas_exp(shell) * _OUTSIDE**2) @ mol.bas_ctr_coeff(shell)
        signs += np.repeat(np.sign(values), 2 * mol.bas_angular(shell) + 1).tolist()
    return np.array(signs)


@cache
def levels(symbol: str) -> tuple[np.ndarray, np.ndarray]:
    """Diagonals (4,) of the Fock (hartree) and overlap matrix of a free atom; 0 and 1 if none."""
    fock, overlap = np.zeros(4), np.ones(4)
    f, s = matrices([symbol], np.zeros((1, 3)))
    fock[: len(f)], overlap[: len(f)] = f.diagonal(), s.diagonal()
    return fock / overlap, overlap


def integrals(first: str, second: str, r: float) -> np.ndarray:
    """Elements (2, 5) of the overlap and Fock (hartree) matrix between two atoms r bohr apart.

    s s, s sigma, sigma s, sigma sigma and pi pi, first atom first, between normalised functions;
    the axis of the p functions points from the first to the second atom. Zero where hydrogen has
    no p functions.
    """
    fock, overlap = matrices([first, second], np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r]]))
    n = 1 if first == "H" else 4
    norms = np.sqrt(np.outer(levels(first)[1], levels(second)[1]))
    block = np.zeros((2, 4, 4))
    block[:, :n, : len(fock) - n] = overlap[:n, n:], fock[:n, n:]
    block /= norms
    return np.stack([block[:, i, j] for i, j in ((0, 0), (0, 3), (3, 0), (3, 3), (1, 1))], axis=1)


def write_table(folder: Path, symbols: Sequence[str]) -> None:
    """Make the pairs of these elements anew in `two_centre.npz`; others are kept.

    Each pair of `ATOMS` once, the lighter atom first.
    """
    path = folder / "two_centre.npz"
    known = dict(np.load(path)) if path.exists() else {}
    kept = dict(
        zip(
            map(tuple, np.asarray(known.get("pairs", ())).tolist()),
            known.get("integrals", ()),
            strict=True,
        )
    )
    levels_of = dict(zip(known.get("numbers", ()), known.get("levels", ()), strict=True))
    levels_of |= {
        atomic_numbers[s]: levels(s)[0][[0, 1]]
        for s in ATOMS
        if s in symbols or atomic_numbers[s] not in levels_of
    }
    pairs, found = [], []
    for couple in itertools.combinations_with_replacement(ATOMS, 2):
        pair = (atomic_numbers[couple[0]], atomic_numbers[couple[1]])
        pairs.append(pair)
        if pair in kept and not set(couple) & set(symbols):
            found.append(kept[pair])
        else:
            found.append(np.array([integrals(*couple, r) for r in DISTANCES]))
    table = {
        "numbers": np.array([atomic_numbers[s] for s in ATOMS]),
        "levels": np.array(
            [levels_of[atomic_numbers[s]] for s in ATOMS]
        ),  # (element, s p), hartree
        "distances": DISTANCES,
        "pairs": np.array(pairs),
        # (pair, distance, overlap or Fock, integral)
        "integrals": np.array(found, dtype=np.float32),
    }
    np.savez_compressed(path, allow_pickle=False, **table)
