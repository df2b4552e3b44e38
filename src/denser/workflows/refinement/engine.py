"""Least squares with cctbx, in a process of its own: cctbx crashes if torch was loaded before it.

`Engine` starts this file as a program, which makes a `Crystal` and calls its methods. Requests and
answers are pickled pairs on the standard streams. Nothing that the process imports loads torch.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from denser.types.errors import InputError


class Engine:
    """A process that holds a crystal; `call` runs a method of `denser...crystal.Crystal` in it.

    Use it as a context: the process ends with it.
    """

    def __init__(self) -> None:
        if find_spec("cctbx") is None:
            raise InputError("a refinement needs cctbx; pip install 'denser[crystal]'")
        source = str(Path(__file__).parents[3])
        paths = [source, os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "denser.workflows.refinement.engine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Result of a method.

        Raises
        ------
        InputError
            The method raised one.
        RuntimeError
            It failed otherwise; the message is its traceback.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            pickle.dump((method, arguments), stdin)
            stdin.flush()
            kind, value = pickle.load(stdout)
        except (EOFError, BrokenPipeError) as error:
            self._log.seek(0)
            text = self._log.read().decode("utf-8", "replace")[-2000:]
            raise RuntimeError(f"the process with cctbx ended:\n{text}") from error
        if kind == "input error":
            raise InputError(value)
        if kind == "failed":
            raise RuntimeError(value)
        return value


def _serve() -> None:
    """Answer requests until standard input ends."""
    import signal
    import traceback
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what cctbx prints must not come between the answers
    warnings.simplefilter("ignore")
    from denser.workflows.refinement.crystal import Crystal

    crystal = Crystal()
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        run: Callable[..., Any] = getattr(crystal, method)
        try:
            answer = ("result", run(*arguments))
        except InputError as error:
            answer = ("input error", str(error))
        except Exception:
            answer = ("failed", traceback.format_exc())
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    _serve()
