"""Inputs of a command: structures, density files and SMILES, each with a unique name."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from denser.io import chgcar, is_density_file
from denser.io.files import plain_name, read_bytes
from denser.io.formats import TRAJECTORY
from denser.io.frames import Frame
from denser.io.smiles import from_smiles
from denser.io.structures import STANDARD_INPUT, read_structures
from denser.io.trajectories import (
    TrajectoryFrame,
    is_trajectory,
    split_selection,
    trajectory_frames,
)
from denser.io.zarr_group import with_members
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.version import __version__
from denser.workflows.many import Failed, attempt

if TYPE_CHECKING:
    from ase import Atoms

    from denser.model.options import PredictionOptions

Source: TypeAlias = "Atoms | TrajectoryFrame | Path | Failed"

_LONGEST = 100
"""Longest file stem, in characters; a SMILES may be longer than a file system allows."""


@dataclass(frozen=True, eq=False, slots=True)
class Input:
    """A structure or a density file.

    Parameters
    ----------
    name : str
        Unique name in messages and records.
    stem : str
        Unique stem of the files that are written for it.
    source : ase.Atoms, TrajectoryFrame, Path or Failed
        Atoms, a frame that is read when it is needed, a density file, or the reason why there is
        none of these.
    path : Path or None
        The file of the input.
    title : str
        Title in the file, such as that of an SDF record.
    notes : tuple of str
        Sentences about what was taken from the file.
    """

    name: str
    stem: str
    source: Source
    path: Path | None = None
    title: str = ""
    notes: tuple[str, ...] = ()

    def atoms(self) -> Atoms:
        """Return the atoms.

        Raises
        ------
        InputError
            The input could not be read, or is a density file.
        """
        if isinstance(self.source, Failed):
            raise InputError(self.source.error)
        if isinstance(self.source, Path):
            raise InputError(f"{self.name}: is a density file; give a structure")
        return self.source.atoms() if isinstance(self.source, TrajectoryFrame) else self.source

    def predicts(self) -> bool:
        """Whether its density is predicted: it is a structure and no density file."""
        return not isinstance(self.source, Path | Failed)


class Names:
    """Unique names.

    Names that differ only in upper and lower case count as the same, as on some file systems.

    Parameters
    ----------
    taken : iterable of str
        Names that must not be used.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}
        self._next: dict[str, int] = {}

    def give(self, name: str, form: str = "{}_{}") -> str:
        """Return `name`, or the first of `name_2`, `name_3`, ... that is free."""
        return self.give_all(name, ("",), form)[0]

    def give_all(self, name: str, endings: Sequence[str], form: str = "{}_{}") -> list[str]:
        """Return `name` with each of the endings, with a `name` for which all of them are free."""
        i, base = self._next.get(name, 1), name
        while True:
            base = name if i == 1 else form.format(name, i)
            given = [base + ending for ending in endings]
            if not any(text.casefold() in self._taken for text in given):
                break
            i += 1
        self._next[name] = i
        self._taken.update(text.casefold() for text in given)
        return given


def file_stem(text: str | Path) -> str:
    """Stem for output files: a path without its suffix, or a SMILES with its signs as `_`."""
    if isinstance(text, Path):
        name = plain_name(text)
        whole = chgcar.is_name(name)
        text = "stdin" if name == STANDARD_INPUT else name if whole else Path(name).stem
    return re.sub(r"[^\w.+-]", "_", text)[:_LONGEST] or "structure"


def output_stems(files: Sequence[Path]) -> list[str]:
    """Stem for the output files of each input file; it says what tells files of one name apart.

    Files of the same name in different folders get as many names of folders as needed, such as
    `d1_opt` and `d2_opt`. Files that differ in the suffix alone get the suffix: `opt_xyz`. Folders
    count from the current one, or from the root for files outside it.
    """
    where = [Path(os.path.abspath(path)) for path in files]
    alike: dict[str, set[Path]] = {}
    for path in where:
        alike.setdefault(file_stem(path).casefold(), set()).add(path)
    given: dict[Path, str] = {}
    for group in alike.values():
        given |= _told_apart(sorted(group))
    return [given[path] for path in where]


def shown_names(files: Sequence[Path]) -> list[str]:
    """Names of files without their folders, but with those that tell files of one name apart."""
    names = []
    for path, stem in zip(files, output_stems(files), strict=True):
        own = file_stem(path)
        names.append(path.name if stem == own else stem + path.name[len(own) :])
    return names


