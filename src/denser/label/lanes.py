"""Workers: processes of this machine, or those of a cluster through Parsl."""

from __future__ import annotations

import os
import runpy
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from denser.data.labels import Label
from denser.data.store import Facts
from denser.errors import InputError
from denser.label.calculation import THREADS, Task, calculate

_PARSL_WINDOW = 1000


class Lane:
    """An executor and what it has in flight.

    Local workers have a lane each: the death of a process breaks its whole executor, and so it
    is known which structure it had in hand.
    """

    def __init__(self, make: Callable[[], Executor], window: int) -> None:
        self.make, self.window = make, window
        self.executor: Executor | None = None
        self.running: dict[Future, Task] = {}

    def fill(self, waiting: deque[Task]) -> None:
        """Submit tasks until the window is full."""
        while waiting and len(self.running) < self.window:
            task = waiting.popleft()
            try:
                future = self._submit(task)
            except BrokenExecutor:  # it died while it had nothing to do
                self.stop()
                future = self._submit(task)
            self.running[future] = task

    def _submit(self, task: Task) -> Future:
        if self.executor is None:
            self.executor = self.make()
        return self.executor.submit(calculate, task)

    def collect(self) -> list[tuple[Task, tuple[Label, Facts] | str | None]]:
        """Take what is done; None stands for a worker that died."""
        out = []
        for future in [f for f in self.running if f.done()]:
            task = self.running.pop(future)
            try:
                out.append((task, future.result()))
            except BrokenExecutor:
                self.stop()
                out.append((task, None))
            except Exception as error:  # whatever a cluster's executor reports
                out.append((task, f"its worker failed: {type(error).__name__}: {error}"[:500]))
        return out

    def stop(self) -> None:
        """Shut the executor down; the next task gets a new one."""
        if self.executor is not None:
            self.executor.shutdown()
            self.executor = None


def make_lanes(workers: int, nice: int, parsl: Path | None) -> list[Lane]:
    """Lanes of local processes, or the one lane of a Parsl configuration."""
    if parsl is not None:
        return [Lane(partial(_parsl_executor, parsl), _PARSL_WINDOW)]
    make = partial(
        ProcessPoolExecutor, 1, get_context("spawn"), initializer=_start_worker, initargs=(nice,)
    )
    return [Lane(make, 1) for _ in range(workers)]


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parsl_executor(path: Path) -> Executor:
    try:
        from parsl.concurrent import ParslPoolExecutor
    except ImportError as error:
        raise InputError("--executor parsl needs Parsl; pip install 'denser[parsl]'") from error
    try:
        config = runpy.run_path(str(path))["config"]
        return ParslPoolExecutor(config)
    except Exception as error:  # the file is the user's own program
        raise InputError(
            f"{path}: gives no usable Parsl `config` ({type(error).__name__}: {error})"
        ) from error


def _start_worker(nice: int) -> None:
    """Prepare a process: Ctrl-C is the parent's business, and without the parent there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if nice:
        os.nice(nice)
    sentinel = parent_process().sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes that start meanwhile use one thread; libraries read this when loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
