"""Compute properties of many densities and write a folder: the work of `denser analyze`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from denser.analysis.properties import Analysis
from denser.atoms.plausible import strange
from denser.io import read_density
from denser.io.electrons import describe
from denser.io.table import require_pyarrow
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.units import BOHR
from denser.types.version import __version__
from denser.workflows import many
from denser.workflows.inputs import Input, Names, content, file_hash, refuse_inputs
from denser.workflows.journal import Journal
from denser.workflows.many import Failed, Totals, attempt, record_of
from denser.workflows.prediction_record import density_error_text
from denser.workflows.refined import at_gamma, doubt_of, refined_prediction
from denser.workflows.report import tables as summary
from denser.workflows.report.outputs import ReportSettings, fitted, output_tasks

FRAMES = "frames.jsonl"
"""File with the results so far: the settings, then one record per line."""


def analyse(
    entry: Input,
    settings: ReportSettings,
    folder: Path | None = None,
    protected: frozenset[Path] = frozenset(),
) -> dict:
    """Return properties of one input as a record; write fields and pictures to the folder.

    Parameters
    ----------
    entry : Input
    settings : ReportSettings
    folder : Path or None
    protected : frozenset of Path
        Files that must not be overwritten.

    Returns
    -------
    dict
        A property that fails is in `errors`, with the reason.

    Raises
    ------
    InputError
        An input that cannot be used.
    """
    begin = time.perf_counter()
    density, recipe, notes = _density(entry, settings, folder, protected)
    warnings = strange(density.structure)
    notes = [*entry.notes, *notes, *warnings]
    seconds = {"density": round(time.perf_counter() - begin, 4)}
    analysis = Analysis(
        density, recipe, settings.steps, settings.isovalue, settings.basis, settings.options,
        settings.dispersion, settings.fragments,
    )  # fmt: skip
    properties: dict[str, dict] = {}
    lines: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    written: list[str] = []
    if density.grid.is_coarse:
        notes.append("the grid is coarse: charges, volumes and other sums over it are inaccurate")
    work: list[tuple[str, Callable[[], Any]]] = [
        (name, partial(analysis.property, name)) for name in settings.properties
    ]
    others = output_tasks(analysis, settings, folder, entry.stem, written, protected)
    for name, make in [*work, *others]:
        start = time.perf_counter()
        result = attempt(make)
        if isinstance(result, Failed):
            if result.bad_input and name in settings.optional:
                notes.append(f"{name} left out: {result.error}")
            else:
                errors[name] = result.error
        elif result is not None:
            properties[name], lines[name] = result.to_dict(), result.lines()
        seconds[name] = round(time.perf_counter() - start, 4)
    structure = density.structure
    if "orbitals" in vars(analysis):
        notes += at_gamma(structure)
    return {
        "formula": structure.formula,
        "charge": structure.charge,
        "spin": structure.spin,
        "n_atoms": len(structure),
        "symbols": structure.to_ase().get_chemical_symbols(),
        "density": "all-electron" if density.all_electron else "valence",
        "n_electrons": round(density.integrate(), 6),
        "spacing_angstrom": [round(float(h) * BOHR, 6) for h in density.grid.spacing],
        "notes": notes,
        "warnings": warnings,
        "properties": properties,
        "lines": lines,
        "errors": errors,
        "written": written,
        "seconds": seconds,
    }


def _density(
    entry: Input, settings: ReportSettings, folder: Path | None, protected: frozenset[Path]
) -> tuple[Density, Recipe, list[str]]:
    """The density of an input, the level of theory for further steps, and notes about both."""
    options = settings.options
    if isinstance(entry.source, Path):
        density = read_density(entry.source, settings.kind, options.charge, options.spin)
        notes = [describe(density)]
        if options.refine:
            notes.append("--refine is for predictions: the density of the file is taken as it is")
        return density, Recipe(), notes
    atoms = entry.atoms()
    predictor = Predictor.of(options)
    notes = [f"predicted by {predictor.model.name}"]
    if geometry := atoms.info.get("geometry"):
        notes.append(f"geometry: {geometry}")
    if settings.fit and settings.against and folder is not None:
        moved = folder / f"{entry.stem}_fitted.xyz"
        refuse_inputs(moved, protected)
        atoms, fit = fitted(atoms, settings, settings.against, moved)
        notes += [*fit.lines(), f"moved structure: {moved.name}"]
    prediction, steps = refined_prediction(atoms, predictor, options)
    if steps is None and (expected := prediction.expected_error) is not None:
        notes[0] += f", expected error of the density {100 * expected:.2g} %"
    if doubt := doubt_of(prediction, steps, predictor):
        notes.append(doubt)
    if steps is not None:
        notes.append(
            f"improved by {options.refine} Kohn-Sham step(s), {steps.seconds:.1f} s; "
            f"{density_error_text(steps.record())}"
        )
    return prediction.density, predictor.model.recipe, notes


class Report:
    """Inputs, settings and the folder for the results.

    Parameters
    ----------
    inputs : list of Input
        From `denser.workflows.inputs.find_inputs`.
    settings : ReportSettings
    folder : Path or None
        Without one, nothing is written.
    parquet : bool
        Write the table as Parquet too.

    Raises
    ------
    InputError
        There is nothing to analyse, the folder cannot be created, or it contains a report with
        other settings.
    """

    def __init__(
        self,
        inputs: list[Input],
        settings: ReportSettings,
        folder: Path | None,
        parquet: bool = False,
    ) -> None:
        if not inputs:
            raise InputError("nothing to analyse; name structures or densities, or give --smiles")
        if folder is None and settings.writes_files:
            raise InputError("fields, maps and pictures are files; give -o FOLDER")
        if parquet and folder is None:
            raise InputError("a Parquet table is a file; give -o FOLDER")
        if parquet:
            require_pyarrow()
        self.settings, self.folder, self.inputs = settings, folder, list(inputs)
        self.parquet = parquet
        self.content: dict[str, str | None] = {}
        self.present: set[str] = set()
        self.journal: Journal | None = None
        if folder is not None:
            self._open(folder)

    def run(
        self,
        workers: int,
        tell: Callable[[dict], None] = lambda record: None,
        parsl: Path | None = None,
    ) -> Totals:
        """Analyse all inputs that are not in the folder yet; call `tell` with each record.

        Records are appended one by one, so a run that was stopped in any way can continue. The
        other files are made from the records at the end. One worker runs in this process with
        all threads; several workers are processes with one thread each, and `parsl` is that of
        `denser.workflows.many.run`. An input that fails has an `error` in its record, and the
        others are analysed.
        """
        todo = [entry for entry in self.inputs if entry.name not in self.present]
        own = () if self.folder is None else self._own_files(self.folder)
        work = partial(
            analyse, settings=self.settings, folder=self.folder, protected=frozenset(own)
        )

        def take(entry: Input, result: dict | Failed) -> None:
            record = record_of(entry, result)
            record |= {"stem": entry.stem, "content": self.content.get(entry.name)}
            if self.journal is not None:
                self.journal.add(record)
            tell(record)

        with self.journal or nullcontext():
            totals = many.run(todo, work, take, workers, parsl)
        totals.present = len(self.present)
        if self.folder is not None and self.journal is not None:
            summary.write_all(self.folder, self.journal, self.parquet)
        return totals

    def _open(self, folder: Path) -> None:
        """Create the folder, or find results of an earlier run with the same settings.

        The results of an input are used again if the input, the files that the settings name,
        the model and the version are the same. Inputs keep their file stems.
        """
        self._hash()
        path = folder / FRAMES
        head = {"denser": __version__, "settings": self.settings.plain()}
        head = json.loads(json.dumps(head))
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"{folder} is a file, but a report needs a folder; choose another name"
            )
        self.journal = journal = Journal(path, "input")
        others = journal.head != head
        if others and any("error" not in record for record in journal.entries()):
            raise InputError(
                f"{folder} holds a report with other settings, or of another version; repeat "
                "its command, or choose another folder"
            )
        if others:  # a new folder, or one where nothing was analysed
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder}: cannot be made ({error.strerror})") from error
            journal.begin(head)
            return
        last = {
            record["input"]: (
                record["stem"],
                record.get("content"),
                "error" not in record and not record["errors"],
            )
            for record in journal.entries()
        }
        names = Names(stem for stem, _, _ in last.values())
        for i, entry in enumerate(self.inputs):
            if entry.name not in last:
                self.inputs[i] = replace(entry, stem=names.give(entry.stem))
                continue
            stem, made_from, good = last[entry.name]
            self.inputs[i] = replace(entry, stem=stem)
            if good and made_from is not None and made_from == self.content[entry.name]:
                self.present.add(entry.name)

    def _hash(self) -> None:
        """Find the content hash of each input."""
        options = self.settings.options
        settings = self.settings.plain()
        for key, path in self.settings.files.items():
            settings[key] = file_hash(Path(path))
        predicts = any(entry.predicts() for entry in self.inputs)
        model = Predictor.of(options).model.identity() if predicts else None
        for entry in self.inputs:
            self.content[entry.name] = content(entry.source, options, settings, model)

    def _own_files(self, folder: Path) -> Iterator[Path]:
        """Files in the folder that belong to the user: inputs, and those that settings name."""
        named = [entry.path for entry in self.inputs if entry.path is not None]
        for path in {*named, *map(Path, self.settings.files.values())}:
            if path.resolve().parent == folder.resolve():
                yield path.resolve()
