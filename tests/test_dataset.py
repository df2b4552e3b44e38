"""What a run takes from its labels: the level of theory, and which labels belong together."""

from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms
from ase.io import write

from denser import InputError, load_model
from denser.labels.facts import Facts
from denser.labels.label import Label, split
from denser.labels.reading import read_label, read_labels
from denser.labels.store import LabelStore
from denser.model.checkpoint import save_model
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.training.config import Config, from_dict
from denser.training.dataset import read_dataset, recipe_of
from denser.training.loop import train
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.evaluate.measure import choose
from denser.workflows.finetune import Plan, finetune
from denser.workflows.label import LabelInput, LabelSettings, label, read_inputs

LABELS = Path(__file__).parent / "reference" / "labels"
OPTIONS = {"channels": 8, "layers": 1, "elements": [1, 3]}
COARSE = Recipe(spacing=0.12 / BOHR)


def config(labels, **sections) -> Config:
    data = {
        "data": {"labels": [str(path) for path in labels], "validation": 1},
        "model": {"architecture": "aspherical", "options": OPTIONS},
        "schedule": {"steps": 3},
        "sample": {"batch": 1, "points": 256},
        "bf16": False,
    }
    for section, values in sections.items():
        data[section] = data.get(section, {}) | values
    return from_dict(Config, data, "test")


@pytest.fixture(scope="module")
def coarse(tmp_path_factory) -> Path:
    """Hydrogen and lithium hydride, labelled at a spacing of 0.12 angstrom."""
    path = tmp_path_factory.mktemp("labels") / "coarse.db"
    molecules = [
        LabelInput(name, Structure.of(Atoms(symbols, [[0, 0, 0], [0, 0, length]])))
        for name, symbols, length in (
            ("H2", "H2", 0.74),
            ("H2_long", "H2", 0.9),
            ("LiH", "LiH", 1.6),
        )
    ]
    settings = LabelSettings(PredictionOptions(box="paper", spacing=0.12))
    totals = label(molecules, path, settings, workers=1)
    assert totals.labelled == 3
    return path


def store(path: Path, recipe: Recipe) -> Path:
    with LabelStore(path, recipe) as labels:
        labels.add(replace(read_label(LABELS / "HCN.npz"), name=path.stem), Facts("given"))
    return path


@pytest.mark.parametrize("architecture", ["aspherical", "unet"])
def test_level_of_theory_of_a_run_is_that_of_its_store(coarse, tmp_path, architecture):
    sections = {}
    if architecture == "unet":
        options = {"channels": [4, 4], "blocks": [1, 1], "decoder_blocks": [1]}
        sections["model"] = {"architecture": "unet", "options": options}
        sections["sample"] = {"crop": 32, "margin": 4}
    path = train(config([coarse], **sections), tmp_path / "run")
    model = load_model(path)
    assert model.recipe == COARSE
    prediction = Predictor(model, "cpu").predict(Atoms("LiH", [[0, 0, 0], [0, 0, 1.6]]))
    spacing = prediction.density.grid.spacing * BOHR
    assert (spacing <= 0.12 + 1e-9).all() and (spacing > 0.11).all()
    assert prediction.density.integrate() == pytest.approx(4)


def test_fine_tuning_goes_on_at_the_level_of_its_start(coarse, tmp_path):
    start = train(config([coarse]), tmp_path / "start")
    settings = ("sample.points=256",)
    plan = Plan(str(start), (str(coarse),), test=0.3, validation=0.0, steps=2, settings=settings)
    tuned = load_model(finetune(plan, tmp_path / "tuned").path)
    assert tuned.recipe == COARSE
    with pytest.raises(InputError, match=r"recipes differ: spacing .* in .*fine\.db"):
        finetune(replace(plan, labels=(str(store(tmp_path / "fine.db", Recipe())),)), tmp_path)
    with pytest.raises(InputError, match=r"recipes differ: spacing .* in .*coarse\.db"):
        finetune(replace(plan, model="default"), tmp_path)


def test_stores_of_a_run_must_agree(coarse, tmp_path):
    fine = store(tmp_path / "fine.db", Recipe())
    assert recipe_of(config([fine])) == Recipe()
    with pytest.raises(InputError, match=r"spacing .* in .*coarse\.db, .* in .*fine\.db"):
        recipe_of(config([coarse, fine]))
    with pytest.raises(InputError, match=r"spacing .* in .*coarse\.db, .* in .*fine\.db"):
        recipe_of(config([coarse], data={"rehearsal": [str(fine)]}))
    with pytest.raises(InputError, match=r"spacing .* in default, .* in the labels of this run"):
        train(config([coarse], model={"start": "default", "options": {}}), tmp_path / "run")


def test_configuration_may_state_the_level_of_theory(coarse):
    stated = {"spacing": 0.12, "xc": "pbe"}
    assert recipe_of(config([coarse], recipe=stated)) == COARSE
    with pytest.raises(InputError, match=r"spacing .*coarse\.db, .* in \[recipe\]"):
        recipe_of(config([coarse], recipe={"spacing": 0.1}))
    with pytest.raises(InputError, match=r"xc 'pbe' in .*coarse\.db, 'blyp' in \[recipe\]"):
        recipe_of(config([coarse], recipe={"xc": "blyp"}))
    # .npz files do not say their level of theory
    assert recipe_of(config([LABELS])) == Recipe()
    assert recipe_of(config([LABELS], recipe={"xc": "blyp"})).xc == "blyp"
    assert recipe_of(config([LABELS]), COARSE) == COARSE
    with pytest.raises(InputError, match="basis 'gth-tzv2p' in the tables of denser, 'gth-dzvp'"):
        recipe_of(config([LABELS], recipe={"basis": "gth-dzvp"}))


