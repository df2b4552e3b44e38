import csv
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch

from denser import InputError, load_model
from denser.labels.label import split
from denser.labels.qm9 import split_numbers
from denser.labels.reading import read_label, read_labels
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.checkpoint import Model, build, save_model
from denser.training.config import Config, DataConfig, OptimizerConfig, from_dict, read_config
from denser.training.dataset import read_dataset
from denser.training.images import Images, places
from denser.training.loop import learning_rate_factor, train
from denser.training.muon import Muon, orthogonalise
from denser.training.optimizers import optimizers_of
from denser.types.recipe import Recipe

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
    with pytest.raises(InputError, match="is left to train on"):
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
    config = small_config(schedule={"steps": 40, "save_every_seconds": 60.0})
    path = train(config, tmp_path / "run")
    model = load_model(path)
    assert model.info["steps"] == 40
    assert model.info["config"]["seed"] == 0
    rows = rows_of(tmp_path / "run")
    assert int(rows[-1]["step"]) == 40
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
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_stopped_run_resumes_from_the_command_line(run, tmp_path, how):
    (tmp_path / "run.toml").write_text(
        f'[data]\nlabels = "{LABELS}"\nvalidation = 1\n'
        "[model.options]\nchannels = [4, 4]\nblocks = [1, 1]\ndecoder_blocks = [1]\n"
        "[schedule]\nsteps = 40\nsave_every_seconds = 0.0\n[sample]\ncrop = 32\nmargin = 4\n"
    )
    command = [sys.executable, "-m", "denser", "train", "run.toml", "-o", "run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    state = tmp_path / "run" / "state.pt"
    end = time.monotonic() + 300
    while not state.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(how)
    _, errors = process.communicate(timeout=300)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert errors == "stopped; run the same command to continue from run\n"
    assert 0 < torch.load(state, weights_only=True)["state"]["step"] < 40
    code, out, err = run(*command[3:], "--json")
    assert code == 0, err
    record = json.loads(out)
    assert record["n_steps"] == 40 and "run/model.safetensors" in record["written"]
    assert record["measured"]["validation_mean_percent"] > 0
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.info["steps"] == 40
    assert "train run.toml -o run" in model.info["command"]


def test_other_settings_need_another_folder(tmp_path):
    train(small_config(schedule={"steps": 1}), tmp_path)
    with pytest.raises(InputError, match="other settings"):
        train(small_config(schedule={"steps": 2}), tmp_path)


def test_settings_of_an_older_version_are_the_same(tmp_path):
    """Keys that came later, and a single folder of labels, are filled in."""
    config = small_config(schedule={"steps": 2})
    train(config, tmp_path)
    path = tmp_path / "config.json"
    old = json.loads(path.read_text())
    (old["data"]["labels"],) = old["data"]["labels"]
    for section, key in (("data", "exclude"), ("sample", "order"), ("schedule", "patience")):
        del old[section][key]
    path.write_text(json.dumps(old))
    (tmp_path / "run.json").unlink()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for key in ("waited", "loss", "bad", "left_out"):
        del state["state"][key]
    torch.save(state, tmp_path / "state.pt")
    assert load_model(train(config, tmp_path)).info["steps"] == 2


def test_labels_that_changed_end_a_resumed_run(tmp_path):
    labels = tmp_path / "labels"
    shutil.copytree(LABELS, labels)
    config = small_config(data={"labels": [str(labels)], "validation": ["HCN"]})
    train(config, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["validation_names"] == ["HCN"] and "CH4" in record["train_names"]
    assert record["versions"]["torch"] == torch.__version__
    data = dict(np.load(labels / "CH4.npz"))
    np.savez(labels / "CH4.npz", **(data | {"mo_coeff": data["mo_coeff"] * 0.99}))
    with pytest.raises(InputError, match="labels are not those at the start of this run"):
        train(config, tmp_path / "run")


def test_labels_from_several_places_and_names(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, names in ((one, ("CH4", "H2O")), (two, ("HCN", "H2CO"))):
        folder.mkdir()
        for name in names:
            shutil.copy(LABELS / f"{name}.npz", folder)
    shutil.copy(LABELS / "HCN.npz", two / "HCN_rattled.npz")
    names = tmp_path / "names.txt"
    names.write_text("HCN  # with its copy\n\n")
    data = DataConfig(labels=(str(one), str(two)), validation=str(names), exclude=("H2O",))
    found = read_dataset(data, Recipe())
    assert [label.name for label in found.train] == ["CH4", "H2CO"]  # the copy does not train
    assert [label.name for label in found.validation] == ["HCN"]
    assert found.record()["data_hash"] == read_dataset(data, Recipe()).record()["data_hash"]
    often = read_dataset(replace(data, often=("CH4",)), Recipe())
    assert [label.name for label in often.train] == ["CH4", "H2CO", "CH4"]
    assert often.record()["n_train"] == 2
    assert often.record()["n_labels_of_element"] == {"H": 2, "C": 2, "O": 1}
    with_oxygen = read_dataset(replace(data, validation=0), Recipe(), (8,))
    assert [label.name for label in with_oxygen.train] == ["H2CO"]
    with pytest.raises(InputError, match=r"no label has one of the elements .* Si"):
        read_dataset(data, Recipe(), (14,))
    shutil.copy(LABELS / "CH4.npz", two)
    with pytest.raises(InputError, match="both contain a label named CH4"):
        read_dataset(data, Recipe())
    cases = {
        "did you mean CH4": {"validation": ("CH3",)},
        "leaves none to train on": {"validation": ("CH4", "H2O")},
        "cannot be read as a list of names": {"validation": "absent.txt"},
        "none of them is there": {"exclude": ("benzene",)},
        "data.often: no label is named 'benzene'": {"often": ("benzene",)},
    }
    for words, changes in cases.items():
        with pytest.raises(InputError, match=words):
            read_dataset(DataConfig(labels=(str(one),), **{"validation": 1} | changes), Recipe())


def test_molecules_of_the_qm9_test_part_are_refused(tmp_path):
    test, other = split_numbers("test")[5], split_numbers("train")[5]
    for name in (f"qm9_{test:06d}", f"qm9_{test:06d}_rattled", f"qm9_{other:06d}", "CH4"):
        shutil.copy(LABELS / "CH4.npz", tmp_path / f"{name}.npz")
    data = DataConfig(labels=(str(tmp_path),), validation=1)
    with pytest.raises(InputError, match=rf"qm9_{test:06d} and 1 more: in the test part"):
        read_dataset(data, Recipe())
    with pytest.raises(InputError, match="test part"):
        read_dataset(DataConfig(labels=(str(LABELS),), rehearsal=(str(tmp_path),)), Recipe())
    left = read_dataset(replace(data, exclude="qm9:test"), Recipe())
    assert {x.name for x in left.train + left.validation} == {f"qm9_{other:06d}", "CH4"}


def test_every_label_comes_before_any_comes_again():
    images = Images(read_labels(LABELS), "gth-szv-1e", 0.0, torch.device("cpu"))
    config = small_config(sample={"batch": 2})
    seen = [p.label for step in range(5) for p in places(config, images, 5, step, False)]
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]
    config = small_config(sample={"batch": 50}, data={"rehearsal_share": 0.4})
    rehearsed = [p.label >= 3 for p in places(config, images, 3, 0, False)]
    assert 10 < sum(rehearsed) < 30
    config = small_config(sample={"batch": 50, "order": "random"})
    counts = np.bincount([p.label for p in places(config, images, 5, 0, False)])
    assert counts.max() > 10


def test_early_end_when_validation_no_longer_improves(tmp_path, small_model):
    start = tmp_path / "start.safetensors"
    save_model(start, replace(small_model, info={"train_names": ["benzene"]}))
    config = small_config(
        model={"start": str(start), "options": {}},
        optimizer={"lr": 0.0, "lr_rest": 0.0},
        schedule={"steps": 40, "validate_every": 0.05, "patience": 2},
    )
    model = load_model(train(config, tmp_path / "run"))
    assert model.info["steps"] == 4
    own = model.info["own_train_names"]  # no label of any training counts as unseen
    assert own and model.info["train_names"] == ["benzene", *own]
    best = load_model(tmp_path / "run" / "best.safetensors")
    assert best.info["steps"] == 0  # nothing was better than the start
    for key, value in small_model.network.state_dict().items():
        torch.testing.assert_close(best.network.state_dict()[key], value)


def test_asked_to_stop_it_saves_and_goes_on(tmp_path):
    config = small_config(schedule={"save_every_seconds": 1e9})
    straight = load_model(train(config, tmp_path / "a")).network.state_dict()
    asked = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "b", stop=lambda: next(asked))
    saved = torch.load(tmp_path / "b" / "state.pt", weights_only=True)
    assert saved["state"]["step"] == 3
    resumed = load_model(train(config, tmp_path / "b")).network.state_dict()
    for key, value in straight.items():
        torch.testing.assert_close(resumed[key], value, atol=1e-6, rtol=1e-4)


def test_too_little_memory_is_one_sentence(tmp_path):
    config = small_config(sample={"crop": 20_000})
    with pytest.raises(InputError, match=r"not enough memory.*20000\^3.*lower sample\.batch"):
        train(config, tmp_path)


def test_full_disk_leaves_the_state_of_before(tmp_path):
    """Writes beyond a limit on file sizes fail as they do on a full disk."""
    train(small_config(schedule={"steps": 4}), tmp_path)
    state = (tmp_path / "state.pt").read_bytes()
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"steps": 4', '"steps": 8'))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(InputError, match=r"(state\.pt|best\.safetensors).*cannot be written"):
            train(small_config(schedule={"steps": 8}), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (tmp_path / "state.pt").read_bytes() == state
    assert not list(tmp_path.glob(".denser-*"))
    assert load_model(train(small_config(schedule={"steps": 8}), tmp_path)).info["steps"] == 8


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be the folder of a run"):
        train(small_config(), tmp_path / "file")


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


TWO_PROCESSES = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from denser.training.config import Config, from_dict
from denser.training.loop import train
data, out, stop_at = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
step = 0
def stop():
    global step
    step += 1
    import os
    return os.environ["RANK"] == "1" and step == stop_at  # one of them is enough
try:
    train(from_dict(Config, data, "test"), out, stop=stop)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path):
    """torchrun, stopped in one process and resumed, against one process with the same batch."""
    sample = {"batch": 4, "whole_batch": 3, "crop": 24, "whole_box": 0.5}  # 3: one has two boxes
    slow = {"name": "adamw", "lr": 1e-3}
    options = {"channels": [4, 4], "blocks": [1, 1], "decoder_blocks": [1]}
    config = small_config(
        sample=sample, schedule={"steps": 6}, optimizer=slow, model={"options": options}
    )
    straight = load_model(train(config, tmp_path / "one"))
    script = tmp_path / "run.py"
    script.write_text(TWO_PROCESSES)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
        str(script), json.dumps(config.to_dict()), str(tmp_path / "two"),
    ]  # fmt: skip
    for stop_at in ("4", "0"):
        done = subprocess.run([*command, stop_at], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        state = torch.load(tmp_path / "two" / "state.pt", weights_only=True)["state"]
        assert state["step"] == (4 if stop_at == "4" else 6)
        assert done.stdout.count("stopped") == (2 if stop_at == "4" else 0)
    shared = load_model(tmp_path / "two" / "model.safetensors")
    torch.manual_seed(config.seed)
    start = weights(build(config.model.architecture, config.model.options))
    one, two = weights(straight.network), weights(shared.network)
    # Adam turns rounding of the smallest gradients into steps, so single weights may differ more
    assert float((two - one).norm()) < 1e-3 * float((one - start).norm())
    assert "processes: 2" in shared.info["machine"]
    one, two = (rows_of(tmp_path / name)[-1] for name in ("one", "two"))
    for column in ("loss_percent", "validation_percent"):
        assert float(two[column]) == pytest.approx(float(one[column]), rel=1e-3)
        assert float(one[column]) < 20


def test_damaged_state_is_one_sentence(tmp_path):
    train(small_config(schedule={"steps": 1}), tmp_path)
    (tmp_path / "state.pt").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"state\.pt.*delete it to start again"):
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


