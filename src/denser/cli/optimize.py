"""`denser optimize`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import (
    Charge,
    Device,
    DispersionName,
    Embed,
    Json,
    ModelName,
    Multiplicity,
    Padding,
    Smiles,
    Spin,
    Structures,
    prediction_options,
    unpaired,
)
from denser.types.errors import InputError


class Optimizer(StrEnum):
    """Choices of --optimizer."""

    bfgs = "bfgs"
    lbfgs = "lbfgs"
    fire = "fire"


class Task(StrEnum):
    """Choices of --task."""

    one_step = "one-step"
    scf = "scf"


def optimize(
    files: Structures = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for NAME.extxyz, the result, and NAME.traj, all steps."
        ),
    ] = Path("optimized"),
    smiles: Smiles = None,
    embed: Embed = False,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    fmax: Annotated[float, typer.Option(help="Largest force at the end, eV/angstrom.")] = 0.05,
    steps: Annotated[int, typer.Option(min=0, help="Largest number of steps.")] = 200,
    optimizer: Annotated[Optimizer, typer.Option(help="Optimiser of ASE.")] = Optimizer.bfgs,
    task: Annotated[
        Task, typer.Option(help="Forces of one Kohn-Sham step, or of an SCF.")
    ] = Task.one_step,
    dispersion: DispersionName = None,
    model: ModelName = "default",
    padding: Padding = 4.0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Optimise geometries with PBE forces; run it again to continue after an interruption.

    The cell of a periodic structure stays as it is.
    """
    if not files and not smiles:
        raise InputError("nothing to optimise; name structure files or give --smiles")
    if out.suffix and not out.is_dir():
        raise InputError(f"{out}: results go to a folder; give -o FOLDER")
    from denser.workflows.inputs import find_inputs
    from denser.workflows.optimize import OptimizationSettings, optimize_all
    from denser.workflows.progress import is_quiet

    n_unpaired = unpaired(spin, multiplicity)
    options = prediction_options(charge, model, padding=padding, device=device, spin=n_unpaired)
    chosen = None if dispersion is None else dispersion.value
    settings = OptimizationSettings(fmax, steps, optimizer.value, task.value, chosen, options)
    inputs = find_inputs(files or [], smiles or [], densities=False, embed=embed)

    def report(text: str) -> None:
        if sys.stderr.isatty() and not is_quiet():
            typer.echo(f"\r{text:70}\r", err=True, nl=False)

    raise typer.Exit(optimize_all(inputs, files or [], out, settings, json, report))
