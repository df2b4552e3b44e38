"""Make the tables of pseudo-atoms and basis sets of the package, from PySCF.

python -m denser.dft.tables.sad src/denser/atoms/tables
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pyscf
from pyscf import gto
from pyscf.scf import addons, atom_hf_pp
from scipy.linalg import eigh

from denser.dft.basis import ELEMENTS, basis_name, minimal_basis_name, pseudopotential, shells
from denser.dft.pyscf_private import contraction_coefficients
from denser.dft.tables.free_atoms import configuration

_RATIO = 1.5
"""Ratio of the exponents of a fitted atom."""

EXPONENT_FACTORS = {"gth-szv-1e": 1.0, "gth-szv-1e-atrocious": 2.0}
"""SAD recipes of Li et al. (2025): factor on every primitive exponent of the atom's basis."""


def pseudo_atom(symbol: str, basis: str, exponent_factor: float = 1.0) -> gto.Mole:
    """Return one atom with a basis set of PySCF's name and its GTH-PBE pseudopotential."""
    scaled = [
        [angular, *[[row[0] * exponent_factor, *row[1:]] for row in rows]]
        for angular, *rows in shells(symbol, basis)
    ]
    return gto.M(
        atom=[[symbol, (0.0, 0.0, 0.0)]],
        basis={symbol: scaled},
        pseudo={symbol: pseudopotential(symbol)},
        spin=None,
        verbose=0,
    )


