"""The training loop: orbitals in, network out."""

from __future__ import annotations

import csv
import json
import math
import pickle
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from denser.data.labels import read_labels, split
from denser.errors import InputError
from denser.io.files import replacing
from denser.model.checkpoint import Model, build, load_model, save_model
from denser.recipe import Recipe
from denser.training.config import Config
from denser.training.images import Images, draw
from denser.training.muon import Muon


@dataclass(frozen=True)
class Progress:
    """What the loop reports: fraction done, step, seconds left, loss and last validation."""

    done: float
    step: int
    seconds_left: float
    steps_per_second: float
    loss: float
    validation: float


def train(config: Config, out: Path, report: Callable[[Progress], None] | None = None) -> Path:
    """Train a network; returns the path of the finished model file.

    Everything lives in the folder `out`: the resolved configuration, `metrics.csv`, the state
    to resume from (`state.pt`) and the models (`best.safetensors` by validation, and
    `model.safetensors`, the average of weights at the end). If `out` holds a state, the run
    goes on from there; every step draws its samples from (seed, step) alone, so a run that was
    interrupted takes the same steps as one that was not.

    Raises
    ------
    InputError
        Bad data or configuration, another run in `out`, or a loss that is not finite.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = read_labels(Path(config.data.labels))
    train_labels, validation_labels = split(labels, config.data.validation, config.data.seed)
    _keep_config(config, out)
    recipe = Recipe(sad=config.data.sad)
    torch.manual_seed(config.seed)
    network = _start_network(config, recipe).to(device, memory_format=torch.channels_last_3d)
    average = _copy_of(network)
    optimizers = _optimizers(config, network)
    images = Images(train_labels, config.data.sad, config.data.cache_gb, device)
    checks = Images(
        validation_labels[: config.data.validation_subset], config.data.sad, 2.0, device
    )
    state = {"step": 0, "seconds": 0.0, "best": math.inf, "validation": math.nan, "checked": 0.0}
    state_path = out / "state.pt"
    if state_path.exists():
        saved = _read_state(state_path, device)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        for optimizer, optimizer_state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        state = saved["state"]
    info = {
        "config": config.to_dict(),
        "n_train": len(train_labels),
        "n_validation": len(validation_labels),
        "train_names": [label.name for label in train_labels],
        "validation_names": [label.name for label in validation_labels],
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device.type}",
    }

    def model_of(source: nn.Module) -> Model:
        record = info | {"steps": state["step"], "seconds": round(state["seconds"])}
        return Model(out.name, config.model.architecture, source, recipe, record)

    def save_state() -> None:
        with replacing(state_path) as temporary:
            torch.save(
                {
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "state": state,
                },
                temporary,
            )

    n_steps = config.schedule.steps or config.schedule.epochs * math.ceil(
        len(images) / config.sample.batch
    )
    clock = last_save = time.monotonic()
    first_step, mean_loss = state["step"], math.nan
    started = clock

    def fraction_done() -> float:
        if n_steps:
            return state["step"] / n_steps
        return state["seconds"] / (60 * config.schedule.minutes)

    with _MetricsFile(out / "metrics.csv", state["step"]) as metrics:
        while (done := fraction_done()) < 1:
            scale = learning_rate_factor(done, config)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["base_lr"] * scale
            loss, norm = _step(config, network, optimizers, images, state["step"], done, device)
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is not finite at step {state['step']}; lower optimizer.lr "
                    f"(the last good state is kept in {state_path})"
                )
            state["step"] += 1
            decay = min(config.optimizer.ema, (1 + state["step"]) / (10 + state["step"]))
            _update_average(average, network, decay)
            mean_loss = loss if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * loss
            now = time.monotonic()
            state["seconds"] += now - clock
            clock = now
            done = fraction_done()
            if done >= 1 or done - state["checked"] >= config.schedule.validate_every:
                state["checked"] = done
                if len(checks):
                    errors = validate(average, checks, config.bf16)
                    state["validation"] = float(errors.mean())
                if state["validation"] < state["best"]:
                    state["best"] = state["validation"]
                    save_model(out / "best.safetensors", model_of(average))
                clock = time.monotonic()  # validation is not training time
            if state["step"] % 20 == 0 or done >= 1:
                metrics.write(state, mean_loss, norm, scale)
            if now - last_save > config.schedule.save_every_seconds:
                save_state()
                last_save = now
            if report is not None:
                rate = (state["step"] - first_step) / (now - started)
                left = (
                    (n_steps - state["step"]) / rate
                    if n_steps
                    else 60 * config.schedule.minutes - state["seconds"]
                )
                report(Progress(done, state["step"], left, rate, mean_loss, state["validation"]))
    save_state()
    path = out / "model.safetensors"
    save_model(path, model_of(average))
    return path


def learning_rate_factor(done: float, config: Config) -> float:
    """Warm-up, then cosine: factor on the learning rate at a fraction `done` of the run."""
    warmup, low = config.schedule.warmup, config.schedule.warmup_factor
    if done < warmup:
        return low if low else (done + 1e-4) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def validate(network: nn.Module, images: Images, bf16: bool) -> np.ndarray:
    """Err_rho (a fraction) of each label (n_labels,), whole boxes, scaled to N_e."""
    errors = []
    network.eval()
    for i in range(len(images)):
        sad, rho = images[i]
        with torch.no_grad(), torch.autocast(sad.device.type, torch.bfloat16, enabled=bf16):
            predicted = network(sad[None, None], True)[0, 0]
        predicted = predicted * (rho.sum(dtype=torch.float64) / predicted.sum(dtype=torch.float64))
        errors.append(float((predicted - rho).abs().sum(dtype=torch.float64) / rho.sum()))
    network.train()
    return np.array(errors)


def _step(
    config: Config,
    network: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    images: Images,
    step: int,
    done: float,
    device: torch.device,
) -> tuple[float, float]:
    """One update; returns loss and norm of the gradient."""
    sample = config.sample
    rng = np.random.default_rng([config.seed, step])
    whole = sample.crop == 0 or done >= 1 - sample.whole_box
    batch = sample.whole_batch if whole and sample.crop else sample.batch
    if config.schedule.epochs:
        chosen = _epoch_order(len(images), config.seed, step, batch)
    else:
        chosen = rng.integers(len(images), size=batch)
    windows = [draw(sample, images, int(i), whole, rng) for i in chosen]
    if whole:
        batches = [(sad[None], rho[None]) for sad, rho in windows]
    else:
        batches = [tuple(torch.stack(parts) for parts in zip(*windows, strict=True))]
    margin = 0 if whole else sample.margin
    inner = (..., *(slice(margin, -margin or None),) * 3)
    electrons = sum(float(rho[inner].sum()) for _, rho in batches)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for sad, rho in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            predicted = network(sad[:, None], whole)[:, 0]
        loss = (predicted[inner] - rho[inner]).abs().sum() / electrons
        loss.backward()
        total += float(loss.detach())
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip))
    if math.isfinite(total) and math.isfinite(norm):
        for optimizer in optimizers:
            optimizer.step()
    return total, norm


def _epoch_order(n: int, seed: int, step: int, batch: int) -> list[int]:
    """The labels of this step when every epoch visits each label once, shuffled."""
    per_epoch = math.ceil(n / batch)
    epoch, k = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch, n]).permutation(n)
    return order[k * batch : (k + 1) * batch].tolist()


def _start_network(config: Config, recipe: Recipe) -> nn.Module:
    """A fresh network, or the one named by model.start."""
    if not config.model.start:
        return build(config.model.architecture, config.model.options)
    start = load_model(config.model.start)
    start.recipe.require_same(recipe, config.model.start, "this run")
    if start.architecture != config.model.architecture:
        raise InputError(
            f"model.start is a {start.architecture}, model.architecture says "
            f"{config.model.architecture}"
        )
    return start.network.train()


def _copy_of(network: nn.Module) -> nn.Module:
    copy = type(network)(network.config)
    copy.load_state_dict(network.state_dict())
    device = next(network.parameters()).device
    return copy.to(device, memory_format=torch.channels_last_3d).requires_grad_(False)


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


def _optimizers(config: Config, network: nn.Module) -> list[torch.optim.Optimizer]:
    """Adam for everything, or Muon for hidden convolutions and AdamW for the rest."""
    settings = config.optimizer
    everything = list(network.parameters())
    if settings.name == "adam":
        optimizers = [torch.optim.Adam(everything, settings.lr, settings.betas)]
    elif settings.name == "adamw":
        optimizers = [
            torch.optim.AdamW(
                everything, settings.lr, settings.betas, weight_decay=settings.weight_decay
            )
        ]
    else:
        edge = ("stem", "head", "conv1.0", "conv3")
        hidden = [
            p for key, p in network.named_parameters() if p.ndim > 1 and not key.startswith(edge)
        ]
        chosen = {id(p) for p in hidden}
        rest = [p for p in everything if id(p) not in chosen]
        optimizers = [
            Muon(hidden, settings.lr, weight_decay=settings.weight_decay),
            torch.optim.AdamW(rest, settings.lr_rest, settings.betas, weight_decay=0.0),
        ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def _read_state(path: Path, device: torch.device) -> dict:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: the state of the run cannot be read ({str(error).splitlines()[0]}); "
            "delete it to start anew"
        ) from error


def _keep_config(config: Config, out: Path) -> None:
    """Write config.json, or raise if the folder belongs to a run with other settings."""
    path = out / "config.json"
    text = json.dumps(config.to_dict(), indent=1) + "\n"
    if path.exists() and path.read_text() != text:
        raise InputError(
            f"{out} holds a run with other settings (see {path}); name another folder, or "
            "delete it to start anew"
        )
    path.write_text(text)


class _MetricsFile:
    """`metrics.csv`, cut back to the resumed step when a run goes on."""

    COLUMNS = (
        "step", "seconds", "loss_percent", "gradient_norm", "lr_factor", "validation_percent",
    )  # fmt: skip

    def __init__(self, path: Path, step: int) -> None:
        kept = []
        if path.exists():
            with path.open(newline="") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdigit()]
            kept = [row for row in kept if int(row[0]) <= step]
        self._file = path.open("w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(self.COLUMNS)
        self._writer.writerows(kept)

    def write(self, state: dict, loss: float, norm: float, scale: float) -> None:
        """Append one row."""
        self._writer.writerow(
            [
                state["step"],
                f"{state['seconds']:.1f}",
                f"{100 * loss:.4f}",
                f"{norm:.4g}",
                f"{scale:.4g}",
                f"{100 * state['validation']:.4f}",
            ]
        )
        self._file.flush()

    def __enter__(self) -> _MetricsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
