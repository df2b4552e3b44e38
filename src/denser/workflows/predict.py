"""Many structures to many files: what `denser predict` does."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from denser.io import check_suffix, write
from denser.io.structures import Job, jobs
from denser.types.errors import InputError
from denser.types.units import BOHR, DEBYE

if TYPE_CHECKING:
    from ase import Atoms

    from denser.model.predictor import Prediction, Predictor

_WORK = {"sad": "SAD", "network": "network", "refine": "refinement", "write": "writing"}


class Batch:
    """Structures from files and SMILES, predicted one by one.

    One that fails is reported and the rest goes on; `run` returns 0 if all went well, 2 if any
    failed, 130 after Ctrl-C.
    """

    def __init__(
        self,
        files: list[Path],
        smiles: list[str],
        out: Path | None,
        format: str,
        charge: int | None,
        model: str,
        box: str,
        padding: float,
        spacing: float | None,
        device: str,
        resume: bool,
        refine: int = 0,
        average: int = 1,
    ) -> None:
        if not files and not smiles:
            raise InputError("nothing to predict; name structure files or give --smiles")
        if out is None:
            raise InputError("no output; give -o FILE (such as rho.cube) or -o FOLDER")
        self.charge, self.model, self.device = charge, model, device
        self.options = {"box": box, "padding": padding, "spacing": spacing}
        if refine < 0:
            raise InputError(f"refining takes a number of steps, found {refine}")
        self.refine, self.average = refine, average
        self.out, self.suffix, self.resume = out, "." + format.lstrip("."), resume
        self.jobs = list(jobs(files, smiles))
        self.single = len(self.jobs) == 1 and not out.is_dir() and out.suffix != ""
        self.single = self.single or (len(self.jobs) == 1 and out.name.startswith("CHGCAR"))
        if self.single:
            check_suffix(out)
            if not out.parent.is_dir():
                raise InputError(f"{out}: the folder {out.parent} does not exist; create it first")
        else:
            if out.exists() and not out.is_dir():
                raise InputError(
                    f"{out} is a file, but there are {len(self.jobs)} structures; name a folder"
                )
            if out.suffix and not out.is_dir():
                raise InputError(
                    f"{len(self.jobs)} structures go to a folder, not to {out.name}; give "
                    f"-o FOLDER --format {out.suffix.lstrip('.')}"
                )
            check_suffix(Path("x" + self.suffix))

    def run(self, as_json: bool) -> int:
        """Predict and write all; prints a line (or a JSON object) each, and totals."""
        from denser.model.predictor import Predictor

        predictor = Predictor(self.model, self.device, average=self.average)
        if not self.single:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{self.out}: cannot be created ({error.strerror})") from error
        told = Console(stderr=True, soft_wrap=True, highlight=False)
        lines = Console(stderr=as_json, soft_wrap=True, highlight=False)
        done = failed = skipped = 0
        start = time.perf_counter()
        columns = (
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        show = len(self.jobs) > 1 and told.is_terminal
        try:
            with Progress(*columns, console=told, disable=not show, transient=True) as bar:
                task = bar.add_task("predicting", total=len(self.jobs))
                for job in self.jobs:
                    output = self.out if self.single else self.out / (job.stem + self.suffix)
                    if self.resume and output.exists():
                        skipped += 1
                    else:
                        try:
                            record = self._predict(job, output, predictor)
                        except InputError as error:
                            failed += 1
                            message = str(error)
                            if not message.startswith(job.name):
                                message = f"{job.name}: {message}"
                            told.print(f"denser: {message}", markup=False)
                            if as_json:
                                _print_json({"input": job.name, "error": message})
                        else:
                            done += 1
                            if as_json:
                                _print_json(record)
                            else:
                                lines.print(summary(record), markup=False)
                            if record["doubt"]:
                                told.print(f"denser: {job.name}: {record['doubt']}", markup=False)
                    bar.advance(task)
        except KeyboardInterrupt:
            told.print(
                f"stopped after {done} of {len(self.jobs)}; add --resume to go on", markup=False
            )
            return 130
        if len(self.jobs) > 1:
            seconds = time.perf_counter() - start
            text = f"{done} of {len(self.jobs)} predicted in {seconds:.1f} s, in {self.out}"
            text += f", {skipped} left out (output exists)" if skipped else ""
            text += f", {failed} failed" if failed else ""
            lines.print(text, markup=False)
        return 2 if failed else 0

    def _predict(self, job: Job, output: Path, predictor: Predictor) -> dict:
        if job.atoms is None:
            raise InputError(job.error)
        if self.refine:
            prediction, refine_seconds = self._refined(job.atoms, predictor)
        else:
            prediction = predictor.predict(job.atoms, self.charge, **self.options)
        start = time.perf_counter()
        write(output, prediction.density)
        write_seconds = time.perf_counter() - start
        record = _record(job, output, prediction, predictor.model.name)
        record["doubt"] = predictor.doubt(prediction)
        record["refined_steps"] = self.refine
        if self.refine:
            record["seconds"]["refine"] = round(refine_seconds, 4)
        record["seconds"]["write"] = round(write_seconds, 4)
        return record

    def _refined(self, atoms: Atoms, predictor: Predictor) -> tuple[Prediction, float]:
        """Predict on the network's own grid, refine there, then change the spacing."""
        from denser.dft.refine import refine
        from denser.model.predictor import respace

        options = self.options | {"spacing": None}
        prediction = predictor.predict(atoms, self.charge, **options)
        refined = refine(prediction.density, predictor.model.recipe, self.refine)
        density, spacing = refined.density, self.options["spacing"]
        if spacing is not None:
            density = respace(density, spacing / BOHR)
        return replace(prediction, density=density), refined.seconds