def functions(atom: gto.Mole, angular: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """First row, exponents and normalised coefficients of each function of one angular momentum."""
    ao_loc = atom.ao_loc_nr()
    found = []
    for shell in range(atom.nbas):
        if atom.bas_angular(shell) == angular:
            for k, coefficients in enumerate(contraction_coefficients(atom, shell).T):
                first = int(ao_loc[shell]) + k * (2 * angular + 1)
                found.append((first, atom.bas_exp(shell), coefficients))
    return found


def atomic_density_matrix(symbol: str, recipe: str) -> tuple[gto.Mole, np.ndarray]:
    """Spherical density matrix of a neutral atom in its large basis set, as in the paper's SAD.

    Eigenvectors of the one-electron Hamiltonian in the minimal basis set (its exponents multiplied
    by the recipe's factor), spherically averaged ground-state occupations, projected to the large
    set (Li et al. 2025, Methods; there GTH-SZV and GTH-TZV2P, see `denser.dft.basis`).

    Returns
    -------
    atom : gto.Mole
    dm : (nao, nao)
    """
    small = pseudo_atom(symbol, minimal_basis_name(symbol), EXPONENT_FACTORS[recipe])
    large = pseudo_atom(symbol, basis_name(symbol))
    with warnings.catch_warnings():
        # One of the integrals of GTH's projectors is missing in PySCF's list of their sizes.
        warnings.filterwarnings("ignore", "Function int1e_r2_origi", UserWarning)
        hcore = atom_hf_pp.AtomSCFPP(small).get_hcore()
    overlap = small.intor_symmetric("int1e_ovlp")
    dm = np.zeros_like(overlap)
    for angular, shell in enumerate(configuration(symbol, pseudo=True)):
        rows = np.array([first for first, _, _ in functions(small, angular)], dtype=int)
        if not shell.size:
            continue
        _, c = eigh(hcore[np.ix_(rows, rows)], overlap[np.ix_(rows, rows)])
        c = c[:, : shell.size]
        for m in range(2 * angular + 1):
            dm[np.ix_(rows + m, rows + m)] = (c * shell / (2 * angular + 1)) @ c.T
    return large, addons.project_dm_nr2nr(small, dm, large)


def gaussian_expansion(atom: gto.Mole, dm: np.ndarray) -> dict:
    """Write a spherical density as n(r) = sum_k (s_k + p_k r^2) exp(-a_k r^2).

    A shell of s functions contributes D_ij c_i c_j / (4 pi); of p functions
    D_ij c_i c_j r^2 * 3/(4 pi), with D the density-matrix element of one magnetic component. These
    are exact. Shells of d functions give terms with r^4; an atom that has them is fitted instead.
    Normalised to the number of valence electrons.
    """
    pairs: dict[float, np.ndarray] = {}
    for angular in range(max(atom.bas_angular(shell) for shell in range(atom.nbas)) + 1):
        shell = functions(atom, angular)
        for i, (first_i, exponents_i, c_i) in enumerate(shell):
            for first_j, exponents_j, c_j in shell[: i + 1]:
                density = dm[first_i, first_j] * (1 if first_i == first_j else 2)
                if abs(density) < 1e-12:
                    continue
                if angular > 2:
                    raise ValueError("tables cover s, p and d shells")
                weight = density * (2 * angular + 1) / (4 * np.pi)
                for a, ca in zip(exponents_i, c_i, strict=True):
                    for b, cb in zip(exponents_j, c_j, strict=True):
                        entry = pairs.setdefault(round(a + b, 10), np.zeros(3))
                        entry[angular] += weight * ca * cb
    exponents = np.array(sorted(pairs))
    s, p, d = np.array([pairs[a] for a in exponents]).T
    if d.any():
        exponents, s, p = _fitted(exponents, s, p, d)
    # integrals of exp(-a r^2) and r^2 exp(-a r^2) over space
    norm = (np.pi / exponents) ** 1.5
    electrons = float(s @ norm + p @ (1.5 / exponents * norm))
    n_valence = int(atom.atom_charge(0))
    scale = n_valence / electrons
    return {
        "valence": n_valence,
        "exponents": exponents.tolist(),
        "s": (s * scale).tolist(),
        "p": (p * scale).tolist(),
    }


def _fitted(
    exponents: np.ndarray, s: np.ndarray, p: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponents, s and p of a least-squares fit to sum_k (s_k + p_k r^2 + d_k r^4) exp(-a_k r^2).

    The fit minimises the integral of |dn|^2 / n^(1/2) over space, and misplaces less than 1e-4 of
    the electrons.
    """
    r = np.linspace(0.0, np.sqrt(20.0 / exponents.min()), 4001)[1:, None]
    n = ((s + p * r**2 + d * r**4) * np.exp(-exponents * r**2)).sum(axis=1)
    count = int(np.ceil(np.log(exponents.max() / exponents.min()) / np.log(_RATIO))) + 1
    even = np.geomspace(exponents.min(), exponents.max(), count)
    gaussians = np.exp(-even * r**2)
    weights = np.maximum(r[:, 0], 0.3) / np.maximum(n, 1e-10) ** 0.25
    columns = np.concatenate([gaussians, r**2 * gaussians], axis=1) * weights[:, None]
    size = np.linalg.norm(columns, axis=0)
    fit = np.linalg.lstsq(columns / size, n * weights, rcond=1e-10)[0] / size
    return even, fit[:count], fit[count:]


def make_tables() -> dict:
    """Tables of all supported elements, with the program that made them."""
    return {
        "program": f"PySCF {pyscf.__version__}",
        "form": "n(r) = sum_k (s_k + p_k r^2) exp(-a_k r^2), bohr and e/bohr^3",
        "recipes": {
            recipe: {
                symbol: gaussian_expansion(*atomic_density_matrix(symbol, recipe))
                for symbol in ELEMENTS
            }
            for recipe in EXPONENT_FACTORS
        },
    }


def make_basis() -> dict:
    """Shells of each element in PySCF's order: radial functions sum_k c_k r^l exp(-a_k r^2)."""
    table = {}
    for symbol in ELEMENTS:
        name = basis_name(symbol)
        atom = pseudo_atom(symbol, name)
        table[symbol] = {
            "basis": name,
            "shells": [
                {
                    "l": int(atom.bas_angular(shell)),
                    "exponents": atom.bas_exp(shell).tolist(),
                    "coefficients": contraction_coefficients(atom, shell).T.tolist(),
                }
                for shell in range(atom.nbas)
            ],
        }
    return {
        "program": f"PySCF {pyscf.__version__}",
        "form": "one row of coefficients per contracted function; times real spherical harmonics",
        "elements": table,
    }


def main() -> None:
    """Write the tables to the folder named on the command line."""
    folder = Path(sys.argv[1])
    for name, table in (("sad.json", make_tables()), ("basis.json", make_basis())):
        (folder / name).write_text(json.dumps(table, indent=1) + "\n")
        sys.stdout.write(f"wrote {folder / name}\n")


if __name__ == "__main__":
    main()