def _told_apart(files: Sequence[Path]) -> dict[Path, str]:
    """Stems of files with the same stem, with as few folders as possible, and the suffix last."""
    folders = {path: _folders(path) for path in files}
    deepest = max(map(len, folders.values()))
    stems: dict[Path, str] = {}
    for suffix in (False, True):
        for depth in range(deepest + 1):
            for path in files:
                stem = file_stem(path)
                ending = path.name[len(stem) :].lstrip(".").split(".") if suffix else []
                parts = [*folders[path][-depth:][:depth], stem, *ending]
                stems[path] = file_stem("_".join(filter(None, parts)))
            if len({stem.casefold() for stem in stems.values()}) == len(files):
                return stems
    return stems


def _folders(path: Path) -> tuple[str, ...]:
    here = Path.cwd()
    inside = path.is_relative_to(here)
    return path.relative_to(here).parts[:-1] if inside else path.parts[1:-1]


_SLICE = re.compile(r"(?P<file>.+)@(?P<frames>-?\d+|-?\d*:-?\d*(:-?\d*)?)")
"""As ASE has it: trajectory.xtc@0:100:10, a slice of Python or a single frame."""


def split_slice(path: Path) -> tuple[Path, slice | None]:
    """The file, and which of its frames `@first:last:step` behind its name chooses; None for all.

    Raises
    ------
    InputError
        The step is zero.
    """
    match = _SLICE.fullmatch(path.name)
    if match is None or path.exists():
        return path, None
    numbers = [int(word) if word else None for word in match["frames"].split(":")]
    first = numbers[0]
    if len(numbers) == 1:
        assert first is not None  # the expression says so
        chosen = slice(first, first + 1 if first != -1 else None)
    else:
        chosen = slice(*numbers)
    if chosen.step == 0:
        raise InputError(f"{path}: the step of a slice cannot be 0")
    return path.with_name(match["file"]), chosen


def own_files(files: Sequence[Path], topology: Path | None = None) -> list[Path]:
    """The files of a user's command, which must not be overwritten, without slices."""
    others = [] if topology is None else [split_selection(topology)[0]]
    return [split_slice(path)[0] for path in files] + others


@dataclass(frozen=True, eq=False, slots=True)
class NumberedFrame:
    """A frame of a file.

    Parameters
    ----------
    frame : Frame, TrajectoryFrame or Failed
    number : str
        `[3]` for messages; empty if the file has one frame only.
    ending : str
        `_00003` for names of files; empty if the file has one frame only.
    """

    frame: Frame | TrajectoryFrame | Failed
    number: str
    ending: str


def chosen_frames(
    path: Path, embed: bool = False, topology: Path | None = None
) -> tuple[Path, list[NumberedFrame]]:
    """A file without its slice, and its frames, or those that the slice chooses.

    In place of a frame that cannot be read is the reason. Parameters as of `find_inputs`.
    """
    given = path
    try:
        path, chosen = split_slice(path)
        frames: Sequence[Frame | TrajectoryFrame | Failed]
        if is_trajectory(path, topology):
            frames = trajectory_frames(path, topology)
        else:
            frames = read_frames(path, embed)
        n = len(frames)
        numbers = range(n) if chosen is None else range(n)[chosen]
        if not numbers:
            raise InputError(f"{given}: chooses none of its {n} frame{'s' if n > 1 else ''}")
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{given}: ")
        return path, [NumberedFrame(Failed(reason), "", "")]
    if n == 1:
        return path, [NumberedFrame(frames[0], "", "")]
    return path, [NumberedFrame(frames[i], f"[{i}]", f"_{i:05d}") for i in numbers]


