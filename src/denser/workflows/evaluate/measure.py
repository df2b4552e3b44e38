"""Errors of a model on labelled molecules, compared with densities that need no model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from denser.analysis.moments import dipole
from denser.atoms.sad import RECIPES, superposition, valence_charges
from denser.fields.metrics import err_rho
from denser.io import write
from denser.labels.label import Label, group_of, left_out, molecule_of, without_open_shells
from denser.labels.reading import read_label, read_labels
from denser.labels.render import density_on_grid, n_orbitals
from denser.labels.store import LabelStore
from denser.model import doubt
from denser.model.checkpoint import Model
from denser.model.predictor import Predictor
from denser.types.arrays import seal
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.evaluate.error_by_place import (
    error_around_elements,
    error_by_distance,
    squared_distances,
)
from denser.workflows.evaluate.records import Evaluation, Failure, Measured
from denser.workflows.many import Failed, attempt

PARTS = ("unseen", "validation", "all")
"""Labels not trained on, those that the model's record names for validation, or all."""

BASELINES = {"sad": RECIPES[0], "atrocious_sad": RECIPES[1]}
"""Densities that need no model, for comparison, and their SAD recipes."""

FREE = 1.0 / BOHR
"""If a molecule is farther than this (bohr) from the faces of its box, the box is not drawn."""


def reference_density(label: Label) -> Density:
    """Density of a label's orbitals on its own grid.

    Raises
    ------
    InputError
        Orbitals that do not belong to the atoms.
    """
    structure = label.structure
    charges = valence_charges(structure)
    expected = n_orbitals(structure.numbers)
    if len(label.mo_coeff) != expected or not np.isfinite(label.mo_coeff).all():
        raise InputError(
            f"the orbitals of {structure.formula} must be finite numbers over {expected} basis "
            f"functions, found {len(label.mo_coeff)}; make the label again"
        )
    values = density_on_grid(
        structure.numbers, structure.positions, label.orbitals, label.grid
    ).numpy()
    density = Density(label.grid, seal(values), structure=structure, valence_charges=charges)
    found = density.integrate()
    if not abs(found - density.n_electrons) < 0.01 * density.n_electrons:
        raise InputError(
            f"the orbitals hold {found:.3f} electrons, {structure.formula} with charge "
            f"{structure.charge} has {density.n_electrons:g}; make the label again"
        )
    return density


def measure(
    label: Label, predictor: Predictor, periodic: bool = True, fitting: bool = False
) -> Measured:
    """Errors of a model, and of the densities for comparison, on one molecule.

    Parameters
    ----------
    label : Label
    predictor : Predictor
    periodic : bool
        Whether the model treats the label's box as periodic, as the reference does, or the
        molecule as isolated.
    fitting : bool
        Also fit the reference with Gaussians (`denser.dft.fitting`), which takes seconds.

    Raises
    ------
    InputError
        A label whose orbitals do not belong to its atoms, or that the model cannot treat.
    """
    reference = reference_density(label)
    structure, grid = label.structure, label.grid
    start = time.perf_counter()
    sad = superposition(structure, grid, predictor.model.recipe.sad)
    middle = time.perf_counter()
    scaled = predictor.predicted(sad, periodic)
    predicted, excess, n_electrons = scaled.density, scaled.excess, scaled.n_electrons
    end = time.perf_counter()
    errors = {"model": err_rho(predicted, reference)}
    for key, recipe in BASELINES.items():
        own = recipe == predictor.model.recipe.sad
        errors[key] = err_rho(sad if own else superposition(structure, grid, recipe), reference)
    if fitting:
        from denser.dft.fitting import fit_density

        errors["fitting"] = err_rho(fit_density(reference), reference)
    spin_error = None
    if structure.spin and predicted.spin_density is not None:
        up, down = (
            density_on_grid(structure.numbers, structure.positions, orbitals, grid).numpy()
            for orbitals in label.spin_orbitals
        )
        wrong = np.abs(predicted.spin_density.values - (up - down)).sum(dtype=float)
        spin_error = float(wrong / np.abs(up - down).sum(dtype=float))
    pair = dipole(predicted), dipole(reference)
    dipole_error = None
    if pair[0] is not None and pair[1] is not None:
        dipole_error = float(np.linalg.norm(pair[0] - pair[1]))
    distances = squared_distances(structure, grid)
    return Measured(
        name=label.name,
        formula=structure.formula,
        n_atoms=len(structure),
        n_electrons=reference.n_electrons,
        distorted=label.name != label.molecule,
        errors=errors,
        around=error_around_elements(predicted, reference, distances),
        by_distance=error_by_distance(predicted, reference, distances),
        spin_error=spin_error,
        dipole_error=dipole_error,
        electrons_off=n_electrons - reference.n_electrons,
        in_doubt=doubt.in_doubt(predictor.model, excess, scaled.worst_expected),
        seconds_sad=middle - start,
        seconds_network=end - middle,
        expected_error=scaled.expected_error,
    )


