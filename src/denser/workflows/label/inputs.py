"""Structure files and QM9 selections to named structures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from denser.atoms.plausible import open_shells
from denser.io.trajectories import TrajectoryFrame
from denser.labels import qm9
from denser.labels.identity import store_name
from denser.model.options import PredictionOptions
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows.inputs import chosen_frames, output_stems, own_files
from denser.workflows.many import Failed


@dataclass(frozen=True, eq=False)
class LabelInput:
    """A structure to label.

    Parameters
    ----------
    name : str
        Name of the label.
    structure : Structure
    group : str
        Name of the file of the structure, shared by the frames of a trajectory. If it is empty,
        the label derives it from its name.
    box : str
        "isolated" or "paper"; if it is empty, the settings decide.
    """

    name: str
    structure: Structure
    group: str = ""
    box: str = ""


def read_inputs(
    inputs: list[str],
    options: PredictionOptions,
    tell: Callable[[str], None],
    embed: bool = False,
    topology: Path | None = None,
) -> tuple[list[LabelInput], int]:
    """Read structures from files and QM9 selections; also return the number of unusable ones.

    Parameters
    ----------
    inputs : list of str
        Structure files, perhaps with slices of their frames, or `qm9:` and a selection (see
        `denser.labels.qm9.select`).
    options : PredictionOptions
        They say what structures the inputs are.
    tell : callable
        Called with a sentence about each input that cannot be used.
    embed : bool
        As in `denser.io.structures.read_structures`.
    topology : Path or None
        As in `denser.workflows.inputs.find_inputs`.

    Raises
    ------
    InputError
        A QM9 selection that cannot be read.
    """
    structures: list[LabelInput] = []
    bad = 0
    files = [Path(text) for text in inputs if not text.startswith("qm9:")]
    stems = dict(zip(files, output_stems(own_files(files)), strict=True))
    for text in inputs:
        if text.startswith("qm9:"):
            structures += _from_qm9(text.removeprefix("qm9:"), options, tell)
            continue
        stem = stems[Path(text)]
        path, frames = chosen_frames(Path(text), embed, topology)
        group = store_name(stem)
        said: set[str] = set()
        for numbered in frames:
            frame, shown = numbered.frame, f"{path}{numbered.number}"
            try:
                if isinstance(frame, Failed):
                    raise InputError(frame.error)
                if isinstance(frame, TrajectoryFrame):
                    frame = frame.frame()
                name = store_name(stem + numbered.ending)
                structure = options.structure_of(frame.atoms)
                closed = structure.spin_assumed and not structure.spin
                if closed and (excited := open_shells(structure)):
                    # Its SCF would take minutes, and then likely not converge.
                    raise InputError(f"{excited[0]}, and --spin 0 this singlet")
                structures.append(LabelInput(name, structure, group))
                for note in (*frame.notes, *open_shells(structure)):
                    if note not in said:  # once for all frames
                        said.add(note)
                        tell(f"{shown}: {note}")
            except InputError as error:
                tell(f"{shown}: {error}")
                bad += 1
    return structures, bad


def _from_qm9(
    text: str, options: PredictionOptions, tell: Callable[[str], None]
) -> list[LabelInput]:
    chosen = qm9.select(text)
    if chosen.n_test:
        tell(
            f"qm9:{text}: {chosen.n_test} of these molecules belong to the test part of the "
            "split; use them for evaluation only, never to train, select or tune"
        )
    found = [
        LabelInput(name, options.structure_of(structure))
        for name, structure in qm9.molecules(chosen.numbers)
    ]
    if len(found) < len(chosen.numbers):
        tell(
            f"qm9:{text}: qm9pack lacks {len(chosen.numbers) - len(found)} of "
            f"{len(chosen.numbers)} molecules, which are left out"
        )
    return found


def rattled(entry: LabelInput, width: float, seed: int) -> LabelInput:
    """Return a copy, named `NAME_rattled`, with random displacements of all coordinates.

    The displacements are normally distributed with a standard deviation of `width` bohr. They
    depend only on the name and the seed.
    """
    words = np.frombuffer(sha256(entry.name.encode()).digest(), dtype="<u4")
    random = np.random.default_rng([seed, *words.tolist()])
    positions = entry.structure.positions
    moved = positions + width * random.standard_normal(positions.shape)
    structure = replace(entry.structure, positions=moved)
    return LabelInput(f"{entry.name}_rattled", structure, entry.group)
