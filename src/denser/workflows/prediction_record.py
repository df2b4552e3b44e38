"""What commands say of a prediction: its record, and lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denser.analysis.moments import dipole_record, dipole_text, record_of_dipole
from denser.model.options import PredictionOptions
from denser.types.density import Density, SlabDensity
from denser.types.units import BOHR
from denser.workflows import many

if TYPE_CHECKING:
    from denser.model.prediction import Prediction

_WORK = {"sad": "SAD", "network": "network", "refine": "refinement", "write": "writing"}


def record_of(output: Path, prediction: Prediction, model: str, options: PredictionOptions) -> dict:
    """The record of a prediction that was written to `output`, for JSON and tables."""
    density = prediction.density
    structure, grid = density.structure, density.grid
    low, high = structure.positions.min(axis=0), structure.positions.max(axis=0)
    corner = grid.origin + grid.cell.sum(axis=0)
    periodic = prediction.box == "cell"
    padding = float(np.min([low - grid.origin, corner - high])) * BOHR
    return {
        "output": str(output),
        "formula": structure.formula,
        "charge": structure.charge,
        "spin": structure.spin,
        "n_atoms": len(structure),
        "n_electrons": round(density.integrate(), 6),
        "grid_shape": list(grid.shape),
        "spacing_angstrom": [round(float(h) * BOHR, 6) for h in grid.spacing],
        "box": "given nodes" if options.grid is not None else prediction.box,
        "padding_angstrom": None if periodic else round(padding, 3),
        **_dipole(density),
        "model": model,
        "excess_percent": (
            None if np.isnan(prediction.excess) else round(100 * prediction.excess, 4)
        ),
        "expected_error_percent": (
            None if prediction.expected_error is None else round(100 * prediction.expected_error, 4)
        ),
        "seconds": {
            "sad": round(prediction.seconds_sad, 4),
            "network": round(prediction.seconds_network, 4),
        },
    }


def _dipole(density: Density) -> dict:
    """As `dipole_record`; there is none in a cell if the nodes are not in memory."""
    if isinstance(density, SlabDensity) and not density.structure.isolated:
        return record_of_dipole(None, "")
    return dipole_record(density)


def density_error_text(record: dict) -> str:
    """Estimated error of a density after Kohn-Sham steps, and before them."""
    return (
        f"estimated error of the density {record['density_error_percent']:.2g} % "
        f"({record['density_error_before_percent']:.2g} before the steps)"
    )


def notes(record: dict) -> list[str]:
    """Sentences for standard error: of what a file left open, warnings, and failures in part."""
    found = [*record.get("notes", ()), *record["warnings"], *filter(None, [record.get("doubt")])]
    return [*found, *record.get("errors", {}).values()]


def geometry_text(record: dict) -> str:
    """How the geometry of a SMILES was made, for the line of text."""
    return f", geometry: {record['geometry']}" if record.get("geometry") else ""


def _error_text(record: dict) -> str:
    """The estimated error of the density, for the line of text."""
    if record["refined_steps"]:
        return f"refined, {density_error_text(record)}, "
    expected = record["expected_error_percent"]
    return "" if expected is None else f"expected error {expected:.2g} %, "


def _bands_text(record: dict) -> str:
    """Mesh of k points and gap of a crystal, for the line of text."""
    if "k_mesh" not in record:
        return ""
    gap = record["tight_binding_gap_ev"]
    points = " x ".join(map(str, record["k_mesh"]))
    return f"{points} k points, {f'gap {gap:.1f} eV' if gap else 'no gap'}, "


def summary(record: dict) -> str:
    """One line of text."""
    seconds = record["seconds"]
    shape = " x ".join(str(n) for n in record["grid_shape"])
    given = record["box"] == "given nodes"
    box = record["box"]
    if record["padding_angstrom"] is not None:
        box += f", {record['padding_angstrom']:.1f} A padding"
    return (
        f"{many.headline(record)}, {record['n_atoms']} atoms, "
        f"{record['n_electrons']:g} valence electrons{' on these nodes' if given else ''}, "
        f"{_error_text(record)}{_bands_text(record)}"
        f"grid {shape} at "
        f"{max(record['spacing_angstrom']):.4f} A ({box}), "
        f"{dipole_text(record)}, "
        f"{' + '.join(f'{s:.2f}' for s in seconds.values())} s "
        f"({', '.join(_WORK[key] for key in seconds)}){geometry_text(record)} -> {record['output']}"
    )
