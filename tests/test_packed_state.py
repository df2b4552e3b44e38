"""The state of a run in one file, and runs that go on from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from denser.model.checkpoint import build, load_model
from denser.training.config import Config, OptimizerConfig, from_dict, read_config
from denser.training.dataset import read_dataset
from denser.training.loop import train
from denser.training.optimizers import optimizers_of
from denser.training.packed_state import pack_state, unpack_state
from denser.types.errors import InputError
from denser.types.recipe import Recipe

LABELS = Path(__file__).parent / "reference" / "labels"
ROOT = Path(__file__).parents[1]

SMALL = {
    "data": {"labels": "labels", "validation": ["HCN"]},
    "model": {"architecture": "aspherical", "options": {"channels": 8, "layers": 1, "hidden": 8}},
    "optimizer": {"lr": 0.01, "lr_rest": 1e-4, "ema": 0.9},
    "schedule": {"steps": 6, "validate_every": 0.5},
    "sample": {"batch": 2, "points": 256},
}


@pytest.fixture
def labels(tmp_path) -> Path:
    """Folder of three labels."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for name in ("CH4", "H2O", "HCN"):
        shutil.copy(LABELS / f"{name}.npz", folder)
    return folder


def config_of(labels: Path) -> Config:
    data = json.loads(json.dumps(SMALL))
    data["data"]["labels"] = str(labels)
    return from_dict(Config, data, "test")


def stopped(config: Config, out: Path, step: int) -> Path:
    """Folder of a run that was stopped after a number of steps."""
    asked = iter([False] * (step - 1) + [True])
    with pytest.raises(KeyboardInterrupt):
        train(config, out, stop=lambda: next(asked))
    return out


def weights(path: Path) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in load_model(path).network.parameters()])


def test_a_packed_state_goes_on_elsewhere(labels, tmp_path):
    config = config_of(labels)
    run = stopped(config, tmp_path / "run", 4)
    packed = tmp_path / "state.safetensors"
    pack_state(run, packed)
    found = []
    for name in ("one", "two"):
        unpack_state(packed, tmp_path / name)
        before, after = (
            torch.load(folder / "state.pt", weights_only=True) for folder in (run, tmp_path / name)
        )
        assert after["state"] == before["state"]
        for key, value in before["network"].items():
            torch.testing.assert_close(after["network"][key], value, rtol=0, atol=0)
            distance = (before["average"][key] - value).abs().max()
            change = (after["average"][key] - before["average"][key]).abs().max()
            assert change <= 0.005 * distance + 1e-7 * value.abs().max()
        assert len(after["optimizers"]) == 2
        for own, other in zip(before["optimizers"], after["optimizers"], strict=True):
            assert own["state"].keys() == other["state"].keys() and own["state"]
            for i, moments in own["state"].items():
                for key, value in moments.items():
                    rows = value.abs().amax() if value.ndim else value
                    error = (other["state"][i][key] - value).abs().amax()
                    assert error <= 0.005 * rows
        found.append(weights(train(config, tmp_path / name)))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    straight = weights(train(config, run))
    start = torch.cat([p.ravel() for p in before["network"].values()])
    assert float((found[0] - straight).norm()) < 0.2 * float((straight - start).norm())


def test_state_of_the_default_model_has_less_than_15_megabytes(tmp_path):
    config = read_config(ROOT / "configs" / "default.toml")
    network = build("aspherical", config.model.options)
    optimizers = optimizers_of(OptimizerConfig(), network)
    for p in network.parameters():
        p.grad = torch.randn_like(p)
    for optimizer in optimizers:
        optimizer.step()
    content = {
        "network": network.state_dict(),
        "average": {key: 1.01 * value for key, value in network.state_dict().items()},
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "state": {"step": 1},
    }
    torch.save(content, tmp_path / "state.pt")
    for name in ("config.json", "run.json"):
        (tmp_path / name).write_text(json.dumps({"names": [f"qm9_{i:06d}" for i in range(30000)]}))
    pack_state(tmp_path, tmp_path / "packed.safetensors")
    assert (tmp_path / "packed.safetensors").stat().st_size < 15e6
    assert (tmp_path / "state.pt").stat().st_size > 24e6


def test_labels_may_be_added_to_a_run_but_not_moved_or_taken_away(labels, tmp_path):
    config = config_of(labels)
    run = stopped(config, tmp_path / "run", 2)
    shutil.copy(LABELS / "H2CO.npz", labels)
    model = load_model(train(config, run))
    assert "H2CO" in model.info["train_names"] and model.info["steps"] == 6
    (labels / "CH4.npz").unlink()
    with pytest.raises(InputError, match="labels are not those at the start of this run"):
        train(config, run)


def test_bad_states_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="contains no state of a run"):
        pack_state(tmp_path, tmp_path / "x.safetensors")
    (tmp_path / "bad").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as the state of a run"):
        unpack_state(tmp_path / "bad", tmp_path / "run")
    default = ROOT / "src" / "denser" / "model" / "weights" / "default.safetensors"
    with pytest.raises(InputError, match="not the state of a run"):
        unpack_state(default, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_configuration_that_trains_the_shipped_model_further_can_start():
    config = read_config(ROOT / "configs" / "continue.toml")
    where = {"labels": (str(ROOT / "data"),), "validation": str(ROOT / config.data.validation)}
    data = read_dataset(replace(config.data, **where), Recipe())
    assert len(data.validation) == 160 == config.data.validation_subset
    assert not {x.molecule for x in data.train} & {x.molecule for x in data.validation}
    assert load_model(config.model.start).architecture == config.model.architecture


def test_on_the_command_line(run, labels, tmp_path):
    """Pack a run that is finished; with its state elsewhere there is nothing left to do."""
    (tmp_path / "small.toml").write_text(
        f"""
        [data]
        labels = "{labels}"
        validation = ["HCN"]
        [model]
        architecture = "aspherical"
        options = {{ channels = 4, layers = 1, hidden = 4 }}
        [schedule]
        steps = 1
        [sample]
        points = 64
        """
    )
    code, _, err = run("train", "small.toml", "-o", "one")
    assert code == 0, err
    code, out, err = run("models", "pack-state", "one", "-o", "one.safetensors", "--json")
    assert code == 0, err
    assert json.loads(out)["bytes"] == Path("one.safetensors").stat().st_size
    code, _, err = run("train", "small.toml", "-o", "two", "--state", "one.safetensors")
    assert code == 0, err
    torch.testing.assert_close(
        *(weights(tmp_path / name / "model.safetensors") for name in ("one", "two")),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip
    code, _, err = run("train", "small.toml", "-o", "three", "--state", "small.toml")
    assert code == 2
    assert "small.toml: cannot be read as the state of a run" in err
    assert not Path("three").exists()
