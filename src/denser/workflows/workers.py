"""Workers: processes of this machine, or those of a cluster through Parsl, and their tasks."""

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
"""Variables of the environment that say how many threads a library may use."""

_PARSL_WINDOW = 1000


class HasName(Protocol):
    """An input, a label or a task; no other of a run has its name."""

    @property
    def name(self) -> str:
        """What messages call it."""


class Pool:
    """An executor and what it has in flight.

    Local workers have a pool each: the death of a process breaks its whole executor, and so it
    is known which structure it had in hand.
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
    """Do all tasks, few of them in flight at a time; False if Ctrl-C came between.

    `record` is called with each task and what came of it, or with a sentence if its worker
    failed; a task whose worker dies is tried once more.
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
                for pool in pools:  # before the writing, so that no worker idles
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
    """Prepare a process: Ctrl-C is the parent's business, and without the parent there is none."""
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
