"""The labels of a run: training and validation labels, and a fingerprint of both."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
from ase.data import chemical_symbols

from denser.atoms.sad import valence_charges
from denser.io.names import read_names
from denser.labels.label import Label, split, without_open_shells
from denser.labels.packed import PackedLabel, holds_shards, read_shards
from denser.labels.qm9 import is_test_molecule
from denser.labels.reading import read_labels, read_recipe
from denser.labels.render import n_orbitals
from denser.model.checkpoint import Model
from denser.training.config import Config, DataConfig
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.units import BOHR

AnyLabel = Label | PackedLabel

QM9_TEST = "qm9:test"
"""Value of `exclude` for all molecules of the test part of the QM9 split."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labels of a run.

    Parameters
    ----------
    train, validation, rehearsal : list of Label or PackedLabel
        Labels of `data.often` occur twice in `train`.
    open_shells : tuple of str
        Names of the labels that are left out because the network predicts no spin densities.
    """

    train: list[AnyLabel]
    validation: list[AnyLabel]
    rehearsal: list[AnyLabel]
    open_shells: tuple[str, ...] = ()

    def extends(self, earlier: dict) -> bool:
        """Whether all labels of an earlier `record` are here, unchanged and in the same part.

        More may have come to `train`. The validation labels must be the same.
        """
        parts = {"train": self.train, "validation": self.validation, "rehearsal": self.rehearsal}
        chosen = []
        for part, labels in parts.items():
            names = set(earlier[f"{part}_names"])
            found = [label for label in labels if label.name in names]
            if names - {label.name for label in found}:
                return False
            if part != "train" and len(found) < len(labels):
                return False
            chosen += found
        return content_hash(chosen) == earlier["data_hash"]

    def n_labels_of_element(self, only: Container[str] | None = None) -> dict[str, int]:
        """Number of labels to train on (and to rehearse) with each element.

        With `only` those of these names.
        """
        labels = {label.name: label for label in (*self.train, *self.rehearsal)}
        chosen = [label for name, label in labels.items() if only is None or name in only]
        found = [z for label in chosen for z in set(label.structure.numbers.tolist())]
        return {chemical_symbols[z]: found.count(z) for z in sorted(set(found))}

    def record(self) -> dict:
        """Names, and one hash of all training and validation labels."""
        names = list(dict.fromkeys(label.name for label in self.train))
        return {
            "n_train": len(names),
            "n_validation": len(self.validation),
            "train_names": names,
            "validation_names": [label.name for label in self.validation],
            "rehearsal_names": [label.name for label in self.rehearsal],
            "open_shell_names": list(self.open_shells),
            "n_labels_of_element": self.n_labels_of_element(),
            "data_hash": content_hash([*self.train, *self.validation, *self.rehearsal]),
        }


def names_since(start: Model, record: dict) -> dict[str, list[str]]:
    """Names of all labels that weights were ever trained on, and of those of this run alone.

    `record` is that of this run's `DataSet`, whose weights began as those of `start`.
    """
    own = record["train_names"]
    ever = [*start.info.get("train_names", ()), *own, *record["rehearsal_names"]]
    return {"train_names": list(dict.fromkeys(ever)), "own_train_names": own}


def content_hash(labels: list[AnyLabel]) -> str:
    """SHA-256 of names, atoms, boxes and orbitals (or points), for any order of the labels."""
    total = hashlib.sha256()
    for label in sorted(labels, key=lambda label: label.name):
        total.update(label.name.encode() + label.structure.numbers.astype("<i4").tobytes())
        lengths = np.concatenate(
            [(label.structure.positions - label.grid.origin).ravel(), label.grid.cell.ravel()]
        )
        total.update(np.round(lengths, 6).astype("<f4").tobytes())
        if isinstance(label, PackedLabel):
            total.update(label.rounded.astype("<i2").tobytes())
        else:
            total.update(label.mo_coeff.astype("<f4").tobytes())
    return total.hexdigest()[:16]


def recipe_of(config: Config, start: Recipe | None = None) -> Recipe:
    """Level of theory of a run, with the SAD recipe `data.sad`.

    It is that of the label stores. If all labels are `.npz` files, which do not state it, it is
    that of `[recipe]` in the configuration, else that of the model that the run starts from, else
    the default.

    Parameters
    ----------
    config : Config
    start : Recipe, optional
        Recipe of the model that the run starts from.

    Raises
    ------
    InputError
        A store cannot be read, two stores have different levels of theory, a store does not agree
        with `[recipe]`, or a network cannot be trained for the level of theory.
    """
    given = config.recipe
    stated = {key: value for key in ("xc", "basis", "pseudo") if (value := getattr(given, key))}
    if given.spacing:
        stated["spacing"] = given.spacing / BOHR
    recipe = replace(start or Recipe(), sad=config.data.sad)
    first = ""
    for path in (*config.data.labels, *config.data.rehearsal):
        found = read_recipe(path)
        if found is None:
            continue
        found = replace(found, sad=config.data.sad)
        if first:
            recipe.require_same(found, first, path)
        recipe, first = found, first or path
    if first:
        wanted, advice = replace(recipe, **stated), "leave the section out, as the labels say it"
        recipe.require_same(wanted, first, "[recipe] of the configuration", advice)
    recipe = replace(recipe, **stated)
    possible = Recipe(xc=recipe.xc, spacing=recipe.spacing, sad=recipe.sad)
    where = first or "[recipe] of the configuration"
    possible.require_same(recipe, "the tables of denser", where, "only these have atoms")
    return recipe


def read_dataset(
    data: DataConfig, recipe: Recipe, elements: Collection[int] = (), shells: str = "closed"
) -> DataSet:
    """Read, check and split the labels of a configuration.

    Parameters
    ----------
    data : DataConfig
    recipe : Recipe
    elements : collection of int
        If given, labels without an atom of any of these are left out, too.
    shells : str
        "closed": labels of open shells are left out, as for a network without spin densities;
        "open": those of closed shells are; "all".

    Raises
    ------
    InputError
        Labels cannot be read or used, two labels have the same name, a name in `validation` or
        `exclude` is unknown, a label belongs to QM9's test part, or no training label is left.
    """
    labels = read_all(data.labels, recipe)
    rehearsal = read_all(data.rehearsal, recipe)
    excluded = _excluded(data.exclude, [*labels, *rehearsal])
    labels = [label for label in labels if not excluded & {label.name, label.molecule}]
    rehearsal = [label for label in rehearsal if not excluded & {label.name, label.molecule}]
    if elements:
        labels = [label for label in labels if {*elements} & {*label.structure.numbers.tolist()}]
        if not labels:
            raise InputError(
                "no label has one of the elements that are to be learnt: "
                + " ".join(chemical_symbols[z] for z in elements)
            )
    open_shells: list[str] = []
    others: list[str] = []
    if shells == "closed":
        labels, open_shells = without_open_shells(labels)
        rehearsal, others = without_open_shells(rehearsal)
    elif shells == "open":
        labels = [label for label in labels if label.structure.spin]
        if not labels:
            raise InputError("no label has unpaired electrons, so there is no spin to learn")
    refuse_test_molecules([*labels, *rehearsal])
    for label in (*labels, *rehearsal):
        _check(label, recipe)
    if isinstance(data.validation, int):
        train, validation = split(labels, data.validation, data.seed)
    else:
        names = names_in(data.validation, labels, "data.validation")
        validation = [label for label in labels if label.name in names]
        held_out = {label.molecule for label in validation}
        train = [label for label in labels if label.molecule not in held_out]
        if not train:
            raise InputError(
                f"data.validation takes all {len(labels)} labels and leaves none to train on; "
                "name fewer"
            )
    # In the order of names, the first few would all be similar.
    order = np.random.default_rng(data.seed).permutation(len(validation))
    own = {label.molecule for label in (*train, *validation)}
    often = names_in(data.often, labels, "data.often")
    return DataSet(
        [*train, *(label for label in train if label.name in often)],
        [validation[i] for i in order],
        [label for label in rehearsal if label.molecule not in own],
        (*open_shells, *others),
    )


def _check(label: AnyLabel, recipe: Recipe) -> None:
    """Raise an InputError unless the orbitals are finite numbers over the basis of the atoms.

    The spacing of the grid must be that of the recipe, within a tenth.
    """
    advice = "make it again, or name it in data.exclude"
    try:
        valence_charges(label.structure)
    except InputError as error:
        raise InputError(f"label {label.name}: {error}") from error
    spacing = label.grid.spacing
    if (np.abs(spacing / recipe.spacing - 1) > 0.1).any():
        raise InputError(
            f"the grid of label {label.name} has a spacing of {spacing.max() * BOHR:.4f} angstrom, "
            f"this run has {recipe.spacing * BOHR:.4f}; give the labels' own as recipe.spacing, or "
            "name the label in data.exclude"
        )
    if isinstance(label, PackedLabel):
        return
    if not np.isfinite(label.mo_coeff).all():
        raise InputError(
            f"the orbitals of label {label.name} have values that are not finite numbers; {advice}"
        )
    n = n_orbitals(label.structure.numbers)
    if len(label.mo_coeff) != n:
        raise InputError(
            f"the orbitals of label {label.name} have {len(label.mo_coeff)} basis functions, "
            f"but its atoms have {n}; {advice}"
        )


def refuse_test_molecules(labels: list[AnyLabel]) -> None:
    """Raise an InputError if the name of a label is that of a molecule of QM9's test part.

    Such names are `qm9_NNNNNN` or `dsgdb9nsd_NNNNNN` with the molecule's number.
    """
    bad = [label.name for label in labels if is_test_molecule(label.name)]
    if bad:
        others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise InputError(
            f"label {bad[0]}{others}: in the test part of QM9's split, which must not be used for "
            f'training or validation; leave such labels out with data.exclude = "{QM9_TEST}"'
        )


def require_orbitals(labels: Sequence[AnyLabel], whose: str) -> list[Label]:
    """Return the labels; raise an InputError if one is from a shard, which has points only."""
    found = []
    for label in labels:
        if isinstance(label, PackedLabel):
            raise InputError(
                f"label {label.name} is from a shard, which has its density only at points; "
                f"{whose} whole densities, so give stores (.db) or folders of .npz labels"
            )
        found.append(label)
    return found


def read_all(paths: tuple[str, ...], recipe: Recipe) -> list[AnyLabel]:
    """All labels of several places; an InputError if two share a name."""
    found: dict[str, tuple[str, AnyLabel]] = {}
    for path in paths:
        read = read_shards if holds_shards(path) else read_labels
        for label in read(path, recipe):
            if label.name in found:
                raise InputError(
                    f"{path} and {found[label.name][0]} both contain a label named {label.name}; "
                    "rename one, or leave one of the places out"
                )
            found[label.name] = (path, label)
    return [label for _, label in found.values()]


def _excluded(exclude: str | tuple[str, ...], labels: list[AnyLabel]) -> set[str]:
    """Names of labels or molecules to leave out."""
    if exclude == QM9_TEST:
        return {label.name for label in labels if is_test_molecule(label.name)}
    names = set(_names(exclude, "data.exclude"))
    if names and not any(names & {label.name, label.molecule} for label in labels):
        raise InputError(
            f"data.exclude names {len(names)} labels, but none of them is there; check the list "
            f"(its first name is {min(names)!r})"
        )
    return names


def _names(given: str | tuple[str, ...], key: str) -> tuple[str, ...]:
    """Names of a list, or of a file."""
    if not isinstance(given, str):
        return given
    try:
        return read_names(given)
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def names_in(given: str | tuple[str, ...], labels: Sequence[AnyLabel], key: str) -> set[str]:
    """Names of a list, or of a file with one per line; each must be the name of a label."""
    names = _names(given, key)
    known = {label.name for label in labels}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{key}: no label is named {name!r}{hint}")
    return set(names)
