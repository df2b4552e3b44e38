"""`denser predict`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from denser.types.errors import InputError


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
        bool, typer.Option("--refine", help="Improve it by a Kohn-Sham step (PySCF).")
    ] = False,
    steps: Annotated[int, typer.Option(help="Kohn-Sham steps of --refine.")] = 1,
    format: Annotated[str, typer.Option(help="Suffix of the files in an output folder.")] = "cube",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    resume: Annotated[bool, typer.Option(help="Leave out inputs whose output exists.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per input on standard output.")
    ] = False,
) -> None:
    """Predict the valence electron density of molecules and write it."""
    if refine and steps < 1:
        raise InputError(f"refining takes at least one step, found --steps {steps}")
    from denser.workflows.predict import Batch

    batch = Batch(
        files or [], smiles or [], out, format, charge, model, box.value, padding, spacing,
        device, resume, steps if refine else 0, average,
    )  # fmt: skip
    raise typer.Exit(batch.run(as_json=json))
