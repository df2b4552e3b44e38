"""Tables of pseudo-atoms and basis sets (`python -m denser.dft.tables` writes them)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyscf
from ase.data import atomic_numbers
from pyscf import gto
from pyscf.scf import addons, atom_hf_pp
from scipy.linalg import eigh

from denser.dft.basis import (
    ELEMENTS,
    LAST_OF_GTH,
    basis_name,
    minimal_basis_name,
    pseudopotential,
    shells,
    valence,
)
from denser.dft.pyscf_private import contraction_coefficients
from denser.dft.tables.free_atoms import configuration, free_atom

_RANGE, _GAUSSIANS = (0.04, 20.0), 13
"""Exponents of a fitted atom, bohr^-2, and their number."""

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
    """Write a spherical density as n(r) = sum_k (s_k + p_k r^2) exp(-a_k r^2), exactly.

    A shell of s functions contributes D_ij c_i c_j / (4 pi); of p functions
    D_ij c_i c_j r^2 * 3/(4 pi), with D the density-matrix element of one magnetic component.
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
                if angular > 1:
                    raise ValueError("tables cover s and p shells")
                weight = density * (2 * angular + 1) / (4 * np.pi)
                for a, ca in zip(exponents_i, c_i, strict=True):
                    for b, cb in zip(exponents_j, c_j, strict=True):
                        entry = pairs.setdefault(round(a + b, 10), np.zeros(2))
                        entry[angular] += weight * ca * cb
    exponents = np.array(sorted(pairs))
    s, p = np.array([pairs[a] for a in exponents]).T
    return _normalised(int(atom.atom_charge(0)), exponents, s, p)


def fitted_expansion(symbol: str, recipe: str) -> dict:
    """The same form, fitted to the self-consistent free pseudo-atom, for elements beyond argon.

    Their minimal basis sets are made for molecules and give poor atoms: the atom of SZV-MOLOPT-SR
    misplaces 28 % of the electrons of Ge. The fit minimises the integral of |dn|^2 / n^(1/2) over
    space. The recipe's factor multiplies all exponents.
    """
    r = np.linspace(0.0, 20.0, 4001)[1:, None]
    n = free_atom(symbol, pseudo=True).density(r[:, 0])
    exponents = np.geomspace(*_RANGE, _GAUSSIANS)
    gaussians = np.exp(-exponents * r**2)
    weights = np.maximum(r[:, 0], 0.3) / np.maximum(n, 1e-10) ** 0.25
    columns = np.concatenate([gaussians, r**2 * gaussians], axis=1) * weights[:, None]
    size = np.linalg.norm(columns, axis=0)
    fit = np.linalg.lstsq(columns / size, n * weights, rcond=1e-9)[0] / size
    factor = EXPONENT_FACTORS[recipe]
    s, p = fit[:_GAUSSIANS], fit[_GAUSSIANS:]
    return _normalised(valence(symbol), factor * exponents, factor**1.5 * s, factor**2.5 * p)


def _normalised(electrons: int, exponents: np.ndarray, s: np.ndarray, p: np.ndarray) -> dict:
    """Entry of the table, scaled to the number of electrons."""
    # integrals of exp(-a r^2) and r^2 exp(-a r^2) over space
    norm = (np.pi / exponents) ** 1.5
    scale = electrons / float(s @ norm + p @ (1.5 / exponents * norm))
    return {
        "valence": electrons,
        "exponents": exponents.tolist(),
        "s": (s * scale).tolist(),
        "p": (p * scale).tolist(),
    }


def sad_entry(symbol: str, recipe: str) -> dict:
    """Entry of an element in the table of a SAD recipe."""
    if atomic_numbers[symbol] > LAST_OF_GTH:
        return fitted_expansion(symbol, recipe)
    return gaussian_expansion(*atomic_density_matrix(symbol, recipe))


def basis_entry(symbol: str) -> dict:
    """Shells of an element in PySCF's order: radial functions sum_k c_k r^l exp(-a_k r^2)."""
    name = basis_name(symbol)
    atom = pseudo_atom(symbol, name)
    return {
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


def write_tables(folder: Path, symbols: Sequence[str]) -> None:
    """Make `sad.json` and `basis.json` anew for these elements; other entries are kept."""
    sad, basis = (
        json.loads(path.read_text()) if (path := folder / name).exists() else {}
        for name in ("sad.json", "basis.json")
    )
    recipes = {
        recipe: _ordered(
            sad.get("recipes", {}).get(recipe, {})
            | {symbol: sad_entry(symbol, recipe) for symbol in symbols}
        )
        for recipe in EXPONENT_FACTORS
    }
    sets = _ordered(basis.get("elements", {}) | {s: basis_entry(s) for s in symbols})
    program = f"PySCF {pyscf.__version__}"
    form = "n(r) = sum_k (s_k + p_k r^2) exp(-a_k r^2), bohr and e/bohr^3"
    _write(folder / "sad.json", {"program": program, "form": form, "recipes": recipes})
    form = "one row of coefficients per contracted function; times real spherical harmonics"
    _write(folder / "basis.json", {"program": program, "form": form, "elements": sets})


def _ordered(entries: dict[str, dict]) -> dict[str, dict]:
    return {symbol: entries[symbol] for symbol in ELEMENTS if symbol in entries}


def _write(path: Path, table: dict) -> None:
    path.write_text(json.dumps(table, indent=1) + "\n")
