"""Expected errors: the fit, what it is told by, and that a prediction states it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.stats import spearmanr

from denser.analysis.moments import dipole_record, dipole_text
from denser.analysis.properties import Analysis
from denser.analysis.uncertainty import dipole_error, potential_errors
from denser.labels.packed import read_shards
from denser.model.checkpoint import load_model, save_model
from denser.model.expected_error import Example, ExpectedError, at_least_of_scaling
from denser.model.graph import Graph
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.training import expected_errors
from denser.training.expected_errors import (
    example,
    recalibrated,
    trained_on,
    usable,
    with_expected_errors,
)
from denser.training.points import Points
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.viewer import fields
from denser.workflows.refined import Steps

DATA = Path(__file__).parents[1] / "data"


def made_up(n: int, seed: int, strange: float = 0.0) -> list[Example]:
    """Molecules whose errors follow from two of twenty invariants and the excess."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        numbers = rng.choice([1, 6, 8], size=8)
        x = rng.normal(size=(8, 20)) + strange
        wrong = 0.01 * np.exp(0.5 * x[:, 0] - 0.3 * x[:, 1]) * np.where(numbers == 1, 0.3, 1.0)
        out.append(Example(numbers, x, wrong, 30.0, float(rng.normal() * 1e-3)))
    return out


def test_a_fit_finds_errors_that_follow_from_the_invariants():
    estimate = ExpectedError.fitted(made_up(400, 0))
    expected, errors = [], []
    for x in made_up(100, 1):
        invariants = torch.as_tensor(x.invariants).float()
        wrong = estimate(x.numbers, invariants, x.n_electrons, x.excess)
        expected.append(wrong.sum() / x.n_electrons)
        errors.append(x.wrong.sum() / x.n_electrons)
        assert spearmanr(wrong, x.wrong).statistic > 0.9
    assert spearmanr(expected, errors).statistic > 0.9
    assert np.abs(np.log(np.array(errors) / expected)).max() < np.log(1.5)
    doubled = [replace(x, wrong=2 * x.wrong) for x in made_up(50, 2)]
    twice = estimate.rescaled(doubled)
    assert float(twice.molecule[0] - estimate.molecule[0]) == pytest.approx(np.log(2), abs=0.05)


def test_environments_turn_with_nothing():
    network = load_model("default").network
    ethanol = molecule("CH3CH2OH")
    turned = ethanol.copy()
    turned.rotate(40, (1, 2, 3))
    graphs = [Graph.of(Structure.of(x), None, network.config) for x in (ethanol, turned)]
    with torch.no_grad():
        first, second = (network.environments(graph) for graph in graphs)
    assert first.shape == (9, network.config.channels * (network.config.degree + 1))
    assert float((first - second).abs().max()) < 0.02 * float(first.abs().max())


def test_the_default_model_expects_more_error_of_what_it_does_not_know(tmp_path):
    """Its estimate is in the file; strangers are told among many, with their atoms."""
    predictor = Predictor("default", "cpu")
    ethanol = predictor.predict(molecule("CH3CH2OH"), spacing=0.2)
    assert ethanol.wrong.shape == (9,) and (ethanol.wrong > 0).all()
    assert 0.0005 < ethanol.expected_error < 0.003 and predictor.doubt(ethanol) == ""
    salt = Atoms("LiF", [[0, 0, 0], [0, 0, 1.56]])
    salt.positions += [15, 0, 0]
    both = predictor.predict(molecule("CH3CH2OH") + salt, spacing=0.2)
    assert both.worst_expected > 2 * ethanol.expected_error
    silane = Atoms("Si2H4", [[0, 0, 0], [0, 0, 2.9], [0, 1.2, -0.8], [0, -1.2, -0.8],
                             [0, 1.2, 3.7], [0, -1.2, 3.7]])  # fmt: skip
    stretched = predictor.predict(silane, spacing=0.2)
    assert stretched.expected_error > 4 * ethanol.expected_error
    assert "does not know this kind of molecule well: expected error" in predictor.doubt(stretched)
    assert "Si1" in predictor.doubt(stretched)
    hydrogen = predictor.predict(molecule("H2"), spacing=0.2)  # it has 1.4 % by Kohn-Sham steps
    for found in (hydrogen, predictor.predict(salt, spacing=0.2)):
        stated = f"well: expected error {100 * found.expected_error:.2g} %"
        assert stated in predictor.doubt(found) and "one of its" not in predictor.doubt(found)
    assert "% in one of its molecules" in predictor.doubt(both)
    path = tmp_path / "copy.safetensors"
    save_model(path, predictor.model)
    again = Predictor(path, "cpu").predict(molecule("CH3CH2OH"), spacing=0.2)
    assert again.expected_error == pytest.approx(ethanol.expected_error, rel=1e-5)
    assert Predictor("default", "cpu", average=2).predict(salt, spacing=0.2).wrong is None


