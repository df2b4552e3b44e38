"""`denser info`."""

from __future__ import annotations

import typer

from denser.cli.options import JsonObject


def info(json: JsonObject = False) -> None:
    """Show versions, optional packages, devices, models and settings; for reports of bugs too."""
    from denser.workflows.installation import installation, lines
    from denser.workflows.many import print_json

    record = installation()
    if json:
        print_json(record)
    else:
        typer.echo("\n".join(lines(record)))
