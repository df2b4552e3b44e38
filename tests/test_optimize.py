"""`denser optimize`: small molecules in small boxes."""

import json
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from denser.model.options import PredictionOptions
from denser.workflows import optimize as workflow
from denser.workflows.optimize import OptimizationSettings, optimize

SMALL = ("--padding", "2")


def hydrogen(length: float = 0.9, **cell) -> Atoms:
    return Atoms("H2", [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0 + length]], **cell)


@pytest.fixture
def run(run):
    """Run `denser optimize ...`, as `denser ...` of conftest."""
    return partial(run, "optimize")


def test_an_optimisation_that_was_stopped_goes_on(run):
    ase.io.write("h2.xyz", hydrogen())
    code, out, err = run("h2.xyz", "-o", "whole", *SMALL)
    assert code == 0, err
    whole = ase.io.read("whole/h2.extxyz")
    assert whole.get_distance(0, 1) == pytest.approx(0.75, abs=0.01)  # PBE
    assert np.linalg.norm(whole.get_forces(), axis=1).max() <= 0.05
    steps = len(ase.io.read("whole/h2.traj", ":")) - 1
    assert steps > 2 and f"H2, {steps} steps, E -1.16" in out

    code, out, err = run("h2.xyz", "-o", "parts", *SMALL, "--steps", "2", "--json")
    record = json.loads(out)
    assert (code, record["converged"], record["n_steps"]) == (2, False, 2)
    assert "not converged after 2 steps" in err and "run the command again" in err
    code, out, err = run("h2.xyz", "-o", "parts", *SMALL, "--json")
    record = json.loads(out)
    assert (code, record["converged"], record["n_steps_before"]) == (0, True, 2)
    parts = ase.io.read("parts/h2.extxyz")
    np.testing.assert_allclose(parts.positions, whole.positions, atol=1e-4)
    assert parts.get_potential_energy() == pytest.approx(whole.get_potential_energy(), abs=1e-5)
    assert len(ase.io.read("parts/h2.traj", ":")) == record["n_steps"] + 1

    before = Path("parts/h2.traj").stat().st_mtime_ns
    code, out, err = run("h2.xyz", "-o", "parts", *SMALL, "--json")
    again = json.loads(out)
    assert code == 0 and again["n_steps"] == again["n_steps_before"] == record["n_steps"]
    assert Path("parts/h2.traj").stat().st_mtime_ns == before
    ase.io.write("h2.xyz", hydrogen(0.76))  # another structure begins again
    code, out, err = run("h2.xyz", "-o", "parts", *SMALL, "--json")
    assert code == 0 and json.loads(out)["n_steps_before"] == 0


def test_ctrl_c_keeps_the_steps(tmp_path, monkeypatch):
    def stop(step: int, fmax: float) -> None:
        if step == 1:
            raise KeyboardInterrupt

    paths = tmp_path / "h2.extxyz", tmp_path / "h2.traj"
    settings = OptimizationSettings(options=PredictionOptions(padding=2.0))
    with pytest.raises(KeyboardInterrupt):
        optimize(hydrogen(), *paths, settings, "the input", stop)
    assert not paths[0].exists()
    kept = workflow._frames(paths[1], "the input")
    assert len(kept) == 2
    assert workflow._frames(paths[1], "another input") == []
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    assert workflow._frames(paths[1], "the input") == []


def test_a_cell_stays_as_it_is(tmp_path):
    atoms = hydrogen(cell=[3.4, 4, 5], pbc=True)
    record = optimize(
        atoms, tmp_path / "a.extxyz", tmp_path / "a.traj", OptimizationSettings(steps=1)
    )
    found = ase.io.read(tmp_path / "a.extxyz")
    assert found.pbc.all()
    np.testing.assert_allclose(found.cell, atoms.cell)
    assert record["e_change_ev"] < 0 and record["largest_displacement_angstrom"] > 0.01
    (note,) = record["notes"]
    assert "the cell repeated 3 x 2 x 2 times is large enough" in note


def test_bad_input(run):
    radical = Atoms("OH", [(0, 0, 0), (0, 0, 0.97)])
    ase.io.write("h.xyz", radical)
    radical.set_cell([8, 8, 8])
    radical.pbc = True
    ase.io.write("cell.extxyz", radical)
    for arguments, words in (
        ((), "nothing to optimise"),
        (("h.xyz", "-o", "h.extxyz"), "give -o FOLDER"),
        (("h.xyz", "--fmax", "-1"), "positive force"),
        (("cell.extxyz",), "in a box cover closed shells only"),
        (("none.xyz",), "no such file"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert words in err and len(err.splitlines()) == 1
