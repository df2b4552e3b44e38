"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from denser.model.checkpoint import Model, load_model, save_model
from denser.model.fused import fused_kernels
from denser.model.network import Network
from denser.model.precision import tf32
from denser.training.beginning import (
    circumstances,
    copy_of,
    on_device,
    require_elements,
    samples_of,
    start_network,
)
from denser.training.config import Config
from denser.training.dataset import names_since, read_dataset, recipe_of
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
from denser.training.optimizers import load_optimizers, optimizers_of
from denser.training.points import VALIDATION, Points, order_of_use, training_clouds
from denser.training.processes import Processes, processes
from denser.training.set_up import workers_of
from denser.training.updates import Latest, update, update_average
from denser.types.errors import InputError

BAD_STEPS = 5
"""A step whose loss or gradient is not finite is skipped; this many in a row end the run."""


@dataclass(frozen=True)
class Progress:
    """Progress of the loop: fraction done, step, seconds left, loss and last validation.

    `waiting` is the number of labels that workers have not made ready yet.
    """

    done: float
    step: int
    seconds_left: float
    steps_per_second: float
    loss: float
    validation: float
    waiting: int = 0


def train(
    config: Config,
    out: Path,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    command: str = "",
    workers: int = 0,
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
    workers : int
        Number of processes that make labels ready for a network that learns from points, while it
        trains; 0: this process makes each when it is needed. The steps are the same.

    Raises
    ------
    InputError
        The data or the configuration cannot be used, `out` contains another run, the loss is
        not finite in several steps, memory is too small, or a file cannot be written.
    KeyboardInterrupt
        If `stop` returned True.
    """
    with processes() as peers, _memory_explained(config), ExitStack() as stack:
        return _train(config, Path(out), report, stop, command, workers, peers, stack)


def _train(
    config: Config,
    out: Path,
    report: Callable[[Progress], None] | None,
    stop: Callable[[], bool] | None,
    command: str,
    workers: int,
    peers: Processes,
    stack: ExitStack,
) -> Path:
    device = peers.device
    start = load_model(config.model.start) if config.model.start else None
    recipe = recipe_of(config, None if start is None else start.recipe)
    torch.manual_seed(config.seed)
    network = on_device(start_network(config, start, recipe), device)
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
    require_elements(network, [*data.train, *data.validation, *data.rehearsal])
    record = data.record()
    open_folder(out)
    check_same_run(out, config, data)
    average = copy_of(network)
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
            load_optimizers(optimizers, saved["optimizers"])
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"{state_path} is from another version of denser or of the model in model.start, "
                "which had other weights; continue from its model (model.start) in another folder"
            ) from error
        state = replace(state, **saved["state"])
    info = {"config": config.to_dict()} | record | circumstances(peers, command)
    if start is not None:
        info["parent"] = {"name": config.model.start, "mean_percent": start.mean_percent}
        info["n_labels_of_element"] = labels_of_elements(start, data)
        info |= names_since(start, record)
    some = part is not None and learn != "closed shells"  # the others predict what they did
    if start is not None and some:
        info["own_validation_names"] = info["validation_names"]
        info["validation_names"] = start.info.get("validation_names", [])
        info |= {"n_train": len(info["train_names"]), "n_validation": len(info["validation_names"])}
    pool = None
    if workers and isinstance(samples, Points) and isinstance(checks, Points):
        pool = stack.enter_context(workers_of(-(-workers // peers.size), config, network))
        checks.begin(pool, range(len(checks)), VALIDATION)
        order = order_of_use(config, len(samples), len(data.train), state.step)
        samples.begin(pool, order, training_clouds(config))
    if device.type == "cuda":
        network.use_bf16(config.bf16)
        stack.enter_context(tf32(config.bf16))
        stack.enter_context(fused_kernels(device))
    peers.wait()  # until all have read the files that the first one will replace
    if peers.is_first:
        write_json(out / "config.json", config.to_dict())
        write_json(out / "run.json", {"seed": config.seed} | record | circumstances(peers, command))

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

    latest = Latest(device)
    norm = math.nan

    def read() -> None:
        """Read the losses of the last steps."""
        nonlocal norm
        for loss, norm, names in latest.read():
            if math.isfinite(loss) and math.isfinite(norm):
                state.bad = 0
                mean = loss if math.isnan(state.loss) else state.loss
                state.loss = 0.98 * mean + 0.02 * loss
                continue
            state.bad += 1
            state.left_out += 1
            if state.bad == BAD_STEPS:
                raise InputError(
                    f"the loss is not finite {BAD_STEPS} steps in a row, last at step "
                    f"{state.step} with {', '.join(names)}; lower optimizer.lr and start in "
                    f"another folder (the last good state is kept in {out})"
                )

    def step_once(done: float, scale: float) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * scale
        total, names = samples.backward(network, config, state.step, done, len(data.train), peers)
        found = update(network, optimizers, part, total, config.optimizer.clip, peers)
        state.step += 1
        decay = min(config.optimizer.ema, (1 + state.step) / (10 + state.step))
        update_average(average, network, decay)
        latest.add(found, names)

    metrics = MetricsFile(out / "metrics.csv", state.step) if peers.is_first else None
    if config.model.start and state.step == 0:
        check()  # the result must not be worse than the start
    clock = last_save = started = time.monotonic()
    first_step = state.step
    while (done := fraction_done()) < 1:
        scale = learning_rate_factor(done, config)
        step_once(done, scale)
        if latest.many:
            read()
        now = time.monotonic()
        seconds, stopping = peers.sum(
            now - clock if peers.is_first else 0.0, float(stop is not None and stop())
        )
        state.seconds += seconds
        clock = now
        done = fraction_done()
        if done >= 1 or done - state.checked >= config.schedule.validate_every:
            read()
            check()
            clock = time.monotonic()  # validation is not training time
        if metrics is not None and (state.step % 20 == 0 or done >= 1):
            read()
            metrics.write(state, norm, scale)
        if stopping or now - last_save > config.schedule.save_every_seconds:
            read()
            save_state()
            last_save = now
        if stopping:
            raise KeyboardInterrupt
        if report is not None and peers.is_first:
            rate = (state.step - first_step) / max(now - started, 1e-9)
            left = (
                (n_steps - state.step) / rate
                if n_steps
                else 60 * config.schedule.minutes - state.seconds
            )
            waiting = 0 if pool is None else pool.waiting
            report(Progress(done, state.step, left, rate, state.loss, state.validation, waiting))
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
