"""Journals of finished results, and the tables that are made of them."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write as write_atoms

from denser.io.files import replacing
from denser.io.rows import flat, write_rows
from denser.types.errors import DiskFull, InputError
from denser.workflows import many
from denser.workflows.inputs import Input
from denser.workflows.journal import Journal
from denser.workflows.many import Failed


def test_the_last_line_of_a_key_counts(tmp_path):
    path = tmp_path / "j"
    with Journal(path, "name") as journal:
        for name, x in (("a", 1), ("b", 2), ("a", 3)):
            journal.add({"name": name, "x": x})
        assert journal.find("a")["x"] == 3 and "c" not in journal and journal.find(None) is None
    with open(path, "a") as file:
        file.write('{"name": "c", "x')  # what a machine that lost power leaves
    with Journal(path, "name") as journal:
        assert [e["x"] for e in journal.entries()] == [2, 3]
        journal.add({"name": "c", "x": 4})
        assert journal.find("c")["x"] == 4
    assert [e["x"] for e in Journal(path, "name").entries()] == [2, 3, 4]
    path.write_text(path.read_text().replace('{"name": "b"', "nothing"))
    assert [e["x"] for e in Journal(path, "name").entries()] == [3, 4]
    with Journal(path, "name", keep=False) as journal:
        journal.add({"name": "d", "x": 5})
    assert [e["x"] for e in Journal(path, "name").entries()] == [5]


def test_the_head_of_a_journal(tmp_path):
    journal = Journal(tmp_path / "j", "name")
    assert journal.head is None
    journal.begin({"settings": 1})
    with journal:
        journal.add({"name": "a"})
    assert journal.head == {"settings": 1} and [*journal.entries()] == [{"name": "a"}]
    (tmp_path / "j").write_text("torn\n" + '{"name": "a"}\n')
    assert Journal(tmp_path / "j", "name").head is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_a_sentence():
    with (
        pytest.raises(InputError, match="the disk is full; make room"),
        Journal(Path("/dev/full"), "name", keep=False) as journal,
    ):
        journal.add({"name": "a"})


ITEMS = [Input(f"i{n}", f"i{n}", Failed("")) for n in range(12)]


def _dies_once(entry: Input, marker: Path) -> dict:
    if entry.name == "i5" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if entry.name == "i7":
        os.kill(os.getpid(), signal.SIGKILL)  # as if it always ran out of memory
    return {"n": int(entry.name[1:]), "seconds": 0.1}


def test_nothing_is_lost_with_a_killed_worker(tmp_path, capsys):
    """Three workers; one is killed at a task once, another time at each try of a task."""
    work = partial(_dies_once, marker=tmp_path / "died")
    with (
        Journal(tmp_path / "j", "input") as journal,
        many.Display("doing", "done", 12, lambda record: "", False) as display,
    ):

        def take(entry, result):
            journal.add(many.record_of(entry, result))
            display.take(entry, result)

        totals = many.run(ITEMS, work, take, workers=3)
    assert display.end(totals) == 2 and (tmp_path / "died").exists()
    found = {e["input"]: e for e in Journal(tmp_path / "j", "input").entries()}
    assert set(found) == {entry.name for entry in ITEMS}
    assert "its worker process died twice" in found.pop("i7")["error"]
    assert all(e["n"] == int(name[1:]) for name, e in found.items())
    out, err = capsys.readouterr()
    assert "failed: i7" in out and "slowest: i" in out and "i7: its worker process died" in err


def _meets_a_full_disk(entry: Input, folder: Path) -> dict:
    with replacing(folder / entry.name) as temporary:
        temporary.write_text("x")
        if int(entry.name[1:]) >= 2:
            Path("/dev/full").write_text("x")
    return {"n": int(entry.name[1:])}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_a_run(tmp_path, workers):
    """The other inputs would fail too, each after its computation."""
    taken = []
    with pytest.raises(DiskFull, match=r"i[23]: cannot be written, the disk is full"):
        work = partial(_meets_a_full_disk, folder=tmp_path)
        many.run(ITEMS, work, lambda entry, result: taken.append(entry.name), workers)
    assert set(taken) <= {"i0", "i1"} and all((tmp_path / name).exists() for name in taken)
    assert taken or workers > 1


RECORDS = [
    {"input": "a", "q": [0.5, -0.5], "n": {"x": 1, "y": None}, "t": np.eye(3).tolist(), "w": ["u"]},
    {"input": "b", "q": [1, 2, 3], "n": {"x": 1.5, "y": "z"}, "d": [[1, 2, 3], [4, 5, 6.5]]},
    {"input": "c", "error": "it is bad", "rows": [{"e": 1}], "q": []},
]


def test_tables_in_csv(tmp_path):
    write_rows(tmp_path / "t.csv", lambda: iter(RECORDS))
    head, first, _, last = (tmp_path / "t.csv").read_text().splitlines()
    assert head.startswith("input,q_1,q_2,n_x,n_y,t_1_1,t_1_2") and "w" not in head.split(",")
    assert first.startswith("a,0.5,-0.5,1,,1.0,0.0") and last.endswith("it is bad")
    assert flat(RECORDS[1])["d_2_3"] == 6.5


def test_tables_in_parquet_are_read_by_pandas_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr("denser.io.rows._AT_ONCE", 2)  # groups with different columns
    write_rows(tmp_path / "t.parquet", lambda: iter(RECORDS))
    table = pandas.read_parquet(tmp_path / "t.parquet")
    assert table.input.tolist() == ["a", "b", "c"]
    assert table.q[0].tolist() == [0.5, -0.5] and table.q[1].tolist() == [1.0, 2.0, 3.0]
    assert table.n_x[:2].tolist() == [1.0, 1.5] and table.n_y[1] == "z"
    assert np.array_equal(np.stack(table.t[0]), np.eye(3)) and table.d[0] is None
    assert table.error[2] == "it is bad" and "rows" not in table
    # shards are merged by naming them
    (tmp_path / "more").mkdir()
    write_rows(tmp_path / "more" / "t.parquet", lambda: iter(RECORDS[1:2]))
    both = pandas.read_parquet([tmp_path / "t.parquet", tmp_path / "more" / "t.parquet"])
    assert both.input.tolist() == ["a", "b", "c", "b"]
    write_rows(tmp_path / "none.parquet", lambda: iter([]))
    assert len(pandas.read_parquet(tmp_path / "none.parquet")) == 0
    with pytest.raises(InputError, match=r"no table of these records .*write \.csv"):
        write_rows(tmp_path / "x.parquet", lambda: iter([{"a": 1}, {"a": 2}, {"a": "x"}]))
    assert not (tmp_path / "x.parquet").exists()


@pytest.fixture
def molecules(tmp_path):
    write_atoms(tmp_path / "m.extxyz", [molecule("H2O"), molecule("HF")])
    (tmp_path / "bad.xyz").write_text("2\n\nH 0 0 0\nXy 0 0 1\n")


def _stop(*arguments, **options):
    raise KeyboardInterrupt


def test_predictions_and_their_table(run, molecules, tmp_path, monkeypatch):
    command = ("predict", "m.extxyz", "bad.xyz", "-o", "d", "--spacing", "0.4", "--format", "npz")
    code, out, err = run(*command, "--table", "d.csv", "--workers", "2")
    assert code == 2 and "bad.xyz: " in err and "2 of 3 predicted" in out
    rows = (tmp_path / "d.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["m.extxyz[0]", "m.extxyz[1]", "bad.xyz"]
    (tmp_path / "d.csv").unlink()
    code, out, _ = run(*command, "--table", "d.csv", "--resume")
    assert "0 of 3 predicted" in out and "2 done before" in out
    assert (tmp_path / "d.csv").read_text().splitlines() == rows
    # only rows of this content, although the journal has lines of the same outputs
    code, out, _ = run("predict", "bad.xyz", "m.extxyz", *command[3:], "--table", "e.csv", "-v")
    assert code == 2 and len((tmp_path / "e.csv").read_text().splitlines()) == 4
    monkeypatch.setattr("denser.model.predictor.Predictor.predict", _stop)
    code, _, err = run(*command, "--padding", "5", "--table", "e.csv")
    assert code == 130 and len((tmp_path / "e.csv").read_text().splitlines()) == 1
    code, _, err = run(*command, "--table", "m.extxyz")
    assert code == 2 and "a table ends in .csv or .parquet" in err


def test_energies_are_resumed_by_content(run, molecules, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "denser.workflows.energies.energy_record",
        lambda start, *others, **more: {
            "formula": start.density.structure.formula, "charge": 0, "written": [],
            "warnings": [], "seconds": {"steps": 0.1}, "e_tot_hartree": time.time(),
        },
    )  # fmt: skip
    monkeypatch.setattr("denser.workflows.energies.energy_summary", lambda record: "")
    command = ("energy", "m.extxyz", "bad.xyz", "--table", "e.csv")
    assert run(*command)[0] == 2
    before = (tmp_path / "e.csv").read_text()
    assert before.splitlines()[1].startswith("m.extxyz[0],H2O,0") and "bad.xyz" in before
    write_atoms(tmp_path / "other.xyz", molecule("HF"))  # the same under another name
    options = ("--table", "e.csv", "--resume", "--json")
    code, out, err = run("energy", "other.xyz", "m.extxyz@0", *options)
    assert code == 0 and out == "" and "2 done before" in err
    now = (tmp_path / "e.csv").read_text().splitlines()
    old = before.splitlines()
    assert now[1].split(",")[1:] == old[2].split(",")[1:-1] and now[1].startswith("other.xyz")
    code, out, err = run("energy", "other.xyz", "--steps", "3", *options)
    assert json.loads(out)["formula"] == "HF"  # other settings
    code, _, err = run("energy", "other.xyz", "--resume")
    assert code == 2 and "give --table energies.csv" in err


@pytest.mark.parametrize("command", ["predict", "analyze", "energy", "charges"])
def test_a_wrong_parsl_file_is_one_sentence(run, molecules, tmp_path, command):
    pytest.importorskip("parsl")
    (tmp_path / "config.py").write_text("nothing = 1\n")
    options = {"predict": ("-o", "d"), "charges": ("-o", "c.json")}.get(command, ())
    code, _, err = run(command, "m.extxyz", *options, "--executor", "parsl:config.py")
    assert code == 2 and "config.py: gives no usable Parsl `config`" in err
    assert err.count("\n") == 1
    code, _, err = run(command, "m.extxyz", *options, "--executor", "slurm")
    assert code == 2 and "expected parsl:FILE.py" in err
