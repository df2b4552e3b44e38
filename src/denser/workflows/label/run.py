"""A labelling run: the remaining tasks, the workers, and the one process that writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from denser.fields.periodic import times_text
from denser.labels.facts import Facts
from denser.labels.label import Label
from denser.labels.store import LabelStore, TakenError
from denser.workflows.label.calculation import LabelSettings, LabelTask, calculate
from denser.workflows.label.inputs import LabelInput
from denser.workflows.workers import make_pools, processors
from denser.workflows.workers import run as run_pools


@dataclass(frozen=True)
class LabelProgress:
    """Progress of a run; the rate refers to the structures that this run has finished.

    `name` and `seconds` are those of the last structure, 0 if it failed.
    """

    name: str
    seconds: float
    done: int
    failed: int
    total: int
    per_hour: float
    seconds_left: float


@dataclass
class LabelTotals:
    """Counts of the results of all structures."""

    labelled: int = 0
    failed: int = 0
    present: int = 0
    failed_before: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def label(
    structures: list[LabelInput],
    path: Path,
    settings: LabelSettings = LabelSettings(),
    workers: int | None = None,
    parsl: Path | None = None,
    nice: int = 0,
    retry_failed: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    progress: Callable[[LabelProgress], None] = lambda progress: None,
) -> LabelTotals:
    """Label all structures that are not in the store yet.

    A structure is identified by its name and its content (`denser.labels.store.content_hash`). The
    same name with another content is refused. Each label is written as soon as it is finished, so a
    run that was stopped in any way can be started again and continues. Several runs may write into
    one store; what is there is left alone.

    Parameters
    ----------
    structures : list of LabelInput
    path : Path
        Store; it is created if it does not exist.
    settings : LabelSettings
    workers : int, optional
        Processes of one thread each; by default as many as there are processors to use.
    parsl : Path, optional
        Python file that defines a Parsl `config`; its workers are used instead.
    nice : int
        Added to the niceness of the worker processes.
    retry_failed : bool
        Try again what the store has recorded as failed.
    tell, progress : callable
        Called with a sentence about each failure, and with the progress after each structure.

    Returns
    -------
    LabelTotals
        `interrupted` is true after Ctrl-C; finished labels are kept.

    Raises
    ------
    InputError
        The store has another level of theory or cannot be written.
    """
    with LabelStore(path, settings.recipe) as store:
        totals = LabelTotals()
        tasks = _plan(structures, store, settings, retry_failed, totals, tell)
        if not tasks:
            return totals
        pools = make_pools(calculate, min(workers or processors(), len(tasks)), nice, parsl)
        begin = time.perf_counter()

        present = totals.present

        def record(task: LabelTask, outcome: tuple[Label, Facts] | str) -> None:
            try:
                stored = _store(store, task, outcome)
            except TakenError as error:  # by another run, since this one began
                outcome, stored = str(error).removeprefix(f"{task.name}: "), True
            if not stored:
                totals.present += 1
            elif isinstance(outcome, str):
                totals.failed += 1
                tell(f"{task.name}: {outcome}")
            else:
                totals.labelled += 1
            totals.seconds = time.perf_counter() - begin
            done = totals.labelled + totals.failed + totals.present - present
            rate = done / totals.seconds
            left = (len(tasks) - done) / rate
            seconds = 0.0 if isinstance(outcome, str) else outcome[1].seconds or 0.0
            progress(
                LabelProgress(
                    task.name, seconds, done, totals.failed, len(tasks), 3600 * rate, left
                )
            )

        totals.interrupted = not run_pools(tasks, pools, record)
        totals.seconds = time.perf_counter() - begin
        return totals


def _store(store: LabelStore, task: LabelTask, outcome: tuple[Label, Facts] | str) -> bool:
    """Store a label or a failure; False if another run has stored the label already."""
    if isinstance(outcome, str):
        return store.add_failure(task.name, task.structure, task.box, task.content, outcome)
    return store.add(*outcome, content=task.content)


def _plan(
    structures: list[LabelInput],
    store: LabelStore,
    settings: LabelSettings,
    retry_failed: bool,
    totals: LabelTotals,
    tell: Callable[[str], None],
) -> list[LabelTask]:
    """Remaining tasks; the others are counted."""
    index = store.index()
    planned: dict[str, str] = {}
    tasks = []
    for given in structures:
        name = given.name
        own = settings
        if given.box:
            own = replace(settings, options=replace(settings.options, box=given.box))
        task = own.task(name, given.structure, given.group)
        content, entry = task.content, index.get(name)
        known = planned.get(name, entry.content if entry and entry.converged else content)
        if known != content:
            totals.failed += 1
            tell(
                f"{name}: the store has this name with another structure, charge or box; rename "
                "its file, label both files in one command, or use another store"
            )
        elif name in planned or (entry is not None and entry.converged):
            totals.present += 1
        elif entry is not None and entry.content == content and not retry_failed:
            totals.failed_before += 1
        else:
            planned[name] = content
            tasks.append(task)
            if max(task.times) > 1:
                tell(
                    f"{name}: the cell is {times_text(task.times)}, since labels are made at Gamma"
                )
    return tasks
