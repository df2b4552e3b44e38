import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from denser import InputError, load_model
from denser.data.labels import read_label, read_labels, split
from denser.model.checkpoint import save_model
from denser.training.config import Config, from_dict, read_config
from denser.training.loop import learning_rate_factor, train
from denser.training.muon import Muon, orthogonalise

LABELS = Path(__file__).parent / "reference" / "labels"
ROOT = Path(__file__).parents[1]

SMALL = {
    "data": {"labels": str(LABELS), "validation": 1},
    "model": {
        "architecture": "unet",
        "options": {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1]},
    },
    "optimizer": {"lr": 0.01, "ema": 0.9},
    "schedule": {"steps": 12, "save_every_seconds": 0.0, "validate_every": 0.5},
    "sample": {"crop": 32, "margin": 4, "whole_box": 0.25},
    "bf16": False,
}


def small_config(**changes) -> Config:
    data = json.loads(json.dumps(SMALL))
    for section, values in changes.items():
        data[section].update(values)
    return from_dict(Config, data, "test")


def rows_of(run: Path) -> list[dict]:
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def test_labels_are_read_and_split_by_molecule():
    labels = read_labels(LABELS)
    assert len(labels) >= 3
    for label in labels:
        assert label.n_electrons == 2 * label.mo_coeff.shape[1]
    first, held_out = split(labels, 1, seed=0)
    assert {x.group for x in first}.isdisjoint({x.group for x in held_out})
    again, _ = split(list(reversed(labels)), 1, seed=0)
    assert {x.name for x in again} == {x.name for x in first}
    with pytest.raises(InputError, match="leave none to train on"):
        split(labels, 100, seed=0)


def test_bad_labels_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no \.npz labels"):
        read_labels(tmp_path)
    bad = tmp_path / "a.npz"
    np.savez(bad, numbers=[1])
    with pytest.raises(InputError, match="missing"):
        read_label(bad)
    source = next(LABELS.glob("*.npz"))
    for content in (b"", b"garbage", source.read_bytes()[:300]):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.npz"):
            read_label(bad)


def test_training_lowers_the_error_and_leaves_a_model(tmp_path):
    config = small_config(schedule={"steps": 60, "save_every_seconds": 60.0})
    path = train(config, tmp_path / "run")
    model = load_model(path)
    assert model.info["steps"] == 60
    assert model.info["config"]["seed"] == 0
    rows = rows_of(tmp_path / "run")
    assert int(rows[-1]["step"]) == 60
    assert float(rows[-1]["validation_percent"]) < 13.0
    assert load_model(tmp_path / "run" / "best.safetensors").recipe == model.recipe


def test_interrupted_run_takes_the_same_steps(tmp_path):
    """Stop after step 8 (and a validation), go on: the weights are those of an unbroken run."""
    config = small_config()
    straight = load_model(train(config, tmp_path / "a")).network.state_dict()

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 8:
            raise Stop

    with pytest.raises(Stop):
        train(config, tmp_path / "b", stop)
    saved = torch.load(tmp_path / "b" / "state.pt", weights_only=True)
    assert saved["state"]["step"] == 8
    resumed = load_model(train(config, tmp_path / "b")).network.state_dict()
    for key, value in straight.items():
        torch.testing.assert_close(resumed[key], value, atol=1e-6, rtol=1e-4)
    steps = [int(row["step"]) for row in rows_of(tmp_path / "b")]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_killed_run_resumes_from_the_command_line(tmp_path):
    (tmp_path / "run.toml").write_text(
        f'[data]\nlabels = "{LABELS}"\nvalidation = 1\n'
        "[model.options]\nchannels = [4, 4]\nblocks = [1, 1]\ndecoder_blocks = [1]\n"
        "[schedule]\nsteps = 40\nsave_every_seconds = 0.0\n[sample]\ncrop = 32\nmargin = 4\n"
    )
    command = [sys.executable, "-m", "denser.cli", "train", "run.toml", "-o", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    state = tmp_path / "run" / "state.pt"
    for _ in range(600):
        if state.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert state.exists()
    torch.load(state, weights_only=True)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "wrote" in done.stdout
    assert load_model(tmp_path / "run" / "model.safetensors").info["steps"] == 40


def test_other_settings_need_another_folder(tmp_path):
    train(small_config(schedule={"steps": 1}), tmp_path)
    with pytest.raises(InputError, match="other settings"):
        train(small_config(schedule={"steps": 2}), tmp_path)


def test_damaged_state_is_one_sentence(tmp_path):
    train(small_config(schedule={"steps": 1}), tmp_path)
    (tmp_path / "state.pt").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"state\.pt.*delete it to start anew"):
        train(small_config(schedule={"steps": 1}), tmp_path)


