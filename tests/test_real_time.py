"""Electrons in real time: conservation laws, linear response, PySCF, and the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from PIL import Image

from denser.analysis.absorption import absorption, broadened
from denser.dft.external_field import Kick, Pulse, direction_of
from denser.dft.kohn_sham_matrix import KohnShamMatrix
from denser.dft.molecular import converge
from denser.dft.real_time import STATIONARY, GroundState, Lost, Operators, Propagation
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import FEMTOSECOND, HARTREE

BASIS = "gth-dzvp"
AS = 1e-3 / FEMTOSECOND
X, Y, Z = np.eye(3)


def ground(atoms: Atoms, **more) -> Operators:
    structure = Structure.of(atoms, **more)
    result = converge(structure, BASIS, conv_tol=STATIONARY)
    return Operators(GroundState.of(structure, Recipe(), result), result.mf)


@pytest.fixture(scope="module")
def hydrogen():
    return ground(molecule("H2"))


@pytest.fixture(scope="module")
def lithium_hydride():
    return ground(molecule("LiH"))


def propagated(made, field, steps, direction=Z, step=5 * AS):
    run = Propagation(made, field, direction, step)
    for _ in range(steps):
        run.advance()
    return run, np.array(run.state.dipoles)


@pytest.mark.parametrize("name", ["H2O", "OH"])
def test_matrix_and_energy_are_those_of_pyscf(name):
    result = converge(Structure.from_ase(molecule(name)), BASIS)
    mf, dm = result.mf, result.dm
    rng = np.random.default_rng(1)
    change = rng.normal(size=dm.shape) * 0.01
    dm = dm + change + change.swapaxes(-1, -2)
    f, energy = KohnShamMatrix(mf)(dm.reshape(-1, *dm.shape[-2:]))
    assert energy == pytest.approx(mf.energy_tot(dm), abs=1e-8)
    assert np.allclose(f.reshape(dm.shape), mf.get_hcore() + mf.get_veff(mf.mol, dm), atol=1e-7)


def test_nothing_moves_without_a_field(lithium_hydride):
    run, dipoles = propagated(lithium_hydride, Kick(0.0), 20)
    assert np.abs(dipoles - dipoles[0]).max() < 1e-7
    assert abs(run.absorbed) < 1e-10


def test_energy_and_norm_are_conserved_after_a_kick(lithium_hydride):
    run, dipoles = propagated(lithium_hydride, Kick(0.01), 40)
    n = lithium_hydride.n_electrons
    # a kick gives k^2 / 2 to each electron in a complete basis
    assert run.absorbed == pytest.approx(0.5 * 0.01**2 * lithium_hydride.sum_rule()[2], rel=2e-3)
    assert np.ptp(run.state.energies) < 1e-3 * run.absorbed
    assert lithium_hydride.electrons(run.state.orbitals) == pytest.approx(n, abs=1e-10)
    assert np.abs(dipoles[:, :2]).max() < 1e-9  # across the axis
    assert np.abs(dipoles[:, 2] - dipoles[0, 2]).max() > 0.01


def test_response_is_linear_in_the_kick(hydrogen):
    one, two = (propagated(hydrogen, Kick(k), 20)[1] for k in (1e-3, 2e-3))
    assert np.abs(two - 2 * one).max() < 1e-4 * np.abs(two).max()


def test_slope_after_a_kick_is_the_sum_rule(lithium_hydride):
    h = 0.25 * AS
    _, dipoles = propagated(lithium_hydride, Kick(1e-3), 1, X, h)
    slope = (dipoles[1] - dipoles[0])[0] / h / 1e-3
    assert slope == pytest.approx(lithium_hydride.sum_rule()[0], rel=1e-3)
    assert slope == pytest.approx(
        lithium_hydride.n_electrons, rel=0.15
    )  # Thomas, Reiche, Kuhn in a small basis


def test_time_can_be_reversed(lithium_hydride):
    run, dipoles = propagated(lithium_hydride, Kick(0.01), 15)
    run.state.orbitals = [c.conj() for c in run.state.orbitals]
    run.state.matrices = run.state.matrices[:1]
    for _ in range(15):
        run.advance()
    back = np.array(run.state.dipoles)[15:]
    assert np.abs(back[::-1] - dipoles).max() < 2e-4 * np.abs(dipoles - dipoles[0]).max()


def test_energy_is_the_work_of_a_pulse(hydrogen):
    pulse = Pulse(14 / HARTREE, 0.3 / FEMTOSECOND, 1e12)
    h = 10 * AS
    run, _ = propagated(hydrogen, pulse, int(pulse.end / h) + 2, step=h)
    pulse = replace(pulse, energy=6 / HARTREE)
    away, _ = propagated(hydrogen, pulse, int(pulse.end / h) + 2, step=h)
    assert run.absorbed > 1e-6 and away.absorbed < 0.02 * run.absorbed
    assert abs(run.unbalanced) < 0.01 * run.absorbed


def test_pulse_has_its_length_intensity_and_no_area():
    pulse = Pulse.parse("1e12 W/cm2, 6.9eV 5 fs")
    assert pulse == Pulse.parse("6.9 eV 5 fs 1e12 W/cm^2")
    t = np.linspace(0, pulse.end, 20001)
    field = np.array([pulse.at(s) for s in t])
    assert np.abs(field).max() == pytest.approx(np.sqrt(1e12 / 3.509e16), rel=3e-3)
    assert abs(field.sum() * t[1]) < 1e-10
    strong = np.cos(np.pi * (t / pulse.end - 0.5)) ** 4 > 0.5
    assert np.ptp(t[strong]) * FEMTOSECOND == pytest.approx(5, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("6.9 eV 5 fs", "lacks the number in W/cm2"),
        ("6.9 eV 5 fs 1e12 W/m2", "unknown unit 'W/m2'"),
        ("6.9 5 fs 1e12 W/cm2", "three numbers with units"),
        ("0 eV 5 fs 1e12 W/cm2", "0.01 to 200 eV"),
        ("6.9 eV -5 fs 1e12 W/cm2", "0.01 to 1000 fs"),
        ("6.9 eV 5 fs 1e18 W/cm2", "ionised"),
        ("6.9 eV 0.1 fs 1e12 W/cm2", "shorter than one cycle"),
        ("6.9 eV 5 eV 1e12 W/cm2", "two numbers in eV"),
        ("green", "three numbers with units"),
    ],
)
def test_impossible_pulses(text, says):
    with pytest.raises(InputError, match=says):
        Pulse.parse(text)


def test_directions():
    assert np.allclose(direction_of("1,1,0"), [0.5**0.5, 0.5**0.5, 0])
    for text in ("w", "0,0,0", "1,2", "1,nan,0"):
        with pytest.raises(InputError, match="is not x, y, z, or a vector"):
            direction_of(text)
    with pytest.raises(InputError, match=r"between 0 and 0\.1"):
        Kick(-1)


def test_peak_is_that_of_linear_response(hydrogen):
    run, dipoles = propagated(hydrogen, Kick(1e-3), 150)
    found = absorption(dipoles[:, 2], run.step, 1e-3, 20 / HARTREE)
    td = hydrogen.mf.CasidaTDDFT()
    td.nstates = 4
    td.kernel()
    strengths = 2 * td.e * td.transition_dipole()[:, 2] ** 2
    expected = broadened(td.e, strengths, run.time, 20 / HARTREE)
    (e, f), (e_casida, f_casida) = found.peaks()[0], expected.peaks()[0]
    assert abs(e - e_casida) * HARTREE < 0.02
    assert f == pytest.approx(f_casida, rel=0.02)


def test_spectrum_of_known_lines():
    step, n = 0.2, 4001
    lines, strengths = np.array([0.3, 0.5, 0.9]), np.array([0.7, 0.2, 1.1])
    t = step * np.arange(n)
    dipole = 1e-3 * (strengths / lines) @ np.sin(np.outer(lines, t))
    found = absorption(dipole, step, 1e-3, 1.5)
    assert np.allclose([e for e, _ in found.peaks()], lines, atol=1e-4)
    assert np.allclose([f for _, f in found.peaks()], strengths, rtol=0.01)
    assert found.electrons == pytest.approx(strengths.sum(), rel=0.01)
    expected = broadened(lines, strengths, t[-1], 1.5)
    assert np.abs(found.mean - expected.mean).max() < 0.005 * expected.mean.max()
    half = found.mean[found.energies > 0.7] > 0.5 * found.mean.max()
    assert np.count_nonzero(half) == pytest.approx(20, abs=1)  # the width is that which is stated
    with pytest.raises(InputError, match="three times"):
        absorption(dipole[:2], step, 1e-3, 1.0)


def test_open_shell(hydrogen):
    atom = ground(Atoms("H"), spin=1)
    run, dipoles = propagated(atom, Kick(1e-3), 20)
    assert len(atom.ground.mo_occ) == 2 and run.absorbed > 1e-7
    assert abs(run.unbalanced) < 1e-3 * run.absorbed
    assert np.abs(dipoles[:, :2]).max() < 1e-9


def test_a_step_that_is_too_long():
    water = ground(molecule("H2O"))
    run = Propagation(water, Kick(0.01), Z, 40 * AS)
    with pytest.raises(Lost, match=r"is lost at .* take a shorter --step than 40 as"):
        for _ in range(50):
            run.advance()
    with pytest.raises(InputError, match="at most 50 as"):
        Propagation(water, Kick(0.01), Z, 60 * AS)
    with pytest.raises(InputError, match="fewer than 20 steps in a cycle"):
        Propagation(water, Pulse(100 / HARTREE, 10.0, 1e10), Z, 40 * AS)


@pytest.fixture
def h2_file(tmp_path):
    write(tmp_path / "h2.xyz", molecule("H2"))
    return "h2.xyz"


OPTIONS = ("--kick", 0.001, "--direction", "z", "--basis", BASIS)


def test_command_continues(run, h2_file, tmp_path, monkeypatch):
    code, out, err = run("dynamics", h2_file, *OPTIONS, "--time", 0.2, "-o", "whole")
    assert code == 0 and "sum rule" in out, err
    advance, calls = Propagation.advance, []

    def stopped(self):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(Propagation, "advance", stopped)
    more = ("--time", 0.2, "--cube-times", 0.1, "--film", 0.05, "-o", "part")
    code, _, err = run("dynamics", h2_file, *OPTIONS, *more)
    assert code == 130 and "run the same command to continue" in err
    code, out, err = run("dynamics", h2_file, *OPTIONS, *more, "--json")
    assert code == 0 and len(calls) == 12 + 40 - 11, err
    record = json.loads(out)
    assert record["directions"]["z"]["n_steps"] == 40
    for name in ("h2_z_dipole.csv", "h2_spectrum.csv"):
        whole, part = (
            np.loadtxt(tmp_path / folder / name, delimiter=",", skiprows=1)
            for folder in ("whole", "part")
        )
        assert np.allclose(whole, part, rtol=1e-6, atol=1e-9)
    cube = next((tmp_path / "part").glob("*_0.100fs.cube"))
    from denser.io import read

    change = read(cube)
    assert abs(change.integrate()) < 1e-5 and np.abs(change.values).max() > 1e-6
    with Image.open(tmp_path / "part" / "h2_z.gif") as film:  # the first frame is from before
        assert film.n_frames == 4
        colours = np.asarray(film.convert("RGB")).reshape(-1, 3).astype(int)
    assert (colours[:, 2] - colours[:, 0] > 60).any()  # more electrons
    assert (colours[:, 0] - colours[:, 2] > 60).any()  # fewer


def test_a_lost_run_keeps_what_it_has(run, h2_file, tmp_path, monkeypatch):
    advance = Propagation.advance

    def lost(self):
        if self.state.steps == 15:
            raise Lost("the propagation is lost")
        advance(self)

    monkeypatch.setattr(Propagation, "advance", lost)
    code, _, err = run("dynamics", h2_file, *OPTIONS, "--time", 0.2)
    assert code == 2 and "the propagation is lost" in err
    assert len((tmp_path / "dynamics" / "h2_z_dipole.csv").read_text().splitlines()) == 17


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "give either --kick 0.001 or a --pulse"),
        (("--kick", 0.001, "--pulse", "1 eV 9 fs 1e9 W/cm2"), "give either"),
        (("--pulse", "1 eV 9 fs 1e9 W/cm2"), "needs a --direction"),
        (("--pulse", "1 eV 9 fs 1e9 W/cm2", "--direction", "x"), "the pulse ends after 24.7 fs"),
        (("--kick", 0.001, "--step", 80), "at most 50 as"),
        (("--kick", 0.001, "--time", 0), "ten steps or more"),
        (("--kick", 0.001, "--max-energy", 900), "at most 200 eV"),
        (("--kick", 0.001, "--cube-times", "1,now"), "are not numbers"),
        (("--kick", 0.001, "--cube-times", "90"), "not between 0 and --time"),
        (("--kick", 0.001, "--film", "0.001"), "at least a step and at most half of --time"),
        (("--kick", 0.001, "--film", "0.006"), "more than 500; give a longer time"),
        (("--kick", 0.001, "-o", "spectrum.csv"), "give -o FOLDER"),
        (("--kick", 0.001, "--basis", "def2-svp"), "is not for GTH pseudopotentials; take"),
    ],
)
def test_wrong_options(run, h2_file, options, says):
    code, _, err = run("dynamics", h2_file, *options)
    assert code == 2 and says in err and err.count("\n") == 1


def test_a_cell_is_refused(run, tmp_path):
    write(tmp_path / "cell.extxyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[6] * 3, pbc=True))
    code, _, err = run("dynamics", "cell.extxyz", *OPTIONS)
    assert code == 2 and "isolated molecule" in err
