"""Two-centre tables of PBE: Fock and overlap matrices of two superposed atoms by their distance.

python -m denser.dft.tables.two_centre src/denser/atoms/tables

Two spherical atoms a and b, R apart on the z axis, in minimal GTH-SZV functions:

F_mn(R) = <m| -nabla^2/2 + v_a + v_b + v_H[n_a + n_b] + v_xc[n_a + n_b] |n>,  S_mn(R) = <m|n>

with m on a and n on b, as in density-functional tight binding (D. Porezag, Th. Frauenheim, Th.
Koehler, G. Seifert, R. Kaschner, Phys. Rev. B 51, 12947, 1995). The levels are those of the free
atoms. If GTH includes inner electrons (Li, Be, Na, Mg), the valence functions are Slater functions
(three Gaussians each), minus their components in the inner functions of both atoms.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from pyscf import dft, gto
from pyscf.pbc import gto as pbcgto
from scipy.linalg import solve


@dataclass(frozen=True)
class MinimalBasis:
    """Minimal functions of an atom.

    Parameters
    ----------
    electrons : tuple of float
        In each function of GTH-SZV, s before p.
    inner : tuple of int
        Indices of inner shells; the other functions then only contribute electrons.
    slater : tuple, optional
        For atoms with inner shells: shell (2 or 3) and exponent (bohr^-1) of the valence
        functions, chosen so large that they overlap only with neighbours.
    """

    electrons: tuple[float, ...]
    inner: tuple[int, ...] = ()
    slater: tuple[int, float] | None = None


def _valence(n: int) -> MinimalBasis:
    return MinimalBasis((2.0, *[(n - 2) / 3] * 3))


ATOMS = {
    "H": MinimalBasis((1.0,)),
    "Li": MinimalBasis((2.0, 1.0), (0,), (2, 1.0)),
    "Be": MinimalBasis((2.0, 2.0), (0,), (2, 1.1)),
    "B": _valence(3),
    "C": _valence(4),
    "N": _valence(5),
    "O": _valence(6),
    "F": _valence(7),
    "Na": MinimalBasis((2.0, 1.0, 2.0, 2.0, 2.0), (0, 2, 3, 4), (3, 1.1)),
    "Mg": MinimalBasis((2.0, 2.0, 2.0, 2.0, 2.0), (0, 2, 3, 4), (3, 1.1)),
    "Al": _valence(3),
    "Si": _valence(4),
    "P": _valence(5),
    "S": _valence(6),
    "Cl": _valence(7),
}

DISTANCES = np.linspace(1.0, 8.0, 29)
"""Distances of the tables, bohr."""

_STO3G = {2: ("C", 1.72), 3: ("Si", 1.75)}
"""Basis in PySCF with the Gaussians of a Slater shell, and its Slater exponent."""


def _shells(symbol: str) -> list:
    """Shells of GTH-SZV, and of Slater functions where there are inner shells."""
    shells = list(pbcgto.basis.load("gth-szv", symbol))
    slater = ATOMS[symbol].slater
    if slater is not None:
        n, zeta = slater
        model, scaled = _STO3G[n]
        outer = {angular: rows for angular, *rows in gto.basis.load("sto-3g", model)}
        factor = (zeta / scaled) ** 2
        shells += [[k, *([a * factor, c] for a, c in rows)] for k, rows in outer.items()]
    return shells


def _roles(symbol: str) -> tuple[list[float], list[int], list[int]]:
    """Electrons of all functions, inner and valence, in PySCF's order (s before p)."""
    atom = ATOMS[symbol]
    electrons = list(atom.electrons)
    if not atom.slater:
        return electrons, [], list(range(len(electrons)))
    electrons = [*electrons[:2], 0.0, *electrons[2:], 0.0, 0.0, 0.0]  # two s of GTH-SZV
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
        pseudo={s: pbcgto.pseudo.load("gth-pbe", s) for s in set(symbols)},
        unit="bohr",
        spin=None,
        verbose=0,
    )
    mf = dft.RKS(mol, xc="pbe")
    mf.grids.level = 3
    with warnings.catch_warnings():
        # One of the integrals of GTH's projectors is missing in PySCF's list of their sizes.
        warnings.filterwarnings("ignore", "Function int1e_r2_origi", UserWarning)
        fock = mf.get_hcore() + np.asarray(dft.rks.get_veff(mf, mol, np.diag(electrons)))
    overlap = mf.get_ovlp()
    change = np.diag(_signs(mol))[:, valence]
    change[inner] = -solve(overlap[np.ix_(inner, inner)], overlap[inner] @ change)
    return change.T @ fock @ change, change.T @ overlap @ change


def _signs(mol: gto.Mole) -> np.ndarray:
    """Signs (n,) that make each function positive far from its atom, p functions on their axes."""
    signs = []
    for shell in range(mol.nbas):
        outermost = mol.bas_ctr_coeff(shell)[mol.bas_exp(shell).argmin()]  # (contraction,)
        signs += np.repeat(np.sign(outermost), 2 * mol.bas_angular(shell) + 1).tolist()
    return np.array(signs)


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


def make_tables() -> dict[str, np.ndarray]:
    """Tables of all pairs of elements; each pair once, the lighter atom first."""
    pairs = list(itertools.combinations_with_replacement(ATOMS, 2))
    return {
        "numbers": np.array([atomic_numbers[s] for s in ATOMS]),
        "levels": np.array([levels(s)[0][[0, 1]] for s in ATOMS]),  # (element, s p), hartree
        "distances": DISTANCES,
        "pairs": np.array([[atomic_numbers[s] for s in pair] for pair in pairs]),
        "integrals": np.array(  # (pair, distance, overlap or Fock, integral)
            [[integrals(*pair, r) for r in DISTANCES] for pair in pairs], dtype=np.float32
        ),
    }


def main() -> None:
    """Write the tables to the folder named on the command line."""
    path = Path(sys.argv[1]) / "two_centre.npz"
    np.savez_compressed(path, allow_pickle=False, **make_tables())
    sys.stdout.write(f"wrote {path}\n")


if __name__ == "__main__":
    main()
