"""`denser labels pack`, `unpack` and `contents`: labels in shards."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

Shard = Annotated[Path, typer.Argument(help="Shard of labels (.shard).")]


def pack(
    stores: Annotated[list[Path], typer.Argument(help="Stores of labels (.db).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New shard (.shard).")],
    note: Annotated[str, typer.Option(help="How the labels were made, for the header.")] = "",
) -> None:
    """Pack labels into a small file for publication and training, about 2 kB each.

    Held-out molecules and labels that other shards in the folder already contain are left out.
    """
    from denser.workflows.label import packing
    from denser.workflows.many import is_quiet

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() and not is_quiet():
            typer.echo(f"\r{done} of {total}", err=True, nl=done == total)

    try:
        result = packing.pack(stores, out, note, show)
    except KeyboardInterrupt:
        typer.echo("denser: stopped; nothing was written", err=True)
        raise typer.Exit(130) from None
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
) -> None:
    """Write the atoms (extended XYZ) and the densities at points (.npz) of a shard.

    A shard does not contain the orbitals or the density at other points.
    """
    from denser.workflows.label import packing

    n = packing.unpack(shard, out)
    typer.echo(
        f"{n} labels written to {out}: structures.extxyz, and NAME.npz with the density at points; "
        "a shard contains no orbitals and no density at other points"
    )


def contents(
    folder: Annotated[Path, typer.Argument(help="Folder of shards.")] = Path("data"),
) -> None:
    """Write labels.csv, the table of contents of a folder of shards, into the folder."""
    from denser.workflows.label import packing

    typer.echo(f"wrote {packing.write_contents(folder)}")


def info(path: Path) -> str:
    """Summary of a shard in words."""
    from denser.labels.packed import read_shard
    from denser.types.units import BOHR

    shard = read_shard(path)
    header, labels = shard.header, shard.labels
    recipe, n = labels[0].recipe, len(labels)
    size = path.stat().st_size
    n_atoms = [len(label.structure) for label in labels]
    elements: Counter[str] = Counter()
    for label in labels:
        elements.update(set(label.structure.symbols))
    n_distorted = sum(label.name != label.molecule for label in labels)
    lines = [
        f"{path}: {n} training labels, {sum(n_atoms)} atoms ({min(n_atoms)} to {max(n_atoms)} "
        f"each), {size / 1e6:.2f} MB",
        f"recipe     {recipe.xc}, {recipe.basis}, {recipe.pseudo}, "
        f"spacing {recipe.spacing * BOHR:.4f} angstrom, SAD {recipe.sad}",
        f"density    rho - SAD at {header['n_points']} points; rounding adds an Err_rho of "
        f"{header['rounding_err_rho_percent']:.3f} %",
        f"distorted  {n_distorted}",
    ]
    for title, counts in (
        ("elements", elements),
        ("sources", Counter(label.record["source"] for label in labels)),
        ("boxes", Counter(label.record["box"] for label in labels)),
        ("attempts", Counter(label.record["attempt"] for label in labels)),
        ("charges", Counter(f"{q:+d}" for x in labels if (q := x.structure.charge))),
    ):
        if counts:
            shown = ", ".join(f"{key} {count}" for key, count in counts.most_common())
            lines.append(f"{title:10} {shown}")
    lines.append(f"size       {size / n / 1e3:.2f} kB a label")
    lines.append(
        f"packed by  {header['packed_by']}" + (f"; {header['note']}" * bool(header["note"]))
    )
    return "\n".join(lines)