def test_labels_of_another_spacing_are_named(coarse):
    given = config([LABELS], recipe={"spacing": 0.12})
    with pytest.raises(InputError, match=r"grid of label C2H2 has a spacing of 0\.08"):
        read_dataset(given.data, recipe_of(given))


def test_other_functional_is_no_obstacle_to_a_prediction(small_model):
    other = replace(small_model, recipe=Recipe(xc="blyp"))
    Predictor(other, "cpu")
    with pytest.raises(InputError, match="pseudo 'gth-pbe' in this version of denser, 'gth-blyp'"):
        Predictor(replace(small_model, recipe=Recipe(pseudo="gth-blyp")), "cpu")


def trajectory(name: str, n: int) -> list[Label]:
    """Frames of one trajectory as `denser label` names them."""
    first = read_label(LABELS / "HCN.npz")
    return [replace(first, name=f"{name}_{i:05d}") for i in range(n)]


def test_group_is_the_file_of_origin():
    (frame,) = trajectory("md", 1)
    for label_, group, molecule in (
        (frame, "md", "md_00000"),
        (replace(frame, name="md_00007_rattled"), "md", "md_00007"),
        (replace(frame, name="qm9_000001_rattled"), "qm9_000001", "qm9_000001"),
        (replace(frame, name="_00001"), "_00001", "_00001"),
        (replace(frame, name="run_12345", source="run_12345"), "run_12345", "run_12345"),
    ):
        assert (label_.group, label_.molecule) == (group, molecule)


def test_the_store_records_the_file_of_origin(tmp_path):
    """Two files of several frames, one of a single frame whose name looks like that of a frame."""
    for name, n in (("a", 2), ("b_00001", 1)):
        frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.1 * i]]) for i in range(n)]
        write(tmp_path / f"{name}.xyz", frames)
    found, _ = read_inputs(
        [str(tmp_path / "a.xyz"), str(tmp_path / "b_00001.xyz")], PredictionOptions(), print
    )
    path = tmp_path / "labels.db"
    settings = LabelSettings(PredictionOptions(box="paper", spacing=0.2))
    label(found, path, settings, workers=1)
    groups = {x.name: x.group for x in read_labels(path)}
    assert groups == {"a_00000": "a", "a_00001": "a", "b_00001": "b_00001"}
    with LabelStore(path) as labels:
        assert labels.row("a_00001").group == "a"


@pytest.mark.parametrize("seed", range(5))
def test_frames_of_a_trajectory_stay_together(seed):
    labels = [frame for i in range(6) for frame in trajectory(f"md{i}", 5)]
    train_part, held_out = split(labels, 6, seed)
    assert len(held_out) == 10 and len(train_part) == 20
    assert not {x.group for x in train_part} & {x.group for x in held_out}
    # a long trajectory is not held out where a short one does
    train_part, held_out = split([*trajectory("long", 40), *trajectory("short", 5)], 9, seed)
    assert {x.group for x in held_out} == {"short"}
    # one trajectory: its end
    train_part, held_out = split(trajectory("md", 10), 3, seed)
    assert [x.name for x in held_out] == ["md_00007", "md_00008", "md_00009"]
    with pytest.raises(InputError, match="is left to train on"):
        split(trajectory("md", 10), 10, seed)


def test_fine_tuning_keeps_trajectories_together(tmp_path, small_model):
    start = tmp_path / "start.safetensors"
    save_model(start, small_model)
    path = tmp_path / "labels.db"

    def fill(frames: list[Label]) -> None:
        path.unlink(missing_ok=True)
        with LabelStore(path, Recipe()) as labels:
            for frame in frames:
                labels.add(frame, Facts("given"))

    settings = ("sample.crop=32", "sample.margin=4", "bf16=false")
    plan = Plan(str(start), (str(path),), test=0.3, validation=0.3, steps=1, settings=settings)
    told = []
    fill([frame for name in "abc" for frame in trajectory(name, 2)])
    result = finetune(plan, tmp_path / "several", tell=told.append)
    info = load_model(result.path).info
    parts = [info["own_train_names"], info["validation_names"], result.test.names]
    groups = [{name.partition("_")[0] for name in part} for part in parts]
    assert sorted(len(group) for group in groups) == [1, 1, 1] and len(set.union(*groups)) == 3
    assert not any("resemble" in sentence for sentence in told)
    fill(trajectory("md", 4))
    result = finetune(plan, tmp_path / "one", tell=told.append)
    assert result.test.names == ("md_00003",)
    assert any("frames of one file, md, whose last frames are the test part" in s for s in told)


def test_evaluation_says_which_labels_resemble_those_trained_on(small_model):
    model = replace(small_model, info={"train_names": ["md_00000", "md_00001_rattled"]})
    chosen, sentence = choose(trajectory("md", 4), model)
    assert [x.name for x in chosen] == ["md_00002", "md_00003"]
    assert "2 of them come from files of which" in sentence
