"""Fine tuning: train a model further on the user's labels, and measure it before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from rich.table import Table

from denser.atoms.sad import superposition
from denser.fields.metrics import err_rho
from denser.labels.label import Label, left_out, split, without_open_shells
from denser.labels.reading import read_labels
from denser.model.checkpoint import Model, load_model, save_model
from denser.model.network import Network
from denser.model.predictor import Predictor
from denser.training.config import Config, with_settings
from denser.training.dataset import names_in, read_all, require_orbitals
from denser.training.expected_errors import recalibrated
from denser.training.loop import Progress, train
from denser.training.processes import is_first
from denser.types.errors import InputError
from denser.workflows.evaluate.measure import choose, reference_density
from denser.workflows.many import Failed, attempt

STEPS_PER_LABEL = 25
FEWEST_STEPS, MOST_STEPS = 400, 4000
"""Default length of a run, relative to the number of labels to train on."""

REMEMBERED = 12
"""Number of labels of the original kind on which forgetting is measured."""

_GIVEN = {
    "data.labels": "the labels that are named",
    "data.validation": "--validation",
    "data.exclude": "--test",
    "data.rehearsal": "--rehearse",
    "data.sad": "the model",
    "model.start": "the model",
    "model.architecture": "the model",
    "seed": "--seed",
}


@dataclass(frozen=True)
class Plan:
    """A fine tuning: the model, the labels, and the measurements.

    Parameters
    ----------
    model : str
        Shipped model or model file to start from.
    labels : tuple of str
        Stores (`.db`) or folders of `.npz` labels.
    test, validation : float or str
        Share of the labels, or a file of names: the part for the final test, and the part to
        choose the best weights with. A share is drawn with `seed`, and labels from one file,
        such as the frames of a trajectory, stay together. If all labels are from one file, the
        last of them are taken.
    steps, minutes : int or None, float or None
        Length of the run; by default `STEPS_PER_LABEL` steps for each label to train on.
    remember : str or None
        Labels of the original kind: forgetting is measured on `REMEMBERED` of them, if possible
        on validation labels of the model.
    rehearse : str or None
        Labels of the original kind to mix in; labels that are measured are left out.
    seed : int
    settings : tuple of str
        `section.key=value`, as in `denser train --set`.
    """

    model: str
    labels: tuple[str, ...]
    test: float | str = 0.2
    validation: float | str = 0.15
    steps: int | None = None
    minutes: float | None = None
    remember: str | None = None
    rehearse: str | None = None
    seed: int = 0
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise InputError("give the length in steps or in minutes, not both")
        for name in ("test", "validation"):
            share = getattr(self, name)
            if not isinstance(share, str) and not 0 <= share < 1:
                raise InputError(f"the {name} share must be at least 0 and below 1, found {share}")
        for setting in self.settings:
            key = setting.partition("=")[0].strip()
            if key in _GIVEN:
                raise InputError(f"--set {setting}: {key} follows from {_GIVEN[key]}")


@dataclass(frozen=True, eq=False)
class Errors:
    """Err_rho (fractions) of the SAD and of the model before and after, on some labels."""

    names: tuple[str, ...]
    sad: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def record(self) -> dict:
        """Mean and worst errors in percent, for the record of the model."""
        out: dict = {"names": list(self.names)}
        for key in ("sad", "before", "after"):
            values = 100 * getattr(self, key)
            out[f"{key}_mean_percent"] = float(values.mean())
            out[f"{key}_worst_percent"] = float(values.max())
        return out


@dataclass(frozen=True, eq=False)
class FineTuned:
    """The result: model file, number of training labels, and the measured errors."""

    path: Path
    n_train: int
    n_validation: int
    steps: int
    test: Errors | None
    remembered: Errors | None
    kept_start: bool
    """Whether no weights of the run were better on the validation part than the initial ones."""

    def record(self) -> dict:
        """For JSON: numbers of labels and steps, and the errors before and after."""
        return {
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "n_steps": self.steps,
            "kept_start": self.kept_start,
            "test": None if self.test is None else self.test.record(),
            "remembered": None if self.remembered is None else self.remembered.record(),
        }


def finetune(
    plan: Plan,
    out: Path,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    tell: Callable[[str], None] = lambda _: None,
    command: str = "",
) -> FineTuned:
    """Fine-tune a model; `out/model.safetensors` has the smallest validation error.

    The loop is that of `denser.training`. It starts from the weights of `plan.model` and uses Muon,
    warm-up and cosine, an average of weights, and an early end when validation no longer improves.
    The weights of the start are a candidate for the result.

    Parameters
    ----------
    plan : Plan
    out : Path
        Folder of the run; the same call continues an interrupted run.
    report, stop, command
        As in `denser.training.loop.train`.
    tell : callable
        Called with sentences about the progress.

    Raises
    ------
    InputError
        The model, labels or settings cannot be used; and the errors of `train`.
    """
    out = Path(out)
    start = load_model(plan.model)
    labels = require_orbitals(
        read_all(plan.labels, start.recipe), "fine tuning measures its result on"
    )
    open_shells: list[str] = []
    if not start.network.spins:
        labels, open_shells = without_open_shells(labels)
    if open_shells:
        tell(left_out(open_shells))
    added = further_elements(start, labels)
    before = start
    if added:
        n_known = len(start.network.elements or ())
        tell(
            f"{plan.model} does not know "
            + " ".join(chemical_symbols[z] for z in added["elements"][n_known:])
            + "; each new element begins as a copy of the known one that resembles it most"
        )
        before = replace(start, network=_with_room(start, added, labels))
    parts = _split_labels(plan, labels)
    remembered = _remembered(plan, start, labels)
    config = configuration(plan, start, labels, parts, remembered)
    schedule = config.schedule
    tell(
        f"{len(parts.train)} labels to train on, {len(parts.validation)} for validation, "
        f"{len(parts.test)} for the test; at most "
        + (f"{schedule.steps} steps" if schedule.steps else f"{schedule.minutes:g} minutes")
    )
    for sentence in _alike(plan, parts):
        tell(sentence)
    known = set(start.info.get("train_names", ()))
    familiar = [label.name for label in parts.test if {label.name, label.molecule} & known]
    if familiar:
        tell(
            f"{plan.model} was itself trained on {len(familiar)} of the test labels "
            f"(the first is {familiar[0]}), so their errors may be too small"
        )
    path = train(config, out, report, stop, command)
    best = out / "best.safetensors"
    tuned = load_model(best if best.exists() else path)
    of_rehearsal = set(tuned.info["open_shell_names"]) - set(open_shells)
    if of_rehearsal:
        tell(f"--rehearse: {left_out(sorted(of_rehearsal))}")
    test = measured = None
    if is_first():
        n = len(parts.test) + len(remembered)
        tell(f"measuring {n} label{'' if n == 1 else 's'} before and after")
        test = _measure(parts.test, before, tuned, stop, tell)
        measured = _measure(remembered, before, tuned, stop, tell)
        tuned = recalibrated(start, tuned, parts.validation)
        info = tuned.info | _lineage(start, tuned) | _record(tuned, test, measured)
        save_model(path, Model(out.name, tuned.architecture, tuned.network, tuned.recipe, info))
    last = load_model(path).info
    return FineTuned(
        path,
        len(parts.train),
        len(parts.validation),
        last["steps"],
        test,
        measured,
        kept_start=best.exists() and last["steps"] == 0,
    )


@dataclass(frozen=True, eq=False)
class Split:
    """Labels to train on, to choose the best weights with, and for the final test."""

    train: list[Label]
    validation: list[Label]
    test: list[Label]


def _split_labels(plan: Plan, labels: list[Label]) -> Split:
    """Split labels; those from one file, such as the frames of a trajectory, stay together."""
    rest, test = _held_out(labels, plan.test, plan.seed, "test")
    train_labels, validation = _held_out(rest, plan.validation, plan.seed + 1, "validation")
    return Split(train_labels, validation, test)


def _held_out(
    labels: list[Label], share: float | str, seed: int, part: str
) -> tuple[list[Label], list[Label]]:
    """Return (rest, part); the part is a share of the labels, or those that a file names.

    The rest contains no copy of a molecule that the file names.
    """
    if isinstance(share, str):
        names = names_in(share, labels, f"the {part} part")
        held_out = [label for label in labels if label.name in names]
        molecules = {label.molecule for label in held_out}
        rest = [label for label in labels if label.molecule not in molecules]
    else:
        rest, held_out = split(labels, max(1, round(share * len(labels))) if share else 0, seed)
    if not rest:
        raise InputError(f"the {part} part takes all {len(labels)} labels; leave some to train on")
    return rest, held_out


def _alike(plan: Plan, parts: Split) -> list[str]:
    """A sentence for each part that has frames of the same trajectory as the training labels."""
    groups = {label.group for label in parts.train}
    out = []
    for part, labels, given in (
        ("test", parts.test, plan.test),
        ("validation", parts.validation, plan.validation),
    ):
        shared = sorted({label.group for label in labels} & groups)
        if shared and not isinstance(given, str):
            out.append(
                f"the {part} part and the labels to train on are frames of one file, {shared[0]}, "
                f"whose last frames are the {part} part; frames of one trajectory resemble each "
                "other, so errors of other molecules may be larger"
            )
    return out


def _remembered(plan: Plan, start: Model, labels: list[Label]) -> list[Label]:
    """Labels of the original kind to measure forgetting on."""
    if plan.remember is None:
        return []
    own = {label.name for label in labels}
    old = [label for label in read_labels(plan.remember, start.recipe) if label.name not in own]
    if not old:
        raise InputError(
            f"--remember {plan.remember}: contains only labels of this run; give labels of "
            "the kind that the model was trained for"
        )
    named = set(start.info.get("validation_names", ()))
    part = "validation" if any(label.name in named for label in old) else "unseen"
    chosen, _ = choose(old, start, part)
    order = np.random.default_rng(plan.seed).permutation(len(chosen))[:REMEMBERED]
    return [chosen[i] for i in sorted(order)]


def configuration(
    plan: Plan, start: Model, labels: list[Label], parts: Split, remembered: list[Label]
) -> Config:
    """Training configuration of a plan; `plan.settings` replace all other settings."""
    steps = min(MOST_STEPS, max(FEWEST_STEPS, STEPS_PER_LABEL * len(parts.train)))
    length = {"minutes": plan.minutes} if plan.minutes else {"steps": plan.steps or steps}
    defaults = start.network.fine_tuning
    used = {label.name for label in (*parts.train, *parts.validation)}
    excluded = {label.name for label in labels} - used
    if plan.rehearse and remembered:
        measured = {label.group for label in remembered}
        rehearsal = read_labels(plan.rehearse, start.recipe)
        excluded |= {label.name for label in rehearsal if label.group in measured} - used
    data = {
        "data": {
            "labels": list(plan.labels),
            "validation": [label.name for label in parts.validation],
            "exclude": sorted(excluded),
            "rehearsal": [plan.rehearse] if plan.rehearse else [],
            "sad": start.recipe.sad,
            "seed": plan.seed,
            "cache_gb": 4.0,
        },
        "model": {
            "architecture": start.architecture,
            "start": plan.model,
            "options": further_elements(start, labels),
        },
        "optimizer": {"ema": 0.99} | defaults["optimizer"],
        "schedule": length | {"warmup": 0.05, "validate_every": 0.1, "patience": 4},
        "sample": defaults["sample"],
        "seed": plan.seed,
        "bf16": Predictor(start).bf16,
    }
    return with_settings(data, plan.settings, "the settings of fine tuning")


def further_elements(start: Model, labels: list[Label]) -> dict[str, list[int]]:
    """Option of a network with room for elements of the labels that the model does not know."""
    known = start.network.elements
    new = set() if known is None else {z for x in labels for z in x.structure.numbers.tolist()}
    new -= set(known or ())
    return {"elements": [*(known or ()), *sorted(new)]} if new else {}


def _with_room(start: Model, added: dict[str, list[int]], labels: list[Label]) -> Network:
    """The network with further elements; an error names the label that it is about."""
    try:
        return start.network.grown(added)
    except InputError:
        for label in labels:
            try:
                start.network.grown(further_elements(start, [label]))
            except InputError as error:
                raise InputError(f"label {label.name}: {error}") from error
        raise


def _measure(
    labels: list[Label],
    before: Model,
    after: Model,
    stop: Callable[[], bool] | None,
    tell: Callable[[str], None],
) -> Errors | None:
    """Err_rho on whole boxes, which are periodic like the references; N_e is exact."""
    predictors = Predictor(before), Predictor(after)

    def errors_on(label: Label) -> list[float]:
        reference = reference_density(label)
        sad = superposition(label.structure, label.grid, before.recipe.sad)
        densities = sad, *(predictor.density(sad, periodic=True) for predictor in predictors)
        return [err_rho(density, reference) for density in densities]

    rows = {}
    for label in labels:
        if stop is not None and stop():
            raise KeyboardInterrupt
        found = attempt(errors_on, label)
        if isinstance(found, Failed):
            tell(f"{label.name} was not measured: {found.error}")
        else:
            rows[label.name] = found
    return Errors(tuple(rows), *np.array(list(rows.values())).T) if rows else None


def _lineage(start: Model, tuned: Model) -> dict:
    """The parent model."""
    parent = {
        key: start.info[key]
        for key in ("data_hash", "n_train", "validation_names", "parent")
        if key in start.info
    }
    return {"parent": tuned.info["parent"] | {"weights": start.weights_hash()} | parent}


def _record(tuned: Model, test: Errors | None, remembered: Errors | None) -> dict:
    measured = dict(tuned.info.get("measured", {}))
    if test is not None:
        measured["test"] = test.record()
    if remembered is not None:
        measured["remembered"] = remembered.record()
    return {"measured": measured}


def table(result: FineTuned) -> Table:
    """Err_rho in percent of the SAD and of the model before and after."""
    out = Table("labels", "n", "density", "mean", "worst", "worst label", title="Err_rho, percent")
    for title, errors in (("your test part", result.test), ("original", result.remembered)):
        if errors is None:
            continue
        for density in ("sad", "before", "after"):
            values = getattr(errors, density)
            out.add_row(
                title,
                str(len(values)),
                "SAD" if density == "sad" else density,
                f"{100 * values.mean():.3f}",
                f"{100 * values.max():.3f}",
                errors.names[int(values.argmax())],
            )
    return out


def sentences(result: FineTuned) -> list[str]:
    """Notes below the table."""
    out = []
    if result.kept_start:
        out.append(
            "no weights of the run were better on your validation part than those of the model, "
            "which were kept; try more labels, more steps or another learning rate"
        )
    if result.test is None:
        out.append("there is no test part, so the result was not measured on unseen labels")
    if result.n_validation == 0:
        out.append("there is no validation part, so the weights at the end of the run were kept")
    if result.remembered is None:
        out.append(
            "it was not measured what the model forgot; give --remember labels of its original kind"
        )
    return out
