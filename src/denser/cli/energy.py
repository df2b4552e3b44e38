"""`denser energy` and `denser scf`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denser.cli.options import (
    BasisName,
    Box,
    BoxName,
    Charge,
    Device,
    DispersionName,
    Embed,
    ExecutorName,
    Files,
    Json,
    ModelName,
    Multiplicity,
    Padding,
    Resume,
    Smiles,
    Spin,
    Table,
    Topology,
    Workers,
    parsl_file,
    prediction_options,
    unpaired,
)
from denser.types.errors import InputError

if TYPE_CHECKING:
    from denser.workflows.inputs import Input

Repeat = Annotated[
    bool,
    typer.Option(
        "--repeat",
        help="Repeat a crystal with periods below 8 angstrom, since orbitals are those at Gamma.",
    ),
]


def energy(
    files: Files = None,
    smiles: Smiles = None,
    embed: Embed = False,
    topology: Topology = None,
    steps: Annotated[int, typer.Option(help="Number of Kohn-Sham steps.")] = 2,
    orbitals: Annotated[
        list[str] | None,
        typer.Option(help="Write this orbital as .cube: homo, lumo, homo-1, lumo+2, ..."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the orbitals.")] = Path("."),
    molden: Annotated[
        Path | None, typer.Option(help="Write a Molden file (one structure only).")
    ] = None,
    basis: BasisName = None,
    dispersion: DispersionName = None,
    fragments: Annotated[
        str | None,
        typer.Option(
            help="Interaction energy with the counterpoise correction: bonds, or atoms of the "
            "fragments, 1-3,4-6, with charges 1-5:1,6:-1. In aug-gth-tzv2p if there is no --basis."
        ),
    ] = None,
    ip_ea: Annotated[
        bool,
        typer.Option(
            "--ip-ea",
            help="Vertical ionisation energy and electron affinity by difference. In aug-gth-tzv2p "
            "if there is no --basis.",
        ),
    ] = False,
    table: Table = None,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    box: BoxName = Box.auto,
    padding: Padding = 4.0,
    repeat: Repeat = False,
    workers: Workers = 1,
    executor: ExecutorName = None,
    device: Device = "auto",
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Compute energy, orbitals and dipole with Kohn-Sham steps from predicted densities.

    In another basis, for differences of energies, and for molecules with unpaired electrons, the
    steps go on to self-consistency.
    """
    from denser.workflows.energies import Energies, EnergySettings
    from denser.workflows.inputs import own_files
    from denser.workflows.other_basis import Wanted

    options = prediction_options(
        charge, model, box, padding, device, spin=unpaired(spin, multiplicity)
    )
    other = Wanted(basis, fragments, dispersion and dispersion.value, ip_ea)
    settings = EnergySettings(options, steps, other, tuple(orbitals or ()), out, molden, repeat)
    inputs = _inputs(files, smiles, embed, topology)
    job = Energies(inputs, settings, table, resume, own_files(files or [], topology))
    raise typer.Exit(job.run(json, workers, parsl_file(executor)))


def scf(
    files: Files = None,
    smiles: Smiles = None,
    embed: Embed = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the converged density to a file, or those of many inputs to a folder.",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Also start from SAD, atrocious SAD and minao, and compare."
        ),
    ] = False,
    steps: Annotated[
        int, typer.Option(help="Number of Kohn-Sham steps before the first cycle.")
    ] = 1,
    basis: BasisName = None,
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    box: BoxName = Box.auto,
    padding: Padding = 4.0,
    repeat: Repeat = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Run a self-consistent calculation that starts from the predicted density.

    Structures with unpaired electrons start from PySCF's minao guess. -o then also writes the spin
    density, to NAME_spin beside the density.
    """
    from denser.io import check_suffix
    from denser.io.files import make_folder
    from denser.workflows.energy import StartDensities, scf_record, scf_summary
    from denser.workflows.inputs import refuse_inputs
    from denser.workflows.other_basis import Wanted, energy_in_basis, summary_in_basis

    if steps < 1:
        raise InputError(f"the start needs at least one Kohn-Sham step, found --steps {steps}")
    starts = StartDensities(
        prediction_options(charge, model, box, padding, device, spin=unpaired(spin, multiplicity)),
        open_shells=basis is None,
        repeat=repeat,
    )
    inputs = _inputs(files, smiles, embed)
    single = len(inputs) == 1 and out is not None and bool(out.suffix) and not out.is_dir()
    if out is not None and single:
        check_suffix(out)
    elif out is not None:
        make_folder(out)

    def work(entry: Input) -> dict:
        target = out if out is None or single else out / f"{entry.stem}.cube"
        if target is not None:
            refuse_inputs(target, files or [])
        start = starts.of(entry)
        if basis is not None:
            return energy_in_basis(
                start, Wanted(basis), starts, starts.recipe, out=target, compare=compare
            )
        if start.ghosts is not None:
            raise InputError(
                "the structure has ghosts, whose functions a box does not have; give --basis "
                f"{starts.recipe.basis}"
            )
        return scf_record(start, starts.recipe, steps, target, compare)

    summary = scf_summary if basis is None else summary_in_basis
    raise typer.Exit(_run(inputs, work, "converged", summary, json))


def _inputs(
    files: Sequence[Path] | None,
    smiles: Sequence[str] | None,
    embed: bool,
    topology: Path | None = None,
) -> list[Input]:
    from denser.workflows.inputs import find_inputs

    if not files and not smiles:
        raise InputError("nothing to do; name structure or density files, or give --smiles")
    return find_inputs(files or [], smiles or [], embed=embed, topology=topology)


def _run(
    inputs: list[Input],
    work: Callable[[Input], dict],
    did: str,
    summary: Callable[[dict], str],
    as_json: bool,
) -> int:
    """Process all inputs, print a line or a JSON object for each, and return the exit code."""
    from denser.workflows import many
    from denser.workflows.prediction_record import notes

    with many.Display("computing", did, len(inputs), summary, as_json, notes) as display:
        totals = many.run(inputs, work, display.take)
    return display.end(
        totals, again="the command cannot continue; run it again with the remaining inputs"
    )
