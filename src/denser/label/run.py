"""The run: what is left to do, who does it, and one writer."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path

from denser.data.labels import Label
from denser.data.store import Facts, LabelStore
from denser.errors import InputError
from denser.label.calculation import Settings, Task
from denser.label.lanes import Lane, make_lanes, one_thread_each, processors
from denser.structure import Structure


@dataclass(frozen=True)
class Progress:
    """Where a run stands; the rate counts what this run has finished."""

    done: int
    failed: int
    total: int
    per_hour: float
    seconds_left: float


@dataclass
class Totals:
    """What became of all structures."""

    labelled: int = 0
    failed: int = 0
    present: int = 0
    failed_before: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def label(
    structures: list[tuple[str, Structure]],
    path: Path,
    settings: Settings = Settings(),
    workers: int | None = None,
    parsl: Path | None = None,
    nice: int = 0,
    retry_failed: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Totals:
    """Label all structures that the store does not hold yet.

    A structure is known by its name and its content (`denser.data.store.content_hash`); the same
    name with another content is refused. Each label is written as soon as it is there, so a run
    that was stopped, in whatever way, goes on where it was when it is started again.

    Parameters
    ----------
    structures : list of (name, Structure)
    path : Path
        Store; made if it is not there.
    settings : Settings
    workers : int, optional
        Processes of one thread each; by default as many as there are processors to use.
    parsl : Path, optional
        Python file that defines a Parsl `config`; its workers are used instead.
    nice : int
        Added to the niceness of the worker processes.
    retry_failed : bool
        Try again what the store has recorded as failed.
    tell, progress : callable
        Are told of each failure, and after each structure.

    Returns
    -------
    Totals
        `interrupted` after Ctrl-C; what was done is kept.

    Raises
    ------
    InputError
        The store is of another level of theory or cannot be written.
    """
    with LabelStore(path, settings.recipe) as store:
        totals = Totals()
        tasks = _plan(structures, store, settings, retry_failed, totals, tell)
        if not tasks:
            return totals
        lanes = make_lanes(min(workers or processors(), len(tasks)), nice, parsl)
        begin = time.perf_counter()

        def record(task: Task, outcome: tuple[Label, Facts] | str) -> None:
            if isinstance(outcome, str):
                store.add_failure(task.name, task.structure, task.box, task.content, outcome)
                totals.failed += 1
                tell(f"{task.name}: {outcome}")
            else:
                store.add(*outcome, content=task.content)
                totals.labelled += 1
            totals.seconds = time.perf_counter() - begin
            done = totals.labelled + totals.failed
            rate = done / totals.seconds
            left = (len(tasks) - done) / rate
            progress(Progress(done, totals.failed, len(tasks), 3600 * rate, left))

        totals.interrupted = not _run(tasks, lanes, record)
        totals.seconds = time.perf_counter() - begin
        return totals


def _plan(
    structures: list[tuple[str, Structure]],
    store: LabelStore,
    settings: Settings,
    retry_failed: bool,
    totals: Totals,
    tell: Callable[[str], None],
) -> list[Task]:
    """Tasks that are left to do; the others are counted."""
    index = store.index()
    planned: dict[str, str] = {}
    tasks = []
    for name, structure in structures:
        task = settings.task(name, structure)
        content, entry = task.content, index.get(name)
        known = planned.get(name, entry.content if entry and entry.converged else content)
        if known != content:
            totals.failed += 1
            tell(
                f"{name}: the name stands for another structure, charge or box already; rename "
                "its file, or use another store"
            )
        elif name in planned or (entry is not None and entry.converged):
            totals.present += 1
        elif entry is not None and entry.content == content and not retry_failed:
            totals.failed_before += 1
        else:
            planned[name] = content
            tasks.append(task)
    return tasks


def _run(
    tasks: list[Task],
    lanes: list[Lane],
    record: Callable[[Task, tuple[Label, Facts] | str], None],
) -> bool:
    """Do all tasks, few of them in flight at a time; False if Ctrl-C came between."""
    waiting, done, deaths = deque(tasks), deque(), Counter()
    others = set(active_children())
    finished = False

    def collect() -> None:
        for lane in lanes:
            for task, outcome in lane.collect():
                if outcome is not None:
                    done.append((task, outcome))
                elif deaths[task.name]:
                    done.append((task, "its worker process died twice (was memory short?)"))
                else:
                    deaths[task.name] += 1
                    waiting.appendleft(task)

    try:
        with one_thread_each():
            while waiting or any(lane.running for lane in lanes):
                for lane in lanes:
                    lane.fill(waiting)
                wait([f for lane in lanes for f in lane.running], return_when=FIRST_COMPLETED)
                collect()
                for lane in lanes:  # before the writing, so that no worker idles
                    lane.fill(waiting)
                while done:
                    record(*done[0])
                    done.popleft()
        finished = True
    except KeyboardInterrupt:
        collect()
        for task, outcome in done:
            with suppress(InputError):  # the write that was interrupted may have been complete
                record(task, outcome)
    finally:
        if not finished:
            for process in set(active_children()) - others:
                process.terminate()
        for lane in lanes:
            lane.stop()
    return finished
