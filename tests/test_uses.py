"""The pages of uses run from beginning to end as they stand, one with fewer molecules."""

import re
import shlex
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[1] / "docs" / "uses"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.M | re.S)

FEW = {"paracetamol": 0, "aspirin": -1, "metformin": 1, "pyrazinamide": 0}
"""Drugs, and their charges."""

pytestmark = pytest.mark.slow


@pytest.fixture
def page(run):
    """Run all blocks of a page in one folder; the names that its Python leaves."""

    def call(name: str, **replaced: str) -> dict:
        text = (PAGES / name).read_text()
        for old, new in replaced.values():
            assert old in text
            text = text.replace(old, new)
        names: dict = {}
        run("-V")  # changes into the folder
        for kind, block in BLOCK.findall(text):
            if kind == "python":
                exec(compile(block, name, "exec"), names)
            else:
                for line in block.splitlines():
                    code, _, err = run(*shlex.split(line)[1:])
                    assert code == 0, f"{line}: {err}"
        return names

    return call


def test_electrostatics(page):
    found = page("electrostatics.md")["found"]
    assert set(found) == {"paracetamol", "aspirin", "nicotine"}
    for name, (charge, of_charges, of_density) in found.items():
        assert charge == pytest.approx(-1 if name == "aspirin" else 0, abs=1e-5)
        assert of_charges == pytest.approx(of_density, abs=0.2)  # debye


def test_openmm(page):
    """All of it but the simulations, with four of the drugs."""
    drugs = (PAGES / "openmm.md").read_text().split('DRUGS = """\\\n')[1].split('"""')[0]
    few = [line for line in drugs.splitlines() if line.split()[1] in FEW]
    found = page("openmm.md", fewer=(drugs, "\n".join([*few, ""])))["charges"]
    assert set(found) == set(FEW)
    for name, charge in FEW.items():
        assert found[name] == pytest.approx(charge, abs=1e-5)


def test_refinement(page):
    pytest.importorskip("cctbx")
    names = page("refinement.md")
    for length, true in zip(
        names["bonds"](names["refined"]), names["bonds"](names["SITES"]), strict=True
    ):
        assert length == pytest.approx(true, abs=0.005)  # angstrom


def test_map(page):
    assert page("map.md")["error"] < 0.05


def test_learning(page):
    fewer = ("N_TRAIN, N_TEST = 100, 100", "N_TRAIN, N_TEST = 60, 40")
    errors = page("learning.md", fewer=fewer)["errors"]
    assert errors["features"] < 0.8 * errors["numbers of atoms"]
