"""The training loop."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from denser.model.checkpoint import Model, build, load_model, require_options, save_model
from denser.model.network import Network
from denser.training.config import Config
from denser.training.dataset import (
    AnyLabel,
    names_since,
    read_dataset,
    recipe_of,
    require_orbitals,
)
from denser.training.elements import elements_to_learn, labels_of_elements, rows_with_spin
from denser.training.expected_errors import with_errors_of_open_shells
from denser.training.folder import (
    MetricsFile,
    State,
    check_same_run,
    open_folder,
    read_state,
    write_json,
    write_state,
)
from denser.training.images import Images
from denser.training.optimizers import optimizers_of
from denser.training.points import Points
from denser.training.processes import Processes, processes
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.version import __version__

BAD_STEPS = 5
"""A step whose loss or gradient is not finite is skipped; this many in a row end the run."""


@dataclass(frozen=True)
class Progress:
    """Progress of the loop: fraction done, step, seconds left, loss and last validation."""

    done: float
    step: int
    seconds_left: float
    steps_per_second: float
    loss: float
    validation: float


def train(
    config: Config,
    out: Path,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    command: str = "",
) -> Path:
    """Train a network; return the path of the finished model file.

    All files are in the folder `out`: the complete configuration, the record of the run
    (`run.json`), `metrics.csv`, the state to resume from (`state.pt`) and the models
    (`best.safetensors` with the smallest validation error, and `model.safetensors`, the average
    of weights at the end). If `out` contains a state, the run continues from it. The samples of a
    step depend only on (seed, step), so a continued run takes the same steps as a run without
    interruption. With `torchrun`, several processes share every batch, and the first one writes.

    Parameters
    ----------
    config : Config
    out : Path
    report : callable, optional
        Called after every step, in the first process.
    stop : callable, optional
        Called after every step. If it returns True in any process, the state is saved and all
        processes raise KeyboardInterrupt.
    command : str
        How the run was started, for its record.

    Raises
    ------
    InputError
        The data or the configuration cannot be used, `out` contains another run, the loss is
        not finite in several steps, memory is too small, or a file cannot be written.
    KeyboardInterrupt
        If `stop` returned True.
    """
    with processes() as peers, _memory_explained(config):
        return _train(config, Path(out), report, stop, command, peers)


def _train(
    config: Config,
    out: Path,
    report: Callable[[Progress], None] | None,
    stop: Callable[[], bool] | None,
    command: str,
    peers: Processes,
) -> Path:
    device = peers.device
    start = load_model(config.model.start) if config.model.start else None
    recipe = recipe_of(config, None if start is None else start.recipe)
    torch.manual_seed(config.seed)
    network = _on_device(_start_network(config, start, recipe), device)
    learn, shells = config.model.learn, "all" if network.spins else "closed"
    chosen = elements_to_learn(learn, start, network)
    rows = network.rows_of(chosen) if chosen else {}
    if chosen and network.spins:  # which closed shells do not teach
        rows = {key: mask & ~network.spin_part()[key] for key, mask in rows.items()}
    if learn == "spin":
        rows, shells = network.spin_part(), "open"
    if learn == "closed shells":
        rows, shells = network.closed_shell_part(), "closed"
    data = read_dataset(config.data, recipe, chosen, shells)
    if learn == "spin":
        rows = rows_with_spin(network, data)
    part = [rows[name].to(device) for name, _ in network.named_parameters()] if rows else None
    if part is not None:
        for parameter, learns in zip(network.parameters(), part, strict=True):
            parameter.requires_grad_(bool(learns.any()))
    _require_elements(network, [*data.train, *data.validation, *data.rehearsal])
    record = data.record()
    open_folder(out)
    check_same_run(out, config, data)
    average = _copy_of(network)
    optimizers = optimizers_of(config.optimizer, network)
    samples = samples_of(config, [*data.train, *data.rehearsal], network, device)
    checks = samples_of(config, data.validation[: config.data.validation_subset], network, device)
    state = State()
    state_path = out / "state.pt"
    if state_path.exists():
        saved = read_state(state_path, device)
        try:
            network.load_state_dict(saved["network"])
            average.load_state_dict(saved["average"])
            for optimizer, optimizer_state in zip(optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(optimizer_state)
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"{state_path} is from another version of denser or of the model in model.start, "
                "which had other weights; continue from its model (model.start) in another folder"
            ) from error
        state = replace(state, **saved["state"])
    info = {"config": config.to_dict()} | record | _circumstances(peers, command)
    if start is not None:
        info["parent"] = {"name": config.model.start, "mean_percent": start.mean_percent}
        info["n_labels_of_element"] = labels_of_elements(start, data)
        info |= names_since(start, record)
    some = part is not None and learn != "closed shells"  # the others predict what they did
    if start is not None and some:
        info["own_validation_names"] = info["validation_names"]
        info["validation_names"] = start.info.get("validation_names", [])
        info |= {"n_train": len(info["train_names"]), "n_validation": len(info["validation_names"])}
    peers.wait()  # until all have read the files that the first one will replace
    if peers.is_first:
        write_json(out / "config.json", config.to_dict())
        write_json(
            out / "run.json", {"seed": config.seed} | record | _circumstances(peers, command)
        )

    def model_of(source: Network) -> Model:
        length = {
            "steps": state.step,
            "seconds": round(state.seconds),
            "steps_left_out": state.left_out,
        }
        measured = {}
        if math.isfinite(state.validation):
            mean = 100 * state.validation
            found = {"validation_mean_percent": mean, "n": len(checks)}
            if start is not None and some:
                name = "elements" if chosen else learn
                found = {f"{name}_{key}": value for key, value in found.items()}
                found = start.info.get("measured", {}) | found
            measured = {"measured": found}
        return Model(out.name, config.model.architecture, source, recipe, info | length | measured)

    def save_state() -> None:
        finite = all(bool(torch.isfinite(p).all()) for p in network.parameters())
        if peers.is_first and finite:
            content = {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "state": asdict(state),
            }
            write_state(state_path, content)

    def check() -> None:
        state.checked = fraction_done()
        if not len(checks):
            return
        state.validation = float(checks.errors(average, config.bf16, peers).mean())
        state.waited += 1
        if state.validation < state.best:
            state.best, state.waited = state.validation, 0
            if peers.is_first:
                save_model(out / "best.safetensors", model_of(average))

    n_steps = config.schedule.steps or math.ceil(
        config.schedule.epochs * len(data.train) / config.sample.batch
    )

    def fraction_done() -> float:
        if config.schedule.patience and state.waited >= config.schedule.patience:
            return 1.0
        if n_steps:
            return state.step / n_steps
        return state.seconds / (60 * config.schedule.minutes)

    metrics = MetricsFile(out / "metrics.csv", state.step) if peers.is_first else None
    if config.model.start and state.step == 0:
        check()  # the result must not be worse than the start
    clock = last_save = started = time.monotonic()
    first_step = state.step
    while (done := fraction_done()) < 1:
        scale = learning_rate_factor(done, config)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * scale
        loss, norm, names = _step(
            config, network, optimizers, part, samples, len(data.train), state.step, done, peers
        )
        state.step += 1
        if math.isfinite(loss) and math.isfinite(norm):
            state.bad = 0
            decay = min(config.optimizer.ema, (1 + state.step) / (10 + state.step))
            _update_average(average, network, decay)
            mean = loss if math.isnan(state.loss) else state.loss
            state.loss = 0.98 * mean + 0.02 * loss
        else:
            state.bad += 1
            state.left_out += 1
            if state.bad == BAD_STEPS:
                raise InputError(
                    f"the loss is not finite {BAD_STEPS} steps in a row, last at step "
                    f"{state.step} with {', '.join(names)}; lower optimizer.lr and start in "
                    f"another folder (the last good state is kept in {out})"
                )
        now = time.monotonic()
        seconds, stopping = peers.sum(
            now - clock if peers.is_first else 0.0, float(stop is not None and stop())
        )
        state.seconds += seconds
        clock = now
        done = fraction_done()
        if done >= 1 or done - state.checked >= config.schedule.validate_every:
            check()
            clock = time.monotonic()  # validation is not training time
        if metrics is not None and (state.step % 20 == 0 or done >= 1):
            metrics.write(state, norm, scale)
        if stopping:
            save_state()
            raise KeyboardInterrupt
        if now - last_save > config.schedule.save_every_seconds:
            save_state()
            last_save = now
        if report is not None and peers.is_first:
            rate = (state.step - first_step) / max(now - started, 1e-9)
            left = (
                (n_steps - state.step) / rate
                if n_steps
                else 60 * config.schedule.minutes - state.seconds
            )
            report(Progress(done, state.step, left, rate, state.loss, state.validation))
    save_state()
    path = out / "model.safetensors"
    if peers.is_first:
        model = model_of(average)
        if learn == "spin":
            model = with_errors_of_open_shells(model, data.validation)
        save_model(path, model)
    peers.wait()
    return path


def learning_rate_factor(done: float, config: Config) -> float:
    """Warm-up, then cosine: factor on the learning rate at a fraction `done` of the run."""
    warmup, low = config.schedule.warmup, config.schedule.warmup_factor
    if done < warmup:
        return low if low else (done + 1e-4) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def samples_of(
    config: Config, labels: list[AnyLabel], network: Network, device: torch.device
) -> Images | Points:
    """Training samples of the network, of the kind that `Network.samples` names."""
    if network.samples == "points":
        return Points.of(labels, config.data, network, device)
    whose = f"an image network ({config.model.architecture}) learns from"
    return Images.of(require_orbitals(labels, whose), config.data, network, device)


def _require_elements(network: Network, labels: list[AnyLabel]) -> None:
    """Raise an InputError that names a label with an element unknown to the network."""
    if network.elements is not None:
        for label in labels:
            missing = set(label.structure.numbers.tolist()) - set(network.elements)
            if missing:
                raise InputError(
                    f"label {label.name} contains {chemical_symbols[min(missing)]}, which the "
                    "network does not know; list it with the others in model.options.elements, or "
                    "leave the label out with data.exclude"
                )


def _step(
    config: Config,
    network: Network,
    optimizers: list[torch.optim.Optimizer],
    part: list[Tensor] | None,
    samples: Images | Points,
    n_train: int,
    step: int,
    done: float,
    peers: Processes,
) -> tuple[float, float, list[str]]:
    """One update; return the loss, the norm of the gradient and the names of the labels."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    total, names = samples.backward(network, config, step, done, n_train, peers)
    (total,) = peers.sum(total)
    peers.sum_gradients(network.parameters())
    learning = [] if part is None else list(zip(network.parameters(), part, strict=True))
    learning = [(p, learns) for p, learns in learning if p.requires_grad]
    for p, learns in learning:
        if p.grad is not None:
            p.grad.mul_(learns)
    norm = float(nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip))
    if math.isfinite(total) and math.isfinite(norm):
        kept = [p.detach().clone() for p, _ in learning]
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():  # weight decay moves the others, too
            for (p, learns), was in zip(learning, kept, strict=True):
                p.copy_(torch.where(learns, p, was))
    return total, norm, names


