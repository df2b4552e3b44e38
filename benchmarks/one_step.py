"""Energies and orbitals by Kohn-Sham steps from predicted densities, against converged labels.

    python benchmarks/one_step.py --labels DIR --n 40 --skip 20
    python benchmarks/one_step.py --labels DIR --n 0 --restarts 6
    python benchmarks/one_step.py --labels benchmarks/labels.db --unseen --n 100

DIR holds labels; the molecules are those of the model's own validation part, in a fixed random
order, or with --unseen all that it was not trained on. The first 20 were looked at while the
method was developed (hence --skip 20).
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
from denser.atoms.sad import superposition
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.one_step import one_step
from denser.dft.refine import Refined, refine
from denser.dft.scf import scf
from denser.fields.metrics import err_rho
from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.units import HARTREE
from recording import add_option, record

MEV = 1000 * HARTREE


def orbital_errors(result: Refined, label: Label, key: str) -> dict:
    """Signed errors of HOMO, LUMO and gap, meV."""
    n = label.mo_coeff.shape[1]
    homo = MEV * (result.homo - label.mo_energy[n - 1])
    lumo = MEV * (result.lumo - label.mo_energy[n])
    return {f"homo_{key}": homo, f"lumo_{key}": lumo, f"gap_{key}": lumo - homo}


def measure(label: Label, predictor: Predictor) -> dict:
    """Errors of one molecule: percent for densities, meV for energies, seconds of this process."""
    structure, grid, recipe = label.structure, label.grid, predictor.model.recipe
    sad = superposition(structure, grid, recipe.sad)
    dm = 2 * label.mo_coeff @ label.mo_coeff.T
    reference = density_from_dm(build_cell(structure, grid, recipe), dm, grid, structure)
    times = [time.process_time()]
    rho = predictor.density(sad, periodic=True)
    times.append(time.process_time())
    first = refine(rho, recipe)
    times.append(time.process_time())
    second = refine(first.density, recipe, earlier=first.steps)
    times.append(time.process_time())
    step = first.steps[0]
    n = label.mo_coeff.shape[1]
    energies = {
        "ks": step.e_ks,
        "harris": step.e_harris,
        "mixed": step.e_mixed,
        "one": first.e_tot,
        "two": second.e_tot,
        "ks_two": second.steps[1].e_ks,
    }
    row = {"name": label.name, "formula": structure.formula, "n_atoms": len(structure)}
    row |= {f"e_{key}": MEV * (e - label.e_tot) for key, e in energies.items()}
    row |= {"u_one": MEV * first.uncertainty, "u_two": MEV * second.uncertainty}
    row |= {
        "rho_network": 100 * err_rho(rho, reference),
        "rho_one": 100 * err_rho(first.density, reference),
        "rho_two": 100 * err_rho(second.density, reference),
    }
    row |= {"d_network": 100 * second.error_before, "d_first": 100 * first.error_before}
    row |= {"d_one": 100 * first.error_after, "d_two": 100 * second.error_after}
    row |= {
        "homo_plain": MEV * (step.homo - label.mo_energy[n - 1]),
        "lumo_plain": MEV * (step.lumo - label.mo_energy[n]),
        "gap_plain": MEV * (step.gap - label.mo_energy[n] + label.mo_energy[n - 1]),
    }
    row |= orbital_errors(first, label, "one") | orbital_errors(second, label, "two")
    names = ("s_network", "s_one", "s_two")
    return row | dict(zip(names, np.diff(times), strict=True))


def energy_table(rows: list[dict]) -> Table:
    """Mean absolute, mean signed and largest error of everything."""
    out = Table(title=f"{len(rows)} molecules; energies in meV, densities in percent")
    for column in ("quantity", "MAE", "mean", "largest"):
        out.add_column(column, justify="left" if column == "quantity" else "right")
    names = {
        "rho_network": "Err_rho, network", "rho_one": "Err_rho, one step",
        "rho_two": "Err_rho, two steps", "e_ks": "E_KS of the output",
        "e_harris": "E_Harris", "e_mixed": "(2 E_Harris + E_KS)/3",
        "e_one": "E, one step", "e_ks_two": "E_KS, two steps", "e_two": "E, two steps",
        "homo_plain": "HOMO of the predicted potential", "homo_one": "HOMO, one step",
        "homo_two": "HOMO, two steps", "lumo_plain": "LUMO of the predicted potential",
        "lumo_one": "LUMO, one step", "lumo_two": "LUMO, two steps",
        "gap_plain": "gap of the predicted potential", "gap_one": "gap, one step",
        "gap_two": "gap, two steps",
    }  # fmt: skip
    for key, title in names.items():
        values = np.array([row[key] for row in rows])
        largest = values[np.abs(values).argmax()]
        figures = (np.abs(values).mean(), values.mean(), largest)
        out.add_row(title, *[f"{value:.3g}" for value in figures])
    return out


def figures(rows: list[dict]) -> dict:
    """Mean absolute, mean signed and largest error of each quantity, and seconds."""
    out: dict = {"n": len(rows)}
    for key in rows[0]:
        if key.startswith(("e_", "rho_", "homo_", "lumo_", "gap_")):
            values = np.array([row[key] for row in rows])
            worst = rows[np.abs(values).argmax()]
            out[key] = {
                "mae": np.abs(values).mean(),
                "mean": values.mean(),
                "largest": worst[key],
                "worst_formula": worst["formula"],
            }
    for key in ("s_network", "s_one", "s_two"):
        out[key] = np.mean([row[key] for row in rows])
    return out


def report(rows: list[dict], console: Console) -> None:
    """Tables, coverage of the uncertainties, and how energy follows density."""
    console.print(energy_table(rows))
    for key, title in (("one", "one step"), ("two", "two steps")):
        error = np.abs([row[f"e_{key}"] for row in rows])
        ratio = error / np.array([row[f"u_{key}"] for row in rows])
        console.print(
            f"{title}: {100 * (ratio < 1).mean():.0f} % of the errors within the uncertainty, "
            f"90th percentile of error / uncertainty {np.percentile(ratio, 90):.2f}, rank "
            f"correlation {_rank_correlation(error, error / ratio):.2f}"
        )
    for key, stated, title in (
        ("network", "first", "network, stated after one step"),
        ("network", "network", "network, stated after two steps"),
        ("one", "one", "one step"),
        ("two", "two", "two steps"),
    ):
        ratio = np.array([row[f"rho_{key}"] / row[f"d_{stated}"] for row in rows])
        console.print(
            f"Err_rho of the {title}: {ratio.mean():.2f} +- {ratio.std():.2f} times the stated "
            f"one, {ratio.min():.2f} to {ratio.max():.2f}"
        )
    if len(rows) > 2:
        x = np.log([row["rho_network"] for row in rows])
        y = np.log([abs(row["e_ks"]) for row in rows])
        console.print(f"E_KS grows as Err_rho to the power {np.polyfit(x, y, 1)[0]:.2f}")
    seconds = [np.mean([row[key] for row in rows]) for key in ("s_network", "s_one", "s_two")]
    console.print(
        "processor seconds per molecule: network {:.2f}, first step {:.2f}, second {:.2f}".format(
            *seconds
        )
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def restart(label: Label, predictor: Predictor) -> list[dict]:
    """Cycles, Fock builds (those of the start included) and processor seconds by start."""
    structure, grid, recipe = label.structure, label.grid, predictor.model.recipe

    def predicted(steps: int) -> np.ndarray:
        sad: Density = superposition(structure, grid, recipe.sad)
        return refine(predictor.density(sad, periodic=True), recipe, steps).dm

    starts = {
        "minao": (lambda: None, 0),
        "SAD": (lambda: one_step(superposition(structure, grid, recipe.sad), recipe).dm, 1),
        "prediction, 1 step": (lambda: predicted(1), 2),
        "prediction, 4 steps": (lambda: predicted(4), 5),
    }
    rows = []
    for name, (make, builds) in starts.items():
        begin = time.process_time()
        result = scf(structure, grid, recipe, dm0=make())
        seconds = time.process_time() - begin
        rows.append(
            {
                "name": label.name,
                "start": name,
                "cycles": result.cycles,
                "builds": result.cycles + 1 + builds,
                "seconds": seconds,
                "error": MEV * (result.e_tot - label.e_tot),
            }
        )
    return rows


def restart_table(rows: list[dict]) -> Table:
    """Means by start, and what is saved against minao."""
    out = Table(title="SCF to 1e-9 hartree by start")
    columns = ("start", "cycles", "Fock builds", "seconds", "builds saved, mean", "worst", "dE/meV")
    for column in columns:
        out.add_column(column, justify="left" if column == "start" else "right")
    base = {row["name"]: row for row in rows if row["start"] == "minao"}
    for start in dict.fromkeys(row["start"] for row in rows):
        part = [row for row in rows if row["start"] == start]
        saved = [1 - row["builds"] / base[row["name"]]["builds"] for row in part]
        means = [np.mean([row[key] for row in part]) for key in ("cycles", "builds", "seconds")]
        out.add_row(
            start, *[f"{value:.1f}" for value in means], f"{100 * np.mean(saved):.0f} %",
            f"{100 * min(saved):.0f} %", f"{max(abs(row['error']) for row in part):.4f}",
        )  # fmt: skip
    return out


def choose(labels: list[Label], predictor: Predictor, unseen: bool, skip: int) -> list[Label]:
    """The model's validation molecules in a fixed random order, less the first `skip`.

    With `unseen` all molecules of its elements that it was not trained on.
    """
    known = {label.name: label for label in labels}
    info = predictor.model.info
    if unseen:
        elements = predictor.network.elements
        names = sorted(
            name
            for name in set(known) - set(info.get("train_names", ()))
            if elements is None or set(known[name].structure.numbers.tolist()) <= set(elements)
        )
    else:
        names = sorted(set(info.get("validation_names", ())) & set(known))
    order = np.random.default_rng(0).permutation(len(names))
    return [known[names[i]] for i in order[skip:]]


def plot(rows: list[dict], path: Path) -> None:
    """Energy errors against the density's, both on logarithmic axes, with fitted powers."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    x = np.array([row["rho_network"] for row in rows])
    for key, title in (("e_ks", "$E_{KS}$"), ("e_harris", "$E_{Harris}$"), ("e_one", "$E$")):
        y = np.abs([row[key] for row in rows])
        slope, constant = np.polyfit(np.log(x), np.log(y), 1)
        (marks,) = axes.loglog(x, y, "o", markersize=4, label=f"{title}, power {slope:.1f}")
        ends = np.array([x.min(), x.max()])
        axes.loglog(ends, np.exp(constant) * ends**slope, "-", color=marks.get_color(), lw=1)
    axes.set_xlabel("Err$_\\rho$ of the prediction, percent")
    axes.set_ylabel("energy error after one step, meV")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def run(chosen: argparse.Namespace) -> None:
    """Measure and print."""
    predictor = Predictor(chosen.model)
    labels = choose(read_labels(chosen.labels), predictor, chosen.unseen, chosen.skip)
    labels = [label for label in labels if len(label.structure) <= chosen.max_atoms]
    if not labels:
        raise InputError(f"{chosen.labels}: holds no such molecule of this model")
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows = []
    for label in labels[: chosen.n]:
        rows.append(measure(label, predictor))
        if chosen.csv:
            with chosen.csv.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    if rows:
        report(rows, console)
        name = "one_step_others" if chosen.unseen else "one_step"
        record(chosen.results, name, figures(rows), predictor)
        if chosen.plot:
            plot(rows, chosen.plot)
            console.print(f"wrote {chosen.plot}")
    restarts = [row for label in labels[: chosen.restarts] for row in restart(label, predictor)]
    if restarts:
        console.print(restart_table(restarts))


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True, help="folder of labels")
    parser.add_argument("--model", default="default")
    parser.add_argument("--n", type=int, default=40, help="molecules for energies")
    parser.add_argument("--restarts", type=int, default=0, help="molecules for restarts")
    parser.add_argument("--skip", type=int, default=20, help="molecules left out")
    parser.add_argument(
        "--unseen", action="store_true", help="all molecules that the model was not trained on"
    )
    parser.add_argument("--max-atoms", type=int, default=1000, help="leave out larger molecules")
    parser.add_argument("--csv", type=Path, help="one row a molecule, written as it goes")
    parser.add_argument("--plot", type=Path, help="energy against density errors, .png or .svg")
    add_option(parser)
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"one_step.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
