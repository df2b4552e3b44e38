"""`denser atoms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import Json, ModelName


def atoms(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Valence densities (.npz, .cube, ...) of molecules."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File for the atoms (.xyz or .extxyz).")
    ] = None,
    elements: Annotated[
        str | None,
        typer.Option(
            help='Elements to look for beside H, such as "C N O Cl"; default: those of organic '
            "molecules.",
            show_default=False,
        ),
    ] = None,
    model: ModelName = "default",
    json: Json = False,
) -> None:
    """Find the atoms of densities: elements, positions and charges."""
    from denser.workflows.atoms import AtomSearch

    chosen = None if elements is None else elements.replace(",", " ").split()
    raise typer.Exit(AtomSearch(files or [], out, chosen, model).run(as_json=json))
