"""Read structure files; their formats are in `denser.io.formats`.

The readers are in `denser.io.molecules` (RDKit), `denser.io.crystals` (gemmi) and
`denser.io.coordinates`; ASE reads all other formats.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from denser.io.coordinates import decoded, reason
from denser.io.files import plain_name, read_bytes
from denser.io.formats import STRUCTURES, StructureFormat
from denser.io.frames import Frame, checked
from denser.io.smiles import from_smiles
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.paths import file_path
from denser.types.structure import Structure

_ANY_TEXT = (".txt", ".text", ".dat")
"""Files with these endings are recognised from their text."""

STANDARD_INPUT = "-"
"""This name in place of a file is standard input."""


def format_of(path: Path) -> StructureFormat | None:
    """Format by the ending of a file name; None for a format of ASE."""
    suffix = Path(plain_name(path)).suffix.lower()
    return next((entry for entry in STRUCTURES if suffix in entry.endings), None)


def read_structures(path: Path, embed: bool = False) -> Iterator[Frame | InputError]:
    """Yield every structure of a file; for a damaged one an InputError, and the rest goes on.

    These errors do not name the file.

    Parameters
    ----------
    path : Path
        In any format of `STRUCTURES` or of ASE, compressed or not; `-` is standard input.
    embed : bool
        Add hydrogens that are missing, and make a geometry for a flat drawing or for molecules
        that overlap, where the file gives the bonds.

    Raises
    ------
    InputError
        The file is missing or unreadable, or contains no structure.
    """
    path = file_path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the structure files in it")
    n = 0
    if str(path) == STANDARD_INPUT:
        text = decoded(sys.stdin.buffer.read())
        frames = _of_text(_recognised(text), text, Path("."), embed)
    else:
        if not path.exists():
            bare = path.suffix == "" and path.name == str(path)
            hint = "; a SMILES is given with --smiles" if bare else ""
            raise InputError(f"{path}: no such file{hint}")
        frames = _of_file(path, embed)
    for frame in frames:
        n += 1
        yield frame
    if n == 0:
        raise InputError(f"{path}: contains no structure")


def _of_file(path: Path, embed: bool) -> Iterator[Frame | InputError]:
    from denser.io import is_density_file, read
    from denser.io.trajectories import is_trajectory, trajectory_frames

    if is_trajectory(path):
        trajectory_frames(path, None)  # its error says that a topology is missing
    if is_density_file(path):
        density = read(path)
        if not isinstance(density, Density):
            raise InputError(f"{path}: holds no atoms; give a structure")
        note = "only the atoms of this density file are used, not its density"
        return iter([Frame(density.structure.to_ase(), notes=(note,))])
    entry = format_of(path)
    if entry is None and Path(plain_name(path)).suffix.lower() in _ANY_TEXT:
        entry = _format_of_text(decoded(read_bytes(path)), smiles=False)
    if entry is None:
        return _with_ase(path)
    return _of_text(entry, decoded(read_bytes(path)), path.parent, embed)


def _of_text(
    entry: StructureFormat, text: str, folder: Path, embed: bool
) -> Iterator[Frame | InputError]:
    module, name = entry.reader.split(":")
    read = getattr(import_module(f"denser.io.{module}"), name)
    return read(text, embed, folder) if name == "read_orca" else read(text, embed)


def _recognised(text: str) -> StructureFormat:
    """Format of a text without a file name; an InputError if it is none of them."""
    if entry := _format_of_text(text):
        return entry
    raise InputError(
        "standard input: the format is not recognised; it may be "
        + ", ".join(entry.title for entry in STRUCTURES)
    )


def _format_of_text(text: str, smiles: bool = True) -> StructureFormat | None:
    """Format of a text; a list of SMILES, like which many a text begins, only if asked for."""
    for entry in sorted(STRUCTURES, key=lambda entry: entry.title == "SMILES list"):
        if entry.title == "SMILES list" and not smiles:
            continue
        if re.search(entry.mark, text[:100_000], flags=re.MULTILINE):
            return entry
    return None


def _with_ase(path: Path) -> Iterator[Frame | InputError]:
    """Frames of a format that ASE reads; the frames before a damaged one are kept."""
    from ase.io import iread
    from ase.io.formats import UnknownFileTypeError

    with tempfile.TemporaryDirectory() as folder:
        plain = path
        if plain_name(path) != path.name:
            plain = Path(folder, plain_name(path))
            plain.write_bytes(read_bytes(path))
        frames = iread(str(plain), index=":")
        stated, notes = _stated_in_output(path)
        while True:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    atoms = next(frames)
                if np.allclose(atoms.cell.lengths(), 1.0):
                    atoms.pbc = False
                atoms.info |= stated
                yield checked(Frame(atoms, notes=notes))
            except StopIteration:
                return
            except InputError as error:
                yield error
            except UnknownFileTypeError:
                yield InputError("unknown format; `denser formats` lists those that are read")
                return
            except Exception as error:  # ASE's readers raise many kinds of errors
                why = "" if isinstance(error, AttributeError | TypeError) else f" ({reason(error)})"
                hint = "; of SHELX files give the CIF" if path.suffix.lower() in _SHELX else ""
                yield InputError(f"cannot be read as a structure{why}{hint}")
                return


_SHELX = (".res", ".ins")

_OUTPUTS = {
    "charge": (
        r"^\s*Charge\s*=\s*(-?\d+)\s+Multiplicity",  # Gaussian
        r"^\s*Total Charge\s+Charge\s+\.+\s*(-?\d+)",  # ORCA
        r"^\s*Charge\s+:\s+(-?\d+)\s*$",  # NWChem
        r"^\s*CHARGE\s+(-?\d+)\s*$",  # CP2K
        r"^\$eht.*charge\s*=\s*(-?\d+)",  # Turbomole
        r"\btot_charge\s*=\s*([+-]?\d+)",  # Quantum ESPRESSO
        r"\"totalCharge\"\s*:\s*(-?\d+)",  # Chemical JSON
    ),
    "multiplicity": (
        r"\"totalSpinMultiplicity\"\s*:\s*(\d+)",
        r"^\s*Charge\s*=\s*-?\d+\s+Multiplicity\s*=\s*(\d+)",
        r"^\s*Multiplicity\s+Mult\s+\.+\s*(\d+)",
        r"^\s*Spin multiplicity\s*:\s*(\d+)\s*$",
        r"^\s*MULTIPLICITY\s+(\d+)\s*$",
    ),
}
"""Charge and multiplicity in the outputs of programs, which ASE does not read."""


def _stated_in_output(path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Charge and multiplicity in the text of a file, and a note if an output has no charge."""
    data = read_bytes(path)
    if b"\0" in data[:1000]:
        return {}, ()
    text = decoded(data)
    found = {
        key: int(match[1])
        for key, patterns in _OUTPUTS.items()
        for pattern in patterns
        if (match := re.search(pattern, text, flags=re.MULTILINE))
    }
    if "charge" in found or path.suffix.lower() not in (".out", ".log"):
        return found, ()
    return found, ("no charge was found in this output; taken as neutral",)


