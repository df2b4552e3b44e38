"""What a run takes from its labels: the level of theory, and which labels belong together."""

from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms

from denser import InputError, load_model
from denser.labels.label import read_label
from denser.labels.store import Facts, LabelStore
from denser.model.predictor import Predictor
from denser.training.config import Config, from_dict
from denser.training.dataset import read_dataset, recipe_of
from denser.training.loop import train
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.finetune import Plan, finetune
from denser.workflows.label import Settings, label

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
        (name, Structure.of(Atoms(symbols, [[0, 0, 0], [0, 0, length]])))
        for name, symbols, length in (
            ("H2", "H2", 0.74),
            ("H2_long", "H2", 0.9),
            ("LiH", "LiH", 1.6),
        )
    ]
    totals = label(molecules, path, Settings(COARSE, "paper"), workers=1)
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
