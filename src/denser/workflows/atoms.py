"""Atoms of densities: the work of `denser atoms`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms

from denser.analysis.topology.atoms_of import AGREES, ELEMENTS, atoms_of
from denser.io import is_density_file, read
from denser.io.files import DENSITY_UNIT, replacing
from denser.types.errors import InputError
from denser.workflows import many
from denser.workflows.inputs import Input, find_inputs, refuse_inputs

ENDINGS = (".xyz", ".extxyz")


class AtomSearch:
    """Files of densities, and the file of their atoms.

    Parameters
    ----------
    files : sequence of Path
        In any format of densities, with atoms (which are not used) or without.
    out : Path or None
        `.xyz` or `.extxyz`, with a frame for each density.
    elements : sequence of str or None
        As of `denser.atoms_of`.
    model : str

    Raises
    ------
    InputError
        There is nothing to do, a file is none of a density, or an output of another format.
    """

    def __init__(
        self,
        files: Sequence[Path],
        out: Path | None = None,
        elements: Sequence[str] | None = None,
        model: str = "default",
    ) -> None:
        if not files:
            raise InputError("nothing to do; name files of densities")
        for path in files:
            if path.exists() and not is_density_file(path):
                raise InputError(f"{path}: is no file of a density (see denser formats)")
        if out is not None:
            if out.suffix not in ENDINGS:
                raise InputError(f"{out}: atoms are written to {' or '.join(ENDINGS)} files")
            refuse_inputs(out, files)
        self.out, self.model = out, model
        self.elements = ELEMENTS if elements is None else tuple(elements)
        self.inputs = find_inputs(files)
        self.frames: list[Atoms] = []

    def run(self, as_json: bool) -> int:
        """Find all and write the file at the end, also after Ctrl-C; print the atoms of each.

        Returns 0 if all succeeded, 2 if any failed, 130 after Ctrl-C.
        """
        n = len(self.inputs)
        with many.Display("searching", "done", n, _summary, as_json, notes=_notes) as display:
            totals = many.run(self.inputs, self._record, display.take)
        if self.frames and self.out is not None:
            with replacing(self.out) as temporary:
                ase.io.write(temporary, self.frames, format="extxyz")
        where = f"{len(self.frames)} structures in {self.out}" if self.frames and self.out else ""
        return display.end(totals, where, "give the rest to continue")

    def _record(self, entry: Input) -> dict:
        start = time.perf_counter()
        if entry.path is None or not isinstance(entry.source, Path):
            entry.atoms()  # says why it cannot be read
            raise InputError("is no file of a density")
        density = read(entry.path)
        if density.unit != DENSITY_UNIT:
            raise InputError(f"expected a density in {DENSITY_UNIT}, found {density.unit}")
        found = atoms_of(density, self.elements, self.model)
        frame = found.structure.to_ase()
        frame.info |= {"name": entry.stem, "error_percent": round(100 * found.error, 4)}
        self.frames.append(frame)
        return {
            **found.to_dict(),
            "lines": found.lines(),
            "output": None if self.out is None else str(self.out),
            "seconds": round(time.perf_counter() - start, 2),
        }


def _summary(record: dict) -> str:
    where = "" if record["output"] is None else f" -> {record['output']}"
    first, *rows = record["lines"]
    return "\n".join([f"{record['input']}: {first}{where}", *rows])


def _notes(record: dict) -> list[str]:
    if record["error_percent"] < 100 * AGREES:
        return []
    return [
        f"the density of these atoms differs by {record['error_percent']:.2g} %, so that some of "
        "them are likely wrong; other elements can be named (--elements)"
    ]
