"""Read labels from a store, from a folder of `.npz` files, and their level of theory."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from denser.labels.label import Label
from denser.labels.packed import holds_shards, read_shards, recipe_of_shards
from denser.labels.store import LabelStore
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.paths import file_path
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

_KEYS = ("numbers", "positions", "box", "mesh", "charge", "mo_coeff")


def read_label(path: Path) -> Label:
    """Read one `.npz` label; keys as in `_KEYS`, lengths in angstrom.

    Raises
    ------
    InputError
        The file is unreadable or lacks a key.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            missing = [key for key in _KEYS if key not in data]
            if missing:
                raise InputError(f"{path}: not a label, {', '.join(missing)} missing")
            box = data["box"] / BOHR
            structure = Structure(
                data["numbers"], data["positions"] / BOHR, int(data["charge"]), np.diag(box)
            )
            grid = Grid(np.zeros(3), np.diag(box), tuple(data["mesh"]))
            energies = (
                float(data["energy"]) if "energy" in data else None,
                data.get("mo_energy"),
            )
            return Label(path.stem, structure, grid, data["mo_coeff"], *energies)
    except (OSError, zipfile.BadZipFile, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read as a label ({error})") from error


def read_labels(path: str | Path, recipe: Recipe | None = None) -> list[Label]:
    """Read all labels of a store (`.db`) or of a folder of `.npz` files, sorted by name.

    Parameters
    ----------
    path : Path
    recipe : Recipe, optional
        Level of theory that a store must have; `.npz` files do not know theirs.

    Raises
    ------
    InputError
        No labels there, one that cannot be read, or another level of theory.
    """
    path = file_path(path, "a store or a folder of labels")
    if holds_shards(path):
        raise InputError(
            f"{path}: the labels of shards hold densities at points only, which `denser train` can "
            "use; here orbitals are needed, so give a store (.db) or a folder of .npz labels"
        )
    if path.suffix == ".db":
        with LabelStore(path) as store:
            if recipe is not None:
                store.require_level(recipe, "this run")
            labels = list(store)
        if not labels:
            raise InputError(f"{path}: contains no labels yet; make some with denser label")
        return labels
    paths = sorted(path.glob("*.npz"))
    if not paths:
        raise InputError(
            f"{path}: no .npz labels found; give a folder that contains some, or a store (.db)"
        )
    return [read_label(path) for path in paths]


def names_of_labels(path: str | Path) -> list[str]:
    """Names of the labels of a store, a shard, or a folder of shards or of `.npz` files.

    Raises
    ------
    InputError
        There is no such file or folder, it cannot be read, or it holds no labels.
    """
    path = file_path(path, "a store, a shard or a folder of labels")
    if holds_shards(path):
        return [label.name for label in read_shards(path)]
    if path.suffix == ".db":
        with LabelStore(path) as store:
            return store.names()
    return [label.name for label in read_labels(path)]


def read_recipe(path: str | Path) -> Recipe | None:
    """Level of theory of a store or of shards; None for `.npz` files, which do not say it.

    Raises
    ------
    InputError
        A store or a shard that cannot be read.
    """
    path = file_path(path, "a store or a folder of labels")
    if holds_shards(path):
        return recipe_of_shards(path)
    if path.suffix != ".db":
        return None
    with LabelStore(path) as store:
        return store.recipe
