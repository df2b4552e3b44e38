"""Tables of aspherical form factors of a crystal's atoms: the work of `denser tsc`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denser.analysis.crystal.form_factors import form_factors, mott_bethe
from denser.analysis.crystal.symmetry import miller_indices
from denser.io import tsc
from denser.io.crystals import read_asymmetric_unit
from denser.io.files import naming
from denser.model.doubt import ADVICE
from denser.model.prediction import Prediction
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.inputs import refuse_inputs

SPACING = 0.1
"""Largest spacing of the predicted density, angstrom."""

ENDINGS = (".tsc", ".tscb")


@dataclass(frozen=True)
class TableSettings:
    """Settings of a table of form factors.

    Parameters
    ----------
    d_min : float or None
        Resolution, angstrom; by default that of the measurement in the CIF.
    electrons : bool
        Form factors for electrons (Mott and Bethe), angstrom, in place of those for X-rays.
    block : str or None
        Data block of the CIF; by default the first one with atoms.
    model, device : str
        As in `denser.Predictor`.
    """

    d_min: float | None = None
    electrons: bool = False
    block: str | None = None
    model: str = "default"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.d_min is not None and not (np.isfinite(self.d_min) and self.d_min > 0):
            raise InputError(f"the resolution must be a positive length, found {self.d_min:g}")


def write_form_factors(
    crystal: str | Path, out: str | Path, settings: TableSettings = TableSettings()
) -> dict[str, Any]:
    """Predict the density of a crystal and write the form factors of its asymmetric unit.

    The form factors are those of Hirshfeld atoms (`denser.analysis.crystal.form_factors`), at all
    reflections to the resolution, with Friedel mates and symmetry equivalents. For each disorder
    group the crystal is predicted with its atoms and the ordered ones alone; the ordered atoms
    have the mean of their form factors, weighted with the occupancies of the groups.

    Parameters
    ----------
    crystal : Path
        CIF with cell, symmetry and all atoms.
    out : Path
        Ends in .tsc (text) or .tscb (binary).
    settings : TableSettings

    Returns
    -------
    dict
        For JSON.

    Raises
    ------
    InputError
        The CIF or the resolution cannot be used, or the model does not cover an element.
    """
    crystal, out = Path(crystal), Path(out)
    if out.suffix.lower() not in ENDINGS:
        raise InputError(f"{out}: a table of form factors ends in .tsc or .tscb")
    refuse_inputs(out, [crystal])
    begin = time.perf_counter()
    unit = read_asymmetric_unit(crystal, settings.block)
    d_min = settings.d_min or unit.d_min
    if d_min is None:
        raise InputError(f"{crystal}: does not state the resolution; give --d-min")
    predictor = Predictor(settings.model, settings.device)
    predicted, notes, tables = [], [], []
    half = None
    for part in unit.arrangements:
        with naming(crystal):
            frame, first = unit.cell(part)
            structure = Structure.from_ase(frame.atoms)
            notes += [note for note in frame.notes if note not in notes]
            cell = structure.cell
            assert cell is not None  # of a CIF
            half = miller_indices(cell, d_min) if half is None else half
            prediction = predictor.predict(structure, spacing=spacing_for(d_min))
            h = half @ np.linalg.inv(cell).T
            present = first >= 0
            found = np.zeros((len(first), len(h)), dtype=complex)
            found[present] = form_factors(prediction.density, h, first[present].tolist())
            if settings.electrons:
                z = structure.numbers[first[present], None]
                found[present] = BOHR * mott_bethe(
                    z, found[present], 2 * np.pi * np.linalg.norm(h, axis=1)
                )
        predicted.append(prediction)
        tables.append(found)
    assert half is not None
    if not len(half):
        raise InputError(f"{crystal}: the cell has no reflections to {d_min:g} angstrom")
    factors = np.tensordot(unit.shares, tables, axes=1)
    for part, table in zip(unit.arrangements, tables, strict=True):
        factors[unit.parts == part] = table[unit.parts == part]
    kind = "electrons, angstrom" if settings.electrons else "X-rays, electrons"
    title = f"denser, model {predictor.model.name}, Hirshfeld atoms, form factors for {kind}"
    hkl = np.concatenate([half, -half])
    tsc.write(out, list(unit.labels), hkl, np.concatenate([factors, factors.conj()], axis=1), title)
    return {
        "crystal": str(crystal),
        "output": str(out),
        "n_sites": len(unit.labels),
        "n_reflections": len(hkl),
        "d_min_angstrom": d_min,
        "radiation": "electrons" if settings.electrons else "X-rays",
        "disorder_groups": [part for part in unit.arrangements if part],
        "density_model": predictor.model.name,
        "notes": notes,
        "doubt": doubt_of_crystal(predictor, predicted),
        "seconds": round(time.perf_counter() - begin, 3),
    }


def spacing_for(d_min: float) -> float:
    """Spacing of a predicted density for form factors to a resolution, both in angstrom."""
    return min(SPACING, 0.49 * d_min)


def doubt_of_crystal(predictor: Predictor, predicted: Sequence[Prediction]) -> str:
    """One sentence if the model does not know a crystal well, otherwise an empty string.

    A disordered crystal has one prediction for each of its arrangements.
    """

    def size(prediction: Prediction) -> float:
        return prediction.expected_error or abs(prediction.excess)

    worst_first = sorted(predicted, key=size, reverse=True)
    doubts = (predictor.doubt(prediction) for prediction in worst_first)
    return next(filter(None, doubts), "").replace(ADVICE, "")  # neither is for a refinement
