import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from denser import InputError, load_model
from denser.labels.reading import read_labels
from denser.model.checkpoint import Model, build, save_model
from denser.model.doubt import in_doubt
from denser.model.predictor import Predictor
from denser.training.config import Config, ModelConfig, ScheduleConfig
from denser.training.elements import elements_to_learn
from denser.types.recipe import Recipe
from denser.workflows.evaluate.measure import measure
from denser.workflows.finetune import Plan, finetune, sentences, table

LABELS = Path(__file__).parent / "reference" / "labels"
QUICK = ("sample.crop=32", "sample.margin=4", "bf16=false", "optimizer.lr=0.01")


@pytest.fixture
def start(tmp_path, small_model) -> Path:
    """A model file whose record names what it was trained on."""
    path = tmp_path / "start.safetensors"
    info = {"train_names": ["benzene"], "validation_names": ["old_HCN"], "data_hash": "abc"}
    save_model(path, Model("start", "unet", small_model.network, small_model.recipe, info))
    return path


@pytest.fixture
def old(tmp_path) -> Path:
    """Labels of the original kind: one for validation, one to learn from again."""
    folder = tmp_path / "old"
    folder.mkdir()
    shutil.copy(LABELS / "HCN.npz", folder / "old_HCN.npz")
    shutil.copy(LABELS / "C2H2.npz", folder / "old_C2H2.npz")
    return folder


def plan(start: Path, **changes) -> Plan:
    values = {"model": str(start), "labels": (str(LABELS),), "steps": 20, "settings": QUICK}
    return Plan(**values | changes)


def test_fine_tuning_from_start_to_finish(tmp_path, start, old):
    run = tmp_path / "run"
    result = finetune(plan(start, remember=str(old), rehearse=str(old)), run)
    assert (result.n_train, result.n_validation, len(result.test.names)) == (3, 1, 1)
    assert float(result.test.after.mean()) < float(result.test.before.mean())
    assert result.remembered.names == ("old_HCN",)
    assert not result.kept_start and sentences(result) == []

    tuned = load_model(run / "model.safetensors")
    best = load_model(run / "best.safetensors").network.state_dict()
    for key, value in tuned.network.state_dict().items():
        torch.testing.assert_close(value, best[key])
    info = tuned.info
    assert info["parent"]["name"] == str(start) and info["parent"]["data_hash"] == "abc"
    used = {*info["own_train_names"], *info["validation_names"], *result.test.names}
    assert used == {label.name for label in read_labels(LABELS)}
    assert info["rehearsal_names"] == ["old_C2H2"]  # what is measured is not rehearsed
    assert set(info["train_names"]) == {"benzene", "old_C2H2", *info["own_train_names"]}
    assert info["measured"]["test"]["names"] == list(result.test.names)
    assert info["measured"]["n"] == 1
    assert tuned.mean_percent == info["measured"]["validation_mean_percent"] > 0
    assert in_doubt(tuned, 0.6 * tuned.mean_percent / 100)
    assert info["config"]["model"]["start"] == str(start)

    # The errors are those that denser evaluate finds.
    (label,) = [x for x in read_labels(LABELS) if x.name in result.test.names]
    measured = measure(label, Predictor(tuned)).errors
    assert measured["model"] == pytest.approx(float(result.test.after[0]), rel=1e-6)
    assert measured["sad"] == pytest.approx(float(result.test.sad[0]), rel=1e-6)
    cells = [list(column.cells) for column in table(result).columns]
    assert cells[2] == ["SAD", "before", "after"] * 2
    assert cells[3][2] == f"{100 * result.test.after.mean():.3f}"


def test_network_of_atoms_is_tuned_on_points(tmp_path):
    torch.manual_seed(0)
    network = build("aspherical", {"channels": 8, "layers": 1})
    path = tmp_path / "atoms.safetensors"
    save_model(path, Model("atoms", "aspherical", network, Recipe()))
    quick = ("sample.points=256", "optimizer.lr=0.01")
    result = finetune(plan(path, settings=quick), tmp_path / "run")
    assert float(result.test.after.mean()) < float(result.test.before.mean())
    assert load_model(result.path).architecture == "aspherical"


