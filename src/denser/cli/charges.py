"""`denser charges`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import (
    Charge,
    Device,
    Embed,
    ExecutorName,
    Json,
    ModelName,
    Multiplicity,
    Resume,
    Smiles,
    Spin,
    Structures,
    Topology,
    Workers,
    parsl_file,
    unpaired,
)
from denser.types.errors import InputError


class Like(StrEnum):
    """Choices of --like."""

    hf = "hf"


class Layout(StrEnum):
    """Choices of --layout."""

    qtaim_embed = "qtaim-embed"


def charges(
    files: Structures = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="One file for all molecules (.sdf, .mol2, .json, .csv, .parquet, .xml, .itp, "
            ".pqr, .npz), or a folder with a file for each.",
        ),
    ] = None,
    smiles: Smiles = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--charges",
            help="resp (the default), mbis, cm5, adch, hirshfeld, chelpg or mk; several with "
            "commas. "
            "Formats of one kind have the first.",
        ),
    ] = None,
    conformers: Annotated[
        bool,
        typer.Option(
            "--conformers", help="The frames of a file are conformers of one molecule: fit to all."
        ),
    ] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="SMARTS=CHARGE: the charges of these atoms and their hydrogens add up to it "
            "(RESP), as for caps of a residue."
        ),
    ] = None,
    parent: Annotated[
        bool,
        typer.Option("--parent", help="Of a salt or solvate, keep the largest molecule only."),
    ] = False,
    like: Annotated[
        Like | None,
        typer.Option(help="hf: make fitted charges like those of HF/6-31G* (Amber)."),
    ] = None,
    multipoles: Annotated[
        bool,
        typer.Option(
            "--multipoles",
            help="Atomic dipoles, quadrupoles and volumes of hirshfeld and mbis, MBIS valence "
            "widths (.json, .csv, .parquet).",
        ),
    ] = False,
    bonds: Annotated[
        Path | None,
        typer.Option(
            "--bonds",
            help="Table (.csv, .parquet) of the bonds: density, Laplacian and ellipticity at their "
            "critical points.",
        ),
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(
            help="qtaim-embed: the table of --bonds has a row for each molecule and the columns "
            "of QTAIM-Embed's data sets, with Hirshfeld, CM5, ADCH and MBIS charges (.parquet)."
        ),
    ] = None,
    skip_doubt: Annotated[
        bool,
        typer.Option("--skip-doubt", help="Leave out molecules that the model does not know well."),
    ] = False,
    format: Annotated[
        str, typer.Option(help="Format (suffix) of the files in an output folder.")
    ] = "mol2",
    embed: Embed = False,
    topology: Topology = None,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    workers: Workers = 1,
    executor: ExecutorName = None,
    device: Device = "auto",
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Atomic charges of libraries of molecules, for force fields and screening."""
    from denser.workflows.charges import ChargeSettings, Library

    words = [word.strip().lower() for text in kinds or ["resp"] for word in text.split(",")]
    settings = ChargeSettings(
        tuple(dict.fromkeys(words)),
        tuple(_group(text) for text in group or ()),
        conformers,
        parent,
        skip_doubt,
        charge,
        like is not None,
        multipoles,
        bonds is not None,
        model,
        device,
        embed,
        unpaired(spin, multiplicity),
    )
    library = Library(
        files or [], smiles or [], out, format, settings, resume, topology, bonds, layout or ""
    )
    raise typer.Exit(library.run(workers, json, parsl_file(executor)))


def _group(text: str) -> tuple[str, float]:
    smarts, _, number = text.rpartition("=")
    try:
        return smarts, float(number)
    except ValueError:
        raise InputError(
            f"--group {text}: expected SMARTS=CHARGE, such as '[CH3]C(=O)[NX3]=0'"
        ) from None
