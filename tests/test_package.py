"""What importing costs, and who may import whom."""

import subprocess
import sys
from pathlib import Path

import denser

ROOT = Path(__file__).parents[1]


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(out.stdout.split())


def test_import_loads_neither_torch_nor_pyscf():
    loaded = modules_after("import denser")
    assert not {"torch", "pyscf", "matplotlib", "numpy"} & loaded
    assert not {"torch", "pyscf"} & modules_after("import denser; denser.superposition")
    assert not {"pyscf"} & modules_after("import denser.prediction, denser.training.loop")


def test_help_is_light():
    statement = "import denser.cli; sys.argv = ['denser', '--help']"
    assert not {"torch", "ase", "numpy", "scipy"} & modules_after(statement)


def test_public_names_exist_and_predict_stays_a_function():
    for name in denser.__all__:
        assert getattr(denser, name) is not None
    code = "import denser.prediction, denser; assert callable(denser.predict)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rooms_import_downwards_only():
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
