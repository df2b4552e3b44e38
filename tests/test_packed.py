"""Shards of labels: small, read as they were packed, and nothing in them that is held out."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from denser import InputError, load_model
from denser.atoms.sad import superposition, superposition_at, valence_charges
from denser.cli import app
from denser.labels import held_out
from denser.labels.cloud import cloud
from denser.labels.facts import Facts
from denser.labels.packed import (
    N_POINTS,
    ROUNDING,
    content_key,
    encode,
    on_lattice,
    read_shard,
    read_shards,
    rounded_deformation,
)
from denser.labels.qm9 import is_test_molecule, split_numbers
from denser.labels.reading import read_label, read_labels
from denser.labels.render import density_at_points, density_on_grid
from denser.labels.store import LabelStore
from denser.model.checkpoint import build
from denser.training.config import Config as TrainingConfig
from denser.training.config import from_dict
from denser.training.loop import train
from denser.training.points import Points
from denser.training.processes import Processes
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE
from denser.workflows.finetune import Plan, finetune
from denser.workflows.label.packing import contents, pack, packed, unpack, write_contents

LABELS = Path(__file__).parent / "reference" / "labels"
ROOT = Path(__file__).parents[1]
XYZ = [
    [2.712511790309, 1.392386978733, 2.810364029172],
    [0.204033871658, 0.575431635842, 0.868776174594],
    [-0.189451838289, 1.829045825412, 0.880127636733],
]
P = [0.000459241921, 0.018990207943, 0.006261695695]
NETWORK = {"channels": 4, "layers": 1, "degree": 2, "order": 7, "hidden": 8}


def reference(name):
    label = read_label(LABELS / f"{name}.npz")
    return replace(label, structure=replace(label.structure, cell=None))


def store_of(path, *labels):
    with LabelStore(path, Recipe()) as store:
        for label in labels:
            facts = Facts("paper", cycles=9, versions={"denser": "0.1"})
            if label.name == "HCN":
                facts = replace(facts, attempt="steps", cycles=3, residual=0.0015)
            store.add(label, facts)
    return path


@pytest.fixture(scope="module")
def packed_folder(tmp_path_factory):
    """A store of four molecules, one of them distorted too, and their shard."""
    folder = tmp_path_factory.mktemp("data")
    names = ("CH4", "H2CO", "H2O", "HCN")
    labels = [reference(name) for name in names]
    # not the density of its atoms any more, but of atoms that are not those of CH4
    moved = replace(labels[0].structure, positions=labels[0].structure.positions + 1e-3)
    labels.append(replace(labels[0], name="CH4_rattled", structure=moved))
    store = store_of(folder.parent / f"{folder.name}.db", *labels)
    pack([store], folder / "labels-0001.shard", "made for tests")
    return store, folder


def test_a_label_comes_back_within_the_stated_rounding(packed_folder):
    store, folder = packed_folder
    shard = read_shard(folder / "labels-0001.shard")
    assert [label.name for label in shard.labels] == ["CH4", "CH4_rattled", "H2CO", "H2O", "HCN"]
    errors = []
    for label, original in zip(shard.labels, read_labels(store), strict=True):
        structure = label.structure
        assert structure.numbers.tolist() == original.structure.numbers.tolist()
        assert structure.charge == original.structure.charge
        assert structure.cell is None
        np.testing.assert_allclose(structure.positions, original.structure.positions, atol=2e-6)
        assert label.grid.same_as(original.grid, 2e-6)
        assert label.e_tot == original.e_tot
        n = original.mo_coeff.shape[1]
        assert label.n_electrons == 2 * n
        assert (label.homo, label.lumo) == pytest.approx(original.mo_energy[n - 1 : n + 1])
        assert label.recipe == Recipe()
        assert label.molecule == original.molecule
        assert label.group == original.group == label.molecule
        assert label.record == {
            "group": label.group,
            "source": store.stem, "box": "paper",
            "attempt": "steps" if label.name == "HCN" else "direct",
            "cycles": 3 if label.name == "HCN" else 9,
            "version": "0.1", "split": "train",
            "residual_percent": 0.15 if label.name == "HCN" else None,
        }  # fmt: skip
        points = label.points()
        rho = density_at_points(
            structure.numbers, original.structure.positions, original.mo_coeff, label.grid,
            points.xyz,
        )  # fmt: skip
        sad = superposition_at(structure, label.grid, points.xyz)
        errors.append(points.weights @ np.abs(points.deformation - (rho - sad)))
    stated = shard.header["rounding_err_rho_percent"] / 100
    assert stated == pytest.approx(ROUNDING)
    assert np.mean(errors) == pytest.approx(stated, rel=0.05)
    assert shard.header["note"] == "made for tests"


def test_points_estimate_integrals_and_errors():
    label = reference("H2CO")
    structure, grid = label.structure, label.grid
    arguments = (structure.numbers, structure.positions, label.mo_coeff, grid)
    rho = density_on_grid(*arguments, dtype=torch.float64).numpy()
    sad = superposition(structure, grid).values
    exact = np.abs(rho - sad).sum() * grid.dv / label.n_electrons
    points = packed(label, Recipe(), {}).points()
    assert points.weights @ np.abs(points.deformation) == pytest.approx(exact, rel=0.05)
    xyz, p = cloud(structure, grid, 20000)
    inside = (xyz - grid.origin) / np.diag(grid.cell)
    assert inside.min() >= 0
    assert inside.max() < 1
    assert (1 / p).mean() == pytest.approx(grid.volume, rel=0.02)
    values = density_at_points(*arguments, xyz)
    assert (values / p).mean() == pytest.approx(label.n_electrons, rel=0.005)


def test_densities_at_points_are_those_on_the_grid():
    for name in ("H2CO", "HCN"):
        label = reference(name)
        structure, grid = label.structure, label.grid
        arguments = (structure.numbers, structure.positions, label.mo_coeff, grid)
        on_grid = density_on_grid(*arguments, dtype=torch.float64).numpy().ravel()
        chosen = np.random.default_rng(0).integers(grid.size, size=2000)
        xyz = grid.points().reshape(-1, 3)[chosen]
        np.testing.assert_allclose(density_at_points(*arguments, xyz), on_grid[chosen], atol=1e-7)
        sad = superposition(structure, grid)
        direct = superposition_at(structure, grid, xyz)
        scale = valence_charges(structure).sum() / sad.n_electrons
        np.testing.assert_allclose(direct, sad.values.ravel()[chosen] * scale, atol=2e-5)
    # a skew cell: a supercell of it has the same density
    cell = np.array([[5.0, 0.0, 0.0], [1.0, 6.0, 0.0], [0.5, 1.0, 7.0]])
    atoms = Structure(np.array([8]), np.array([[1.0, 2.0, 3.0]]), 0, cell)
    doubled = Structure(
        np.array([8, 8]), np.array([[1.0, 2.0, 3.0], [2.0, 8.0, 3.0]]), 0, cell * [[1], [2], [1]]
    )
    xyz = np.random.default_rng(1).uniform(0, 5, (50, 3))
    np.testing.assert_allclose(
        superposition_at(atoms, Grid(np.zeros(3), cell, (8, 8, 8)), xyz),
        superposition_at(doubled, Grid(np.zeros(3), doubled.cell, (8, 8, 8)), xyz),
        atol=1e-6,
    )


def test_points_never_change():
    """Published shards hold densities at these points: do not adapt these numbers."""
    structure = Structure(np.array([8, 1, 1]), np.array([[0, 0, 0], [1.4, 1.1, 0], [-1.4, 1.1, 0]]))
    grid = Grid(np.full(3, -6.0), np.diag([12.0, 12.0, 12.5]), (76, 76, 80))
    xyz, p = cloud(structure, grid, 1536)
    np.testing.assert_allclose(xyz[[0, 700, 1535]], XYZ, atol=1e-11)
    np.testing.assert_allclose(p[[0, 700, 1535]], P, atol=1e-12)


def test_a_shard_takes_two_kilobytes_a_label(packed_folder):
    _, folder = packed_folder
    path = folder / "labels-0001.shard"
    blocks = read_shard(path).header["blocks"]
    points = sum(size for key, *_, size in blocks if key in ("high", "low"))
    assert points / 5 < 2000  # 1.8 kB in large ones


def test_values_of_any_size_are_kept(packed_folder, tmp_path):
    _, folder = packed_folder
    (label, *_) = read_shards(folder)
    rng = np.random.default_rng(0)
    for largest in (0, 1, 100, 127, 128, 5000, 32767):
        values = rng.integers(-largest, largest + 1, 64).astype(np.int16)
        values[:2] = -largest, largest
        path = tmp_path / f"size-{largest}.shard"
        path.write_bytes(encode([replace(label, rounded=values)] * 2, "", "test"))
        for found in read_shard(path).labels:
            np.testing.assert_array_equal(found.rounded, values)
    with pytest.raises(InputError, match="too large"):
        rounded_deformation(np.full(64, 1.0), np.full(64, 1.0))
    with pytest.raises(InputError, match="too large"):
        rounded_deformation(np.full(64, np.nan), np.full(64, 1e-6))


@pytest.mark.parametrize(
    ("name", "formula", "reason"),
    [
        (f"qm9_{split_numbers('test')[5]:06d}_rattled", "CH4", "test part"),
        (held_out.names()[0], "CH4", "shipped models are tested with"),
        ("qm9_011415_rattled", "CH4", "shipped models are tested with"),  # held out undistorted
        ("anything", "NH3", "ammonia"),
        ("anything", "C2H2", "acetylene"),
        ("anything", "SiH4", "silane"),
        ("anything", "SO2", "sulfur dioxide"),
        (f"qm9_{split_numbers('train')[500]:06d}", "CH4", None),
        ("qm9_0000001", "CH4", None),
    ],
)
def test_what_is_held_out(name, formula, reason):
    from ase.build import molecule

    found = held_out.why_held_out(name, Structure.of(molecule(formula)))
    assert found is None if reason is None else reason in found


def test_held_out_names_hold_those_that_judge_the_default_model():
    assert set(load_model("default").info["validation_names"]) <= set(held_out.names())
    assert len(held_out.names()) >= 218
    assert is_test_molecule(f"dsgdb9nsd_{split_numbers('test')[0]:06d}")
    assert not is_test_molecule(f"qm9_{split_numbers('train')[0]:06d}")


def test_held_out_labels_duplicates_and_taken_names_are_left_out(packed_folder, tmp_path):
    store, folder = packed_folder
    acetylene = replace(reference("C2H2"), name="harmless")
    test = replace(reference("H2O"), name=f"qm9_{split_numbers('test')[7]:06d}")
    copy = replace(reference("H2O"), name="water_again")
    shifted = replace(
        reference("H2O").structure, positions=reference("H2O").structure.positions + 0.25
    )
    other = replace(reference("HCN"), name="H2O")
    fresh = replace(reference("H2CO"), name="fresh", grid=reference("H2CO").grid)
    fresh = replace(fresh, structure=replace(fresh.structure, positions=-fresh.structure.positions))
    moved = replace(copy, name="water_moved", structure=shifted)
    stores = [
        store_of(tmp_path / "a.db", acetylene, test, copy, moved, fresh),
        store_of(tmp_path / "b.db", replace(other, structure=replace(other.structure, charge=2))),
    ]
    data = tmp_path / "data"
    data.mkdir()
    (data / "labels-0001.shard").write_bytes((folder / "labels-0001.shard").read_bytes())
    before = (data / "labels-0001.shard").read_bytes()
    result = pack(stores, data / "labels-0002.shard")
    assert result.packed == 1
    assert [x.name for x in read_shard(data / "labels-0002.shard").labels] == ["fresh"]
    assert result.left_out["packed already"] == ["water_again", "water_moved"]
    assert result.left_out["acetylene is a test molecule"] == ["harmless"]
    assert result.left_out["in the test part of QM9's split"] == [test.name]
    assert result.left_out["another label has its name"] == ["H2O"]
    assert (data / "labels-0001.shard").read_bytes() == before
    with pytest.raises(InputError, match="never overwritten"):
        pack(stores, data / "labels-0002.shard")
    with pytest.raises(InputError, match="no label is left to pack"):
        pack([store], data / "labels-0003.shard")
    assert not (data / "labels-0003.shard").exists()
    with pytest.raises(InputError, match=r"must end in \.shard"):
        pack([store], data / "labels.db")
    with LabelStore(tmp_path / "coarse.db", Recipe(spacing=0.2)) as coarse:
        coarse.add(reference("H2O"), Facts("paper"))
    with pytest.raises(InputError, match="recipes differ: spacing"):
        pack([store, tmp_path / "coarse.db"], data / "labels-0003.shard")
    with pytest.raises(InputError, match="recipes differ: spacing"):
        pack([tmp_path / "coarse.db"], data / "labels-0003.shard")


def test_content_is_known_wherever_a_molecule_stands():
    label = reference("H2O")
    structure, _ = on_lattice(label.structure, label.grid)
    moved = replace(structure, positions=structure.positions + 0.5)
    assert content_key(structure, "paper") == content_key(moved, "paper")
    assert content_key(structure, "paper") != content_key(structure, "padding 4")
    assert content_key(structure, "paper") != content_key(replace(structure, charge=2), "paper")
    cell = replace(structure, cell=np.eye(3) * 9.0)
    assert content_key(structure, "cell") != content_key(cell, "cell")


def test_damaged_and_foreign_files_are_refused(packed_folder, tmp_path):
    _, folder = packed_folder
    content = bytearray((folder / "labels-0001.shard").read_bytes())
    path = tmp_path / "bad.shard"
    for damage, words in (
        (content[:-7], "damaged"),
        (content[:-7] + b"x" + content[-6:], "damaged"),
        (content[:40], "header of this shard is damaged"),
        (b"denser shard 2\n{}\n", "later format"),
        (b"hello", "not a shard of labels"),
        (b"", "not a shard of labels"),
    ):
        path.write_bytes(bytes(damage))
        with pytest.raises(InputError, match=words):
            read_shard(path)
    with pytest.raises(InputError, match="no such shard"):
        read_shard(tmp_path / "none.shard")
    with pytest.raises(InputError, match="at points only"):
        read_labels(folder)


def test_contents_agree_with_the_shards(packed_folder, tmp_path):
    _, folder = packed_folder
    path = write_contents(folder)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert path.read_text() == contents(folder)
    _agree(folder, rows)
    assert rows[1]["distorted"] == "yes"
    assert rows[0]["made_by"] == "direct, 9 Fock builds, denser 0.1"
    assert rows[4]["made_by"] == "steps, 3 Kohn-Sham steps to 0.15 %, denser 0.1"
    with pytest.raises(InputError, match="holds no shards"):
        contents(tmp_path)


def _agree(folder, rows):
    labels = [(p.name, x) for p in sorted(folder.glob("*.shard")) for x in read_shard(p).labels]
    for (shard, label), row in zip(labels, rows, strict=False):
        assert row["name"] == label.name
        assert row["formula"] == label.structure.formula
        assert int(row["charge"]) == label.structure.charge
        assert row["shard"] == shard
        assert row["split"] == "train"
        assert (row["distorted"] == "yes") == label.name.endswith("_rattled")
        assert row["box"] == label.record["box"]
        assert held_out.why_held_out(label.name, label.structure) is None
    rest = rows[len(labels) :]
    assert {row["split"] for row in rest} == {"held out"}
    assert {*held_out.names(), "ammonia", "qm9:test"} <= {row["name"] for row in rest}


@pytest.mark.skipif(not (ROOT / "data" / "labels.csv").exists(), reason="no published labels")
def test_published_contents_agree_with_the_published_shards():
    text = (ROOT / "data" / "labels.csv").read_text()
    assert text == contents(ROOT / "data"), "run: denser labels contents data"
    _agree(ROOT / "data", list(csv.DictReader(io.StringIO(text))))


def test_unpack_gives_atoms_and_densities_at_points(packed_folder, tmp_path):
    store, folder = packed_folder
    assert unpack(folder / "labels-0001.shard", tmp_path / "out") == 5
    frames = ase.io.read(tmp_path / "out" / "structures.extxyz", index=":")
    (label,) = [x for x in read_labels(store) if x.name == "HCN"]
    atoms = frames[-1]
    assert atoms.info["name"] == "HCN"
    np.testing.assert_allclose(atoms.positions, label.structure.positions * BOHR, atol=1e-6)
    assert atoms.info["energy_ev"] == pytest.approx(label.e_tot * HARTREE)
    with np.load(tmp_path / "out" / "HCN.npz") as data:
        rho = density_at_points(
            label.structure.numbers, label.structure.positions, label.mo_coeff, label.grid,
            data["points"],
        )  # fmt: skip
        assert data["weights"] @ np.abs(data["density"] - rho) < 1.2 * ROUNDING
        assert data["weights"] @ np.abs(data["sad"] - rho) > 0.05
    with pytest.raises(InputError, match="exists already"):
        unpack(folder / "labels-0001.shard", tmp_path / "out")


def test_loss_of_a_packed_label_is_that_of_the_label_at_the_same_points(packed_folder):
    store, folder = packed_folder
    device = torch.device("cpu")
    torch.manual_seed(0)
    network = build("aspherical", NETWORK)
    for head in network.heads:
        torch.nn.init.normal_(head, std=0.02)
    labels = read_shards(folder)
    points = Points(labels, "gth-szv-1e", device, network.config)
    measured = points.errors(network, False, Processes(0, 1, device))
    for i, original in enumerate(read_labels(store)):
        found = points[i]
        assert len(found.nodes) == N_POINTS
        structure = original.structure
        xyz = found.nodes.numpy().astype(float)
        rho = density_at_points(
            structure.numbers, structure.positions, original.mo_coeff, original.grid, xyz
        )
        exact = replace(found, rho=torch.as_tensor(rho, dtype=torch.float32))
        with torch.no_grad():
            errors = [float(x.error(network, slice(None))) for x in (found, exact)]
            drawn = Points([original], "gth-szv-1e", device, network.config)[0]
            usual = float(drawn.error(network, slice(None)))
        assert abs(errors[0] - errors[1]) < 1.2 * ROUNDING
        assert measured[i] == pytest.approx(errors[0], rel=1e-5)  # of all points
        assert errors[0] == pytest.approx(usual, rel=0.1)  # the noise of other points


def config_of(**changes):
    data = {
        "data": {"validation": 1, "labels": "data"},
        "model": {"architecture": "aspherical", "options": NETWORK},
        "schedule": {"steps": 6, "validate_every": 0.5},
        "sample": {"batch": 2},
        "optimizer": {"lr": 0.01, "lr_rest": 1e-3, "ema": 0.5},
        "bf16": False,
    }
    for section, values in changes.items():
        data[section] = data[section] | values
    return from_dict(TrainingConfig, json.loads(json.dumps(data)), "test")


def test_training_runs_from_shards_and_from_shards_beside_stores(packed_folder, tmp_path):
    _, folder = packed_folder
    config = config_of(data={"labels": str(folder)}, schedule={"steps": 40})
    model = load_model(str(train(config, tmp_path / "run")))
    assert model.recipe == Recipe()
    assert sorted(model.info["train_names"] + model.info["validation_names"]) == [
        "CH4", "CH4_rattled", "H2CO", "H2O", "HCN",
    ]  # fmt: skip
    points = Points(read_shards(folder), "gth-szv-1e", torch.device("cpu"), model.network.config)
    errors = [
        points.errors(network, False, Processes(0, 1, torch.device("cpu"))).mean()
        for network in (build("aspherical", NETWORK), model.network)
    ]
    assert errors[1] < 0.8 * errors[0], errors
    more = store_of(tmp_path / "more.db", replace(reference("C2H2"), name="more"))
    shard = str(folder / "labels-0001.shard")
    both = config_of(data={"labels": [shard, str(more)], "validation": 0})
    train(both, tmp_path / "both")
    assert load_model(str(tmp_path / "both" / "model.safetensors")).info["n_train"] == 6
    with pytest.raises(InputError, match="both contain a label named"):
        train(config_of(data={"labels": [shard, str(folder)]}), tmp_path / "twice")
    images = config_of(
        data={"labels": shard},
        model={
            "architecture": "unet",
            "options": {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1]},
        },
    )
    with pytest.raises(InputError, match="from a shard"):
        train(images, tmp_path / "images")
    with pytest.raises(InputError, match="recipes differ: sad"):
        train(config_of(data={"labels": shard, "sad": "gth-szv-1e-atrocious"}), tmp_path / "sad")


def test_fine_tuning_says_that_it_needs_whole_densities(packed_folder, tmp_path):
    _, folder = packed_folder
    with pytest.raises(InputError, match="fine tuning measures its result on whole densities"):
        finetune(Plan(model="default", labels=(str(folder),)), tmp_path / "out")


def test_commands(packed_folder, tmp_path):
    store, _ = packed_folder
    run = CliRunner().invoke
    out = tmp_path / "labels-0001.shard"
    found = run(app, ["labels", "pack", str(store), "-o", str(out), "--note", "a note"])
    assert found.exit_code == 0, found.output
    assert "5 labels packed" in found.output
    found = run(app, ["labels", "info", str(out)])
    assert "5 training labels" in found.output
    assert "rounding adds an Err_rho of 0.030 %" in found.output
    assert "a note" in found.output
    found = run(app, ["labels", "unpack", str(out), "-o", str(tmp_path / "out")])
    assert "a shard contains no orbitals and no density at other points" in found.output
    found = run(app, ["labels", "unpack", str(out), "-o", str(tmp_path / "more"), "--json"])
    assert json.loads(found.stdout)["n_labels"] == 5
    found = run(app, ["labels", "contents", str(tmp_path), "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout)["output"] == str(tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").exists()
