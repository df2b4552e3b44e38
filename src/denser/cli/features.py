"""`denser features`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import (
    Box,
    BoxName,
    Charge,
    Device,
    Embed,
    Json,
    ModelName,
    Multiplicity,
    Smiles,
    Spin,
    Structures,
    Topology,
    unpaired,
)


def features(
    files: Structures = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Table to write (.csv or .parquet).")
    ] = None,
    smiles: Smiles = None,
    atoms: Annotated[
        bool,
        typer.Option("--atoms", help="A row for each atom; else the sums over each molecule."),
    ] = False,
    embed: Embed = False,
    topology: Topology = None,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    box: BoxName = Box.auto,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write what the network knows of atoms and molecules as a table, to learn from."""
    from denser.model.options import PredictionOptions
    from denser.workflows.features import FeatureTable

    options = PredictionOptions(
        charge, model, box.value, device=device, spin=unpaired(spin, multiplicity)
    )
    table = FeatureTable(files or [], smiles or [], out, atoms, options, embed, topology)
    raise typer.Exit(table.run(as_json=json))
