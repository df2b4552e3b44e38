"""Active learning: what is chosen, that a run goes on where it was, and refusals."""

import numpy as np
import pytest
import torch
from ase import Atoms

from denser import InputError, load_model
from denser.labels.store import LabelStore
from denser.model.checkpoint import Model, build, save_model
from denser.model.expected_error import ExpectedError
from denser.model.options import PredictionOptions
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.active import ActivePlan, active, spread_out, table
from denser.workflows.label import LabelInput, LabelSettings, calculate

SETTINGS = LabelSettings(PredictionOptions(box="paper", spacing=0.25))


def test_choice_goes_by_error_and_distance():
    """Without labels the largest error; then what is far from what is taken and errs."""
    features = np.array([[0.0], [0.1], [5.0], [10.0]])
    equal = np.ones(4)
    assert spread_out(np.array([1.0, 3.0, 2.0, 1.0]), features, np.zeros((0, 1)), 1) == [1]
    assert spread_out(equal, features, np.array([[0.0]]), 2) == [3, 2]
    assert spread_out(np.array([1.0, 1.0, 3.0, 1.0]), features, np.array([[0.0]]), 1) == [2]
    assert sorted(spread_out(equal, features, np.zeros((0, 1)), 9)) == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A small network with an estimate of its errors, the same for all atoms."""
    torch.manual_seed(0)
    network = build("aspherical", {"channels": 8, "layers": 1, "errors": True})
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.02)
    assert isinstance(network.expected_error, ExpectedError)
    network.expected_error.molecule[1] = 1.0
    path = tmp_path_factory.mktemp("model") / "start.safetensors"
    save_model(path, Model("start", "aspherical", network, Recipe(spacing=0.25 / BOHR)))
    return path


def pool(n: int) -> list[LabelInput]:
    """H2 of different lengths."""
    lengths = np.linspace(0.65, 0.95, n)
    atoms = [Atoms("H2", [(0, 0, 0), (0, 0, x)]) for x in lengths]
    return [LabelInput(f"h2_{i:02d}", Structure.from_ase(a)) for i, a in enumerate(atoms)]


class Labels:
    """Labels in this process; interrupted before the structure of number `after`."""

    def __init__(self, after: int = 99) -> None:
        self.left, self.made = after, 0

    def __call__(self, entries, store):
        with LabelStore(store, SETTINGS.recipe) as labels:
            for entry in entries:
                if not self.left:
                    return False
                self.left -= 1
                if entry.name not in labels.names():
                    labels.add(*calculate(SETTINGS.task(entry.name, entry.structure)))
                    self.made += 1
        return True


def test_a_run_that_is_interrupted_goes_on(tmp_path, start):
    """Each structure is labelled once, and the rounds are those of a run in one go."""
    plan = ActivePlan(str(start), budget=4, rounds=2, test=2, steps=2)
    first = Labels(after=5)  # two of the test, two of round 1, one of round 2
    with pytest.raises(KeyboardInterrupt):
        active(plan, pool(8), tmp_path / "run", first)
    again, said = Labels(), []
    rounds = active(plan, pool(8), tmp_path / "run", again, tell=said.append)
    assert first.made == 5
    assert again.made == 1
    assert [len(found.chosen) for found in rounds] == [2, 2]
    test = (tmp_path / "run" / "test.txt").read_text().split()
    labelled = [*test, *rounds[0].chosen, *rounds[1].chosen]
    assert len(set(labelled)) == 6
    assert rounds[1].n_train == 4
    assert rounds[0].test_before_percent == rounds[1].test_before_percent > 0
    assert load_model(rounds[1].model).architecture == "aspherical"
    done = Labels()
    assert active(plan, pool(8), tmp_path / "run", done) == rounds
    assert done.made == 0
    assert table(rounds).row_count == 3
    with pytest.raises(InputError, match="a run with another budget; give another folder"):
        active(ActivePlan(str(start), 5, 2, 2, steps=2), pool(8), tmp_path / "run", done)
    with pytest.raises(InputError, match="a run with another pool"):
        active(plan, pool(9), tmp_path / "run", done)


def test_refusals(tmp_path, start):
    with pytest.raises(InputError, match="fewer than the 10 of the test part and the 4"):
        active(ActivePlan(str(start), 4), pool(8), tmp_path / "a", Labels())
    with pytest.raises(InputError, match=r"budget of 2 labels is not enough for 4 rounds"):
        ActivePlan(budget=2)
    with pytest.raises(InputError, match="known are error, random"):
        ActivePlan(choice="best")
    with pytest.raises(InputError, match="same name"):
        active(ActivePlan(str(start), 4), [*pool(8), *pool(8)], tmp_path / "b", Labels())
    network = build("aspherical", {"channels": 8, "layers": 1})
    path = tmp_path / "silent.safetensors"
    save_model(path, Model("silent", "aspherical", network, Recipe(spacing=0.25 / BOHR)))
    with pytest.raises(InputError, match=r"does not state expected errors.*--choose random"):
        active(ActivePlan(str(path), 4, test=2), pool(8), tmp_path / "c", Labels())
