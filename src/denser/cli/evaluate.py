"""`denser evaluate` and `denser compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denser.cli.options import Copies, Device, JsonObject, prediction_options
from denser.types.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from denser.fields.metrics import Comparison
    from denser.labels.label import Label
    from denser.model.predictor import Predictor
    from denser.types.density import Density, Field
    from denser.workflows.evaluate.records import Evaluation


def evaluate(
    model: Annotated[str, typer.Argument(help="Shipped model or model file.")],
    labels: Annotated[Path, typer.Argument(help="Store of labels (.db) or folder of .npz labels.")],
    validation: Annotated[
        bool, typer.Option("--validation", help="Only the model's validation molecules.")
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="All labels, including those used for training.")
    ] = False,
    select: Annotated[
        list[str] | None, typer.Option(help="Only labels with this name or pattern (qm9_00*).")
    ] = None,
    fitting: Annotated[
        bool, typer.Option("--fitting", help="Also measure Gaussian density fitting (slow).")
    ] = False,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Treat the molecules as isolated, not periodic.")
    ] = False,
    json: JsonObject = False,
    csv: Annotated[Path | None, typer.Option(help="Write one row for each molecule.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the distribution of the errors: .png, .svg or .pdf")
    ] = None,
    average: Copies = 1,
    worst: Annotated[
        int,
        typer.Option(
            min=0, help="Write cube files and pictures of the errors of the N worst molecules."
        ),
    ] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for --worst.")] = None,
    device: Device = "auto",
    fp32: Annotated[bool, typer.Option("--fp32", help="Run the convolutions in float32.")] = False,
) -> None:
    """Measure the Err_rho of a model on labelled molecules, also by element, distance and size."""
    if validation and all_:
        raise InputError("--validation and --all exclude each other; give one of them")
    if worst and out is None:
        raise InputError("--worst needs a folder; give -o FOLDER")
    if out is not None and not worst:
        raise InputError(
            "-o is the folder for --worst; give the number of molecules, as in --worst 5"
        )
    for path in (csv, plot):
        if path is not None and not path.parent.is_dir():  # before hours of work
            raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    if plot is not None:
        from denser.pictures.plot import check_suffix

        check_suffix(plot)

    from rich.console import Console

    from denser.model.predictor import Predictor
    from denser.workflows.evaluate.measure import choose, read_each
    from denser.workflows.evaluate.records import Evaluation, sentences, tables

    width = None if sys.stdout.isatty() else 120
    console = Console(stderr=json, highlight=False, width=width)
    told = Console(stderr=True, highlight=False, soft_wrap=True)
    options = prediction_options(None, model, device=device, average=average)
    predictor = Predictor.of(options, bf16=False if fp32 else None)
    found, broken = read_each(labels, predictor.model.recipe)
    for failure in broken:
        told.print(f"denser: {failure.error}", markup=False)
    part = "validation" if validation else "all" if all_ else "unseen"
    chosen, selection = choose(found, predictor.model, part, select or ())
    console.print(
        f"model {predictor.model.name}, {predictor.model.n_parameters:,} parameters, "
        f"{'bfloat16' if predictor.bf16 else 'float32'}, SAD {predictor.model.recipe.sad}\n"
        f"{selection}",
        markup=False,
    )
    results, stopped = _measure(chosen, predictor, not isolated, fitting, told)
    evaluation = Evaluation.of(predictor.model.name, [*broken, *results], selection)
    if stopped:
        told.print(f"stopped after {len(results)} of {len(chosen)}; the results so far follow")
    if evaluation.rows:
        for table in tables(evaluation):
            console.print(table)
        for line in sentences(evaluation):
            console.print(line, markup=False)
        _write(evaluation, json, csv, plot, console)
        if worst and out is not None and not stopped:
            try:
                _write_worst(evaluation, worst, chosen, predictor, out, not isolated, console, told)
            except KeyboardInterrupt:
                told.print(f"stopped before all of the worst were written to {out}", markup=False)
                stopped = True
    if stopped:
        raise typer.Exit(130)
    if evaluation.failures:
        n = len(evaluation.failures)
        told.print(f"{n} of {n + len(evaluation.rows)} labels could not be measured")
        raise typer.Exit(2)


def _measure(
    labels: list[Label], predictor: Predictor, periodic: bool, fitting: bool, told: Console
) -> tuple[list, bool]:
    """Results so far, and whether Ctrl-C stopped the measurement."""
    from denser.workflows.evaluate.measure import measure_each
    from denser.workflows.evaluate.records import Failure
    from denser.workflows.progress import Bar

    results: list = []
    try:
        with Bar("measuring", len(labels), told) as bar:
            for result in measure_each(labels, predictor, periodic, fitting):
                results.append(result)
                if isinstance(result, Failure):
                    told.print(f"denser: {result.name}: {result.error}", markup=False)
                bar.advance(isinstance(result, Failure))
    except KeyboardInterrupt:
        return results, True
    return results, False


def _write(
    evaluation: Evaluation,
    json: bool,
    csv: Path | None,
    plot: Path | None,
    console: Console,
) -> None:
    """Write the files that were asked for."""
    if csv is not None:
        evaluation.write_csv(csv)
        console.print(f"wrote {csv}", markup=False)
    if plot is not None:
        from denser.pictures.distributions import plot_distribution
        from denser.workflows.evaluate.records import TITLES

        keys = evaluation.rows[0].errors
        plot_distribution({TITLES[key]: evaluation.errors(key) for key in keys}, plot)
        console.print(f"wrote {plot}", markup=False)
    if json:
        from denser.workflows.many import print_json

        print_json(evaluation.to_dict())


def _write_worst(
    evaluation: Evaluation,
    n: int,
    labels: list[Label],
    predictor: Predictor,
    folder: Path,
    periodic: bool,
    console: Console,
    told: Console,
) -> None:
    """Error cubes and pictures of the worst molecules."""
    from denser.io.files import make_folder
    from denser.workflows.evaluate.measure import write_error
    from denser.workflows.many import Failed, attempt

    make_folder(folder)
    named = {label.name: label for label in labels}
    for row in evaluation.worst(n):
        written = attempt(write_error, named[row.name], predictor, folder, periodic)
        if isinstance(written, Failed):
            told.print(f"denser: {row.name}: {written.error}", markup=False)
            continue
        paths, note = written
        percent = 100 * row.errors["model"]
        console.print(f"wrote {', '.join(map(str, paths))} ({percent:.3f} %)", markup=False)
        if note:
            told.print(f"no picture of {note}", markup=False)


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="Density file (see denser formats), or a molecule.")
    ],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="The reference, on the same grid; or a molecule.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write A - B to this file.")
    ] = None,
    json: JsonObject = False,
) -> None:
    """Compare two density files on the same grid, or the potentials of two superposed molecules.

    Densities: Err_rho, electrons, dipoles, largest error. Molecules: similarity of the potentials.
    """
    from denser.fields.metrics import compare as compare_densities
    from denser.io import check_suffix, is_density_file, read, write
    from denser.workflows.inputs import split_slice

    for path in (first, second):
        if not split_slice(path)[0].exists():
            raise InputError(f"{path}: no such file")
    if not any(is_density_file(path) for path in (first, second)):
        if out is not None:
            raise InputError("-o is for the difference of two densities, found two structures")
        _compare_molecules(first, second, json)
        return
    if out is not None:
        check_suffix(out)
    a, b = read(first), read(second)
    found = compare_densities(a, b)
    if out is not None:
        from dataclasses import replace

        write(out, replace(b if hasattr(b, "structure") else a, values=(a - b).values))
    if json:
        from denser.workflows.many import print_json

        record = found.to_dict()
        for name, path in (("a", first), ("b", second)):
            record[name] = {"input": str(path)} | record[name]
        print_json(record | {"output": None if out is None else str(out)})
        return
    _print_comparison(found, (first, second), (a, b))
    if out is not None:
        typer.echo(f"wrote {out} (A - B)")


def _compare_molecules(first: Path, second: Path, json: bool) -> None:
    """Print the similarity of the potentials of two molecules."""
    from denser.workflows.similarity import compare_molecules

    found = compare_molecules(first, second)
    if json:
        from denser.workflows.many import print_json

        print_json(found)
        return
    typer.echo(
        f"A {found['a']['formula']}, B {found['b']['formula']}: similarity of the potentials "
        f"{found['carbo']:.3f} (Carbo), {found['hodgkin']:.3f} (Hodgkin) at {found['points']} "
        "points"
    )
    for note in found["notes"]:
        typer.echo(f"note: {note}")


def _print_comparison(
    found: Comparison, files: tuple[Path, Path], fields: tuple[Field | Density, ...]
) -> None:
    from rich.console import Console
    from rich.table import Table

    from denser.types.units import BOHR, DEBYE

    table = Table()
    for column in ("", f"A: {files[0].name}", f"B: {files[1].name} (reference)"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("electrons", *[f"{n:.5f}" for n in found.electrons])
    table.add_row("atoms", *[_atoms(field) for field in fields])
    dipoles = [None if d is None else d * DEBYE for d in found.dipoles]
    table.add_row(
        "dipole / debye",
        *["" if d is None else f"{(d @ d) ** 0.5:.4f}" for d in dipoles],
    )
    table.add_row("", *["" if d is None else "  ".join(f"{x:.4f}" for x in d) for d in dipoles])
    Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)
    x, y, z = found.where * BOHR
    typer.echo(
        f"Err_rho {100 * found.err_rho:.4f} %, largest A - B {found.largest:+.5g} e/bohr^3 at "
        f"({x:.3f}, {y:.3f}, {z:.3f}) A"
    )
    for note in found.notes:
        typer.echo(f"note: {note}")


def _atoms(field: Field | Density) -> str:
    structure = getattr(field, "structure", None)
    if structure is None:
        return "none"
    charge = f" {structure.charge:+d}" if structure.charge else ""
    return f"{structure.formula}{charge}, {len(structure)} atoms"
