"""`denser analyze`: the table in `denser.analysis.catalogue` gives one option for each property."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from denser.analysis.catalogue import (
    CHARGES,
    DEFAULT,
    FIELDS,
    PROPERTIES,
    FieldEntry,
    Property,
    description,
    needs_orbitals,
    unknown,
)
from denser.cli.options import (
    BoxOrCube,
    Charge,
    Device,
    Dispersion,
    Embed,
    ExecutorName,
    Json,
    ModelName,
    Multiplicity,
    Padding,
    Refine,
    Smiles,
    Spacing,
    Spin,
    Topology,
    Workers,
    parsl_file,
    prediction_options,
    unpaired,
)
from denser.types.errors import InputError

if TYPE_CHECKING:
    from denser.workflows.report.report import Report

Flag = bool

FEW = 10
"""Up to this number of inputs, properties such as --esp write their fields and pictures.
Fields that --field names are always written."""

MOST_PRINTED = 5
"""Largest number of inputs whose properties are printed if there is a report too."""

PANEL = "Properties"


def with_flags(command: Callable) -> Callable:
    """Give a command a flag for each property that is not a kind of charges.

    These flags replace the parameter `named` of the command, which is called with the set of the
    names that were given.
    """
    flags = {name.replace("-", "_"): name for name in PROPERTIES if name not in CHARGES}
    own = inspect.signature(command, eval_str=True)
    parameters = []
    for parameter in own.parameters.values():
        if parameter.name != "named":
            parameters.append(parameter)
            continue
        for variable, name in flags.items():
            option = typer.Option(
                f"--{name}", help=_sentence(PROPERTIES[name]), rich_help_panel=PANEL
            )
            parameters.append(
                parameter.replace(name=variable, default=False, annotation=Annotated[bool, option])
            )

    @wraps(command)
    def with_set(**values: object) -> None:
        named = {name for variable, name in flags.items() if values.pop(variable)}
        command(named=named, **values)

    described: Any = with_set
    del described.__wrapped__  # typer would ask it for the parameters
    described.__signature__ = own.replace(parameters=parameters)
    described.__annotations__ = {p.name: p.annotation for p in parameters}
    return described


def _sentence(entry: Property | FieldEntry) -> str:
    text = description(entry)
    return f"{text[0].upper()}{text[1:]}."


def _listed(table: dict) -> str:
    """Lines of names and what they are, for `--field help` and `--charges help`."""
    width = max(map(len, table))
    return "\n".join(f"{name:{width}s}  {description(entry)}" for name, entry in table.items())


@with_flags
def analyze(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Structures, whose density is predicted, or density files (see denser formats)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report.")] = None,
    smiles: Smiles = None,
    embed: Embed = False,
    topology: Topology = None,
    charges: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Atomic charges: {', '.join(CHARGES)} or all. May be repeated, or take a list "
            "with commas; --charges help describes them.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    named: Set[str] = frozenset(),
    all_: Annotated[
        Flag,
        typer.Option(
            "--all",
            help="All properties that need no Kohn-Sham steps.",
            rich_help_panel=PANEL,
        ),
    ] = False,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Write a field: {', '.join(FIELDS)}. May be repeated, or take a list with "
            "commas; --field help describes them.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    xray: Annotated[
        float | None,
        typer.Option(
            help="Write X-ray structure factors, map and .tsc to this resolution, angstrom."
        ),
    ] = None,
    cryo: Annotated[
        float | None,
        typer.Option(help="Write a cryo-EM map of the potential at this resolution, angstrom."),
    ] = None,
    b_factor: Annotated[
        float, typer.Option(help="B factor of all atoms in --xray and --cryo, angstrom^2.")
    ] = 0.0,
    against: Annotated[
        Path | None, typer.Option(help="Compare the map of --xray or --cryo with this one.")
    ] = None,
    fit: Annotated[
        Flag, typer.Option("--fit", help="First move the structure into the map of --against.")
    ] = False,
    minus: Annotated[Path | None, typer.Option(help="Subtract the density in this file.")] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Count the electrons in a region: a file with weights from 0 to 1."),
    ] = None,
    planar_average: Annotated[
        str | None,
        typer.Option(metavar="AXIS", help="Write planar averages along x, y or z as .csv."),
    ] = None,
    charges_format: Annotated[
        str | None,
        typer.Option(help="Write the charges as mol2, sdf, xml (OpenMM), itp, pqr, json or csv."),
    ] = None,
    coarsen: Annotated[
        int, typer.Option(help="Write fields on every N-th node, with the same total charge.")
    ] = 1,
    format: Annotated[
        str, typer.Option(help="Format of fields: cube, ccp4, npz, dx, vti, ...")
    ] = "cube",
    no_pictures: Annotated[
        Flag,
        typer.Option(
            "--no-pictures", help="Do not draw pictures of NCI, potential and critical points."
        ),
    ] = False,
    all_electron: Annotated[
        Flag, typer.Option("--all-electron", help="Density files contain all electrons.")
    ] = False,
    valence: Annotated[
        Flag, typer.Option("--valence", help="Density files contain valence electrons.")
    ] = False,
    parquet: Annotated[
        Flag,
        typer.Option("--parquet", help="Write frames.parquet too: a row for each input."),
    ] = False,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    box: BoxOrCube = "auto",
    padding: Padding = 4.0,
    spacing: Spacing = None,
    refine: Refine = 0,
    steps: Annotated[
        int, typer.Option(min=1, help="Number of Kohn-Sham steps for the orbitals.")
    ] = 1,
    basis: Annotated[
        str | None,
        typer.Option(help="Basis of --polarizability; default aug-gth-tzv2p (denser energy)."),
    ] = None,
    dispersion: Annotated[
        Dispersion, typer.Option(help="Dispersion in --pair-energies.")
    ] = Dispersion.d3bj,
    fragments: Annotated[
        str,
        typer.Option(
            help="Molecules of --interaction-energies: bonds, or numbers of atoms, such as "
            "1-3,4-6, with charges 1-5:1,6:-1."
        ),
    ] = "bonds",
    isovalue: Annotated[
        float, typer.Option(help="Isovalue of the surface for the potential, e/bohr^3.")
    ] = 0.001,
    workers: Workers = 1,
    executor: ExecutorName = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Compute properties of predicted or given densities: charges, potentials, topology, ..."""
    from denser.workflows.inputs import find_inputs
    from denser.workflows.report.outputs import ReportSettings
    from denser.workflows.report.report import Report

    for words, table in (
        (field, FIELDS),
        (charges, {name: PROPERTIES[name] for name in CHARGES}),
    ):
        if words and "help" in words:
            typer.echo(_listed(table))
            raise typer.Exit
    if all_electron and valence:
        raise InputError("--all-electron and --valence exclude each other; give one of them")
    words = [word for text in charges or () for word in text.split(",")]
    paths = []
    for path in files or ():  # in `--charges hirshfeld bader` the parser takes bader for a file
        if charges and str(path) in CHARGES and not path.exists():
            words.append(str(path))
        else:
            paths.append(path)
    for name in words:
        if name not in (*CHARGES, "all"):
            raise unknown("charges", name, (*CHARGES, "all"))
    named = named | set(CHARGES if "all" in words else words)
    wanted = set(named)
    if all_:
        wanted |= {name for name, entry in PROPERTIES.items() if not needs_orbitals(entry)}
    fields = [name for text in field or () for name in text.split(",")]
    inputs = find_inputs(paths, smiles or [], embed=embed, topology=topology)
    few = out is not None and len(inputs) <= FEW
    if few:
        fields += [f for name in PROPERTIES if name in named for f in PROPERTIES[name].fields]
    if not (wanted or fields or xray or cryo or planar_average or mask or minus):
        wanted = set(DEFAULT)
    settings = ReportSettings(
        properties=tuple(name for name in PROPERTIES if name in wanted),
        fields=tuple(dict.fromkeys(fields)),
        optional=tuple(sorted(wanted - named)) if all_ else (),
        format=format.lstrip("."),
        pictures=few and not no_pictures,
        kind="all-electron" if all_electron else "valence" if valence else "auto",
        options=prediction_options(
            charge,
            model,
            box,
            padding,
            device,
            spacing,
            refine=refine,
            spin=unpaired(spin, multiplicity),
        ),
        steps=steps,
        isovalue=isovalue,
        basis=basis,
        dispersion=dispersion.value,
        fragments=fragments,
        xray=xray,
        cryo=cryo,
        b_factor=b_factor,
        charges_format=charges_format,
        planar_average=planar_average,
        coarsen=coarsen,
        mask=None if mask is None else str(mask),
        minus=None if minus is None else str(minus),
        against=None if against is None else str(against),
        fit=fit,
    )
    report = Report(inputs, settings, out, parquet)
    raise typer.Exit(_run(report, workers, parsl_file(executor), json))


