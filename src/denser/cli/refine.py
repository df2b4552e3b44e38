"""`denser refine`."""

from __future__ import annotations

import json as json_module
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import Device, JsonObject, ModelName


class Hydrogens(StrEnum):
    """Choices of --hydrogens."""

    auto = "auto"
    isotropic = "isotropic"
    anisotropic = "anisotropic"


def refine(
    crystal: Annotated[
        Path, typer.Argument(metavar="MODEL.cif", help="CIF with all atoms, hydrogens too.")
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATA]",
            help="Reflections: HKLF 4, or a CIF or fcf with intensities; default: in the CIF.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Refined CIF.")] = Path("refined.cif"),
    hydrogens: Annotated[
        Hydrogens,
        typer.Option(help="Displacements of hydrogens; auto: by the CIF and the amount of data."),
    ] = Hydrogens.auto,
    cycles: Annotated[
        int, typer.Option(min=1, help="Largest number of cycles of prediction and fit.")
    ] = 8,
    model: ModelName = "default",
    device: Device = "auto",
    json: JsonObject = False,
) -> None:
    """Refine a crystal structure against X-ray data with Hirshfeld atoms of predicted densities."""
    from denser.workflows.many import is_quiet
    from denser.workflows.refinement.refine import Settings, refine_crystal, table

    def report(text: str) -> None:
        if not is_quiet():
            typer.echo(text, err=True)

    settings = Settings(hydrogens.value, cycles, model=model, device=device)
    record = refine_crystal(crystal, data, out, settings, report)
    for note in (*record["notes"], record["doubt"]):
        if note:
            typer.echo(f"denser: {crystal}: {note}", err=True)
    typer.echo(json_module.dumps(record) if json else table(record))
