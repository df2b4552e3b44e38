"""Command line: parse, call a workflow, write. Heavy modules are imported by the commands."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer
import typer.main

from denser import __version__
from denser.cli import models
from denser.cli.active import active
from denser.cli.analyze import analyze
from denser.cli.atoms import atoms
from denser.cli.charges import charges
from denser.cli.common import UsageError, usage, with_common_options
from denser.cli.dynamics import dynamics
from denser.cli.energy import energy, scf
from denser.cli.evaluate import compare, evaluate
from denser.cli.features import features
from denser.cli.formats import formats
from denser.cli.info import info
from denser.cli.label import app as labels
from denser.cli.label import label
from denser.cli.optimize import optimize
from denser.cli.plot import plot
from denser.cli.predict import predict
from denser.cli.refine import refine
from denser.cli.scan import scan
from denser.cli.spectrum import spectrum
from denser.cli.train import finetune, train
from denser.cli.tsc import tsc
from denser.cli.view import view
from denser.types.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Predict the DFT electron density of a molecule from its atoms.",
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"denser {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show version."),
    ] = False,
) -> None:
    pass


for command in (
    predict,
    analyze,
    charges,
    features,
    atoms,
    view,
    energy,
    scf,
    plot,
    compare,
    evaluate,
    label,
    train,
    finetune,
    active,
    optimize,
    dynamics,
    spectrum,
    refine,
    tsc,
    scan,
    formats,
    info,
):
    app.command()(with_common_options(command))
app.add_typer(models.app, name="models")
app.add_typer(labels, name="labels")


def main() -> None:
    """Entry point; a wrong command line or input is one sentence on standard error, exit code 2.

    SIGTERM, which batch systems send to end a job, is treated like Ctrl-C. Threads that wait for
    others sleep (OMP_WAIT_POLICY): on a busy machine those that spin take the processors that the
    others wait for, and a command may take many times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for i, argument in enumerate(sys.argv[1:], start=1):
        if not argument.strip():
            typer.echo(f"denser: argument {i} is empty; was a variable not set?", err=True)
            sys.exit(2)
    try:
        code = app(prog_name="denser", standalone_mode=False)
    except InputError as error:
        typer.echo(f"denser: {error}", err=True)
        sys.exit(2)
    except UsageError as error:
        typer.echo(usage(error, typer.main.get_command(app)), err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)
