"""What all commands share: help, version, completion, -q, -v, --threads, wrong command lines."""

import ast
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from ase import Atoms
from ase.build import molecule
from ase.io import write as ase_write

from denser import cli
from denser.model.checkpoint import save_model
from denser.workflows import installation


def commands(group=None, path=()):
    """Every command and group, with its path."""
    group = group or typer.main.get_command(cli.app)
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = dict(commands())
LEAVES = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_short_help(run, path):
    code, out, err = run(*path, "-h")
    assert (code, err) == (0, "")
    assert " ".join(["Usage: denser", *path]) in out
    if path in LEAVES:
        for option in ("--quiet", "--verbose", "--threads", "DENSER_THREADS"):
            assert option in out
        assert run(*path, "--help") == (0, out, "")


def test_every_command_has_json():
    assert [path for path in LEAVES if not any(p.name == "json" for p in LEAVES[path].params)] == []


QUANTITY = re.compile(
    r"^(e_.*|energ.*|.*dipole.*|.*quadrupole.*|.*volume.*|.*area|.*distance.*|.*length.*|homo|lumo|gap"
    r"|.*position.*|.*spacing.*|.*padding.*|.*wavelength.*|.*radius.*|.*electrons)$"
)
UNIT = re.compile(r"_(hartree|ev|debye|angstrom|bohr|percent|e|au|kcal)(\d|_|$)")
OTHER = {"dipole_origin", "dipole_from", "volume_ratios"}


def json_keys():
    """Keys of the dictionaries that become JSON, with their files."""
    names = re.compile(r"to_dict|record|_?.*record|row|plain")
    for folder in ("analysis", "cli", "fields", "workflows", "viewer"):
        for path in sorted((Path(cli.__file__).parents[1] / folder).rglob("*.py")):
            for function in ast.walk(ast.parse(path.read_text())):
                if isinstance(function, ast.FunctionDef) and names.fullmatch(function.name):
                    for node in ast.walk(function):
                        if isinstance(node, ast.Dict):
                            yield from ((path.name, ast.unparse(key)) for key in node.keys if key)


def test_units_are_in_the_names_of_json_keys():
    """Quantities with a unit end in it; one quantity has one name in all commands."""
    keys = {(file, key.strip("'")) for file, key in json_keys() if key.startswith("'")}
    assert len(keys) > 100
    bad = {
        (file, key)
        for file, key in keys
        if QUANTITY.match(key) and not UNIT.search(key) and not key.startswith("n_electrons")
    }
    assert {key for _, key in bad} - OTHER == set(), sorted(bad)


def test_version(run):
    assert run("-V") == run("--version") == (0, f"denser {cli.__version__}\n", "")


