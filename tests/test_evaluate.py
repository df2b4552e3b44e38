"""Evaluation of models whose errors are known beforehand, and the two commands."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import denser
from denser.analysis.moments import dipole
from denser.atoms.sad import superposition
from denser.fields.metrics import err_rho
from denser.labels.facts import Facts
from denser.labels.label import Label
from denser.labels.reading import read_label, read_labels
from denser.labels.store import LabelStore
from denser.model.checkpoint import Model, build, save_model
from denser.model.predictor import Predictor
from denser.model.unet import UNet, UNetConfig
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.workflows.evaluate.error_by_place import error_around_elements, squared_distances
from denser.workflows.evaluate.measure import (
    choose,
    evaluate,
    measure,
    read_each,
    reference_density,
)

LABELS = Path(__file__).parent / "reference" / "labels"
OPTIONS = {"channels": [8, 8, 8], "blocks": [1, 1, 1], "decoder_blocks": [1, 1]}


def untrained(sad="gth-szv-1e", **info) -> Model:
    """A network whose head is zero: it predicts the SAD."""
    return Model("untrained", "unet", build("unet", OPTIONS).eval(), Recipe(sad=sad), info)


@pytest.fixture(scope="module")
def water() -> Label:
    return read_label(LABELS / "H2O.npz")


def test_a_model_that_leaves_the_sad_alone_has_the_errors_of_the_sad(water):
    found = measure(water, Predictor(untrained()))
    sad = superposition(water.structure, water.grid)
    reference = reference_density(water)
    assert found.errors["sad"] == pytest.approx(err_rho(sad, reference))
    assert found.errors["model"] == pytest.approx(found.errors["sad"], rel=1e-5)
    assert 0.1 < found.errors["sad"] < 0.5 * found.errors["atrocious_sad"]
    distances = squared_distances(water.structure, water.grid)
    around = error_around_elements(sad, reference, distances)
    assert found.around == pytest.approx(around, rel=1e-4)
    assert found.dipole_error == pytest.approx(
        np.linalg.norm(dipole(sad) - dipole(reference)), abs=1e-4
    )
    assert found.by_distance[0].sum() == pytest.approx(found.errors["model"], rel=1e-5)
    assert found.electrons_off == pytest.approx(0, abs=1e-4)
    assert (found.name, found.formula, found.n_atoms) == ("H2O", "H2O", 3)
    assert not found.distorted
    assert "fitting" not in found.errors
    assert found.seconds_sad > 0 and found.seconds_network > 0


def test_the_models_own_recipe_is_its_input(water):
    found = measure(water, Predictor(untrained("gth-szv-1e-atrocious")), fitting=True)
    assert found.errors["model"] == pytest.approx(found.errors["atrocious_sad"], rel=1e-5)
    assert found.errors["fitting"] == pytest.approx(0.00508, abs=5e-5)


class Inflated(UNet):
    """1.02 SAD: the right shape, 2 % too many electrons."""

    def forward(self, sad, periodic=True):
        return 1.02 * sad


def test_electrons_before_scaling_are_those_of_the_network(water):
    model = Model("inflated", "unet", Inflated(UNetConfig(**OPTIONS)).eval(), Recipe())
    found = measure(water, Predictor(model, bf16=False))
    assert found.electrons_off == pytest.approx(0.02 * 8, abs=1e-4)
    assert found.errors["model"] == pytest.approx(found.errors["sad"], rel=1e-4)


def test_electrons_and_doubt_do_not_depend_on_the_grid(water, monkeypatch):
    predictor = Predictor()
    monkeypatch.setattr("denser.model.doubt.WORSE", 1e-9)  # so that every error is too large
    coarse = replace(water, grid=replace(water.grid, shape=(24, 24, 24)))
    fine, rough = measure(water, predictor), measure(coarse, predictor)
    assert rough.electrons_off == pytest.approx(fine.electrons_off, abs=1e-4)
    assert rough.in_doubt and fine.in_doubt
    assert rough.expected_error == pytest.approx(fine.expected_error, rel=1e-3)


def test_the_box_repeats_unless_told_otherwise(water, small_model):
    predictor = Predictor(small_model, bf16=False)
    periodic, isolated = (measure(water, predictor, p).errors for p in (True, False))
    assert periodic["sad"] == isolated["sad"]
    assert abs(periodic["model"] - isolated["model"]) > 1e-6


def named(water, *names):
    return [replace(water, name=name) for name in names]


def test_choose_leaves_out_what_was_trained_on(water):
    labels = named(water, "a", "a_rattled", "b_rattled", "c", "d", "d_rattled")
    model = untrained(train_names=["a", "b"], validation_names=["c", "d"])

    def names(part, *select):
        chosen, sentence = choose(labels, model, part, select)
        return [label.name for label in chosen], sentence

    chosen, sentence = names("unseen")
    assert chosen == ["c", "d", "d_rattled"]
    assert sentence == (
        "3 of 6 labels; 3 belong to molecules that untrained was trained on and were left out"
    )
    assert names("validation")[0] == ["c", "d"]
    assert "not among the 2 that untrained names for validation" in names("validation")[1]
    assert names("all") == (
        [label.name for label in labels],
        "6 of 6 labels; 3 of them belong to molecules that untrained was trained on",
    )
    chosen, sentence = names("unseen", "d*", "a")
    assert chosen == ["d", "d_rattled"]
    assert sentence.startswith("2 of 6 labels; 3 were not selected; 1 belong")
    with pytest.raises(InputError, match=r"none of 6 labels is named x\* or y; the first is a"):
        names("all", "x*", "y")
    with pytest.raises(InputError, match=r"all 2 belong to molecules .* --all"):
        names("unseen", "a*")
    with pytest.raises(InputError, match="no labels that could be read"):
        choose([], model)
    with pytest.raises(InputError, match="unknown part 'test'"):
        names("test")
    assert "does not name what" in choose(labels, untrained())[1]


def test_broken_labels_do_not_stop_the_rest(tmp_path, water):
    for name in ("H2O", "CH4"):
        shutil.copy(LABELS / f"{name}.npz", tmp_path)
    (tmp_path / "cut.npz").write_bytes((LABELS / "HCN.npz").read_bytes()[:900])
    arrays = dict(np.load(LABELS / "HCN.npz"))
    np.savez(tmp_path / "short.npz", **(arrays | {"mo_coeff": arrays["mo_coeff"][:-1]}))
    np.savez(tmp_path / "ion.npz", **(arrays | {"charge": np.array(2)}))
    found = evaluate(untrained(), tmp_path)
    assert [r.name for r in found.rows] == ["CH4", "H2O"]
    failures = {failure.name: failure.error for failure in found.failures}
    assert set(failures) == {"cut", "short", "ion"}
    assert "cut.npz: cannot be read as a label" in failures["cut"]
    assert "CHN must be finite numbers over" in failures["short"]
    assert "hold 10.000 electrons, CHN with charge 2 has 8" in failures["ion"]
    assert found.selection.startswith("4 of 4 labels")


def test_labels_of_a_store(tmp_path, water):
    path = tmp_path / "labels.db"
    with LabelStore(path, Recipe()) as store:
        store.add(water, Facts("given"))
    labels, failures = read_each(path, Recipe(sad="gth-szv-1e-atrocious"))
    assert [label.name for label in labels] == ["H2O"]
    assert not failures
    stored, given = (evaluate(untrained(), x).errors() for x in (path, [water]))
    assert stored == pytest.approx(given, rel=1e-4)
    with pytest.raises(InputError, match="recipes differ: xc"):
        read_each(path, Recipe(xc="lda"))
    for missing in (tmp_path / "none.db", tmp_path / "none"):
        with pytest.raises(InputError, match="none"):
            read_each(missing)


# The commands


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "zero.safetensors"
    save_model(path, untrained(train_names=["CH4"], validation_names=["H2O"]))
    return path


def test_evaluate_command(run, model_file, monkeypatch):
    monkeypatch.setattr("denser.pictures.plot.DPI", 60)
    code, out, err = run(
        "evaluate", model_file, LABELS, "--json", "--csv", "e.csv", "--plot", "e.png",
        "--worst", 1, "-o", "worst", "--select", "H*",
    )  # fmt: skip
    assert code == 0, err
    assert "3 of 5 labels; 2 were not selected" in err
    assert "atrocious SAD" in err
    record = json.loads(out)
    values = record["summary"]["err_rho_percent"]
    assert values["model"]["mean"] == pytest.approx(values["sad"]["mean"], rel=1e-4)
    assert f"{values['sad']['mean']:.3f}" in err
    assert len(Path("e.csv").read_text().splitlines()) == 4
    assert Path("e.png").read_bytes()[:4] == b"\x89PNG"
    worst = values["model"]["worst_name"]
    assert sorted(p.name for p in Path("worst").iterdir()) == [f"{worst}.cube", f"{worst}.png"]
    error = denser.read(f"worst/{worst}.cube")
    assert error.integrate() == pytest.approx(0, abs=1e-3)
    lost = np.abs(error.values).sum() * error.grid.dv / error.n_electrons
    assert 100 * lost == pytest.approx(values["model"]["worst"], rel=1e-4)


def test_evaluate_json_goes_to_standard_output_alone(run, model_file):
    code, out, err = run("evaluate", model_file, LABELS, "--validation", "--json")
    assert code == 0
    assert json.loads(out)["molecules"][0]["name"] == "H2O"
    assert "Err_rho, percent" in err


def test_evaluate_goes_on_after_a_broken_label(run, model_file):
    shutil.copytree(LABELS, "mine")
    Path("mine/A.npz").write_text("no label")
    code, out, err = run("evaluate", model_file, "mine", "--select", "H2O", "--select", "A")
    assert code == 2
    assert "A.npz: cannot be read as a label" in err
    assert "1 of 2 labels could not be measured" in err
    assert "H2O" in out
    for path in Path("mine").glob("[!A]*"):
        path.unlink()
    code, _, err = run("evaluate", model_file, "mine")
    assert code == 2
    assert "A.npz: cannot be read" in err
    assert "no labels that could be read" in err


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere"], "nowhere: no .npz labels found"),
        ([LABELS, "--all", "--validation"], "exclude each other"),
        ([LABELS, "--worst", "2"], "--worst needs a folder"),
        ([LABELS, "-o", "x"], "-o is the folder for --worst"),
        ([LABELS, "--plot", "x.jpg"], "cannot write .jpg"),
        ([LABELS, "--select", "CH4"], "no label is left: all 1 belong to molecules"),
        ([LABELS, "--select", "H2O", "--csv", "no/x.csv"], "the folder"),
    ],
)
def test_evaluate_says_what_is_wrong(run, model_file, arguments, sentence):
    code, _, err = run("evaluate", model_file, *arguments)
    assert code == 2
    assert sentence in err
    assert err.startswith("denser: ")
    assert err.count("\n") == 1


def test_ctrl_c_keeps_what_was_done(run, model_file, monkeypatch):
    import denser.workflows.evaluate.measure as module

    original, seen = module.measure, []

    def interrupted(*arguments):
        if seen:
            raise KeyboardInterrupt
        seen.append(arguments[0].name)
        return original(*arguments)

    monkeypatch.setattr(module, "measure", interrupted)
    code, out, err = run("evaluate", model_file, LABELS, "--csv", "e.csv")
    assert code == 130
    assert "stopped after 1 of 4" in err
    assert seen[0] in out
    assert len(Path("e.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory."), OSError(5, "x")]
)
def test_memory_that_runs_out_for_one_label_leaves_the_others(run, model_file, monkeypatch, error):
    import denser.workflows.evaluate.measure as module

    original, seen = module.measure, []

    def measure(*arguments):
        seen.append(arguments[0].name)
        if len(seen) == 2:
            raise error
        return original(*arguments)

    monkeypatch.setattr(module, "measure", measure)
    code, _, err = run("evaluate", model_file, LABELS, "--csv", "e.csv")
    assert code == 2 and "1 of 4 labels could not be measured" in err
    assert f"denser: {seen[1]}: " in err and "Traceback" not in err
    assert len(Path("e.csv").read_text().splitlines()) == 4


def test_compare_command(run, water):
    reference = reference_density(water)
    sad = superposition(water.structure, water.grid)
    denser.write("sad.npz", sad)
    denser.write("scf.cube", reference)
    code, out, err = run("compare", "sad.npz", "scf.cube", "-o", "d.cube")
    assert code == 0, err
    percent = 100 * err_rho(sad, reference)
    assert f"Err_rho {percent:.4f} %" in out
    delta = denser.read("d.cube")
    np.testing.assert_allclose(delta.values, sad.values - reference.values, atol=1e-5)
    code, out, _ = run("compare", "sad.npz", "scf.cube", "--json")
    record = json.loads(out)
    assert record["err_rho_percent"] == pytest.approx(percent, rel=1e-4)
    assert record["a"]["n_electrons"] == pytest.approx(8, abs=1e-3)
    assert record["b"]["n_electrons"] == pytest.approx(8, abs=1e-3)
    assert record["a"]["input"] == "sad.npz" and record["b"]["input"] == "scf.cube"
    assert abs(record["largest_difference_e_per_bohr3"]) == pytest.approx(
        np.abs(sad.values - reference.values).max(), rel=1e-4
    )
    assert record["a"]["dipole_debye"] is record["b"]["dipole_debye"] is None  # it has a cell
    assert [note for note in record["notes"] if "periodic and has no dipole" in note]
    assert record["output"] is None


def test_compare_takes_files_without_atoms(run, water):
    pytest.importorskip("gemmi")
    sad = superposition(water.structure, water.grid)
    denser.write("a.ccp4", sad)
    denser.write("CHGCAR", sad)
    code, out, err = run("compare", "a.ccp4", "CHGCAR")
    assert code == 0, err
    assert "Err_rho 0.0000 %" in out
    assert "none" in out


def test_compare_says_what_is_wrong(run, water):
    sad = superposition(water.structure, water.grid)
    denser.write("a.npz", sad)
    coarse = superposition(water.structure, water.grid.coarsen(2))
    denser.write("b.npz", coarse)
    code, _, err = run("compare", "a.npz", "b.npz", "-o", "d.cube")
    assert code == 2
    assert "the grids differ" in err and "not the number of nodes" in err
    assert not Path("d.cube").exists()
    for arguments, sentence in (
        (("a.npz", "c.npz"), "no such file"),
        (("a.npz", "a.npz", "-o", "d.txt"), "unknown file format"),
    ):
        code, _, err = run("compare", *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert sentence in err


def test_reading_a_folder_is_what_training_reads():
    labels, failures = read_each(LABELS)
    assert [label.name for label in labels] == [label.name for label in read_labels(LABELS)]
    assert not failures
