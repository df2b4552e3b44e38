"""Electrons in real time from predicted ground states: the work of `denser dynamics`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from denser.atoms.plausible import strange
from denser.dft.basis import require_gth
from denser.dft.external_field import Kick, Pulse
from denser.dft.molecular import converge, removed_text
from denser.dft.real_time import (
    STATIONARY,
    GroundState,
    Lost,
    Operators,
    Propagation,
    PropagationState,
    check_step,
)
from denser.dft.saved_propagation import load, save
from denser.io import write
from denser.io.files import make_folder
from denser.io.table import write_table
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import FEMTOSECOND, HARTREE
from denser.workflows import many
from denser.workflows.dynamics_film import Film
from denser.workflows.dynamics_results import (
    columns_of,
    record_of,
    spectrum_of,
    summary,
    write_spectrum,
)
from denser.workflows.inputs import Input, content, refuse_inputs
from denser.workflows.prediction_record import notes
from denser.workflows.progress import Bar

_SAVE_EVERY = 60.0
"""Seconds between two writings of the state."""

LARGEST_ENERGY = 200.0
"""eV; inner shells are not computed."""


MOST_FRAMES = 500
"""Of a film."""


@dataclass(frozen=True)
class DynamicsSettings:
    """What is done to each molecule.

    Parameters
    ----------
    external : Kick or Pulse
    directions : dict
        Unit vectors of the field by their names; one propagation for each.
    duration, step : float
        Atomic units of time.
    up_to : float
        Largest energy of the spectrum, hartree.
    basis : str
        As in `denser.dft.basis.shells_of`.
    cube_times : sequence of float
        When differences of densities are written, atomic units of time.
    film : float, optional
        Time between the frames of a film of these differences, atomic units.
    options : PredictionOptions
    """

    external: Kick | Pulse
    directions: Mapping[str, np.ndarray]
    duration: float
    step: float
    up_to: float
    basis: str
    cube_times: Sequence[float] = ()
    film: float | None = None
    options: PredictionOptions = field(default_factory=PredictionOptions)

    def __post_init__(self) -> None:
        check_step(self.step, self.external)
        fs = self.duration * FEMTOSECOND
        if not 10 * self.step <= self.duration <= 1000 / FEMTOSECOND:
            raise InputError(
                f"--time must be ten steps or more and at most 1000 fs, found {fs:g} fs"
            )
        if self.duration < self.external.end:
            raise InputError(
                f"the pulse ends after {self.external.end * FEMTOSECOND:.3g} fs, but --time is "
                f"{fs:g} fs; make it longer"
            )
        if not 0 < self.up_to * HARTREE <= LARGEST_ENERGY:
            raise InputError(
                f"--max-energy must be above 0 and at most {LARGEST_ENERGY:g} eV, found "
                f"{self.up_to * HARTREE:g}"
            )
        for t in self.cube_times:
            if not 0 <= t <= self.duration:
                raise InputError(
                    f"--cube-times {t * FEMTOSECOND:g} is not between 0 and --time {fs:g} fs"
                )

        if self.film is not None and not self.step <= self.film <= self.duration / 2:
            raise InputError(
                f"--film is the time between two frames: at least a step and at most half of "
                f"--time, found {self.film * FEMTOSECOND:g} fs"
            )
        if self.film is not None and self.duration / self.film > MOST_FRAMES:
            raise InputError(
                f"--film {self.film * FEMTOSECOND:g} makes {self.duration / self.film:.0f} frames, "
                f"more than {MOST_FRAMES}; give a longer time between them"
            )

    def determine(self) -> dict[str, Any]:
        """Return what a propagation depends on, but its length and direction."""
        return {
            "field": [type(self.external).__name__, *vars(self.external).values()],
            "step": self.step,
            "basis": self.basis,
            "box": self.options.box,
        }


@dataclass
class _Run:
    """A propagation along one direction, and where its results go."""

    name: str
    stem: Path
    propagation: Propagation
    made_from: str | None
    written: list[str]
    film: Film | None = None

    def save(self) -> None:
        """Write what is needed to continue, and dipoles and energies so far."""
        p = self.propagation
        if self.made_from is not None:
            path = _state_file(self.stem, self.name)
            save(path, self.made_from, p.molecule.ground, p.direction, p.state)
        if self.film is not None:
            self.film.save()
        path = Path(f"{self.stem}_{self.name}_dipole.csv")
        write_table(path, columns_of(p))
        self.add(path)

    def add(self, path: Path) -> None:
        """Note a file that was written."""
        if str(path) not in self.written:
            self.written.append(str(path))

    def difference(self, grid: Grid) -> np.ndarray:
        """The density now minus that before the field, on the nodes of a grid."""
        p = self.propagation
        change = p.molecule.density_matrix(p.state.orbitals)
        change -= p.molecule.density_matrix(p.molecule.occupied())
        values = p.molecule.on_points(change.sum(axis=0), grid.points().reshape(-1, 3))
        return values.reshape(grid.shape)

    def write_difference(self, nodes: Density) -> None:
        """Write the density now minus that before the field."""
        now = self.propagation.time * FEMTOSECOND
        path = Path(f"{self.stem}_{self.name}_{now:.3f}fs.cube")
        write(path, nodes.with_values(self.difference(nodes.grid)))
        self.add(path)

    def advance(
        self,
        settings: DynamicsSettings,
        nodes: Density,
        report: Callable[[int, int], None],
    ) -> None:
        """Propagate to the end; what there is is written also if it fails or is stopped."""
        p, last = self.propagation, time.monotonic()
        wanted = {max(round(t / p.step), 1): t for t in settings.cube_times}
        total = round(settings.duration / p.step)
        try:
            while p.state.steps < total:
                p.advance()
                if p.state.steps in wanted:
                    self.write_difference(nodes)
                if self.film is not None and self.film.wants(p.state.steps):
                    self.film.add(p.state.steps, self.difference(self.film.nodes.grid))
                if time.monotonic() - last > _SAVE_EVERY:
                    self.save()
                    last = time.monotonic()
                report(p.state.steps, total)
        finally:
            self.save()
            if self.film is not None and self.film.frames:
                self.film.write(p.step * FEMTOSECOND)
                self.add(self.film.path)


def dynamics_all(
    inputs: Sequence[Input],
    files: Sequence[Path],
    folder: Path,
    settings: DynamicsSettings,
    as_json: bool,
) -> int:
    """Propagate all inputs, print a line or a JSON object for each, and return the exit code.

    Parameters
    ----------
    inputs : sequence of Input
    files : sequence of Path
        The files of the inputs, which are never overwritten.
    folder : Path
    settings : DynamicsSettings
    as_json : bool
    """
    make_folder(folder)
    predictor = Predictor.of(settings.options)
    identity = predictor.model.identity()

    def work(entry: Input) -> dict:
        for end in (
            "_spectrum.csv",
            "_peaks.csv",
            *(f"_{n}_dipole.csv" for n in settings.directions),
        ):
            refuse_inputs(folder / f"{entry.stem}{end}", list(files))
        made_from = content(entry.source, settings.options, settings.determine(), identity)
        return dynamics(
            entry.atoms(), folder / entry.stem, predictor, settings, made_from,
            show=len(inputs) == 1,
        )  # fmt: skip

    with many.Display(
        "propagating", "propagated", len(inputs), summary, as_json, notes=notes
    ) as display:
        totals = many.run(list(inputs), work, display.take)
    return display.end(totals, f"in {folder}", "run the same command to continue")


def dynamics(
    atoms: Any,
    stem: Path,
    predictor: Predictor,
    settings: DynamicsSettings,
    made_from: str | None = None,
    show: bool = False,
) -> dict:
    """Propagate one molecule along each direction of the field; write the results.

    Parameters
    ----------
    atoms : ase.Atoms or Structure
    stem : Path
        Folder, and the beginning of the names of all files.
    predictor : Predictor
    settings : DynamicsSettings
    made_from : str, optional
        Hash of what determines the result: files of an earlier run with the same hash are
        continued. None: no state is kept.
    show : bool
        Show progress.

    Returns
    -------
    dict
        For JSON.

    Raises
    ------
    InputError
        The structure cannot be treated, or its ground state does not converge.
    """
    begin = time.perf_counter()
    options = settings.options
    structure = options.structure_of(atoms)
    if structure.cell is not None:
        raise InputError(
            "electrons in real time are those of an isolated molecule, but the structure is "
            "periodic; give --box isolated, or use a structure without a cell"
        )
    require_gth(settings.basis)
    prediction = predictor.predict(atoms, options=options)
    recipe = predictor.model.recipe
    notes_of_basis: list[str] = []
    molecule: Operators | None = None

    def start_of(name: str, direction: np.ndarray) -> tuple[Operators, PropagationState | None]:
        """The molecule and the state of an earlier run, or of the ground state."""
        known = load(_state_file(stem, name), made_from, structure, settings.basis, recipe)
        if known is not None and np.allclose(known[1], direction):
            if molecule is None or not np.array_equal(molecule.ground.mo_coeff, known[0].mo_coeff):
                return Operators(known[0], molecule and molecule.mf), known[2]
            return molecule, known[2]
        if molecule is not None:
            return molecule, None
        result = converge(
            structure, settings.basis, recipe, about=prediction.density, conv_tol=STATIONARY
        )
        notes_of_basis.extend(filter(None, [removed_text(result)]))
        return Operators(GroundState.of(structure, recipe, result), result.mf), None

    errors: dict[str, str] = {}
    runs: list[_Run] = []
    written: list[str] = []
    for name, direction in settings.directions.items():
        molecule, state = start_of(name, direction)
        propagation = Propagation(molecule, settings.external, direction, settings.step, state)
        run = _Run(name, stem, propagation, made_from, written)
        if settings.film is not None:
            run.film = Film.of(
                Path(f"{stem}_{name}.gif"), prediction.density, made_from,
                max(round(settings.film / settings.step), 1), propagation.state.steps,
            )  # fmt: skip
        runs.append(run)
        left = max(round(settings.duration / settings.step) - propagation.state.steps, 0)
        with _progress(f"{stem.name} {name}", propagation.state.steps, left, show) as tell:
            try:
                run.advance(settings, prediction.density, tell)
            except Lost as error:
                errors[name] = str(error)
    propagations = {run.name: run.propagation for run in runs}
    record = record_of(propagations)
    spectrum = spectrum_of(propagations, settings.duration, settings.up_to)
    if spectrum is not None:
        record |= write_spectrum(spectrum, stem, structure, list(settings.directions), written)
    return record | {
        "basis": settings.basis,
        "calculation": "open space",
        "model": predictor.model.name,
        "written": written,
        "warnings": strange(structure),
        "doubt": predictor.doubt(prediction),
        "notes": notes_of_basis,
        "seconds": {"dynamics": round(time.perf_counter() - begin, 3)},
        "errors": errors,
    }


def _state_file(stem: Path, name: str) -> Path:
    return Path(f"{stem}_{name}.npz")


@contextmanager
def _progress(name: str, done: int, left: int, show: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows a bar of steps, as for many inputs."""
    if not show or left < 2:
        yield lambda n, total: None
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with Bar(name, done + left, console, done) as bar:
        yield lambda n, total: bar.advance()
