"""`denser label`: real calculations of very small molecules on coarse grids."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

import denser
from denser.cli import app
from denser.labels.facts import Facts
from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.labels.store import LabelStore
from denser.model.options import PredictionOptions
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE
from denser.workflows.label import (
    LabelInput,
    LabelProgress,
    LabelSettings,
    calculate,
    calculation,
    label,
    label_density,
    rattled,
    read_inputs,
)

LABELS = Path(__file__).parent / "reference" / "labels"
COARSE = ["--box", "paper", "--spacing", "0.2"]
RECIPE = Recipe(spacing=0.2 / BOHR)
PLAIN = PredictionOptions()
SETTINGS = LabelSettings(PredictionOptions(box="paper", spacing=0.2))
HELIUM = Structure(np.array([2]), np.zeros((1, 3)))


def cli(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def command(*arguments) -> list[str]:
    return [sys.executable, "-m", "denser", "label", *map(str, arguments), *COARSE]


def hydrogen(length: float) -> Structure:
    return Structure.of(Atoms("H2", [[0, 0, 0], [0, 0, length]]))


@pytest.fixture
def frames(tmp_path) -> Path:
    """Forty hydrogen molecules of different lengths in one file."""
    path = tmp_path / "scan.xyz"
    write(path, [hydrogen(0.6 + 0.01 * i).to_ase() for i in range(40)])
    return path


def wait_for(store: Path, n: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.1)
        try:
            with LabelStore(store) as labels:
                if len(labels) >= n:
                    return
        except InputError:  # not made yet
            continue
    raise AssertionError(f"no {n} labels after five minutes")


# ---- one calculation --------------------------------------------------------------------------


def test_a_label_is_the_density_that_pyscf_finds():
    from denser.dft.cell import build_cell, density_from_dm
    from denser.dft.scf import scf

    structure = Structure.of(molecule("HF"))
    settings = LabelSettings(PredictionOptions(padding=2.5, spacing=0.2))
    found, facts = calculate(settings.task("HF", structure))
    result = scf(structure, found.grid, RECIPE)
    cell = build_cell(structure, found.grid, RECIPE)
    reference, ours = (
        density_from_dm(cell, dm, found.grid, structure)
        for dm in (result.dm, 2 * found.mo_coeff @ found.mo_coeff.T)
    )
    assert found.e_tot == pytest.approx(result.e_tot, abs=1e-9)
    assert denser.err_rho(ours, reference) < 1e-7
    assert facts.box == "padding 2.5" and facts.attempt == "direct"
    np.testing.assert_allclose(facts.dipole, reference.dipole(), atol=1e-6)
    assert facts.dipole[2] * DEBYE < -1  # from F to H, as measured: H lies at negative z
    assert found.structure.positions.tolist() == structure.positions.tolist()
    assert min(facts.versions) and facts.host["processors"] >= 1


def test_boxes():
    narrow = LabelSettings().task("x", replace(HELIUM, cell=np.diag([6.5, 9, 16])))
    assert narrow.times == (3, 2, 1) and len(narrow.structure) == 6
    alone = LabelSettings().task("x", replace(HELIUM, cell=np.diag([8.0, 9, 16])))
    assert alone.times == (1, 1, 1)
    periodic = replace(HELIUM, cell=np.diag([16.0, 17, 18]))
    assert [b for b, _ in LabelSettings().task("x", periodic).grids()] == ["cell"]
    task = LabelSettings(PredictionOptions(box="isolated")).task("x", periodic)
    assert task.structure.cell is None
    assert [b for b, _ in task.grids()] == ["padding 4", "padding 6"]
    paper = LabelSettings(PredictionOptions(box="paper")).task("x", HELIUM)
    assert [b for b, _ in paper.grids()] == ["paper", "padding 4"]
    found, facts = calculate(LabelSettings(PredictionOptions(spacing=0.2)).task("x", periodic))
    assert facts.box == "cell" and facts.dipole is None
    np.testing.assert_allclose(found.grid.cell, periodic.cell)


def test_ions():
    hydroxide = Structure.of(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]), charge=-1)
    found, _ = calculate(SETTINGS.task("hydroxide", hydroxide))
    assert found.n_electrons == 8 and found.structure.charge == -1
    assert label_density(found).integrate() == pytest.approx(8, abs=0.01)


def test_reasons_of_failure():
    bare = Structure.of(Atoms("H"), charge=1)
    assert "without valence electrons" in calculate(SETTINGS.task("x", bare))
    septet = Structure.of(Atoms("O"), spin=8)
    assert "fewer than 8 unpaired ones" in calculate(SETTINGS.task("x", septet))
    gold = Structure.of(Atoms("Au"))
    assert "Au" in calculate(SETTINGS.task("x", gold))
    hurried = replace(SETTINGS, max_cycle=1)
    reason = calculate(hurried.task("x", hydrogen(0.74)))
    assert reason == "not converged in 1 cycles; smearing and a larger box did not help"


def test_orbitals_that_the_store_refuses_fail_one_structure(monkeypatch):
    """As in a tight box where the basis is all but linearly dependent."""
    converge = calculation._converge

    def of_a_dependent_basis(task):
        box, grid, attempt, result, states = converge(task)
        return box, grid, attempt, replace(result, mo_coeff=1e3 * result.mo_coeff), states

    monkeypatch.setattr(calculation, "_converge", of_a_dependent_basis)
    reason = calculate(SETTINGS.task("x", hydrogen(0.74)))
    assert "larger than 500" in reason and "use a larger box" in reason


def test_a_second_attempt_starts_from_smeared_occupations():
    task = SETTINGS.task("x", Structure.of(molecule("H2O")))
    direct, facts = calculate(task)
    assert facts.attempt == "direct" and facts.cycles > 6
    hurried = replace(SETTINGS, max_cycle=6)
    again, facts = calculate(hurried.task("x", task.structure))
    assert facts.attempt == "smearing" and facts.cycles <= 6
    assert again.e_tot == pytest.approx(direct.e_tot, abs=1e-7)


def test_a_few_steps_in_place_of_an_scf():
    """The density is close to the SCF's; where steps do not help the SCF is taken."""
    structure = Structure.of(molecule("H2O"))
    settings = LabelSettings(PredictionOptions(padding=2.5, spacing=0.12))
    reference, _ = calculate(settings.task("x", structure))
    quick, facts = calculate(replace(settings, residual=3.5e-3).task("x", structure))
    assert facts.attempt == "steps" and 2 <= facts.cycles <= 5
    assert 1e-6 < denser.err_rho(label_density(quick), label_density(reference)) < 1.5e-3
    assert quick.e_tot == pytest.approx(reference.e_tot, abs=3e-4)
    _, facts = calculate(replace(settings, residual=1e-9).task("x", structure))
    assert facts.attempt == "direct"
    helium = calculate(
        LabelSettings(PredictionOptions(spacing=0.2), residual=3.5e-3).task("x", HELIUM)
    )[1]
    assert helium.attempt == "direct"  # the model does not know helium


