"""How much a prediction changes when the molecule is turned or shifted, beside its error.

    python benchmarks/invariance.py --labels DIR --n 60

DIR holds labels; the molecules are those of the model's own validation part, in a fixed random
order. Turned: the density at the turned nodes for the turned molecule less that at the nodes for
the molecule as it is, (1/N_e) integral |difference|, estimated from the 16,384 nodes that the
training draws of a label; the largest of ten arbitrary rotations and reflections. Shifted by an
arbitrary fraction of a node's distance on the same grid: moved back by Fourier interpolation, and
compared as densities.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from denser.atoms.sad import superposition
from denser.fields.metrics import err_rho
from denser.labels.reading import read_labels
from denser.model.aspherical import Aspherical
from denser.model.expansion import evaluate
from denser.model.predictor import Predictor
from denser.training.point_sets import PointSet
from denser.training.points import Points
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.workflows.evaluate.measure import choose
from recording import add_option, record


def turned(network: Aspherical, points: PointSet, rng: np.random.Generator) -> float:
    """Largest change by ten rotations, a fraction of the electrons."""
    displacements = points.nodes - points.images[:, None]

    def deformation(rotation: torch.Tensor) -> torch.Tensor:
        coefficients = network(points.graph.turned(rotation))
        return evaluate(coefficients, network.exponents, displacements @ rotation, points.parents)

    with torch.no_grad():
        here = deformation(torch.eye(3))
        changes = []
        for _ in range(10):
            rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
            there = deformation(torch.as_tensor(rotation, dtype=torch.float32))
            changes.append(float((points.weights * (there - here).abs()).sum()))
    return max(changes)


def shifted(predictor: Predictor, structure: Structure, rng: np.random.Generator) -> float:
    """Change when the molecule moves by part of a node's distance, a fraction of the electrons."""
    grid = Grid.around(structure)
    fraction = rng.random(3)
    moved = Structure(
        structure.numbers, structure.positions + fraction * grid.spacing, structure.charge
    )
    recipe = predictor.model.recipe.sad
    here, there = (predictor.density(superposition(s, grid, recipe)) for s in (structure, moved))
    waves = np.fft.fftn(there.values)
    for axis, n in enumerate(grid.shape):
        phase = np.exp(2j * np.pi * np.fft.fftfreq(n) * fraction[axis])
        waves *= phase.reshape([-1 if i == axis else 1 for i in range(3)])
    return err_rho(here.with_values(np.fft.ifftn(waves).real), here)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--model", default="default")
    add_option(parser)
    options = parser.parse_args()
    predictor = Predictor(options.model)
    if predictor.network.samples != "points":
        raise InputError(f"{options.model} is no network of atoms; only such can be turned exactly")
    labels, _ = choose(read_labels(options.labels), predictor.model, "validation", ())
    labels = [labels[i] for i in np.random.default_rng(0).permutation(len(labels))[: options.n]]
    points = Points(
        labels, predictor.model.recipe.sad, torch.device("cpu"), predictor.network.config
    )
    rng = np.random.default_rng(1)
    rows = []
    for i, label in enumerate(labels):
        with torch.no_grad():
            error = float(points[i].error(predictor.network, slice(None)))
        rows.append(
            (error, turned(predictor.network, points[i], rng),
             shifted(predictor, label.structure, rng))
        )  # fmt: skip
    print(f"{len(rows)} molecules, model {options.model}; percent of the electrons")
    print(f"{'':12s} {'mean':>8s} {'median':>8s} {'worst':>8s}")
    figures: dict = {"n": len(rows)}
    for name, column in zip(("error", "turned", "shifted"), 100 * np.array(rows).T, strict=True):
        found = {"mean": column.mean(), "median": np.median(column), "worst": column.max()}
        print(f"{name:12s}" + "".join(f" {x:8.4f}" for x in found.values()))
        figures[name] = found
    record(options.results, "invariance", figures, predictor)


if __name__ == "__main__":
    try:
        main()
    except InputError as problem:
        sys.exit(f"invariance.py: {problem}")
