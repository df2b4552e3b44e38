"""Work on many inputs: errors, Ctrl-C, progress and JSON lines, in the same way for all commands.

`run` does the work on each input, and `Display` shows the results. An input that fails is
reported in one sentence, and the others are processed. `denser.workflows.inputs` gives the inputs
their names.
"""

from __future__ import annotations

import gc
import json
import logging
import re
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

from denser.types.errors import DiskFull, InputError
from denser.workflows import workers as pools
from denser.workflows.progress import Bar, Notable, is_quiet, seconds_of
from denser.workflows.workers import HasName

Result = TypeVar("Result")

_LOG = logging.getLogger("denser")

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")


@dataclass(frozen=True)
class Failed:
    """The reason why there is no result, and whether it is bad input (an InputError).

    On a full disk the other inputs would fail too, and so it ends a run.
    """

    error: str
    bad_input: bool = True
    disk_full: bool = False


@dataclass
class Totals:
    """Counts of the results of all inputs.

    Parameters
    ----------
    done, failed, present : int
        Numbers of inputs: done now; failed, completely or in part; done by an earlier run.
    seconds : float
    interrupted : bool
        Whether Ctrl-C stopped the run.
    """

    done: int = 0
    failed: int = 0
    present: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 if all succeeded, 2 if any input failed, 130 after Ctrl-C."""
        return 130 if self.interrupted else 2 if self.failed else 0


def attempt(work: Callable[..., Result], *arguments: Any) -> Result | Failed:
    """Call `work`; turn any error into a `Failed` with one sentence, and free memory.

    Only Ctrl-C and a request to exit are raised.
    """
    try:
        return work(*arguments)
    except Exception as error:
        _LOG.debug("where it failed:", exc_info=True)
        failed = Failed(sentence(error), isinstance(error, InputError), isinstance(error, DiskFull))
    # Only here: as long as the exception exists, its frames keep their arrays alive.
    _free_memory()
    return failed


def sentence(error: Exception) -> str:
    """One sentence that says what went wrong and, if possible, what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(part in text.lower() for part in _OUT_OF_MEMORY)
    ):
        wanted = re.search(r"allocate (\d[\d.]*(?: ?[kMGT]i?B)?(?: bytes)?)", text)
        detail = f" ({wanted[1]} more were asked for)" if wanted else ""
        return f"memory ran out{detail}; use a smaller box, a coarser spacing or fewer workers"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}cannot be read or written ({error.strerror})"
    what = f"{type(error).__name__}: {text}".removesuffix(": ")[:300]
    return f"failed ({what}{_place(error)}); this is a bug, please report it"


def _place(error: Exception) -> str:
    """The last line of this package in the traceback of the error."""
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
    parsl: Path | None = None,
) -> Totals:
    """Call `work` on each task, and `take` with each task and its result.

    Parameters
    ----------
    tasks : sequence
        Objects with unique names.
    work : callable
        Called with a task. With several workers or Parsl, both are sent to other processes
        (pickle).
    take : callable
        Called in this process with the task and the result or `Failed`, in the order in which
        they finish. An exception in it ends the run.
    workers : int
        1: work in this process with all threads. More: processes with one thread each.
    parsl : Path, optional
        Python file that defines a Parsl `config`; its workers are used instead.

    Returns
    -------
    Totals
        A result that contains "errors" counts as failed. `interrupted` is true after Ctrl-C.

    Raises
    ------
    DiskFull
        A result cannot be written since the disk is full.
    """
    totals, begin = Totals(), time.perf_counter()

    def record(task: Any, result: Any) -> None:
        if isinstance(result, str):  # of a worker that died
            result = Failed(result, False)
        if isinstance(result, Failed) and result.disk_full:
            raise DiskFull(result.error)
        take(task, result)
        bad = isinstance(result, Failed) or (isinstance(result, dict) and result.get("errors"))
        totals.failed += bool(bad)
        totals.done += not bad

    if parsl is None and (workers == 1 or len(tasks) < 2):
        try:
            for task in tasks:
                record(task, attempt(work, task))
        except KeyboardInterrupt:
            totals.interrupted = True
    else:
        made = pools.make_pools(partial(attempt, work), min(workers, len(tasks)), parsl=parsl)
        totals.interrupted = not pools.run(list(tasks), made, record)
    totals.seconds = time.perf_counter() - begin
    return totals


def record_of(task: HasName, result: dict | Failed) -> dict:
    """Content of the JSON line of an input: the result, or the error without the input's name."""
    if isinstance(result, Failed):
        error = result.error.removeprefix(f"{task.name}: ")
        return {"input": task.name} | _stated(task) | {"error": error}
    stated = _stated(task)
    notes = list(dict.fromkeys((*stated.get("notes", ()), *result.get("notes", ()))))
    return {"input": task.name} | stated | result | ({"notes": notes} if notes else {})


def _stated(task: HasName) -> dict:
    """Title of an input and notes about it, if it has any."""
    found = {key: getattr(task, key, None) for key in ("title", "notes")}
    return {key: value for key, value in found.items() if value}


def headline(record: dict) -> str:
    """Name, title, formula, charge and spin of an input, at the beginning of its line of text."""
    title = f" ({record['title']})" if "title" in record else ""
    charge = f" {record['charge']:+d}" if record["charge"] else ""
    n = record.get("spin", 0)
    spin = f" ({n} unpaired electron{'' if n == 1 else 's'})" if n else ""
    return f"{record['input']}{title}: {record['formula']}{charge}{spin}"


def print_json(record: dict) -> None:
    """Write one JSON line to standard output."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


class Display:
    """Output of a run: text, or JSON lines for other programs.

    Parameters
    ----------
    doing, did : str
        Such as "predicting" and "predicted".
    total : int
        Number of all inputs.
    summary : callable
        Returns the text of a record for standard output; an empty text is not printed.
    as_json : bool
        Print a JSON line for each input to standard output, and everything else to standard
        error.
    notes : callable
        Returns the sentences of a record for standard error.
    present : int
        Number of inputs that an earlier run has done.
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
        self.lines = Console(stderr=as_json, soft_wrap=True, highlight=False, quiet=is_quiet())
        self.bar = Bar(doing, total, self.errors, present)
        self.notable = Notable()

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
        failed = "error" in record or bool(record.get("errors"))
        self.notable.add(name, seconds_of(record), failed)
        self.bar.advance(failed)

    def tell(self, name: str, text: str) -> None:
        """Print a sentence about an input on standard error."""
        named = text if text.startswith(name) else f"{name}: {text}"
        self.errors.print(f"denser: {named}", markup=False)

    def end(self, totals: Totals, where: str = "", again: str = "") -> int:
        """Print the totals, or after Ctrl-C the number of finished inputs; return the exit code.

        Parameters
        ----------
        totals : Totals
        where : str
            Such as "in FOLDER".
        again : str
            How to continue after Ctrl-C.
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
        for line in self.notable.lines():
            self.lines.print(line, markup=False)
        return totals.exit_code
