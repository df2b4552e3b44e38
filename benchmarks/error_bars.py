"""How often the error bars of dipoles, charges and potentials hold.

    python benchmarks/error_bars.py --labels DIR_OR_STORE [...] [--n 100]

For labels that the model was not trained on, the table has the mean error, and the share of
molecules (dipoles), atoms (charges) or points (potentials) whose error is within the bar of
`denser.analysis.uncertainty`. Two of three are meant to be. Charges are shared as in the superposed
atoms. The last column is the factor that would make it exactly two of three. Potentials are
compared on 40 points at 1.5 times the van der Waals radii, by a sum over the difference of the
densities. `--n` takes so many labels from each of them, in a fixed random order.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from ase.data import vdw_radii

import denser.dft  # noqa: F401 - before torch
from denser.analysis.uncertainty import charge_errors, dipole_error, potential_errors
from denser.atoms.sad import hirshfeld_weights, superposition
from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE, KCAL_PER_MOL
from denser.workflows.evaluate.measure import choose, reference_density

TWO_OF_THREE = 2 / 3


def around(structure: Structure, random: np.random.Generator) -> np.ndarray:
    """40 points (n, 3) outside the atoms, bohr."""
    radii = np.nan_to_num(vdw_radii[structure.numbers], nan=2.0) * 1.5 / BOHR
    rays = random.normal(size=(60, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    points = (structure.positions[:, None] + radii[:, None, None] * rays).reshape(-1, 3)
    distances = np.linalg.norm(points[:, None] - structure.positions, axis=2)
    points = points[(distances > 0.999 * radii).all(axis=1)]
    return points[random.permutation(len(points))[:40]]


def measure(label: Label, predictor: Predictor, random: np.random.Generator) -> dict:
    """Errors and bars of one molecule, in debye and kcal/mol/e."""
    reference = reference_density(label)
    structure, grid = label.structure, label.grid
    sad = superposition(structure, grid, predictor.model.recipe.sad)
    density = predictor.predicted(sad, periodic=True).density
    wrong = density.values.astype(float) - reference.values
    dipole = np.einsum("xyz,xyzi->i", wrong, grid.points()) * grid.dv
    even = tuple(slice(0, n // 2 * 2) for n in grid.shape)
    a, b, c = (n // 2 for n in grid.shape)
    blocks = (a, 2, b, 2, c, 2)
    charges = wrong[even].reshape(blocks).sum(axis=(1, 3, 5)).ravel() * grid.dv
    places = grid.points()[even].reshape(*blocks, 3).mean(axis=(1, 3, 5)).reshape(-1, 3)
    counts = np.abs(charges) > 1e-9
    points = around(structure, random)
    potential = [
        np.sum(charges[counts] / np.linalg.norm(places[counts] - x, axis=1)) for x in points
    ]
    bar, bars = dipole_error(density), potential_errors(density, points)
    assert bar is not None and bars is not None
    shares = hirshfeld_weights(structure, grid, predictor.model.recipe.sad)
    charges_off = np.abs(shares @ wrong.ravel()) * grid.dv
    of_charges = charge_errors(density.wrong)
    assert of_charges is not None
    return {
        "charges": (charges_off, of_charges),
        "dipole": (np.linalg.norm(dipole[None], axis=1) * DEBYE, np.array([bar]) * DEBYE),
        "potential": (np.abs(potential) * KCAL_PER_MOL, bars * KCAL_PER_MOL),
    }


def main() -> int:
    """Print a table for each set of labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, nargs="+", required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    predictor = Predictor(options.model)
    print(
        f"{'labels':20}{'n':>5}  {'':10}{'unit':12}{'error':>8}{'bar':>8}{'within':>8}{'factor':>8}"
    )
    for path in options.labels:
        labels, _ = choose(read_labels(path), predictor.model, "unseen", ())
        labels = [x for x in labels if not x.structure.spin]
        random = np.random.default_rng(0)
        labels = [labels[i] for i in random.permutation(len(labels))[: options.n]]
        found: dict[str, list] = {"charges": [], "dipole": [], "potential": []}
        for label in labels:
            for name, pair in measure(label, predictor, random).items():
                found[name].append(pair)
            print(f"{label.name} done", file=sys.stderr)
        for name, unit in (("charges", "e"), ("dipole", "D"), ("potential", "kcal/mol/e")):
            errors, bars = (np.concatenate(x) for x in zip(*found[name], strict=True))
            within = np.mean(errors <= bars)
            factor = np.quantile(errors / bars, TWO_OF_THREE)
            print(
                f"{path.name:20}{len(labels):5}  {name:10}{unit:12}{errors.mean():8.4f}"
                f"{bars.mean():8.4f}{100 * within:7.0f}%{factor:8.2f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
