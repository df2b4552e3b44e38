"""Hirshfeld atom refinement with predicted densities: the work of `denser refine`.

The density of the whole crystal is predicted and divided among the atoms by Hirshfeld's weights
(Jayatilaka and Dittrich, Acta Cryst. A64, 383 (2008)); all parameters are fitted to the measured
intensities with the form factors of these atoms; both are repeated until the shifts are small.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denser.analysis.crystal.form_factors import form_factors
from denser.io.files import naming, replacing
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.types.version import __version__
from denser.workflows.form_factors import doubt_of_crystal, spacing_for
from denser.workflows.inputs import refuse_inputs
from denser.workflows.refinement.engine import Engine

HYDROGENS = ("auto", "isotropic", "anisotropic")

_RICH = 12.0
"""Reflections above 2 sigma for each parameter from which hydrogens get tensors by default."""

_FINE = 0.6
"""Resolution in angstrom that hydrogens need for tensors by default."""


@dataclass(frozen=True)
class Settings:
    """Settings of a refinement.

    Parameters
    ----------
    hydrogens : str
        "isotropic", "anisotropic" or "auto": anisotropic if they are so in the model, or if
        there are 12 reflections above 2 sigma for each parameter, down to 0.6 angstrom.
    cycles : int
        Largest number of cycles of prediction and least squares.
    converged : float
        Largest shift of a coordinate in the last cycle, in units of its standard uncertainty.
        Each cycle makes shifts some five times smaller.
    model, device : str
        As in `denser.Predictor`.
    """

    hydrogens: str = "auto"
    cycles: int = 8
    converged: float = 0.2
    model: str = "default"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.hydrogens not in HYDROGENS:
            raise InputError(f"unknown hydrogens {self.hydrogens!r}; known: {', '.join(HYDROGENS)}")
        if self.cycles < 1:
            raise InputError(f"a refinement needs at least one cycle, found {self.cycles}")


def refine_crystal(
    model: str | Path,
    data: str | Path | None = None,
    out: str | Path | None = None,
    settings: Settings = Settings(),
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Refine a crystal structure with Hirshfeld atoms of predicted densities.

    Parameters
    ----------
    model : Path
        CIF with cell, symmetry and all atoms, hydrogens included (riding ones are freed).
    data : Path, optional
        Reflections: HKLF 4, or a CIF or fcf with intensities. By default those in the model.
    out : Path, optional
        For the refined CIF.
    settings : Settings
    report : callable
        Called with a line of text after each cycle.

    Returns
    -------
    dict
        For JSON: "before" with spherical atoms and "after" with Hirshfeld atoms have the same
        keys, among them `r1_percent`, `wr2_percent`, `goodness_of_fit` and `bonds`.

    Raises
    ------
    InputError
        cctbx is missing, or the model or the reflections cannot be used.
    """
    model = Path(model)
    if out is not None:
        refuse_inputs(Path(out), [model, *([Path(data)] if data else [])])
    begin = time.perf_counter()
    with Engine() as engine:
        facts = engine.call("load", str(model), None if data is None else str(data))
        predictor = Predictor(settings.model, settings.device)
        with naming(model):
            predictor.require_covered(_structure(facts))
        anisotropic = _anisotropic(facts, settings.hydrogens)
        engine.call("set_hydrogens", anisotropic)
        with naming(model):
            before = engine.call("fit", None)
        if before["failure"]:
            raise InputError(
                f"{model}: the fit with spherical atoms failed ({before['failure']}); check model "
                "and reflections, and try --hydrogens isotropic"
            )
        report(f"spherical atoms: {_figures(before)}")
        with naming(model):
            after, cycles, doubt, failure = _cycles(
                engine, facts, before, predictor, settings, report
            )
        record = {
            "model": str(model),
            "data": None if data is None else str(data),
            "output": None if out is None else str(out),
            **{key: facts[key] for key in ("space_group", "d_min", "n_measured", "n_unique")},
            "wavelength_angstrom": facts["wavelength"],
            "weights": dict(zip("ab", facts["weights"], strict=True)),
            "hydrogens": "anisotropic" if anisotropic else "isotropic",
            "density_model": predictor.model.name,
            "cycles": cycles,
            "converged": not failure and cycles[-1]["shift_over_esd"] <= settings.converged,
            "before": _plain(before),
            "after": _plain(after),
            "notes": _notes(facts, after, failure, settings),
            "doubt": doubt,
        }
        if out is not None:
            details = _details(record, predictor)
            text = engine.call("cif", after, details)
            with replacing(Path(out)) as temporary:
                temporary.write_text(text)
    record["seconds"] = round(time.perf_counter() - begin, 3)
    return record


def _structure(found: dict[str, Any]) -> Structure:
    return Structure(found["numbers"], found["positions"] / BOHR, cell=found["cell"] / BOHR)


def _anisotropic(facts: dict[str, Any], wanted: str) -> bool:
    if wanted != "auto":
        return wanted == "anisotropic"
    if facts["hydrogens_anisotropic"]:
        return True
    n_parameters = 9 * len(facts["labels"]) + 1
    return bool(facts["n_strong"] >= _RICH * n_parameters and facts["d_min"] <= _FINE)