def _run(report: Report, workers: int, parsl: Path | None, as_json: bool) -> int:
    """Analyse with a progress bar; print the properties, or with a report of many the totals."""
    from denser.workflows.many import Display
    from denser.workflows.report.tables import JSON, PARQUET, TABLE, TEXT, text

    n = len(report.inputs)
    printed = report.folder is None or n <= MOST_PRINTED

    def summary(record: dict) -> str:
        return "\n".join(text(record | {"errors": {}})) if printed else ""

    def notes(record: dict) -> list[str]:
        names: dict[str, list[str]] = {}  # what has one cause is one sentence
        for name, error in record["errors"].items():
            names.setdefault(error, []).append(name)
        errors = [f"{', '.join(those)}: {error}" for error, those in names.items()]
        return errors if printed else [*record["warnings"], *errors]

    present = len(report.present)
    with Display("analysing", "analysed", n, summary, as_json, notes, present) as display:
        totals = report.run(workers, display.show, parsl)
    again = "run the same command to continue" if report.folder is not None else ""
    code = display.end(totals, again=again)
    if report.folder is not None:
        tables = f"{TABLE}, {PARQUET}" if report.parquet else TABLE
        display.lines.print(f"report: {report.folder / TEXT}, {JSON}, {tables}", markup=False)
    return code
