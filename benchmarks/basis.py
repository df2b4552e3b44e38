"""How well Gaussians at the atoms can describe a deformation density at best.

    python benchmarks/basis.py --labels DIR
    python benchmarks/basis.py --labels DIR --degree 4 --exponents 0.16 0.32 0.64 1.28 2.56 5.12 10

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

from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.model.aspherical_config import AsphericalConfig
from denser.model.expansion import orthonormal_radial
from denser.model.harmonics import harmonic_terms
from denser.training.config import read_config
from denser.training.point_sets import PointSet
from denser.training.points import Points
from denser.types.errors import InputError

CONFIG = Path(__file__).parents[1] / "configs" / "default.toml"


def design(points: PointSet, exponents: tuple[float, ...], degree: int) -> np.ndarray:
    """Every function at every point (n_points, n_atoms * n_exponents * (degree + 1)^2)."""
    n_atoms = len(points.graph.numbers)
    x, y, z = (points.nodes - points.images[:, None]).unbind(-1)  # (image, point) each
    gaussians = torch.exp(-torch.tensor(exponents)[:, None] * (x * x + y * y + z * z)[:, None])
    harmonics = harmonic_terms(x, y, z, degree)
    columns = []
    for n in range(degree + 1):
        mix = torch.as_tensor(orthonormal_radial(exponents, n), dtype=torch.float32)
        radial = mix @ gaussians  # (image, function, point)
        for m in range(n * n, (n + 1) ** 2):
            at_atoms = torch.zeros(n_atoms, *radial.shape[1:])
            at_atoms.index_add_(0, points.parents, radial * harmonics[m][:, None])
            columns.append(at_atoms.flatten(0, 1).T.numpy().astype(float))
    return np.concatenate(columns, axis=1)


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
    exponents = tuple(chosen.exponents)
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
    shipped = AsphericalConfig(**read_config(CONFIG).model.options)
    parser.add_argument("--degree", type=int, default=shipped.output_degree)
    parser.add_argument(
        "--exponents", type=float, nargs="+", default=shipped.exponents, help="bohr^-2"
    )
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"basis.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