def test_a_fit_to_labels(monkeypatch):
    """Only labels that the model was not trained on count."""
    monkeypatch.setattr(expected_errors, "FEWEST", 5)
    labels = read_shards(DATA / "labels-0007.shard")
    model = load_model("default")
    plain = replace(model, info=model.info | {"train_names": [labels[0].name]})
    chosen = usable(plain, labels)
    assert labels[0] not in chosen and len(chosen) == len(labels) - 1
    fitted = with_expected_errors(plain, chosen)
    assert fitted.network.config.errors and fitted.network.expected_error is not None
    assert fitted.info["n_labels_of_expected_errors"] == len(chosen)
    expected = Predictor(fitted, "cpu").predict(molecule("H2O"), spacing=0.2).expected_error
    assert 1e-4 < expected < 0.1
    own = recalibrated(fitted, model, chosen[:3]).network.expected_error
    assert own is not None and not torch.equal(own.molecule, fitted.network.expected_error.molecule)
    monkeypatch.setattr(expected_errors, "FEWEST", 1000)
    with pytest.raises(InputError, match="a fit needs at least 1000"):
        usable(plain, labels)


def test_labels_that_a_model_was_trained_on_do_not_tell_the_size_of_errors(monkeypatch):
    monkeypatch.setattr(expected_errors, "FEWEST", 6)
    monkeypatch.setattr(expected_errors, "_RECALIBRATION", 4)
    labels = read_shards(DATA / "labels-0018.shard")[:14]
    model = load_model("default")
    names = {label.name for label in labels[:9]}
    plain = replace(model, info=model.info | {"train_names": sorted(names)})
    learnt = trained_on(plain, labels, 6)
    assert len(learnt) == 6 and {label.name for label in learnt} < names
    assert trained_on(plain, labels, 6) == learnt
    assert len(trained_on(plain, labels, 99)) == 9
    with pytest.raises(InputError, match="a fit needs at least 6"):
        usable(plain, labels)
    others = usable(plain, labels, len(learnt))
    assert len(others) == 5
    fitted = with_expected_errors(plain, others, learnt=learnt)
    assert fitted.info["n_labels_of_expected_errors"] == 5
    assert fitted.info["n_learnt_labels_of_expected_errors"] == 6
    network = fitted.network
    points = Points(others, model.recipe.sad, network.device, network.config)
    ratios = []
    for i in range(len(others)):
        x = example(fitted, points, i)
        invariants = torch.as_tensor(x.invariants)
        expected = network.expected_error(x.numbers, invariants, x.n_electrons, x.excess)
        ratios.append(np.log(expected.sum() / x.wrong.sum()))
    assert np.mean(ratios) == pytest.approx(0.0, abs=1e-4)


def test_electrons_that_scaling_adds_are_wrong_at_least_twice():
    pair = molecule("H2O")
    other = molecule("H2O")
    other.positions += [0, 0, 9]
    structure = Structure.of(pair + other)
    wrong = np.array([0.02, 0.01, 0.01, 0.002, 0.001, 0.001])
    kept = at_least_of_scaling(structure, wrong, 0.1 * wrong)
    np.testing.assert_array_equal(kept, wrong)
    added = np.array([0.002, 0.001, 0.001, 0.01, 0.004, 0.004])
    found = at_least_of_scaling(structure, wrong, -added)
    np.testing.assert_array_equal(found[:3], wrong[:3])
    np.testing.assert_allclose(found[3:], 9 * wrong[3:])


