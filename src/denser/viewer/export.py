"""Downloads: fields, atoms and numbers as files."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from denser.io import SUFFIXES, check_suffix, write
from denser.io.formats import DENSITIES
from denser.types.errors import InputError
from denser.viewer import state
from denser.viewer.fields import with_atoms
from denser.viewer.session import Session


def suffixes() -> list[str]:
    """Suffixes that can be written with the installed packages, one per format."""
    return [e.endings[0] for e in DENSITIES.values() if _writable(e.endings[0])]


def _writable(suffix: str) -> bool:
    try:
        check_suffix(f"x{suffix}")
    except InputError:
        return False
    return True


def export(session: Session, what: str) -> tuple[str, bytes]:
    """File name and contents of numbers.json, numbers.csv, atoms.xyz or field/NAME.SUFFIX."""
    stem = session.file_stem
    if what == "numbers.json":
        return f"{stem}.json", json.dumps(state.to_dict(session), indent=1).encode()
    if what == "numbers.csv":
        return f"{stem}.csv", state.to_csv(session).encode()
    if what == "atoms.xyz" and session.structure is not None:
        atoms = session.structure.to_ase()
        structure = session.structure
        spin = f" multiplicity={structure.spin + 1}" if structure.spin else ""
        lines = [str(len(atoms)), f"charge={structure.charge}{spin}"]
        lines += [
            f"{s:2s} {x:14.8f} {y:14.8f} {z:14.8f}"
            for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)
        ]
        return f"{stem}.xyz", ("\n".join(lines) + "\n").encode()
    name, dot, suffix = what.removeprefix("field/").rpartition(".")
    if not what.startswith("field/") or not dot:
        raise InputError(f"there is no file {what!r} to download")
    if f".{suffix}" not in SUFFIXES:
        raise InputError(f"unknown file format .{suffix}; known: {', '.join(SUFFIXES)}")
    field = session.field(name, full=True)
    field = field if name == "density" else with_atoms(field, session.shown_density())
    clean = re.sub(r"[^\w+-]", "_", name)
    with tempfile.TemporaryDirectory(prefix="denser-") as folder:
        path = Path(folder) / f"{stem}_{clean}.{suffix}"
        try:
            write(path, field)
        except InputError as error:
            raise InputError(str(error).replace(str(path), path.name)) from error
        return path.name, path.read_bytes()
