"""Values of the frames of a trajectory, which are kept while they are computed."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from denser.io.table import write_table
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows import many
from denser.workflows.inputs import Input, content
from denser.workflows.progress import Bar, duration

if TYPE_CHECKING:
    from denser.workflows.spectrum import SpectrumSettings

_SAVE_EVERY = 60.0
"""Seconds between two writings of dipoles or polarizabilities."""


class Interrupted(Exception):
    """Ctrl-C, after what there is was written."""


@dataclass(frozen=True)
class Frames:
    """The frames of a trajectory, and how values of them are computed.

    Parameters
    ----------
    frames : sequence of Input
    first : Structure
        The first frame.
    settings : SpectrumSettings
    identity : str
        Of the model.
    """

    frames: Sequence[Input]
    first: Structure
    settings: SpectrumSettings
    identity: str

    def values(
        self,
        file: Path,
        names: list[str],
        of: Callable,
        what: str,
        more: Mapping[str, str],
        every: int = 1,
        announce: bool = False,
    ) -> np.ndarray:
        """Values of every n-th frame (n, n_names), those of the file first, which are kept."""
        settings, frames = self.settings, self.frames
        depends = {"box": settings.options.box, **more}
        made_from = [content(f.source, settings.options, depends, self.identity) for f in frames]
        known = _read(file, names)
        rows = {i: known[key] for i, key in enumerate(made_from) if key in known}
        places = {frame.name: i for i, frame in enumerate(frames)}
        wanted = range(0, len(frames), every)
        todo = [frames[i] for i in wanted if i not in rows]
        done = len(wanted) - len(todo)
        last = time.monotonic()

        def save() -> None:
            order = sorted(rows)
            values = np.array([rows[i] for i in order]).reshape(-1, len(names))
            columns: Mapping[str, Sequence[Any]] = {
                "time_fs": [round(i * settings.timestep, 6) for i in order],
                **{name: values[:, k].tolist() for k, name in enumerate(names)},
                "content": [made_from[i] for i in order],
            }
            write_table(file, columns)

        def take(frame: Input, result: list[float] | many.Failed) -> None:
            nonlocal last, done
            if isinstance(result, many.Failed):
                raise InputError(f"{frame.name}: {result.error.removeprefix(f'{frame.name}: ')}")
            rows[places[frame.name]] = np.array(result)
            done += 1
            bar.advance()
            if time.monotonic() - last > _SAVE_EVERY:
                save()
                last = time.monotonic()

        options = settings.options
        work = partial(of, options=options, numbers=self.first.numbers.tolist())
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        try:
            with Bar(what, len(wanted), console, done) as bar:
                totals = many.Totals()
                if announce and len(todo) > 1:
                    begin = time.perf_counter()
                    totals = many.run(todo[:1], work, take)
                    seconds = time.perf_counter() - begin
                    todo = todo[1:]
                    if not totals.interrupted:
                        _say_cost(console, what, len(todo), seconds, settings.workers, every)
                if not totals.interrupted:
                    totals = many.run(todo, work, take, settings.workers, settings.parsl)
        finally:
            save()
        if totals.interrupted:
            raise Interrupted(f"stopped after {done} of {len(wanted)} {what}")
        return np.array([rows[i] for i in wanted])


def _say_cost(
    console: Console, what: str, n: int, seconds: float, workers: int, every: int
) -> None:
    of = "every frame" if every == 1 else f"one frame in {every}"
    console.print(
        f"denser: {n} more {what} ({of}) of {seconds:.1f} s each: {duration(n * seconds / workers)}"
    )


def _read(file: Path, names: Sequence[str]) -> dict[str | None, np.ndarray]:
    """Values of an earlier run by what they were made from; none of a damaged file."""
    try:
        with file.open(newline="") as lines:
            return {
                row["content"]: np.array([float(row[name]) for name in names])
                for row in csv.DictReader(lines)
                if row["content"]
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return {}
