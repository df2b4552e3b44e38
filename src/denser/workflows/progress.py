"""Progress of many inputs with rate and time left, and what is notable of them at the end."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_LOG = logging.getLogger("denser")

_EVERY = 60.0
"""Seconds between two lines of progress if there is no terminal."""

_NAMED = 3
"""Number of slowest inputs, and of failed ones, that a summary names."""


def is_quiet() -> bool:
    """Whether denser's logger is set to warnings and worse: no progress and no totals then."""
    return _LOG.level > logging.INFO


class Bar:
    """Progress with rate and time left: a bar on a terminal, otherwise one line per minute.

    Parameters
    ----------
    doing : str
        Such as "predicting".
    total : int
        Number of all inputs; there is no bar for a single input.
    console : Console
    present : int
        Number of inputs that an earlier run has done.
    """

    def __init__(self, doing: str, total: int, console: Console, present: int = 0) -> None:
        self.doing, self.total, self.present = doing, total, present
        self.done = self.failed = 0
        self.begin = self.last = time.monotonic()
        self.quiet = total < 2 or is_quiet()
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
        """Count one more input."""
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
    """Rate and time left, as text."""
    rate = done / max(seconds, 1e-9)
    per = f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute"
    return f"{per}, {duration(left / rate)} left" if rate else "starting"


def duration(seconds: float) -> str:
    """Seconds as text: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Notable:
    """The slowest inputs of a run, and the first of those that failed.

    Parameters
    ----------
    least : int
        With fewer inputs, whose lines can all be seen, there is nothing to say.
    """

    def __init__(self, least: int = 10) -> None:
        self.least, self.n = least, 0
        self.slowest: list[tuple[float, str]] = []
        self.failed: list[str] = []
        self.n_failed = 0

    def add(self, name: str, seconds: float, failed: bool) -> None:
        """Count an input."""
        self.n += 1
        self.n_failed += failed
        if failed and len(self.failed) < _NAMED:
            self.failed.append(name)
        self.slowest = sorted([*self.slowest, (seconds, name)], reverse=True)[:_NAMED]

    def lines(self) -> list[str]:
        """One line each for the slowest and the failed, if there were many inputs."""
        found = []
        if self.n >= self.least and self.slowest[0][0] > 0:
            listed = ", ".join(f"{name} ({duration(s)})" for s, name in self.slowest if s > 0)
            found.append(f"slowest: {listed}")
        if self.n >= self.least and self.failed:
            more = self.n_failed - len(self.failed)
            found.append(
                f"failed: {', '.join(self.failed)}" + (f" and {more} more" if more else "")
            )
        return found


def seconds_of(record: dict) -> float:
    """Seconds that a record says its input took, in all its parts."""
    seconds = record.get("seconds", 0.0)
    return float(sum(seconds.values()) if isinstance(seconds, dict) else seconds)
