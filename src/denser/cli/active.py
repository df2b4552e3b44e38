"""`denser active`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denser.cli.label import Nice, Residual, Workers, label_settings, run_labels, tell
from denser.cli.options import (
    Box,
    BoxName,
    Charge,
    Embed,
    ExecutorName,
    JsonObject,
    ModelName,
    Multiplicity,
    Padding,
    Spin,
    Topology,
    parsl_file,
    unpaired,
)
from denser.cli.train import shown

if TYPE_CHECKING:
    from denser.workflows.label import LabelInput


class Choice(StrEnum):
    """Choices of --choose."""

    error = "error"
    random = "random"


def active(
    pool: Annotated[
        list[str],
        typer.Argument(help="Structure files (all frames) or qm9:train[0:5000], as in label."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("active"),
    model: ModelName = "default",
    budget: Annotated[int, typer.Option(min=1, help="Number of structures to label.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Spend the budget in N equal parts.")] = 4,
    test: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Structures, drawn at random, that measure every round; default: a tenth of the "
            "pool, 10 to 40.",
        ),
    ] = None,
    choose: Annotated[
        Choice,
        typer.Option(help="error: by expected error and distance from what is labelled."),
    ] = Choice.error,
    rehearse: Annotated[
        Path | None,
        typer.Option(help="Labels of the original kind to mix in, so that the model forgets less."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of each fine tuning; default: by the labels.")
    ] = None,
    residual: Residual = None,
    embed: Embed = False,
    topology: Topology = None,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    box: BoxName = Box.auto,
    padding: Padding = 4.0,
    workers: Workers = None,
    executor: ExecutorName = None,
    nice: Nice = 0,
    seed: Annotated[int, typer.Option(help="Random seed of the test part and the runs.")] = 0,
    json: JsonObject = False,
) -> None:
    """Label what a model knows least, train on it, and repeat; run it again to continue."""
    from rich.console import Console

    from denser.workflows import active as workflow
    from denser.workflows.label import read_inputs
    from denser.workflows.many import print_json
    from denser.workflows.progress import Bar

    settings = label_settings(charge, unpaired(spin, multiplicity), box, padding, residual)
    parsl = parsl_file(executor)
    found, bad = read_inputs(pool, settings.options, tell, embed, topology)
    if bad:
        tell(f"{bad} structures of the pool cannot be used")
    plan = workflow.ActivePlan(
        model,
        budget,
        rounds,
        test,
        choose.value,
        None if rehearse is None else str(rehearse),
        steps,
        seed,
    )

    def label(entries: list[LabelInput], store: Path) -> bool:
        return not run_labels(entries, store, settings, workers, parsl, nice, False).interrupted

    @contextmanager
    def looking(total: int) -> Iterator[Callable[[], None]]:
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        with Bar("predicting", total, console) as bar:
            yield bar.advance

    try:
        done = workflow.active(
            plan, found, out, label, tell, looking, lambda folder: shown(folder, json)
        )
    except KeyboardInterrupt:
        tell(f"stopped; run the same command to continue from {out}")
        raise typer.Exit(130) from None
    written = [done[-1].model, str(out / workflow.RECORD), str(out / workflow.STORE)]
    if json:
        print_json(
            {"output": str(out), "written": written, "rounds": [vars(entry) for entry in done]}
        )
        return
    width = None if sys.stdout.isatty() else 100
    Console(highlight=False, width=width).print(workflow.table(done))
    if done[-1].test_after_percent >= done[-1].test_before_percent:
        typer.echo("the model did not improve on the test part; try more labels")
    typer.echo(f"wrote {', '.join(written)}")