def as_structure(
    source: Any,
    charge: int | None = None,
    isolated: bool = False,
    embed: bool = False,
    spin: int | None = None,
) -> Structure:
    """Return one structure from whatever describes it; the public functions call this first.

    Parameters
    ----------
    source : Structure, ase.Atoms, Path, str, rdkit.Chem.Mol or pymatgen's Molecule or Structure
        A string is a file if there is one of this name or it ends like one, else a SMILES.
    charge, isolated, spin
        As in `Structure.of`.
    embed : bool
        As in `read_structures`.

    Raises
    ------
    InputError
        Something else, or a file with several structures or none.

    Warns
    -----
    UserWarning
        What was chosen where a file leaves a choice, such as alternate locations.
    """
    if isinstance(source, Structure | Atoms):
        return Structure.of(source, charge, isolated, spin)
    frame: Frame | None = None
    name = ""
    if isinstance(source, Path):
        frame, name = _only(source, embed), f"{source}: "
    elif isinstance(source, str):
        file_path(source, "a file name or a SMILES")  # not empty
        if _names_file(source):
            frame, name = _only(Path(source), embed), f"{source}: "
        else:
            frame, name = Frame(_of_smiles(source), source), f"{source}: "
    elif hasattr(source, "GetConformer") and hasattr(source, "GetAtoms"):
        from denser.io.molecules import frame_of_molecule

        flat = source.GetNumConformers() > 0 and not source.GetConformer().Is3D()
        frame = frame_of_molecule(source, embed, flat)
    elif hasattr(source, "to_ase_atoms"):
        frame = _of_pymatgen(source)
    if frame is None:
        raise InputError(
            "expected an ase.Atoms, a denser.Structure, a file name, a SMILES, or a molecule of "
            f"RDKit or pymatgen, found {type(source).__name__}"
        )
    for note in frame.notes:
        warnings.warn(f"{name}{note}", stacklevel=3)
    try:
        return Structure.of(frame.atoms, charge, isolated, spin)
    except InputError as error:
        raise InputError(f"{name}{error}") from error


def _of_smiles(text: str) -> Atoms:
    try:
        return from_smiles(text)
    except InputError as error:
        if "cannot be parsed" not in str(error):
            raise
        raise InputError(f"there is no file {text!r}, and it is no SMILES either") from error


def _of_pymatgen(source: Any) -> Frame:
    try:
        atoms = source.to_ase_atoms()
    except ValueError as error:  # sites that are occupied in part
        raise InputError(f"the structure of pymatgen cannot be used ({error})") from error
    atoms.calc = None
    if getattr(source, "charge", None):
        atoms.info["charge"] = source.charge
    if getattr(source, "spin_multiplicity", None):
        atoms.info["multiplicity"] = source.spin_multiplicity
    return Frame(atoms)


def _names_file(text: str) -> bool:
    """Whether a string is the name of a file, and not a SMILES."""
    from denser.io import is_density_file

    path = Path(text)
    try:
        if path.exists():
            return True
    except OSError:  # longer than a file name can be
        return False
    return format_of(path) is not None or is_density_file(path)


def _only(path: Path, embed: bool) -> Frame:
    """The only structure of a file."""
    frames = list(read_structures(path, embed))
    if len(frames) > 1:
        raise InputError(
            f"{path}: holds {len(frames)} structures; give one of them, such as those that "
            "denser.io.structures.read_structures returns"
        )
    if isinstance(frames[0], InputError):
        raise InputError(f"{path}: {frames[0]}")
    return frames[0]
