"""Bond scans: the fit of the minimum, the command, and a curve of H2."""

import csv
import json
from functools import partial

import numpy as np
import pytest
from typer.testing import CliRunner

from denser.cli import app
from denser.cli.scan import _summary
from denser.dft.scf import scf
from denser.model.checkpoint import Model, build, save_model
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.units import BOHR
from denser.workflows.scan import Scan, diatomic, minimum, plot_scans, scan, write_csv

runner = CliRunner()
SMALL = PredictionOptions(padding=2.0)


@pytest.fixture(scope="module")
def model() -> Model:
    """Untrained (its density is the SAD), on a coarse grid."""
    options = {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1]}
    return Model("coarse", "unet", build("unet", options).eval(), Recipe(spacing=0.28), {})


def morse(d: np.ndarray, r_e: float = 2.1) -> np.ndarray:
    return 0.3 * (1 - np.exp(-1.3 * (d - r_e))) ** 2 - 20.0


def test_the_minimum_of_a_morse_curve_is_found_between_points():
    for step, error in ((0.1, 2e-3), (0.02, 2e-5)):
        d = np.arange(1.53, 3.0, step)
        assert minimum(d, morse(d)) == pytest.approx(2.1, abs=error)


def test_a_minimum_that_is_not_there_is_not_invented():
    d = np.linspace(1.5, 2.0, 11)
    assert minimum(d, morse(d)) is None
    assert minimum(d[:4], (d[:4] - d[1]) ** 2) is None
    few, edge = (Scan("H2", d[:n], d[:n], np.full(n, np.nan)) for n in (4, 5))
    assert _summary(few) == "H2: 4 points, too few points for the minimum of the prediction"
    assert _summary(edge) == "H2: 5 points, prediction has no minimum in this range"
    energies = morse(np.linspace(1.8, 2.4, 9))
    energies[[0, 8]] = np.nan  # points that did not converge are left out
    assert minimum(np.linspace(1.8, 2.4, 9), energies) == pytest.approx(2.1, abs=2e-3)


def test_formulas_of_two_atoms():
    assert diatomic("N2") == (7, 7)
    assert diatomic("CO") == (6, 8)
    assert diatomic("HCl") == (1, 17)
    for name in ("H2O", "N", "O2+", "Xy", "n2", "", "XX"):
        with pytest.raises(InputError, match="not a diatomic molecule"):
            diatomic(name)


def test_scan_of_hydrogen(model, tmp_path):
    distances = np.arange(0.65, 0.90, 0.05) / BOHR
    seen = []
    predictor = Predictor(model, "cpu", bf16=False)
    curve = scan("H2", distances, predictor, SMALL, report=lambda *n: seen.append(n))
    assert seen[-1] == (5, 5)
    np.testing.assert_allclose(curve.distances, distances)
    r_min = minimum(curve.distances, curve.scf) * BOHR
    assert 0.74 < r_min < 0.76
    # E_tot of one step is an estimate of the SCF's energy.
    assert np.abs(curve.one_step - curve.scf).max() < 0.05
    path = tmp_path / "h2.csv"
    write_csv(path, [curve])
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and rows[0]["molecule"] == "H2"
    assert float(rows[2]["distance_angstrom"]) == pytest.approx(0.75)
    assert float(rows[2]["e_scf_hartree"]) == pytest.approx(curve.scf[2], abs=1e-8)


def test_points_that_do_not_converge_are_told(model, tmp_path, monkeypatch):
    weights = tmp_path / "coarse.safetensors"
    save_model(weights, model)
    monkeypatch.setattr("denser.workflows.scan.scf", partial(scf, max_cycle=1))
    options = ["--model", str(weights), "--padding", "2", "--device", "cpu"]
    command = ["scan", "H2", "--distances", "0.70:0.75:0.05", *options]
    done = runner.invoke(app, command)
    assert done.exit_code == 2 and "2 SCF points NOT CONVERGED" in done.stdout
    assert "did not converge at 2 of 2 distances" in done.stderr
    record = json.loads(runner.invoke(app, [*command, "--json"]).stdout)
    assert record["converged"] is False and "2 of 2" in record["errors"]["scf"]
    assert record["e_scf_hartree"] == [None, None]


def test_plot(tmp_path):
    d = np.linspace(1.6, 2.6, 11)
    curves = [Scan("N2", d, morse(d) + 1e-3, morse(d)), Scan("CO", d, morse(d), d * np.nan)]
    plot_scans(tmp_path / "curves.png", curves)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"cannot write \.xyz"):
        plot_scans(tmp_path / "curves.xyz", curves)


def test_command(model, tmp_path):
    weights, table = tmp_path / "coarse.safetensors", tmp_path / "out.csv"
    save_model(weights, model)
    options = ["--model", str(weights), "--padding", "2", "--no-scf", "--device", "cpu"]
    done = runner.invoke(
        app, ["scan", "H2O", "H2", "--distances", "0.70:0.80:0.02", "--csv", str(table), *options]
    )
    assert done.exit_code == 2
    assert "'H2O' is not a diatomic molecule" in done.output
    assert "H2: 6 points" in done.output
    assert table.read_text().count("\n") == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--distances", "0.5-2.0"], "is not first:last:step"),
        (["--distances", "1:0.5:0.1"], "must increase"),
        (["--padding", "1"], "cuts the density off"),
    ],
)
def test_bad_options(arguments, message):
    done = runner.invoke(app, ["scan", "H2", *arguments])
    assert isinstance(done.exception, InputError) and message in str(done.exception)