def test_a_run_can_show_a_trained_network_more(tmp_path):
    start = tmp_path / "start.safetensors"
    old = Aspherical(AsphericalConfig(channels=4, layers=1, electrons=1))
    save_model(start, Model("start", "aspherical", old, Recipe()))
    config = small_config(
        model={"architecture": "aspherical", "start": str(start), "options": {"electrons": 2}},
        schedule={"steps": 1},
    )
    assert load_model(train(config, tmp_path / "run")).network.config.electrons == 2
    with pytest.raises(InputError, match="no option 'electron'"):
        small = {"architecture": "aspherical", "start": str(start), "options": {"electron": 2}}
        train(small_config(model=small), tmp_path / "other")


def test_warm_up_then_cosine():
    config = small_config(schedule={"warmup": 0.1})
    factors = [learning_rate_factor(x, config) for x in np.linspace(0, 1, 101)]
    assert factors[0] < 0.01
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert factors[-1] == pytest.approx(0, abs=1e-12)
    paper = read_config(ROOT / "configs" / "paper-x2.toml")
    assert learning_rate_factor(0.001, paper) == pytest.approx(1e-5)


@pytest.mark.parametrize("name", ["default", "unet", "paper-x2", "paper-x4"])
def test_shipped_configurations_run(name, tmp_path):
    """A few steps of each as it stands, with a smaller network and fewer labels."""
    options = {
        "default": "model.options={channels=8, layers=1}",
        "unet": "model.options={channels=[8, 8], blocks=[1, 1], decoder_blocks=[1]}",
        "paper-x2": "model.options={channels=2, kernel=3, blocks=1, stages=1}",
        "paper-x4": "model.options={channels=2, kernel=3, blocks=1, stages=2}",
    }
    labels = tmp_path / "labels"
    labels.mkdir()
    for molecule in ("CH4", "H2O"):
        shutil.copy(LABELS / f"{molecule}.npz", labels)
    length = ("schedule.minutes=0.0", "schedule.steps=2")
    if name.startswith("paper"):
        length = ("schedule.epochs=1",)
    config = read_config(
        ROOT / "configs" / f"{name}.toml",
        (f"data.labels={labels}", "data.validation=1", options[name], *length, "sample.crop=0"),
    )
    model = load_model(train(config, tmp_path / "run"))
    assert model.info["steps"] >= 1
    assert np.isfinite(float(rows_of(tmp_path / "run")[-1]["validation_percent"]))
    best = load_model(tmp_path / "run" / "best.safetensors")
    assert best.architecture == {"default": "aspherical", "unet": "unet"}.get(name, "resnet")


