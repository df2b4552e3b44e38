"""denser: the DFT electron density of a molecule from nothing but its atoms.

import denser
rho = denser.predict(atoms)          # atoms: ase.Atoms
denser.write("molecule.cube", rho)
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from denser.calculator import Calculator
    from denser.data.store import LabelStore
    from denser.density import Density, Field
    from denser.errors import InputError
    from denser.grid import Grid
    from denser.io import read, write
    from denser.metrics import compare, err_rho
    from denser.model.checkpoint import load_model
    from denser.notebook import show
    from denser.prediction import Predictor, predict
    from denser.properties import analyze
    from denser.recipe import Recipe
    from denser.restart import pyscf_guess
    from denser.sad import superposition
    from denser.structure import Structure

__version__ = "0.12.0"

_WHERE = {
    "Calculator": "denser.calculator",
    "Density": "denser.density",
    "Field": "denser.density",
    "Grid": "denser.grid",
    "InputError": "denser.errors",
    "LabelStore": "denser.data.store",
    "Predictor": "denser.prediction",
    "Recipe": "denser.recipe",
    "Structure": "denser.structure",
    "analyze": "denser.properties",
    "compare": "denser.metrics",
    "err_rho": "denser.metrics",
    "load_model": "denser.model.checkpoint",
    "predict": "denser.prediction",
    "pyscf_guess": "denser.restart",
    "read": "denser.io",
    "show": "denser.notebook",
    "superposition": "denser.sad",
    "write": "denser.io",
}

__all__ = [
    "Calculator",
    "Density",
    "Field",
    "Grid",
    "InputError",
    "LabelStore",
    "Predictor",
    "Recipe",
    "Structure",
    "__version__",
    "analyze",
    "compare",
    "err_rho",
    "load_model",
    "predict",
    "pyscf_guess",
    "read",
    "show",
    "superposition",
    "write",
]


def __getattr__(name: str) -> Any:
    """Import a public name at first use, so that `import denser` stays light."""
    if name not in _WHERE:
        raise AttributeError(f"module 'denser' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


if "pyscf" in sys.modules and "torch" not in sys.modules:
    import_module("denser.dft")  # all of PySCF before torch: see there
