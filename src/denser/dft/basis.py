"""Basis sets and pseudopotentials of the elements; the one place that chooses them.

The level of theory is called "gth-tzv2p" with "gth-pbe" (`denser.types.recipe.Recipe`). GTH-TZV2P
ends at argon. Heavier elements have TZV2P-MOLOPT-PBE-GTH on the same level. The minimal
sets are GTH-SZV to argon and SZV-MOLOPT-SR-GTH beyond. Calculations of isolated molecules can have
another basis for GTH pseudopotentials, or one for all electrons (`denser.dft.molecular`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import cache
from importlib.resources import files

from ase.data import atomic_numbers, chemical_symbols
from pyscf import gto as molecular_gto
from pyscf.lib.exceptions import BasisNotFoundError
from pyscf.pbc import gto

from denser.types.errors import InputError
from denser.types.recipe import Recipe

ELEMENTS = tuple(chemical_symbols[1:55])
"""Symbols of the elements with tables, H to Xe."""

_LEVEL = Recipe()
LAST_OF_GTH = 18
"""GTH-TZV2P and GTH-SZV are used up to this atomic number."""

LAST_WITHOUT_CORES = 36
"""Calculations with all electrons are for elements up to this atomic number."""

AUGMENTED = "aug-gth-tzv2p"
"""The basis of the level of theory with diffuse functions."""

DIFFUSE = "diffuse.json"
"""Table of the diffuse functions, among those of `denser.atoms`."""


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


def shells_of(symbol: str, name: str) -> list:
    """Shells of an element in a basis for GTH pseudopotentials by the name that a user gives.

    Parameters
    ----------
    symbol : str
    name : str
        `AUGMENTED`, the name of the level of theory, or a name of PySCF such as "gth-dzvp" or
        "TZV2P-MOLOPT-SR-GTH". The ending "-qN" of MOLOPT sets may be left out.

    Raises
    ------
    InputError
        The basis is not for GTH pseudopotentials, or lacks the element.
    """
    require_gth(name)
    lower = name.lower()
    if lower == AUGMENTED:
        more = _diffuse().get(symbol, {"diffuse": []})["diffuse"]
        return [*shells(symbol, basis_name(symbol)), *([k, [a, 1.0]] for k, a in more)]
    if lower == _LEVEL.basis:
        return shells(symbol, basis_name(symbol))
    try:
        return shells(symbol, name)
    except InputError:
        if "-q" in lower:
            raise
    try:
        return shells(symbol, f"{name}-q{valence(symbol)}")
    except InputError as error:
        raise InputError(
            f"PySCF lacks the basis {name!r} of {symbol}; {AUGMENTED!r} has H to Xe"
        ) from error


def all_electron(name: str) -> bool:
    """Whether a basis is for calculations without GTH pseudopotentials."""
    return "gth" not in name.lower()


def require_gth(name: str) -> None:
    """Raise an InputError unless a basis is for GTH pseudopotentials."""
    if all_electron(name):
        raise InputError(
            f"the basis {name!r} is not for GTH pseudopotentials; take {AUGMENTED!r}, or a GTH or "
            "MOLOPT basis of PySCF"
        )


def all_electron_shells(symbol: str, name: str) -> list:
    """Shells of an element in a basis of PySCF for all electrons, in PySCF's form.

    Raises
    ------
    InputError
        PySCF lacks it, or the element may have an effective core potential in it.
    """
    if atomic_numbers[symbol] > LAST_WITHOUT_CORES:
        raise InputError(
            f"{symbol} has an effective core potential in many bases; all-electron calculations "
            f"are for H to Kr, so take {AUGMENTED!r}"
        )
    try:
        return _loaded(molecular_gto.basis.load, name, symbol, "basis")
    except InputError as error:
        raise InputError(
            f"{error}; {AUGMENTED!r} and PySCF's GTH and MOLOPT bases have the model's "
            "pseudopotentials, and other bases of PySCF all electrons"
        ) from error


@cache
def _diffuse() -> dict:
    return json.loads((files("denser.atoms") / "tables" / DIFFUSE).read_text())["elements"]


def valence(symbol: str) -> int:
    """Number of valence electrons of the GTH-PBE pseudopotential."""
    return int(sum(pseudopotential(symbol)[0]))


def _loaded(load: Callable[[str, str], list], name: str, symbol: str, what: str) -> list:
    try:
        with warnings.catch_warnings():  # for an unknown name PySCF warns about another package
            warnings.simplefilter("ignore")
            return load(name, symbol)
    except (BasisNotFoundError, KeyError, ValueError) as error:
        raise InputError(f"PySCF lacks the {what} {name!r} of {symbol}") from error
