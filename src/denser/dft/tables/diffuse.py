"""Diffuse functions of the basis `aug-gth-tzv2p`.

For each angular momentum up to d for which the basis of the level of theory has exponents
a < b < ..., one Gaussian with the exponent a^2/b: the even-tempered continuation of the
basis by one function (as Woon and Dunning, J. Chem. Phys. 100, 2975 (1994), do for their second
diffuse functions). For oxygen s 0.047, p 0.047, d 0.180; hydrogen s 0.065, p 0.107.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyscf

from denser.dft.basis import DIFFUSE, ELEMENTS, basis_name, shells

RULE = "for each l up to 2: one Gaussian with the exponent a^2/b; a < b are the smallest of l"


def diffuse_functions(symbol: str) -> list[list[float]]:
    """[l, exponent] of the diffuse functions of an element, bohr^-2."""
    exponents: dict[int, set[float]] = {}
    for k, *primitives in shells(symbol, basis_name(symbol)):
        exponents.setdefault(k, set()).update(primitive[0] for primitive in primitives)
    found = []
    for k in sorted(exponents):
        smallest = sorted(exponents[k])[:2]
        if k <= 2 and len(smallest) == 2:
            found.append([k, float(f"{smallest[0] ** 2 / smallest[1]:.6g}")])
    return found


def write_table(folder: Path, symbols: Sequence[str]) -> None:
    """Make `diffuse.json` anew for these elements; other entries are kept."""
    path = folder / DIFFUSE
    old = json.loads(path.read_text())["elements"] if path.exists() else {}
    new = old | {s: {"basis": basis_name(s), "diffuse": diffuse_functions(s)} for s in symbols}
    table = {
        "program": f"PySCF {pyscf.__version__}",
        "form": f"[l, exponent], added to the basis; {RULE}",
        "elements": {symbol: new[symbol] for symbol in ELEMENTS if symbol in new},
    }
    path.write_text(json.dumps(table, indent=1) + "\n")
