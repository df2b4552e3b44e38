"""`denser plot`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from denser.units import BOHR


class Kind(StrEnum):
    """Choices of --kind."""

    isosurface = "isosurface"
    slice = "slice"


def plot(
    file: Annotated[Path, typer.Argument(help="Density file.")],
    minus: Annotated[
        Path | None, typer.Argument(help="Second file; the picture is FILE minus this.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=".png, .svg or .pdf")] = Path("rho.png"),
    kind: Annotated[Kind, typer.Option(help="What to draw.")] = Kind.isosurface,
    isovalue: Annotated[
        float | None, typer.Option(help="e/bohr^3 [0.1, differences 0.003]")
    ] = None,
    axis: Annotated[str, typer.Option(help="Normal of the slice: x, y or z.")] = "z",
    position: Annotated[
        float | None, typer.Option(help="Where the slice cuts the axis, angstrom [middle].")
    ] = None,
) -> None:
    """Draw a density, or the difference of two, with its atoms."""
    from denser.io import read
    from denser.plot import plot_density, plot_difference

    first = read(file)
    options = {"kind": kind.value, "axis": axis}
    if position is not None:
        options["position"] = position / BOHR
    if isovalue is not None:
        options["isovalue"] = isovalue
    if minus is None:
        plot_density(first, out, **options)
    else:
        plot_difference(first, read(minus), out, **options)
    typer.echo(f"wrote {out}")
