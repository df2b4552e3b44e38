"""Many inputs: one policy for errors, Ctrl-C, progress and JSON lines, for every command.

`run` does the work on each input, `Display` shows what came of it. An input that fails is
reported in one sentence and the rest goes on. `denser.workflows.inputs` gives the inputs their
names.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from denser.types.errors import InputError
from denser.workflows import workers as pools
from denser.workflows.workers import HasName

Result = TypeVar("Result")

_EVERY = 60.0
"""Seconds between the lines that tell of progress where there is no terminal."""

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")


@dataclass(frozen=True)
class Failed:
    """Why there is no result, in one sentence, and whether the input is to blame (InputError)."""

    error: str
    bad_input: bool = True


@dataclass
class Totals:
    """What became of all inputs.

    Parameters
    ----------
    done, failed, present : int
        Done now; failed, wholly or in part; done by an earlier run.
    seconds : float
    interrupted : bool
        Whether Ctrl-C ended the run.
    """

    done: int = 0
    failed: int = 0
    present: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 if all went well, 2 if any input failed, 130 after Ctrl-C."""
        return 130 if self.interrupted else 2 if self.failed else 0


def attempt(work: Callable[..., Result], *arguments: Any) -> Result | Failed:
    """Call `work`; whatever goes wrong with it is told in one sentence, and memory is freed.

    Only Ctrl-C and a request to exit pass.
    """
    try:
        return work(*arguments)
    except Exception as error:
        failed = Failed(sentence(error), isinstance(error, InputError))
    # Not before here: until the exception is gone, its frames hold what they had in hand.
    _free_memory()
    return failed


def sentence(error: Exception) -> str:
    """One sentence that says what went wrong and, where one can, what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in text.lower() for part in _OUT_OF_MEMORY)
    ):
        detail = f" ({text[:200]})" if text else ""
        return f"memory ran out{detail}; use a smaller box, a coarser spacing or fewer workers"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}cannot be read or written ({error.strerror})"
    what = f"{type(error).__name__}: {text}".removesuffix(": ")[:300]
    return f"failed ({what}{_place(error)}); this is a bug, please report it"


def _place(error: Exception) -> str:
    """The last line of this package that the error passed."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if "denser" in path.parts and path.name != "many.py":
            return f", {path.name} line {frame.lineno}"
    return ""


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def run(
    tasks: Sequence[Any],
    work: Callable[[Any], Any],
    take: Callable[[Any, Any], None],
    workers: int = 1,
) -> Totals:
    """Do `work` on each task, and hand each task with its result to `take`.

    Parameters
    ----------
    tasks : sequence
        Things with a `name` that no other has.
    work : callable
        Called with a task. With several workers both go to other processes (pickle).
    take : callable
        Called in this process with the task and the result, or `Failed`, as they come. What it
        raises ends the run.
    workers : int
        1 works in this process with all threads; more are processes of one thread each.

    Returns
    -------
    Totals
        A result with "errors" in it counts as failed. After Ctrl-C `interrupted`.
    """
    totals, begin = Totals(), time.perf_counter()

    def record(task: Any, result: Any) -> None:
        if isinstance(result, str):  # of a worker that died
            result = Failed(result, False)
        take(task, result)
        bad = isinstance(result, Failed) or (isinstance(result, dict) and result.get("errors"))
        totals.failed += bool(bad)
        totals.done += not bad

    if workers == 1 or len(tasks) < 2:
        try:
            for task in tasks:
                record(task, attempt(work, task))
        except KeyboardInterrupt:
            totals.interrupted = True
    else:
        made = pools.make_pools(partial(attempt, work), min(workers, len(tasks)))
        totals.interrupted = not pools.run(list(tasks), made, record)
    totals.seconds = time.perf_counter() - begin
    return totals


def record_of(task: HasName, result: dict | Failed) -> dict:
    """What the JSON line of an input says: the result, or the error without the input's name."""
    if isinstance(result, Failed):
        return {"input": task.name, "error": result.error.removeprefix(f"{task.name}: ")}
    return {"input": task.name} | result


