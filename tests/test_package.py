"""What importing costs, and who may import whom."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import denser

ROOT = Path(__file__).parents[1]


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(out.stdout.split())


def test_import_loads_neither_torch_nor_pyscf_and_prediction_no_pyscf():
    loaded = modules_after("import denser")
    assert not {"torch", "pyscf", "matplotlib", "numpy"} & loaded
    assert not {"torch", "pyscf"} & modules_after("import denser; denser.superposition")
    predict = (  # the tables of free atoms travel with the package
        "import ase, denser, denser.training.loop, denser.workflows.predict, denser.pictures.plot; "
        "h2 = ase.Atoms('H2', [[0, 0, 0], [0, 0, 0.74]]); "
        "rho = denser.predict(h2, spacing=0.4, padding=2); "
        "denser.analyze(rho, ['moments', 'hirshfeld'])"
    )
    assert not {"pyscf"} & modules_after(predict)


def test_version_stands_in_one_place():
    """pyproject.toml reads it from the package; the citation is the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    where = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    module, name = where.rsplit(".", 1)
    assert getattr(import_module(module), name) is denser.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.M).group(1) == denser.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changelog, re.M).group(1) == denser.__version__


def test_old_import_paths_give_the_same_objects_and_warn():
    from denser.types._moved import MOVED

    code = (
        "import warnings, denser; warnings.simplefilter('ignore')\n"
        "from importlib import import_module\n"
        f"for old, new in {MOVED!r}.items():\n"
        "    assert import_module('denser.' + old) is import_module('denser.' + new), old\n"
        "warnings.simplefilter('error')\n"
        "import denser.types.structure, denser.labels.store\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import denser, sys; from denser.structure import Structure"
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
    )
    assert "denser.structure is now denser.types.structure" in done.stderr


def test_help_is_light():
    statement = "import denser.cli; sys.argv = ['denser', '--help']"
    assert not {"torch", "ase", "numpy", "scipy"} & modules_after(statement)


def test_public_names_exist_and_predict_stays_a_function():
    for name in denser.__all__:
        assert getattr(denser, name) is not None
    assert dir(denser) == sorted(denser.__all__) == sorted([*denser._WHERE, "__version__"])
    code = "import denser.model.predictor, denser; assert callable(denser.predict)"
    subprocess.run([sys.executable, "-c", code], check=True)


ENERGY = """
import numpy as np
from ase.build import molecule
from denser import Grid, Structure
from denser.dft.scf import scf
s = Structure.of(molecule("C6H6"))
print(scf(s, Grid.paper(s, 0.2), max_cycle=1).e_tot)
"""


@pytest.mark.slow
def test_pyscf_is_right_whichever_is_imported_first():
    """Two OpenMP libraries in one process: loaded around each other they give wrong energies."""
    energies = []
    for first in ("", "import torch", "import pyscf, denser, torch", "import denser.dft, torch"):
        done = subprocess.run(
            [sys.executable, "-c", first + ENERGY],
            env=dict(os.environ, OMP_NUM_THREADS="2"), capture_output=True, text=True, check=True,
        )  # fmt: skip
        energies.append(float(done.stdout))
    assert max(energies) - min(energies) < 1e-8
    done = subprocess.run(
        [sys.executable, "-c", "import pyscf, torch" + ENERGY], capture_output=True, text=True
    )
    assert "import torch before pyscf, or denser.dft right after it" in done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "import denser, pyscf; denser.Recipe; import denser.workflows.scf_guess",
        "import denser; from pyscf import gto, dft; from denser.model.predictor import predict",
        "import denser.labels.store, pyscf; denser.Predictor",
    ],
)
def test_denser_and_pyscf_may_be_imported_in_any_order(first):
    code = f"{first}; import sys, denser.dft; assert 'torch' in sys.modules or not denser.predict"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FORKED = """
import multiprocessing, sys
import numpy as np
import torch
import denser.dft
from denser.model.predictor import Predictor
torch.set_num_threads(2)
def work(n):
    return torch.get_num_threads(), float((torch.ones(n, 300) @ torch.ones(300, n)).sum())
print(work(400))
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map_async(work, [400, 500]).get(timeout=60))
"""


def test_a_forked_process_does_not_hang():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        env=dict(os.environ, OMP_NUM_THREADS="2"), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stdout.split() == [
        "(2,",
        "48000000.0)",
        "[(1,",
        "48000000.0),",
        "(1,",
        "75000000.0)]",
    ]


def test_distributions_have_what_they_need(tmp_path):
    """Built from a copy of the sources: files of the wheel, of the sdist, and the description."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if not name.startswith(("data/", "benchmarks/")) and (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    code = (
        "from setuptools import build_meta as b; b.build_sdist('out'); print(b.build_wheel('out'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    wheel = tmp_path / "out" / done.stdout.split()[-1]
    assert wheel.stat().st_size < 6.5e6
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if name.startswith("denser/")}
        (metadata,) = (n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        described = file.read(metadata).decode()
    sources = [n for n in listed.stdout.splitlines() if n.startswith("src/denser/")]
    assert names == {n.removeprefix("src/") for n in sources if (ROOT / n).is_file()}
    text = described.partition("\n\n")[2]
    assert text.startswith("# denser") and "pip install" in text
    assert not re.findall(r"\]\((?!https?:)|src=", text)
    (sdist,) = (tmp_path / "out").glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        held = {name.partition("/")[2] for name in file.getnames()}
    assert {"docs/predict.md", "examples/aspirin.xyz", "CITATION.cff", "tests/conftest.py"} <= held
    assert not {name for name in held if "__pycache__" in name or name.startswith(".")}
