"""What all commands share: -q, -v, --threads, and one sentence for a wrong command line."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from denser.types.errors import InputError

UsageError: Any = typer.BadParameter.__mro__[1]
"""Any error in a command line; typer and click have it in different places in their versions."""

PANEL = "Common options"

LOG = logging.getLogger("denser")

Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print errors, warnings and JSON only.", rich_help_panel=PANEL
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Say what is used, and where an error comes from.",
        rich_help_panel=PANEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        envvar="DENSER_THREADS",
        help="CPU threads; default: all processors.",
        rich_help_panel=PANEL,
    ),
]
_COMMON = {"quiet": (Quiet, False), "verbose": (Verbose, False), "threads": (Threads, None)}


def with_common_options(command: Callable) -> Callable:
    """Give a command the options that all commands have."""
    own = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in _COMMON.items()
    ]

    @wraps(command)
    def with_common(
        quiet: bool = False, verbose: bool = False, threads: int | None = None, **values: Any
    ) -> None:
        if values.get("out") == Path("-"):
            raise InputError("-o - is no file; results are written to files, so name one")
        if threads is not None:
            use_threads(threads)
        with _verbosity(quiet, verbose, keeps=_is_result_printed(values)):
            try:
                command(**values)
            except InputError:
                LOG.debug("where it was found:", exc_info=True)
                raise

    described: Any = with_common
    del described.__wrapped__  # typer would ask it for the parameters
    parameters = [*own.parameters.values(), *added]
    described.__signature__ = own.replace(parameters=parameters)
    described.__annotations__ = {p.name: p.annotation for p in parameters}
    return described


def use_threads(n: int) -> None:
    """Set the number of threads; the libraries read the environment when they are loaded."""
    from denser.workflows.workers import THREADS

    os.environ.update(dict.fromkeys(THREADS, str(n)))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(n)


def _is_result_printed(values: dict[str, Any]) -> bool:
    """Whether standard output is for another program: JSON, or a file."""
    return bool(values.get("json")) or Path("-") in values.values()


@contextmanager
def _verbosity(quiet: bool, verbose: bool, keeps: bool) -> Iterator[None]:
    """Set the level of denser's logger; with -q, drop what is printed to standard output."""
    before = LOG.level
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("denser: %(message)s"))
    with ExitStack() as stack:
        if verbose:
            LOG.addHandler(handler)
            stack.callback(LOG.removeHandler, handler)
        LOG.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
        stack.callback(LOG.setLevel, before)
        if quiet and not keeps:
            stack.enter_context(redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        yield


def usage(error: Any, program: Any) -> str:
    """Help if there is no command, otherwise a sentence that says what is wrong and how to go on.

    Parameters
    ----------
    error : UsageError
    program : command
        The whole program: some errors do not know their command.
    """
    text = error.format_message().strip().rstrip(".")
    if not text or type(error).__name__ == "NoArgsIsHelpError":
        return text  # help is printed when this error is made
    text = text.replace("Value error, ", "").partition(", unable to parse")[0]
    if text.startswith("No such command") and "Did you" not in text:  # older Typers do not ask
        known = getattr(error.ctx and error.ctx.command, "commands", {})
        if near := get_close_matches(text.split("'")[1], known, n=1):
            text += f". Did you mean {near[0]!r}?"
    text = text.replace(": Input should be", ": it must be").replace(". Did you", "; did you")
    name = getattr(error, "option_name", None)
    command, path = (
        _command(program) if error.ctx is None else (error.ctx.command, error.ctx.command_path)
    )
    parameter = getattr(error, "param", None)
    if text.endswith("requires an argument"):
        text = f"{name} needs a value"
        parameter = next((p for p in command.params if name in p.opts), None)
    described = getattr(parameter, "help", None)
    if described:
        text += f" ({_small(described.rstrip('.'))})"
    shown = "commands" if hasattr(command, "commands") else "options"
    if text.startswith("No such option") and shown == "commands":
        text += ", or it stands before the command; options follow it"
    end = " " if text.endswith("?") else "; "
    return f"denser: {_small(text)}{end}`{path} -h` shows the {shown}"


def _small(text: str) -> str:
    """The text with a small first letter, unless it begins with an abbreviation such as CPU."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _command(program: Any) -> tuple[Any, str]:
    """The command that the command line names, and its path."""
    command, path = program, "denser"
    for word in sys.argv[1:]:
        if word not in getattr(command, "commands", {}):
            break
        command, path = command.commands[word], f"{path} {word}"
    return command, path