def print_json(record: dict) -> None:
    """Write one JSON line to standard output."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


class Bar:
    """Progress with rate and time left: a bar on a terminal, a line a minute elsewhere.

    Parameters
    ----------
    doing : str
        Such as "predicting".
    total : int
        Inputs in all; a bar for a single one is not shown.
    console : Console
    present : int
        Inputs that an earlier run has done.
    """

    def __init__(self, doing: str, total: int, console: Console, present: int = 0) -> None:
        self.doing, self.total, self.present = doing, total, present
        self.done = self.failed = 0
        self.begin = self.last = time.monotonic()
        self.quiet = total < 2
        self.console = console
        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), BarColumn())
        self.progress = Progress(
            *columns,
            console=console,
            disable=self.quiet or not console.is_terminal,
            transient=True,
        )
        self.task = self.progress.add_task(doing, total=total, completed=present)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def advance(self, failed: bool = False) -> None:
        """Count one more."""
        self.done += 1
        self.failed += failed
        count, now = self.present + self.done, time.monotonic()
        text = f"{self.doing}: {pace(self.done, self.total - count, now - self.begin)}"
        text += f", {self.failed} failed" if self.failed else ""
        self.progress.update(self.task, completed=count, total=self.total, description=text)
        if not self.quiet and not self.console.is_terminal and now - self.last > _EVERY:
            self.last = now
            self.console.print(f"{count} of {self.total}, {text}", markup=False)


def pace(done: int, left: int, seconds: float) -> str:
    """Rate and time left in words."""
    rate = done / max(seconds, 1e-9)
    per = f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
    return f"{per}, {duration(left / rate)} left" if rate else "starting"


def duration(seconds: float) -> str:
    """Seconds in words: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Display:
    """What a person sees of a run, or a program that reads JSON lines.

    Parameters
    ----------
    doing, did : str
        Such as "predicting" and "predicted".
    total : int
        Inputs in all.
    summary : callable
        Text for a person of a record, printed on standard output; nothing if it is empty.
    as_json : bool
        Print a JSON line for each input on standard output, and everything else on standard
        error.
    notes : callable
        Sentences of a record that go to standard error.
    present : int
        Inputs that an earlier run has done.
    """

    def __init__(
        self,
        doing: str,
        did: str,
        total: int,
        summary: Callable[[dict], str],
        as_json: bool,
        notes: Callable[[dict], Iterable[str]] = lambda record: (),
        present: int = 0,
    ) -> None:
        self.did, self.total, self.summary, self.notes = did, total, summary, notes
        self.as_json = as_json
        self.errors = Console(stderr=True, soft_wrap=True, highlight=False)
        self.lines = Console(stderr=as_json, soft_wrap=True, highlight=False)
        self.bar = Bar(doing, total, self.errors, present)

    def __enter__(self) -> Self:
        self.bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.bar.__exit__(kind, error, where)

    def take(self, task: HasName, result: dict | Failed) -> None:
        """Show one result; for `run`."""
        self.show(record_of(task, result))

    def show(self, record: dict) -> None:
        """Show one record."""
        name = record["input"]
        if self.as_json:
            print_json(record)
        if "error" in record:
            self.tell(name, record["error"])
        else:
            if not self.as_json and (text := self.summary(record)):
                self.lines.print(text, markup=False)
            for note in self.notes(record):
                self.tell(name, note)
        self.bar.advance(failed="error" in record or bool(record.get("errors")))

    def tell(self, name: str, text: str) -> None:
        """Print a sentence about an input on standard error."""
        named = text if text.startswith(name) else f"{name}: {text}"
        self.errors.print(f"denser: {named}", markup=False)

    def end(self, totals: Totals, where: str = "", again: str = "") -> int:
        """Print the totals, or after Ctrl-C what was done; returns the exit code.

        Parameters
        ----------
        totals : Totals
        where : str
            Such as "in FOLDER".
        again : str
            How to go on after Ctrl-C.
        """
        done = totals.done + totals.failed
        if totals.interrupted:
            more = f"; {again}" if again else ""
            self.errors.print(f"stopped after {done} of {self.total}{more}", markup=False)
        elif self.total > 1:
            rate = f" ({done / totals.seconds:.2f} a second)" if done and totals.seconds else ""
            text = f"{totals.done} of {self.total} {self.did} in {totals.seconds:.1f} s{rate}"
            text += f", {where}" if where else ""
            text += f", {totals.present} done before" if totals.present else ""
            text += f", {totals.failed} failed" if totals.failed else ""
            self.lines.print(text, markup=False)
        return totals.exit_code
