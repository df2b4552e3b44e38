"""Raman spectra of trajectories: activities, depolarization ratios, and the command."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from scipy.spatial.transform import Rotation

from denser.analysis.infrared import without_rotation
from denser.analysis.raman import longest_step, raman
from denser.types.errors import InputError
from denser.types.units import BOHR, FEMTOSECOND, KELVIN, WAVE_NUMBER

AMU = 1822.888486
"""Electron masses."""


def oscillators(waves, slopes, temperature, n, step):
    """Polarizabilities of classical harmonic modes with dalpha/dQ in angstrom^2/amu^(1/2)."""
    t = step * np.arange(n)
    alpha = np.zeros((n, 3, 3))
    for k, (wave, slope) in enumerate(zip(waves, slopes, strict=True)):
        w = wave / WAVE_NUMBER
        amplitude = np.sqrt(2 * KELVIN * temperature) / w  # <Q'^2> = kT
        motion = amplitude * np.cos(w * t + k)
        alpha += motion[:, None, None] * np.asarray(slope) / BOHR**2 / np.sqrt(AMU)
    return alpha


BREATHING = 1.3 * np.eye(3)
SHEAR = np.array([[0, 0.7, 0], [0.7, 0, 0], [0, 0, 0]])
AXIAL = np.diag([0.2, 0.2, 1.1])


def test_harmonic_modes_have_their_activities_and_depolarization_ratios():
    waves = (900, 1700, 3100)
    for temperature, step in ((300, 0.5), (50, 1.5)):
        h = step / FEMTOSECOND
        alpha = oscillators(waves, (BREATHING, SHEAR, AXIAL), temperature, 12_000, h)
        found = raman(alpha, h, temperature, 20, 4000)
        # 45 a'^2 + 7 gamma'^2; gamma'^2 of the shear is 3 xy^2, of an axis (par - perp)^2
        expected = [45 * 1.3**2, 7 * 3 * 0.7**2, 45 * 0.5**2 + 7 * 0.9**2]
        for wave, activity in zip(waves, expected, strict=True):
            assert found.integral(wave - 100, wave + 100) == pytest.approx(activity, rel=0.01)
        positions, _, ratios = np.array(found.bands()).T
        assert positions == pytest.approx(waves, abs=2)
        axial = 3 * 0.9**2 / (45 * 0.5**2 + 4 * 0.9**2)
        assert ratios == pytest.approx([0, 0.75, axial], abs=1e-3)


def test_depolarization_does_not_depend_on_the_orientation():
    """Light and molecules are averaged over orientations."""
    h = 1 / FEMTOSECOND
    alpha = oscillators((1000,), (AXIAL + 0.3 * SHEAR,), 300, 4000, h)
    turn = Rotation.random(rng=1).as_matrix()
    one, other = raman(alpha, h, 300, 30, 3000), raman(turn @ alpha @ turn.T, h, 300, 30, 3000)
    assert np.allclose(one.parallel, other.parallel)
    assert np.allclose(one.perpendicular, other.perpendicular)


def test_cross_section_of_water_vapour():
    """108.9 angstrom^4/amu at 3657/cm: 1.40e-34 m^2/sr at 488 nm by the formula, by hand.

    That is 2.5 times the measured cross section of N2 (5.5e-35), as it should; from memory.
    """
    h = 0.5 / FEMTOSECOND
    slope = np.sqrt(108.9 / 45) * np.eye(3)
    found = raman(oscillators((3657,), (slope,), 300, 12_000, h), h, 300, 20, 4000)
    section = np.trapezoid(found.cross_section(488.0), found.wave_numbers)
    assert section == pytest.approx(1.40e-34, rel=0.02)


def test_rotation_is_taken_out_of_tensors():
    rng = np.random.default_rng(2)
    x, alpha = rng.normal(size=(5, 3)), rng.normal(size=(20, 3, 3))
    masses = rng.uniform(1, 16, size=5)
    turns = Rotation.random(20, rng=3).as_matrix()
    turns[0] = np.eye(3)
    moved = np.einsum("nxy,ay->nax", turns, x) + rng.normal(size=(20, 1, 3))
    turned = turns @ alpha @ turns.transpose(0, 2, 1)
    assert np.allclose(without_rotation(turned, moved, masses), alpha)


def test_frames_are_close_enough():
    """Four in a period, and a stretch at 4500/cm must not appear as a slower vibration."""
    for up_to in (4000, 1500, 600):
        h = longest_step(up_to)
        assert 2 * np.pi * WAVE_NUMBER / up_to / h >= 4 - 1e-9
        # the wave that 4500/cm looks like at these times
        nyquist = np.pi * WAVE_NUMBER / h
        seen = abs((4500 + nyquist) % (2 * nyquist) - nyquist)
        assert seen >= up_to - 1e-6


def test_a_trajectory_that_is_too_short():
    with pytest.raises(InputError, match="more than 16 frames"):
        raman(np.zeros((10, 3, 3)), 20.0, 300, 20, 2000)


@pytest.fixture
def trajectory(tmp_path):
    """H2 with a stretch of 30 fs (1112/cm) in 0.7 fs steps, so that one frame in 4 will do."""
    frames = []
    for i in range(420):
        length = 0.74 + 0.02 * np.cos(2 * np.pi * 0.7 * i / 30) + 1e-7 * i
        frame = Atoms("H2", [[0, 0, 0], [0, 0, length]])
        frame.rotate(0.2 * i, "x")
        frames.append(frame)
    write(tmp_path / "h2.extxyz", frames)
    return "h2.extxyz"


OPTIONS = ("--timestep", 0.7, "--temperature", 300, "--width", 300, "--max", 3000, "--no-rotation")


def test_command_continues(run, trajectory, tmp_path, monkeypatch):
    import denser.workflows.spectrum as work

    calls = []

    def linear(frame, options, numbers, basis):
        """What the bond's length gives along it and across, angstrom^3."""
        calls.append(basis)
        if len(calls) == 20:
            raise KeyboardInterrupt
        axis = np.subtract(*frame.atoms().positions[::-1])
        length = np.linalg.norm(axis)
        tensor = (4 + length) * np.eye(3) + 2 * np.outer(axis, axis) / length
        return [tensor[pair] for pair in work._TENSOR]

    monkeypatch.setattr(work, "_polarizability", linear)
    monkeypatch.setattr(work, "dipole_of_molecules", lambda s, _: s.positions[1] ** 2)
    arguments = ("spectrum", trajectory, *OPTIONS, "--raman", "--basis", "gth-dzvp")
    code, _, err = run(*arguments)
    assert code == 130 and "stopped after 19 of 140 polarizabilities" in err
    assert "139 more polarizabilities (one frame in 3) of" in err
    code, out, err = run(*arguments, "--json")
    assert code == 0 and len(calls) == 20 + 121 and set(calls) == {"gth-dzvp"}, err
    record = json.loads(out)["raman"]
    assert record["n_frames"] == 140
    band = max(record["bands"], key=lambda band: band["height_angstrom4_per_amu_cm"])
    assert band["wave_number_per_cm"] == pytest.approx(1e15 / 30 / 2.9979e10, rel=0.02)
    # a' = 1 + 2/3, gamma' = 2 in the same unit
    assert band["depolarization"] == pytest.approx(12 / (45 * 25 / 9 + 16), rel=0.02)
    folder = tmp_path / "spectrum"
    table = np.genfromtxt(folder / "h2_raman.csv", delimiter=",", names=True)
    both = table["parallel_angstrom4_per_amu_cm"] + table["perpendicular_angstrom4_per_amu_cm"]
    assert np.allclose(both, table["activity_angstrom4_per_amu_cm"])
    assert (folder / "h2_raman.png").stat().st_size > 5000
    code, out, err = run(*arguments)
    assert code == 0 and len(calls) == 141 and "Raman bands, 1/cm (depolarization)" in out, err
    # up to a higher wave number one frame in two: those that are new, and none is lost
    code, out, err = run(*arguments, "--max", 4000)
    assert code == 0 and len(calls) == 141 + 140, err
    assert len((folder / "h2_polarizabilities.csv").read_text().splitlines()) == 1 + 140 + 140


