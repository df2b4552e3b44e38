"""The command that makes and checks the tables of an element."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from denser.dft.basis import basis_name, shells
from denser.dft.tables.check import checks
from denser.types.errors import InputError

SHIPPED = Path(str(files("denser.atoms"))) / "tables"


def test_checks_of_an_element_pass_and_find_damage(tmp_path):
    for path in SHIPPED.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    found = list(checks(tmp_path, "H"))
    assert [check for check in found if not check.passed] == []
    assert len(found) > 10
    sad = json.loads((tmp_path / "sad.json").read_text())
    sad["recipes"]["gth-szv-1e"]["H"]["s"][0] *= 1.5
    (tmp_path / "sad.json").write_text(json.dumps(sad))
    failed = [check for check in checks(tmp_path, "H") if not check.passed]
    assert [check.what for check in failed] == ["electrons of gth-szv-1e"]
    assert str(failed[0]).startswith("FAILED  electrons")


@pytest.mark.slow
def test_one_command_makes_an_element(tmp_path):
    """Hydrogen from nothing, as in the package."""
    for path in SHIPPED.glob("*.np[yz]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "denser.dft.tables", str(tmp_path)]
    run = subprocess.run([*command, "Uuo"], capture_output=True, text=True)
    assert run.returncode == 2 and "Uuo is not in denser.dft.basis.ELEMENTS" in run.stderr
    run = subprocess.run([*command, "H"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "FAILED" not in run.stdout
    assert list(json.loads((tmp_path / "basis.json").read_text())["elements"]) == ["H"]
    with np.load(tmp_path / "two_centre.npz") as made, np.load(SHIPPED / "two_centre.npz") as old:
        np.testing.assert_array_equal(made["pairs"], old["pairs"])
        np.testing.assert_allclose(made["integrals"], old["integrals"], atol=2e-5)  # of quadrature


def test_names_of_basis_sets():
    assert basis_name("Cl") == "gth-tzv2p"
    assert basis_name("Br") == "TZV2P-MOLOPT-PBE-GTH-q7"
    assert basis_name("Fe") == "TZV2P-MOLOPT-PBE-GTH-q16"
    assert basis_name("Br", "gth-dzvp") == "gth-dzvp"
    with pytest.raises(InputError, match=r"lacks the basis 'gth-tzv2p' of Br"):
        shells("Br", "gth-tzv2p")
