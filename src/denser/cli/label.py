"""`denser label` and `denser labels`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from denser.cli.common import with_common_options
from denser.cli.options import (
    Box,
    BoxName,
    Charge,
    Embed,
    ExecutorName,
    Json,
    JsonObject,
    Multiplicity,
    Padding,
    Spin,
    Topology,
    parsl_file,
    prediction_options,
    unpaired,
)
from denser.cli.shards import contents, pack, shard_info, unpack
from denser.types.errors import InputError

if TYPE_CHECKING:
    from denser.labels.store import LabelStore
    from denser.workflows.label import LabelInput, LabelProgress, LabelSettings, LabelTotals

app = typer.Typer(no_args_is_help=True, help="Show, import, export, pack and unpack labels.")
for command in (pack, unpack, contents):
    app.command()(with_common_options(command))

_SHOWN = 10
"""Largest number of reasons for failures that `denser labels info` shows."""

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes of one thread each; default: all processors."),
]
Nice = Annotated[int, typer.Option(min=0, max=19, help="Niceness of the workers.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Try recorded failures again.")]
Residual = Annotated[
    float | None,
    typer.Option(
        help="Take a few Kohn-Sham steps from the prediction instead of an SCF, until the density "
        "changes by less than this, percent (0.35: a quarter of the time)."
    ),
]

Store = Annotated[Path, typer.Argument(help="Store of labels (.db).")]


def label(
    structures: Annotated[
        list[str],
        typer.Argument(
            help="Structure files (all frames), qm9:train[0:5000], qm9:validation, qm9:test or "
            "qm9:FILE with one dsgdb9nsd number per line."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Store of labels (.db).")],
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    embed: Embed = False,
    topology: Topology = None,
    box: BoxName = Box.auto,
    padding: Padding = 4.0,
    spacing: Annotated[
        float | None, typer.Option(help="Grid spacing, angstrom [0.0831]; part of the recipe.")
    ] = None,
    rattle: Annotated[
        float | None,
        typer.Option(help="Also label a distorted copy of each: width per coordinate, angstrom."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the distortions.")] = 0,
    residual: Residual = None,
    max_cycle: Annotated[
        int, typer.Option(help="Largest number of SCF cycles of one attempt.")
    ] = 50,
    workers: Workers = None,
    executor: ExecutorName = None,
    nice: Nice = 0,
    retry_failed: RetryFailed = False,
    json: JsonObject = False,
) -> None:
    """Compute and store reference densities; run it again to continue after an interruption."""
    try:
        from denser.types.units import BOHR
        from denser.workflows.label import rattled, read_inputs

        n_unpaired = unpaired(spin, multiplicity)
        settings = label_settings(charge, n_unpaired, box, padding, residual, spacing, max_cycle)
        parsl = parsl_file(executor)
        found, bad = read_inputs(structures, settings.options, tell, embed, topology)
        if rattle is not None:
            if not 0 < rattle < 1:
                raise InputError(f"--rattle is a width in angstrom below 1, got {rattle:g}")
            pairs = [(entry, rattled(entry, rattle / BOHR, seed)) for entry in found]
            found = [entry for pair in pairs for entry in pair]
        totals = run_labels(found, out, settings, workers, parsl, nice, retry_failed)
    except KeyboardInterrupt:
        tell("stopped before the first calculation")
        raise typer.Exit(130) from None
    _finish(totals, bad, out, json)


def label_settings(
    charge: int | None,
    spin: int | None,
    box: Box,
    padding: float,
    residual: float | None,
    spacing: float | None = None,
    max_cycle: int = 50,
) -> LabelSettings:
    """Settings of labels from the options of a command; `residual` is in percent."""
    from denser.workflows.label import LabelSettings

    options = prediction_options(charge, "default", box, padding, "cpu", spacing, spin=spin)
    return LabelSettings(options, max_cycle, None if residual is None else residual / 100)


def _finish(totals: LabelTotals, bad: int, out: Path, as_json: bool) -> NoReturn:
    """Print the totals, and exit with the corresponding code."""
    if as_json:
        from denser.workflows.many import print_json

        print_json({"output": str(out)} | vars(totals) | {"failed": totals.failed + bad})
    else:
        typer.echo(_summary(totals, bad, out))
    if totals.interrupted:
        tell("stopped; run the same command to continue")
        raise typer.Exit(130)
    raise typer.Exit(2 if totals.failed or totals.failed_before or bad else 0)


def tell(text: str) -> None:
    """A sentence on standard error."""
    typer.echo(f"denser: {text}", err=True)


def run_labels(
    found: list[LabelInput],
    out: Path,
    settings: LabelSettings,
    workers: int | None,
    parsl: Path | None,
    nice: int,
    retry_failed: bool,
) -> LabelTotals:
    """Label with a progress bar on a terminal, otherwise with one line per minute."""
    from rich.console import Console

    from denser.workflows.label import label as label_all
    from denser.workflows.progress import Bar, Notable

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    notable = Notable()
    with Bar("labelling", len(found), console) as bar:

        def show(p: LabelProgress) -> None:
            bar.total = p.total
            failed = p.failed > bar.failed
            notable.add(p.name, p.seconds, failed)
            bar.advance(failed)

        totals = label_all(
            found, out, settings, workers, parsl, nice, retry_failed,
            tell=lambda text: console.print(f"denser: {text}", markup=False), progress=show,
        )  # fmt: skip
    if not bar.quiet:
        for line in notable.lines():
            console.print(line, markup=False)
    return totals


def _summary(totals: LabelTotals, bad: int, out: Path) -> str:
    from denser.workflows.progress import duration

    text = f"{totals.labelled} labelled in {duration(totals.seconds)}"
    if totals.labelled and totals.seconds:
        text += f" ({3600 * totals.labelled / totals.seconds:.0f} an hour)"
    text += f", in {out}"
    text += f"; {totals.present} were there already" if totals.present else ""
    text += f"; {totals.failed + bad} failed" if totals.failed + bad else ""
    if totals.failed_before:
        text += f"; {totals.failed_before} had failed before (--retry-failed tries them again)"
    return text


@app.command("info")
@with_common_options
def labels_info(
    store: Annotated[Path, typer.Argument(help="Store of labels (.db) or shard (.shard).")],
    json: JsonObject = False,
) -> None:
    """Summarise a store or a shard: molecules, boxes, level of theory, failures."""
    from denser.labels.packed import SUFFIX
    from denser.labels.store import LabelStore
    from denser.types.units import BOHR

    if store.suffix == SUFFIX:
        shard_info(store, json)
        return

    with LabelStore(store) as labels:
        found = labels.info()
    if json:
        from denser.workflows.many import print_json

        print_json({"input": str(store)} | found.record())
        return
    recipe, n = found.recipe, found.n_labels
    low, high, total = found.n_atoms
    lines = [
        f"{store}: {n} label{'' if n == 1 else 's'}, {total} atoms"
        + (f" ({low} to {high} each)" if n > 1 else "")
        + f", {found.size / 1e6:.2f} MB",
        f"recipe     {recipe.xc}, {recipe.basis}, {recipe.pseudo}, "
        f"spacing {recipe.spacing * BOHR:.4f} angstrom",
    ]
    for title, counts in (
        ("elements", found.elements),
        ("boxes", found.boxes),
        ("charges", {f"{q:+d}": k for q, k in found.charges.items() if q}),
        ("attempts", found.attempts),
    ):
        if counts:
            ranked = sorted(counts.items(), key=lambda item: -item[1])
            lines.append(f"{title:10} " + ", ".join(f"{key} {count}" for key, count in ranked))
    if n:
        lines.append(f"size       {found.size / n / 1e3:.1f} kB a label")
        lines.append(f"time       {found.seconds / n:.1f} s a label, {found.seconds / 3600:.2f} h")
    reasons = sorted(found.failures.items(), key=lambda item: -len(item[1]))
    for reason, names in reasons[:_SHOWN]:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"failed     {len(names)}: {reason} ({shown})")
    if len(reasons) > _SHOWN:
        n_more = sum(len(names) for _, names in reasons[_SHOWN:])
        lines.append(
            f"failed     {n_more} more; ase db {store} converged=0 -c name,reason lists them"
        )
    typer.echo("\n".join(lines))


@app.command("make")
@with_common_options
def labels_make(
    plan: Annotated[Path, typer.Argument(help="TOML file, such as configs/labels.toml.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Store of labels (.db).")],
    first: Annotated[
        int | None, typer.Option(min=1, help="Only the first N molecules; default: all.")
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            "--except",
            help="Leave out the molecules of this store, shard or folder of shards, such as data; "
            "may be repeated.",
        ),
    ] = None,
    workers: Workers = None,
    executor: ExecutorName = None,
    nice: Nice = 0,
    retry_failed: RetryFailed = False,
    json: JsonObject = False,
) -> None:
    """Label the training set that a TOML file describes; run it again to continue."""
    try:
        from dataclasses import replace

        from denser.labels.reading import names_of_labels
        from denser.workflows.label import planned, read_plan

        found = read_plan(plan)
        if first is not None:
            found = replace(found, molecules=first)
        done = {name for path in without or () for name in names_of_labels(path)}
        everything = planned(found, tell)
        structures = [x for x in everything if x.name not in done]
        if left_out := len(everything) - len(structures):
            tell(f"{left_out} of {len(everything)} molecules left out: their labels are there")
        parsl = parsl_file(executor)
        totals = run_labels(structures, out, found.settings(), workers, parsl, nice, retry_failed)
    except KeyboardInterrupt:
        tell("stopped before the first calculation")
        raise typer.Exit(130) from None
    _finish(totals, 0, out, json)


@app.command("import")
@with_common_options
def labels_import(
    folder: Annotated[Path, typer.Argument(help="Folder of .npz labels.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Store of labels (.db).")],
    json: JsonObject = False,
) -> None:
    """Copy .npz labels of the default level of theory to a store."""
    from denser.labels.store import LabelStore
    from denser.types.recipe import Recipe
    from denser.workflows.label import import_labels

    with LabelStore(out, Recipe()) as store:
        copied, present, bad = import_labels(folder, store, tell)
    if json:
        from denser.workflows.many import print_json

        counts = {"copied": copied, "present": present, "failed": bad}
        print_json({"input": str(folder), "output": str(out)} | counts)
    else:
        text = f"{copied} labels copied to {out}"
        text += f"; {present} were there already" if present else ""
        text += f"; {bad} cannot be used" if bad else ""
        typer.echo(text)
    raise typer.Exit(2 if bad else 0)


@app.command("export")
@with_common_options
def labels_export(
    store: Store,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder.")],
    format: Annotated[str, typer.Option(help="Format (suffix) of the files.")] = "cube",
    select: Annotated[
        list[str] | None,
        typer.Option(help="Name, or range of the sorted names such as 0:10; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Write the densities of labels in the coordinates of their structures."""
    from rich.console import Console

    from denser.io import check_suffix, write
    from denser.io.files import make_folder
    from denser.labels.store import LabelStore
    from denser.workflows.label import label_density
    from denser.workflows.many import Failed, print_json, run
    from denser.workflows.progress import Bar

    suffix = "." + format.lower().lstrip(".")
    check_suffix(Path("x" + suffix))
    with LabelStore(store) as labels:
        names = _selected(labels, select)
        make_folder(out)

        def export(name: str) -> Path:
            path = out / (name + suffix)
            write(path, label_density(labels.read(name)))
            return path

        def take(name: str, result: Failed | Path) -> None:
            what = {"output": str(result)}
            if isinstance(result, Failed):
                what = {"error": result.error}
                tell(f"{name}: {result.error}")
            if json:
                print_json({"input": name} | what)
            bar.advance(isinstance(result, Failed))

        with Bar("writing", len(names), Console(stderr=True, highlight=False)) as bar:
            totals = run(names, export, take)
    n = totals.done
    if totals.interrupted:
        tell(f"stopped after {n} of {len(names)}")
    else:
        typer.echo(f"{n} {'density' if n == 1 else 'densities'} written to {out}", err=json)
    raise typer.Exit(totals.exit_code)


def _selected(labels: LabelStore, select: list[str] | None) -> list[str]:
    names = labels.names()
    if not names:
        raise InputError(f"{labels.path}: holds no labels")
    if not select:
        return names
    chosen: list[str] = []
    for text in select:
        start, colon, stop = text.partition(":")
        if not colon:
            labels.row(text)  # tells what is wrong with the name
            chosen.append(text)
            continue
        if not all(part == "" or part.isdigit() for part in (start, stop)):
            raise InputError(f"--select {text}: expected a name or a range such as 0:10")
        part = names[int(start or 0) : int(stop or len(names))]
        if not part:
            raise InputError(f"--select {text}: selects none of {len(names)} labels")
        chosen += part
    return list(dict.fromkeys(chosen))
