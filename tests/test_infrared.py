"""Infrared spectra of trajectories: known intensities, dipoles of molecules, the command."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from scipy.spatial.transform import Rotation

from denser.analysis.infrared import autocorrelation, infrared, without_rotation
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE, FEMTOSECOND, KELVIN, WAVE_NUMBER
from denser.workflows.spectrum import dipole_of_molecules

AMU = 1822.888486
"""Electron masses."""


def oscillators(waves, slopes, temperature, n, step, rng):
    """Dipoles of classical harmonic modes: |dmu/dQ| in debye/angstrom/amu^(1/2), each along x."""
    t = step * np.arange(n)
    mu = np.zeros((n, 3))
    for wave, slope in zip(waves, slopes, strict=True):
        w = wave / WAVE_NUMBER
        amplitude = np.sqrt(2 * KELVIN * temperature) / w  # <Q'^2> = kT
        mu[:, 0] += (
            slope / DEBYE * BOHR / np.sqrt(AMU)
            * amplitude * np.cos(w * t + rng.uniform(0, 2 * np.pi))
        )  # fmt: skip
    return mu


def test_harmonic_modes_have_their_intensities():
    """42.2561 km/mol for 1 (debye/angstrom)^2/amu, whatever the temperature and the time step."""
    rng = np.random.default_rng(3)
    for temperature, step in ((300, 0.5), (50, 1.5)):
        h = step / FEMTOSECOND
        dipoles = oscillators((1600, 3700), (1.0, 0.5), temperature, 12_000, h, rng)
        found = infrared(dipoles, h, temperature, 20, 4000)
        assert found.intensity(1500, 1700) == pytest.approx(42.2561, rel=0.01)
        assert found.intensity(3600, 3800) == pytest.approx(0.25 * 42.2561, rel=0.01)
        assert [x for x, _ in found.bands()] == pytest.approx([1600, 3700], abs=2)
        high = found.wave_numbers[found.absorption > 0.5 * found.absorption.max()]
        assert np.ptp(high) == pytest.approx(20, abs=4)


def test_autocorrelation_is_the_mean_over_pairs():
    v = np.random.default_rng(0).normal(size=(50, 3))
    direct = [np.mean([v[i] @ v[i + k] for i in range(50 - k)]) for k in range(20)]
    assert np.allclose(autocorrelation(v, 20), direct)


def test_rotation_is_taken_out():
    rng = np.random.default_rng(2)
    x, mu = rng.normal(size=(5, 3)), rng.normal(size=(20, 3))
    masses = rng.uniform(1, 16, size=5)
    turns = Rotation.random(20, rng=3).as_matrix()
    turns[0] = np.eye(3)
    moved = np.einsum("nxy,ay->nax", turns, x) + rng.normal(size=(20, 1, 3))
    found = without_rotation(np.einsum("nxy,ny->nx", turns, mu), moved, masses)
    assert np.allclose(found, mu)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((10, 20.0, 300, 20, 2000), "more than 16 frames"),
        ((200, 20.0, 300, 20, 2000), "needs a trajectory that is longer"),
        ((5000, 200.0, 300, 20, 4000), "too far apart"),
        ((5000, 20.0, 0, 20, 4000), "above 0 K"),
    ],
)
def test_what_cannot_be_resolved(arguments, says):
    n, *rest = arguments
    with pytest.raises(InputError, match=says):
        infrared(np.zeros((n, 3)), *rest)


@pytest.fixture(scope="module")
def predictor():
    return Predictor()


def test_dipole_is_that_of_the_density(predictor):
    found = dipole_of_molecules(Structure.from_ase(molecule("H2O")), predictor)
    assert found == pytest.approx(predictor.predict(molecule("H2O")).density.dipole(), abs=1e-3)


def test_dipoles_in_a_cell_do_not_jump(predictor):
    """Two waters: across a face and whole, shifted, and each alone."""
    one = molecule("H2O")
    other = one.copy()
    other.rotate(70, "x")
    other.translate([0, 0, 6])
    pair = one + other
    pair.cell, pair.pbc = [12, 12, 14], True
    whole = dipole_of_molecules(Structure.from_ase(pair), predictor)
    pair.translate([0.1, 12.1, 13.8])
    pair.wrap()
    assert np.ptp(pair.positions[:3], axis=0).max() > 5  # it is cut
    cut = dipole_of_molecules(Structure.from_ase(pair), predictor)
    assert cut == pytest.approx(whole, abs=1e-3)
    alone = sum(dipole_of_molecules(Structure.from_ase(a), predictor) for a in (one, other))
    assert whole == pytest.approx(alone, abs=0.02)  # they hardly polarise each other


@pytest.fixture
def trajectory(tmp_path):
    """Water whose bend and bonds oscillate; the dipole follows."""
    water = molecule("H2O")
    frames = []
    for i in range(90):
        frame = water.copy()
        frame.positions[1:, 1] *= 1 + 0.03 * np.cos(2 * np.pi * i / 10) + 1e-6 * i
        frames.append(frame)
    write(tmp_path / "water.extxyz", frames)
    return "water.extxyz"


def test_command_continues(run, trajectory, tmp_path, monkeypatch):
    options = ("--timestep", 2.0, "--temperature", 300, "--width", 400, "--max", 4000)
    code, out, err = run("spectrum", trajectory, *options, "--json")
    assert code == 0, err
    record = json.loads(out)
    wave = 1e15 / 20 / 2.998e10  # a period of 20 fs
    assert record["bands"][0]["wave_number_per_cm"] == pytest.approx(wave, rel=0.02)
    table = np.genfromtxt(tmp_path / "spectrum" / "water_infrared.csv", delimiter=",", names=True)
    peak = table["wave_number_per_cm"][np.argmax(table["absorption_km_per_mol_cm"])]
    assert peak == pytest.approx(wave, rel=0.02)
    assert (tmp_path / "spectrum" / "water_infrared.png").stat().st_size > 5000
    dipoles = tmp_path / "spectrum" / "water_dipoles.csv"
    before = dipoles.read_text().splitlines()
    dipoles.write_text("\n".join(before[:31]) + "\n")  # as after an interruption
    import denser.workflows.spectrum as work

    calls = []
    real = work.dipole_of_molecules

    def counted(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(work, "dipole_of_molecules", counted)
    code, _, err = run("spectrum", trajectory, *options)
    assert code == 130 and "stopped after 34 of 90 dipoles" in err
    code, out, err = run("spectrum", trajectory, *options)
    assert code == 0 and len(calls) == 5 + 56 and "km/mol" in out, err
    assert dipoles.read_text().splitlines() == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--timestep is missing"),
        (("--timestep", 1.0), "has no velocities; give its --temperature"),
        (("--timestep", 0, "--temperature", 300), "time between frames in fs"),
        (("--timestep", 1, "--temperature", -3), "above 0 and at most 10000 K"),
        (("--timestep", 1, "--temperature", 300), "needs a trajectory that is longer"),
        (("--timestep", 1, "--width", 0), "1 to 500 per cm"),
        (("--timestep", 1, "--max", 50), "ten times --width"),
        (("--timestep", 1, "-o", "a.csv"), "give -o FOLDER"),
    ],
)
def test_wrong_options(run, trajectory, options, says):
    code, _, err = run("spectrum", trajectory, *options)
    assert code == 2 and says in err and err.count("\n") == 1


def test_a_missing_file_is_named(run, tmp_path):
    code, _, err = run("spectrum", "nothing.traj", "--timestep", 1.0)
    assert code == 2 and "nothing.traj: no such file" in err


def test_frames_of_another_molecule(run, tmp_path):
    frames = [molecule("H2O")] + [Atoms("HF", [[0, 0, 0], [0, 0, 0.93]])] * 150
    write(tmp_path / "mixed.extxyz", frames)
    options = ("--timestep", 1.0, "--temperature", 300, "--width", 500, "--max", 5000)
    code, _, err = run("spectrum", "mixed.extxyz", *options)
    assert code == 2 and "other atoms than the first frame" in err
