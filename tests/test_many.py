"""The runner of many inputs: names, errors, Ctrl-C, workers, and what is shown."""

import gc
import json
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from ase.build import molecule
from ase.io import write as write_atoms
from hypothesis import given
from hypothesis import strategies as st

from denser.model.options import PredictionOptions
from denser.types.errors import InputError
from denser.workflows import many, progress
from denser.workflows.inputs import (
    Input,
    Names,
    content,
    file_stem,
    find_inputs,
    output_stems,
    refuse_inputs,
    shown_names,
)
from denser.workflows.many import Failed, attempt, sentence

ITEMS = [Input(name, name, Failed("")) for name in "abcd"]


@given(
    st.lists(st.sampled_from(["a", "A", "a_2", "a_2_2", "t", "t_00000", "t_00001"]), max_size=12)
)
def test_no_name_is_given_twice(wanted):
    names = Names(["a_3"])
    found = ["a_3"]
    for name in wanted:
        found += names.give_all(name, ["_00000", "_00001"]) if name == "t" else [names.give(name)]
    assert len({name.casefold() for name in found}) == len(found)


def test_stems():
    for path, stem in (
        ("d/a.b.xyz", "a.b"),
        ("POSCAR", "POSCAR"),
        ("CHGCAR.relaxed", "CHGCAR.relaxed"),
        ("a b(1).xyz", "a_b_1_"),
    ):
        assert file_stem(Path(path)) == stem
    assert file_stem("C#N") == "C_N"
    assert len(file_stem("C" * 300)) == 100


@pytest.mark.parametrize(
    ("files", "stems"),
    [
        ("d1/opt.xyz d2/opt.xyz d3/opt.xyz", "d1_opt d2_opt d3_opt"),
        ("d2/opt.xyz b.xyz d1/opt.xyz", "d2_opt b d1_opt"),
        ("opt.xyz d1/opt.xyz", "opt d1_opt"),
        ("a/x/opt.xyz b/x/opt.xyz b/y/OPT.xyz", "a_x_opt b_x_opt b_y_OPT"),
        ("/r/a/opt.xyz /s/a/opt.xyz", "r_a_opt s_a_opt"),
        ("../opt.xyz opt.xyz ./d/../opt.xyz", "above_opt opt opt"),
        ("a.xyz a.sdf a.xyz.gz", "a_xyz a_sdf a_xyz_gz"),
        ("d1/a.xyz d1/a.sdf d2/a.xyz", "d1_a_xyz d1_a_sdf d2_a_xyz"),
        ("one/POSCAR two/POSCAR", "one_POSCAR two_POSCAR"),
        ("my set/a.xyz other/a.xyz", "my_set_a other_a"),
    ],
)
def test_stems_say_what_tells_files_apart(files, stems, tmp_path, monkeypatch):
    (tmp_path / "above" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "above" / "here")
    named = files.replace("my set", "my+set").split()
    paths = [Path(name.replace("my+set", "my set")) for name in named]
    assert output_stems(paths) == stems.split()
    here = [Path.cwd() / path for path in paths]
    assert output_stems(here) == stems.split()  # however the files are named


def test_labels_and_the_viewer_tell_files_apart_too(tmp_path, monkeypatch):
    from denser.workflows.label import read_inputs

    monkeypatch.chdir(tmp_path)
    files = [Path("d1/opt.xyz"), Path("d2/opt.xyz"), Path("b.xyz")]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        write_atoms(path, molecule("H2O"))
    found, _ = read_inputs(list(map(str, files)), PredictionOptions(), print)
    assert [entry.name for entry in found] == ["d1_opt", "d2_opt", "b"]
    assert [entry.group for entry in found] == ["d1_opt", "d2_opt", "b"]
    assert shown_names(files) == ["d1_opt.xyz", "d2_opt.xyz", "b.xyz"]


