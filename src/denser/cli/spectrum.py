"""`denser spectrum`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import (
    Box,
    BoxName,
    Charge,
    Device,
    ExecutorName,
    JsonObject,
    ModelName,
    Topology,
    Workers,
    parsl_file,
    prediction_options,
)
from denser.types.errors import InputError


def spectrum(
    trajectory: Annotated[
        Path,
        typer.Argument(
            help="Frames at equal times (.traj, .extxyz, .dcd, ...), such as run.xtc@1000: with a "
            "slice of them."
        ),
    ],
    timestep: Annotated[
        float | None,
        typer.Option(
            help="Time between frames, fs; .xtc, .trr and .nc have it.", show_default=False
        ),
    ] = None,
    topology: Topology = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path(
        "spectrum"
    ),
    temperature: Annotated[
        float | None, typer.Option(help="K; default: from the velocities in the trajectory.")
    ] = None,
    width: Annotated[
        float, typer.Option(help="Full width of a line at half its maximum, 1/cm.")
    ] = 20.0,
    up_to: Annotated[float, typer.Option("--max", help="End of the spectrum, 1/cm.")] = 4000.0,
    rotation: Annotated[
        bool,
        typer.Option(
            help="Keep the rotation of an isolated molecule, or turn each frame onto the first."
        ),
    ] = True,
    raman: Annotated[
        bool,
        typer.Option("--raman", help="The Raman spectrum too: polarizabilities take seconds."),
    ] = False,
    basis: Annotated[
        str | None,
        typer.Option(help="Of the polarizabilities; default: with diffuse functions."),
    ] = None,
    laser: Annotated[float, typer.Option(help="Wavelength for Raman cross sections, nm.")] = 532.0,
    charge: Charge = None,
    model: ModelName = "default",
    box: BoxName = Box.auto,
    workers: Workers = 1,
    executor: ExecutorName = None,
    device: Device = "auto",
    json: JsonObject = False,
) -> None:
    """Infrared spectrum of a trajectory, from the predicted dipole of each frame, and Raman.

    Run it again to continue after an interruption, or with a longer trajectory.
    """
    if out.suffix and not out.is_dir():
        raise InputError(f"{out}: results go to a folder; give -o FOLDER")
    from denser.workflows import many
    from denser.workflows import spectrum as work
    from denser.workflows.frame_values import Interrupted
    from denser.workflows.prediction_record import notes
    from denser.workflows.spectrum_files import summary

    if timestep is None:
        timestep = work.time_between_frames(trajectory, topology)
    options = prediction_options(charge, model, box, device=device)
    if not raman and basis is not None:
        raise InputError("--basis is that of polarizabilities; it needs --raman")
    settings = work.SpectrumSettings(
        timestep, temperature, width, up_to, rotation, raman, basis or work.AUGMENTED, laser,
        workers, options, parsl_file(executor),
    )  # fmt: skip
    try:
        record = {"input": str(trajectory)} | work.spectrum(trajectory, out, settings, topology)
    except Interrupted as stop:
        typer.echo(f"{stop}; run the same command to continue", err=True)
        raise typer.Exit(130) from None
    if json:
        many.print_json(record)
    else:
        typer.echo(summary(record))
    for note in notes(record):
        typer.echo(f"denser: {trajectory}: {note}", err=True)