def _cycles(
    engine: Engine,
    facts: dict[str, Any],
    before: dict[str, Any],
    predictor: Predictor,
    settings: Settings,
    report: Callable[[str], None],
) -> tuple[dict[str, Any], list[dict[str, Any]], str, str]:
    """Alternate prediction and least squares: the last result, all cycles, doubt and failure."""
    sites = range(len(facts["labels"]))
    spacing = spacing_for(facts["d_min"])
    result, doubt = before, ""
    cycles: list[dict[str, Any]] = []
    for i in range(1, settings.cycles + 1):
        start = time.perf_counter()
        structure = _structure(result)
        prediction = predictor.predict(structure, spacing=spacing)
        middle = time.perf_counter()
        h = facts["hkl"] @ np.linalg.inv(result["cell"] / BOHR).T
        factors = form_factors(prediction.density, h, sites)
        end = time.perf_counter()
        new = engine.call("fit", factors)
        if new["failure"] or new["wr2_percent"] > 2 * result["wr2_percent"]:
            failure = new["failure"] or f"wR2 rose to {new['wr2_percent']:.2f} %"
            if i == 1:
                raise InputError(f"the fit with Hirshfeld atoms failed: {failure}")
            return result, cycles, doubt, f"cycle {i} failed ({failure})"
        result, doubt = new, doubt_of_crystal(predictor, prediction.excess)
        cycles.append(
            {
                **{key: new[key] for key in ("r1_percent", "wr2_percent", "shift_over_esd")},
                "shift_label": new["shift_label"],
                "seconds": {
                    "prediction": round(middle - start, 3),
                    "form_factors": round(end - middle, 3),
                    "least_squares": round(time.perf_counter() - end, 3),
                },
            }
        )
        report(
            f"cycle {i}: {_figures(new)}, largest shift {new['shift_over_esd']:.3f} s.u. "
            f"({new['shift_label']})"
        )
        if new["shift_over_esd"] <= settings.converged:
            break
    return result, cycles, doubt, ""


def _notes(
    facts: dict[str, Any], after: dict[str, Any], failure: str, settings: Settings
) -> list[str]:
    notes = list(facts["notes"])
    if failure:
        notes.append(f"{failure}; the model of the cycle before was kept")
    elif after["shift_over_esd"] > settings.converged:
        notes.append(
            f"not converged: {after['shift_label']} still moves by "
            f"{after['shift_over_esd']:.2f} standard uncertainties; give more --cycles"
        )
    if after["not_positive"]:
        notes.append(
            f"the displacements of {', '.join(after['not_positive'])} are not positive definite; "
            "try --hydrogens isotropic, or do not trust them"
        )
    ratio = after["n_strong"] / after["n_parameters"]
    if ratio < 8:
        notes.append(f"only {ratio:.1f} strong reflections for each parameter")
    return notes


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without its arrays, which the CIF holds."""
    return {key: value for key, value in result.items() if not isinstance(value, np.ndarray)}


def _figures(result: dict[str, Any]) -> str:
    return (
        f"R1 {result['r1_percent']:.2f} %, wR2 {result['wr2_percent']:.2f} %, "
        f"GoF {result['goodness_of_fit']:.2f}"
    )


def _details(record: dict[str, Any], predictor: Predictor) -> dict[str, str]:
    recipe = predictor.model.recipe
    return {
        "_audit_creation_method": f"denser {__version__}",
        "_computing_structure_refinement": f"denser {__version__} with smtbx of cctbx",
        "_refine_special_details": (
            "\nHirshfeld atom refinement: aspherical atomic form factors from the electron density "
            f"\nof the whole crystal, predicted by the model {record['density_model']!r} of denser "
            f"\n(trained on {recipe.xc}/{recipe.basis} densities), partitioned by Hirshfeld's "
            "\nstockholder weights of free atoms. All hydrogen positions were refined freely, "
            f"\ntheir displacements are {record['hydrogens']}. "
            f"{len(record['cycles'])} cycles of prediction and least squares.\n"
        ),
        "_refine_ls_hydrogen_treatment": "refall",
        "_atom_sites_solution_hydrogens": "difmap",
    }


def table(record: dict[str, Any]) -> str:
    """Before and after, as text."""
    before, after = record["before"], record["after"]
    rows: list[tuple[str, ...]] = [("", "spherical atoms", "Hirshfeld atoms")]
    for name, key, digits in (
        ("R1 (I > 2 s), %", "r1_percent", 2),
        ("R1 (all), %", "r1_all_percent", 2),
        ("wR2, %", "wr2_percent", 2),
        ("goodness of fit", "goodness_of_fit", 2),
        ("parameters", "n_parameters", 0),
    ):
        rows.append((name, f"{before[key]:.{digits}f}", f"{after[key]:.{digits}f}"))
    peaks = [r["residual_density_e_per_angstrom3"] for r in (before, after)]
    rows.append(
        ("residual density, e/A^3", *(f"{p['min']:+.2f} to {p['max']:+.2f}" for p in peaks))
    )
    negative = (str(len(r["not_positive"])) for r in (before, after))
    rows.append(("displacements not positive", *negative))
    for old, new in zip(before["bonds"], after["bonds"], strict=True):
        rows.append(
            (
                f"{new['atoms']}, A",
                *(f"{b['length_angstrom']:.3f} +- {b['esd_angstrom']:.3f}" for b in (old, new)),
            )
        )
    lines = [f"{a:28}{b:>18}{c:>18}" for a, b, c in rows]
    a, b = record["weights"]["a"], record["weights"]["b"]
    lines.append(
        f"{record['n_unique']} unique reflections to {record['d_min']:.2f} A, "
        f"{record['space_group']}; hydrogens {record['hydrogens']}; weights "
        + (f"1/(s^2 + ({a:g} P)^2 + {b:g} P)" if a or b else "1/s^2")
        + f"; {len(record['cycles'])} cycles, {record['seconds']:.1f} s"
        + (f" -> {record['output']}" if record["output"] else "")
    )
    return "\n".join(lines)
