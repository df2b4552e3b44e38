"""Samples a second in a training step, by batch size, and a check of the step.

    python benchmarks/training_steps.py [configs/continue.toml] [--batches 8,32] [--seconds 20]
        [--labels 256] [--workers 0] [--check] [--plain] [--choose FILE]

The steps are those of `denser train` with the labels of the configuration (some of them). Each
batch size gets an equal share of the time. On CUDA the part of the time in which kernels run is
given, too, and fused kernels are used if they agree with the plain functions. CPU seconds are those
of this process.

--check computes a batch of 6 labels, rotated, with open shells and a crystal where the labels have
some, and each of these labels alone on the CPU, with Gaussians at all points in double precision.
The gradient is compared for targets that are far from the density. It ends with exit code 1 if
errors or gradients differ by more than rounding does.

--choose writes options for `denser train`: the smallest batch with nine tenths of the most samples
a second, and learning rates that grow with the square root of the batch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denser.model.checkpoint import load_model
from denser.model.expansion import evaluate
from denser.model.fused import fused_kernels
from denser.model.network import Network
from denser.model.precision import tf32
from denser.training.beginning import copy_of, on_device, start_network
from denser.training.config import Config, read_config
from denser.training.dataset import AnyLabel, read_dataset, recipe_of
from denser.training.optimizers import optimizers_of
from denser.training.point_sets import point_set
from denser.training.points import Points, order_of_use, training_clouds
from denser.training.processes import Processes
from denser.training.set_up import workers_of
from denser.training.updates import Latest, update, update_average
from denser.types.errors import InputError
from recording import add_option, record

ALLOWED = {"float32": (1e-4, 1e-3), "bfloat16": (0.3, 0.3)}
"""Largest relative differences of errors and of the gradient."""

KERNELS = 5
"""Steps in which the time of kernels is measured."""


def some_labels(config: Config, network: Network, n: int) -> list[AnyLabel]:
    """Labels of the configuration, the first in the order of the steps, without open shells."""
    start = load_model(config.model.start) if config.model.start else None
    recipe = recipe_of(config, None if start is None else start.recipe)
    data = read_dataset(config.data, recipe, shells="closed")
    known = {*(network.elements or ())}
    found = [x for x in data.train if {*x.structure.numbers.tolist()} <= known]
    return [found[i] for i in order_of_use(config, len(found), len(found), 0)[:n]]


def unlike(config: Config, network: Network) -> list[AnyLabel]:
    """Labels for the check: closed and open shells, and a crystal, as far as there are some."""
    start = load_model(config.model.start) if config.model.start else None
    recipe = recipe_of(config, None if start is None else start.recipe)
    data = read_dataset(config.data, recipe, shells="all" if network.spins else "closed").train
    data = sorted(data, key=lambda x: len(x.structure))
    crystals = [x for x in data if x.structure.cell is not None][:1]
    opened = [x for x in data if x.structure.spin and len(x.structure) > 2][:2]
    closed = [x for x in data if not x.structure.spin and x.structure.cell is None]
    n = 6 - len(crystals) - len(opened)
    places = np.linspace(len(closed) // 4, 3 * len(closed) // 4, n).astype(int).tolist()
    return [*(closed[i] for i in sorted({*places}) if i < len(closed)), *opened, *crystals]


def check(config: Config, network: Network, device: torch.device) -> bool:
    """Print how far the batched step is from labels alone; return whether this is rounding."""
    labels = unlike(config, network)
    points = Points(labels, config.data.sad, device, network.config)
    wanted = training_clouds(config)
    places = [points.place(i, wanted) for i in range(len(labels))]
    rng = np.random.default_rng(0)
    turns = np.linalg.qr(rng.normal(size=(len(labels), 3, 3)))[0].astype(np.float32)
    chosen = [label for label, _ in places], [clouds[0] for _, clouds in places]
    batch = points.flat.batch(*chosen, turns)
    far_target = away(batch.cloud.target)
    shifted = replace(batch, cloud=replace(batch.cloud, target=far_target), of_spin=None)
    plain = copy_of(network).cpu().requires_grad_(True)
    alone, from_far = [], []
    for i, turn in enumerate(torch.as_tensor(turns)):
        one = point_set(labels[i], config.data.sad, network.config, (0, i), superposed=False)
        coefficients = plain.coefficients(one.graph.turned(turn))[0].double()
        every = max(1, len(one.nodes) // wanted.nodes)
        nodes, images = one.nodes[::every].double(), one.images.double()
        displacements = (nodes - images[:, None]) @ turn.double()
        exponents = plain.get_buffer("exponents").double()
        delta = evaluate(coefficients, exponents, displacements, one.parents)
        target = (one.rho - one.sad)[::every]
        weights = one.weights[::every] * (len(one.nodes) / len(nodes))
        alone.append((weights * (delta.detach() - target).abs()).sum())
        from_far.append((weights * (delta - away(target)).abs()).sum())
    expected = torch.stack(alone), gradient_of(plain, torch.stack(from_far).mean())
    print(f"check of {', '.join(label.name for label in labels)}")
    good = True
    for kind in ("float32", "bfloat16") if device.type == "cuda" and config.bf16 else ("float32",):
        network.use_bf16(kind == "bfloat16")
        with tf32(kind == "bfloat16"):
            with torch.no_grad():
                errors = batch.errors(network)[0].cpu().double()
            slope = gradient_of(network, shifted.errors(network)[0].mean())
        far = float((errors / expected[0] - 1).abs().max())
        steep = float((slope - expected[1]).norm() / expected[1].norm())
        same = far < ALLOWED[kind][0] and steep < ALLOWED[kind][1]
        verdict = "this is rounding" if same else "THIS IS MORE THAN ROUNDING"
        print(f"{kind}: errors differ by {far:.1e}, the gradient by {steep:.1e}: {verdict}")
        good = good and same
    return good


def away(target: Tensor) -> Tensor:
    """Target (n,) that no density reaches, so that rounding does not change the sign of an error.

    The gradient of an L1 distance jumps where an error is zero: one point of a trained network with
    an error of 1e-8 would be seen in it.
    """
    return target + torch.where(target < 0, -10.0, 10.0)


def gradient_of(network: Network, value: Tensor) -> Tensor:
    """All derivatives of a number, in double precision on the CPU."""
    found = torch.autograd.grad(value, list(network.parameters()), allow_unused=True)
    both = zip(found, network.parameters(), strict=True)
    parts = [torch.zeros_like(p) if g is None else g for g, p in both]
    return torch.cat([part.flatten().double().cpu() for part in parts])


def timed(
    config: Config,
    network: Network,
    points: Points,
    batch: int,
    seconds: float,
    device: torch.device,
) -> dict:
    """Samples a second, CPU seconds of a sample, and the part of the time in which kernels run."""
    config = replace(config, sample=replace(config.sample, batch=batch))
    peers, n = Processes(0, 1, device), len(points)
    average = copy_of(network)
    optimizers = optimizers_of(config.optimizer, network)
    for optimizer in optimizers:  # the weights stay as they are
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    latest = Latest(device)

    def step(k: int) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        total, names = points.backward(network, config, k, 1.0, n, peers)
        latest.add(update(network, optimizers, None, total, config.optimizer.clip, peers), names)
        update_average(average, network, 0.999)
        if latest.many:
            latest.read()

    step(0)
    step(1)
    latest.read()
    begin, cpu, k = time.monotonic(), time.process_time(), 0
    while k == 0 or time.monotonic() - begin < seconds:
        k += 1
        step(1 + k)
    latest.read()
    wall, cpu = time.monotonic() - begin, time.process_time() - cpu
    found = {"batch": batch, "steps": k, "samples_per_second": k * batch / wall}
    found["cpu_seconds_per_sample"] = cpu / (k * batch)
    if device.type == "cuda":
        found["busy"] = busy(step)
        found["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def busy(step: Callable[[int], None]) -> float:
    """Part of the time of some steps in which kernels run on the GPU."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        begin = time.monotonic()
        for k in range(KERNELS):
            step(k)
        torch.cuda.synchronize()
        wall = time.monotonic() - begin
    kernels = sum(event.self_device_time_total for event in seen.key_averages())
    return kernels / 1e6 / wall


