"""Optimise the geometries of many structures with ASE: the work of `denser optimize`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import Trajectory, write
from ase.optimize import BFGS, FIRE, LBFGS

from denser.atoms.plausible import strange
from denser.io.files import make_folder, replacing
from denser.model.options import PredictionOptions
from denser.types.errors import InputError
from denser.types.units import HARTREE
from denser.workflows import many
from denser.workflows.calculator import Calculator, GammaPointWarning
from denser.workflows.inputs import Input, content, refuse_inputs
from denser.workflows.prediction_record import notes
from denser.workflows.refined import at_gamma

if TYPE_CHECKING:
    from ase import Atoms

OPTIMIZERS: dict[str, Any] = {"bfgs": BFGS, "lbfgs": LBFGS, "fire": FIRE}


@dataclass(frozen=True)
class OptimizationSettings:
    """Settings of an optimisation.

    Parameters
    ----------
    fmax : float
        Largest force on an atom at the end, eV/angstrom.
    steps : int
        Largest number of steps, those of an earlier run included.
    optimizer : str
        A key of `OPTIMIZERS`.
    task, dispersion
        As in `denser.Calculator`.
    options : PredictionOptions
        Of these the charge, the spin, the model, the padding and the device.
    """

    fmax: float = 0.05
    steps: int = 200
    optimizer: str = "bfgs"
    task: str = "one-step"
    dispersion: str | None = None
    options: PredictionOptions = field(default_factory=PredictionOptions)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.fmax) and self.fmax > 0):
            raise InputError(f"--fmax must be a positive force in eV/angstrom, found {self.fmax:g}")
        if self.task not in ("one-step", "scf"):
            raise InputError(f"unknown task {self.task!r} for forces; known: one-step, scf")

    def of_the_forces(self) -> dict[str, Any]:
        """Return what the forces depend on: an optimisation with other values starts again."""
        options = self.options
        return {
            "model": str(options.model),
            "task": self.task,
            "dispersion": self.dispersion,
            "padding": options.padding,
        }

    def calculator(self) -> Calculator:
        """Return a new calculator."""
        options = self.options
        return Calculator(
            options.model, self.task, self.dispersion, options.charge,
            padding=options.padding, device=options.device, spin=options.spin,
        )  # fmt: skip


def optimize_all(
    inputs: Sequence[Input],
    files: Sequence[Path],
    folder: Path,
    settings: OptimizationSettings,
    as_json: bool,
    report: Callable[[str], None],
) -> int:
    """Optimise all inputs, print a line or a JSON object for each, and return the exit code.

    Parameters
    ----------
    inputs : sequence of Input
    files : sequence of Path
        The files of the inputs, which are never overwritten.
    folder : Path
        For NAME.extxyz, the last geometry, and NAME.traj, all of them.
    settings : OptimizationSettings
    as_json : bool
    report : callable
        Called with a text after each step of a single input.
    """
    make_folder(folder)
    identity = settings.calculator().predictor.model.identity()

    def work(entry: Input) -> dict:
        out, trajectory = (folder / f"{entry.stem}{end}" for end in (".extxyz", ".traj"))
        for path in (out, trajectory):
            refuse_inputs(path, list(files))
        made_from = content(entry.source, settings.options, settings.of_the_forces(), identity)
        tell = partial(_tell, report, entry.name) if len(inputs) == 1 else _nothing
        return optimize(entry.atoms(), out, trajectory, settings, made_from, tell)

    with many.Display(
        "optimising", "optimised", len(inputs), summary, as_json, notes=notes
    ) as display:
        totals = many.run(list(inputs), work, display.take)
    return display.end(totals, f"in {folder}", "run the same command to continue")


def optimize(
    atoms: Atoms,
    out: Path,
    trajectory: Path,
    settings: OptimizationSettings = OptimizationSettings(),
    made_from: str | None = None,
    report: Callable[[int, float], None] = lambda step, fmax: None,
) -> dict:
    """Optimise one structure; a periodic cell stays as it is.

    Each geometry is written to the trajectory at once. If the trajectory was made from the same
    input and settings (`made_from`), the optimisation continues from its last geometry.

    Returns
    -------
    dict
        For JSON.

    Raises
    ------
    InputError
        The structure cannot be treated.
    """
    begin = time.perf_counter()
    structure = settings.options.structure_of(atoms)
    frames = _frames(trajectory, made_from)
    here = atoms.copy()
    here.info["charge"] = structure.charge
    calculator = settings.calculator()
    done = max(len(frames) - 1, 0)
    if frames:
        here.positions = frames[-1].positions
    if frames and _fmax(frames[-1]) <= settings.fmax:
        here.calc = frames[-1].calc
        n_steps, converged = done, True
    else:
        calculator.make_box(atoms)
        here.calc = calculator
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GammaPointWarning)  # it is among the notes below
            n_steps, converged = _run(here, trajectory, settings, frames, made_from, report)
    energy, forces = here.get_potential_energy(), here.get_forces()
    first = frames[0].get_potential_energy() if frames else _first_energy(trajectory)
    last = here.copy()
    last.calc = SinglePointCalculator(last, energy=energy, forces=forces)
    with replacing(out) as temporary:
        write(temporary, last, format="extxyz")
    predictor = calculator.predictor
    prediction = predictor.predict(here, options=settings.options)
    errors = {}
    if not converged:
        errors["optimization"] = (
            f"not converged after {n_steps} steps: the largest force is {_fmax(here):.3f} "
            f"eV/angstrom; give more --steps and run the command again to continue"
        )
    return {
        "output": str(out),
        "trajectory": str(trajectory),
        "formula": structure.formula,
        "charge": structure.charge,
        "spin": structure.spin,
        "n_atoms": len(structure),
        "converged": converged,
        "n_steps": n_steps,
        "n_steps_before": done,
        "e_tot_hartree": float(energy) / HARTREE,
        "e_change_ev": float(energy) - first,
        "fmax_ev_per_angstrom": _fmax(here),
        "largest_displacement_angstrom": float(
            np.linalg.norm(here.positions - atoms.positions, axis=1).max()
        ),
        "optimizer": settings.optimizer,
        "task": settings.task,
        "model": predictor.model.name,
        "warnings": strange(prediction.density.structure),
        "notes": at_gamma(prediction.density.structure),
        "doubt": predictor.doubt(prediction),
        "seconds": {"optimization": round(time.perf_counter() - begin, 3)},
        "errors": errors,
    }


def _run(
    atoms: Atoms,
    trajectory: Path,
    settings: OptimizationSettings,
    frames: list[Atoms],
    made_from: str | None,
    report: Callable[[int, float], None],
) -> tuple[int, bool]:
    """Move the atoms, after the steps of an earlier run; return all steps and convergence."""
    done = max(len(frames) - 1, 0)
    with ExitStack() as stack:
        optimizer = stack.enter_context(OPTIMIZERS[settings.optimizer](atoms, logfile=None))
        if done and hasattr(optimizer, "replay_trajectory"):
            with Trajectory(str(trajectory)) as earlier:
                optimizer.replay_trajectory(earlier)
        file = stack.enter_context(Trajectory(str(trajectory), "a" if frames else "w", atoms))
        if not frames:
            file.set_description({"denser": made_from})

        def keep() -> None:
            if optimizer.nsteps or not frames:  # otherwise it is there
                file.write()
            report(done + optimizer.nsteps, _fmax(atoms))

        optimizer.attach(keep)
        converged = bool(optimizer.run(fmax=settings.fmax, steps=max(settings.steps - done, 0)))
    return done + optimizer.nsteps, converged


def summary(record: dict) -> str:
    """One line of text."""
    before = f" ({record['n_steps_before']} before)" if record["n_steps_before"] else ""
    return (
        f"{many.headline(record)}, "
        f"{'' if record['converged'] else 'NOT CONVERGED, '}{record['n_steps']} step"
        f"{'' if record['n_steps'] == 1 else 's'}{before}, "
        f"E {record['e_tot_hartree']:.6f} hartree ({record['e_change_ev']:+.3f} eV), "
        f"largest force {record['fmax_ev_per_angstrom']:.3f} eV/A, atoms moved by up to "
        f"{record['largest_displacement_angstrom']:.3f} A, "
        f"{record['seconds']['optimization']:.1f} s -> {record['output']}"
    )


def _fmax(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def _first_energy(path: Path) -> float:
    with Trajectory(str(path)) as file:
        return float(file[0].get_potential_energy())


def _frames(path: Path, made_from: str | None) -> list[Atoms]:
    """Geometries of a trajectory if it belongs to this input, otherwise none."""
    if made_from is None or not path.is_file():
        return []
    try:
        with Trajectory(str(path)) as file:
            if (file.description or {}).get("denser") != made_from:
                return []
            return list(file)
    except Exception:  # ASE raises many kinds for a damaged file; it is written anew
        return []


def _tell(report: Callable[[str], None], name: str, step: int, fmax: float) -> None:
    report(f"{name}: step {step}, largest force {fmax:.3f} eV/A")


def _nothing(step: int, fmax: float) -> None:
    pass
