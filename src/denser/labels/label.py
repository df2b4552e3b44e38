"""Converged reference labels: the occupied orbitals of one structure.

They come from a label store or from a folder of `.npz` files (`denser.labels.reading`). Labels of
shards (`denser.labels.packed`) have no orbitals.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, TypeVar

import numpy as np

from denser.types.arrays import read_only, restore
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure


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
        Doubly occupied orbitals in PySCF's order. With unpaired electrons (`structure.spin`) each
        holds one electron: those of spin up come first, then those of spin down.
    e_tot : float or None
        Total energy, hartree, if known.
    mo_energy : (nao,) or (2, nao) float or None
        Orbital energies, hartree, if known; of both spins with unpaired electrons.
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

    def __repr__(self) -> str:
        energy = "" if self.e_tot is None else f", {self.e_tot:.6f} hartree"
        return f"Label({self.name!r}, {self.structure.formula}{energy})"

    def _repr_html_(self) -> str:
        return import_module("denser.viewer.html").label(self)

    @property
    def n_electrons(self) -> int:
        """Number of valence electrons."""
        return (1 if self.structure.spin else 2) * self.mo_coeff.shape[1]

    @property
    def orbitals(self) -> np.ndarray:
        """Orbitals (nao, nocc) that give the density if each holds two electrons."""
        return self.mo_coeff / np.sqrt(2.0) if self.structure.spin else self.mo_coeff

    @property
    def spin_orbitals(self) -> tuple[np.ndarray, np.ndarray]:
        """Orbitals (nao, n) that give the density of one spin if each holds two electrons.

        The spin density is the density of the first minus that of the second; without unpaired
        electrons it is zero everywhere.
        """
        if not self.structure.spin:
            return self.mo_coeff / np.sqrt(2.0), self.mo_coeff / np.sqrt(2.0)
        n_up = (self.mo_coeff.shape[1] + self.structure.spin) // 2
        return self.orbitals[:, :n_up], self.orbitals[:, n_up:]

    @property
    def frontier(self) -> tuple[float, float] | None:
        """Energies of the highest occupied and the lowest empty orbital, hartree, if known."""
        if self.mo_energy is None:
            return None
        n = self.mo_coeff.shape[1]
        if not self.structure.spin:
            return float(self.mo_energy[n - 1]), float(self.mo_energy[n])
        counts = (n + self.structure.spin) // 2, (n - self.structure.spin) // 2
        pairs = list(zip(self.mo_energy, counts, strict=True))
        homo = max(e[k - 1] for e, k in pairs if k)
        return float(homo), float(min(e[k] for e, k in pairs))

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


class HasStructure(Protocol):
    """The properties of a label that `without_open_shells` needs."""

    @property
    def name(self) -> str:
        """Name of the label."""
        ...

    @property
    def structure(self) -> Structure:
        """Atoms and the number of unpaired electrons."""
        ...


AnyStructure = TypeVar("AnyStructure", bound=HasStructure)


def without_open_shells(labels: Sequence[AnyStructure]) -> tuple[list[AnyStructure], list[str]]:
    """Return the labels of closed shells, and the names of the others, which no network knows.

    Raises
    ------
    InputError
        All labels have unpaired electrons.
    """
    closed = [label for label in labels if not label.structure.spin]
    names = [label.name for label in labels if label.structure.spin]
    if names and not closed:
        raise InputError(
            f"all labels have unpaired electrons, such as {names[0]}, and models know closed "
            "shells only"
        )
    return closed, names


def left_out(names: Sequence[str]) -> str:
    """Say which labels `without_open_shells` left out."""
    many = len(names) > 1
    return (
        f"{len(names)} label{'s' if many else ''} with unpaired electrons, such as {names[0]}, "
        f"{'were' if many else 'was'} left out: models know closed shells only"
    )


def molecule_of(name: str) -> str:
    """Name of a label without `_rattled`, which marks a distorted copy."""
    return name.removesuffix("_rattled")


def group_of(name: str) -> str:
    """Name of a label without `_rattled` and without the number of a frame (`_00012`)."""
    return re.sub(r"(?<=.)_\d{5}$", "", molecule_of(name))


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
