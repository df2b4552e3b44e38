"""Hirshfeld atom refinement with predicted densities: the work of `denser refine`.

The density of the whole crystal is predicted and divided among the atoms by Hirshfeld's weights
(Jayatilaka and Dittrich, Acta Cryst. A64, 383 (2008)); all parameters are fitted to the measured
intensities with the form factors of these atoms; both are repeated until the shifts are small.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from denser.analysis.crystal.form_factors import form_factors
from denser.io.files import naming, replacing
from denser.model.prediction import Prediction
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.paths import file_path
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.types.version import __version__
from denser.workflows.form_factors import doubt_of_crystal, spacing_for
from denser.workflows.inputs import refuse_inputs
from denser.workflows.refinement.engine import Engine
from denser.workflows.refinement.result import AbsoluteStructure, Bond, Fit, Refinement

HYDROGENS = ("auto", "isotropic", "anisotropic")

_RICH = 12.0
"""Reflections above 2 sigma for each parameter from which hydrogens get tensors by default."""

_FINE = 0.6
"""Resolution in angstrom that hydrogens need for tensors by default."""

_CONVERGED = 0.2
"""Largest shift of a coordinate in the last cycle, in units of its standard uncertainty. Each
cycle makes shifts some five times smaller."""


def refine(
    crystal: str | Path,
    reflections: str | Path | None = None,
    out: str | Path | None = None,
    *,
    hydrogens: str = "auto",
    cycles: int = 8,
    model: str = "default",
    device: str = "auto",
    report: Callable[[str], None] = lambda text: None,
) -> Refinement:
    """Refine a crystal structure with Hirshfeld atoms of predicted densities.

    Parameters
    ----------
    crystal : Path
        CIF with cell, symmetry and all atoms, hydrogens included (riding ones are freed).
    reflections : Path, optional
        HKLF 4, or a CIF or fcf with intensities. By default those in the CIF.
    out : Path, optional
        For the refined CIF; the structure factors go to the same name with the ending .fcf.
    hydrogens : str
        Their displacements: "isotropic", "anisotropic" or "auto". Auto is anisotropic if they are
        so in the CIF, or if there are 12 reflections above 2 sigma for each parameter, down to
        0.6 angstrom.
    cycles : int
        Largest number of cycles of prediction and least squares.
    model, device : str
        As in `denser.Predictor`.
    report : callable
        Called with a line of text after each cycle.

    Raises
    ------
    InputError
        cctbx is missing, or the crystal or the reflections cannot be used.
    """
    if hydrogens not in HYDROGENS:
        raise InputError(f"unknown hydrogens {hydrogens!r}; known: {', '.join(HYDROGENS)}")
    if cycles < 1:
        raise InputError(f"a refinement needs at least one cycle, found {cycles}")
    crystal = file_path(crystal)
    reflections = None if reflections is None else file_path(reflections)
    written = [] if out is None else outputs(Path(out), crystal, reflections)
    begin = time.perf_counter()
    with Engine() as engine, naming(crystal):
        facts = engine.call("load", str(crystal), reflections and str(reflections))
        predictor = Predictor(model, device)
        for arrangement in facts["arrangements"]:
            predictor.require_covered(_structure(facts["cell"], arrangement))
        anisotropic = _anisotropic(facts, hydrogens)
        engine.call("set_hydrogens", anisotropic)
        answer = engine.call("fit", None)
        if answer["failure"]:
            raise InputError(
                f"the fit with spherical atoms failed: {answer['failure']}; check model and "
                "reflections, and try --hydrogens isotropic"
            )
        before = _fit(answer)
        report(f"spherical atoms: {before.figures}")
        answer, records, doubt, failure = _cycles(engine, facts, answer, predictor, cycles, report)
        after = _fit(answer)
        found = engine.call("absolute_structure")
        absolute = None if found is None else AbsoluteStructure(**found)
        treatment = "anisotropic" if anisotropic else "isotropic"
        details = _details(predictor, treatment, len(records), absolute)
        result = Refinement(
            before,
            after,
            after.residual.structure,
            tuple(facts["labels"]),
            absolute,
            not failure and after.shift_over_esd <= _CONVERGED,
            tuple(_notes(facts, after, failure, absolute)),
            doubt,
            tuple(records),
            {
                "crystal": str(crystal),
                "reflections": reflections and str(reflections),
                "written": [str(path) for path in written],
                **{key: facts[key] for key in ("space_group", "n_measured", "n_unique")},
                "d_min_angstrom": facts["d_min"],
                "wavelength_angstrom": facts["wavelength"],
                "weights": dict(zip("ab", facts["weights"], strict=True)),
                "hydrogens": treatment,
                "disorder_groups": [a["part"] for a in facts["arrangements"] if a["part"]],
                "density_model": predictor.model.name,
                "seconds": round(time.perf_counter() - begin, 3),
            },
            engine.call("cif", details),
            engine.call("fcf"),
        )
    for path, text in zip(written, (result.cif, result.fcf), strict=False):
        with replacing(path) as temporary:
            temporary.write_text(text)
    return result


def outputs(out: Path, crystal: Path, reflections: Path | None) -> list[Path]:
    """Names of the refined CIF and of its structure factors.

    Raises
    ------
    InputError
        The name does not end in .cif, or an input would be overwritten.
    """
    if out.suffix.lower() != ".cif":
        raise InputError(f"{out}: the refined model is a CIF; end its name in .cif")
    found = [out, out.with_suffix(".fcf")]
    for path in found:
        refuse_inputs(path, [crystal, *([reflections] if reflections else [])])
    return found


def _structure(cell: np.ndarray, arrangement: dict[str, Any]) -> Structure:
    return Structure(arrangement["numbers"], arrangement["positions"] / BOHR, cell=cell / BOHR)


def _fit(answer: dict[str, Any]) -> Fit:
    structure = _structure(answer["cell"], answer["arrangements"][0])
    values = answer["residual"]
    assert structure.cell is not None
    grid = Grid(np.zeros(3), structure.cell, values.shape)
    residual = Density(
        grid, values, "e/angstrom^3", structure=structure, valence_charges=structure.numbers
    )
    names = set(Fit.__dataclass_fields__) - {"residual", "bonds", "not_positive"}
    return Fit(
        **{name: answer[name] for name in names},
        bonds=tuple(Bond(**bond) for bond in answer["bonds"]),
        not_positive=tuple(answer["not_positive"]),
        residual=residual,
    )


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
    n_cycles: int,
    report: Callable[[str], None],
) -> tuple[dict[str, Any], list[dict[str, Any]], str, str]:
    """Alternate prediction and least squares: the last result, all cycles, doubt and failure."""
    answer, doubt = before, ""
    cycles: list[dict[str, Any]] = []
    for i in range(1, n_cycles + 1):
        start = time.perf_counter()
        factors, predicted, seconds = _form_factors(facts, answer, predictor)
        middle = time.perf_counter()
        new = engine.call("fit", factors)
        if not new["failure"] and new["wr2_percent"] > 2 * answer["wr2_percent"]:
            new["failure"] = (
                f"wR2 rose to {new['wr2_percent']:.2f} %, and {new['shift_label']} moved most"
            )
            engine.call("step_back")
        if new["failure"]:
            if i == 1:
                raise InputError(
                    f"the fit with Hirshfeld atoms failed: {new['failure']}; check the model, and "
                    "try --hydrogens isotropic"
                )
            return answer, cycles, doubt, f"cycle {i} failed: {new['failure']}"
        answer, doubt = new, doubt_of_crystal(predictor, predicted)
        cycles.append(
            {
                **{key: new[key] for key in ("r1_percent", "wr2_percent", "shift_over_esd")},
                "shift_label": new["shift_label"],
                "seconds": {
                    "prediction": round(seconds, 3),
                    "form_factors": round(middle - start - seconds, 3),
                    "least_squares": round(time.perf_counter() - middle, 3),
                },
            }
        )
        report(
            f"cycle {i}: R1 {new['r1_percent']:.2f} %, wR2 {new['wr2_percent']:.2f} %, GoF "
            f"{new['goodness_of_fit']:.2f}, largest shift {new['shift_over_esd']:.3f} s.u. "
            f"({new['shift_label']})"
        )
        if new["shift_over_esd"] <= _CONVERGED:
            break
    return answer, cycles, doubt, ""


def _form_factors(
    facts: dict[str, Any], answer: dict[str, Any], predictor: Predictor
) -> tuple[np.ndarray, list[Prediction], float]:
    """Form factors of all sites; the predictions; their seconds.

    Each arrangement of a disordered crystal is predicted on its own; the ordered atoms have the
    mean of their form factors, weighted with the occupancies of the disorder groups.
    """
    h = facts["hkl"] @ np.linalg.inv(answer["cell"] / BOHR).T
    factors = np.zeros((len(facts["labels"]), len(h)), dtype=complex)
    predicted, seconds = [], 0.0
    for arrangement in answer["arrangements"]:
        start = time.perf_counter()
        structure = _structure(answer["cell"], arrangement)
        prediction = predictor.predict(structure, spacing=spacing_for(facts["d_min"]))
        seconds += time.perf_counter() - start
        sites = arrangement["sites"]
        weights = np.where(arrangement["ordered"], arrangement["share"], 1.0)
        found = form_factors(prediction.density, h, range(len(sites)))
        factors[sites] += weights[:, None] * found
        predicted.append(prediction)
    return factors, predicted, seconds


def _notes(
    facts: dict[str, Any], after: Fit, failure: str, absolute: AbsoluteStructure | None
) -> list[str]:
    notes = list(facts["notes"])
    if failure:
        notes.append(f"{failure}; the model of the cycle before was kept")
    elif after.shift_over_esd > _CONVERGED:
        notes.append(
            f"not converged: {after.shift_label} still moves by "
            f"{after.shift_over_esd:.2f} standard uncertainties; give more --cycles"
        )
    if after.not_positive:
        notes.append(
            f"the displacements of {', '.join(after.not_positive)} are not positive definite; "
            "try --hydrogens isotropic, or do not trust them"
        )
    ratio = after.n_strong / after.n_parameters
    if ratio < 8:
        notes.append(f"only {ratio:.1f} strong reflections for each parameter")
    if len(facts["arrangements"]) > 1:
        groups = ", ".join(str(a["part"]) for a in facts["arrangements"])
        notes.append(
            f"the crystal was predicted once for each disorder group ({groups}); the ordered atoms "
            "have the mean of their form factors, and occupancies were not refined"
        )
    if absolute is not None and absolute.flack - 3 * absolute.flack_esd > 0.5:
        notes.append(
            f"the absolute structure is wrong (Flack x {absolute.flack:.2f} +- "
            f"{absolute.flack_esd:.2f}); invert the model and refine it again"
        )
    return notes


def _details(
    predictor: Predictor, hydrogens: str, n_cycles: int, absolute: AbsoluteStructure | None
) -> dict[str, str]:
    """Items of the CIF that say how it was made."""
    recipe = predictor.model.recipe
    items = {
        "_audit_creation_method": f"denser {__version__}",
        "_computing_structure_refinement": f"denser {__version__} with smtbx of cctbx",
        "_refine_special_details": (
            "\nMethod: Hirshfeld atom refinement (Jayatilaka and Dittrich, Acta Cryst. A64, 383, "
            "2008).\nElectron density: of the whole crystal, predicted by the model "
            f"{predictor.model.name!r} of denser {__version__}."
            f"\nLevel of theory that the model was trained on: {recipe.xc.upper()}, basis "
            f"{recipe.basis.upper()}, pseudopotentials {recipe.pseudo.upper()};\nthe cores are "
            "those of free PBE atoms.\nPartition: Hirshfeld's stockholder weights of free atoms.\n"
            "Form factors: Fourier integrals of the atoms, renewed in each of "
            f"{n_cycles} cycles of prediction and full-matrix least squares.\n"
            "Hydrogens: coordinates refined freely, displacements "
            f"{hydrogens}.\n"
        ),
    }
    if absolute is not None:
        items["_refine_ls_abs_structure_details"] = (
            f"By a fit with the form factors of Hirshfeld atoms: {absolute.text}"
        )
        if absolute.determined:
            items["_refine_ls_abs_structure_Flack"] = _with_esd(absolute.flack, absolute.flack_esd)
    return items


def _with_esd(value: float, esd: float) -> str:
    """A number with its standard uncertainty as CIF has it, such as 0.03(5)."""
    digits = max(0, int(np.ceil(-np.log10(max(esd, 1e-6) / 1.9))))
    return f"{value:.{digits}f}({round(esd * 10**digits)})"