def test_settings_check_themselves():
    with pytest.raises(InputError, match="the residual must be"):
        LabelSettings(residual=0.0)
    with pytest.raises(InputError, match="at least one cycle"):
        LabelSettings(max_cycle=0)


def test_distorted_copies():
    entry = LabelInput("x", hydrogen(0.74), "scan")
    first = rattled(entry, 0.1, seed=1)
    assert (first.name, first.group) == ("x_rattled", "scan")
    positions = first.structure.positions
    assert (positions == rattled(entry, 0.1, 1).structure.positions).all()
    for other in (rattled(replace(entry, name="y"), 0.1, 1), rattled(entry, 0.1, 2)):
        assert (positions != other.structure.positions).all()
    water = Structure.of(molecule("H2O"))
    moved = [rattled(LabelInput(str(i), water), 0.1, 0).structure for i in range(200)]
    shifts = [structure.positions - water.positions for structure in moved]
    assert np.std(shifts) == pytest.approx(0.1, rel=0.1)


# ---- inputs -----------------------------------------------------------------------------------


def test_names_and_unusable_inputs(tmp_path, frames):
    write(tmp_path / "12.xyz", molecule("H2O"))
    (tmp_path / "bad.xyz").write_text("no structure")
    (tmp_path / "close.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.1\n")
    told = []
    names = ["12.xyz", "bad.xyz", "close.xyz", "scan.xyz", "none.xyz"]
    found, bad = read_inputs([str(tmp_path / n) for n in names], PLAIN, told.append)
    assert [x.name for x in found[:3]] == ["molecule_12", "scan_00000", "scan_00001"]
    assert [x.group for x in found[:3]] == ["molecule_12", "scan", "scan"]
    assert len(found) == 41 and bad == 3
    assert ["bad.xyz" in told[0], "closer than" in told[1], "no such file" in told[2]] == [True] * 3