def test_polarizability_is_that_of_the_molecule(tmp_path):
    """Of one frame, turned: the same as without a trajectory."""
    import denser
    from denser.dft.polarizability import polarizability
    from denser.model.options import PredictionOptions
    from denser.workflows.inputs import Input
    from denser.workflows.spectrum import _TENSOR, _polarizability

    atoms = molecule("H2O")
    atoms.rotate(50, (1, 2, 3))
    expected = polarizability(denser.predict(atoms), "gth-dzvp").tensor * BOHR**3
    frame = Input("h2o.xyz", "h2o", atoms)
    found = _polarizability(frame, PredictionOptions(), atoms.numbers.tolist(), "gth-dzvp")
    assert found == pytest.approx([expected[pair] for pair in _TENSOR], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--basis", "gth-dzvp"), "needs --raman"),
        (("--raman", "--laser", 5000), "100 to 3333 for a spectrum up to 3000 per cm"),
        (("--raman", "--basis", "def2-svp"), "def2-svp"),
    ],
)
def test_wrong_options(run, trajectory, options, says):
    code, _, err = run("spectrum", trajectory, *OPTIONS, *options)
    assert code == 2 and says in err and err.count("\n") == 1


def test_what_has_no_polarizability(run, tmp_path):
    for name, spin, cell in (("OH", 1, None), ("H2O", 0, [9, 9, 9])):
        frames = [molecule(name) for _ in range(420)]
        for i, frame in enumerate(frames):
            frame.positions[0, 0] += 1e-6 * i
            frame.set_initial_magnetic_moments([0] * len(frame))
            frame.info["spin"] = spin
            if cell:
                frame.cell, frame.pbc = cell, True
        write(tmp_path / "run.extxyz", frames)
        options = [o for o in OPTIONS if o != "--no-rotation" or not cell]
        code, _, err = run("spectrum", "run.extxyz", *options, "--raman")
        says = "for an isolated molecule, and this is a cell" if cell else "polarizabilities cover"
        assert code == 2 and says in err
