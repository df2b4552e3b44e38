"""Basis sets and pseudopotentials of the elements; the one place that chooses them.

The level of theory is called "gth-tzv2p" with "gth-pbe" (`denser.types.recipe.Recipe`). GTH-TZV2P
ends at argon. Heavier elements have TZV2P-MOLOPT-PBE-GTH on the same level. The minimal
sets are GTH-SZV to argon and SZV-MOLOPT-SR-GTH beyond.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

from ase.data import atomic_numbers, chemical_symbols
from pyscf.lib.exceptions import BasisNotFoundError
from pyscf.pbc import gto

from denser.types.errors import InputError
from denser.types.recipe import Recipe

ELEMENTS = tuple(chemical_symbols[1:55])
"""Symbols of the elements with tables, H to Xe."""

_LEVEL = Recipe()
LAST_OF_GTH = 18
"""GTH-TZV2P and GTH-SZV are used up to this atomic number."""


def basis_name(symbol: str, basis: str = _LEVEL.basis) -> str:
    """PySCF's name of the basis set of an element on the level of theory `basis`."""
    if basis != _LEVEL.basis or atomic_numbers[symbol] <= LAST_OF_GTH:
        return basis
    return f"TZV2P-MOLOPT-PBE-GTH-q{valence(symbol)}"


def minimal_basis_name(symbol: str) -> str:
    """PySCF's name of the minimal basis set of an element."""
    if atomic_numbers[symbol] <= LAST_OF_GTH:
        return "gth-szv"
    return f"SZV-MOLOPT-SR-GTH-q{valence(symbol)}"


def shells(symbol: str, name: str) -> list:
    """Shells of an element in PySCF's form; an InputError if PySCF has no such basis."""
    return _loaded(gto.basis.load, name, symbol, "basis")


def pseudopotential(symbol: str, name: str = _LEVEL.pseudo) -> list:
    """Pseudopotential of an element in PySCF's form; an InputError if PySCF has none."""
    return _loaded(gto.pseudo.load, name, symbol, "pseudopotential")


def valence(symbol: str) -> int:
    """Number of valence electrons of the GTH-PBE pseudopotential."""
    return int(sum(pseudopotential(symbol)[0]))


def _loaded(load: Callable[[str, str], list], name: str, symbol: str, what: str) -> list:
    try:
        with warnings.catch_warnings():  # for an unknown name PySCF warns about another package
            warnings.simplefilter("ignore")
            return load(name, symbol)
    except (BasisNotFoundError, KeyError) as error:
        raise InputError(f"PySCF lacks the {what} {name!r} of {symbol}") from error
