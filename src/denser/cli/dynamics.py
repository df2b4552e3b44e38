"""`denser dynamics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from denser.cli.options import (
    Box,
    BoxName,
    Charge,
    Device,
    Embed,
    Json,
    ModelName,
    Multiplicity,
    Padding,
    Smiles,
    Spin,
    Structures,
    prediction_options,
    unpaired,
)
from denser.types.errors import InputError


def dynamics(
    files: Structures = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path(
        "dynamics"
    ),
    smiles: Smiles = None,
    embed: Embed = False,
    kick: Annotated[
        float | None,
        typer.Option(help="Give every electron this momentum at the start, 1/bohr, such as 0.001."),
    ] = None,
    pulse: Annotated[
        str | None,
        typer.Option(
            help="Laser pulse: energy of a photon, length (half of the peak's intensity) and "
            "intensity, such as '6.9 eV 5 fs 1e11 W/cm2'."
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            help="Of the field: x, y, z or a vector such as 1,1,0. Default of a kick: x, y and z, "
            "one after another."
        ),
    ] = None,
    duration: Annotated[float, typer.Option("--time", help="Length of the run, fs.")] = 10.0,
    step: Annotated[float, typer.Option(help="Time step, attoseconds.")] = 5.0,
    max_energy: Annotated[float, typer.Option(help="End of the spectrum, eV.")] = 30.0,
    cube_times: Annotated[
        str | None,
        typer.Option(
            help="Times in fs, such as 1,2,5: write the change of the density then as .cube."
        ),
    ] = None,
    film: Annotated[
        float | None,
        typer.Option(
            help="Write a film (.gif) of the change of the density, with so many fs between frames."
        ),
    ] = None,
    basis: Annotated[
        str, typer.Option(help="Basis, as in denser energy; excited electrons need a diffuse one.")
    ] = "aug-gth-tzv2p",
    charge: Charge = None,
    spin: Spin = None,
    multiplicity: Multiplicity = None,
    model: ModelName = "default",
    box: BoxName = Box.auto,
    padding: Padding = 4.0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Electrons of molecules in real time, after a kick (absorption spectrum) or in a laser pulse.

    Time-dependent PBE from the ground state, which starts from the prediction. Run it again to
    continue after an interruption, or with a longer --time.
    """
    if not files and not smiles:
        raise InputError("nothing to do; name structure files or give --smiles")
    if (kick is None) == (pulse is None):
        raise InputError("give either --kick 0.001 or a --pulse, which is the field")
    if out.suffix and not out.is_dir():
        raise InputError(f"{out}: results go to a folder; give -o FOLDER")
    from denser.dft.external_field import Kick, Pulse, direction_of
    from denser.types.units import FEMTOSECOND, HARTREE
    from denser.workflows.dynamics import DynamicsSettings, dynamics_all
    from denser.workflows.inputs import find_inputs

    field = Kick(kick) if kick is not None else Pulse.parse(pulse or "")
    if direction is None and pulse is not None:
        raise InputError("a pulse needs a --direction of its field: x, y, z or a vector")
    if direction is None:
        directions = {name: direction_of(name) for name in "xyz"}
    else:
        name = direction.lower() if direction.lower() in ("x", "y", "z") else "field"
        directions = {name: direction_of(direction)}
    options = prediction_options(
        charge, model, box, padding, device, _SPACING, spin=unpaired(spin, multiplicity)
    )
    settings = DynamicsSettings(
        field, directions, duration / FEMTOSECOND, step / 1000 / FEMTOSECOND,
        max_energy / HARTREE, basis, _times(cube_times),
        None if film is None else film / FEMTOSECOND, options,
    )  # fmt: skip
    inputs = find_inputs(files or [], smiles or [], densities=False, embed=embed)
    raise typer.Exit(dynamics_all(inputs, files or [], out, settings, json))


_SPACING = 0.2
"""Of the nodes of densities, angstrom."""


def _times(text: str | None) -> tuple[float, ...]:
    """Times in fs with commas to atomic units."""
    from denser.types.units import FEMTOSECOND

    if text is None:
        return ()
    try:
        return tuple(float(part) / FEMTOSECOND for part in text.split(","))
    except ValueError:
        raise InputError(f"--cube-times {text!r} are not numbers, such as 1,2,5") from None
