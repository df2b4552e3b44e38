"""Converged reference labels: the occupied orbitals of one structure.

They come from a label store (`denser.labels.store`) or from a folder of `.npz` files. Labels of
shards (`denser.labels.packed`) have no orbitals.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from denser.types.arrays import read_only, restore
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

_KEYS = ("numbers", "positions", "box", "mesh", "charge", "mo_coeff")


@dataclass(frozen=True, eq=False)
class Label:
    """A converged Kohn-Sham calculation; its arrays are read-only.

    Parameters
    ----------
    name : str
    structure : Structure
        In the frame of `grid`.
    grid : Grid
        The box of the calculation, which is the period of the orbitals.
    mo_coeff : (nao, nocc) float
        Doubly occupied GTH-TZV2P orbitals in PySCF's order.
    e_tot : float or None
        Total energy, hartree, if known.
    mo_energy : (nao,) float or None
        Orbital energies, hartree, if known.
    source : str
        Name of the file that the structure came from, if known; see `group`.
    """

    name: str
    structure: Structure
    grid: Grid
    mo_coeff: np.ndarray
    e_tot: float | None = None
    mo_energy: np.ndarray | None = None
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "mo_coeff", read_only(self.mo_coeff))
        if self.mo_energy is not None:
            object.__setattr__(self, "mo_energy", read_only(self.mo_energy))

    __setstate__ = restore

    @property
    def n_electrons(self) -> int:
        """Number of valence electrons."""
        return 2 * self.mo_coeff.shape[1]

    @property
    def molecule(self) -> str:
        """Name that a molecule shares with its distorted copy."""
        return molecule_of(self.name)

    @property
    def group(self) -> str:
        """Name that all labels from one file share, such as the frames of a trajectory.

        It is `source`, or is derived from the label's name.
        """
        return self.source or group_of(self.name)


def molecule_of(name: str) -> str:
    """Name of a label without `_rattled`, which marks a distorted copy."""
    return name.removesuffix("_rattled")


def group_of(name: str) -> str:
    """Name of a label without `_rattled` and without the number of a frame (`_00012`)."""
    return re.sub(r"(?<=.)_\d{5}$", "", molecule_of(name))


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
    from denser.labels.packed import holds_shards  # imported here: it uses the names of this module

    path = Path(path)
    if holds_shards(path):
        raise InputError(
            f"{path}: the labels of shards hold densities at points only, which `denser train` can "
            "use; here orbitals are needed, so give a store (.db) or a folder of .npz labels"
        )
    if path.suffix == ".db":
        from denser.labels.store import LabelStore  # which makes Labels itself

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


def read_recipe(path: str | Path) -> Recipe | None:
    """Level of theory of a store or of shards; None for `.npz` files, which do not say it.

    Raises
    ------
    InputError
        A store or a shard that cannot be read.
    """
    from denser.labels.packed import holds_shards, recipe_of_shards

    path = Path(path)
    if holds_shards(path):
        return recipe_of_shards(path)
    if path.suffix != ".db":
        return None
    from denser.labels.store import LabelStore  # which makes Labels itself

    with LabelStore(path) as store:
        return store.recipe


class HasGroup(Protocol):
    """The properties of a label that `split` needs."""

    @property
    def molecule(self) -> str:
        """Name that a molecule shares with its distorted copy."""
        ...

    @property
    def group(self) -> str:
        """Name that all labels from one file share."""
        ...


AnyLabel = TypeVar("AnyLabel", bound=HasGroup)


def split(
    labels: list[AnyLabel], n_validation: int, seed: int
) -> tuple[list[AnyLabel], list[AnyLabel]]:
    """Return (training, validation); labels of one group, such as a trajectory, stay together.

    Whole groups are drawn at random until `n_validation` labels are held out. A group that would
    give more than twice as many labels is skipped; if this holds for all groups, the smallest one
    is taken. If there is only one group, its last molecules are held out, in the order of their
    names. The split depends only on the names, the groups and the seed.

    Raises
    ------
    InputError
        No label would be left to train on.
    """
    if n_validation <= 0:
        return list(labels), []
    sizes = Counter(label.group for label in labels)
    groups = sorted(sizes)
    held_out: set[str] = set()
    if len(groups) > 1:
        count = 0
        for i in np.random.default_rng(seed).permutation(len(groups)):
            if count >= n_validation or len(held_out) == len(groups) - 1:
                break
            if count + sizes[groups[i]] <= 2 * n_validation:
                held_out.add(groups[i])
                count += sizes[groups[i]]
        held_out = held_out or {min(groups, key=lambda group: sizes[group])}
        parts = [label.group in held_out for label in labels]
    else:
        molecules = Counter(label.molecule for label in labels)
        count = 0
        for molecule in sorted(molecules, reverse=True):
            if count >= n_validation:
                break
            held_out.add(molecule)
            count += molecules[molecule]
        parts = [label.molecule in held_out for label in labels]
    if n_validation >= len(labels) or all(parts):
        raise InputError(
            f"none of {len(labels)} labels is left to train on if {n_validation} are held out for "
            "validation; lower data.validation"
        )
    train = [label for label, out in zip(labels, parts, strict=True) if not out]
    return train, [label for label, out in zip(labels, parts, strict=True) if out]