def measure_each(
    labels: Sequence[Label], predictor: Predictor, periodic: bool = True, fitting: bool = False
) -> Iterator[Measured | Failure]:
    """Measure one label after the other; a label that fails gives a `Failure`."""
    for label in labels:
        result = attempt(measure, label, predictor, periodic, fitting)
        yield Failure(label.name, result.error) if isinstance(result, Failed) else result


def evaluate(
    model: str | Path | Model | Predictor,
    labels: str | Path | Sequence[Label],
    part: str = "unseen",
    select: Sequence[str] = (),
    periodic: bool = True,
    fitting: bool = False,
) -> Evaluation:
    """Measure a model on labels.

    Parameters
    ----------
    model : str, Path, Model or Predictor
    labels : str, Path or sequence of Label
        Labels, or a path for `denser.labels.reading.read_labels`.
    part : {"unseen", "validation", "all"}
        As `choose`.
    select : sequence of str
        As `choose`.
    periodic, fitting : bool
        As `measure`.

    Raises
    ------
    InputError
        A model or labels that cannot be read, or no label left to measure. A single label that
        cannot be measured is recorded in `failures`.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    found, broken = (
        read_each(labels, predictor.model.recipe)
        if isinstance(labels, str | Path)
        else (list(labels), [])
    )
    chosen, sentence = choose(found, predictor.model, part, select)
    results = [*broken, *measure_each(chosen, predictor, periodic, fitting)]
    return Evaluation.of(predictor.model.name, results, sentence)


def read_each(path: str | Path, recipe: Recipe | None = None) -> tuple[list[Label], list[Failure]]:
    """Read labels like `denser.labels.reading.read_labels`; unreadable ones become failures.

    Raises
    ------
    InputError
        No labels there, or a store of another level of theory than `recipe`.
    """
    path = Path(path)
    labels, failures = [], []
    with ExitStack() as stack:
        if path.suffix == ".db" and path.is_file():
            store = stack.enter_context(LabelStore(path))
            if recipe is not None:
                store.require_level(recipe, "the model")
            names, read = store.names(), store.read
        else:
            files = {file.stem: file for file in path.glob("*.npz")} if path.is_dir() else {}
            names, read = sorted(files), lambda name: read_label(files[name])
        if not names:
            return read_labels(path, recipe), []  # its error says what is missing
        for name in names:
            found = attempt(read, name)
            if isinstance(found, Failed):
                failures.append(Failure(name, found.error))
            else:
                labels.append(found)
    return labels, failures


def choose(
    labels: Sequence[Label], model: Model, part: str = "unseen", select: Sequence[str] = ()
) -> tuple[list[Label], str]:
    """Return the labels to measure, and a sentence that says which were left out.

    Labels with unpaired electrons are left out if the model predicts no spin densities.

    Parameters
    ----------
    part : {"unseen", "validation", "all"}
        Labels of molecules that the model was not trained on, by its record (a distorted copy
        counts as the same molecule); labels that the record names for validation; or all.
    select : sequence of str
        Names or patterns such as `qm9_0001*`; only labels of the part that match one are taken.

    Raises
    ------
    InputError
        An unknown part, or no label left; or all have unpaired electrons.
    """
    if part not in PARTS:
        raise InputError(f"unknown part {part!r} of the labels; known: {', '.join(PARTS)}")
    names = model.info.get("train_names", ())
    trained, files = {molecule_of(name) for name in names}, {group_of(name) for name in names}
    held_out = set(model.info.get("validation_names", ()))
    named = [
        label
        for label in labels
        if not select or any(fnmatchcase(label.name, pattern) for pattern in select)
    ]
    if not labels:
        raise InputError("there are no labels that could be read; nothing can be measured")
    if not named:
        raise InputError(
            f"none of {len(labels)} labels is named {' or '.join(select)}; the first is "
            f"{labels[0].name}"
        )
    open_shells: list[str] = []
    if not model.network.spins:
        named, open_shells = without_open_shells(named)
    if part == "validation":
        chosen = [label for label in named if label.name in held_out]
        why = f"are not among the {len(held_out)} that {model.name} names for validation"
    elif part == "unseen":
        chosen = [label for label in named if label.molecule not in trained]
        why = f"belong to molecules that {model.name} was trained on"
    else:
        chosen, why = named, ""
    n_trained = sum(label.molecule in trained for label in chosen)
    if not chosen:
        raise InputError(
            f"no label is left: all {len(named)} {why}; use --all (part='all') to take them"
        )
    sentence = f"{len(chosen)} of {len(labels)} labels"
    n_selected = len(named) + len(open_shells)
    if n_selected < len(labels):
        sentence += f"; {len(labels) - n_selected} were not selected"
    if open_shells:
        sentence += f"; {left_out(open_shells)}"
    if len(chosen) < len(named):
        sentence += f"; {len(named) - len(chosen)} {why} and were left out"
    elif n_trained:
        sentence += f"; {n_trained} of them belong to molecules that {model.name} was trained on"
    elif part == "unseen" and trained:
        sentence += f"; {model.name} was trained on none of these names"
    elif part == "unseen":
        sentence += f"; the record of {model.name} does not name what it was trained on"
    n_alike = sum(label.group in files and label.molecule not in trained for label in chosen)
    if n_alike:
        sentence += (
            f"; {n_alike} of them come from files of which {model.name} was trained on other "
            "frames, so their errors may be too small"
        )
    return chosen, sentence


def write_error(
    label: Label, predictor: Predictor, folder: Path, periodic: bool = True
) -> tuple[list[Path], str]:
    """Write the error of a model: NAME.cube (prediction minus reference) and NAME.png.

    The picture is that of Li et al. (2025), figure 1: surfaces at +-0.003 e/bohr^3, red where
    the model puts too many electrons.

    Returns
    -------
    list of Path
        The written files.
    str
        The reason why there is no picture, or an empty string.
    """
    from denser.pictures.plot import plot_difference

    reference = reference_density(label)
    sad = superposition(label.structure, label.grid, predictor.model.recipe.sad)
    predicted = predictor.density(sad, periodic)
    cube, picture = folder / f"{label.name}.cube", folder / f"{label.name}.png"
    write(cube, reference.with_values((predicted - reference).values))
    free = _without_box(reference)
    try:
        plot_difference(free.with_values(predicted.values), free, picture)
    except InputError as error:
        return [cube], f"{label.name}: {error}"
    return [cube, picture], ""


def _without_box(density: Density) -> Density:
    """Remove the cell of a molecule that does not reach the faces of its box."""
    structure, grid = density.structure, density.grid
    low, high = grid.origin, grid.origin + np.diag(grid.cell)
    if min((structure.positions - low).min(), (high - structure.positions).min()) < FREE:
        return density
    alone = Structure.of(structure, isolated=True)
    return replace(density, structure=alone)
