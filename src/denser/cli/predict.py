"""`denser predict`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Box(StrEnum):
    """Choices of --box."""

    auto = "auto"
    isolated = "isolated"
    paper = "paper"


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
    average: Annotated[
        int, typer.Option(min=1, max=48, help="Mean over so many turned and mirrored copies.")
    ] = 1,
    refine: Annotated[
        int, typer.Option(min=0, help="Improve it by so many Kohn-Sham steps (PySCF).")
    ] = 0,
    format: Annotated[str, typer.Option(help="Suffix of the files in an output folder.")] = "cube",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    resume: Annotated[
        bool, typer.Option(help="Leave out what is done from the same inputs.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per input on standard output.")
    ] = False,
) -> None:
    """Predict the valence electron density of molecules and write it."""
    from denser.model.options import PredictionOptions
    from denser.workflows.predict import Batch

    options = PredictionOptions(charge, model, box.value, padding, spacing, device, average, refine)
    batch = Batch(files or [], smiles or [], out, format, options, resume)
    raise typer.Exit(batch.run(as_json=json))
