"""A thread for long work; the event loop can wait for its results."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """A thread that does one task after the other and stops with the program."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while (task := self.tasks.get()) is not None:
            future, work, args = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work(*args))
            except BaseException as error:
                future.set_exception(error)
            # They would keep the last result alive until the next task.
            del future, task, work, args

    async def run(self, work: Callable, *args: Any) -> Any:
        """Result of `work(*args)`."""
        future: Future = Future()
        self.tasks.put((future, work, args))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after its present task."""
        self.tasks.put(None)
