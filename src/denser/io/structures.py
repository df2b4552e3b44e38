"""Read structure files with ASE as `ase.Atoms`."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from denser.io.smiles import from_smiles
from denser.types.errors import InputError

__all__ = ["from_smiles", "read_structures"]


def read_structures(path: Path) -> Iterator[Atoms]:
    """Yield every frame of a structure file that ASE reads.

    Raises
    ------
    InputError
        The file is missing, unreadable or empty; frames before a damaged one are yielded first.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name the structure files in it")
    n = 0
    frames = _frames(path)
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                atoms = next(frames)
        except StopIteration:
            break
        except Exception as error:  # ASE's readers raise many kinds of errors
            reason = " ".join(str(error).split()) or type(error).__name__
            if isinstance(error, KeyError):
                reason = f"unknown symbol {reason}"
            where = f"frame {n + 1} cannot be read" if n else "cannot be read as a structure"
            raise InputError(f"{path}: {where} ({reason[:200]})") from error
        n += 1
        if np.allclose(atoms.cell.lengths(), 1.0):
            atoms.pbc = False  # the usual placeholder in PDB files of molecules
        yield atoms
    if n == 0:
        raise InputError(f"{path}: contains no structure")


def _frames(path: Path) -> Iterator[Atoms]:
    """All frames of a file, or all records of an MDL file with their formal charges."""
    from ase.io import iread, read

    if path.suffix.lower() not in (".sdf", ".mol"):
        yield from iread(str(path), index=":")
        return
    for record in re.split(r"^\$\$\$\$.*\n?", path.read_text(), flags=re.MULTILINE):
        if record.strip():
            atoms: Any = read(io.StringIO(record), format="sdf")  # its types say: or a list
            atoms.info["charge"] = _mdl_charge(record)
            yield atoms


def _mdl_charge(record: str) -> int:
    """Sum of the charges in the `M  CHG n (atom charge)*` lines of an MDL record."""
    lines = re.findall(r"^M  CHG(.*)$", record, flags=re.MULTILINE)
    return sum(int(q) for line in lines for q in line.split()[2::2])
