"""The benchmark commands run and print their tables; the figures are for people to judge."""

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.io import write

from denser import cli, load_model
from denser.labels.reading import read_label
from denser.model import fragments, resnet
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.checkpoint import Model, save_model
from denser.types.recipe import Recipe

ROOT = Path(__file__).parents[1]

SMALL = (
    "sample.points=128",
    "model.options.layers=1",
    "model.options.channels=8",
    "model.options.hidden=8",
    "model.options.electrons=1",
)
"""Settings of a training run that is over at once."""


@pytest.fixture
def bench(as_main):
    """Run a benchmark, by its name or as a module."""

    def call(script: str | ModuleType, *arguments: str) -> SimpleNamespace:
        path = ROOT / "benchmarks" / script if isinstance(script, str) else script
        code, out, err = as_main(path, *arguments)
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return call


@pytest.fixture
def trained_here(monkeypatch):
    """Let `bakeoff.py` train in this process, where it starts `denser train`."""

    def call(command: list[str], env: dict[str, str]) -> SimpleNamespace:
        assert command[:3] == [sys.executable, "-m", "denser"] and env["OMP_NUM_THREADS"]
        monkeypatch.setattr(sys, "argv", command[2:])
        try:
            cli.main()
        except SystemExit as stop:
            return SimpleNamespace(returncode=stop.code or 0)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", call)


def module_of(name: str) -> ModuleType:
    """A benchmark whose names can be replaced."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_accuracy(bench, tmp_path):
    labels = ROOT / "tests" / "reference" / "labels"
    done = bench("accuracy.py", "--labels", labels, "--all", "--csv", tmp_path / "e.csv")
    assert done.returncode == 0, done.stderr
    assert "Err_rho" in done.stdout
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1 + len(list(labels.glob("*")))
    done = bench("accuracy.py", "--labels", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_kinds(bench, tmp_path):
    results = tmp_path / "results.json"
    only = ("--only", "hydrogen fluoride", "--box", "paper")
    done = bench("kinds.py", *only, "--results", results)
    assert done.returncode == 0, done.stderr
    assert "two atoms" in done.stdout
    record = json.loads(results.read_text())["kinds"]
    assert record["figures"][0]["molecule"] == "hydrogen fluoride"
    assert record["model"]["acetamide_dipole_debye"] > 3
    assert "results" not in record["command"] and "--box paper" in record["command"]
    done = bench("kinds.py", "--only", "unobtainium")
    assert done.returncode == 2
    assert "unobtainium" in done.stderr


@pytest.mark.slow
def test_speed(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(resnet, "X2", replace(resnet.X2, blocks=1))  # its time does not matter here
    write(tmp_path / "h2.xyz", molecule("H2"))
    done = bench("speed.py", "--file", tmp_path / "h2.xyz", "--repeat", "1", "--threads", 1)
    assert done.returncode == 0, done.stderr
    for row in ("denser, SAD", "whole command", "Li et al. x2 (float32)", "PySCF SCF"):
        assert row in done.stdout


@pytest.mark.slow
def test_scaling(bench, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scaling = module_of("scaling")
    scaling.MOLECULES["water"] = "O"  # takes less time than those of the table
    done = bench(scaling, "--only", "water", "--skip-paper", "--threads", 1)
    assert done.returncode == 0, done.stderr
    head, row = (line.split() for line in done.stdout.splitlines()[1:])
    assert head[0] == "atoms" and row[0] == "3" and row[-1] == "water"
    sad, network, prediction, _, scf = map(float, row[2:7])
    assert 0 < sad + network <= prediction + 0.02 < scf
    assert abs(float(row[-2])) < 10  # meV, of one step
    done = bench(scaling, "--only", "unobtainium")
    assert done.returncode == 2
    assert "unobtainium" in done.stderr and done.stderr.count("\n") == 1


def test_scaling_of_large_structures(bench, monkeypatch, tmp_path):
    """Each structure in its own process; what is in the results is not measured again."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    results, picture = tmp_path / "results.json", tmp_path / "curve.png"
    scaling = module_of("scaling")
    options = ("--spacing", 0.4, "--threads", 1, "--results", results, "--plot", picture)
    done = bench(scaling, "--large", "water:6", "missing.xyz", *options)
    assert done.returncode == 0, done.stderr
    assert "missing.xyz" in done.stderr
    (row,) = json.loads(results.read_text())["large"]["figures"]
    assert row["structure"] == "water:6" and row["n_atoms"] == 6
    assert row["grid_cpu_s"] > 0 and 0 < row["points_memory_gb"] < 4
    assert picture.stat().st_size > 1000
    monkeypatch.setattr(scaling, "_measured", None)  # would fail if called
    done = bench(scaling, "--large", "water:6", *options[:-2])
    assert done.returncode == 0, done.stderr


