"""denser: predict the DFT electron density of a molecule from its atoms.

import denser
rho = denser.predict(atoms)          # atoms: ase.Atoms
denser.write("molecule.cube", rho)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from denser.types import _moved
from denser.types.import_order import pyscf_before_torch
from denser.types.version import __version__

if TYPE_CHECKING:
    from denser.analysis.charges.without_grid import without_grid
    from denser.analysis.properties import analyze
    from denser.analysis.topology.atoms_of import atoms_of
    from denser.atoms.sad import superposition
    from denser.fields.metrics import compare, err_rho
    from denser.io import read, write
    from denser.io.smiles import from_smiles
    from denser.labels.store import LabelStore
    from denser.model.checkpoint import load_model
    from denser.model.predictor import Predictor, predict
    from denser.types.density import Density, Field
    from denser.types.errors import InputError
    from denser.types.grid import Grid
    from denser.types.recipe import Recipe
    from denser.types.structure import Structure
    from denser.viewer.notebook import show
    from denser.workflows.calculator import Calculator
    from denser.workflows.embedding import Embedding
    from denser.workflows.openmm_force import embed_in_openmm
    from denser.workflows.refinement.refine import refine
    from denser.workflows.scf_guess import pyscf_guess

_WHERE = {
    "Calculator": "denser.workflows.calculator",
    "Density": "denser.types.density",
    "Embedding": "denser.workflows.embedding",
    "Field": "denser.types.density",
    "Grid": "denser.types.grid",
    "InputError": "denser.types.errors",
    "LabelStore": "denser.labels.store",
    "Predictor": "denser.model.predictor",
    "Recipe": "denser.types.recipe",
    "Structure": "denser.types.structure",
    "analyze": "denser.analysis.properties",
    "atoms_of": "denser.analysis.topology.atoms_of",
    "compare": "denser.fields.metrics",
    "embed_in_openmm": "denser.workflows.openmm_force",
    "err_rho": "denser.fields.metrics",
    "from_smiles": "denser.io.smiles",
    "load_model": "denser.model.checkpoint",
    "predict": "denser.model.predictor",
    "pyscf_guess": "denser.workflows.scf_guess",
    "read": "denser.io",
    "refine": "denser.workflows.refinement.refine",
    "show": "denser.viewer.notebook",
    "superposition": "denser.atoms.sad",
    "without_grid": "denser.analysis.charges.without_grid",
    "write": "denser.io",
}

__all__ = [
    "Calculator",
    "Density",
    "Embedding",
    "Field",
    "Grid",
    "InputError",
    "LabelStore",
    "Predictor",
    "Recipe",
    "Structure",
    "__version__",
    "analyze",
    "atoms_of",
    "compare",
    "embed_in_openmm",
    "err_rho",
    "from_smiles",
    "load_model",
    "predict",
    "pyscf_guess",
    "read",
    "refine",
    "show",
    "superposition",
    "without_grid",
    "write",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `import denser` is fast."""
    if name not in _WHERE:
        raise AttributeError(f"module 'denser' has no attribute {name!r}")
    pyscf_before_torch()
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


_moved.install()

pyscf_before_torch()