@pytest.mark.parametrize(("symbol", "charge", "error"), [("H", -1, 0.072), ("N", -3, 0.44)])
def test_bare_anions_that_no_label_resembles_are_in_doubt(symbol, charge, error):
    """The errors are those that two Kohn-Sham steps estimate (`denser predict --refine 2`)."""
    predictor = Predictor("default", "cpu")
    prediction = predictor.predict(Atoms(symbol), options=PredictionOptions(charge, spacing=0.2))
    assert error / 4 < prediction.expected_error < error
    assert predictor.doubt(prediction)


@pytest.mark.slow
def test_doubt_after_steps_is_that_of_the_steps(tmp_path, run):
    """Of H2 nothing is left; of an ion that is not bound, the sentence says how much."""
    for smiles, words in (("[H][H]", ""), ("[O-][O-]", "the density is still 1.")):
        code, out, err = run(
            "predict", "--smiles", smiles, "--refine", "1", "--padding", "3", "--json",
            "-o", str(tmp_path / "a.npz"),
        )  # fmt: skip
        doubt = json.loads(out)["doubt"]
        assert code == 0 and doubt in err and bool(doubt) == bool(words)
        assert words in doubt and ("(--refine 3)" in doubt) == bool(words)
    assert (
        Steps(2, 1.0, 0.1, 0.02)
        .doubt(Predictor("default", "cpu").model)
        .startswith("after 2 Kohn-Sham steps the estimated error of the density is still 2 %")
    )


def test_the_field_of_expected_errors():
    """Its integral is the number of wrong electrons, and it is largest where most are expected."""
    lithium_fluoride = Atoms("LiF", [[0, 0, 0], [0, 0, 1.56]])
    lithium_fluoride.positions += [0, 7, 0]
    density = (
        Predictor("default", "cpu").predict(molecule("H2O") + lithium_fluoride, spacing=0.2).density
    )
    field = Analysis(density).field("uncertainty")
    assert field.unit == "e/bohr^3" and field.values.min() >= -1e-9
    assert field.integrate() == pytest.approx(density.wrong.sum(), rel=2e-3)
    assert density.expected_error == pytest.approx(density.wrong.sum() / 18)
    for known in (density.with_spin_density(0 * density.values), density):
        assert known.wrong is not None and known.continuous is not None
    changed = density.with_values(density.values)
    with pytest.raises(InputError, match="no expected errors are known of this density"):
        Analysis(changed).field("uncertainty")
    assert "uncertainty" in {x.name for x in fields.listed(density)}
    assert "uncertainty" not in {x.name for x in fields.listed(changed)}


def test_error_bars_of_results():
    """They are there for predictions only, and grow with the expected errors."""
    water = Predictor("default", "cpu").predict(molecule("H2O"), spacing=0.2).density
    found = Analysis(water)
    dipole = found.property("moments")
    bar = dipole.to_dict()["dipole_error_debye"]
    assert 0.003 < bar < 0.1 and any(" +- " in line for line in dipole.lines())
    assert dipole_record(water)["dipole_error_debye"] == pytest.approx(bar, abs=1e-4)
    assert "+-" in dipole_text(dipole_record(water) | {"charge": 0})
    worse = water.with_expected_errors(3 * water.wrong)
    assert dipole_error(worse) == pytest.approx(3 * dipole_error(water))
    far = np.array([[0, 0, 20.0], [0, 0, 40.0]])
    near, half = potential_errors(water, far)
    assert near / half == pytest.approx(4, rel=0.05)
    for name in ("hirshfeld", "cm5"):
        record = found.property(name).to_dict()
        np.testing.assert_allclose(record["charges_error_e"], 0.3 * water.wrong)
        assert "+-" in found.property(name).lines()[0]
    surface = found.property("esp")
    assert 0.01 < surface.to_dict()["maxima"][0]["error_kcal_per_mol_e"] < 1
    file = water.with_values(water.values)
    assert Analysis(file).property("moments").to_dict()["dipole_error_debye"] is None
    assert "+-" not in "".join(Analysis(file).property("esp").lines())
