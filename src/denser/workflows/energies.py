"""Energies of many structures: the work of `denser energy`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from denser.io.files import make_folder
from denser.io.rows import write_rows
from denser.io.table import require_table
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.workflows import many
from denser.workflows.energy import StartDensities, energy_record, energy_summary, orbital_index
from denser.workflows.inputs import Input, content, refuse_inputs
from denser.workflows.journal import Journal, beside
from denser.workflows.many import Failed
from denser.workflows.other_basis import Wanted, energy_in_basis, summary_in_basis
from denser.workflows.prediction_record import notes


@dataclass(frozen=True)
class EnergySettings:
    """What `denser energy` computes of each structure.

    Parameters
    ----------
    options : PredictionOptions
    steps : int
        Number of Kohn-Sham steps.
    other : Wanted
        What is computed in another basis.
    orbitals : tuple of str
        As of `denser.workflows.energy.orbital_index`.
    folder : Path
        For the orbitals.
    molden : Path, optional
    repeat : bool
        As of `denser.workflows.energy.StartDensities`.

    Raises
    ------
    InputError
        Wrong names or numbers.
    """

    options: PredictionOptions
    steps: int = 2
    other: Wanted = field(default_factory=Wanted)
    orbitals: tuple[str, ...] = ()
    folder: Path = Path(".")
    molden: Path | None = None
    repeat: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(
                f"an energy needs at least one Kohn-Sham step, found --steps {self.steps}"
            )
        for name in self.orbitals:  # before any work; 500 stands for "enough"
            orbital_index(name, 500, 1000)

    def plain(self) -> dict[str, Any]:
        """Return the settings that determine the results, as plain values."""
        own = {"steps": self.steps, "other": asdict(self.other), "orbitals": self.orbitals}
        own |= {"repeat": self.repeat}
        files = {"folder": str(self.folder), "molden": str(self.molden)}
        return self.options.plain() | own | files


class Energies:
    """Structures, and the table with their energies.

    Parameters
    ----------
    inputs : list of Input
    settings : EnergySettings
    table : Path or None
        `.csv` or `.parquet`, with a row for each input.
    resume : bool
        Take what an earlier run computed from the journal beside the table, if it was computed from
        the same structure with the same settings, model and version of denser.
    files : sequence of Path
        They are not overwritten.

    Raises
    ------
    InputError
        There is nothing to do, or an output that cannot be written.
    """

    def __init__(
        self,
        inputs: list[Input],
        settings: EnergySettings,
        table: Path | None = None,
        resume: bool = False,
        files: Sequence[Path] = (),
    ) -> None:
        if settings.molden is not None and len(inputs) != 1:
            raise InputError(f"--molden names one file, but there are {len(inputs)} structures")
        if resume and table is None:
            raise InputError("--resume goes on with a table; give --table energies.csv")
        if table is not None:
            require_table(table)
            refuse_inputs(table, files)
        if settings.orbitals:
            make_folder(settings.folder)
        self.inputs, self.settings, self.files = inputs, settings, frozenset(files)
        self.table, self.resume = table, resume

    def run(self, as_json: bool, workers: int = 1, parsl: Path | None = None) -> int:
        """Compute all; print a line (or a JSON object) for each, totals, and write the table.

        `workers` and `parsl` are those of `denser.workflows.many.run`. Returns 0 if all succeeded,
        2 if any failed, 130 after Ctrl-C.
        """
        journal, made_from = self._journal()

        def known(entry: Input) -> dict | None:
            return None if journal is None else journal.find(made_from[entry.name])

        todo = [entry for entry in self.inputs if not _is_there(known(entry))]
        failed: dict[str, dict] = {}

        def take(entry: Input, result: dict | Failed) -> None:
            record = many.record_of(entry, result)
            if "error" in record:
                failed[entry.name] = record
            elif journal is not None:
                journal.add({"made_from": made_from[entry.name], "record": record})
            display.show(record)

        def records() -> Iterator[dict]:
            for entry in self.inputs:
                if entry.name in failed:
                    yield failed[entry.name]
                elif found := known(entry):
                    yield found["record"] | {"input": entry.name}

        n, present = len(self.inputs), len(self.inputs) - len(todo)
        work = partial(_work, settings=self.settings, protected=self.files)
        with (
            many.Display("computing", "computed", n, _summary, as_json, notes, present) as display,
            journal or nullcontext(),
        ):
            totals = many.run(todo, work, take, workers, parsl)
        totals.present = present
        if self.table is not None:
            write_rows(self.table, records)
        again = "add --resume to continue" if self.table is not None else (
            "the command cannot continue without --table; run it again with the remaining inputs"
        )  # fmt: skip
        return display.end(totals, f"in {self.table}" if self.table else "", again)

    def _journal(self) -> tuple[Journal | None, dict[str, str | None]]:
        """The journal beside the table, and what determines the result of each input."""
        if self.table is None:
            return None, {}
        options, plain = self.settings.options, self.settings.plain()
        model = Predictor.of(options).model.identity()
        made_from = {x.name: content(x.source, options, plain, model) for x in self.inputs}
        return Journal(beside(self.table), "made_from", self.resume), made_from


def _is_there(line: dict | None) -> bool:
    """Whether a line of the journal has a result whose files are there."""
    return line is not None and all(Path(file).exists() for file in line["record"]["written"])


def _work(entry: Input, settings: EnergySettings, protected: frozenset[Path]) -> dict:
    stem = settings.folder / entry.stem
    targets = [stem.with_name(f"{stem.name}_{name}.cube") for name in settings.orbitals]
    for target in [*targets, settings.molden] if settings.molden else targets:
        refuse_inputs(target, protected)
    starts = StartDensities(settings.options, repeat=settings.repeat)
    start = starts.of(entry)
    chosen = settings.other.in_open_space(start, starts.recipe)
    if chosen.anything:
        named = dict(zip(targets, settings.orbitals, strict=True))
        return energy_in_basis(
            start, chosen, starts, starts.recipe, orbitals=named, molden=settings.molden
        )
    return energy_record(
        start, starts.recipe, settings.steps, stem, settings.orbitals, settings.molden,
        dispersion=chosen.dispersion,
    )  # fmt: skip


def _summary(record: dict) -> str:
    return (summary_in_basis if "basis" in record else energy_summary)(record)