def test_waiting_threads_sleep_unless_the_user_says_otherwise(run, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    run("-V")
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    run("-V")
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_completion_script(run, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))
    code, out, _ = run("--show-completion", "bash")
    assert code == 0
    assert "_DENSER_COMPLETE" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("predct", "no such command 'predct'; did you mean 'predict'? `denser -h` shows"),
        ("labels pak", "`denser labels -h` shows the commands"),
        ("predict a.xyz --pading 3", "no such option: --pading"),
        ("-q predict a.xyz", "no such option: -q, or it stands before the command; options follow"),
        ("predict --refine", "--refine needs a value (improve the prediction by N Kohn-Sham steps"),
        ("predict --refine a.xyz", "(improve the prediction by N Kohn-Sham steps, such as 1)"),
        ("energy a.xyz --padding wide", "(vacuum on each side, angstrom)"),
        ("predict a.xyz --box round", "unknown box 'round'; known: auto, isolated, paper"),
        ("compare a.cube", "(the reference, on the same grid; or a molecule); `denser compare -h`"),
        ("compare a.cube b.cube c.cube", "c.cube"),
        ("predict a.xyz --threads 0", "(CPU threads; default: all processors)"),
        ("predict", "nothing to predict"),
        ("analyze", "nothing to analyse"),
        ("energy", "nothing to do"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_with_the_way_on(run, arguments, words):
    code, out, err = run(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("denser: ") and len(err.splitlines()) == 1
    assert words in err


@pytest.mark.parametrize(
    "path", [x for x in LEAVES if any(p.required for p in LEAVES[x].params)], ids=" ".join
)
def test_a_missing_argument_is_named(run, path):
    code, out, err = run(*path)
    assert (code, out) == (2, "")
    assert err.startswith("denser: missing ") and len(err.splitlines()) == 1


def test_quiet_and_verbose(run):
    ase_write("h2.xyz", molecule("H2"))
    ase_write("odd.xyz", Atoms("Fe"))
    given = ("predict", "h2.xyz", "odd.xyz", "-o", "out", "--spacing", "0.4", "--padding", "2")
    code, out, err = run(*given)
    assert code == 2 and "h2.xyz: H2" in out and "1 of 2 predicted" in out
    assert "denser: odd.xyz: " in err
    assert run(*given, "-q") == (2, "", err)
    code, out, told = run(*given, "-q", "--json")
    assert [json.loads(line)["input"] for line in out.splitlines()] == ["h2.xyz", "odd.xyz"]
    assert told == err
    code, out, told = run(*given, "-v")
    assert "model default (aspherical, " in told and " on cpu" in told
    assert "Traceback" in told and "InputError" in told
    assert logging.getLogger("denser").level == logging.NOTSET


def test_settings_from_the_environment(run, monkeypatch):
    ase_write("h2.xyz", molecule("H2"))
    for name, value, words in (
        ("MODEL", "none", "no model named 'none'"),
        ("DEVICE", "cuda:7", "'cuda:7' is not available"),
        ("THREADS", "many", "--threads"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(f"DENSER_{name}", value)
            code, _, err = run("predict", "h2.xyz", "-o", "a.cube")
            assert code == 2 and words in err
        assert not Path("a.cube").exists()


def test_threads_are_set_before_the_libraries_are_loaded():
    code = (
        "import os, sys; from denser import cli; sys.argv = 'denser compare a b'.split()\n"
        "try: cli.main()\n"
        "except SystemExit: print(os.environ['OMP_NUM_THREADS'], 'torch' in sys.modules)"
    )
    environment = dict(os.environ, DENSER_THREADS="3", OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "3 False\n"


def test_python_m_denser():
    done = subprocess.run(
        [sys.executable, "-m", "denser", "-V"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"denser {cli.__version__}\n"


def test_info(run, monkeypatch):
    monkeypatch.setenv("DENSER_MODEL", "mine.safetensors")
    code, out, err = run("info", "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["denser"] == cli.__version__
    assert record["packages"]["torch"] and record["extras"]["smiles"]["rdkit"]
    assert not {"all", "dev"} & set(record["extras"])
    assert record["devices"][0] == "cpu" and "default" in record["models"]
    assert record["settings"] == {"DENSER_MODEL": "mine.safetensors"}
    real = installation.version

    def without_rdkit(package: str) -> str:
        if package == "rdkit":
            raise installation.PackageNotFoundError
        return real(package)

    monkeypatch.setattr(installation, "version", without_rdkit)
    code, out, _ = run("info")
    assert code == 0
    assert "rdkit missing (pip install 'denser[smiles]')" in out


def test_models_info(run, small_model):
    save_model(Path("mine.safetensors"), small_model)
    code, out, err = run("models", "info")
    assert (code, err) == (0, "")
    assert " H Li Be B C N O F Na Mg Al Si P S Cl K Ca " in out
    assert "spacing 0.0831 angstrom" in out and "validation mean 0.182" in out
    code, out, _ = run("models", "info", "--json")
    record = json.loads(out)
    assert record["measured"]["validation_mean_percent"] == pytest.approx(0.182, abs=1e-3)
    assert record["recipe"]["spacing_bohr"] == pytest.approx(0.1571, abs=1e-4)
    assert "train_names" not in record["training"] and "C" in record["elements"]
    code, out, _ = run("models", "info", "mine.safetensors", "--json")
    mine = json.loads(out)
    assert (mine["name"], mine["elements"], mine["measured"]) == ("mine", None, {})
    assert mine["bytes"] == Path("mine.safetensors").stat().st_size
    code, out, _ = run("models", "info", "mine.safetensors")
    assert code == 0 and "trained on  unknown" in out
    code, _, err = run("models", "info", "none")
    assert code == 2 and "no model named 'none'" in err
    code, out, _ = run("models", "list", "--json")
    assert {**record, "file": 0, "bytes": 0} in [
        {**found, "file": 0, "bytes": 0} for found in json.loads(out)["models"]
    ]


def test_analyze_without_a_report_prints_the_properties_of_all_inputs(run):
    names = [f"h2_{i}.xyz" for i in range(6)]
    for name in names:
        ase_write(name, molecule("H2"))
    coarse = ("--moments", "--spacing", "0.4", "--padding", "2")
    code, out, _ = run("analyze", *names, *coarse)
    assert code == 0 and out.count("about the centre of nuclear charge") == 6
    code, out, _ = run("analyze", *names, *coarse, "-o", "report")
    assert code == 0 and "centre" not in out and "report.txt" in out