@contextmanager
def _memory_explained(config: Config) -> Iterator[None]:
    """Turn torch's errors about too little memory into one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error)
        known = ("out of memory", "allocate memory", "not enough memory")
        if not isinstance(error, MemoryError) and not any(words in text for words in known):
            raise
        sample = config.sample
        size = f"windows of {sample.crop}^3 nodes" if sample.crop else "whole boxes"
        first = text.splitlines()[0][:200] if text else "no reason given"
        raise InputError(
            f"not enough memory for batches of {sample.batch} ({size}"
            f"{', then whole boxes' if sample.crop and sample.whole_box else ''}): {first}; lower "
            "sample.batch, sample.crop, sample.whole_box or data.cache_gb (a state that was "
            "saved is kept)"
        ) from error


def _circumstances(peers: Processes, command: str) -> dict:
    """Versions, machine and command of a run, for its record."""
    device = platform.machine()
    if peers.device.type == "cuda":
        device = torch.cuda.get_device_name(peers.device)
    return {
        "versions": {
            "denser": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{device}; processes: {peers.size}, threads in each: {torch.get_num_threads()}",
        "command": command,
    }


def _start_network(config: Config, start: Model | None, recipe: Recipe) -> Network:
    """A fresh network, or the one named by model.start."""
    if start is None:
        return build(config.model.architecture, config.model.options)
    start.recipe.require_same(recipe, config.model.start, "the labels of this run")
    if start.architecture != config.model.architecture:
        raise InputError(
            f"model.start is a {start.architecture}, model.architecture says "
            f"{config.model.architecture}"
        )
    require_options(start.architecture, config.model.options)
    network = start.network.grown(config.model.options).train()
    if config.model.learn in ("all", "closed shells") and network.expected_error is not None:
        network.expected_error = None  # its errors change
        network.config = replace(network.config, errors=False)
    return network


def _copy_of(network: Network) -> Network:
    copy = type(network)(network.config)
    copy.load_state_dict(network.state_dict())
    device = next(network.parameters()).device
    return _on_device(copy, device).requires_grad_(False)


def _on_device(network: Network, device: torch.device) -> Network:
    """Move it there, into the order in memory that convolutions of images are fastest in."""
    return network.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


@torch.no_grad()
def _update_average(average: Network, network: Network, decay: float) -> None:
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