def test_new_elements_alone_can_learn(tmp_path):
    """Densities without them stay the same to the last digit; those with them improve."""
    torch.manual_seed(0)
    network = build("aspherical", {"channels": 8, "layers": 1})
    for p in network.parameters():  # not the SAD
        torch.nn.init.normal_(p, std=0.02)
    path = tmp_path / "atoms.safetensors"
    save_model(path, Model("atoms", "aspherical", network, Recipe()))
    labels = (str(LABELS), str(LABELS.parent / "heavy"))
    only = ('model.learn="new elements"', "sample.points=256", "optimizer.lr=0.01")
    names = tmp_path / "test.txt"
    names.write_text("HCN\n")
    given = {"labels": labels, "settings": only, "test": str(names), "validation": 0.0}
    result = finetune(plan(path, **given), tmp_path / "run")
    np.testing.assert_array_equal(result.test.before, result.test.after)
    tuned, start = load_model(result.path).network, load_model(path).network
    bromide, known = tuned.elements.index(35), [tuned.elements.index(z) for z in start.elements]
    assert torch.equal(tuned.embedding.weight[known], start.embedding.weight)
    chlorine = start.elements.index(9)  # the nearest halogen, as which bromine began
    assert not torch.equal(tuned.embedding.weight[bromide], start.embedding.weight[chlorine])
    for mine, its in zip(tuned.mix.parameters(), start.mix.parameters(), strict=True):
        assert torch.equal(mine, its)
    model = load_model(result.path)
    assert model.info["n_labels_of_element"] == {"Br": 1}  # those of the start are not known
    predictor = Predictor(model, "cpu")
    hbr = predictor.predict(Atoms("HBr", [(0, 0, 0), (0, 0, 1.42)]), spacing=0.2)
    assert "few labels of an element here (1 with Br)" in predictor.doubt(hbr)
    fluoride = predictor.predict(Atoms("HF", [(0, 0, 0), (0, 0, 0.92)]), spacing=0.2)
    assert "few labels" not in predictor.doubt(fluoride)
    # and once more, by its symbol, from the model that knows it now
    again = {**given, "settings": ('model.learn="Br"', *only[1:])}
    result = finetune(plan(result.path, **again), tmp_path / "again")
    after = load_model(result.path)
    assert torch.equal(after.network.embedding.weight[known], start.embedding.weight)
    assert not torch.equal(after.network.embedding.weight[bromide], tuned.embedding.weight[bromide])
    assert after.info["n_labels_of_element"] == {"Br": 1}  # the same label, counted once
    with pytest.raises(InputError, match="elements that it does not know"):
        finetune(plan(path, settings=only), tmp_path / "nothing new")


def test_elements_to_learn_that_are_not_there():
    """Symbols that are none, and those that a model does not know, in one sentence each."""
    with pytest.raises(
        InputError, match="is 'Q'; known: all, closed shells, new elements, spin, or"
    ):
        Config(schedule=ScheduleConfig(steps=1), model=ModelConfig(learn="Q"))
    network = build("aspherical", {"channels": 8, "layers": 1})
    model = Model("atoms", "aspherical", network, Recipe())
    assert elements_to_learn("C O", model, network) == [6, 8]
    with pytest.raises(InputError, match="names Xe, which the model does not know"):
        elements_to_learn("C Xe", model, network)
    with pytest.raises(InputError, match="needs a model in"):
        elements_to_learn("C", None, network)


def test_an_element_that_the_model_does_not_know_gets_a_row(tmp_path):
    torch.manual_seed(0)
    network = build("aspherical", {"channels": 8, "layers": 1})
    path = tmp_path / "atoms.safetensors"
    save_model(path, Model("atoms", "aspherical", network, Recipe()))
    labels = (str(LABELS), str(LABELS.parent / "heavy"))
    told: list[str] = []
    quick = ("sample.points=256", "optimizer.lr=0.01")
    names = tmp_path / "test.txt"
    names.write_text("HBr\n")  # and none to learn from: a copy of the nearest halogen remains
    result = finetune(
        plan(path, labels=labels, settings=quick, test=str(names)),
        tmp_path / "run",
        tell=told.append,
    )
    assert any("atoms.safetensors does not know Br; each new" in sentence for sentence in told)
    tuned = load_model(result.path)
    assert tuned.network.elements == (1, 6, 7, 8, 9, 35)
    assert tuned.describe()["elements"][-1] == "Br"
    assert result.test.names == ("HBr",)
    np.testing.assert_allclose(result.test.before, result.test.sad, rtol=1e-3)  # untrained


ALUMINIUM = Atoms("Al4", [[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]])
"""Nothing that the shipped models have learnt from."""


