"""`denser train` and `denser finetune`."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denser.cli.options import JsonObject
from denser.types.errors import InputError

if TYPE_CHECKING:
    from types import FrameType

    from denser.training import loop

_RANK = int(os.environ.get("RANK", "0"))


def train(
    config: Annotated[Path, typer.Argument(help="TOML file that describes the run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("run"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one setting: section.key=value.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Go on from this file of `denser models pack-state`, unless the folder of the run "
            "has a state already."
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Processes that make labels ready for the network aspherical while it trains; 0: "
            "none.",
        ),
    ] = 0,
    json: JsonObject = False,
) -> None:
    """Train a network; run it again to continue after an interruption."""
    from denser.training import loop
    from denser.training.config import read_config
    from denser.training.packed_state import unpack_state

    settings = read_config(config, tuple(set_ or ()))
    if state is not None and _RANK == 0 and not (out / "state.pt").exists():
        unpack_state(state, out)
    with shown(out, json) as (report, stop):
        path = loop.train(settings, out, report, stop, shlex.join(sys.argv), workers)
    written = _written(out, path)
    from denser.labels.label import left_out
    from denser.model.checkpoint import load_model

    info = load_model(path).info
    open_shells = info["open_shell_names"]
    if open_shells:
        _say(left_out(open_shells), err=json)
    if not json:
        _say(f"wrote {', '.join(written)}")
    elif _RANK == 0:
        from denser.workflows.many import print_json

        record = {
            "n_steps": info["steps"],
            "measured": info.get("measured", {}),
            "open_shell_names": open_shells,
        }
        print_json({"output": str(out), "written": written} | record)


def finetune(
    model: Annotated[str, typer.Argument(help="Shipped model or model file to start from.")],
    labels: Annotated[
        list[Path], typer.Argument(help="Your labels: stores (.db) or folders of .npz labels.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("tuned"),
    test: Annotated[
        str, typer.Option(help="Share of the labels for the final test, or a file of names.")
    ] = "0.2",
    validation: Annotated[
        str,
        typer.Option(
            help="Share of the labels to choose the best weights with, or a file of names."
        ),
    ] = "0.15",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Length in steps; default: by the number of labels.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Length in minutes, instead of --steps.")
    ] = None,
    remember: Annotated[
        Path | None,
        typer.Option(help="Labels of the original kind, to measure what the model forgets."),
    ] = None,
    rehearse: Annotated[
        Path | None,
        typer.Option(help="Labels of the original kind to mix in, so that the model forgets less."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the split and of the run.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one setting of the training: section.key=value."),
    ] = None,
    json: JsonObject = False,
) -> None:
    """Fine-tune a model on your own labels and measure it on labels that it has not seen."""
    from rich.console import Console

    from denser.workflows import finetune as workflow

    plan = workflow.Plan(
        model=model,
        labels=tuple(str(path) for path in labels),
        test=_part(test, "--test"),
        validation=_part(validation, "--validation"),
        steps=steps,
        minutes=minutes,
        remember=None if remember is None else str(remember),
        rehearse=None if rehearse is None else str(rehearse),
        seed=seed,
        settings=tuple(set_ or ()),
    )
    tell = partial(_say, err=json)
    with shown(out, json) as (report, stop):
        result = workflow.finetune(plan, out, report, stop, tell, shlex.join(sys.argv))
    if json and _RANK == 0:
        from denser.workflows.many import print_json

        record = {"output": str(out), "written": _written(out, result.path)}
        print_json(record | result.record() | {"notes": workflow.sentences(result)})
        return
    if _RANK == 0 and (result.test or result.remembered):
        width = None if sys.stdout.isatty() else 100
        Console(highlight=False, width=width).print(workflow.table(result))
    for sentence in workflow.sentences(result):
        _say(sentence)
    _say(f"wrote {result.path}")


def _say(text: str, err: bool = False) -> None:
    """Echo in the first process only."""
    if _RANK == 0:
        typer.echo(text, err=err)


def _written(out: Path, model: Path) -> list[str]:
    """Files of a finished run that its user needs."""
    files = (model, out / "best.safetensors", out / "metrics.csv")
    return [str(path) for path in files if path.exists()]


def _part(text: str, option: str) -> float | str:
    """A share between 0 and 1, or the name of a file."""
    try:
        share = float(text)
    except ValueError:
        if not Path(text).is_file():
            raise InputError(
                f"{option} must be a share such as 0.2 or a file of names, found {text!r}"
            ) from None
        return text
    if not 0 <= share < 1:
        raise InputError(f"{option} must be a share from 0 to below 1, found {text}")
    return share


@contextmanager
def shown(
    out: Path, json: bool
) -> Iterator[tuple[Callable[[loop.Progress], None], Callable[[], bool]]]:
    """Yield a function that shows progress and one that tells whether Ctrl-C was pressed.

    With `json` the progress goes to standard error.

    The first Ctrl-C (or SIGTERM) ends the run after the present step, a second one at once. The
    exit code is then 130.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from denser.workflows.progress import is_quiet

    asked: list[int] = []
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, signal.default_int_handler)

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.1f} %"),
        TimeElapsedColumn(),
        TextColumn("left {task.fields[left]}"),
    )
    try:
        for number in earlier:
            signal.signal(number, note)
        with Progress(
            *columns, console=Console(stderr=json), disable=is_quiet() or not sys.stderr.isatty()
        ) as bar:
            task = bar.add_task("", total=1.0, left="?")

            def report(p: loop.Progress) -> None:
                text = (
                    f"step {p.step}  {p.steps_per_second:.2f}/s  loss {100 * p.loss:.3f} %  "
                    f"validation {100 * p.validation:.3f} %"
                )
                if p.waiting:
                    text += f"  {p.waiting} labels are not ready yet"
                bar.update(
                    task, completed=p.done, description=text, left=f"{p.seconds_left / 60:.0f} min"
                )
                if not sys.stderr.isatty() and p.step % 100 == 0:
                    _say(f"{p.done:.3f}  {text}  left {p.seconds_left / 60:.1f} min", json)

            yield report, lambda: bool(asked)
    except KeyboardInterrupt:
        if _RANK == 0:
            typer.echo(f"stopped; run the same command to continue from {out}", err=True)
        raise typer.Exit(130) from None
    except InputError as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(f"process {_RANK}: {error}") from error
        raise
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
