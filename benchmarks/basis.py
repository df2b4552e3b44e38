"""How well Gaussians at the atoms can describe a deformation density at best.

    python benchmarks/basis.py --labels DIR
    python benchmarks/basis.py --labels DIR --only qm9_000001 --degree 3

For labels of few atoms, fits rho - SAD by the functions of the network `aspherical` (weighted
least squares, iterated towards the least absolute error) on three of four points drawn as for
training, and prints Err_rho on the fourth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from denser.data.labels import Label, read_labels
from denser.errors import InputError
from denser.model.aspherical import AsphericalConfig
from denser.model.expansion import evaluate, orthonormal_radial
from denser.training.points import Points, PointSet


def design(points: PointSet, exponents: tuple[float, ...], degree: int) -> np.ndarray:
    """Every function at every point (n_points, n_atoms * n_exponents * (degree + 1)^2)."""
    n_atoms, n = len(points.graph.numbers), len(exponents)
    displacements = points.nodes[None] - points.images[:, None]
    columns = []
    for atom in range(n_atoms):
        for m in range((degree + 1) ** 2):
            for row in orthonormal_radial(exponents, int(m**0.5)):
                c = torch.zeros(n_atoms, n, (degree + 1) ** 2)
                c[atom, :, m] = torch.as_tensor(row, dtype=torch.float32)
                near = points.parents == atom
                part = evaluate(
                    c, torch.tensor(exponents), displacements[near], points.parents[near]
                )
                columns.append(part.numpy().astype(float))
    return np.stack(columns, axis=1)


def floor(label: Label, exponents: tuple[float, ...], degree: int, rounds: int = 5) -> float:
    """Err_rho (a fraction) of the best expansion, on points that it was not fitted to."""
    config = AsphericalConfig()
    points = Points([label], "gth-szv-1e", torch.device("cpu"), config)[0]
    x = design(points, exponents, degree)
    y = (points.rho - points.sad).numpy().astype(float)
    w = points.weights.numpy().astype(float)
    fitted = np.arange(y.size) % 4 != 0
    weight = w.copy()
    for _ in range(rounds):
        root = np.sqrt(weight[fitted])
        a = x[fitted] * root[:, None]
        matrix = a.T @ a + 1e-9 * np.eye(x.shape[1])
        c = np.linalg.solve(matrix, a.T @ (y[fitted] * root))
        error = np.abs(x @ c - y)
        weight = w / (error + 1e-5)
    return float((w * error)[~fitted].sum() * 4)


def run(chosen: argparse.Namespace) -> None:
    """Fit and print."""
    labels = read_labels(chosen.labels)
    if chosen.only:
        labels = [label for label in labels if label.name in chosen.only]
    else:
        labels = [x for x in labels if len(x.structure) <= chosen.atoms][: chosen.n]
    if not labels:
        raise InputError(f"{chosen.labels}: no such labels; try --atoms 12")
    exponents = AsphericalConfig().exponents
    table = Table(
        title=f"Best Err_rho, percent: {len(exponents)} exponents, degree {chosen.degree}"
    )
    for column in ("label", "formula", "percent"):
        table.add_column(column)
    for label in labels:
        error = 100 * floor(label, exponents, chosen.degree)
        table.add_row(label.name, label.structure.formula, f"{error:.3f}")
    Console().print(table)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--atoms", type=int, default=9, help="most atoms of a label")
    parser.add_argument("--n", type=int, default=6, help="number of labels")
    parser.add_argument("--degree", type=int, default=AsphericalConfig().degree)
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"basis.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
