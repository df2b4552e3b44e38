"""Workers: processes on this machine or, through Parsl, on a cluster, and their tasks."""

from __future__ import annotations

import os
import runpy
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import active_children, connection, get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

from denser.types.errors import InputError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads of a library."""

_PARSL_WINDOW = 1000


class HasName(Protocol):
    """An input, a label or a task; its name is unique in a run."""

    @property
    def name(self) -> str:
        """Name in messages."""


class Pool:
    """An executor and its tasks in flight.

    Each local worker has its own pool. The death of a process breaks its whole executor, so the
    structure that it worked on is known.
    """

    def __init__(
        self, make: Callable[[], Executor], window: int, work: Callable[[Any], Any]
    ) -> None:
        self.make, self.window, self.work = make, window, work
        self.executor: Executor | None = None
        self.running: dict[Future, HasName] = {}

    def fill(self, waiting: deque) -> None:
        """Submit tasks until the window is full."""
        while waiting and len(self.running) < self.window:
            task = waiting.popleft()
            try:
                future = self._submit(task)
            except BrokenExecutor:  # it died while it had nothing to do
                self.stop()
                future = self._submit(task)
            self.running[future] = task

    def _submit(self, task: HasName) -> Future:
        if self.executor is None:
            self.executor = self.make()
        return self.executor.submit(self.work, task)

    def collect(self) -> list[tuple[HasName, Any]]:
        """Collect finished tasks; None stands for a worker that died."""
        out = []
        for future in [f for f in self.running if f.done()]:
            task = self.running.pop(future)
            try:
                out.append((task, future.result()))
            except BrokenExecutor:
                self.stop()
                out.append((task, None))
            except Exception as error:  # any error of a cluster's executor
                out.append((task, f"its worker failed: {type(error).__name__}: {error}"[:500]))
        return out

    def stop(self) -> None:
        """Shut the executor down; the next task gets a new one."""
        if self.executor is not None:
            self.executor.shutdown()
            self.executor = None


def make_pools(
    work: Callable[[Any], Any], workers: int, nice: int = 0, parsl: Path | None = None
) -> list[Pool]:
    """Pools of local processes that call `work`, or the one pool of a Parsl configuration."""
    if parsl is not None:
        return [Pool(partial(_parsl_executor, parsl), _PARSL_WINDOW, work)]
    make = partial(
        ProcessPoolExecutor, 1, get_context("spawn"), initializer=_start_worker, initargs=(nice,)
    )
    return [Pool(make, 1, work) for _ in range(workers)]


def run(tasks: list, pools: list[Pool], record: Callable[[Any, Any], None]) -> bool:
    """Do all tasks, a few of them at a time; return False after Ctrl-C.

    `record` is called with each task and its result, or with a sentence if its worker failed. A
    task whose worker dies is tried once more.
    """
    waiting: deque[Any] = deque(tasks)
    done: deque[tuple[Any, Any]] = deque()
    deaths: Counter[str] = Counter()
    others = set(active_children())
    finished = False

    def collect() -> None:
        for pool in pools:
            for task, outcome in pool.collect():
                if outcome is not None:
                    done.append((task, outcome))
                elif deaths[task.name]:
                    done.append((task, "its worker process died twice (was memory short?)"))
                else:
                    deaths[task.name] += 1
                    waiting.appendleft(task)

    try:
        with one_thread_each():
            while waiting or any(pool.running for pool in pools):
                for pool in pools:
                    pool.fill(waiting)
                wait([f for pool in pools for f in pool.running], return_when=FIRST_COMPLETED)
                collect()
                for pool in pools:  # before writing, so that no worker is idle
                    pool.fill(waiting)
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
        for pool in pools:
            pool.stop()
    return finished


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
    """Prepare a worker: it ignores Ctrl-C, which the parent handles, and ends with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if nice:
        os.nice(nice)
    parent = parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes that start in this context use one thread; libraries read this when loaded."""
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
