"""Infrared and Raman spectra of a trajectory: the work of `denser spectrum`.

Infrared from predicted dipoles, Raman from coupled-perturbed polarizabilities.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses

from denser.analysis.infrared import infrared, without_rotation
from denser.analysis.raman import longest_step, raman
from denser.atoms.molecules import WholeMolecule, whole_molecules
from denser.atoms.plausible import strange
from denser.atoms.sad import require_closed_shell, valence_charges
from denser.dft.basis import AUGMENTED, require_gth
from denser.dft.polarizability import polarizability
from denser.io import trajectories
from denser.io.files import make_folder
from denser.io.trajectories import is_trajectory
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE, FEMTOSECOND
from denser.workflows import many
from denser.workflows.frame_values import Frames
from denser.workflows.inputs import (
    Input,
    file_stem,
    find_inputs,
    own_files,
    refuse_inputs,
    split_slice,
)
from denser.workflows.spectrum_files import write_infrared, write_raman

_COARSE = 0.4
"""Spacing of a grid that is not used, angstrom."""

_TENSOR = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))

_ENDS = {
    "infrared": ("dipoles.csv", "infrared.csv", "bands.csv", "infrared.png"),
    "raman": ("polarizabilities.csv", "raman.csv", "raman_bands.csv", "raman.png"),
}

LONGEST_TIME = 10.0
"""Between frames, fs: a stretch of O-H has a period of 9 fs."""


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
    raman : bool
        Make the Raman spectrum, too.
    basis : str
        Of the polarizabilities, as in `denser.dft.basis.shells_of`.
    laser : float
        Wavelength of the light that is scattered, nm.
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
    raman: bool = False
    basis: str = AUGMENTED
    laser: float = 532.0
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
        if self.raman and not 100 <= self.laser <= 1e7 / self.up_to:
            raise InputError(
                f"--laser is a wavelength in nm, 100 to {1e7 / self.up_to:.0f} for a spectrum up "
                f"to {self.up_to:g} per cm, found {self.laser:g}"
            )

    @property
    def every(self) -> int:
        """Frames between two polarizabilities."""
        return max(int(longest_step(self.up_to) * FEMTOSECOND / self.timestep + 1e-6), 1)


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

    With `raman`, the same of polarizabilities, of as many frames as the spectrum needs. Dipoles and
    polarizabilities in files of an earlier run are used again if they are of the same frames.
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
    denser.workflows.frame_values.Interrupted
        After Ctrl-C.
    """
    begin = time.perf_counter()
    make_folder(folder)
    files_read = own_files([path], topology)
    stem = folder / file_stem(files_read[0])
    kinds = ["infrared", "raman"] if settings.raman else ["infrared"]
    files = {kind: [Path(f"{stem}_{end}") for end in _ENDS[kind]] for kind in kinds}
    written = [file for kind in kinds for file in files[kind]]
    for file in written:
        refuse_inputs(file, files_read)
    frames = find_inputs([path], densities=False, topology=topology)
    for frame in frames:
        if isinstance(frame.source, many.Failed):
            raise InputError(f"{frame.name}: {frame.source.error}")
    first = settings.options.structure_of(frames[0].atoms())
    temperature = settings.temperature or _temperature(frames)
    step, shape = settings.timestep / FEMTOSECOND, (temperature, settings.width, settings.up_to)
    # Wrong settings are found before the work.
    infrared(np.zeros((len(frames), 3)), step, *shape)
    some = frames[:: settings.every]
    if settings.raman:
        raman(np.zeros((len(some), 3, 3)), step * settings.every, *shape)
        if first.cell is not None:
            raise InputError(f"{path}: --raman is for an isolated molecule, and this is a cell")
        require_closed_shell(first, "polarizabilities")
        require_gth(settings.basis)
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
    made = Frames(frames, first, settings, predictor.model.identity())

    def turned(values: np.ndarray, of: Sequence[Input]) -> np.ndarray:
        if settings.rotation:
            return values
        positions = np.array([frame.atoms().positions for frame in of])
        return without_rotation(values, positions, atomic_masses[first.numbers])

    dipoles = turned(_dipoles(made, files["infrared"][0]), frames)
    found = infrared(dipoles, step, *shape)
    bands = found.bands()
    write_infrared(found, bands, files["infrared"][1:], first)
    record = {
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
    }
    if settings.raman:
        tensors = turned(_polarizabilities(made, files["raman"][0]), some)
        scattered = raman(tensors, step * settings.every, *shape)
        record["raman"] = write_raman(scattered, files["raman"][1:], first, settings.laser) | {
            "n_frames": len(some),
            "basis": settings.basis,
            "laser_nm": settings.laser,
            "mean_polarizability_bohr3": float(np.trace(tensors.mean(axis=0)) / 3),
        }
    return record | {
        "model": predictor.model.name,
        "written": [str(file) for file in written],
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


@cache
def _predictor(model: Any, device: str) -> Predictor:
    return Predictor(model, device)


def _structure(frame: Input, options: PredictionOptions, numbers: Sequence[int]) -> Structure:
    structure = options.structure_of(frame.atoms())
    if structure.numbers.tolist() != list(numbers):
        raise InputError(f"{frame.name}: has other atoms than the first frame")
    return structure


def _dipole(frame: Input, options: PredictionOptions, numbers: Sequence[int]) -> list[float]:
    """The dipole of a frame, debye; in a worker."""
    structure = _structure(frame, options, numbers)
    found = dipole_of_molecules(structure, _predictor(options.model, options.device))
    return (found * DEBYE).tolist()


def _polarizability(
    frame: Input, options: PredictionOptions, numbers: Sequence[int], basis: str
) -> list[float]:
    """The polarizability of a frame, angstrom^3, in the order of `_TENSOR`; in a worker."""
    predictor = _predictor(options.model, options.device)
    structure = _structure(frame, options, numbers)
    # The start of the SCF is that of the Gaussians; a grid is not needed.
    density = predictor.predict(structure, options=replace(options, spacing=_COARSE)).density
    tensor = polarizability(density, basis, predictor.model.recipe).tensor * BOHR**3
    return [float(tensor[pair]) for pair in _TENSOR]


def _dipoles(made: Frames, file: Path) -> np.ndarray:
    """Of all frames (n, 3), e bohr."""
    names = [f"dipole_{x}_debye" for x in "xyz"]
    return made.values(file, names, _dipole, "dipoles", {}) / DEBYE


def _polarizabilities(made: Frames, file: Path) -> np.ndarray:
    """Of as many frames as a Raman spectrum needs (n, 3, 3), bohr^3; says how long they take."""
    names = [f"polarizability_{'xyz'[i]}{'xyz'[j]}_angstrom3" for i, j in _TENSOR]
    basis, every = made.settings.basis, made.settings.every
    work = partial(_polarizability, basis=basis)
    rows = made.values(file, names, work, "polarizabilities", {"basis": basis}, every, True)
    tensors = np.empty((len(rows), 3, 3))
    for column, (i, j) in zip(rows.T, _TENSOR, strict=True):
        tensors[:, i, j] = tensors[:, j, i] = column
    return tensors / BOHR**3


def _temperature(frames: Sequence[Input]) -> float:
    """Mean temperature of the velocities, K."""
    of_frames = (frame.atoms() for frame in frames)
    found = [atoms.get_temperature() for atoms in of_frames if atoms.has("momenta")]
    mean = float(np.mean(found)) if found else 0.0
    if not mean > 0:
        raise InputError("the trajectory has no velocities; give its --temperature in K")
    return mean