def test_fragments(bench, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    for name in ("SMALLEST", "BUFFER"):  # the benchmark sets them, and this takes it back
        monkeypatch.setattr(fragments, name, getattr(fragments, name))
    droplets = module_of("droplets")
    solution = droplets.droplet(9, ["Na", "Cl"])
    assert str(solution.symbols).count("OH2") == 7 and len(solution) == 23
    write(tmp_path / "h2o.xyz", molecule("H2O"))
    done = bench("fragments.py", f"{tmp_path / 'h2o.xyz'}:0")
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[1].split()
    assert row[0] == "3" and float(row[4]) < 1e-3
    done = bench("fragments.py", tmp_path / "none.xyz")
    assert done.returncode == 2 and "none.xyz" in done.stderr


def test_threads(bench, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the benchmark sets it
    few = ["--threads", 1, "--busy", 0, 1, "--residues", 0, "--repeat", 1]
    done = bench("threads.py", *few)
    assert done.returncode == 0, done.stderr
    for others, line in enumerate(done.stdout.splitlines()[-2:]):
        atoms, busy, one, chosen = map(float, line.split())
        assert atoms == 12 and busy == others and one > 0 and chosen > 0


def test_trajectory(bench):
    done = bench("trajectory.py", "--frames", "2", "--waters", "2")
    assert done.returncode == 0, done.stderr
    assert "2 frames of 2 waters" in done.stdout and "frames a second" in done.stdout


def test_step_sizes(bench, tmp_path):
    labels = ROOT / "tests" / "reference" / "labels"
    torch.manual_seed(0)
    network = Aspherical(AsphericalConfig(channels=8, layers=1, hidden=8, electrons=1))
    with torch.no_grad():  # as it begins it adds nothing, whatever its other parameters are
        for head in network.heads:
            head.normal_(std=1e-3)
    path = tmp_path / "small.safetensors"
    save_model(path, Model("small", "aspherical", network, Recipe(sad="gth-szv-1e"), {}))
    arguments = ["--labels", labels, "--model", path, "--atoms", 3, "--n", 1, "--test", 1]
    arguments += ["--every", 64]
    done = bench("step_sizes.py", *arguments)
    assert done.returncode == 0, done.stderr
    rows = {row.split()[0]: row.split()[1:] for row in done.stdout.splitlines()[2:]}
    assert rows.keys() == dict(network.named_parameters()).keys()
    lengths = {key: float(row[0]) for key, row in rows.items()}
    assert 0 < lengths["heads.1"] < lengths["filters.0.2.bias"]
    assert float(rows["heads.0"][2]) == pytest.approx(lengths["heads.0"] / 0.2, rel=0.01)
    done = bench("step_sizes.py", "--labels", labels, "--model", path)
    assert done.returncode == 2
    assert "fewer than the 112" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_guesses(bench, tmp_path):
    out = tmp_path / "guesses.json"
    command = [sys.executable, ROOT / "benchmarks" / "guesses.py", "--only", "water", "-o", out]
    command += ["--basis", "sto-3g", "--xc", "pbe"]  # alone: PySCF's own guesses raise warnings
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.read_text())
    assert row["denser"]["hartree"] == pytest.approx(row["minao"]["hartree"], abs=1e-7)
    assert row["denser"]["builds"] == row["denser"]["cycles"] + 2
    done = bench("guesses.py", "--only", "unobtainium")
    assert done.returncode == 2 and "unobtainium" in done.stderr


def test_reactions_keep_their_atoms(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    level = module_of("level_energies")
    for reaction in level.REACTIONS:
        counts = sum(n * np.bincount(molecule(m).numbers, minlength=9) for m, n in reaction.items())
        assert not counts.any(), level.text_of(reaction)
    assert level.text_of({"N2": -1, "H2": -3, "NH3": 2}) == "N2 + 3 H2 -> 2 NH3"
    hydration = sum(n * level.measured(m) for m, n in level.REACTIONS[0].items())
    assert hydration == pytest.approx(-7.04, abs=0.01)  # by hand from ASE's table


def test_level_of_theory_names_its_molecules(bench):
    done = bench("level_of_theory.py", "unobtainium")
    assert done.returncode == 2 and "unobtainium" in done.stderr


def test_properties_needs_labels(bench, tmp_path):
    done = bench("properties.py", "--labels", tmp_path)
    assert done.returncode != 0
    assert "no .npz labels" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("trained_here")
def test_bakeoff_learns_from_as_many_labels_as_asked_and_not_from_the_test(bench, tmp_path):
    labels = sorted((ROOT / "tests" / "reference" / "labels").glob("*.npz"))
    molecules = sorted({read_label(path).molecule for path in labels})
    tested = [path for path in labels if read_label(path).molecule == molecules[-1]]
    for name, chosen in (("all", labels), ("others", tested)):
        (tmp_path / name).mkdir()
        for path in chosen:
            shutil.copy(path, tmp_path / name)
    out = tmp_path / "out"
    arguments = ["labels", "--labels", tmp_path / "all", "--test", tmp_path / "others"]
    arguments += ["--out", out, "--steps", 1, "--counts", 1, 1000, "--held-out", 1]
    arguments += ["--molecules", 1, "--threads", 1, "--set", *SMALL]
    done = bench("bakeoff.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "aspherical atoms, 1 on others" in done.stdout and "parameters" in done.stdout
    infos = [
        load_model(out / f"aspherical_atoms_{n}" / "model.safetensors").info for n in (1, 1000)
    ]
    assert infos[0]["n_train"] in (1, 2) and infos[0]["n_train"] < infos[1]["n_train"]
    for info in infos:
        assert not {path.stem for path in tested} & set(info["train_names"])
    names = {*infos[1]["train_names"], *(path.stem for path in tested)}
    assert infos[1]["n_validation"] == len(labels) - len(names)


def test_bakeoff_names_its_networks(bench, tmp_path):
    labels = ROOT / "tests" / "reference" / "labels"
    arguments = ["networks", "--labels", labels, "--held-out", 1, "--out", tmp_path]
    done = bench("bakeoff.py", *arguments, "--only", "unet")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no network 'unet'" in done.stderr and "local U-Net" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("trained_here")
def test_choices_of_labels_are_compared_on_others(bench, tmp_path):
    """Two folders, one of them smaller: both runs learn from as many, and not from the test."""
    labels = sorted((ROOT / "tests" / "reference" / "labels").glob("*.npz"))
    for name, chosen in (("test", labels[:1]), ("all", labels), ("some", labels[:-1])):
        (tmp_path / name).mkdir()
        for path in chosen:
            shutil.copy(path, tmp_path / name)
    arguments = ["choices", "--labels", tmp_path / "all", tmp_path / "some", "--steps", 2]
    arguments += ["--molecules", 1, "--threads", 1, "--set", *SMALL]
    out = tmp_path / "out"
    done = bench("bakeoff.py", *arguments, "--out", out)
    assert done.returncode == 2 and "--test" in done.stderr
    done = bench("bakeoff.py", *arguments, "--test", tmp_path / "test", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "all on test" in done.stdout and "some on test" in done.stdout
    counts = []
    for name in ("all", "some"):
        info = load_model(out / name / "model.safetensors").info
        assert labels[0].stem not in info["train_names"]
        counts.append(info["n_train"] + info["n_validation"])
    assert counts == [len(labels) - 2] * 2


def test_choosing_prefers_what_is_new_and_small():
    choose = module_of("choose")
    found = {n: {1: 1} for n in range(1, 21)} | {n: {2: 1} for n in range(21, 27)}
    sizes = dict.fromkeys(found, 10) | {26: 5}
    assert choose.choose(found, sizes, set(range(1, 11)), 2)[0] == 26
    everything = choose.choose(found, sizes, set(), 100)
    assert sorted(everything) == sorted(found)
    assert set(choose.choose(found, sizes, {26}, 100)) == set(found) - {26}


@pytest.mark.slow
def test_differences_of_energies(bench):
    done = bench("s22.py", "Water_dimer", "--basis", "gth-szv", "--dispersion", "d3bj")
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[2].split()
    assert row[0] == "Water_dimer" and float(row[5]) == pytest.approx(-5.02, abs=0.01)
    assert float(row[1]) - float(row[2]) == pytest.approx(-float(row[4]), abs=0.02)
    done = bench("ions.py", "H2")
    assert done.returncode == 0, done.stderr
    _, homo, ours, limit, *_ = done.stdout.splitlines()[1].split()
    assert float(homo) < float(ours) - 3 and abs(float(ours) - float(limit)) < 0.1


def test_charges(bench):
    done = bench("charges.py", "--n", "5", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "5 molecules of" in done.stdout and "resp" in done.stdout


def test_throughput(bench):
    done = bench("throughput.py", "--n", "4", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "dipole, mk, hirshfeld, mbis" in done.stdout and "on a grid" in done.stdout
    done = bench("throughput.py", "--n", "2", "--costs")
    assert done.returncode == 0, done.stderr
    assert "network, 16 at a time" in done.stdout


def test_charges_of_hartree_fock(bench, tmp_path):
    done = bench("hf_charges.py", "--n", "3", "--keep", tmp_path / "pot")
    assert done.returncode == 0, done.stderr
    assert "SCALE = " in done.stdout and "RESP of HF/6-31G* itself" in done.stdout
    assert len(list((tmp_path / "pot").glob("*.npz"))) == 3


@pytest.mark.slow
def test_features(bench, tmp_path):
    benchmark = module_of("features")
    benchmark.N_TEST = 6
    done = bench(benchmark, "--sizes", 10, "-o", tmp_path / "out" / "f.json")
    assert done.returncode == 0, done.stderr
    assert "atomization energy" in done.stdout and "f.json" in done.stdout
    rows = json.loads((tmp_path / "out" / "f.json").read_text())["rows"]
    assert len(rows) == 12 and all(0 < row["errors"]["10"] < 100 for row in rows)
