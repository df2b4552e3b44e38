"""Command line: parse, call a workflow, write. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from denser import __version__
from denser.errors import InputError
from denser.units import BOHR

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The DFT electron density of a molecule from nothing but its atoms.",
)
models_app = typer.Typer(no_args_is_help=True, help="List and import models.")
app.add_typer(models_app, name="models")


class Box(StrEnum):
    """Choices of --box."""

    auto = "auto"
    isolated = "isolated"
    paper = "paper"


class Kind(StrEnum):
    """Choices of --kind."""

    isosurface = "isosurface"
    slice = "slice"


def _version(show: bool) -> None:
    if show:
        typer.echo(f"denser {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show version.")
    ] = False,
) -> None:
    pass


@app.command()
def predict(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Structure files: whatever ASE reads.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File (its suffix is the format), or folder for many."),
    ] = None,
    smiles: Annotated[
        list[str] | None, typer.Option(help="SMILES instead of, or beside, files (RDKit).")
    ] = None,
    charge: Annotated[int | None, typer.Option(help="Total charge; by default the file's.")] = None,
    model: Annotated[str, typer.Option(help="Shipped model or model file.")] = "default",
    box: Annotated[
        Box,
        typer.Option(help="auto: the file's cell, else isolated. paper: 2 angstrom, periodic."),
    ] = Box.auto,
    padding: Annotated[float, typer.Option(help="Vacuum per side, angstrom.")] = 4.0,
    spacing: Annotated[
        float | None, typer.Option(help="Spacing of the written grid, angstrom [0.0831].")
    ] = None,
    format: Annotated[str, typer.Option(help="Suffix of the files in an output folder.")] = "cube",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    resume: Annotated[bool, typer.Option(help="Leave out inputs whose output exists.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per input on standard output.")
    ] = False,
) -> None:
    """Predict the valence electron density of molecules and write it."""
    from denser.batch import Batch

    batch = Batch(
        files or [], smiles or [], out, format, charge, model, box.value, padding, spacing,
        device, resume,
    )  # fmt: skip
    raise typer.Exit(batch.run(as_json=json))


@app.command()
def plot(
    file: Annotated[Path, typer.Argument(help="Density file.")],
    minus: Annotated[
        Path | None, typer.Argument(help="Second file; the picture is FILE minus this.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=".png, .svg or .pdf")] = Path("rho.png"),
    kind: Annotated[Kind, typer.Option(help="What to draw.")] = Kind.isosurface,
    isovalue: Annotated[
        float | None, typer.Option(help="e/bohr^3 [0.1, differences 0.003]")
    ] = None,
    axis: Annotated[str, typer.Option(help="Normal of the slice: x, y or z.")] = "z",
    position: Annotated[
        float | None, typer.Option(help="Where the slice cuts the axis, angstrom [middle].")
    ] = None,
) -> None:
    """Draw a density, or the difference of two, with its atoms."""
    from denser.io import read
    from denser.plot import plot_density, plot_difference

    first = read(file)
    options = {"kind": kind.value, "axis": axis}
    if position is not None:
        options["position"] = position / BOHR
    if isovalue is not None:
        options["isovalue"] = isovalue
    if minus is None:
        plot_density(first, out, **options)
    else:
        plot_difference(first, read(minus), out, **options)
    typer.echo(f"wrote {out}")


@app.command()
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


@models_app.command("list")
def models_list() -> None:
    """List the shipped models with their measured errors."""
    from denser.model.checkpoint import load_model, shipped_models

    for name in shipped_models():
        model = load_model(name)
        measured = model.info.get("measured", {})
        error = measured.get("validation_mean_percent")
        recipe = model.recipe
        typer.echo(
            f"{name}  {model.architecture}, {model.n_parameters:,} parameters, "
            f"{recipe.xc.upper()}/{recipe.basis.upper()}, SAD {recipe.sad}"
            + (f", validation Err_rho {error:.2f} %" if error is not None else "")
        )


@models_app.command("import")
def models_import(
    checkpoint: Annotated[Path, typer.Argument(help="Published .pth checkpoint.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Model file [CHECKPOINT.safetensors].")
    ] = None,
    sad: Annotated[str, typer.Option(help="SAD recipe that it was trained with.")] = "gth-szv-1e",
) -> None:
    """Turn a checkpoint published with Li et al. (2025) into a denser model file."""
    from denser.model.checkpoint import import_published, save_model

    model = import_published(checkpoint, sad)
    path = out or checkpoint.with_suffix(".safetensors")
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a model file ends in .safetensors")
    save_model(path, model)
    typer.echo(
        f"wrote {path} (x{model.network.multiple_of} model, {model.n_parameters:,} parameters)"
    )


def main() -> None:
    """Entry point: bad input is one sentence on standard error and exit code 2."""
    try:
        app()
    except InputError as error:
        typer.echo(f"denser: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
