"""`denser labels pack`, `unpack` and `contents`: labels in shards."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from denser.cli.options import JsonObject

Shard = Annotated[Path, typer.Argument(help="Shard of labels (.shard).")]


def pack(
    stores: Annotated[list[Path], typer.Argument(help="Stores of labels (.db).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New shard (.shard).")],
    note: Annotated[str, typer.Option(help="How the labels were made, for the header.")] = "",
    json: JsonObject = False,
) -> None:
    """Pack labels into a small file for publication and training, about 2 kB each.

    Held-out molecules and labels that other shards in the folder already contain are left out.
    """
    from denser.workflows.label import packing
    from denser.workflows.many import print_json
    from denser.workflows.progress import is_quiet

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() and not is_quiet():
            typer.echo(f"\r{done} of {total}", err=True, nl=done == total)

    try:
        result = packing.pack(stores, out, note, show)
    except KeyboardInterrupt:
        typer.echo("denser: stopped; nothing was written", err=True)
        raise typer.Exit(130) from None
    if json:
        record = {"n_labels": result.packed, "bytes": result.size, "left_out": result.left_out}
        print_json({"output": str(out)} | record)
        return
    for reason, names in result.left_out.items():
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        typer.echo(f"left out   {len(names)}: {reason} ({shown})")
    size = result.size
    typer.echo(
        f"{result.packed} labels packed into {out}: {size / 1e6:.2f} MB, "
        f"{size / result.packed / 1e3:.2f} kB each"
    )


def unpack(
    shard: Shard,
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")],
    json: JsonObject = False,
) -> None:
    """Write the atoms (extended XYZ) and the densities at points (.npz) of a shard.

    A shard does not contain the orbitals or the density at other points.
    """
    from denser.workflows.label import packing
    from denser.workflows.many import print_json

    n = packing.unpack(shard, out)
    if json:
        print_json({"input": str(shard), "output": str(out), "n_labels": n})
        return
    typer.echo(
        f"{n} labels written to {out}: structures.extxyz, and NAME.npz with the density at points; "
        "a shard contains no orbitals and no density at other points"
    )


def contents(
    folder: Annotated[Path, typer.Argument(help="Folder of shards.")] = Path("data"),
    json: JsonObject = False,
) -> None:
    """Write labels.csv, the table of contents of a folder of shards, into the folder."""
    from denser.workflows.label import packing
    from denser.workflows.many import print_json

    path = packing.write_contents(folder)
    if json:
        print_json({"input": str(folder), "output": str(path)})
    else:
        typer.echo(f"wrote {path}")


def shard_info(path: Path, as_json: bool) -> None:
    """Print a summary of a shard."""
    from denser.workflows.label import packing
    from denser.workflows.many import print_json

    record = packing.shard_record(path)
    if as_json:
        print_json(record)
    else:
        typer.echo(_summary(record))


def _summary(record: dict[str, Any]) -> str:
    from denser.types.units import BOHR

    recipe, n = record["recipe"], record["n_labels"]
    lines = [
        f"{record['input']}: {n} training labels, {record['n_atoms']} atoms "
        f"({record['fewest_atoms']} to {record['most_atoms']} each), "
        f"{record['bytes'] / 1e6:.2f} MB",
        f"recipe     {recipe['xc']}, {recipe['basis']}, {recipe['pseudo']}, "
        f"spacing {recipe['spacing_bohr'] * BOHR:.4f} angstrom, SAD {recipe['sad']}",
        f"density    rho - SAD at {record['n_points']} points; rounding adds an Err_rho of "
        f"{record['rounding_err_rho_percent']:.3f} %",
        f"distorted  {record['n_distorted']}",
    ]
    for title in ("elements", "sources", "boxes", "attempts", "charges"):
        if record[title]:
            shown = ", ".join(f"{key} {count}" for key, count in record[title].items())
            lines.append(f"{title:10} {shown}")
    lines.append(f"size       {record['bytes'] / n / 1e3:.2f} kB a label")
    lines.append(f"packed by  {record['packed_by']}" + f"; {record['note']}" * bool(record["note"]))
    return "\n".join(lines)
