"""Predict the densities of many structures and write files: the work of `denser predict`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from denser.atoms.plausible import strange
from denser.io import check_suffix, chgcar, holds_spin, write, zarr_group
from denser.io.files import make_folder
from denser.io.rows import write_rows
from denser.io.table import require_table
from denser.model.boxes import IN_MEMORY, memory_for_grids
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.model.slabs import Part, untracked
from denser.types.density import SlabDensity
from denser.types.errors import InputError
from denser.workflows import many
from denser.workflows.inputs import Input, content, find_inputs, own_files, refuse_inputs
from denser.workflows.journal import Journal, beside
from denser.workflows.many import Failed
from denser.workflows.prediction_record import notes, record_of, summary
from denser.workflows.progress import Bar
from denser.workflows.refined import at_gamma, doubt_of, predicted

RECORD = ".denser-predict.jsonl"
"""File in an output folder, with one line for each output: the hash of its input, and size and time
of the output. If these have changed since, the line is not valid. That of a Zarr group is beside
it."""

_IN_FRAGMENTS = (
    "the structure is large: the electrons that the network is shown were solved in overlapping "
    "fragments, which changes the density by less than 0.01 %"
)

_IN_PARTS = (
    "the grid would take {:.2g} GB at once, more than --memory allows (by default half of what is "
    "free): its values were computed in parts, and written as they were made"
)


class Batch:
    """Structures from files and SMILES, predicted one by one.

    Parameters
    ----------
    files, smiles : sequence
    out : Path or None
        A file for one structure, otherwise a folder or a Zarr group (`denser.io.zarr_group`).
    format : str
        Suffix of the files in a folder.
    options : PredictionOptions
    resume : bool
        Skip inputs whose output exists and was made from the same structure, options, model
        and version of denser, according to `RECORD`.
    embed, topology
        As in `denser.workflows.inputs.find_inputs`.
    table : Path or None
        `.csv` or `.parquet`, with a row for each input.
    memory : float or None
        As of `predicted`.

    Raises
    ------
    InputError
        There is nothing to predict, or an output cannot be written.
    """

    def __init__(
        self,
        files: Sequence[Path],
        smiles: Sequence[str],
        out: Path | None,
        format: str = "cube",
        options: PredictionOptions = PredictionOptions(),
        resume: bool = False,
        embed: bool = False,
        topology: Path | None = None,
        table: Path | None = None,
        memory: float | None = None,
    ) -> None:
        if not files and not smiles:
            raise InputError("nothing to predict; name structure files or give --smiles")
        if out is None:
            raise InputError("no output; give -o FILE (such as rho.cube) or -o FOLDER")
        self.files, self.options = own_files(files, topology), options
        self.out, self.resume, self.table = out, resume, table
        if memory is not None and not memory >= 0:
            raise InputError(f"the memory must be a number of bytes, found {memory:g}")
        self.memory = memory
        if table is not None:
            require_table(table)
            refuse_inputs(table, self.files)
        grouped = zarr_group.is_group(out)
        if grouped:
            zarr_group.require_zarr()
        suffix = "" if grouped else "." + format.lstrip(".")
        if suffix == zarr_group.SUFFIX:
            raise InputError(f"densities go to a Zarr group with -o {out}.zarr, without --format")
        check_suffix(out / f"x{suffix}")
        self.inputs = find_inputs(files, smiles, densities=False, embed=embed, topology=topology)
        self.single = len(self.inputs) == 1 and not out.is_dir() and out.suffix != ""
        self.single = self.single and not grouped
        self.single = self.single or (len(self.inputs) == 1 and chgcar.is_name(out.name))
        if self.single:
            check_suffix(out)
            if not out.parent.is_dir():
                raise InputError(f"{out}: the folder {out.parent} does not exist; create it first")
        else:
            if out.exists() and not out.is_dir():
                raise InputError(
                    f"{out} is a file, and not one of a density; name a folder, or a file such as "
                    "rho.cube"
                    if len(self.inputs) == 1
                    else f"{out} is a file, but there are {len(self.inputs)} structures; name a "
                    "folder"
                )
            if out.suffix and not out.is_dir() and not grouped:
                raise InputError(
                    f"{len(self.inputs)} structures go to a folder, not to {out.name}; give "
                    f"-o FOLDER --format {out.suffix.lstrip('.')}"
                )
        self.output = Output(out, suffix, self.single)

    def run(self, as_json: bool, workers: int = 1, parsl: Path | None = None) -> int:
        """Predict and write all; print a line (or a JSON object) for each, and totals.

        Densities are written where they are predicted, and their records here. `workers` and
        `parsl` are those of `denser.workflows.many.run`. Returns 0 if all succeeded, 2 if any
        failed, 130 after Ctrl-C.
        """
        model = Predictor.of(self.options).model.identity()
        if not self.single:
            make_folder(self.out)
        folder = self.out.parent if self.single else self.out
        # Zarr warns of other files in a group
        path = beside(self.out) if zarr_group.is_group(self.out) else folder / RECORD
        journal = Journal(path, "output")
        todo, earlier, failed = [], {}, {}
        there: set[str] = set()  # whose line in the journal is that of this content
        for entry in self.inputs:
            output = self.output.of(entry)
            known = journal.find(output.name)
            if self.resume and _holds(known, output, content_of(entry, self.options, model)):
                there.add(entry.name)
                continue
            todo.append(entry)
            other = "" if self.single or known is None else known.get("origin", "")
            if other not in ("", _origin(entry)) and output.exists():
                earlier[entry.name] = other
        present = len(self.inputs) - len(todo)
        recorded = not self.single or self.resume or self.table is not None

        def take(entry: Input, result: dict | Failed) -> None:
            line: dict = {"origin": _origin(entry)}
            if isinstance(result, dict):
                line |= {key: result.pop(key) for key in ("content", "file")}
                if other := earlier.get(entry.name):
                    result["warnings"].append(
                        f"{result['output']} held the prediction of {other}, which is replaced; "
                        "give both inputs in one command, or another folder"
                    )
            record = many.record_of(entry, result)
            if "error" in record:
                failed[entry.name] = record
            elif recorded:
                journal.add(line | {"output": Path(record["output"]).name, "record": record})
                there.add(entry.name)
            display.show(record)

        def records() -> Iterator[dict]:
            for entry in self.inputs:
                if entry.name in failed:
                    yield failed[entry.name]
                elif entry.name in there and (found := journal.find(self.output.of(entry).name)):
                    yield found["record"] | {"input": entry.name}

        work = partial(
            _work,
            output=self.output,
            options=self.options,
            protected=frozenset(self.files),
            model=model,
            memory=self.memory,
            workers=workers,
        )
        with ExitStack() as stack:
            display = stack.enter_context(
                many.Display(
                    "predicting",
                    "predicted",
                    len(self.inputs),
                    summary,
                    as_json,
                    notes=notes,
                    present=present,
                )
            )
            if recorded:
                stack.enter_context(journal)
            totals = many.run(todo, work, take, workers, parsl)
        totals.present = present
        if self.table is not None:
            write_rows(self.table, records)
        return display.end(totals, f"in {self.out}", "add --resume to continue")


@dataclass(frozen=True)
class Output:
    """Where predictions go: one file, or a folder with files of one suffix."""

    path: Path
    suffix: str
    single: bool

    def of(self, entry: Input) -> Path:
        """The file for an input."""
        return self.path if self.single else self.path / (entry.stem + self.suffix)


def content_of(entry: Input, options: PredictionOptions, model: str) -> str | None:
    """Hash of all that determines the prediction of an input."""
    return content(entry.source, options, options.plain(), model)


def _work(
    entry: Input,
    output: Output,
    options: PredictionOptions,
    protected: frozenset[Path],
    model: str,
    memory: float | None,
    workers: int,
) -> dict:
    """Predict and write one input; the record has its hash and what `_stamp` says of the file."""
    path = output.of(entry)
    refuse_inputs(path, protected)
    memory = memory_for_grids(workers) if memory is None else memory
    record = _predict(entry, path, Predictor.of(options), options, memory, output.single)
    return record | {"content": content_of(entry, options, model), "file": _stamp(path)}


def _origin(entry: Input) -> str:
    """The file of an input, or its SMILES."""
    return entry.name if entry.path is None else os.path.abspath(entry.path)


def _holds(known: dict | None, output: Path, made_from: str | None) -> bool:
    """Whether `output` is that of a line of the journal, made from this content."""
    if known is None or made_from is None or known.get("content") != made_from:
        return False
    if "record" not in known:  # of an earlier version
        return False
    try:
        return known.get("file") == _stamp(output)
    except OSError:
        return False


def _stamp(path: Path) -> list[int]:
    """Size and time of a file, or of those of an array of Zarr."""
    found = [file.stat() for file in (path.iterdir() if path.is_dir() else [path])]
    return [sum(file.st_size for file in found), max(file.st_mtime_ns for file in found)]


def _shown(parts: Sequence[Part], doing: str) -> Iterator[Part]:
    """Progress of the parts of a grid on standard error."""
    with Bar(doing, len(parts), Console(stderr=True, soft_wrap=True, highlight=False)) as bar:
        for part in parts:
            yield part
            bar.advance()


def _predict(
    entry: Input,
    output: Path,
    predictor: Predictor,
    options: PredictionOptions,
    memory: float,
    single: bool,
) -> dict:
    track = _shown if single else untracked
    prediction, steps = predicted(entry.atoms(), output, predictor, options, memory, track)
    start = time.perf_counter()
    write(output, prediction.density)
    write_seconds = time.perf_counter() - start
    record = record_of(output, prediction, predictor.model.name, options)
    record["electrons_in_fragments"] = predictor.network.in_fragments(prediction.density.structure)
    record["in_parts"] = isinstance(prediction.density, SlabDensity)
    record["notes"] = [_IN_FRAGMENTS] if record["electrons_in_fragments"] else []
    if record["in_parts"]:
        record["notes"].append(_IN_PARTS.format(prediction.density.grid.size * IN_MEMORY / 1e9))
    record["geometry"] = entry.atoms().info.get("geometry", "")
    record["warnings"] = strange(prediction.density.structure)
    if prediction.density.spin_density is not None and not holds_spin(output):
        record["notes"] += [
            f"{output.name} has the density without the spin density; .npz and CHGCAR hold both, "
            "and denser analyze --field spin writes it"
        ]
    record["doubt"] = doubt_of(prediction, steps, predictor)
    bands = predictor.bands(prediction.density.structure)
    record |= {} if bands is None else bands.to_dict()
    record["refined_steps"] = options.refine
    if steps is not None:
        gamma = at_gamma(prediction.density.structure)
        record["notes"] += gamma
        record |= steps.record()
        record["seconds"]["refine"] = round(steps.seconds, 4)
    record["seconds"]["write"] = round(write_seconds, 4)
    return record