def test_inputs_in_the_order_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = [molecule("H2O")] * 2
    write_atoms("t.extxyz", frames)
    text = Path("t.extxyz").read_text()
    Path("torn.extxyz").write_text(text + text[: len(text) // 3])
    found = find_inputs([Path("t.extxyz"), Path("no.xyz"), Path("x.cube"), Path("torn.extxyz")])
    assert [entry.name for entry in found] == [
        "t.extxyz[0]", "t.extxyz[1]", "no.xyz", "x.cube", "torn.extxyz[0]", "torn.extxyz[1]",
        "torn.extxyz[2]",
    ]  # fmt: skip
    assert found[2].source.error == "no such file" and found[3].source == Path("x.cube")
    assert "the file ends after 2" in found[6].source.error
    with pytest.raises(InputError, match="no such file"):
        found[2].atoms()
    with pytest.raises(InputError, match="give a structure"):
        found[3].atoms()
    with pytest.raises(InputError, match="would be overwritten"):
        refuse_inputs(Path("./d/../t.extxyz"), [Path("t.extxyz")])


def test_content_is_what_a_result_follows_from(tmp_path):
    water, path, plain = molecule("H2O"), tmp_path / "a.cube", PredictionOptions()
    moved, charged, other = water.copy(), water.copy(), water.copy()
    moved.positions[0, 0] += 1e-9
    charged.info["charge"] = 2
    other.numbers[0] = 16
    path.write_text("a")
    variants = [
        content(water, plain, {}, "m"),
        content(moved, plain, {}, "m"),
        content(charged, plain, {}, "m"),
        content(other, plain, {}, "m"),
        content(water, plain, {"box": "paper"}, "m"),
        content(water, PredictionOptions(charge=-2), {}, "m"),
        content(water, PredictionOptions(spin=2), {}, "m"),
        content(water, plain, {}, "n"),
        content(path, plain, {}, "m"),
    ]
    path.write_text("b")
    variants.append(content(path, plain, {}, "m"))
    assert len(set(variants)) == len(variants) and None not in variants
    assert content(water.copy(), plain, {}, "m") == variants[0]
    assert content(path, plain, {}, "n") == variants[-1]
    assert content(tmp_path / "no.cube", plain, {}, None) is None
    assert content(Failed("no such file"), plain, {}, None) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("a: mend it"), "a: mend it"),
        (MemoryError(), "memory ran out; use"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] can't allocate memory"),
            "memory ran out; use",
        ),
        (
            RuntimeError("can't allocate memory: you tried to allocate 512 bytes. Error code 12"),
            "memory ran out (512 bytes more were asked for); use",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 9.00 GiB."),
            "memory ran out (9.00 GiB more were asked for); use",
        ),
        (PermissionError(13, "Permission denied", "f"), "f: cannot be read or written (Permission"),
        (KeyError("x"), "failed (KeyError: 'x'); this is a bug, please report it"),
    ],
)
def test_every_error_is_one_sentence(error, words):
    assert sentence(error).startswith(words) and "\n" not in sentence(error)


def test_memory_is_free_after_a_failure():
    class Large:
        pass

    kept = []

    def work():
        large = Large()
        large.itself = large  # only the collector of garbage frees it
        kept.append(weakref.ref(large))
        raise MemoryError

    gc.disable()
    try:
        assert not attempt(work).bad_input
        assert kept[0]() is None
    finally:
        gc.enable()


def _work(entry):
    if entry.name == "b":
        raise InputError("b: it is bad; mend it")
    if entry.name == "c":
        raise MemoryError
    return {"n": 1, "errors": {"x": "y"} if entry.name == "d" else {}}


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_input_among_many(capsys, workers):
    with many.Display("doing", "done", 4, str, True) as display:
        totals = many.run(ITEMS, _work, display.take, workers)
    assert display.end(totals) == 2
    assert (totals.done, totals.failed) == (1, 3)
    out, err = capsys.readouterr()
    records = {record["input"]: record for record in map(json.loads, out.splitlines())}
    assert records["a"]["n"] == 1
    assert records["b"] == {"input": "b", "error": "it is bad; mend it"}
    assert records["c"]["error"].startswith("memory ran out")
    assert "denser: b: it is bad; mend it" in err and "1 of 4 done" in err and "3 failed" in err


def test_ctrl_c_keeps_what_was_done(capsys):
    def work(entry):
        if entry.name == "c":
            raise KeyboardInterrupt
        return {"n": 1}

    with many.Display("doing", "done", 4, lambda record: record["input"], False) as display:
        totals = many.run(ITEMS, work, display.take)
    assert display.end(totals, again="go on") == 130
    out, err = capsys.readouterr()
    assert out.split() == ["a", "b"] and err == "stopped after 2 of 4; go on\n"


def test_progress_without_a_terminal_is_a_line_a_minute(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    with many.Display("doing", "done", 2, lambda record: "", False) as display:
        many.run(ITEMS[:2], lambda entry: {}, display.take)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("1 of 2, doing: ") and first.endswith(" s left")
    assert last.startswith("2 of 2, doing: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"charge": float("nan")}, "charge must be a whole number, found nan"),
        ({"charge": 0.5}, "charge must be a whole number"),
        ({"box": "round"}, "unknown box 'round'; known: auto"),
        ({"padding": float("inf")}, "padding must be a positive length"),
        ({"padding": 0.0}, "padding must be a positive length"),
        ({"padding": "4"}, "padding must be a positive length"),
        ({"spacing": 0.0}, "spacing must be a positive length"),
        ({"average": 49}, "1 to 48"),
        ({"refine": -1}, "0 or more, found -1"),
        ({"refine": 1.5}, "0 or more"),
    ],
)
def test_options_of_a_prediction_check_themselves(options, words):
    with pytest.raises(InputError, match=words):
        PredictionOptions(**options)


def test_the_device_is_not_part_of_the_result():
    assert PredictionOptions(device="cpu").plain() == PredictionOptions(device="cuda").plain()
    assert PredictionOptions(refine=1).plain() != PredictionOptions().plain()


def test_the_line_of_an_input_begins_with_its_title_and_charge():
    ion = {"input": "a.sdf[1]", "title": "acetate", "formula": "C2H3O2", "charge": -1}
    assert many.headline(ion) == "a.sdf[1] (acetate): C2H3O2 -1"
    assert many.headline({"input": "b.xyz", "formula": "H2", "charge": 0}) == "b.xyz: H2"


def test_notes_about_the_file_and_about_the_result_stand_together():
    task = SimpleNamespace(name="x", title="", notes=("cut",))
    assert many.record_of(task, {"notes": ["bound", "cut"]})["notes"] == ["cut", "bound"]
    assert many.record_of(task, {"charge": 0})["notes"] == ["cut"]