def find_inputs(
    files: Sequence[Path],
    smiles: Sequence[str] = (),
    densities: bool = True,
    embed: bool = False,
    topology: Path | None = None,
) -> list[Input]:
    """All inputs of a command, in the given order.

    Each frame of a structure file is an input, with a number if there are several. A frame or a
    file that cannot be read is an input too, with the reason.

    Parameters
    ----------
    files : sequence of Path
        Each may end in a slice of its frames (`split_slice`). A Zarr group is all of its arrays.
    smiles : sequence of str
    densities : bool
        Whether density files (judged by their names) stay files, or are read as structures.
    embed : bool
        As in `denser.io.structures.read_structures`.
    topology : Path or None
        Of trajectories that hold no elements (`denser.io.trajectories`).

    Raises
    ------
    InputError
        There is a topology, and no such trajectory.
    """
    if topology is not None and not any(
        is_trajectory(split_slice(path)[0], topology) for path in files
    ):
        raise InputError(
            f"--topology {topology} is for {', '.join(TRAJECTORY.endings)} files, and there are "
            "none; leave it out"
        )
    names, stems = Names(), Names()
    found: list[Input] = []
    files = with_members(files)
    plain = own_files(files)
    for given, path, stem in zip(files, plain, output_stems(plain), strict=True):
        if densities and is_density_file(path):
            found.append(Input(names.give(str(path), "{} ({})"), stems.give(stem), path, path))
            continue
        _, frames = chosen_frames(given, embed, topology)
        shown = names.give_all(str(path), [x.number for x in frames], "{} ({})")
        ends = stems.give_all(stem, [x.ending for x in frames])
        notes = _notes(frames[0].frame)
        for name, end, x in zip(shown, ends, frames, strict=True):
            found.append(_input(name, end, x.frame, path, notes))
            notes = ()
    for text in smiles:
        shown_as, stem = names.give(text, "{} ({})"), stems.give(file_stem(text))
        found.append(Input(shown_as, stem, attempt(from_smiles, text)))
    return found


def _notes(frame: Frame | TrajectoryFrame | Failed) -> tuple[str, ...]:
    """Notes about a trajectory and its topology, which are those of its first frame."""
    if not isinstance(frame, TrajectoryFrame):
        return ()
    read = attempt(frame.frame)
    return () if isinstance(read, Failed) else read.notes


def _input(
    name: str,
    stem: str,
    frame: Frame | TrajectoryFrame | Failed,
    path: Path,
    notes: tuple[str, ...],
) -> Input:
    if isinstance(frame, Failed | TrajectoryFrame):
        return Input(name, stem, frame, path, notes=notes)
    return Input(name, stem, frame.atoms, path, frame.title, frame.notes)


def read_frames(path: Path, embed: bool = False) -> list[Frame | Failed]:
    """Frames of a structure file; in place of one that cannot be read, the reason."""
    frames: list[Frame | Failed] = []

    def read() -> None:
        for frame in read_structures(path, embed):
            found = Failed(str(frame)) if isinstance(frame, InputError) else frame
            frames.append(found)

    problem = attempt(read)
    if isinstance(problem, Failed):
        frames.append(Failed(problem.error.removeprefix(f"{path}: "), problem.bad_input))
    return frames


def refuse_inputs(output: Path, files: Iterable[Path]) -> None:
    """Raise an InputError if `output` is one of the input files."""
    target = output.resolve()
    if any(Path(path).resolve() == target for path in files):
        raise InputError(f"{output} is an input and would be overwritten; choose another output")


def content(
    source: Source,
    options: PredictionOptions,
    settings: Mapping[str, Any],
    model: str | None,
) -> str | None:
    """Hash of everything that determines a result; None if the input cannot be read.

    Parameters
    ----------
    source : ase.Atoms, TrajectoryFrame, Path or Failed
        Elements, positions, charge, spin and cell, or the bytes of a density file, enter the hash.
    options : PredictionOptions
        They say what structure the atoms are.
    settings : mapping
        Plain values, those of the options among them that matter.
    model : str or None
        `Model.identity` of the model of the prediction; None for a density file.
    """
    parts: dict[str, Any] = {"denser": __version__, "options": dict(settings)}
    try:
        if isinstance(source, Failed):
            return None
        if isinstance(source, Path):
            parts["file"] = file_hash(source)
        else:
            atoms = source.atoms() if isinstance(source, TrajectoryFrame) else source
            structure = options.structure_of(atoms)
            parts |= {"structure": structure_hash(structure), "model": model}
    except InputError:  # which the work will report
        return None
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, or of those of the files in an array of Zarr."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(read_bytes(file))
    return digest.hexdigest()


def structure_hash(structure: Structure) -> str:
    """Hash of elements, positions, charge, spin and cell."""
    digest = hashlib.sha256(structure.numbers.astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(structure.positions, "<f8").tobytes())
    digest.update(f"charge {structure.charge} spin {structure.spin}".encode())
    if structure.cell is not None:
        digest.update(np.ascontiguousarray(structure.cell, "<f8").tobytes())
    return digest.hexdigest()
