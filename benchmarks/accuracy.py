"""Err_rho of a model, and of its SAD, on labelled molecules that it was not trained on.

    python benchmarks/accuracy.py --labels DIR
    python benchmarks/accuracy.py --labels DIR --model runs/x/model.safetensors --csv errors.csv

DIR holds labels as .npz files. By default the molecules are those that the model's own record
names as its validation part; --all takes every label in DIR that it was not trained on.
--ship FILE rounds the weights to float16, measures, and writes them with the figures to FILE:
    python benchmarks/accuracy.py --labels DIR --model FILE --ship OTHER.safetensors
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from rich.console import Console
from rich.progress import track
from rich.table import Table

from denser.data.labels import Label, read_labels
from denser.data.render import density_on_grid
from denser.errors import InputError
from denser.metrics import err_rho
from denser.model.checkpoint import load_model, save_model
from denser.prediction import Predictor
from denser.sad import superposition
from denser.units import BOHR, DEBYE

PYYKKO = dict(
    zip(
        range(1, 18),
        [32, 46, 133, 102, 85, 75, 71, 63, 64, 67, 155, 139, 126, 116, 111, 103, 99],
        strict=True,
    )
)
"""Single-bond covalent radii by atomic number, pm (Pyykko and Atsumi 2009)."""


def measure(label: Label, predictor: Predictor, periodic: bool) -> dict:
    """Errors of one molecule, in percent; those around an element within its radius."""
    structure, grid = label.structure, label.grid
    sad = superposition(structure, grid, predictor.model.recipe.sad)
    values = density_on_grid(structure.numbers, structure.positions, label.mo_coeff, grid).numpy()
    reference = sad.with_values(values)
    start = time.perf_counter()
    predicted = predictor.density(sad, periodic)
    seconds = time.perf_counter() - start
    row = {
        "name": label.name,
        "formula": structure.formula,
        "n_atoms": len(structure),
        "distorted": int(label.name.endswith("_rattled")),
        "sad": 100 * err_rho(sad, reference),
        "model": 100 * err_rho(predicted, reference),
        "dipole_error_debye": float(np.linalg.norm(predicted.dipole() - reference.dipole()))
        * DEBYE,
        "seconds": seconds,
    }
    error = np.abs(predicted.values.astype(float) - values)
    for z in np.unique(structure.numbers):
        inside = near(label, z)
        row[f"around_{chemical_symbols[z]}"] = 100 * error[inside].sum() / values[inside].sum()
    return row


def near(label: Label, z: int) -> np.ndarray:
    """Nodes (nx, ny, nz) within the covalent radius of any atom of element `z`."""
    grid = label.grid
    radius = PYYKKO[z] / 100 / BOHR
    inside = np.zeros(grid.shape, dtype=bool)
    for position in label.structure.positions[label.structure.numbers == z]:
        d2 = []
        for i in range(3):
            length = grid.cell[i, i]
            d = grid.axis(i) - position[i]
            d2.append((d - length * np.round(d / length)) ** 2)
        inside |= d2[0][:, None, None] + d2[1][None, :, None] + d2[2][None, None, :] < radius**2
    return inside


def table(rows: list[dict]) -> Table:
    """Mean, median, 95th percentile and worst, in percent."""
    out = Table(title="Err_rho, percent")
    for column in ("molecules", "n", "density", "mean", "median", "95 %", "worst", "named"):
        out.add_column(column, justify="left" if column in ("molecules", "named") else "right")
    parts = [("all", rows)]
    parts += [("QM9 geometry", [r for r in rows if not r["distorted"]])]
    parts += [("distorted", [r for r in rows if r["distorted"]])]
    for title, part in parts:
        if not part:
            continue
        for key in ("sad", "model"):
            values = np.array([r[key] for r in part])
            worst = part[int(values.argmax())]
            out.add_row(
                title,
                str(len(part)),
                key,
                *[f"{v:.3f}" for v in (values.mean(), np.median(values))],
                *[f"{v:.3f}" for v in (np.percentile(values, 95), values.max())],
                f"{worst['name']} ({worst['formula']})",
            )
    return out


def element_table(rows: list[dict]) -> Table:
    """Error of the model around each element."""
    out = Table(title="Err_rho of the model around an element, percent")
    for column in ("element", "molecules", "mean", "worst"):
        out.add_column(column, justify="right")
    for key in sorted({k for r in rows for k in r if k.startswith("around_")}):
        values = np.array([r[key] for r in rows if key in r])
        out.add_row(
            key.removeprefix("around_"), str(values.size), f"{values.mean():.3f}",
            f"{values.max():.3f}",
        )  # fmt: skip
    return out


def summary(rows: list[dict]) -> dict:
    """Figures for the model's metadata."""
    plain = np.array([r["model"] for r in rows if not r["distorted"]])
    distorted = np.array([r["model"] for r in rows if r["distorted"]])
    values = np.array([r["model"] for r in rows])
    figures = {
        "n": len(rows),
        "validation_mean_percent": values.mean(),
        "validation_median_percent": np.median(values),
        "validation_worst_percent": values.max(),
        "sad_mean_percent": np.mean([r["sad"] for r in rows]),
    }
    if plain.size:
        figures["qm9_geometry_mean_percent"] = plain.mean()
    if distorted.size:
        figures["distorted_mean_percent"] = distorted.mean()
    return {key: round(float(value), 4) for key, value in figures.items()}


