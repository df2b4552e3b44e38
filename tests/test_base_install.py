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


@pytest.fixture
def python(environment, tmp_path):
    """Run Python in a temporary folder: (exit code, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    (tmp_path / "h2.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    return call


def test_what_the_base_install_does(python, tmp_path):
    code, out, err = python("-c", "import rdkit")
    assert code == 1 and "No module named 'rdkit'" in err
    code, out, err = python("-m", "denser", "predict", "h2.xyz", "-o", "h2.cube")
    assert code == 0, err
    (tmp_path / "h2.pdb").write_text(PDB)
    code, out, err = python("-m", "denser", "predict", "h2.pdb", "-o", "h2.ccp4")
    assert code == 0, err
    code, out, err = python("-m", "denser", "plot", "h2.cube")
    assert code == 0, err
    code, out, err = python("-m", "denser", "analyze", "h2.cube", "--json")
    assert code == 0, err
    assert json.loads(out)["formula"] == "H2"
    command = ("energy", "h2.xyz", "--steps", "1", "--padding", "3", "--json")
    code, out, err = python("-m", "denser", *command)
    assert code == 0, err
    assert json.loads(out)["e_tot_hartree"] == pytest.approx(-1.16, abs=0.02)
    code, out, err = python("-m", "denser", "compare", "h2.cube", "h2.cube")
    assert code == 0, err


@pytest.mark.parametrize("command", ["--help", "energy --help", "view --help", "models list"])
def test_help_needs_no_extra(python, command):
    code, _, err = python("-m", "denser", *command.split())
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("predict --smiles O -o a.cube", "smiles"),
        ("predict a.sdf -o h2.cube", "smiles"),
        ("predict a.mol2 -o h2.cube", "smiles"),
        ("view --no-browser h2.xyz", "view"),
        ("refine a.cif", "crystal"),
        ("label qm9:train[0:2] -o a.db", "qm9"),
        ("label h2.xyz -o a.db --executor parsl:config.py", "parsl"),
    ],
)
def test_a_command_says_which_extra_it_needs(python, tmp_path, command, extra):
    (tmp_path / "config.py").write_text("config = None\n")
    for name in ("a.sdf", "a.mol2", "a.pdb", "a.cif"):
        (tmp_path / name).write_text("@<TRIPOS>MOLECULE\n")
    code, _, err = python("-m", "denser", *command.split())
    assert f"pip install 'denser[{extra}]'" in " ".join(err.split()), err
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", ["d3bj", "d4"])
def test_dispersion_says_which_extra_it_needs(python, kind):
    code, _, err = python(
        "-c",
        "import denser\nfrom ase.build import molecule\natoms = molecule('H2O')\n"
        f"atoms.calc = denser.Calculator(dispersion={kind!r})\natoms.get_potential_energy()",
    )
    assert code == 1
    assert err.splitlines()[-1].endswith("pip install 'denser[dispersion]'")
