"""Make the tables of pseudo-atoms and basis sets of the package, from PySCF.

python -m denser.dft.tables.sad src/denser/atoms/tables
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyscf
from pyscf import gto
from pyscf.data import elements
from pyscf.pbc import gto as pbcgto
from pyscf.scf import addons, atom_hf_pp

from denser.dft.pyscf_private import contraction_coefficients

ELEMENTS = [
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl",
]  # fmt: skip

EXPONENT_FACTORS = {"gth-szv-1e": 1.0, "gth-szv-1e-atrocious": 2.0}
"""SAD recipes of Li et al. (2025): factor on every primitive exponent of the atom's basis."""


def pseudo_atom(
    symbol: str, basis: str, pseudo: str = "gth-pbe", exponent_factor: float = 1.0
) -> gto.Mole:
    """Return one atom with GTH basis and pseudopotential."""
    shells = [
        [angular, *[[row[0] * exponent_factor, *row[1:]] for row in rows]]
        for angular, *rows in pbcgto.basis.load(basis, symbol)
    ]
    return gto.M(
        atom=[[symbol, (0.0, 0.0, 0.0)]],
        basis={symbol: shells},
        pseudo={symbol: pbcgto.pseudo.load(pseudo, symbol)},
        spin=None,
        verbose=0,
    )


def atomic_density_matrix(symbol: str, recipe: str) -> tuple[gto.Mole, np.ndarray]:
    """Spherical density matrix of a neutral atom in GTH-TZV2P, as in the paper's SAD.

    Eigenvectors of the one-electron Hamiltonian in GTH-SZV (its exponents multiplied by the
    recipe's factor), spherically averaged ground-state occupations, projected to GTH-TZV2P
    (Li et al. 2025, Methods).

    Returns
    -------
    atom : gto.Mole
    dm : (nao, nao)
    """
    small = pseudo_atom(symbol, "gth-szv", exponent_factor=EXPONENT_FACTORS[recipe])
    large = pseudo_atom(symbol, "gth-tzv2p")
    if small.nelectron == 1:
        mf = atom_hf_pp.AtomHF1ePP(small)
        mf.atomic_configuration = elements.NRSRHF_CONFIGURATION
        mf.kernel()
        dm = mf.make_rdm1()
        dm = dm.sum(axis=0) if dm.ndim == 3 else dm
    else:
        mf = atom_hf_pp.AtomSCFPP(small)
        mf.atomic_configuration = elements.NRSRHF_CONFIGURATION
        dm = mf.get_init_guess(key="1e")
    return large, addons.project_dm_nr2nr(small, dm, large)


def gaussian_expansion(atom: gto.Mole, dm: np.ndarray) -> dict:
    """Write a spherical density as n(r) = sum_k (s_k + p_k r^2) exp(-a_k r^2), exactly.

    A shell of s functions contributes D_ij c_i c_j / (4 pi); of p functions
    D_ij c_i c_j r^2 * 3/(4 pi), with D the density-matrix element of one magnetic component.
    Normalised to the number of valence electrons.
    """
    ao_loc = atom.ao_loc_nr()
    pairs: dict[float, np.ndarray] = {}
    for angular in range(max(atom.bas_angular(shell) for shell in range(atom.nbas)) + 1):
        functions = []  # (first AO index, exponents, normalised radial coefficients)
        for shell in range(atom.nbas):
            if atom.bas_angular(shell) != angular:
                continue
            exponents = atom.bas_exp(shell)
            for k, coefficients in enumerate(contraction_coefficients(atom, shell).T):
                first = ao_loc[shell] + k * (2 * angular + 1)
                functions.append((first, exponents, coefficients))
        for i, (first_i, exponents_i, c_i) in enumerate(functions):
            for first_j, exponents_j, c_j in functions[: i + 1]:
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
    # integrals of exp(-a r^2) and r^2 exp(-a r^2) over space
    norm = (np.pi / exponents) ** 1.5
    electrons = float(s @ norm + p @ (1.5 / exponents * norm))
    valence = int(atom.atom_charge(0))
    scale = valence / electrons
    return {
        "valence": valence,
        "exponents": exponents.tolist(),
        "s": (s * scale).tolist(),
        "p": (p * scale).tolist(),
    }


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
    """GTH-TZV2P shells in PySCF's order: radial functions sum_k c_k r^l exp(-a_k r^2)."""
    table = {}
    for symbol in ELEMENTS:
        atom = pseudo_atom(symbol, "gth-tzv2p")
        table[symbol] = [
            {
                "l": int(atom.bas_angular(shell)),
                "exponents": atom.bas_exp(shell).tolist(),
                "coefficients": contraction_coefficients(atom, shell).T.tolist(),
            }
            for shell in range(atom.nbas)
        ]
    return {
        "program": f"PySCF {pyscf.__version__}",
        "form": "one row of coefficients per contracted function; times real spherical harmonics",
        "elements": table,
    }


def main() -> None:
    """Write the tables to the folder named on the command line."""
    folder = Path(sys.argv[1])
    for name, table in (("sad.json", make_tables()), ("gth-tzv2p.json", make_basis())):
        (folder / name).write_text(json.dumps(table, indent=1) + "\n")
        sys.stdout.write(f"wrote {folder / name}\n")


if __name__ == "__main__":
    main()
