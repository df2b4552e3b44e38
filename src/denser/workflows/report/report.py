"""Properties of many densities to a folder: what `denser analyze` does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from denser.analysis.properties import Analysis
from denser.io import is_density_file, read
from denser.io.files import DENSITY_UNIT, naming, replacing
from denser.io.structures import jobs
from denser.model.predictor import Predictor, respace
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.units import BOHR
from denser.workflows.report import tables as summary
from denser.workflows.report.outputs import Settings, fitted, products
from denser.workflows.workers import make_pools, run

FRAMES = "frames.jsonl"
"""What is done so far: the settings, then a record a line."""

Input = tuple[str, str, Atoms | Path | str]


@dataclass(frozen=True, eq=False)
class Task:
    """One density to analyse: the atoms or the file it comes from, or why there are none."""

    name: str
    stem: str
    source: Atoms | Path | str
    settings: Settings
    folder: Path | None


@dataclass
class Totals:
    """What became of all inputs."""

    done: int = 0
    failed: int = 0
    present: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def analyse(task: Task) -> dict:
    """Properties of one input as a record; fields and pictures are written to the folder.

    A property that cannot be had stands in `errors`, an input that cannot be used, or whatever
    else goes wrong with it, in `error`; none of them raises.
    """
    record: dict[str, Any] = {"input": task.name, "stem": task.stem}
    try:
        return record | _analyse(task)
    except InputError as error:
        message = str(error)
        return record | {"error": message.removeprefix(f"{task.name}: ")}
    except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as bug:
        # one input among thousands must not end the others
        what = " ".join(f"{type(bug).__name__}: {bug}".split())[:300]
        return record | {"error": f"failed ({what}); this is a bug, please report it"}


def _analyse(task: Task) -> dict:
    settings = task.settings
    begin = time.perf_counter()
    density, recipe, notes = _density(task)
    seconds = {"density": round(time.perf_counter() - begin, 4)}
    analysis = Analysis(density, recipe, settings.steps, settings.isovalue)
    properties: dict[str, dict] = {}
    lines: dict[str, list[str]] = {}
    errors: dict[str, str] = {}
    written: list[str] = []
    work = [(name, partial(analysis.property, name)) for name in settings.properties]
    for name, make in [*work, *products(analysis, settings, task.folder, task.stem, written)]:
        start = time.perf_counter()
        try:
            result = make()
        except InputError as error:
            if name in settings.optional:
                notes.append(f"{name} left out: {error}")
            else:
                errors[name] = str(error)
        else:
            if result is not None:
                properties[name], lines[name] = result.to_dict(), result.lines()
        seconds[name] = round(time.perf_counter() - start, 4)
    structure = density.structure
    return {
        "formula": structure.formula,
        "charge": structure.charge,
        "n_atoms": len(structure),
        "symbols": structure.to_ase().get_chemical_symbols(),
        "density": "all-electron" if density.all_electron else "valence",
        "n_electrons": round(density.integrate(), 6),
        "spacing_angstrom": [round(float(h) * BOHR, 6) for h in density.grid.spacing],
        "notes": notes,
        "properties": properties,
        "lines": lines,
        "errors": errors,
        "written": written,
        "seconds": seconds,
    }


def _density(task: Task) -> tuple[Density, Recipe, list[str]]:
    """The density of an input, the level of theory to go on with, and notes about both."""
    settings, source = task.settings, task.source
    if isinstance(source, str):
        raise InputError(source)
    if isinstance(source, Path):
        density, note = read_density(source, settings.kind, settings.charge)
        return density, Recipe(), [note]
    predictor = Predictor(settings.model, settings.device)
    notes = [f"predicted by {predictor.model.name}"]
    if settings.fit:
        source, fit = fitted(source, settings, task.folder, task.stem)
        notes += [*fit.lines(), f"moved structure: {task.stem}_fitted.xyz"]
    spacing = None if settings.refine else settings.spacing
    prediction = predictor.predict(source, settings.charge, settings.box, settings.padding, spacing)
    density, recipe = prediction.density, predictor.model.recipe
    if doubt := predictor.doubt(prediction):
        notes.append(doubt)
    if settings.refine:
        from denser.dft.refine import refine

        refined = refine(density, recipe, settings.refine)
        density = refined.density
        notes.append(f"improved by {settings.refine} Kohn-Sham step(s), {refined.seconds:.1f} s")
        if settings.spacing is not None:
            density = respace(density, settings.spacing / BOHR)
    return density, recipe, notes


def read_density(path: Path, kind: str = "auto", charge: int | None = None) -> tuple[Density, str]:
    """Density in a file, told whether it is of the valence or of all electrons, and a note on it.

    Parameters
    ----------
    path : Path
    kind : str
        "valence", "all-electron", or "auto": what the number of electrons says.
    charge : int, optional
        Total charge; by default the file's, or what the number of electrons says.

    Raises
    ------
    InputError
        No density with atoms, or a number of electrons that fits neither.
    """
    field = read(path)
    if not isinstance(field, Density):
        raise InputError(f"{path}: holds no atoms; properties need them, so give a .cube")
    if field.unit != DENSITY_UNIT:
        raise InputError(f"{path}: expected a density in {DENSITY_UNIT}, found {field.unit}")
    with naming(path):
        return _of_kind(field, kind, charge)


def _of_kind(density: Density, kind: str, charge: int | None) -> tuple[Density, str]:
    from denser.atoms.free_atoms import all_electron_or_valence, pseudo_charges

    structure, grid = density.structure, density.grid
    told = not np.array_equal(density.valence_charges, structure.numbers)
    valence = density.valence_charges if told else None  # else the file has Z, or nothing
    candidates = [structure.charge] if charge is None else [charge]
    if charge is None and not told and structure.charge:
        candidates.insert(0, 0)  # a count of electrons that was less than Z made it an ion
    found = density.integrate()
    if kind == "auto":
        for i, q in enumerate(candidates):
            structure = replace(structure, charge=q)
            try:
                kind, note = all_electron_or_valence(structure, found, valence, grid)
                break
            except InputError:
                if i + 1 == len(candidates):
                    raise
    else:
        structure = replace(structure, charge=candidates[0])
        note = f"the density holds {found:.2f} electrons, {kind} as told"
    numbers = structure.numbers
    if kind == "all-electron":
        charges = numbers.astype(float)
    elif valence is None:
        charges = pseudo_charges(structure)
    else:
        charges = valence
    return (
        replace(
            density,
            structure=structure,
            valence_charges=charges,
            all_electron=kind == "all-electron",
        ),
        note,
    )


class Report:
    """Inputs, settings and the folder that the results go to.

    Parameters
    ----------
    inputs : list of (name, stem, source)
        Of `find_inputs`.
    settings : Settings
    folder : Path or None
        Without one, nothing is written.

    Raises
    ------
    InputError
        Nothing to analyse, a folder that cannot be made, or one that holds a report with other
        settings.
    """

    def __init__(self, inputs: list[Input], settings: Settings, folder: Path | None) -> None:
        if not inputs:
            raise InputError("nothing to analyse; name structures or densities, or give --smiles")
        if folder is None and settings.writes_files:
            raise InputError("fields, maps and pictures are files; give -o FOLDER")
        self.settings, self.folder, self.inputs = settings, folder, inputs
        self.present = self._open() if folder is not None else set()

    def run(self, workers: int, tell: Callable[[dict], None] = lambda record: None) -> Totals:
        """Analyse all inputs that the folder does not hold yet; `tell` hears of each record.

        Records are appended one by one, so that a run that was stopped, in whatever way, goes on
        where it was; the other files are made from them at the end. One worker works in this
        process with all threads, several in processes of one thread each.
        """
        totals, begin = Totals(), time.perf_counter()
        tasks = []
        for name, stem, source in self.inputs:
            if name in self.present:
                totals.present += 1
            else:
                tasks.append(Task(name, stem, source, self.settings, self.folder))

        def record(task: Task, outcome: dict | str) -> None:
            if isinstance(outcome, str):
                outcome = {"input": task.name, "stem": task.stem, "error": outcome}
            bad = "error" in outcome or bool(outcome.get("errors"))
            totals.failed += bad
            totals.done += not bad
            if self.folder is not None:
                with open(self.folder / FRAMES, "a") as file:
                    file.write(json.dumps(outcome) + "\n")
            tell(outcome)

        if workers == 1 or len(tasks) < 2:
            try:
                for task in tasks:
                    record(task, analyse(task))
            except KeyboardInterrupt:
                totals.interrupted = True
        else:
            pools = make_pools(analyse, min(workers, len(tasks)))
            totals.interrupted = not run(tasks, pools, record)
        totals.seconds = time.perf_counter() - begin
        if self.folder is not None:
            summary.write_all(self.folder, self.folder / FRAMES)
        return totals

    def _open(self) -> set[str]:
        """Make the folder, or find what an earlier run with the same settings left there."""
        path = self.folder / FRAMES
        head = {
            "denser": version("denser"),
            "settings": json.loads(json.dumps(asdict(self.settings))),
        }
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file, but a report is a folder; name another")
        if not path.exists():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{self.folder}: cannot be made ({error.strerror})") from error
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(head) + "\n")
            return set()
        records = summary.records(path)
        if next(records, None) != head:
            raise InputError(
                f"{self.folder} holds a report with other settings, or of another version; repeat "
                "its command, or choose another folder"
            )
        return {r["input"] for r in records if "error" not in r and not r["errors"]}


def find_inputs(files: list[Path], smiles: list[str]) -> list[Input]:
    """Name, stem of the files written, and source of each input: atoms, a file, or an error.

    Structures, which are predicted, and densities.
    """
    out = []
    taken: set[str] = set()
    structures = []
    for path in files:
        if is_density_file(path):
            stem = path.name if path.name.startswith("CHGCAR") else path.stem
            while stem in taken:
                stem += "_2"
            taken.add(stem)
            out.append((str(path), stem, path))
        else:
            structures.append(path)
    for job in jobs(structures, smiles):
        stem = job.stem
        while stem in taken:
            stem += "_2"
        out.append((job.name, stem, job.error if job.atoms is None else job.atoms))
    return out
