"""The command line as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer.main
from ase import Atoms
from ase.build import molecule
from ase.io import write as ase_write
from rich.text import Text

import denser
from denser import cli

ROOT = Path(__file__).parents[1]


def put(name: str, atoms: Atoms | list[Atoms], **options) -> str:
    ase_write(name, atoms, **options)
    return name


@pytest.mark.parametrize(
    "name", ["w.xyz", "w.extxyz", "w.sdf", "w.mol", "w.pdb", "w.cif", "POSCAR", "w.traj"]
)
def test_structure_files(run, water, name):
    water.center(vacuum=3.0)
    if name in ("w.cif", "POSCAR"):
        water.pbc = True
    if name in ("w.sdf", "w.mol"):
        Path(name).write_text(WATER_SDF)
    else:
        put(name, water)
    code, out, err = run("predict", name, "-o", "rho.npz", "--spacing", "0.3")
    assert code == 0, err
    assert "H2O, 3 atoms, 8 valence electrons" in " ".join(out.split())
    assert denser.read("rho.npz").integrate() == pytest.approx(8, abs=1e-5)


@pytest.mark.parametrize("name", ["rho.cube", "CHGCAR", "a.chgcar", "rho.ccp4", "a.map", "b.mrc"])
def test_output_formats(run, water, name):
    put("w.xyz", water)
    code, _, err = run("predict", "w.xyz", "-o", name, "--spacing", "0.25")
    assert code == 0, err
    assert denser.read(name).integrate() == pytest.approx(8, abs=1e-3)


def test_json_is_one_object_per_input(run, water):
    put("w.xyz", water)
    put("e.xyz", molecule("CH3CH2OH"))
    code, out, _ = run("predict", "w.xyz", "e.xyz", "-o", "out", "--json", "--box", "paper")
    assert code == 0
    first, second = [json.loads(line) for line in out.splitlines()]
    assert first["input"] == "w.xyz"
    assert first["output"] == "out/w.cube"
    assert (first["n_atoms"], first["n_electrons"]) == (3, 8)
    assert set(first["seconds"]) == {"sad", "network", "write"}
    assert 1.4 < first["dipole_norm_debye"] < 2.4
    assert second["formula"] == "C2H6O"
    rho = denser.read("out/e.cube")
    assert list(rho.grid.shape) == second["grid_shape"]
    np.testing.assert_allclose(
        rho.structure.to_ase().positions, molecule("CH3CH2OH").positions, atol=1e-5
    )


def test_json_tells_of_failures_too(run, water):
    put("t.extxyz", [Atoms("Fe"), water])
    code, out, err = run("predict", "t.extxyz", "-o", "d", "--json", "--spacing", "0.3")
    assert code == 2
    failed, done = [json.loads(line) for line in out.splitlines()]
    assert failed["input"] == "t.extxyz[0]"
    assert "does not cover" in failed["error"]
    assert failed["error"] in err
    assert done["n_atoms"] == 3


def test_every_record_of_an_sdf_with_its_charge(run):
    acetate = SDF_TAIL.format(charge="M  CHG  1   1  -1\n")
    Path("two.sdf").write_text(WATER_SDF + acetate)
    code, out, err = run("predict", "two.sdf", "-o", "d", "--json", "--spacing", "0.3")
    assert code == 0, err
    first, second = [json.loads(line) for line in out.splitlines()]
    assert (first["formula"], first["charge"]) == ("H2O", 0)
    assert (second["formula"], second["charge"], second["n_electrons"]) == ("HO", -1, 8)


def test_many_frames_go_to_a_folder_and_bad_ones_do_not_stop_the_rest(run, water):
    iron = Atoms("Fe")
    crowded = Atoms("H2", [[0, 0, 0], [0, 0, 0.1]])
    put("t.extxyz", [water, iron, crowded, molecule("CH4")])
    code, out, err = run("predict", "t.extxyz", "-o", "d", "--format", "npz", "--spacing", "0.3")
    assert code == 2
    assert sorted(p.name for p in Path("d").glob("[!.]*")) == ["t_00000.npz", "t_00003.npz"]
    assert "2 of 4 predicted" in out
    assert "2 failed" in out
    lines = err.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("denser: t.extxyz[1]: ") and "does not cover" in lines[0]
    assert "0.4 angstrom" in lines[1]
    before = Path("d/t_00000.npz").stat().st_mtime_ns
    code, out, _ = run(
        "predict", "t.extxyz", "-o", "d", "--format", "npz", "--spacing", "0.3", "--resume"
    )
    assert "0 of 4 predicted" in out
    assert "2 done before" in out
    assert Path("d/t_00000.npz").stat().st_mtime_ns == before


def test_equal_names_do_not_overwrite_each_other(run, water):
    Path("a").mkdir()
    put("w.xyz", water)
    put("a/w.xyz", molecule("CH4"))
    code, _, _ = run("predict", "w.xyz", "a/w.xyz", "-o", "d", "--spacing", "0.3")
    assert code == 0
    assert sorted(p.name for p in Path("d").glob("[!.]*")) == ["a_w.cube", "w.cube"]


@pytest.mark.parametrize(
    ("names", "outputs"),
    [
        (["d1/a.xyz", "d2/a.xyz", "a_2.xyz"], ["d1_a", "d2_a", "a_2"]),
        (["d1_a.xyz", "d1/a.xyz", "a.xyz"], ["d1_a", "d1_a_2", "a"]),
        (["t.extxyz", "t_00001.xyz"], ["t_00000", "t_00001", "t_00001_2"]),
        (["t_00001.xyz", "t.extxyz"], ["t_00001", "t_2_00000", "t_2_00001"]),
        (["d1/a.xyz", "d1/a.xyz", "d2/A.xyz"], ["d1_a", "d1_a_2", "d2_A"]),
    ],
)
def test_outputs_never_overwrite_each_other(run, names, outputs):
    for folder in ("d1", "d2"):
        Path(folder).mkdir()
    formulas = []
    for name, kind in zip(names, ("H2O", "CH4", "NH3"), strict=False):
        frames = 2 if name == "t.extxyz" else 1
        put(name, [molecule(kind)] * frames)
        formulas += [molecule(kind).get_chemical_formula("hill")] * frames
    if names[0] == names[1]:
        formulas[0] = formulas[1]
    code, out, err = run("predict", *names, "-o", "d", "--spacing", "0.3", "--json")
    assert code == 0, err
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["output"] for record in records] == [f"d/{stem}.cube" for stem in outputs]
    assert len({record["input"] for record in records}) == len(records)
    for record, formula in zip(records, formulas, strict=True):
        found = denser.read(record["output"]).structure.to_ase().get_chemical_formula("hill")
        assert found == formula


def test_a_later_run_says_what_it_replaces(run, water):
    for folder in ("d1", "d2"):
        Path(folder).mkdir()
        put(f"{folder}/opt.xyz", molecule("HF"))
    command = ("-o", "d", "--format", "npz", "--spacing", "0.5")
    assert "replaced" not in run("predict", "d1/opt.xyz", *command)[2]
    assert "replaced" not in run("predict", "./d1/opt.xyz", *command)[2]  # the same again
    code, out, err = run("predict", "d2/opt.xyz", *command, "--json")
    assert code == 0 and f"{Path.cwd()}/d1/opt.xyz, which is replaced" in err
    assert "is replaced" in json.loads(out)["warnings"][-1]


def test_an_output_never_overwrites_an_input(run, water):
    put("w.xyz", water)
    assert run("predict", "w.xyz", "-o", "w.cube", "--spacing", "0.3")[0] == 0
    before = Path("w.cube").read_bytes()
    for out in (".", "./w.cube"):
        code, _, err = run("predict", "w.cube", "-o", out, "--spacing", "0.2")
        assert code == 2 and "is an input and would be overwritten" in err
        assert Path("w.cube").read_bytes() == before


def test_resume_knows_what_an_output_was_made_from(run, water, tmp_path):
    from denser.model.checkpoint import Model, load_model, save_model

    put("a.xyz", water)
    put("b.xyz", molecule("CH4"))
    model = load_model()
    save_model(tmp_path / "m.safetensors", model)
    command = ["predict", "a.xyz", "b.xyz", "-o", "d", "--resume", "--model", "m.safetensors"]

    def done(*options: str) -> list[str]:
        code, out, err = run(*command, "--json", *(options or ("--spacing", "0.3")))
        assert code == 0, err
        return [json.loads(line)["input"] for line in out.splitlines()]

    both = ["a.xyz", "b.xyz"]
    assert done() == both
    assert done() == []
    put("a.xyz", molecule("NH3"))
    assert done() == ["a.xyz"]
    assert denser.read("d/a.cube").structure.formula == "H3N"
    assert done("--spacing", "0.25") == both  # other options
    assert done("--spacing", "0.25", "--device", "cpu") == []
    network = model.network
    next(iter(network.parameters())).data.mul_(1.001)
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "m.safetensors"
    save_model(other, Model("m", model.architecture, network, model.recipe))
    command[-1] = str(other)
    assert done("--spacing", "0.25") == both  # another model of the same name
    denser.write("d/b.cube", denser.read("d/a.cube"))
    assert done("--spacing", "0.25") == ["b.xyz"]  # a file that somebody else wrote
    Path("d/a.cube").unlink()
    with open("d/.denser-predict.jsonl", "a") as file:
        file.write('{"output": "a.cu')  # what a machine that lost power leaves
    assert done("--spacing", "0.25") == ["a.xyz"]
    assert done("--spacing", "0.25") == []


def test_resume_of_a_single_file(run, water):
    put("a.xyz", water)
    command = ["predict", "a.xyz", "-o", "a.cube", "--resume", "--spacing", "0.3"]
    assert run(*command)[0] == 0
    before = Path("a.cube").stat().st_mtime_ns
    assert run(*command)[0] == 0
    assert Path("a.cube").stat().st_mtime_ns == before
    put("a.xyz", molecule("NH3"))
    assert run(*command)[0] == 0
    assert denser.read("a.cube").structure.formula == "H3N"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "b.xyz: memory ran out"),
        (RuntimeError("CUDA out of memory. Tried to allocate 9 GiB"), "b.xyz: memory ran out"),
        (OSError(28, "No space left on device", "x"), "x: cannot be read or written (No space"),
        (ValueError("odd"), "b.xyz: failed (ValueError: odd, "),
    ],
)
def test_whatever_ends_one_input_does_not_end_the_others(run, water, monkeypatch, error, words):
    for name in "abc":
        put(f"{name}.xyz", water)
    original, calls = denser.Predictor.predict, []

    def predict(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return original(self, *arguments, **options)

    monkeypatch.setattr(denser.Predictor, "predict", predict)
    names = ["a.xyz", "b.xyz", "c.xyz"]
    code, out, err = run("predict", *names, "-o", "d", "--spacing", "0.3")
    assert code == 2 and "2 of 3 predicted" in out and "1 failed" in out
    assert words in err and err.count("\n") == 1 and "Traceback" not in err
    assert sorted(p.name for p in Path("d").glob("[!.]*")) == ["a.cube", "c.cube"]


def test_a_density_in_doubt_says_so(run, water):
    put("al.xyz", Atoms("Al4", [[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]]))
    put("w.xyz", water)
    put("co2.xyz", Atoms("OCO", [[-1.405, 0, 0], [0, 0, 0], [1.405, 0, 0]]))
    code, out, err = run("predict", "al.xyz", "w.xyz", "co2.xyz", "-o", "out", "--json")
    assert code == 0
    strange, known, long = [json.loads(line) for line in out.splitlines()]
    assert known["warnings"] == [] and "1.41 angstrom apart" in long["warnings"][0]
    assert f"denser: co2.xyz: {long['warnings'][0]}" in err
    assert 20 < strange["expected_error_percent"] < 40  # by Kohn-Sham steps 25
    assert " %, most of it at Al" in strange["doubt"]
    assert 0.05 < known["expected_error_percent"] < 0.4
    assert (abs(known["excess_percent"]) < 0.1, known["doubt"]) == (True, "")
    assert f"denser: al.xyz: {strange['doubt']}" in err
    assert "w.xyz: model" not in err


def test_smiles_and_charge(run):
    code, out, err = run(
        "predict", "--smiles", "CC(=O)[O-]", "-o", "a.cube", "--json", "--spacing", "0.3"
    )
    assert code == 0, err
    record = json.loads(out)
    assert (record["formula"], record["charge"], record["n_electrons"]) == ("C2H3O2", -1, 24)
    assert record["geometry"] == "ETKDG and MMFF94"
    for smiles, words in (
        ("C1CC", "cannot be parsed"),
        ("F[Xe]F", "neither MMFF94 nor UFF"),
    ):
        code, _, err = run("predict", "--smiles", smiles, "-o", "a.cube")
        assert code == 2
        assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to predict"),
        (["w.xyz"], "no output"),
        (["none.xyz", "-o", "a.cube"], "none.xyz: no such file"),
        (["garbage.xyz", "-o", "a.cube"], "garbage.xyz: line 1: expected the number of atoms"),
        (["empty.xyz", "-o", "a.cube"], "empty.xyz: "),
        (["noatoms.extxyz", "-o", "a.cube"], "no atoms"),
        (["iron.xyz", "-o", "a.cube"], "Fe, which model 'default' does not cover"),
        (
            ["ghost.xyz", "-o", "a.cube"],
            "X (a ghost or dummy atom), which model 'default' does not cover",
        ),
        (["odd.xyz", "-o", "a.cube"], "unknown symbol 'Qq'"),
        (["nan.xyz", "-o", "a.cube"], "not a finite number"),
        (["w.xyz", "-o", "a.vtk"], "a.vtk"),
        (["w.xyz", "-o", "no/such/folder/a.cube"], "does not exist"),
        (["w.xyz", "w.xyz", "-o", "a.cube"], "give -o FOLDER --format cube"),
        (["w.xyz", "w.xyz", "-o", "d", "--format", "vtk"], "vtk"),
        (["w.xyz", "-o", "a.cube", "--format", "vtk"], "x.vtk: unknown file format"),
        (["w.xyz", "-o", "a.cube", "--grid", "w.xyz"], "w.xyz: is a structure, not a density"),
        (["w.xyz", "-o", "a.cube", "--model", "none"], "no model named 'none'"),
        (["w.xyz", "-o", "a.cube", "--model", "garbage.xyz"], "not a safetensors file"),
        (["w.xyz", "-o", "a.cube", "--device", "cuda:7"], "not available"),
        (["w.xyz", "-o", "a.cube", "--padding", "0.1"], "cuts the density off"),
        (["w.xyz", "-o", "a.cube", "--box", "round"], "round"),
        (["w.xyz", "-o", "a.cube", "--charge", "8"], "without valence electrons"),
        (["w.xyz", "-o", "a.cube", "--charge", "-10"], "more than twice the 8 of its atoms"),
        (["w.xyz", "-o", "/dev/null"], "/dev/null is a file, and not one of a density"),
        (["slab.xyz", "-o", "a.cube"], "pbc = T T F"),
        (["w.xyz", "-o", "a.cube", "--no-such-flag"], "no-such-flag"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, water, arguments, words):
    put("w.xyz", water)
    Path("garbage.xyz").write_text("this is\nnot a structure\nat all\n")
    Path("empty.xyz").write_text("")
    put("iron.xyz", Atoms("Fe"))
    put("ghost.xyz", Atoms("OX", [[0, 0, 0], [0, 0, 1]]))
    Path("odd.xyz").write_text("1\n\nQq 0 0 0\n")
    hydrogen = Atoms("H2", [[0, 0, 0], [0, 0, 0.8]], cell=[5, 5, 5, 90, 90, 70], pbc=True)
    put("oblique.xyz", hydrogen)
    hydrogen.pbc = (True, True, False)
    put("slab.xyz", hydrogen)
    Path("nan.xyz").write_text("2\n\nH 0 0 0\nH 0 0 nan\n")
    Path("noatoms.extxyz").write_text("0\n\n")
    code, out, err = run("predict", *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in out + err
    assert not Path("a.cube").exists()
    if "--box" not in arguments and "--no-such-flag" not in arguments:
        assert len(err.strip().splitlines()) == 1, err


def test_failed_write_keeps_the_old_file(run, water, monkeypatch):
    put("w.xyz", water)
    Path("a.cube").write_text("precious")
    code, _, _ = run("predict", "w.xyz", "-o", "a.cube", "--charge", "8")
    assert code == 2
    assert Path("a.cube").read_text() == "precious"


def test_interrupt_says_how_to_go_on(run, water, monkeypatch):
    put("t.extxyz", [water] * 3)
    original = denser.Predictor.predict
    calls = []

    def predict(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    monkeypatch.setattr(denser.Predictor, "predict", predict)
    code, _, err = run("predict", "t.extxyz", "-o", "d", "--spacing", "0.3")
    assert code == 130
    assert "stopped after 1 of 3; add --resume" in err


def test_model_of_another_recipe_is_used_with_its_own_sad(run, water, small_model):
    """The SAD recipe belongs to the checkpoint; an unknown one is an error."""
    from denser.model.checkpoint import Model, save_model
    from denser.types.recipe import Recipe

    put("w.xyz", water)
    odd = Model("odd", "unet", small_model.network, Recipe(sad="minao"), {})
    save_model(Path("odd.safetensors"), odd)
    code, _, err = run("predict", "w.xyz", "-o", "a.cube", "--model", "odd.safetensors")
    assert code == 2
    assert "minao" in err


def test_plot_and_difference(run, water):
    put("w.xyz", water)
    run("predict", "w.xyz", "-o", "a.cube", "--spacing", "0.3")
    code, out, _ = run("plot", "a.cube", "-o", "a.png", "--json")
    expected = {"input": "a.cube", "minus": None, "kind": "isosurface", "output": "a.png"}
    assert (code, json.loads(out)) == (0, expected)
    assert Path("a.png").stat().st_size > 5000
    code, _, err = run("plot", "a.cube", "none.cube", "-o", "b.png")
    assert code == 2
    assert "none.cube" in err


def test_models_list_and_import(run):
    import torch

    from denser.model.resnet import X2, ResNet

    code, out, _ = run("models", "list")
    assert code == 0
    assert out.startswith("default  aspherical") and len(out.splitlines()) == 1
    torch.save({"model_state_dict": ResNet(X2).state_dict(), "epoch": 3}, "chk.pth")
    code, out, _ = run("models", "import", "chk.pth")
    assert code == 0
    assert "chk.safetensors" in out
    assert "9,354,403" in out
    code, _, err = run("models", "import", "none.pth")
    assert (code, "no such file" in err) == (2, True)


def test_installed_command_answers():
    command = Path(sys.executable).parent / "denser"
    for arguments in (["--help"], ["--version"], ["predict", "--help"]):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        [command, "predict", "none.xyz", "-o", "a.cube"],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


WATER_SDF = """water
  test

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1193 O   0  0  0  0  0  0  0  0  0  0  0  0
    0.0000    0.7632   -0.4770 H   0  0  0  0  0  0  0  0  0  0  0  0
    0.0000   -0.7632   -0.4770 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
  1  3  1  0  0  0  0
M  END
$$$$
"""

SDF_TAIL = """hydroxide
  test

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  5  0  0  0  0  0  0  0  0  0  0
    0.0000    0.0000    0.9700 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0  0  0  0
{charge}M  END
$$$$
"""


def test_help_texts_are_shown_completely():
    """Rich takes words in square brackets for markup and leaves them out."""
    commands = [typer.main.get_command(cli.app)]
    shown = 0
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        for text in [command.help, *(getattr(p, "help", None) for p in command.params)]:
            if text:
                assert Text.from_markup(text).plain == text
                shown += 1
    assert shown > 100
