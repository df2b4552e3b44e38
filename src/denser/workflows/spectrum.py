"""Infrared spectrum of a trajectory from predicted dipoles: the work of `denser spectrum`."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses
from rich.console import Console

from denser.analysis.infrared import Infrared, infrared, without_rotation
from denser.atoms.molecules import WholeMolecule, whole_molecules
from denser.atoms.plausible import strange
from denser.atoms.sad import valence_charges
from denser.io import trajectories
from denser.io.files import make_folder
from denser.io.table import write_table
from denser.io.trajectories import is_trajectory
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.pictures.spectra import plot_spectrum
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import DEBYE, FEMTOSECOND
from denser.workflows import many
from denser.workflows.inputs import (
    Input,
    content,
    file_stem,
    find_inputs,
    own_files,
    refuse_inputs,
    split_slice,
)
from denser.workflows.progress import Bar

_SAVE_EVERY = 60.0
"""Seconds between two writings of the dipoles."""

_DIPOLES = [f"dipole_{x}_debye" for x in "xyz"]

LONGEST_TIME = 10.0
"""Between frames, fs: a stretch of O-H has a period of 9 fs."""


class Interrupted(Exception):
    """Ctrl-C, after the dipoles so far were written."""


@dataclass(frozen=True)
class SpectrumSettings:
    """What is computed of a trajectory.

    Parameters
    ----------
    timestep : float
        Between frames, fs.
    temperature : float, optional
        K; by default that of the velocities in the trajectory.
    width : float
        Full width of a line at half its maximum, 1/cm.
    up_to : float
        Largest wave number, 1/cm.
    rotation : bool
        Whether the rotation of an isolated molecule is part of the spectrum.
    workers : int
    options : PredictionOptions
    parsl : Path, optional
        As of `denser.workflows.many.run`.
    """

    timestep: float
    temperature: float | None = None
    width: float = 20.0
    up_to: float = 4000.0
    rotation: bool = True
    workers: int = 1
    options: PredictionOptions = field(default_factory=PredictionOptions)
    parsl: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timestep <= LONGEST_TIME:
            raise InputError(
                f"--timestep is the time between frames in fs, above 0 and at most "
                f"{LONGEST_TIME:g}, found {self.timestep:g}"
            )
        if not 1 <= self.width <= 500:
            raise InputError(f"--width must be 1 to 500 per cm, found {self.width:g}")
        if not 10 * self.width <= self.up_to <= 20_000:
            raise InputError(
                f"--max must be at least ten times --width and at most 20000 per cm, found "
                f"{self.up_to:g}"
            )
        if self.temperature is not None and not 0 < self.temperature <= 10_000:
            raise InputError(
                f"--temperature must be above 0 and at most 10000 K, found {self.temperature:g}"
            )


def time_between_frames(path: Path, topology: Path | None) -> float:
    """Time between the frames of a trajectory, or of the slice of it, fs.

    Raises
    ------
    InputError
        The format has no times.
    """
    file, chosen = split_slice(path)
    found = None
    if is_trajectory(file, topology):
        found = trajectories.time_between_frames(file)
    if found is None:
        raise InputError("--timestep is missing: the time between two frames in fs, such as 1.0")
    return found * abs((chosen and chosen.step) or 1)


def spectrum(
    path: Path, folder: Path, settings: SpectrumSettings, topology: Path | None = None
) -> dict:
    """Predict the dipole of each frame, and write dipoles, spectrum, bands and a picture.

    Dipoles in the file of an earlier run are used again if they were made from the same frames.
    The path may end in a slice of the frames (`denser.workflows.inputs.split_slice`); a topology
    is for trajectories of MD codes (`denser.io.trajectories`).

    Returns
    -------
    dict
        For JSON.

    Raises
    ------
    InputError
        The trajectory cannot be used, or is too short.
    Interrupted
        After Ctrl-C.
    """
    begin = time.perf_counter()
    make_folder(folder)
    files_read = own_files([path], topology)
    stem = folder / file_stem(files_read[0])
    ends = ("dipoles.csv", "infrared.csv", "bands.csv", "infrared.png")
    files = [Path(f"{stem}_{end}") for end in ends]
    for file in files:
        refuse_inputs(file, files_read)
    frames = find_inputs([path], densities=False, topology=topology)
    for frame in frames:
        if isinstance(frame.source, many.Failed):
            raise InputError(f"{frame.name}: {frame.source.error}")
    first = settings.options.structure_of(frames[0].atoms())
    temperature = settings.temperature or _temperature(frames)
    step = settings.timestep / FEMTOSECOND
    # Wrong settings are found before the work.
    infrared(np.zeros((len(frames), 3)), step, temperature, settings.width, settings.up_to)
    predictor = _predictor(settings.options.model, settings.options.device)
    doubt = ""
    if first.cell is None:
        atoms, excess = predictor.gaussians(first)
        doubt = predictor.doubt_of(first, excess, predictor.wrong_electrons(atoms, excess))
    elif any(molecule.endless for molecule in whole_molecules(first)):
        raise InputError(
            f"{path}: atoms are bonded through the whole cell, which has no molecular dipoles"
        )
    elif not settings.rotation:
        raise InputError(f"{path}: --no-rotation is for an isolated molecule, and this is a cell")
    dipoles = _dipoles(frames, first, files[0], settings, predictor.model.identity())
    if not settings.rotation:
        positions = np.array([frame.atoms().positions for frame in frames])
        dipoles = without_rotation(dipoles, positions, atomic_masses[first.numbers])
    found = infrared(dipoles, step, temperature, settings.width, settings.up_to)
    bands = found.bands()
    _write(found, bands, files[1:], first)
    return {
        "formula": first.formula,
        "charge": first.charge,
        "spin": first.spin,
        "n_atoms": len(first),
        "n_frames": len(frames),
        "time_fs": round((len(frames) - 1) * settings.timestep, 6),
        "temperature_k": round(temperature, 2),
        "temperature_from": "velocities" if settings.temperature is None else "--temperature",
        "width_per_cm": settings.width,
        "rotation": settings.rotation,
        "bands": [
            {"wave_number_per_cm": round(x, 1), "height_km_per_mol_cm": float(f"{y:.5g}")}
            for x, y in bands
        ],
        "intensity_km_per_mol": round(found.intensity(0, settings.up_to), 3),
        "mean_dipole_debye": float(np.linalg.norm(dipoles, axis=1).mean() * DEBYE),
        "model": predictor.model.name,
        "written": [str(file) for file in files],
        "warnings": strange(first),
        "doubt": doubt,
        "seconds": {"spectrum": round(time.perf_counter() - begin, 3)},
    }


def dipole_of_molecules(structure: Structure, predictor: Predictor) -> np.ndarray:
    """Dipole (3,), e bohr, from the Gaussians of each atom, without a grid.

    mu = sum_a (Z_a - n_a) (R_a - C) - mu_a, with the electrons n_a and their first moments mu_a
    about the nucleus. C is the centre of mass of all atoms, or in a cell that of the molecule of
    each atom, which is put together across the faces, so that nothing jumps.
    """
    atoms = predictor.gaussians(structure)[0]
    electrons, first, _ = atoms.of_atoms()
    charges = valence_charges(structure) - electrons
    everything = WholeMolecule(np.arange(len(structure)), structure.positions, False)
    molecules = [everything] if structure.cell is None else whole_molecules(structure)
    total = -first.sum(axis=0)
    masses = atomic_masses[structure.numbers]
    for molecule in molecules:
        i, x = molecule.atoms, molecule.positions
        total += charges[i] @ (x - np.average(x, axis=0, weights=masses[i]))
    return total


def summary(record: dict) -> str:
    """The lines of text."""
    bands = sorted(record["bands"], key=lambda band: -band["height_km_per_mol_cm"])[:12]
    shown = ", ".join(
        f"{band['wave_number_per_cm']:.0f}"
        for band in sorted(bands, key=lambda band: band["wave_number_per_cm"])
    )
    return (
        f"{many.headline(record)}, infrared spectrum of {record['n_frames']} frames "
        f"({record['time_fs'] / 1000:.3g} ps, {record['temperature_k']:.0f} K from "
        f"{record['temperature_from']}), {record['seconds']['spectrum']:.1f} s\n"
        f"  bands, 1/cm: {shown}; width {record['width_per_cm']:g}"
        f"{'' if record['rotation'] else ', without rotation'}; in all "
        f"{record['intensity_km_per_mol']:.0f} km/mol -> {', '.join(record['written'])}"
    )


@cache
def _predictor(model: Any, device: str) -> Predictor:
    return Predictor(model, device)


def _work(frame: Input, options: PredictionOptions, numbers: Sequence[int]) -> list[float]:
    """The dipole of a frame, e bohr; in a worker."""
    structure = options.structure_of(frame.atoms())
    if structure.numbers.tolist() != list(numbers):
        raise InputError(f"{frame.name}: has other atoms than the first frame")
    return dipole_of_molecules(structure, _predictor(options.model, options.device)).tolist()


def _dipoles(
    frames: Sequence[Input],
    first: Structure,
    file: Path,
    settings: SpectrumSettings,
    identity: str,
) -> np.ndarray:
    """Dipoles of all frames (n, 3), e bohr, those of the file first."""
    settings_of = {"box": settings.options.box}
    made_from = [content(f.source, settings.options, settings_of, identity) for f in frames]
    known = _read(file)
    rows = {i: known[key] for i, key in enumerate(made_from) if key in known}
    places = {frame.name: i for i, frame in enumerate(frames)}
    todo = [frame for i, frame in enumerate(frames) if i not in rows]
    last = time.monotonic()

    def save() -> None:
        order = sorted(rows)
        values = np.array([rows[i] for i in order]).reshape(-1, 3) * DEBYE
        columns: Mapping[str, Sequence[Any]] = {
            "time_fs": [round(i * settings.timestep, 6) for i in order],
            **{name: values[:, k].tolist() for k, name in enumerate(_DIPOLES)},
            "content": [made_from[i] for i in order],
        }
        write_table(file, columns)

    def take(frame: Input, result: list[float] | many.Failed) -> None:
        nonlocal last
        if isinstance(result, many.Failed):
            raise InputError(f"{frame.name}: {result.error.removeprefix(f'{frame.name}: ')}")
        rows[places[frame.name]] = np.array(result)
        bar.advance()
        if time.monotonic() - last > _SAVE_EVERY:
            save()
            last = time.monotonic()

    work = partial(_work, options=settings.options, numbers=first.numbers.tolist())
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        with Bar("dipoles", len(frames), console, len(rows)) as bar:
            totals = many.run(todo, work, take, settings.workers, settings.parsl)
    finally:
        save()
    if totals.interrupted:
        raise Interrupted(f"stopped after {len(rows)} of {len(frames)} frames")
    return np.array([rows[i] for i in range(len(frames))])


def _read(file: Path) -> dict[str | None, np.ndarray]:
    """Dipoles, e bohr, of an earlier run by what they were made from; none of a damaged file."""
    try:
        with file.open(newline="") as lines:
            return {
                row["content"]: np.array([float(row[name]) for name in _DIPOLES]) / DEBYE
                for row in csv.DictReader(lines)
                if row["content"]
            }
    except (OSError, KeyError, ValueError, TypeError, csv.Error):
        return {}


def _temperature(frames: Sequence[Input]) -> float:
    """Mean temperature of the velocities, K."""
    of_frames = (frame.atoms() for frame in frames)
    found = [atoms.get_temperature() for atoms in of_frames if atoms.has("momenta")]
    mean = float(np.mean(found)) if found else 0.0
    if not mean > 0:
        raise InputError("the trajectory has no velocities; give its --temperature in K")
    return mean


def _write(
    found: Infrared, bands: list[tuple[float, float]], files: Sequence[Path], structure: Structure
) -> None:
    """Write the spectrum, its bands and a picture."""
    write_table(
        files[0],
        {
            "wave_number_per_cm": found.wave_numbers.tolist(),
            "absorption_km_per_mol_cm": found.absorption.tolist(),
        },
    )
    write_table(
        files[1],
        {
            "wave_number_per_cm": [x for x, _ in bands],
            "height_km_per_mol_cm": [y for _, y in bands],
        },
    )
    plot_spectrum(
        files[2], found.wave_numbers, found.absorption, bands,
        xlabel="wave number / (1/cm)", ylabel="absorption / (km/mol cm)",
        title=structure.formula, reverse=True, decimals=0,
    )  # fmt: skip
