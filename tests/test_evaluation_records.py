"""Sums, tables and files of evaluations whose figures are known beforehand."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from denser.types.errors import InputError
from denser.types.units import DEBYE
from denser.workflows.evaluate.records import Evaluation, Failure, Measured, sentences, tables


def row(
    name, error, n_atoms=5, distorted=False, around=None, off=0.0, dipole=0.0, in_doubt=False
) -> Measured:
    errors = {"model": error, "sad": 0.14, "atrocious_sad": 0.28}
    by_distance = np.array([[error, 0, 0, 0, 0], [0.5, 0.3, 0.2, 0, 0]])
    return Measured(
        name, "CH4", n_atoms, 8.0, distorted, errors, around or {}, by_distance, dipole, off,
        in_doubt, 0.01, 0.2,
    )  # fmt: skip


def test_summary_of_known_errors():
    rng = np.random.default_rng(0)
    rows = tuple(
        row(f"m{i}", i / 100, n_atoms=8 if i < 50 else 18, distorted=i == 3)
        for i in rng.permutation(101)
    )
    found = Evaluation("x", rows, (Failure("bad", "why"),))
    figures = found.summary()
    model = figures["err_rho_percent"]["model"]
    names = ("mean", "median", "p95", "p99", "worst")
    assert [model[key] for key in names] == pytest.approx([50, 50, 95, 99, 100])
    assert model["worst_name"] == "m100"
    assert [worst.name for worst in found.worst(2)] == ["m100", "m99"]
    assert (figures["n"], figures["n_failed"]) == (101, 1)
    sizes = [(f["from"], f["to"], f["n"], f["mean"]) for f in figures["by_atoms"]]
    assert sizes == [(1, 10, 50, pytest.approx(24.5)), (16, 20, 51, pytest.approx(75))]
    near, *_, far = figures["by_distance"]
    assert near["err_rho_percent"] == pytest.approx(50)
    assert near["local_percent"] == pytest.approx(100)
    assert (far["to_angstrom"], far["local_percent"]) == (None, None)
    assert found.part(lambda r: r.distorted).errors() == pytest.approx([0.03])
    json.dumps(found.to_dict(), allow_nan=False)


def test_summary_of_elements_electrons_and_dipoles():
    rows = (
        row("a", 0.1, around={"C": 0.2, "H": 0.1}, off=-0.8, dipole=1 / DEBYE),
        row("b", 0.1, around={"C": 0.4}, off=0.4, dipole=3 / DEBYE),
    )
    figures = Evaluation("x", rows).summary()
    around = figures["around_percent"]
    assert (around["C"]["n"], around["H"]["n"]) == (2, 1)
    assert around["C"]["mean"] == pytest.approx(30)
    assert around["C"]["worst_name"] == "b"
    assert around["H"]["worst_name"] == "a"
    assert figures["dipole_error_debye"]["mean"] == pytest.approx(2)
    scaling = figures["before_scaling"]
    assert scaling["mean_electrons"] == pytest.approx(-0.2)
    assert scaling["mean_absolute_percent"] == pytest.approx(7.5)
    assert scaling["worst_percent"] == pytest.approx(-10)
    with pytest.raises(InputError, match="nothing was measured"):
        Evaluation("x", ()).summary()


def test_summary_of_doubts():
    rows = (row("a", 0.05, in_doubt=True), row("b", 0.01, in_doubt=True), row("c", 0.002))
    found = Evaluation("x", rows)
    doubt = found.summary()["doubt"]
    assert (doubt["in_doubt"]["n"], doubt["trusted"]["n"]) == (2, 1)
    assert doubt["in_doubt"]["mean"] == pytest.approx(3)
    assert doubt["trusted"]["worst"] == pytest.approx(0.2)
    text = "in doubt: 2 of 3; these off by 3.00 %, worst 5.00; the others off by"
    assert any(line.startswith(text) for line in sentences(found))
    assert Evaluation("x", rows[2:]).summary()["doubt"]["in_doubt"] == {"n": 0}


def test_expected_errors_beside_the_errors():
    pairs = ((0.01, 0.012), (0.002, 0.001), (0.004, 0.005))
    rows = tuple(replace(row(str(i), x), expected_error=y) for i, (x, y) in enumerate(pairs))
    known = Evaluation("x", rows).summary()["expected"]
    assert (known["n"], known["rank_correlation"]) == (3, pytest.approx(1))
    assert known["within_1.5_percent"] == pytest.approx(200 / 3)
    told = "expected errors: 67 % within a factor of 1.5, rank correlation with the errors 1.00"
    assert told in sentences(Evaluation("x", rows))
    assert Evaluation("x", (row("a", 0.1),)).summary()["expected"] is None


def test_tables_and_csv_hold_the_figures(tmp_path):
    rows = (row("a", 0.0123, around={"C": 0.2}), row("b_rattled", 0.0321, distorted=True))
    found = Evaluation("x", rows)
    console = Console(width=120, record=True, file=io.StringIO())
    for table in tables(found):
        console.print(table)
    text = console.export_text() + " ".join(sentences(found))
    for piece in (
        "2.220",
        "3.210",
        "b_rattled (CH4)",
        "as given",
        "distorted",
        "20.000",
        "0 to 0.",
    ):
        assert piece in text
    found.write_csv(tmp_path / "e.csv")
    with (tmp_path / "e.csv").open() as file:
        first, second = csv.DictReader(file)
    assert float(first["model_percent"]) == pytest.approx(1.23)
    assert (float(first["around_C_percent"]), second["around_C_percent"]) == (20.0, "")
    assert (first["distorted"], second["distorted"]) == ("0", "1")
