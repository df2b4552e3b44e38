"""A run by the clock, with workers, and the script for a lent GPU, which needs none."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from denser.model.checkpoint import load_model
from denser.training.config import Config, from_dict, read_config
from denser.training.folder import read_state
from denser.training.loop import train

ROOT = Path(__file__).parents[1]
LABELS = ROOT / "tests" / "reference" / "labels"

SMALL = {
    "data": {"labels": str(LABELS), "validation": ["HCN"]},
    "model": {"architecture": "aspherical", "options": {"channels": 4, "layers": 1, "hidden": 4}},
    "optimizer": {"lr": 0.01, "lr_rest": 1e-4, "ema": 0.9},
    "schedule": {"minutes": 0.05, "validate_every": 0.5},
    "sample": {"batch": 2, "points": 256},
}


def test_the_learning_rate_falls_to_zero_by_the_clock(tmp_path):
    """Three seconds of training, stopped in between; what passed before counts."""
    config = from_dict(Config, json.loads(json.dumps(SMALL)), "test")
    seen = []
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, seen.append, stop=lambda: len(seen) and seen[-1].done > 0.4)
    saved = read_state(tmp_path / "state.pt", torch.device("cpu"))["state"]
    assert 0.4 * 3 < saved["seconds"] < 2.9
    seen.clear()
    train(config, tmp_path, seen.append)
    assert seen[0].step == saved["step"] + 1 and seen[0].done > saved["seconds"] / 3
    assert seen[-1].done >= 1
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    factors = [float(row["lr_factor"]) for row in rows]
    assert factors[-1] < 0.01 and factors[-1] == min(factors)
    assert 2.9 < float(rows[-1]["seconds"]) < 6
    assert load_model(tmp_path / "model.safetensors").info["steps"] == seen[-1].step


def test_the_configuration_for_a_gpu_goes_on_from_the_shipped_model():
    config = read_config(ROOT / "configs" / "gpu.toml")
    further = read_config(ROOT / "configs" / "continue.toml")
    assert config.model == further.model and config.data == further.data
    longer = (config.sample.batch / further.sample.batch) ** 0.5
    assert config.optimizer.lr == pytest.approx(longer * further.optimizer.lr, rel=0.02)
    assert config.optimizer.lr_rest == pytest.approx(longer * further.optimizer.lr_rest, rel=0.02)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_the_script_for_a_gpu_runs_without_one(tmp_path):
    """Check, choice of the batch size, workers, training, parts of files and evaluation."""
    config = tmp_path / "small.toml"
    config.write_text(
        f"""
        [data]
        labels = "{LABELS}"
        validation = ["HCN"]
        [model]
        architecture = "aspherical"
        options = {{ channels = 4, layers = 1, hidden = 4, electrons = 1 }}
        [schedule]
        minutes = 0.05
        [sample]
        batch = 2
        points = 256
        """
    )
    out = tmp_path / "out"
    settings = {
        "PYTHON": sys.executable, "CONFIG": str(config), "WORKERS": "1", "BATCHES": "2,4",
        "TIMING": "1", "TIMING_LABELS": "4", "HELD_OUT": str(LABELS), "WHEELS": "none",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "configs/gpu.sh", str(out)],
        cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this is rounding" in done.stdout and "samples/s" in done.stdout
    made = {path.name for path in (out / "parts").iterdir()}
    assert made == {
        "state.safetensors", "best.safetensors", "model.safetensors", "metrics.csv", "held_out.csv"
    }  # fmt: skip
    batch = json.loads((out / "config.json").read_text())["sample"]["batch"]
    assert batch in (2, 4)
    assert load_model(out / "model.safetensors").info["seconds"] >= 3