def test_papers_network_trains_by_epochs(tmp_path):
    config = from_dict(
        Config,
        {
            "data": {"labels": str(LABELS), "validation": 1},
            "model": {
                "architecture": "resnet",
                "options": {"channels": 4, "kernel": 3, "blocks": 1, "stages": 1},
            },
            "optimizer": {"name": "adam", "lr": 0.01},
            "schedule": {"epochs": 1},
            "sample": {"crop": 0, "symmetry": "turn"},
        },
        "test",
    )
    model = load_model(train(config, tmp_path))
    assert model.architecture == "resnet"
    assert model.info["steps"] == len(read_labels(LABELS)) - model.info["n_validation"]


def test_fine_tuning_starts_from_a_model(tmp_path, small_model):
    start = tmp_path / "start.safetensors"
    save_model(start, small_model)
    config = small_config(
        model={"start": str(start), "options": {}}, schedule={"steps": 1}, optimizer={"lr": 1e-9}
    )
    tuned = load_model(train(config, tmp_path / "run"))
    assert tuned.network.config == small_model.network.config
    with pytest.raises(InputError, match="recipes differ"):
        train(
            small_config(model={"start": str(start)}, data={"sad": "gth-szv-1e-atrocious"}),
            tmp_path / "other",
        )


def test_warm_up_then_cosine():
    config = small_config(schedule={"warmup": 0.1})
    factors = [learning_rate_factor(x, config) for x in np.linspace(0, 1, 101)]
    assert factors[0] < 0.01
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    paper = read_config(ROOT / "configs" / "paper-x2.toml")
    assert learning_rate_factor(0.001, paper) == pytest.approx(1e-5)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_configurations_are_valid(path):
    read_config(path)


def test_configuration_errors(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[schedule]\nsteps = 5\n")
    with pytest.raises(InputError, match=r"section\.key=value"):
        read_config(path, ("nonsense",))
    assert read_config(path, ("optimizer.lr=0.5", "data.labels=x")).optimizer.lr == 0.5
    cases = {
        "[schedule]\nstep = 5\n": "did you mean schedule.steps",
        "[optimiser]\nlr = 1\n": "did you mean optimizer",
        "[schedule]\nsteps = 'many'\n": "must be of type int",
        "[schedule]\nsteps = 5\nminutes = 2.0\n": "exactly one",
        "optimizer = 3\n[schedule]\nsteps = 5\n": "is a section",
        "[schedule]\nsteps = 5\n[optimizer]\nname = 'sgd'\n": "muon, adamw, adam",
        "[schedule]\nsteps = 5\n[sample]\ncrop = 8\n": "leaves nothing inside",
        "[schedule\n": "cannot be read as TOML",
    }
    for text, words in cases.items():
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_config(path)


def test_loss_that_is_not_finite_stops_with_advice(tmp_path):
    labels = tmp_path / "labels"
    shutil.copytree(LABELS, labels)
    for path in labels.glob("*.npz"):
        data = dict(np.load(path))
        data["mo_coeff"] = data["mo_coeff"] * np.nan
        np.savez(path, **data)
    with pytest.raises(InputError, match=r"not finite.*lower optimizer\.lr"):
        train(small_config(data={"labels": str(labels)}), tmp_path / "run")


def test_muon_orthogonalises_and_descends():
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(16, 40)))
    assert float(singular.min()) > 0.5 and float(singular.max()) < 1.5
    target = torch.randn(8, 8)
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
    assert float((weight - target).detach().abs().mean()) < 0.1
