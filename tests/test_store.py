"""The label store: what goes in comes out, once, whatever happens."""

import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import ase.db
import numpy as np
import pytest
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from denser.labels.coefficients import pack, unpack
from denser.labels.facts import Facts
from denser.labels.identity import content_hash, store_name
from denser.labels.reading import read_label, read_labels
from denser.labels.store import LabelStore, TakenError
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE, HARTREE
from denser.workflows.label import import_labels, label_density

LABELS = Path(__file__).parent / "reference" / "labels"


@pytest.fixture(scope="module")
def water():
    return read_label(LABELS / "H2O.npz")


@pytest.fixture
def store(tmp_path):
    with LabelStore(tmp_path / "labels.db", Recipe()) as store:
        yield store


@pytest.mark.parametrize("name", ["H2O", "HCN"])
def test_density_survives_to_1e4_percent(store, name):
    label = read_label(LABELS / f"{name}.npz")
    store.add(label, Facts("paper"))
    stored = store.read(name)
    before, after = label_density(label), label_density(stored)
    error = np.abs(after.values - before.values).sum() * before.grid.dv / before.n_electrons
    assert 0 < 100 * error < 1e-4
    assert stored.grid.same_as(label.grid, 1e-9)
    assert stored.e_tot == label.e_tot
    np.testing.assert_allclose(stored.mo_energy, label.mo_energy, atol=2e-6)
    np.testing.assert_allclose(stored.structure.positions, label.structure.positions, atol=1e-12)
    np.testing.assert_allclose(stored.structure.cell, label.structure.cell, atol=1e-12)


@settings(max_examples=30)
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.lists(st.floats(-499, 499, width=32), min_size=n, max_size=n)
    )
)
def test_packing_rounds_to_half_a_quantum(values):
    array = np.array(values).reshape(-1, 1)
    assert np.abs(unpack(pack(array), array.shape) - array).max() <= 2.0**-23


def test_packing_refuses_what_it_cannot_hold():
    for bad in (np.nan, np.inf, 1e3):
        with pytest.raises(InputError, match="not finite or larger than 500"):
            pack(np.array([[0.1, bad]]))


def test_columns_in_ase_units(store, water):
    dipole = np.array([0.1, -0.2, 0.3])
    store.add(water, Facts("paper", "smearing", 9, 3.5, dipole, {"pyscf": "x"}, {"machine": "y"}))
    row = ase.db.connect(store.path).get(name="H2O")
    assert row.energy == pytest.approx(water.e_tot * HARTREE)
    np.testing.assert_allclose(row.dipole, dipole * BOHR)
    assert row.dipole_debye == pytest.approx(np.linalg.norm(dipole) * DEBYE)
    assert row.homo_ev == pytest.approx(water.mo_energy[3] * HARTREE)
    assert row.gap_ev == pytest.approx(row.lumo_ev - row.homo_ev) and row.gap_ev > 5
    assert (row.box, row.attempt, row.cycles, row.seconds) == ("paper", "smearing", 9, 3.5)
    assert row.data["recipe"] == Recipe().to_dict()
    assert row.data["versions"] == {"pyscf": "x"}
    assert row.user == ""
    np.testing.assert_allclose(row.toatoms().positions, water.structure.positions * BOHR)


def test_charge_and_spin_are_columns(store, water):
    charged = replace(water, structure=Structure.of(water.structure, charge=-2))
    store.add(charged, Facts("paper"))
    structure = store.read("H2O").structure
    assert (structure.charge, structure.spin) == (-2, 0)
    assert ase.db.connect(store.path).count(charge=-2) == 1
    assert store.info().charges == {-2: 1}


def test_a_name_is_there_once(store, water):
    assert store.add(water, Facts("paper"))
    before = store.index()
    assert not store.add(water, Facts("paper"))  # from another run
    content = content_hash(water.structure, "paper")
    assert not store.add_failure("H2O", water.structure, "paper", content, "memory was short")
    with pytest.raises(TakenError, match="holds another structure, charge or box with this name"):
        store.add(water, Facts("padding 4"))
    assert store.index() == before
    # another writer that has not seen the first one: the database itself refuses
    with pytest.raises(sqlite3.IntegrityError):
        ase.db.connect(store.path).write(molecule("H2O"), name="H2O")
    assert len(store) == 1


def test_writers_that_start_at_the_same_time(tmp_path, water):
    """One of them creates the store, one of them stores the label, and none fails."""
    start = Barrier(8)

    def write(_: int) -> bool:
        start.wait()
        with LabelStore(tmp_path / "labels.db", Recipe()) as labels:
            return labels.add(water, Facts("paper"))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1
    with LabelStore(tmp_path / "labels.db") as labels:
        assert labels.names() == ["H2O"]


def test_failures_make_room(store, water):
    structure = water.structure
    for reason in ("memory was short", "not converged"):
        store.add_failure("H2O", structure, "paper", content_hash(structure, "paper"), reason)
    assert store.failed() == {"H2O": "not converged"}
    assert store.names() == [] and list(store) == []
    assert store.info().failures == {"not converged": ["H2O"]}
    with pytest.raises(
        InputError, match=r"H2O is not a label, its calculation failed \(not converged\)"
    ):
        store.read("H2O")
    store.add(water, Facts("paper"))
    assert store.failed() == {} and store.names() == ["H2O"]
    with pytest.raises(InputError, match="holds no 'CO2'"):
        store.read("CO2")


