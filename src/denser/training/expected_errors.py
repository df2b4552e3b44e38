"""Fit the expected errors of a model to labels that it has not learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch

from denser.atoms.sad import atomic_density, valence_charges
from denser.labels.label import Label
from denser.labels.packed import PackedLabel
from denser.model.checkpoint import Model
from denser.model.crystals import FITTED
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.expected_error import Example, ExpectedError
from denser.model.molecular_electrons import electrons_of_molecules
from denser.training.points import Points
from denser.types.errors import InputError

FEWEST = 100
"""Number of labels that a fit needs at least."""

_POINTS = 512
"""Number of points of each label."""

_RECALIBRATION = 30
"""Number of labels that suffice for the size of errors."""

_FARTHEST = 12.0
"""Bohr; an atom has no share of the density beyond."""


def usable(
    model: Model, labels: Sequence[Label | PackedLabel], n_learnt: int = 0
) -> list[Label | PackedLabel]:
    """The labels that the model was not trained on and can predict.

    Parameters
    ----------
    model : Model
    labels : sequence of Label or PackedLabel
    n_learnt : int
        How many others help (`trained_on`).

    Raises
    ------
    InputError
        Another architecture than `aspherical`, or fewer than `FEWEST` labels are left; with as
        many others 30 are enough.
    """
    if model.network.samples != "points":
        raise InputError(f"models of the architecture {model.architecture} cannot expect errors")
    trained = set(model.info.get("train_names", ()))
    chosen = [x for x in _predictable(model, labels) if x.name not in trained]
    fewest = FEWEST if n_learnt < FEWEST else _RECALIBRATION
    if len(chosen) < fewest:
        raise InputError(
            f"{len(chosen)} of {len(labels)} labels are of use: the model was not trained on them "
            f"and knows their elements; a fit needs at least {fewest}"
        )
    return chosen


def trained_on(
    model: Model, labels: Sequence[Label | PackedLabel], n: int
) -> list[Label | PackedLabel]:
    """At most n labels that the model was trained on, drawn at random; the same ones each time."""
    trained = set(model.info.get("train_names", ()))
    known = [x for x in _predictable(model, labels) if x.name in trained]
    order = np.random.default_rng(0).permutation(len(known))
    return [known[i] for i in order[:n]]


def _predictable(model: Model, labels: Sequence[Label | PackedLabel]) -> list[Label | PackedLabel]:
    """Labels of closed shells whose elements the model knows."""
    known = set(model.network.elements or ())
    return [x for x in labels if not x.structure.spin and {*x.structure.numbers.tolist()} <= known]


def with_expected_errors(
    model: Model,
    labels: Sequence[Label | PackedLabel],
    told: Callable[[], None] = lambda: None,
    learnt: Sequence[Label | PackedLabel] = (),
) -> Model:
    """Return the model with an estimate of its errors.

    Parameters
    ----------
    model : Model
    labels : sequence of Label or PackedLabel
        Those of `usable`.
    told : callable
        Called after each label.
    learnt : sequence of Label or PackedLabel
        Labels that the model was trained on, such as some of `trained_on`. They help to tell atoms
        with large errors from others; the size of the errors is that of `labels` alone.
    """
    network = deepcopy(model.network).cpu().eval().requires_grad_(False)
    every = [*labels, *learnt]
    points = Points(every, model.recipe.sad, torch.device("cpu"), network.config)
    examples = []
    for i in range(len(every)):
        examples.append(example(replace(model, network=network), points, i))
        told()
    estimate = ExpectedError.fitted(examples)
    network.expected_error = estimate.rescaled(examples[: len(labels)]) if learnt else estimate
    network.config = replace(network.config, errors=True)
    n_crystals = sum(label.structure.cell is not None for label in labels)
    info = model.info | {
        "n_labels_of_expected_errors": len(labels),
        "n_learnt_labels_of_expected_errors": len(learnt),
        FITTED: n_crystals,
    }
    return replace(model, network=network, info=info)


def with_errors_of_open_shells(model: Model, labels: Sequence[Label | PackedLabel]) -> Model:
    """Return a model that learnt spin densities with an estimate of its errors for open shells.

    Each unpaired electron adds k wrong electrons to the estimate for closed shells: the median of
    what is missing without them. A few labels with the wrong orbital occupied would decide a mean.

    Parameters
    ----------
    model : Model
        Of the architecture `aspherical`.
    labels : sequence of Label or PackedLabel
        Open shells that it was not trained on.
    """
    network = deepcopy(model.network).cpu().eval().requires_grad_(False)
    estimate = network.expected_error
    if estimate is None or not labels:
        return model
    points = Points(list(labels), model.recipe.sad, network.device, network.config)
    missing = []
    for i, label in enumerate(labels):
        x = example(replace(model, network=network), points, i)
        expected = estimate(x.numbers, torch.as_tensor(x.invariants), x.n_electrons, x.excess)
        missing.append(float(x.wrong.sum() - expected.sum()) / label.structure.spin)
    network.get_buffer("spin.wrong").fill_(max(0.0, float(np.median(missing))))
    return replace(model, network=network)


def recalibrated(start: Model, tuned: Model, labels: Sequence[Label | PackedLabel]) -> Model:
    """Return a fine-tuned model with the estimate of its start, scaled to its own errors.

    Parameters
    ----------
    start, tuned : Model
    labels : sequence of Label or PackedLabel
        Validation labels of the fine tuning, of which at most 30 are used.
    """
    estimate = start.network.expected_error
    if estimate is None or not labels:
        return tuned
    network = deepcopy(tuned.network).cpu().eval().requires_grad_(False)
    points = Points(list(labels[:_RECALIBRATION]), tuned.recipe.sad, network.device, network.config)
    model = replace(tuned, network=network)
    network.expected_error = estimate.rescaled(
        [example(model, points, i) for i in range(len(points))]
    )
    network.config = replace(network.config, errors=True)
    return model


def example(model: Model, points: Points, i: int) -> Example:
    """The errors of a model at the atoms of one label, from a part of its points."""
    label, network = points.labels[i], model.network
    structure, found = label.structure, points[i]
    every = max(1, len(found.nodes) // _POINTS)
    some = slice(i % every, None, every)
    nodes = found.nodes[some].double().numpy()
    weights = found.weights[some].double().numpy() * (len(found.nodes) / len(nodes))
    with torch.no_grad():
        coefficients = network.coefficients(found.graph)[0]
        environments = network.environments(found.graph)
    nothing = (0.0, np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3, 3)))
    charges = valence_charges(structure)
    n_electrons = float(charges.sum() - structure.charge)
    atoms, excess = DeformedAtoms(
        structure, label.grid, coefficients, network.get_buffer("exponents"), model.recipe.sad,
        np.ones(len(structure)), nothing,
        target=electrons_of_molecules(structure, found.graph.electrons),
    ).scaled(charges, n_electrons)  # fmt: skip
    wrong = np.abs(atoms.at(nodes) - found.rho[some].double().numpy()) * weights * n_electrons
    shares = np.full((len(structure), len(nodes)), 1e-300)
    for place, a in zip(found.images.double().numpy(), found.parents.tolist(), strict=True):
        r = np.linalg.norm(nodes - place, axis=1)
        near = r < _FARTHEST
        shares[a, near] += atomic_density(int(structure.numbers[a]), r[near], model.recipe.sad)
    shares /= shares.sum(axis=0)
    return Example(structure.numbers, environments.numpy(), shares @ wrong, n_electrons, excess)