def run(chosen: argparse.Namespace) -> None:
    """Measure and print."""
    model = load_model(chosen.model)
    if chosen.ship:
        model.network.half().float()
    predictor = Predictor(model, device=chosen.device, bf16=False if chosen.fp32 else None)
    info = predictor.model.info
    labels = read_labels(chosen.labels)
    trained = set(info.get("train_names", ()))
    if chosen.all:
        labels = [label for label in labels if label.name not in trained]
    else:
        named = set(info.get("validation_names", ()))
        labels = [label for label in labels if label.name in named]
    if not labels:
        raise InputError(
            f"{chosen.labels}: none of the model's validation molecules is there; try --all"
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows = [
        measure(label, predictor, periodic=not chosen.isolated)
        for label in track(labels, "measuring", console=Console(stderr=True), transient=True)
    ]
    console.print(
        f"model {predictor.model.name}, {predictor.model.n_parameters:,} parameters, "
        f"{'bfloat16' if predictor.bf16 else 'float32'}, SAD {predictor.model.recipe.sad}"
    )
    console.print(table(rows))
    console.print(element_table(rows))
    dipole = np.array([r["dipole_error_debye"] for r in rows])
    console.print(
        f"dipole error: mean {dipole.mean():.3f}, worst {dipole.max():.3f} debye; "
        f"network: median {np.median([r['seconds'] for r in rows]):.3f} s per molecule"
    )
    if chosen.csv:
        keys = sorted({k for r in rows for k in r}, key=lambda k: (k.startswith("around_"), k))
        with chosen.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["name", *[k for k in keys if k != "name"]])
            writer.writeheader()
            writer.writerows(rows)
        console.print(f"wrote {chosen.csv}")
    if chosen.ship:
        shipped = replace(model, info=model.info | {"measured": summary(rows)})
        save_model(chosen.ship, shipped, torch.float16)
        console.print(f"wrote {chosen.ship}: {summary(rows)}")


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True, help="folder of .npz labels")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--all", action="store_true", help="every label not trained on")
    parser.add_argument("--isolated", action="store_true", help="do not treat boxes as periodic")
    parser.add_argument("--fp32", action="store_true", help="float32 convolutions")
    parser.add_argument("--csv", type=Path, help="one row a molecule")
    parser.add_argument("--ship", type=Path, help="write float16 weights with the figures")
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"accuracy.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