def test_content(ethanol):
    known = content_hash(ethanol, "paper")
    assert content_hash(ethanol, "paper") == known
    shifted = replace(ethanol, positions=ethanol.positions + 0.3)
    assert content_hash(shifted, "paper") == known
    moved = ethanol.positions.copy()
    moved[3, 1] += 1e-4
    cell = np.diag([20.0, 20, 20])
    others = [
        content_hash(ethanol, "padding 4"),
        content_hash(replace(ethanol, positions=moved), "paper"),
        content_hash(replace(ethanol, charge=2), "paper"),
        content_hash(replace(ethanol, cell=cell), "paper"),
        content_hash(replace(ethanol, cell=cell, positions=shifted.positions), "paper"),
        content_hash(replace(ethanol, numbers=ethanol.numbers[::-1]), "paper"),
    ]
    assert len({known, *others}) == 1 + len(others)


@pytest.mark.parametrize("text", ["12", "1e5", "1_000", "nan", "-3", "True", ""])
def test_names_that_read_as_numbers(store, water, text):
    name = store_name(text)
    assert name == f"molecule_{text}"
    store.add(replace(water, name=name), Facts("paper"))
    assert store.names() == [name]


def test_other_recipes(store, water):
    coarse = Recipe(spacing=0.3)
    with pytest.raises(
        InputError, match=r"spacing 0.0831 angstrom in .*labels.db, 0.1588 angstrom in "
    ):
        LabelStore(store.path, coarse)
    with pytest.raises(InputError, match=r"xc 'pbe' in .*labels.db, 'lda,vwn' in this run"):
        LabelStore(store.path, Recipe(xc="lda,vwn"))
    # the SAD is made anew from the structure and may differ
    LabelStore(store.path, Recipe(sad="gth-szv-1e-atrocious")).close()
    store.add(water, Facts("paper"))
    assert len(read_labels(store.path, Recipe())) == 1
    with pytest.raises(InputError, match="recipes differ"):
        read_labels(store.path, coarse)


def test_what_is_no_store(tmp_path):
    cases = {
        "missing.db": "make one with denser label",
        "labels.json": "must end in .db",
    }
    for name, message in cases.items():
        with pytest.raises(InputError, match=message):
            LabelStore(tmp_path / name)
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        LabelStore(tmp_path / "folder.db")
    (tmp_path / "text.db").write_text("something else entirely")
    with pytest.raises(InputError, match="not an SQLite database"):
        LabelStore(tmp_path / "text.db", Recipe())
    with pytest.raises(InputError, match="make it first"):
        LabelStore(tmp_path / "no" / "labels.db", Recipe())
    ase.db.connect(tmp_path / "other.db").write(molecule("H2O"))
    with pytest.raises(InputError, match="an ASE database, but not a store of labels"):
        LabelStore(tmp_path / "other.db", Recipe())
    (tmp_path / "cut.db").write_bytes((tmp_path / "other.db").read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be opened as a label store"):
        LabelStore(tmp_path / "cut.db")


def test_import_and_read_as_training_does(store):
    told = []
    assert import_labels(LABELS, store, told.append) == (5, 0, 0)
    assert import_labels(LABELS, store, told.append) == (0, 5, 0)
    labels, files = read_labels(store.path), read_labels(LABELS)
    assert [x.name for x in labels] == [x.name for x in files] == sorted(store.names())
    for label, file in zip(labels, files, strict=True):
        assert label.e_tot == file.e_tot
        assert label.mo_coeff.shape == file.mo_coeff.shape
        assert label.structure.cell is None
    found = store.info()
    assert found.n_labels == 5 and found.n_atoms[2] == sum(len(x.structure) for x in files)
    assert found.boxes == {"paper": 5}
    assert found.elements == {"C": 4, "H": 5, "N": 1, "O": 2}
    assert not told


def test_import_tells_of_what_it_cannot_use(store, tmp_path):
    folder = tmp_path / "labels"
    shutil.copytree(LABELS, folder)
    (folder / "bad.npz").write_bytes(b"nothing")
    shutil.copy(LABELS / "HCN.npz", folder / "H2O.npz")
    import_labels(LABELS, store)
    told = []
    assert import_labels(folder, store, told.append) == (0, 4, 2)
    assert "H2O.npz" in told[0] and "another structure or box named H2O" in told[0]
    assert "bad.npz" in told[1]
    with pytest.raises(InputError, match=r"no \.npz labels"):
        import_labels(tmp_path, store)


def test_an_empty_store_is_no_training_set(store):
    with pytest.raises(InputError, match="contains no labels yet"):
        read_labels(store.path)


def test_ase_command_reads_it(store, water):
    store.add(water, Facts("paper"))
    command = [Path(sys.executable).parent / "ase", "db", store.path, "name=H2O", "-c", "name,box"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "H2O |paper" in done.stdout.replace("  ", " ")


def test_a_killed_transaction_leaves_nothing(store, water):
    """A process that dies between the write and the commit."""
    code = f"""
import os
from pathlib import Path
from denser.labels.reading import read_label
from denser.labels.facts import Facts
from denser.labels.store import LabelStore
store = LabelStore({str(store.path)!r})
store._db._initialize(store._db.connection)
def die(): os._exit(9)
class Connection:
    def __init__(self, real): self.real = real
    def __getattr__(self, name): return die if name == "commit" else getattr(self.real, name)
store._db.connection = Connection(store._db.connection)
store.add(read_label(Path({str(LABELS / "H2O.npz")!r})), Facts("paper"))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert store.index() == {}
    store.add(water, Facts("paper"))
    assert Structure.of(store.read("H2O").structure).formula == "H2O"
