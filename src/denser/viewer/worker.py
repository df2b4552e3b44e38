"""A thread for long work, that the event loop can wait for."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Worker:
    """A thread that does one thing after the other, and that the end of the program stops."""

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
            del future, task, work, args  # they would hold the last result until the next task

    async def run(self, work: Callable, *args: Any) -> Any:
        """Result of `work(*args)`."""
        future: Future = Future()
        self.tasks.put((future, work, args))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after what it does now."""
        self.tasks.put(None)
