"""The prediction for one structure, with Kohn-Sham steps or in parts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from denser.atoms.molecules import cells_at_gamma
from denser.fields.periodic import times_text
from denser.model.boxes import memory_for_grids
from denser.model.checkpoint import Model
from denser.model.doubt import in_doubt
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.model.slabs import Track, untracked
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import LEAST_PERIOD
from denser.types.structure import Structure
from denser.types.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

    from denser.dft.refine import Refined
    from denser.model.prediction import Prediction

_LEAST_BYTES = 3
"""Of a node in a file, compressed or not."""


@dataclass(frozen=True)
class Steps:
    """Kohn-Sham steps from a prediction: number, wall time, estimated Err_rho (fractions)."""

    number: int
    seconds: float
    error_before: float
    error_after: float

    @classmethod
    def of(cls, refined: Refined) -> Steps:
        """The figures of a result, without its arrays."""
        return cls(len(refined.steps), refined.seconds, refined.error_before, refined.error_after)

    def doubt(self, model: Model) -> str:
        """One sentence if they leave more than the error of a prediction in doubt, or ''."""
        if not in_doubt(model, 0.0, self.error_after):
            return ""
        return (
            f"after {self.number} Kohn-Sham step{'s' if self.number > 1 else ''} the estimated "
            f"error of the density is still {100 * self.error_after:.2g} %; take more of them "
            f"(--refine {self.number + 2}), or converge it (denser scf)"
        )

    def record(self) -> dict[str, float]:
        """For the output of commands."""
        return {
            "density_error_before_percent": round(100 * self.error_before, 4),
            "density_error_percent": round(100 * self.error_after, 4),
        }


def refined_prediction(
    atoms: Atoms | Structure, predictor: Predictor, options: PredictionOptions
) -> tuple[Prediction, Steps | None]:
    """Predict, and take `options.refine` Kohn-Sham steps.

    The steps are taken on the model's own grid. The spacing is changed after them.
    """
    if not options.refine:
        return predictor.predict(atoms, options=options), None
    from denser.dft.refine import refine
    from denser.dft.scf import mean_field
    from denser.model.boxes import respace

    prediction = predictor.predict(atoms, options=replace(options, spacing=None))
    start, recipe = prediction.density, predictor.model.recipe
    isolated = start.structure.isolated
    # energies need no grid as fine as this, densities do
    mf = mean_field(start.structure, start.grid, recipe, isolated=isolated, about=start)
    refined = refine(start, recipe, options.refine, mf=mf)
    density = refined.density
    if options.spacing is not None:
        density = respace(density, options.spacing / BOHR)
    return replace(prediction, density=density), Steps.of(refined)


def doubt_of(prediction: Prediction, steps: Steps | None, predictor: Predictor) -> str:
    """One sentence if a prediction, or what its Kohn-Sham steps left of it, is in doubt, or ''."""
    if steps is None:
        return predictor.doubt(prediction)
    of_bands = predictor.doubt_of_bands(prediction.density.structure)
    return "; ".join(filter(None, (steps.doubt(predictor.model), of_bands)))


def at_gamma(structure: Structure, how: str = "atoms.repeat of ASE does so") -> list[str]:
    """One sentence if a cell is too small for orbitals at Gamma alone; `how` it can be repeated."""
    times = cells_at_gamma(structure)
    if max(times) == 1:
        return []
    return [
        f"orbitals are those at Gamma alone, which errs in cells with periods below "
        f"{LEAST_PERIOD * BOHR:g} angstrom (the density by 0.1 to 0.4 % in crystals of molecules, "
        f"by up to 5 % in others); the cell {times_text(times)} is large enough ({how})"
    ]


def predicted(
    atoms: Atoms | Structure,
    output: Path,
    predictor: Predictor,
    options: PredictionOptions,
    memory: float | None = None,
    track: Track = untracked,
) -> tuple[Prediction, Steps | None]:
    """As `refined_prediction`, or with a density that is computed while it is written.

    Parameters
    ----------
    atoms, predictor, options
        As of `refined_prediction`.
    output : Path
        The file, whose disk has to have room for the values that are not kept in memory.
    memory : float or None
        Bytes for a grid; larger ones are computed in parts. By default half of what is free.
    track : Track
        Shows the progress of the parts.

    Raises
    ------
    InputError
        Those of a prediction, or the values would not fit on the disk.
    """
    memory = memory_for_grids() if memory is None else memory
    found = predictor.predict_in_slabs(
        atoms, options, memory, check=partial(_check_disk, output), track=track
    )
    if found is None:
        return refined_prediction(atoms, predictor, options)
    return found, None


def _check_disk(output: Path, grid: Grid) -> None:
    """Raise an InputError if the file could not be written, before the long way to it."""
    folder = output.parent if output.parent.is_dir() else output.parent.parent
    needed, free = _LEAST_BYTES * grid.size, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{output}: a grid of {' x '.join(map(str, grid.shape))} nodes needs at least "
            f"{needed / 1e9:.0f} GB, and the disk has {free / 1e9:.0f}; are the coordinates in "
            "angstrom, and is it one molecule? A larger --spacing needs less"
        )
