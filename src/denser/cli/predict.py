"""`denser predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import (
    BoxOrCube,
    Charge,
    Copies,
    Device,
    Embed,
    ExecutorName,
    GridFile,
    Json,
    ModelName,
    Multiplicity,
    Padding,
    Refine,
    Resume,
    Smiles,
    Spacing,
    Spin,
    Structures,
    Table,
    Topology,
    Workers,
    parsl_file,
    prediction_options,
    unpaired,
)


def predict(
    files: Structures = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File (the suffix gives the format), or folder for many inputs."
        ),
    ] = None,
    smiles: Smiles = None,
    embed: Embed = False,
    topology: Topology = None,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    box: BoxOrCube = "auto",
    padding: Padding = 4.0,
    spacing: Spacing = None,
    grid: GridFile = None,
    average: Copies = 1,
    refine: Refine = 0,
    format: Annotated[
        str, typer.Option(help="Format (suffix) of the files in an output folder.")
    ] = "cube",
    table: Table = None,
    memory: Annotated[
        float | None,
        typer.Option(
            help="Memory for the grid, GB; a larger one is computed and written in parts. By "
            "default half of what is free.",
            min=0.0,
        ),
    ] = None,
    workers: Workers = 1,
    executor: ExecutorName = None,
    device: Device = "auto",
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Predict the valence electron density of molecules and write it to files."""
    from denser.workflows.predict import Batch

    options = prediction_options(
        charge,
        model,
        box,
        padding,
        device,
        spacing,
        average,
        refine,
        grid,
        spin=unpaired(spin, multiplicity),
    )
    batch = Batch(
        files or [],
        smiles or [],
        out,
        format,
        options,
        resume,
        embed,
        topology,
        table,
        None if memory is None else memory * 1e9,
    )
    raise typer.Exit(batch.run(json, workers, parsl_file(executor)))
