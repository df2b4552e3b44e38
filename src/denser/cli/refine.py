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
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Refined CIF; structure factors beside it (.fcf).")
    ] = Path("refined.cif"),
    residual: Annotated[
        Path | None,
        typer.Option("--map", help="Residual density map: .ccp4, .cube, ... (see denser formats)."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Picture of the residual density before and after: .png, .svg or .pdf."
        ),
    ] = None,
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
    from denser.io import check_suffix, write
    from denser.pictures.plot import check_suffix as check_picture
    from denser.pictures.residual import plot_residual
    from denser.workflows.inputs import refuse_inputs
    from denser.workflows.progress import is_quiet
    from denser.workflows.refinement.refine import refine as run

    def report(text: str) -> None:
        if not is_quiet():
            typer.echo(text, err=True)

    extra = []
    for path, check in ((residual, check_suffix), (picture, check_picture)):
        if path is not None:
            check(path)
            refuse_inputs(path, [crystal, *([data] if data else []), out, out.with_suffix(".fcf")])
            extra.append(path)
    result = run(
        crystal, data, out, hydrogens=hydrogens.value, cycles=cycles, model=model, device=device,
        report=report,
    )  # fmt: skip
    if residual is not None:
        write(residual, result.after.residual)
    if picture is not None:
        plot_residual(result.before.residual, result.after.residual, len(result.labels), picture)
    result.facts["written"] += [str(path) for path in extra]
    for note in (*result.notes, result.doubt):
        if note:
            typer.echo(f"denser: {crystal}: {note}", err=True)
    typer.echo(json_module.dumps(result.to_dict()) if json else result.table())
    if not result.converged:
        raise typer.Exit(2)
