"""Import paths of version 0.12 and earlier, which go on to work for one release, with a warning.

`import denser.structure` gives the module `denser.types.structure`, the same object.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

LAST_VERSION = "0.13"
"""The release that still has the old paths."""

MOVED = {
    "analysis.basins": "analysis.charges.bader",
    "analysis.coarse": "analysis.averages",
    "analysis.core": "atoms.free_atoms",
    "analysis.critical_points": "analysis.topology.critical_points",
    "analysis.electron_localisation": "analysis.energies.electron_localisation",
    "analysis.electrostatics": "analysis.potential.electrostatics",
    "analysis.esp_charges": "analysis.charges.esp_charges",
    "analysis.esp_fit": "analysis.charges.esp_fit",
    "analysis.esp_surface": "analysis.potential.esp_surface",
    "analysis.ewald": "analysis.potential.ewald",
    "analysis.form_factors": "analysis.crystal.form_factors",
    "analysis.fourier_sum": "analysis.crystal.fourier_sum",
    "analysis.gradient_paths": "analysis.topology.gradient_paths",
    "analysis.interatomic": "analysis.topology.interatomic_surfaces",
    "analysis.maps": "analysis.crystal.maps",
    "analysis.mbis": "analysis.charges.mbis",
    "analysis.nci": "analysis.interactions.nci",
    "analysis.orbital_free": "analysis.energies.orbital_free",
    "analysis.reactivity": "analysis.energies.reactivity",
    "analysis.rigid_fit": "analysis.crystal.rigid_fit",
    "analysis.scattering": "analysis.crystal.scattering",
    "analysis.stockholder": "analysis.charges.stockholder",
    "analysis.symmetry": "analysis.crystal.symmetry",
    "analysis.voids": "analysis.interactions.voids",
    "analysis.weight_method": "analysis.charges.weight_method",
    "batch": "workflows.predict",
    "calculator": "workflows.calculator",
    "data": "labels",
    "data.crops": "fields.cube_group",
    "data.labels": "labels.reading",
    "data.qm9": "labels.qm9",
    "data.render": "labels.render",
    "data.store": "labels.store",
    "density": "types.density",
    "dft.atoms": "dft.tables.sad",
    "dft.finite_field": "dft.polarizability",
    "dft.free_atoms": "dft.tables.free_atoms",
    "dft.two_centre": "dft.tables.two_centre",
    "dispersion": "dft.dispersion",
    "energy": "workflows.energy",
    "errors": "types.errors",
    "evaluate": "workflows.evaluate.measure",
    "evaluation": "workflows.evaluate.records",
    "figures": "pictures.distributions",
    "finetune": "workflows.finetune",
    "fourier": "fields.fourier",
    "grid": "types.grid",
    "label": "workflows.label",
    "label.calculation": "workflows.label.calculation",
    "label.inputs": "workflows.label.inputs",
    "label.run": "workflows.label.run",
    "label.transfer": "workflows.label.transfer",
    "lanes": "workflows.workers",
    "metrics": "fields.metrics",
    "notebook": "viewer.notebook",
    "patches": "fields.windows",
    "plot": "pictures.plot",
    "portraits": "pictures.properties",
    "prediction": "model.predictor",
    "products": "workflows.report.outputs",
    "properties": "analysis.properties",
    "pullback": "model.derivatives",
    "recipe": "types.recipe",
    "report": "workflows.report.report",
    "restart": "workflows.scf_guess",
    "sad": "atoms.sad",
    "scan": "workflows.scan",
    "scene": "pictures.scene",
    "structure": "types.structure",
    "summary": "workflows.report.tables",
    "tables": "atoms.tables",
    "training.draw": "training.sampling",
    "units": "types.units",
}
"""Old path of a module below `denser`, and its new one."""


class MovedModules(MetaPathFinder, Loader):
    """Finds a module under its old path and gives the one under the new path."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Specification of a module that has moved, None for any other."""
        package, _, module = name.partition(".")
        return ModuleSpec(name, self) if package == "denser" and module in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the new path in the place of the empty one."""
        old = module.__name__
        new = f"denser.{MOVED[old.partition('.')[2]]}"
        warnings.warn(
            f"{old} is now {new}; the old path ends after denser {LAST_VERSION}",
            DeprecationWarning,
            stacklevel=2,
        )
        sys.modules[old] = import_module(new)


def install() -> None:
    """Let `import` find old paths; it looks here before it looks for files."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModules())
