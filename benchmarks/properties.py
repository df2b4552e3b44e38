"""What the error of a predicted density does to the properties that are read off it.

    python benchmarks/properties.py --labels DIR --n 10 [--csv FILE]

DIR holds labels; the molecules are those of the model's own validation part, in a fixed random
order. Each is converged anew in a box of 4 angstrom padding (the labels' boxes cut surfaces
off). A property is computed from the predicted density, from the same after one Kohn-Sham step,
from superposed atoms, and from the converged one, always with the same settings. The table has
the mean magnitude, the mean absolute errors, and the worst of the prediction; seconds are those
of one property of one molecule.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import denser.dft  # noqa: F401 - before torch
from denser.analysis.catalogue import CHARGES
from denser.analysis.crystal.scattering import structure_factors
from denser.analysis.properties import Analysis
from denser.dft.refine import refine
from denser.dft.scf import scf
from denser.fields.metrics import err_rho
from denser.io.files import replacing
from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE, KCAL_PER_MOL
from denser.workflows.energy import converged_density
from denser.workflows.evaluate.measure import choose
from recording import add_option, record

MOST_VALUES = 40
"""Of one property in the file of all values: structure factors have thousands."""

UNITS = {
    "dipole": "D",
    "quadrupole": "D A",
    "hirshfeld charges": "e",
    "cm5 charges": "e",
    "mbis charges": "e",
    "bader charges": "e",
    "chelpg charges": "e",
    "mk charges": "e",
    "resp charges": "e",
    "ESP on the 0.001 surface": "kcal/mol/e",
    "highest ESP on the surface": "kcal/mol/e",
    "lowest ESP on the surface": "kcal/mol/e",
    "rho at bond critical points": "e/bohr^3",
    "Laplacian at bond critical points": "e/bohr^5",
    "ellipticity of bonds": "",
    "Hartree energy": "hartree",
    "exchange-correlation energy": "hartree",
    "LKT kinetic energy": "hartree",
    "|F(hkl)| to 0.8 A": "e",
}


def properties(density: Density, points: np.ndarray, seconds: dict) -> dict[str, np.ndarray]:
    """Arrays by name, the potential at given points (n, 3); seconds are added to a list each."""
    analysis, out = Analysis(density), {}

    def timed(name: str) -> object:
        begin = time.perf_counter()
        result = analysis.property(name)
        seconds.setdefault(name, []).append(time.perf_counter() - begin)
        return result

    moments = timed("moments")
    out["dipole"] = moments.dipole * DEBYE
    out["quadrupole"] = moments.quadrupole.ravel() * DEBYE * BOHR
    for name in CHARGES:
        out[f"{name} charges"] = timed(name).charges
    surface = timed("esp")
    out["ESP on the 0.001 surface"] = KCAL_PER_MOL * analysis.potential(points)
    out["highest ESP on the surface"] = np.array([KCAL_PER_MOL * surface.potential.max()])
    out["lowest ESP on the surface"] = np.array([KCAL_PER_MOL * surface.potential.min()])
    topology = timed("qtaim")
    bonds = {tuple(sorted(b.atoms)): b.point for b in topology.bonds}
    for name, values in (
        ("rho at bond critical points", topology.rho),
        ("Laplacian at bond critical points", topology.laplacians),
        ("ellipticity of bonds", topology.ellipticities),
    ):
        out[name] = {pair: values[point] for pair, point in bonds.items()}
    timed("nci")
    energies = timed("orbital-free")
    out["Hartree energy"] = np.array([energies.hartree])
    out["exchange-correlation energy"] = np.array([*energies.exchange_correlation.values()])
    out["LKT kinetic energy"] = np.array([energies.kinetic["lkt"]])
    begin = time.perf_counter()
    factors = structure_factors(density, 0.8)
    seconds.setdefault("structure factors", []).append(time.perf_counter() - begin)
    out["|F(hkl)| to 0.8 A"] = np.abs(factors.f_calc)
    return out


def error(found: np.ndarray | dict, reference: np.ndarray | dict) -> np.ndarray:
    """Absolute errors; of bonds, those that both have."""
    if isinstance(reference, dict):
        common = sorted(set(found) & set(reference))
        found = np.array([found[k] for k in common])
        reference = np.array([reference[k] for k in common])
    return np.abs(found - reference)


def converged(structure: Structure, predicted: Density, recipe: Recipe) -> Density:
    """Self-consistent density on the same grid, started at the prediction."""
    result = scf(structure, predicted.grid, recipe, dm0=refine(predicted, recipe).dm)
    if not result.converged:
        raise InputError(f"{structure.formula} does not converge")
    return converged_density(predicted, recipe, result)


def measure(label: Label, predictor: Predictor, seconds: dict) -> dict[str, dict]:
    """Properties of one molecule by the source of its density."""
    recipe = predictor.model.recipe
    prediction = predictor.predict(Structure(label.structure.numbers, label.structure.positions))
    seconds.setdefault("prediction", []).append(prediction.seconds_sad + prediction.seconds_network)
    predicted = prediction.density
    reference = converged(predicted.structure, predicted, recipe)
    points = Analysis(reference).property("esp").vertices[::7]
    densities = {
        "reference": reference,
        "predicted": predicted,
        "one step": refine(predicted, recipe).density,
        "SAD": prediction.sad,
    }
    out = {
        name: properties(density, points, seconds if name == "predicted" else {})
        for name, density in densities.items()
    }
    for name, density in densities.items():
        out[name]["density (Err_rho, %)"] = np.array([100 * err_rho(density, reference)])
    return out


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--n", type=int, default=10)
    parser.add_argument("--model", default="default")
    parser.add_argument("--csv", type=Path, help="every value of every molecule")
    add_option(parser)
    options = parser.parse_args()
    predictor = Predictor(options.model)
    labels, _ = choose(read_labels(options.labels), predictor.model, "validation", ())
    labels = [label for label in labels if not label.name.endswith("_rattled")]
    labels = [labels[i] for i in np.random.default_rng(0).permutation(len(labels))[: options.n]]
    seconds: dict[str, list[float]] = {}
    rows: dict[str, dict[str, list]] = {}
    values = []
    for label in labels:
        found = measure(label, predictor, seconds)
        for name, reference in found["reference"].items():
            row = rows.setdefault(name, {})
            numbers = list(reference.values()) if isinstance(reference, dict) else reference
            row.setdefault("size", []).append(np.abs(numbers))
            for source in ("predicted", "one step", "SAD"):
                row.setdefault(source, []).append(error(found[source][name], reference))
            if not isinstance(reference, dict):
                for i, exact in enumerate(reference[:MOST_VALUES]):
                    sources = [found[s][name][i] for s in ("predicted", "one step", "SAD")]
                    values.append([label.name, name, i + 1, exact, *sources])
        print(f"{label.name} {label.structure.formula} done", file=sys.stderr, flush=True)
    console = Console(width=120)
    table = Table(title=f"errors of properties, {len(labels)} molecules, model {options.model}")
    for heading in ("property", "unit", "mean size", "predicted", "worst", "one step", "SAD"):
        table.add_column(heading, justify="left" if heading in ("property", "unit") else "right")
    means = []
    for name, row in rows.items():
        flat = {key: np.concatenate([np.atleast_1d(x) for x in row[key]]) for key in row}
        figures = {"size": flat["size"].mean(), "predicted": flat["predicted"].mean()}
        figures |= {"worst": flat["predicted"].max(), "one_step": flat["one step"].mean()}
        figures |= {"sad": flat["SAD"].mean()}
        size, *errors = figures.values()
        shown = [f"{size:.4g}", *(f"{x:.2g}" for x in errors)]
        table.add_row(name, UNITS.get(name, ""), *shown)
        means.append({"property": name, "unit": UNITS.get(name, "")} | figures)
    console.print(table)
    record(options.results, "properties", {"n": len(labels), "rows": means}, predictor)
    table = Table(title="seconds per molecule")
    for heading in ("property", "mean", "most"):
        table.add_column(heading, justify="left" if heading == "property" else "right")
    for name, times in seconds.items():
        table.add_row(name, f"{np.mean(times):.2f}", f"{max(times):.2f}")
    console.print(table)
    if options.csv:
        with replacing(options.csv) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["molecule", "property", "index", "reference", "predicted", "one step", "SAD"]
            )
            writer.writerows(values)
        print(f"every value: {options.csv}")


if __name__ == "__main__":
    try:
        main()
    except InputError as problem:
        sys.exit(f"properties.py: {problem}")
