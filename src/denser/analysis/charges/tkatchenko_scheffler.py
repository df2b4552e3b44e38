"""Dispersion coefficients and polarizabilities of atoms in molecules from Hirshfeld volumes.

Tkatchenko and Scheffler (Phys. Rev. Lett. 102, 073005, 2009): with v = V / V_free, the volume of
Hirshfeld's atom relative to that of the free atom,

    alpha = v alpha_free,   C6_aa = v^2 C6_free,
    C6_ab = 2 C6_aa C6_bb / (alpha_b/alpha_a C6_aa + alpha_a/alpha_b C6_bb).

The sum over all pairs of atoms is the C6 of the molecule with itself. alpha_free and C6_free are
those of Chu and Dalgarno (J. Chem. Phys. 121, 4083, 2004), from ASE.

The basis of the predicted densities has no diffuse functions, so that small polar hydrides have
too little volume: the C6 of water is 39 and that of ammonia 73, where PBE/aug-cc-pVTZ gives 44 and
78, and experiment 45 and 89. Benzene has 1770 (experiment 1723).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.calculators.vdwcorrection import vdWDB_Chu04jcp

from denser.analysis.charges.stockholder import Hirshfeld
from denser.types.errors import InputError
from denser.types.structure import Structure


@dataclass(frozen=True, eq=False)
class TkatchenkoScheffler:
    """Atoms and their dispersion.

    Parameters
    ----------
    structure : Structure
    volume_ratios : (n_atoms,) float
        V / V_free.
    polarizabilities : (n_atoms,) float
        alpha, bohr^3. They do not interact, so that their sum is not the polarizability of the
        molecule.
    c6 : (n_atoms, n_atoms) float
        Of each pair, hartree bohr^6.
    """

    structure: Structure
    volume_ratios: np.ndarray
    polarizabilities: np.ndarray
    c6: np.ndarray

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "symbols": self.structure.symbols,
            "volume_ratios": self.volume_ratios.tolist(),
            "atomic_polarizabilities_bohr3": self.polarizabilities.tolist(),
            "atomic_c6_hartree_bohr6": np.diag(self.c6).tolist(),
            "c6_hartree_bohr6": float(self.c6.sum()),
        }

    def lines(self) -> list[str]:
        """Readable lines, one per atom."""
        rows = ["Tkatchenko-Scheffler:  volume/free atom  polarizability/bohr^3  C6/hartree bohr^6"]
        atoms = zip(
            self.structure.symbols,
            self.volume_ratios,
            self.polarizabilities,
            np.diag(self.c6),
            strict=True,
        )
        for i, (symbol, v, alpha, c6) in enumerate(atoms, start=1):
            rows.append(f"{i:4d} {symbol:2s} {v:31.4f} {alpha:22.3f} {c6:18.3f}")
        return [*rows, f"C6 of all pairs {self.c6.sum():.1f} hartree bohr^6"]


def tkatchenko_scheffler(atoms: Hirshfeld) -> TkatchenkoScheffler:
    """Polarizabilities and C6 coefficients of Hirshfeld's atoms.

    Raises
    ------
    InputError
        An element without reference values (K, Ga, Ge, and some beyond).
    """
    structure = atoms.structure
    for i, symbol in enumerate(structure.symbols, start=1):
        if not _known(symbol):
            raise InputError(
                f"atom {i} ({symbol}) has no reference polarizability and C6 here; they cover "
                f"{' '.join(vdWDB_Chu04jcp)}"
            )
    free = np.array([vdWDB_Chu04jcp[symbol] for symbol in structure.symbols], dtype=float)
    v = atoms.volume_ratios
    alpha, own = v * free[:, 0], v**2 * free[:, 1]
    ratio = alpha[None, :] / alpha[:, None]  # alpha_b / alpha_a
    c6 = 2 * np.outer(own, own) / (ratio * own[:, None] + own[None, :] / ratio)
    return TkatchenkoScheffler(structure, v, alpha, c6)


def has_reference(structure: Structure) -> bool:
    """Whether all elements of a structure have reference values."""
    return all(_known(symbol) for symbol in structure.symbols)


def _known(symbol: str) -> bool:
    return symbol in vdWDB_Chu04jcp
