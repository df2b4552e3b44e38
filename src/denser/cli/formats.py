"""`denser formats`."""

from __future__ import annotations

from typing import Annotated

import typer


def formats(
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object per format on standard output.")
    ] = False,
) -> None:
    """List the file formats: endings, and what is taken from a file."""
    import json as json_module

    from denser.io.formats import listed

    if json:
        for row in listed():
            typer.echo(json_module.dumps(row))
        return
    last = ""
    for row in listed():
        if row["holds"] != last:
            last = str(row["holds"])
            typer.echo(f"{last.capitalize()}:")
        typer.echo(f"  {' '.join(row['endings'])}  {row['format']} ({row['library']})")
        for key in ("charge", "title", "frames", "cell", "unit", "contents"):
            if row.get(key, "none") != "none":
                typer.echo(f"      {key}: {row[key]}")
    typer.echo(
        "\nEach name may end in .gz, .bz2 or .xz. ASE reads more formats of structures: POSCAR, "
        ".gen, .xsd, ..."
    )