def test_configuration_errors(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[schedule]\nsteps = 5\n")
    with pytest.raises(InputError, match=r"section\.key=value"):
        read_config(path, ("nonsense",))
    assert read_config(path, ("optimizer.lr=0.5", "data.labels=x")).optimizer.lr == 0.5
    cases = {
        "[schedule]\nstep = 5\n": "did you mean schedule.steps",
        "[optimiser]\nlr = 1\n": "did you mean optimizer",
        "[schedule]\nsteps = 'many'\n": "schedule.steps must be a whole number",
        "[schedule]\nsteps = 5\nminutes = 2.0\n": "exactly one",
        "optimizer = 3\n[schedule]\nsteps = 5\n": "is a section",
        "[schedule]\nsteps = 5\n[optimizer]\nname = 'sgd'\n": "muon, adamw, adam",
        "[schedule]\nsteps = 5\n[sample]\ncrop = 8\n": "leaves no voxels between",
        "[schedule\n": "cannot be read as TOML",
        "[schedule]\nsteps = 5\n[sample]\nbatch = 0\n": "sample.batch must be at least 1",
        "[schedule]\nsteps = 5\n[optimizer]\nema = 2\n": "between 0 and 1",
        "[schedule]\nsteps = 5\n[data]\nvalidation = 0.5\n": "data.validation must be",
        "[schedule]\nsteps = 5\n[data]\nlabels = 3\n": "data.labels must be a list of texts",
    }
    for text, words in cases.items():
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_config(path)


def test_loss_that_is_not_finite_stops_with_advice(tmp_path):
    """The state of before stays as it was, and no weight that is not finite is written."""
    config = small_config(optimizer={"lr": 1e30, "name": "adam"})
    with pytest.raises(InputError, match=r"not finite 5 steps in a row.*lower optimizer\.lr"):
        train(config, tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert all(bool(torch.isfinite(v).all()) for v in saved["network"].values())


def test_labels_with_broken_orbitals_are_named(tmp_path):
    labels = tmp_path / "labels"
    shutil.copytree(LABELS, labels)
    data = dict(np.load(labels / "HCN.npz"))
    data["mo_coeff"] = data["mo_coeff"] * np.nan
    np.savez(labels / "HCN.npz", **data)
    with pytest.raises(InputError, match=r"label HCN have.*not finite"):
        train(small_config(data={"labels": [str(labels)]}), tmp_path / "run")
    np.savez(labels / "HCN.npz", **(data | {"mo_coeff": np.nan_to_num(data["mo_coeff"])[1:]}))
    with pytest.raises(InputError, match=r"label HCN have \d+ basis functions, but its atoms"):
        train(small_config(data={"labels": [str(labels)]}), tmp_path / "run")
    train(
        small_config(data={"labels": [str(labels)], "exclude": ["HCN"]}, schedule={"steps": 1}),
        tmp_path / "run",
    )


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


def test_step_sizes_multiply_the_learning_rates_of_what_they_name():
    network = Aspherical(AsphericalConfig(channels=8, electrons=2, reach=11.0, output_degree=5))
    names = {id(p): key for key, p in network.named_parameters()}
    for name in names.values():  # each is named, none by a pattern that was meant for another
        assert any(fnmatchcase(name, pattern) for pattern in Aspherical.step_sizes), name
    settings = OptimizerConfig(name="muon", lr=0.01, lr_rest=1e-4, weight_decay=0.3)
    optimizers = optimizers_of(settings, network)
    found = {
        names[id(p)]: (type(optimizer).__name__, group["base_lr"], group["weight_decay"])
        for optimizer in optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert found.keys() == set(names.values())
    assert found["mix.1.weight"] == ("Muon", 0.01, 0.3)
    assert found["unmix.0.weight"] == ("Muon", pytest.approx(7e-4), 0.3)
    assert found["filters.1.0.weight"] == ("Muon", pytest.approx(0.08), pytest.approx(0.3 / 8))
    assert found["heads.1"] == ("AdamW", pytest.approx(1e-4), 0.0)
    assert found["heads.5"] == ("AdamW", pytest.approx(2e-5), 0.0)
    assert found["filters.0.2.bias"] == ("AdamW", pytest.approx(0.06), 0.0)
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    for optimizer in optimizers:
        optimizer.step()
    moved = {
        key: float((p - before[key]).detach().abs().max()) for key, p in network.named_parameters()
    }
    assert moved["heads.5"] == pytest.approx(2e-5, rel=1e-3)
    assert moved["gates.0.weight"] == pytest.approx(0.07, rel=1e-3)


def test_state_of_other_groups_of_weights_is_refused_in_a_sentence(tmp_path):
    config = small_config(schedule={"save_every_seconds": 0.0})
    asked = iter([False, False, True])
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", stop=lambda: next(asked))
    path = tmp_path / "run" / "state.pt"
    saved = torch.load(path, weights_only=True)
    group = saved["optimizers"][0]["param_groups"][0]
    group["params"] = group["params"][:-1]
    torch.save(saved, path)
    with pytest.raises(InputError, match=r"state\.pt is from another version of denser"):
        train(config, tmp_path / "run")


def test_label_with_an_element_that_the_network_lacks_is_named(tmp_path):
    config = small_config(
        model={"architecture": "aspherical", "options": {"elements": [1], "channels": 8}},
        data={"sad": "gth-szv-1e"},
    )
    with pytest.raises(
        InputError, match=r"label \w+ contains .*list it .* in model\.options\.elements"
    ):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "state.pt").exists()