def test_an_excited_singlet_is_refused_before_its_calculation(tmp_path):
    frames = [Atoms("O2", [[0, 0, 0], [0, 0, d]]) for d in (1.2, 1.25)]
    path = str(tmp_path / "oxygen.xyz")
    write(path, frames, plain=True)
    told = []
    assert read_inputs([path], PLAIN, told.append) == ([], 2)
    assert "oxygen.xyz[0]: the ground state of O2 has an open shell" in told[0]
    assert "--spin 2 gives the triplet, and --spin 0 this singlet" in told[0]
    told.clear()
    found, bad = read_inputs(
        [path], PredictionOptions(spin=0), told.append
    )  # told once for each file
    assert (len(found), bad, len(told)) == (2, 0, 1)
    found, bad = read_inputs([path], PredictionOptions(spin=2), told.append)
    assert (len(found), bad, len(told)) == (2, 0, 1)


def test_slabs_are_refused_unless_they_are_to_be_molecules(tmp_path):
    slab = molecule("H2O", cell=[5.0, 6.0, 7.0], pbc=(True, True, False))
    write(tmp_path / "slab.extxyz", slab)
    told = []
    assert read_inputs([str(tmp_path / "slab.extxyz")], PLAIN, told.append) == ([], 1)
    assert "pbc = T T F" in told[0]
    found, bad = read_inputs(
        [str(tmp_path / "slab.extxyz")], PredictionOptions(box="isolated"), told.append
    )
    assert bad == 0 and found[0].structure.cell is None


def test_qm9_selections(monkeypatch):
    from denser.labels import qm9

    known = {1: ("qm9_000001", HELIUM), 2: ("qm9_000002", HELIUM)}
    monkeypatch.setattr(qm9, "molecules", lambda ns: (known[n] for n in ns if n in known))
    told = []
    found, bad = read_inputs(["qm9:train[0:3]"], PLAIN, told.append)
    assert [x.name for x in found] == ["qm9_000001"] and bad == 0
    assert told == ["qm9:train[0:3]: qm9pack lacks 2 of 3 molecules, which are left out"]
    told.clear()
    assert len(read_inputs(["qm9:test[0:1]"], PLAIN, told.append)[0]) == 1
    assert len(told) == 1 and "for evaluation only" in told[0]


def test_bad_command_lines(tmp_path, frames):
    store = tmp_path / "labels.db"
    for arguments, message in (
        (["qm9:train[5:2]", "-o", store], "the range 5:2 is empty"),
        ([frames, "-o", tmp_path / "labels.json"], "must end in .db"),
        ([frames, "-o", store, "--executor", "slurm"], "expected parsl:FILE.py"),
        ([frames, "-o", store, "--executor", "parsl:no.py"], "no.py is no file"),
        ([frames, "-o", store, "--rattle", "6"], "below 1, got 6"),
        ([frames, "-o", store, "--padding", "0"], "must be a positive length"),
    ):
        done = cli("label", *arguments)
        assert isinstance(done.exception, InputError), arguments
        assert message in str(done.exception)
        assert not store.exists()


