"""`denser energy` and `denser scf`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denser.cli.predict import Box
from denser.types.errors import InputError

if TYPE_CHECKING:
    from denser.io.structures import Job
    from denser.workflows.energy import Start, Starts

Files = Annotated[
    list[Path] | None,
    typer.Argument(help="Structures, or densities with atoms (.cube, .npz, CHGCAR)."),
]
Smiles = Annotated[list[str] | None, typer.Option(help="SMILES beside, or instead of, files.")]
Charge = Annotated[int | None, typer.Option(help="Total charge; by default the file's.")]
ModelName = Annotated[str, typer.Option(help="Shipped model or model file.")]
BoxName = Annotated[Box, typer.Option(help="auto: the file's cell, else isolated; paper.")]
Padding = Annotated[float, typer.Option(help="Vacuum per side, angstrom.")]
Device = Annotated[str, typer.Option(help="Of the network: auto, cpu, cuda, ...")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per input.")]


def energy(
    files: Files = None,
    smiles: Smiles = None,
    steps: Annotated[int, typer.Option(help="Kohn-Sham steps from the density.")] = 2,
    orbitals: Annotated[
        list[str] | None, typer.Option(help="Write it as .cube: homo, lumo, homo-1, lumo+2, ...")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the orbitals.")] = Path("."),
    molden: Annotated[Path | None, typer.Option(help="Molden file of one structure.")] = None,
    charge: Charge = None,
    model: ModelName = "default",
    box: BoxName = Box.auto,
    padding: Padding = 4.0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Energy, orbitals and dipole of molecules by Kohn-Sham steps from predicted densities."""
    from denser.workflows.energy import Starts, energy_record, energy_summary, orbital_index, run

    if steps < 1:
        raise InputError(f"an energy takes at least one Kohn-Sham step, found --steps {steps}")
    wanted = orbitals or []
    for name in wanted:  # a wrong name is told of before any work; 500 stands for "enough"
        orbital_index(name, 500, 1000)
    if wanted:
        _make_folder(out)
    starts = Starts(model, device, charge, box.value, padding)
    todo = list(_jobs(files, smiles))
    if molden is not None and len(todo) != 1:
        raise InputError(f"--molden names one file, but there are {len(todo)} structures")
    work = (
        (
            job.name,
            lambda job=job: energy_record(
                _start(job, starts), starts.recipe, steps, out / job.stem, wanted, molden
            ),
        )
        for job in todo
    )
    raise typer.Exit(run(work, json, energy_summary))


def scf(
    files: Files = None,
    smiles: Smiles = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Converged density: a file, or a folder for many."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also start from SAD, atrocious SAD and minao.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Kohn-Sham steps before the first cycle.")] = 1,
    charge: Charge = None,
    model: ModelName = "default",
    box: BoxName = Box.auto,
    padding: Padding = 4.0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Converge the Kohn-Sham equations, starting at the predicted density."""
    from denser.io import check_suffix
    from denser.workflows.energy import Starts, run, scf_record, scf_summary

    if steps < 1:
        raise InputError(f"a start takes at least one Kohn-Sham step, found --steps {steps}")
    starts = Starts(model, device, charge, box.value, padding)
    todo = list(_jobs(files, smiles))
    single = len(todo) == 1 and out is not None and bool(out.suffix) and not out.is_dir()
    if single:
        check_suffix(out)
    elif out is not None:
        _make_folder(out)

    def target(job: Job) -> Path | None:
        return out if out is None or single else out / f"{job.stem}.cube"

    work = (
        (
            job.name,
            lambda job=job: scf_record(
                _start(job, starts), starts.recipe, steps, target(job), compare
            ),
        )
        for job in todo
    )
    raise typer.Exit(run(work, json, scf_summary))


def _jobs(files: list[Path] | None, smiles: list[str] | None) -> Iterator[Job]:
    """Structures as `denser predict` reads them; a density file is a job without atoms."""
    from denser.io import is_density_file
    from denser.io.structures import Job, jobs

    if not files and not smiles:
        raise InputError("nothing to do; name structure or density files, or give --smiles")
    densities = [path for path in files or [] if is_density_file(path)]
    for path in densities:
        yield Job(str(path), path.stem if path.suffix else path.name, None)
    yield from jobs([path for path in files or [] if path not in densities], smiles or [])


def _start(job: Job, starts: Starts) -> Start:
    if job.error:
        raise InputError(job.error)
    if job.atoms is None:
        return starts.read(Path(job.name))
    return starts.predict(job.atoms)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a folder ({error.strerror})") from error
