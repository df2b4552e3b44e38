"""Inputs of a command: structures, density files and SMILES, each with a unique name."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denser.io import chgcar, is_density_file
from denser.io.files import plain_name, read_bytes
from denser.io.frames import Frame
from denser.io.smiles import from_smiles
from denser.io.structures import STANDARD_INPUT, read_structures
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.version import __version__
from denser.workflows.many import Failed, attempt

if TYPE_CHECKING:
    from ase import Atoms

    from denser.model.options import PredictionOptions

_LONGEST = 100
"""Longest file stem, in characters; a SMILES may be longer than a file system allows."""


@dataclass(frozen=True, eq=False)
class Input:
    """A structure or a density file.

    Parameters
    ----------
    name : str
        Unique name in messages and records.
    stem : str
        Unique stem of the files that are written for it.
    source : ase.Atoms, Path or Failed
        Atoms, a density file, or the reason why there is neither.
    path : Path or None
        The file of the input.
    title : str
        Title in the file, such as that of an SDF record.
    notes : tuple of str
        Sentences about what was taken from the file.
    """

    name: str
    stem: str
    source: Atoms | Path | Failed
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
        return self.source


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


def frame_endings(n: int) -> list[str]:
    """Endings of the stems of `n` frames of a file; a single frame has no ending."""
    return [""] if n == 1 else [f"_{i:05d}" for i in range(n)]


def find_inputs(
    files: Sequence[Path],
    smiles: Sequence[str] = (),
    densities: bool = True,
    embed: bool = False,
) -> list[Input]:
    """All inputs of a command, in the given order.

    Each frame of a structure file is an input, with a number if there are several. A frame or a
    file that cannot be read is an input too, with the reason.

    Parameters
    ----------
    files : sequence of Path
    smiles : sequence of str
    densities : bool
        Whether density files (judged by their names) stay files, or are read as structures.
    embed : bool
        As in `denser.io.structures.read_structures`.
    """
    names, stems = Names(), Names()
    found: list[Input] = []
    for path, stem in zip(files, output_stems(files), strict=True):
        if densities and is_density_file(path):
            found.append(Input(names.give(str(path), "{} ({})"), stems.give(stem), path, path))
            continue
        frames = read_frames(path, embed)
        n = len(frames)
        numbers = [f"[{i}]" for i in range(n)] if n > 1 else [""]
        shown = names.give_all(str(path), numbers, "{} ({})")
        given = stems.give_all(stem, frame_endings(n))
        found += [_input(*three, path) for three in zip(shown, given, frames, strict=True)]
    for text in smiles:
        shown_as, stem = names.give(text, "{} ({})"), stems.give(file_stem(text))
        found.append(Input(shown_as, stem, attempt(from_smiles, text)))
    return found


def _input(name: str, stem: str, frame: Frame | Failed, path: Path) -> Input:
    if isinstance(frame, Failed):
        return Input(name, stem, frame, path)
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
    source: Atoms | Path | Failed,
    options: PredictionOptions,
    settings: Mapping[str, Any],
    model: str | None,
) -> str | None:
    """Hash of everything that determines a result; None if the input cannot be read.

    Parameters
    ----------
    source : ase.Atoms, Path or Failed
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
            structure = options.structure_of(source)
            parts |= {"structure": structure_hash(structure), "model": model}
    except InputError:  # which the work will report
        return None
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def structure_hash(structure: Structure) -> str:
    """Hash of elements, positions, charge, spin and cell."""
    digest = hashlib.sha256(structure.numbers.astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(structure.positions, "<f8").tobytes())
    digest.update(f"charge {structure.charge} spin {structure.spin}".encode())
    if structure.cell is not None:
        digest.update(np.ascontiguousarray(structure.cell, "<f8").tobytes())
    return digest.hexdigest()
