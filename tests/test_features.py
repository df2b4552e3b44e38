"""Tables of features: what they hold, and that they do not turn."""

import csv
import json
import sys

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from typer.testing import CliRunner

from denser.cli import app
from denser.model.checkpoint import Model, build, save_model
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.workflows.features import FeatureTable, features, names_of


def table(path) -> tuple[list[dict], np.ndarray]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("l") and "_c" in name]
    return rows, np.array([[float(row[name]) for name in names] for row in rows])


def test_rows_of_molecules_are_the_sums_of_those_of_atoms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    turned = molecule("CH3OH")
    turned.rotate(50, (1, 2, 3))
    write("a.xyz", molecule("CH3OH"))
    write("b.xyz", turned)
    (tmp_path / "bad.xyz").write_text("no structure")
    run = CliRunner().invoke
    done = run(app, ["features", "a.xyz", "b.xyz", "bad.xyz", "-o", "m.csv", "--json"])
    assert done.exit_code == 2  # the others are written
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record.get("formula") for record in records] == ["CH4O", "CH4O", None]
    assert run(app, ["features", "a.xyz", "-o", "atoms.csv", "--atoms"]).exit_code == 0
    rows, sums = table(tmp_path / "m.csv")
    atoms, each = table(tmp_path / "atoms.csv")
    assert sums.shape == (2, 480) and each.shape == (6, 480)
    assert [row["element"] for row in atoms] == ["C", "O", "H", "H", "H", "H"]
    assert (rows[0]["name"], rows[0]["n_atoms"]) == ("a.xyz", "6")
    np.testing.assert_allclose(each.sum(axis=0), sums[0], rtol=1e-4, atol=1e-4)
    assert np.abs(sums[0] - sums[1]).max() < 0.02 * np.abs(sums[0]).max()
    predictor = Predictor("default")
    assert names_of(predictor)[96] == "l1_c00"
    found = features(predictor, Structure.of(molecule("CH3OH")))
    np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_written_or_computed(tmp_path, monkeypatch):
    water = tmp_path / "w.xyz"
    write(water, molecule("H2O"))
    for out, words in (
        (None, "no output"),
        (tmp_path / "t.xlsx", "a table ends in .csv or .parquet"),
        (tmp_path / "none" / "t.csv", "does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            FeatureTable([water], [], out)
    with pytest.raises(InputError, match="nothing to do"):
        FeatureTable([], [], tmp_path / "t.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="Parquet needs pyarrow"):
        FeatureTable([water], [], tmp_path / "t.parquet")
    unet = build("unet", {"channels": (2, 4), "blocks": (1, 1), "decoder_blocks": (1,)})
    path = tmp_path / "unet.safetensors"
    save_model(path, Model("unet", "unet", unet, Recipe(), {}))
    images = FeatureTable(
        [water], [], tmp_path / "t.csv", options=PredictionOptions(model=str(path))
    )
    with pytest.raises(InputError, match="has no features of atoms"):
        images.run(as_json=False)


def test_parquet_is_read_back(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "t.parquet"
    assert FeatureTable([], ["CO", "O"], out).run(as_json=True) == 0
    found = parquet.read_table(out).to_pydict()
    assert found["formula"] == ["CH4O", "H2O"] and len(found) == 4 + 480
