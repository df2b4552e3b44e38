"""Structure files and QM9 selections to named structures."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from denser.io.structures import read_structures
from denser.labels import qm9
from denser.labels.store import store_name
from denser.types.errors import InputError
from denser.types.structure import Structure


def read_inputs(
    inputs: list[str], charge: int | None, tell: Callable[[str], None]
) -> tuple[list[tuple[str, Structure]], int]:
    """All structures of files and QM9 selections with their names, and how many were unusable.

    Parameters
    ----------
    inputs : list of str
        Structure files, or `qm9:` and a selection (see `denser.labels.qm9.select`).
    charge : int or None
        Total charge of all; by default what the files say.
    tell : callable
        Is told, in one sentence each, what cannot be used and what to know.

    Raises
    ------
    InputError
        A QM9 selection that cannot be read.
    """
    structures: list[tuple[str, Structure]] = []
    bad = 0
    for text in inputs:
        if text.startswith("qm9:"):
            structures += _from_qm9(text.removeprefix("qm9:"), charge, tell)
            continue
        path, frames = Path(text), []
        try:
            for atoms in read_structures(path):
                frames.append(atoms)  # noqa: PERF402 - keeps the frames before a damaged one
        except InputError as error:
            tell(str(error))
            bad += 1
        stem = re.sub(r"[^\w.+-]", "_", path.stem)
        for i, atoms in enumerate(frames):
            many = len(frames) > 1
            try:
                name = store_name(f"{stem}_{i:05d}" if many else stem)
                structures.append((name, Structure.of(atoms, charge)))
            except InputError as error:
                tell(f"{path}{f'[{i}]' if many else ''}: {error}")
                bad += 1
    return structures, bad


def _from_qm9(
    text: str, charge: int | None, tell: Callable[[str], None]
) -> list[tuple[str, Structure]]:
    chosen = qm9.select(text)
    if chosen.n_test:
        tell(
            f"qm9:{text}: {chosen.n_test} of these molecules belong to the test part of the "
            "split; use them for evaluation only, never to train, select or tune"
        )
    found = [
        (name, Structure.of(structure, charge)) for name, structure in qm9.molecules(chosen.numbers)
    ]
    if len(found) < len(chosen.numbers):
        tell(
            f"qm9:{text}: qm9pack lacks {len(chosen.numbers) - len(found)} of "
            f"{len(chosen.numbers)} molecules, which are left out"
        )
    return found


def rattled(name: str, structure: Structure, width: float, seed: int) -> tuple[str, Structure]:
    """Copy with every coordinate displaced by a Gaussian of `width` bohr, named `_rattled`.

    The displacement depends on the name and the seed alone.
    """
    words = np.frombuffer(sha256(name.encode()).digest(), dtype="<u4")
    random = np.random.default_rng([seed, *words.tolist()])
    shift = width * random.standard_normal(structure.positions.shape)
    return f"{name}_rattled", replace(structure, positions=structure.positions + shift)