def _print_json(record: dict) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def _record(job: Job, output: Path, prediction: Prediction, model: str) -> dict:
    density = prediction.density
    structure, grid = density.structure, density.grid
    dipole = density.dipole() * DEBYE
    low, high = structure.positions.min(axis=0), structure.positions.max(axis=0)
    corner = grid.origin + grid.cell.sum(axis=0)
    periodic = prediction.box == "cell"
    padding = float(np.min([low - grid.origin, corner - high])) * BOHR
    return {
        "input": job.name,
        "output": str(output),
        "formula": structure.formula,
        "charge": structure.charge,
        "n_atoms": len(structure),
        "n_electrons": round(density.integrate(), 6),
        "grid_shape": list(grid.shape),
        "spacing_angstrom": [round(float(h) * BOHR, 6) for h in grid.spacing],
        "box": prediction.box,
        "padding_angstrom": None if periodic else round(padding, 3),
        "dipole_debye": [round(float(d), 4) for d in dipole],
        "dipole_norm_debye": round(float(np.linalg.norm(dipole)), 4),
        "model": model,
        "excess_percent": (
            None if np.isnan(prediction.excess) else round(100 * prediction.excess, 4)
        ),
        "seconds": {
            "sad": round(prediction.seconds_sad, 4),
            "network": round(prediction.seconds_network, 4),
        },
    }


def summary(record: dict) -> str:
    """One line for a person."""
    seconds = record["seconds"]
    shape = " x ".join(str(n) for n in record["grid_shape"])
    charge = f" {record['charge']:+d}" if record["charge"] else ""
    box = record["box"]
    if record["padding_angstrom"] is not None:
        box += f", {record['padding_angstrom']:.1f} A padding"
    return (
        f"{record['input']}: {record['formula']}{charge}, {record['n_atoms']} atoms, "
        f"{record['n_electrons']:g} valence electrons, "
        f"{'refined, ' if record['refined_steps'] else ''}grid {shape} at "
        f"{max(record['spacing_angstrom']):.4f} A ({box}), "
        f"dipole {record['dipole_norm_debye']:.2f} D, "
        f"{' + '.join(f'{s:.2f}' for s in seconds.values())} s "
        f"({', '.join(_WORK[key] for key in seconds)}) -> {record['output']}"
    )
