"""`denser plot`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from denser.analysis.catalogue import PICTURES, PROPERTIES
from denser.cli.options import JsonObject
from denser.types.errors import InputError
from denser.types.units import BOHR

_KINDS = {name: name for name in ("isosurface", "slice", *PICTURES)}
Kind = StrEnum("Kind", _KINDS)  # type: ignore[misc]  # mypy knows only names that it can read
"""Choices of --kind."""


def plot(
    file: Annotated[Path, typer.Argument(help="Density file.")],
    minus: Annotated[
        Path | None, typer.Argument(help="Second file: draw FILE minus this one.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=".png, .svg or .pdf")] = Path("rho.png"),
    kind: Annotated[
        Kind,
        typer.Option(
            help="What to draw. The density as isosurface or slice, or a property: "
            + "; ".join(f"{name} ({PROPERTIES[name].help})" for name in PICTURES)
            + "."
        ),
    ] = Kind("isosurface"),
    isovalue: Annotated[
        float | None,
        typer.Option(
            help="e/bohr^3 [0.1; for differences 0.003, for spin densities 0.005, for esp 0.001]"
        ),
    ] = None,
    axis: Annotated[str, typer.Option(help="Normal of the slice: x, y or z.")] = "z",
    position: Annotated[
        float | None,
        typer.Option(help="Position of the slice on the axis, angstrom; default: middle."),
    ] = None,
    json: JsonObject = False,
) -> None:
    """Draw a density, the difference of two densities, or a property of a density."""
    from denser.io import read
    from denser.pictures.plot import check_suffix, plot_density, plot_difference

    if kind.value in PICTURES:
        if minus is not None:
            raise InputError(f"--kind {kind.value} draws one density, but two files are given")
        check_suffix(out)
        _portrait(file, kind, 0.001 if isovalue is None else isovalue, out)
        _tell(file, minus, kind, out, json)
        return
    first = read(file)
    options: dict[str, Any] = {"kind": kind.value, "axis": axis}
    if position is not None:
        options["position"] = position / BOHR
    if isovalue is not None:
        options["isovalue"] = isovalue
    if minus is None:
        plot_density(first, out, **options)
    else:
        plot_difference(first, read(minus), out, **options)
    _tell(file, minus, kind, out, json)


def _tell(file: Path, minus: Path | None, kind: Kind, out: Path, json: bool) -> None:
    """Print what was written."""
    if not json:
        typer.echo(f"wrote {out}")
        return
    from denser.workflows.many import print_json

    second = None if minus is None else str(minus)
    print_json({"input": str(file), "minus": second, "kind": kind.value, "output": str(out)})


def _portrait(file: Path, kind: Kind, isovalue: float, out: Path) -> None:
    """Draw a property of the density in a file."""
    from denser.analysis.properties import Analysis
    from denser.io import read_density
    from denser.pictures.properties import plot_property

    density = read_density(file)
    result = Analysis(density, isovalue=isovalue).property(kind.value)
    plot_property(kind.value, result, density.structure, out)
