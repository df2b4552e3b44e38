"""`denser models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from denser.cli.common import with_common_options
from denser.cli.options import JsonObject
from denser.types.errors import InputError

app = typer.Typer(no_args_is_help=True, help="List, describe and import models.")


@app.command("list")
@with_common_options
def models_list(json: JsonObject = False) -> None:
    """List the shipped models with their measured errors."""
    from denser.model.checkpoint import load_model, shipped_models
    from denser.workflows.many import print_json

    found = [load_model(name).describe() for name in shipped_models()]
    if json:
        print_json({"models": found})
        return
    for record in found:
        typer.echo(f"{record['name']}  {_network(record)}{_error(record)}")


@app.command("info")
@with_common_options
def models_info(
    model: Annotated[str, typer.Argument(help="Shipped model or model file.")] = "default",
    json: JsonObject = False,
) -> None:
    """Describe a model: network, level of theory, elements, training and measured errors."""
    from denser.model.checkpoint import load_model, model_path
    from denser.workflows.many import print_json

    path = model_path(model)
    record = load_model(model).describe() | {"file": str(path), "bytes": path.stat().st_size}
    if json:
        print_json(record)
    else:
        typer.echo("\n".join(_lines(record)))


@app.command("pack-state")
@with_common_options
def models_pack_state(
    run: Annotated[Path, typer.Argument(help="Folder of `denser train`, finished or not.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write (.safetensors).")],
    json: JsonObject = False,
) -> None:
    """Pack the state of a training run into a file; `denser train --state FILE` goes on with it."""
    from denser.training.packed_state import pack_state
    from denser.workflows.many import print_json

    pack_state(run, out)
    n_bytes = out.stat().st_size
    if json:
        print_json({"output": str(out), "bytes": n_bytes})
    else:
        typer.echo(f"wrote {out} ({n_bytes / 1e6:.1f} MB)")


@app.command("expect-errors")
@with_common_options
def models_expect_errors(
    model: Annotated[str, typer.Argument(help="Shipped model or model file.")],
    labels: Annotated[Path, typer.Argument(help="Labels: a store, a shard, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write (.safetensors).")],
    learnt: Annotated[
        int,
        typer.Option(
            min=0,
            help="Take this number of labels that it was trained on, too. They help to tell atoms "
            "with large errors from others; the size of errors is that of the other labels.",
        ),
    ] = 0,
    json: JsonObject = False,
) -> None:
    """Give a model an estimate of its own errors, from labels that it was not trained on."""
    import torch
    from rich.console import Console

    from denser.model.checkpoint import load_model, save_model
    from denser.training.dataset import read_all
    from denser.training.expected_errors import trained_on, usable, with_expected_errors
    from denser.workflows.many import print_json
    from denser.workflows.progress import Bar

    _require_model_name(out)
    start = load_model(model)
    found_labels = read_all((str(labels),), start.recipe)
    more = trained_on(start, found_labels, learnt)
    chosen = usable(start, found_labels, len(more))
    with Bar("measuring", len(chosen) + len(more), Console(stderr=True, highlight=False)) as bar:
        found = with_expected_errors(start, chosen, bar.advance, more)
    weights = list(start.network.parameters())
    rounded = all(torch.equal(p, p.half().float()) for p in weights)  # as shipped models are
    save_model(out, found, torch.float16 if rounded else torch.float32)
    record = {"output": str(out), "n_labels": len(chosen), "n_learnt": len(more)}
    if json:
        print_json(record)
    else:
        typer.echo(
            f"wrote {out}: expected errors from {len(chosen)} labels"
            f"{f' and {len(more)} that it was trained on' if more else ''}"
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
    json: JsonObject = False,
) -> None:
    """Convert a checkpoint published with Li et al. (2025) into a model file."""
    from denser.model.checkpoint import import_published, save_model
    from denser.workflows.many import print_json

    model = import_published(checkpoint, sad)
    path = out or checkpoint.with_suffix(".safetensors")
    _require_model_name(path)
    save_model(path, model)
    if json:
        print_json(model.describe() | {"output": str(path), "bytes": path.stat().st_size})
        return
    typer.echo(
        f"wrote {path} (x{model.network.multiple_of} model, {model.n_parameters:,} parameters)"
    )


def _require_model_name(path: Path) -> None:
    """Raise an InputError unless a path has the ending of a model file."""
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a model file ends in .safetensors")


def _network(record: dict[str, Any]) -> str:
    recipe = record["recipe"]
    return (
        f"{record['architecture']}, {record['n_parameters']:,} parameters, "
        f"{recipe['xc'].upper()}/{recipe['basis'].upper()}, SAD {recipe['sad']}"
    )


def _error(record: dict[str, Any]) -> str:
    error = record["mean_percent"]
    return "" if error is None else f", validation Err_rho {error:.2f} %"


def _lines(record: dict[str, Any]) -> list[str]:
    """Text of a description."""
    from denser.types.units import BOHR

    recipe, training = record["recipe"], record["training"]
    elements = record["elements"]
    rows = [
        ("network", f"{record['architecture']}, {record['n_parameters']:,} parameters"),
        (
            "recipe",
            f"{recipe['xc']}, {recipe['basis']}, {recipe['pseudo']}, spacing "
            f"{recipe['spacing_bohr'] * BOHR:.4f} angstrom, SAD {recipe['sad']}",
        ),
        (
            "elements",
            " ".join(elements) if elements else "all that have a table of superposed atoms",
        ),
        ("trained on", f"{training['n_train']} labels" if "n_train" in training else "unknown"),
    ]
    if "parent" in training:
        rows.append(("started from", str(training["parent"]["name"])))
    if record["measured"]:
        rows.append(("Err_rho, %", ", ".join(_measured(record["measured"]))))
    if "note" in training:
        rows.append(("note", training["note"]))
    settings = (f"{key} {value}" for key, value in record["config"].items())
    rows.append(("config", ", ".join(settings)))
    width = max(len(title) for title, _ in rows)
    head = f"{record['name']}: {record['file']}, {record['bytes'] / 1e6:.1f} MB"
    shown = [f"{title:{width}}  {text}" for title, text in rows]
    return [head, *shown]


def _measured(measured: dict[str, Any], before: str = "") -> list[str]:
    """Names and values; the errors have keys such as `validation_mean_percent`."""
    parts: list[str] = []
    for key, value in measured.items():
        name = f"{before}{key}".replace("_", " ").removesuffix(" percent")
        if isinstance(value, dict):
            parts += _measured(value, f"{name} ")
        elif key.endswith("_percent"):
            parts.append(f"{name} {value:.3f}")
        elif key == "n":
            parts.append(f"{before}{value:.0f} labels")
    return parts
