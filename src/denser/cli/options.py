"""Options that commands share, and the object that they make."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from denser.types.errors import InputError

if TYPE_CHECKING:
    from denser.model.options import PredictionOptions


class Box(StrEnum):
    """Choices of --box."""

    auto = "auto"
    isolated = "isolated"
    paper = "paper"


Structures = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Structure files (see denser formats), such as run.xtc@0:500:5 with a slice of the "
        "frames; - is standard input."
    ),
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Structure files, such as run.xtc@0:500:5 with a slice of the frames, or density "
        "files with atoms (see denser formats)."
    ),
]
Embed = Annotated[
    bool,
    typer.Option(
        "--embed",
        "--add-hydrogens",
        help="Add missing hydrogens, and make a geometry for flat drawings and overlapping ions "
        "(SDF, mol2).",
    ),
]
Topology = Annotated[
    Path | None,
    typer.Option(
        help="Elements, charge and bonds for trajectories of MD codes (.dcd, .xtc, .trr, .nc): a "
        "structure file, .psf, .prmtop or .tpr; 'top.gro@resname LIG' takes some of the atoms."
    ),
]
Smiles = Annotated[
    list[str] | None, typer.Option(help="SMILES, in addition to files or instead of them.")
]
Charge = Annotated[int | None, typer.Option(help="Total charge; default: that in the file.")]
Spin = Annotated[
    int | None,
    typer.Option(
        min=0, help="Number of unpaired electrons; default: that in the file, else 0 or 1."
    ),
]
Multiplicity = Annotated[
    int | None, typer.Option(min=1, help="Spin multiplicity: another way to give --spin, plus 1.")
]
ModelName = Annotated[str, typer.Option(envvar="DENSER_MODEL", help="Shipped model or model file.")]
BoxName = Annotated[
    Box,
    typer.Option(help="auto: the cell of the file, else isolated. paper: 2 angstrom, periodic."),
]
BoxOrCube = Annotated[
    str,
    typer.Option(
        help="auto: the cell of the file, else isolated. paper: 2 angstrom, periodic. cube:N:H: "
        "N^3 nodes H bohr apart about the middle of the molecule, such as cube:64:0.5."
    ),
]
Padding = Annotated[float, typer.Option(help="Vacuum on each side, angstrom.")]
Spacing = Annotated[
    float | None, typer.Option(help="Spacing of the predicted grid, angstrom [0.0831].")
]
GridFile = Annotated[
    Path | None,
    typer.Option(
        "--grid",
        help="Predict on the nodes of this density file, such as another program's cube.",
    ),
]
Copies = Annotated[
    int, typer.Option(min=1, max=48, help="Average over N rotated and mirrored copies.")
]
Refine = Annotated[
    int, typer.Option(min=0, help="Improve the prediction by N Kohn-Sham steps, such as 1.")
]
Table = Annotated[
    Path | None,
    typer.Option(help="Write a table with a row for each input (.csv or .parquet)."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue an interrupted run: keep what has not changed."),
]
Workers = Annotated[int, typer.Option(min=1, help="Number of processes, with one thread each.")]
ExecutorName = Annotated[
    str | None,
    typer.Option(
        "--executor", help="parsl:FILE.py, which defines a Parsl `config`, in place of processes."
    ),
]
Device = Annotated[
    str,
    typer.Option(envvar="DENSER_DEVICE", help="Device of the network: auto, cpu, cuda, ..."),
]
BasisName = Annotated[
    str | None,
    typer.Option(
        "--basis",
        help="Basis of a self-consistent calculation in open space: aug-gth-tzv2p has diffuse "
        "functions; also GTH and MOLOPT bases of PySCF, and its other bases with all electrons.",
    ),
]


class Dispersion(StrEnum):
    """Choices of --dispersion."""

    d3bj = "d3bj"
    d4 = "d4"


DispersionName = Annotated[Dispersion | None, typer.Option(help="Add a dispersion correction.")]
JsonObject = Annotated[
    bool, typer.Option("--json", help="The result as one JSON object on standard output.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per input on standard output.")]


def parsl_file(executor: str | None) -> Path | None:
    """The Python file that `--executor` names.

    Raises
    ------
    InputError
        It names none.
    """
    if executor is None:
        return None
    kind, _, name = executor.partition(":")
    if kind != "parsl" or not name:
        raise InputError(f"--executor {executor}: expected parsl:FILE.py")
    if not Path(name).is_file():
        raise InputError(f"--executor {executor}: {name} is no file")
    return Path(name)


def unpaired(spin: int | None, multiplicity: int | None) -> int | None:
    """Number of unpaired electrons from --spin or --multiplicity, None if neither is given.

    Raises
    ------
    InputError
        They contradict each other.
    """
    if multiplicity is None:
        return spin
    if spin is not None and spin != multiplicity - 1:
        raise InputError(
            f"--spin {spin} is --multiplicity {spin + 1}, found {multiplicity}; give one of them"
        )
    return multiplicity - 1


def prediction_options(
    charge: int | None,
    model: str,
    box: str = Box.auto,
    padding: float = 4.0,
    device: str = "auto",
    spacing: float | None = None,
    average: int = 1,
    refine: int = 0,
    grid: Path | None = None,
    *,
    spin: int | None = None,
) -> PredictionOptions:
    """Return the options of a prediction as one object, checked."""
    from denser.model.options import PredictionOptions

    nodes = None
    if grid is not None:
        from denser.io import read

        nodes = read(grid).grid
    return PredictionOptions(
        charge, model, str(box), padding, spacing, device, average, refine, nodes, spin
    )
