"""`denser models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denser.cli.common import with_common_options
from denser.types.errors import InputError

app = typer.Typer(no_args_is_help=True, help="List and import models.")


@app.command("list")
@with_common_options
def models_list() -> None:
    """List the shipped models with their measured errors."""
    from denser.model.checkpoint import load_model, shipped_models

    for name in shipped_models():
        model = load_model(name)
        error = model.mean_percent
        recipe = model.recipe
        typer.echo(
            f"{name}  {model.architecture}, {model.n_parameters:,} parameters, "
            f"{recipe.xc.upper()}/{recipe.basis.upper()}, SAD {recipe.sad}"
            + (f", validation Err_rho {error:.2f} %" if error is not None else "")
        )


@app.command("import")
@with_common_options
def models_import(
    checkpoint: Annotated[Path, typer.Argument(help="Published .pth checkpoint.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Model file; default: CHECKPOINT.safetensors."),
    ] = None,
    sad: Annotated[str, typer.Option(help="SAD recipe that it was trained with.")] = "gth-szv-1e",
) -> None:
    """Convert a checkpoint published with Li et al. (2025) into a model file."""
    from denser.model.checkpoint import import_published, save_model

    model = import_published(checkpoint, sad)
    path = out or checkpoint.with_suffix(".safetensors")
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a model file ends in .safetensors")
    save_model(path, model)
    typer.echo(
        f"wrote {path} (x{model.network.multiple_of} model, {model.n_parameters:,} parameters)"
    )
