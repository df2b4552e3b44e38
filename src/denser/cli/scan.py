"""`denser scan`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import (
    Device,
    Json,
    ModelName,
    Multiplicity,
    Padding,
    Spin,
    prediction_options,
    unpaired,
)
from denser.types.errors import InputError
from denser.types.units import BOHR


def scan(
    molecules: Annotated[list[str], typer.Argument(help="Diatomic molecules, such as H2 N2 CO.")],
    distances: Annotated[
        str | None,
        typer.Option(help="first:last:step in angstrom; default: from the covalent radii."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the curves to this .csv file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves: .png, .svg or .pdf")] = None,
    charge: Annotated[int, typer.Option(help="Total charge.")] = 0,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    padding: Padding = 4.0,
    scf: Annotated[bool, typer.Option(help="Also compute the self-consistent curve.")] = True,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Scan the bond length of diatomic molecules: energies of the prediction and of the SCF."""
    wanted = None if distances is None else _distances(distances)

    from denser.model.boxes import MIN_PADDING
    from denser.model.predictor import Predictor
    from denser.pictures.plot import check_suffix
    from denser.workflows import scan as scans
    from denser.workflows.many import Failed, print_json, run
    from denser.workflows.progress import is_quiet

    if plot is not None:
        check_suffix(plot)
    if not padding >= MIN_PADDING:
        raise InputError(f"--padding {padding:g} cuts the density off; give at least {MIN_PADDING}")
    n_unpaired = unpaired(spin, multiplicity)
    options = prediction_options(charge, model, padding=padding, device=device, spin=n_unpaired)
    predictor = Predictor.of(options, bf16=False)
    done: list[scans.Scan] = []

    def work(name: str) -> scans.Scan:
        def report(n: int, total: int) -> None:
            if sys.stderr.isatty() and not is_quiet():
                typer.echo(f"\r{name}: {n} of {total}", err=True, nl=n == total)

        return scans.scan(name, wanted, predictor, options, scf, report)

    def take(name: str, result: scans.Scan | Failed) -> None:
        if isinstance(result, Failed):
            prefix = "" if name in result.error else f"{name}: "
            typer.echo(f"denser: {prefix}{result.error}", err=True)
            if json:
                print_json({"input": name, "error": result.error.removeprefix(f"{name}: ")})
        else:
            done.append(result)
            if json:
                print_json({"input": name} | result.to_dict())
            else:
                typer.echo(_summary(result))
            if result.error:
                typer.echo(f"denser: {name}: {result.error}", err=True)

    totals = run(molecules, work, take)
    if totals.interrupted:
        typer.echo(f"stopped after {len(done)} of {len(molecules)} molecules", err=True)
    if csv is not None and done:
        scans.write_csv(csv, done)
        typer.echo(f"wrote {csv}", err=json)
    if plot is not None and done:
        scans.plot_scans(plot, done)
        typer.echo(f"wrote {plot}", err=json)
    totals.failed += sum(bool(curve.error) for curve in done)
    raise typer.Exit(totals.exit_code)


def _distances(text: str) -> list[float]:
    """first:last:step in angstrom to bohr, the last included."""
    try:
        first, last, step = (float(part) for part in text.split(":"))
    except ValueError as error:
        raise InputError(
            f"--distances {text!r} is not first:last:step in angstrom, such as 0.5:2.0:0.05"
        ) from error
    if not (0 < first <= last < 50 and step > 0 and (last - first) / step < 10_000):
        raise InputError(f"--distances {text!r} must increase in positive steps and stay below 50")
    count = int((last - first) / step + 1e-6) + 1
    return [(first + i * step) / BOHR for i in range(count)]


def _summary(curve) -> str:
    """One line: points, both minima and the mean difference of the energies."""
    import numpy as np

    from denser.types.units import HARTREE
    from denser.workflows.scan import minimum

    parts = [f"{curve.name}: {curve.distances.size} points"]
    for label, energies in (("prediction", curve.one_step), ("SCF", curve.scf)):
        if n := np.isfinite(energies).sum():
            r_min = minimum(curve.distances, energies)
            if r_min is not None:
                parts.append(f"{label} lowest at {r_min * BOHR:.4f} angstrom")
            elif n < 5:
                parts.append(f"too few points for the minimum of the {label}")
            else:
                parts.append(f"{label} has no minimum in this range")
    gaps = np.abs(curve.one_step - curve.scf)
    if np.isfinite(gaps).any():
        parts.append(f"energies differ by {1e3 * HARTREE * np.nanmean(gaps):.1f} meV on average")
    if curve.missing:
        parts.append(f"{curve.missing} SCF points NOT CONVERGED")
    return ", ".join(parts)
