"""`pip install .` without extras: what works, and what says which extra it needs.

The commands run in processes that find only the packages which the base install brings: those of
`dependencies` in pyproject.toml, and what they depend on in turn.
"""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import denser

ROOT = Path(__file__).parents[1]

PDB = """\
HETATM    1  H1  H2  A   1       0.000   0.000   0.000  1.00  0.00           H
HETATM    2  H2  H2  A   1       0.000   0.000   0.740  1.00  0.00           H
END
"""

ABSENT = """
import sys
from importlib.machinery import PathFinder

HIDDEN = {hidden!r}

class BaseInstall(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = BaseInstall
"""
"""Python runs `sitecustomize` when it starts, in worker processes too."""


def base_distributions() -> set[str]:
    """Names of the distributions that `pip install .` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found, left = set(), [(Requirement(text), "") for text in project["dependencies"]]
    while left:
        requirement, extra = left.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if name not in found:
            found.add(name)
            for wanted in ["", *requirement.extras]:
                left += [(Requirement(r), wanted) for r in distribution(name).requires or []]
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Environment of a process in which only the base install can be imported."""
    base = base_distributions()
    hidden = {
        package
        for package, owners in packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & {*base, "denser"}
    }
    extras = {"cctbx", "rdkit", "qm9pack", "parsl", "dftd3", "dftd4", "starlette", "uvicorn"}
    assert {*extras, "pytest"} <= hidden
    assert not {"numpy", "ase", "torch", "denser"} & hidden
    folder = tmp_path_factory.mktemp("base_install")
    (folder / "sitecustomize.py").write_text(ABSENT.format(hidden=sorted(hidden)))
    paths = [str(folder), str(Path(denser.__file__).parents[1])]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(paths), COLUMNS="200")


COMMANDS = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from denser import cli

def run(line):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["denser", *line.split()]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0, out.getvalue(), err.getvalue()

def dispersion(kind):
    import denser
    from ase.build import molecule
    atoms = molecule("H2")
    atoms.calc = denser.Calculator(dispersion=kind, padding=2)
    try:
        atoms.get_potential_energy()
    except denser.InputError as error:
        return str(error)

try:
    import rdkit
except ImportError as error:
    missing = str(error)
lines, kinds = json.loads(sys.argv[1])
done = {line: run(line) for line in lines}
print(json.dumps([missing, done, {kind: dispersion(kind) for kind in kinds}]))
"""
"""All commands run in one process, as most of the time goes into starting one."""

DO = (
    "predict h2.xyz -o h2.cube --padding 2 --spacing 0.2",
    "predict h2.pdb -o h2.ccp4 --padding 2 --spacing 0.2",
    "plot h2.cube",
    "analyze h2.cube --json",
    "energy h2.xyz --steps 1 --padding 2 --json",
    "compare h2.cube h2.cube",
    "charges h2.xyz -o h2.mol2",
)

HELP = ("--help", "energy --help", "view --help", "models list")

NEED = {
    "predict --smiles O -o a.cube": "smiles",
    "predict a.sdf -o h2.cube": "smiles",
    "predict a.mol2 -o h2.cube": "smiles",
    "view --no-browser h2.xyz": "view",
    "refine a.cif": "crystal",
    "label qm9:train[0:2] -o a.db": "qm9",
    "charges h2.xyz -o a.parquet": "parquet",
    "label h2.xyz -o a.db --executor parsl:config.py": "parsl",
}

DISPERSION = ("d3bj", "d4")


@pytest.fixture(scope="module")
def base(environment, tmp_path_factory) -> tuple[str, dict[str, list], dict[str, str]]:
    """Error of `import rdkit`; (exit code, stdout, stderr) of each command; other errors."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "h2.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    (folder / "h2.pdb").write_text(PDB)
    (folder / "config.py").write_text("config = None\n")
    for name in ("a.sdf", "a.mol2", "a.cif"):
        (folder / name).write_text("@<TRIPOS>MOLECULE\n")
    wanted = json.dumps([[*HELP, *DO, *NEED], DISPERSION])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, wanted],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


def test_what_the_base_install_does(base):
    missing, done, _ = base
    assert missing == "No module named 'rdkit'"
    assert {line: done[line][2] for line in DO if done[line][0] != 0} == {}
    assert json.loads(done["analyze h2.cube --json"][1])["formula"] == "H2"
    energy = json.loads(done["energy h2.xyz --steps 1 --padding 2 --json"][1])
    assert energy["e_tot_hartree"] == pytest.approx(-1.16, abs=0.02)


@pytest.mark.parametrize("command", HELP)
def test_help_needs_no_extra(base, command):
    code, out, err = base[1][command]
    assert (code, err) == (0, "") and out


@pytest.mark.parametrize("command", NEED)
def test_a_command_says_which_extra_it_needs(base, command):
    code, _, err = base[1][command]
    assert f"pip install 'denser[{NEED[command]}]'" in " ".join(err.split()), err
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", DISPERSION)
def test_dispersion_says_which_extra_it_needs(base, kind):
    assert base[2][kind].endswith("pip install 'denser[dispersion]'")
