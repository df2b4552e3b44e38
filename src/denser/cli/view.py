"""`denser view`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import Device, Embed, ModelName, Smiles, prediction_options
from denser.types.errors import InputError


def view(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Structure or density files; without files, the sketchpad is empty."),
    ] = None,
    smiles: Smiles = None,
    embed: Embed = False,
    model: ModelName = "default",
    device: Device = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 chooses a free one.")] = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Folder that the page may save into; default: none.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name of a proxy, such as a JupyterHub, that the page is reached through; "
            "localhost is always allowed."
        ),
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    json: Annotated[
        bool, typer.Option("--json", help="The address as one JSON object on standard output.")
    ] = False,
) -> None:
    """Show densities and sketch molecules in the browser."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(f"the viewer needs {missing[0]}; pip install 'denser[view]'")
    from denser.model.predictor import Predictor
    from denser.viewer.items import Item, read_items
    from denser.viewer.server import serve
    from denser.workflows.inputs import shown_names
    from denser.workflows.many import print_json

    paths = files or []
    named = zip(paths, shown_names(paths), strict=True)
    items = [item for path, name in named for item in read_items(path, name, embed)]
    items += [Item.from_smiles(text) for text in smiles or []]

    def tell(address: str) -> None:
        if json:
            print_json({"address": address, "folder": None if folder is None else str(folder)})
        typer.echo(f"denser view: {address}\npress Ctrl-C to stop", err=json)

    also = tuple(allow_host or ())
    predictor = Predictor.of(prediction_options(None, model, device=device))
    serve(items, predictor, host, port, folder, also, browser, tell)
    typer.echo("ended", err=json)
