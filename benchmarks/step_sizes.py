"""How far each of a network's parameters can be moved before the error rises.

    python benchmarks/step_sizes.py --labels DIR

DIR holds labels. The direction of a parameter is that of its optimiser's first step (of Muon's or
AdamW's), by the mean gradient of --n molecules. Moved forth and back along it, the mean error of
--test others rises by a twentieth at some length, shown in units of a learning rate of 0.001, and
divided by the parameter's factor in `Aspherical.step_sizes`: parameters that have one number there
learn at one pace (those of AdamW a 140th of it, as their learning rate is), those with a large one
hardly learn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from denser.labels.reading import read_labels
from denser.model.aspherical import Aspherical
from denser.model.checkpoint import load_model
from denser.training.config import OptimizerConfig
from denser.training.optimizers import optimizers_of, step_size
from denser.training.point_sets import PointSet
from denser.training.points import Points
from denser.types.errors import InputError

UNIT = 1e-3
RISE = 0.05


def directions(
    network: Aspherical, points: Points, n: int, nodes: slice
) -> dict[str, torch.Tensor]:
    """Each parameter's first step at a learning rate of `UNIT`, without factors."""
    rng = np.random.default_rng(0)
    for i in range(n):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turned = torch.as_tensor(rotation, dtype=torch.float32)
        (points[i].error(network, nodes, turned) / n).backward()
    before = {key: p.detach().clone() for key, p in network.named_parameters()}
    for optimizer in optimizers_of(OptimizerConfig("muon", lr=UNIT, lr_rest=UNIT), network):
        optimizer.step()
    found = {}
    with torch.no_grad():
        for key, p in network.named_parameters():
            found[key] = (p - before[key]) / step_size(network, key)
            p.copy_(before[key])
    return found


def longest(
    network: Aspherical,
    key: str,
    step: torch.Tensor,
    error: Callable[[], float],
    base: float,
) -> float:
    """Length, in steps, at which the error has risen by `RISE`, forth and back in the mean."""
    parameter = network.get_parameter(key)
    kept = parameter.detach().clone()
    length = 1.0
    with torch.no_grad():
        for _ in range(6):
            found = 0.0
            for sign in (1, -1):
                parameter.copy_(kept + sign * length * step)
                found += 0.5 * error()
            rise = max(found / base - 1, 1e-4)
            length *= min(30.0, (RISE / rise) ** 0.6)  # between a cusp and a parabola
            if abs(np.log(rise / RISE)) < 0.1:
                break
        parameter.copy_(kept)
    return length


def mean_error(network: Aspherical, points: list[PointSet], nodes: slice) -> float:
    """Mean Err_rho of point sets, at some of their points."""
    with torch.no_grad():
        return float(np.mean([float(p.error(network, nodes)) for p in points]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True, help="folder or store of labels")
    parser.add_argument("--model", default="default")
    parser.add_argument("--n", type=int, default=96, help="molecules for the direction")
    parser.add_argument("--test", type=int, default=16, help="molecules to measure on")
    parser.add_argument("--atoms", type=int, default=10, help="fewest of a molecule")
    parser.add_argument("--every", type=int, default=8, help="use every n-th of the 16,384 points")
    options = parser.parse_args()
    nodes = slice(0, None, options.every)
    model = load_model(options.model)
    network = model.network
    if network.samples != "points":
        raise InputError(f"{options.model} is no network of atoms; only such have step sizes")
    labels = [x for x in read_labels(options.labels) if len(x.structure) >= options.atoms]
    wanted = options.n + options.test
    if len(labels) < wanted:
        raise InputError(
            f"{options.labels} holds {len(labels)} labels of {options.atoms} atoms or more, fewer "
            f"than the {wanted} that --n and --test ask for"
        )
    labels = [labels[i] for i in np.random.default_rng(0).permutation(len(labels))[:wanted]]
    points = Points(labels, model.recipe.sad, torch.device("cpu"), network.config)
    steps = directions(network, points, options.n, nodes)
    others = [points[i] for i in range(options.n, wanted)]

    def error() -> float:
        return mean_error(network, others, nodes)

    base = error()
    print(f"model {options.model}, error of {len(others)} molecules {100 * base:.3f} %")
    print(f"{'parameter':24s} {'length':>10s} {'factor':>8s} {'length/factor':>14s}")
    for key, step in steps.items():
        length, factor = longest(network, key, step, error, base), step_size(network, key)
        print(f"{key:24s} {length:10.3g} {factor:8g} {length / factor:14.3g}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as problem:
        print(f"step_sizes.py: {problem}", file=sys.stderr)
        sys.exit(2)
