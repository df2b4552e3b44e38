"""`denser tsc`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import Device, JsonObject, ModelName


def tsc(
    crystal: Annotated[
        Path, typer.Argument(metavar="MODEL.cif", help="CIF with all atoms, hydrogens too.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Table (.tsc or .tscb); default: MODEL.tsc beside it."),
    ] = None,
    d_min: Annotated[
        float | None,
        typer.Option(
            "--d-min", help="Resolution, angstrom; default: that of the measurement in the CIF."
        ),
    ] = None,
    electrons: Annotated[
        bool, typer.Option("--electrons", help="Form factors for electrons, not for X-rays.")
    ] = False,
    block: Annotated[
        str | None, typer.Option(help="Data block of the CIF; default: the first with atoms.")
    ] = None,
    model: ModelName = "default",
    device: Device = "auto",
    json: JsonObject = False,
) -> None:
    """Write aspherical form factors of a crystal's atoms for refinement in Olex2 and others."""
    from denser.workflows.form_factors import TableSettings, write_form_factors

    settings = TableSettings(d_min, electrons, block, model, device)
    target = crystal.with_suffix(".tsc") if out is None else out
    record = write_form_factors(crystal, target, settings)
    for note in (*record["notes"], record["doubt"]):
        if note:
            typer.echo(f"denser: {crystal}: {note}", err=True)
    if json:
        typer.echo(json_module.dumps(record))
        return
    parts = ", ".join(map(str, record["disorder_groups"]))
    typer.echo(
        f"{record['n_sites']} atoms, {record['n_reflections']} reflections to "
        f"{record['d_min_angstrom']:.3f} angstrom for {record['radiation']}"
        + (f", disorder groups {parts}" if parts else "")
        + f"; {record['seconds']:.1f} s -> {record['output']}"
    )
