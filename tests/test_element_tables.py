"""The command that makes and checks the tables of an element."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from denser.dft.basis import basis_name, shells
from denser.dft.tables import two_centre
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
    failed = next(check for check in checks(tmp_path, "H") if not check.passed)
    assert failed.what == "electrons of gth-szv-1e"
    assert str(failed).startswith("FAILED  electrons")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:remove_linear_dep_:DeprecationWarning")  # PySCF's own
def test_one_command_makes_an_element(as_main, monkeypatch, tmp_path):
    """Hydrogen from nothing, as in the package; pairs with an element of each kind."""
    kinds = {symbol: two_centre.ATOMS[symbol] for symbol in ("H", "C", "Na", "Zn", "Br")}
    monkeypatch.setattr(two_centre, "ATOMS", kinds)
    for path in SHIPPED.glob("*.np[yz]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code, _, err = as_main("denser.dft.tables", tmp_path, "Uuo")
    assert code == 2 and "Uuo is not in denser.dft.basis.ELEMENTS" in err
    code, out, err = as_main("denser.dft.tables", tmp_path, "H")
    assert code == 0, out + err
    assert "FAILED" not in out
    assert list(json.loads((tmp_path / "basis.json").read_text())["elements"]) == ["H"]
    with np.load(tmp_path / "two_centre.npz") as made, np.load(SHIPPED / "two_centre.npz") as old:
        assert len(made["pairs"]) == 15
        shipped = old["pairs"].tolist()
        rows = [shipped.index(pair) for pair in made["pairs"].tolist()]
        np.testing.assert_allclose(made["integrals"], old["integrals"][rows], atol=2e-5)


def test_names_of_basis_sets():
    assert basis_name("Cl") == "gth-tzv2p"
    assert basis_name("Br") == "TZV2P-MOLOPT-PBE-GTH-q7"
    assert basis_name("Fe") == "TZV2P-MOLOPT-PBE-GTH-q16"
    assert basis_name("Br", "gth-dzvp") == "gth-dzvp"
    with pytest.raises(InputError, match=r"lacks the basis 'gth-tzv2p' of Br"):
        shells("Br", "gth-tzv2p")