@pytest.mark.slow
@pytest.mark.parametrize("validation", [0.2, 0.0])
def test_a_tuned_model_says_what_it_does_not_know(tmp_path, validation):
    """With or without a validation part, and without a test part too."""
    settings = ("sample.points=256",)
    tuned = finetune(
        plan("default", steps=2, test=0.0, validation=validation, settings=settings), tmp_path
    )
    model = load_model(tuned.path)
    if validation:
        assert 0.01 < model.info["measured"]["validation_mean_percent"] < 2
        assert model.mean_percent == model.info["measured"]["validation_mean_percent"]
    else:
        assert model.mean_percent == load_model("default").mean_percent
    predictor = Predictor(model, "cpu")
    assert "does not know" in predictor.doubt(predictor.predict(ALUMINIUM, padding=3.0))
    assert predictor.doubt(predictor.predict(molecule("CH3CH2OH"), padding=3.0)) == ""


def test_it_goes_on_and_repeats_what_it_measured(tmp_path, start):
    asked = iter([False] * 7 + [True])
    with pytest.raises(KeyboardInterrupt):
        finetune(plan(start, steps=10), tmp_path / "a", stop=lambda: next(asked))
    resumed = finetune(plan(start, steps=10), tmp_path / "a")
    straight = finetune(plan(start, steps=10), tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):  # while it measures
        finetune(plan(start, steps=10), tmp_path / "a", stop=lambda: True)
    again = finetune(plan(start, steps=10), tmp_path / "a")
    np.testing.assert_allclose(resumed.test.after, straight.test.after, rtol=1e-4)
    np.testing.assert_allclose(again.test.after, resumed.test.after, rtol=1e-6)


def test_start_is_kept_where_nothing_is_better(tmp_path, start):
    still = (*QUICK[:3], "optimizer.lr=0.0", "optimizer.lr_rest=0.0")
    told = []
    result = finetune(plan(start, settings=still), tmp_path / "run", tell=told.append)
    assert result.kept_start and result.steps == 0
    np.testing.assert_allclose(result.test.after, result.test.before, rtol=1e-6)
    words = sentences(result)
    assert "no weights of the run were better" in words[0]
    assert "not measured what the model forgot" in words[1]
    assert told == [
        "3 labels to train on, 1 for validation, 1 for the test; at most 20 steps",
        "measuring 1 label before and after",
    ]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["schedule"]["patience"] > 0


def test_parts_from_files_keep_copies_of_a_molecule_together(tmp_path, start):
    labels = tmp_path / "labels"
    shutil.copytree(LABELS, labels)
    shutil.copy(labels / "HCN.npz", labels / "HCN_rattled.npz")
    names = tmp_path / "test.txt"
    names.write_text("HCN_rattled\n")
    result = finetune(
        plan(start, labels=(str(labels),), test=str(names), validation=0.0, steps=1),
        tmp_path / "run",
    )
    assert result.test.names == ("HCN_rattled",)
    info = load_model(result.path).info
    assert set(info["own_train_names"]) == {"CH4", "C2H2", "H2CO", "H2O"}
    assert "no validation part" in sentences(result)[0]
    names.write_text("HCM\n")
    with pytest.raises(InputError, match="the test part: no label is named 'HCM'; did you mean"):
        finetune(plan(start, labels=(str(labels),), test=str(names)), tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "absent"}, "no model named 'absent'"),
        ({"labels": ("absent",)}, r"absent: no \.npz labels"),
        ({"minutes": 1.0}, "steps or in minutes, not both"),
        ({"test": 1.5}, "test share must be at least 0 and below 1"),
        ({"test": 0.99}, "leave some to train on|is left to train on"),
        ({"remember": str(LABELS)}, "contains only labels of this run"),
        ({"settings": ("data.exclude=[]",)}, "data.exclude follows from --test"),
        ({"settings": ("optimizer.learning=1",)}, "unknown key optimizer.learning"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, start, changes, words):
    with pytest.raises(InputError, match=words):
        finetune(plan(start, **changes), tmp_path / "run")


@pytest.mark.slow
def test_command(run, tmp_path, start):
    command = ["finetune", start, LABELS, "-o", "run"]
    settings = [part for setting in QUICK for part in ("--set", setting)]

    def tuned(*more: str) -> str:
        code, out, err = run(*command, "--steps", "4", *settings, *more)
        assert code == 0, err
        return out

    out = tuned()
    for words in ("3 labels to train on", "your test part", "before", "after", "wrote run/model"):
        assert words in out
    assert "finetune" in load_model(tmp_path / "run" / "model.safetensors").info["command"]
    record = json.loads(tuned("--json"))  # the finished run is measured again
    assert record["n_train"] == 3 and "run/model.safetensors" in record["written"]
    assert record["test"]["after_mean_percent"] > 0 and record["remembered"] is None
    code, _, err = run(*command, "--test", "many")
    assert code == 2 and "--test must be a share" in err and "Traceback" not in err
