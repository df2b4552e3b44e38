"""Import labels from other files, and compute the densities of labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from denser.atoms.sad import valence_charges
from denser.labels.facts import Facts
from denser.labels.identity import store_name
from denser.labels.label import Label
from denser.labels.reading import read_label
from denser.labels.store import LabelStore, TakenError
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.workflows.many import Failed, attempt


def label_density(label: Label) -> Density:
    """Valence density of a label on its own grid, from its orbitals, float64."""
    structure = label.structure
    return Density(
        label.grid,
        seal(_rendered(label, label.orbitals)),
        structure=structure,
        valence_charges=valence_charges(structure),
    )


def label_spin_density(label: Label) -> Field:
    """Spin density of a label on its own grid, e/bohr^3: that of spin up minus that of spin down.

    Its integral is the number of unpaired electrons.
    """
    up, down = label.spin_orbitals
    return Field(label.grid, seal(_rendered(label, up) - _rendered(label, down)))


def _rendered(label: Label, orbitals: np.ndarray) -> np.ndarray:
    import torch

    from denser.labels.render import density_on_grid

    structure = label.structure
    return density_on_grid(
        structure.numbers, structure.positions, orbitals, label.grid, dtype=torch.float64
    ).numpy()


def import_labels(
    folder: Path, store: LabelStore, tell: Callable[[str], None] = lambda text: None
) -> tuple[int, int, int]:
    """Copy a folder of `.npz` labels to a store; return the numbers (copied, present, unusable).

    Such files do not name their level of theory. The caller must make sure that it is that of the
    store. A box that is not the paper's is called "given".

    Raises
    ------
    InputError
        A folder without `.npz` files, or a store that cannot be written.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise InputError(f"{folder}: no .npz labels found; name a folder that holds some")
    copied = present = bad = 0
    for path in paths:
        found = attempt(_read, path, store.recipe.spacing)
        if isinstance(found, Failed):
            tell(found.error if found.bad_input else f"{path}: {found.error}")
            bad += 1
            continue
        label, facts = found
        try:
            new = store.add(label, facts)
        except TakenError:
            tell(f"{path}: {store.path} holds another structure or box named {label.name}")
            bad += 1
            continue
        copied += new
        present += not new
    return copied, present, bad


def _read(path: Path, spacing: float) -> tuple[Label, Facts]:
    label = read_label(path)
    with np.load(path, allow_pickle=False) as data:
        if not data.get("converged", True):
            raise InputError(f"{path}: is not converged")
        cycles, seconds = (float(data[k]) if k in data else None for k in ("cycles", "seconds"))
    isolated = replace(label.structure, cell=None)
    # In these files the origin of the coordinates is the first node of the box.
    paper = Grid.paper(isolated, spacing)
    same = replace(paper, origin=label.grid.origin).same_as(label.grid)
    label = replace(label, name=store_name(label.name), structure=isolated)
    return label, Facts(
        "paper" if same else "given",
        cycles=None if cycles is None else int(cycles),
        seconds=seconds,
        versions={"imported": path.suffix},
    )