def options_of(config: Config, rows: list[dict]) -> list[str]:
    """Settings for `denser train` with the best batch size."""
    most = max(row["samples_per_second"] for row in rows)
    good = [row for row in rows if row["samples_per_second"] >= 0.9 * most]
    batch = min(row["batch"] for row in good)
    longer = (batch / config.sample.batch) ** 0.5
    rates = config.optimizer.lr * longer, config.optimizer.lr_rest * longer
    return [
        f"--set=sample.batch={batch}",
        f"--set=optimizer.lr={rates[0]:.3g}",
        f"--set=optimizer.lr_rest={rates[1]:.3g}",
    ]


def main() -> int:
    """Print a line for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/continue.toml"))
    parser.add_argument("--set", action="append", default=[], help="as of denser train")
    parser.add_argument("--batches", default="8", help="sizes, with commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="for all sizes")
    parser.add_argument("--labels", type=int, default=256, help="number of labels")
    parser.add_argument("--workers", type=int, default=0, help="processes of the set-up")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--check", action="store_true", help="compare with labels alone")
    parser.add_argument("--plain", action="store_true", help="without fused kernels")
    parser.add_argument("--choose", type=Path, help="file for the options of the best size")
    add_option(parser)
    chosen = parser.parse_args()
    config, device = read_config(chosen.config, tuple(chosen.set)), torch.device(chosen.device)
    start = load_model(config.model.start) if config.model.start else None
    recipe = recipe_of(config, None if start is None else start.recipe)
    network = on_device(start_network(config, start, recipe), device)
    on_cuda = device.type == "cuda"
    network.use_bf16(on_cuda and config.bf16)
    plain = nullcontext("plain functions")
    kernels = plain if chosen.plain else fused_kernels(device)
    with tf32(on_cuda and config.bf16), kernels as sentence:
        print(sentence, flush=True)
        if chosen.check and not check(config, network, device):
            return 1
        labels = some_labels(config, network, chosen.labels)
        points = Points(labels, config.data.sad, device, network.config)
        begin, cpu = time.monotonic(), time.process_time()
        wanted = training_clouds(config)
        with ExitStack() as stack:
            if chosen.workers:
                pool = stack.enter_context(workers_of(chosen.workers, config, network))
                points.begin(pool, range(len(labels)), wanted)
            for i in range(len(labels)):
                points.place(i, wanted)
        wall, cpu = time.monotonic() - begin, time.process_time() - cpu
        size = np.mean([len(x.structure) for x in labels])
        print(f"{len(labels)} labels of {size:.1f} atoms made ready in {wall:.1f} s by "
              f"{chosen.workers} workers; {cpu:.1f} s of this process", flush=True)  # fmt: skip
        sizes = [int(text) for text in chosen.batches.split(",")]
        rows = []
        for batch in sizes:
            row = timed(config, network, points, batch, chosen.seconds / len(sizes), device)
            rows.append(row)
            text = (f"batch {batch:4d}: {row['samples_per_second']:8.1f} samples/s, "
                    f"{1000 * row['cpu_seconds_per_sample']:7.1f} ms of CPU a sample")  # fmt: skip
            if on_cuda:
                text += f", kernels run {row['busy']:.0%} of the time, {row['memory_gb']:.0f} GB"
            print(text, flush=True)
    if chosen.choose is not None:
        settings = options_of(config, rows)
        chosen.choose.write_text("\n".join(settings) + "\n")
        print(f"chosen: {' '.join(settings)}")
    figures = {"labels": len(labels), "mean_atoms": float(size), "workers": chosen.workers}
    figures |= {"set_up_seconds": wall, "device": chosen.device, "rows": rows}
    record(chosen.results, "training steps", figures)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as problem:
        print(f"training_steps.py: {problem}", file=sys.stderr)
        sys.exit(2)