# ---- runs -------------------------------------------------------------------------------------


def test_a_run_and_its_repetition(tmp_path):
    write(tmp_path / "h2.xyz", molecule("H2"))
    write(tmp_path / "he.xyz", Atoms("He"))
    write(tmp_path / "no.xyz", Atoms("H", info={"charge": 1}))
    store = tmp_path / "labels.db"
    files = [tmp_path / name for name in ("h2.xyz", "he.xyz", "no.xyz")]
    arguments = ["label", *files, "-o", store, *COARSE, "--rattle", "0.05", "--workers", "2"]
    done = cli(*arguments)
    assert done.exit_code == 2
    assert "4 labelled" in done.stdout and "2 failed" in done.stdout
    assert "without valence electrons" in done.stderr
    with LabelStore(store) as labels:
        assert labels.names() == ["h2", "h2_rattled", "he", "he_rattled"]
        assert set(labels.failed()) == {"no", "no_rattled"}
        before = labels.index()
    groups = {x.group for x in read_labels(store, RECIPE)}
    assert groups == {"h2", "he"}
    done = cli(*arguments)
    assert done.exit_code == 2
    assert "0 labelled" in done.stdout and "4 were there" in done.stdout
    assert "2 had failed before (--retry-failed tries them again)" in done.stdout
    done = cli(*arguments, "--retry-failed")
    assert done.exit_code == 2 and "2 failed" in done.stdout
    record = json.loads(cli(*arguments, "--json").stdout)
    assert (record["present"], record["failed_before"], record["labelled"]) == (4, 2, 0)
    write(tmp_path / "h2.xyz", hydrogen(0.8).to_ase())
    done = cli("label", *files[:2], "-o", store, *COARSE)
    assert done.exit_code == 2 and "1 were there already; 1 failed" in done.stdout
    assert "h2: the store has this name with another structure" in done.stderr
    with LabelStore(store) as labels:
        assert labels.index() == before
    done = cli("labels", "info", store)
    assert "4 labels, 6 atoms (1 to 2 each)" in done.stdout
    assert "spacing 0.2000 angstrom" in done.stdout and "failed     2: " in done.stdout
    record = json.loads(cli("labels", "info", store, "--json").stdout)
    assert (record["n_labels"], record["n_atoms"], record["most_atoms"]) == (4, 6, 2)
    assert record["recipe"]["spacing_bohr"] == pytest.approx(0.2 / BOHR)
    with pytest.raises(InputError, match=r"recipes differ: spacing.*; label again with"):
        label([LabelInput("he", HELIUM)], store, LabelSettings())


def test_what_another_run_has_stored_is_left_alone(tmp_path):
    """Another run stores the first label, and another molecule with the second's name."""
    store, told = tmp_path / "labels.db", []
    names = ("a", "b", "c")

    def other_run(p: LabelProgress) -> None:
        if p.done > 1:
            return
        with LabelStore(store) as labels:
            made, facts = calculate(SETTINGS.task("b", HELIUM))
            assert labels.add(made, facts, content=SETTINGS.task("b", HELIUM).content)
            made, facts = calculate(SETTINGS.task("c", hydrogen(0.8)))
            assert labels.add(made, facts)

    given = [LabelInput(name, HELIUM) for name in names]
    totals = label(given, store, SETTINGS, 1, tell=told.append, progress=other_run)
    assert (totals.labelled, totals.present, totals.failed) == (1, 1, 1)
    assert not totals.interrupted
    assert len(told) == 1 and "c: " in told[0] and "rename its file" in told[0]
    with LabelStore(store) as labels:
        assert labels.names() == ["a", "b", "c"]
        assert labels.read("c").structure.formula == "H2"


