"""`denser train`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Argument(help="TOML file that describes the run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("run"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one setting: section.key=value.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
) -> None:
    """Train a network; run it again to go on after an interruption."""
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from denser.training import loop
    from denser.training.config import read_config

    if threads:
        torch.set_num_threads(threads)
    settings = read_config(config, tuple(set_ or ()))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.1f} %"),
        TimeElapsedColumn(),
        TextColumn("left {task.fields[left]}"),
    )
    try:
        with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("", total=1.0, left="?")

            def report(p: loop.Progress) -> None:
                text = (
                    f"step {p.step}  {p.steps_per_second:.2f}/s  loss {100 * p.loss:.3f} %  "
                    f"validation {100 * p.validation:.3f} %"
                )
                bar.update(
                    task, completed=p.done, description=text, left=f"{p.seconds_left / 60:.0f} min"
                )
                if not sys.stderr.isatty() and p.step % 100 == 0:
                    typer.echo(f"{p.done:.3f}  {text}  left {p.seconds_left / 60:.1f} min")

            path = loop.train(settings, out, report)
    except KeyboardInterrupt:
        typer.echo(f"stopped; run the same command to go on from {out}", err=True)
        raise typer.Exit(130) from None
    best = out / "best.safetensors"
    typer.echo(f"wrote {path}, {f'{best}, ' if best.exists() else ''}{out / 'metrics.csv'}")