def test_killed_twice_and_resumed(tmp_path, frames):
    """SIGKILL, at whatever moment: nothing is lost, nothing is there twice, nobody stays behind."""
    store = tmp_path / "labels.db"
    line = command(frames, "-o", store, "--workers", "1")
    for n in (1, 4):
        with subprocess.Popen(line, stderr=subprocess.DEVNULL, start_new_session=True) as run:
            try:
                wait_for(store, n)
            finally:
                run.kill()
        with LabelStore(store) as labels:
            kept = labels.index()
        assert n <= len(kept) < 40
        assert ends(run.pid)  # the workers notice and end themselves
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert f"{40 - len(kept)} labelled" in done.stdout and f"{len(kept)} were there" in done.stdout
    with LabelStore(store) as labels:
        assert labels.names() == [f"scan_{i:05d}" for i in range(40)]
        assert {name: labels.index()[name] for name in kept} == kept
        last = labels.read("scan_00039")
    again, _ = calculate(SETTINGS.task("x", last.structure))
    assert last.e_tot == pytest.approx(again.e_tot, abs=1e-9)


def members(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def ends(session: int) -> bool:
    """Whether no process of a session is left, half a minute from now at the latest."""
    for _ in range(300):
        if not members(session):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_an_interrupted_run_keeps_what_is_done(tmp_path, frames, how):
    store = tmp_path / "labels.db"
    with subprocess.Popen(
        command(frames, "-o", store, "--workers", "1"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs inherit "ignore"
    ) as run:  # fmt: skip
        try:
            wait_for(store, 1)
            os.kill(run.pid, how)
            out, err = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130, err
    assert "stopped; run the same command to continue" in err and "Traceback" not in err
    assert "leaked" not in err
    with LabelStore(store) as labels:
        assert f"{len(labels)} labelled" in out and 1 <= len(labels) < 40
    assert ends(run.pid)


def test_dead_workers(tmp_path):
    """A worker that dies once costs nothing; one that dies twice costs its structure alone."""
    structures = [LabelInput(f"h{i}", hydrogen(0.7 + 0.03 * i)) for i in range(3)]
    seen, told = set(), []

    def kill_two() -> None:
        deadline = time.monotonic() + 300
        while len(seen) < 2 and time.monotonic() < deadline:
            for process in active_children():
                if process.pid not in seen and len(seen) < 2:
                    seen.add(process.pid)
                    process.kill()
            time.sleep(0.05)

    killer = threading.Thread(target=kill_two)
    killer.start()
    totals = label(structures, tmp_path / "labels.db", SETTINGS, workers=1, tell=told.append)
    killer.join()
    assert (totals.labelled, totals.failed) == (2, 1)
    assert told == ["h0: its worker process died twice (was memory short?)"]
    seen.clear()

    def kill_one(progress) -> None:
        if not seen:
            seen.add(active_children()[0].pid)
            active_children()[0].kill()

    structures += [LabelInput("he", HELIUM), LabelInput("h9", hydrogen(1.0))]
    totals = label(
        structures, tmp_path / "labels.db", SETTINGS, workers=1, retry_failed=True,
        progress=kill_one,
    )  # fmt: skip
    assert (totals.labelled, totals.failed, totals.present) == (3, 0, 2)


PARSL = """
from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
config = Config(
    executors=[HighThroughputExecutor(
        label="local", max_workers_per_node=1, encrypted=False, address="127.0.0.1",
        loopback_address="127.0.0.1",
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )],
    run_dir={run_dir!r},
)
"""


@pytest.mark.slow
def test_parsl_with_its_local_provider(tmp_path):
    pytest.importorskip("parsl")
    config = tmp_path / "config.py"
    config.write_text(PARSL.format(run_dir=str(tmp_path / "parsl")))
    write(tmp_path / "h2.xyz", molecule("H2"))
    write(tmp_path / "no.xyz", Atoms("H", info={"charge": 1}))
    store = tmp_path / "labels.db"
    line = command(tmp_path / "h2.xyz", tmp_path / "no.xyz", "-o", store)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [*line, "--executor", f"parsl:{config}"], capture_output=True, text=True, timeout=120,
        env=dict(os.environ, PATH=path),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "1 labelled" in done.stdout and "1 failed" in done.stdout
    with LabelStore(store) as labels:
        assert labels.names() == ["h2"] and "without valence" in labels.failed()["no"]
    config.write_text("nothing = 1\n")
    write(tmp_path / "he.xyz", Atoms("He"))
    done = subprocess.run(
        [*command(tmp_path / "he.xyz", "-o", store), "--executor", f"parsl:{config}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "no usable Parsl `config`" in done.stderr
    assert "Traceback" not in done.stderr


# ---- labels import, export --------------------------------------------------------------------


def test_import_and_export(tmp_path):
    store, out = tmp_path / "labels.db", tmp_path / "out"
    done = cli("labels", "import", LABELS, "-o", store)
    assert done.exit_code == 0 and "5 labels copied" in done.stdout
    for format, suffix in (("cube", "cube"), ("CHGCAR", "chgcar"), ("npz", "npz")):
        done = cli("labels", "export", store, "-o", out, "--format", format, "--select", "H2O")
        assert done.exit_code == 0, done.output
        rho = denser.read(out / f"H2O.{suffix}")
        assert rho.integrate() == pytest.approx(8, abs=1e-3)
        with LabelStore(store) as labels:
            reference = label_density(labels.read("H2O"))
        assert denser.err_rho(rho, reference) < 1e-5
    done = cli("labels", "export", store, "-o", out, "--format", "npz", "--select", "0:2",
               "--select", "C2H2", "--json")  # fmt: skip
    assert "2 densities written" in done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[1] == {"input": "CH4", "output": str(out / "CH4.npz")}
    assert (out / "CH4.npz").exists()
    for arguments, message in (
        (["--select", "H2"], "holds no 'H2'"),
        (["--select", "7:9"], "selects none of 5"),
        (["--select", "a:b"], "expected a name or a range"),
        (["--format", "xyz"], "unknown file format"),
    ):
        done = cli("labels", "export", store, "-o", out, *arguments)
        assert message in str(done.exception)
    done = cli("labels", "import", LABELS, "-o", store, "--json")
    counts = {"copied": 0, "present": 5, "failed": 0}
    assert json.loads(done.stdout) == {"input": str(LABELS), "output": str(store)} | counts
    done = cli("labels", "import", tmp_path, "-o", store)
    assert "no .npz labels" in str(done.exception)


@pytest.mark.slow
def test_the_benchmark_compares_with_a_folder(as_main, tmp_path):
    store = tmp_path / "labels.db"
    assert cli("labels", "import", LABELS, "-o", store).exit_code == 0
    script = Path(__file__).parents[1] / "benchmarks" / "labelling.py"

    code, out, err = as_main(script, "--against", LABELS, "--store", store)
    assert code == 0, err
    assert "worst of 5" in out and "+0.0000" in out
    code, _, err = as_main(script, "--against", tmp_path, "--store", store)
    assert code == 2 and "no label in common" in err


def test_arrays_of_a_label_are_read_only():
    coefficients = np.ones((1, 1))
    grid = Grid.around(HELIUM)
    label = Label("He", HELIUM, grid, coefficients, mo_energy=np.zeros(3))
    coefficients += 1
    assert label.mo_coeff[0, 0] == 1
    for array in (label.mo_coeff, label.mo_energy, Facts("cell", dipole=np.zeros(3)).dipole):
        with pytest.raises(ValueError, match="read-only"):
            array += 1
