"""Labels chosen by `denser active` against labels drawn at random, at equal numbers.

    python benchmarks/active.py STORE... -o RUNS [--budget 32] [--rounds 2] [--seeds 0 1]

The stores hold labels of the pool already, so that a run only looks them up. Of labels that the
model was trained on none is used. For each seed the test part is the same for both ways to choose.
The table has the Err_rho of the test part after each round. Run it again to continue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import denser.dft  # noqa: F401 - before torch
from denser.labels.facts import Facts
from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.labels.store import LabelStore
from denser.model.checkpoint import load_model
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.workflows.active import CHOICES, ActivePlan, active
from denser.workflows.label import LabelInput
from recording import add_option, record


def pool_of(stores: list[Path], model: str) -> dict[str, Label]:
    """Labels of the stores that the model can predict and was not trained on, by their names."""
    start = load_model(model)
    trained, elements = {*start.info.get("train_names", ())}, {*(start.network.elements or ())}
    return {
        label.name: label
        for path in stores
        for label in read_labels(path, start.recipe)
        if label.name not in trained
        and not label.structure.spin
        and {*label.structure.numbers.tolist()} <= elements
    }


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--model", default="default")
    parser.add_argument("--budget", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--test", type=int, default=30)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    add_option(parser)
    chosen = parser.parse_args()
    console = Console(highlight=False, width=100)
    try:
        labels = pool_of(chosen.stores, chosen.model)
        pool = [LabelInput(name, label.structure) for name, label in labels.items()]
        errors: dict[str, list[list[float]]] = {choice: [] for choice in CHOICES}

        def look_up(entries: list[LabelInput], path: Path) -> bool:
            with LabelStore(path, load_model(chosen.model).recipe) as store:
                for entry in entries:
                    if entry.name not in store.names():
                        store.add(labels[entry.name], Facts("given"))
            return True

        for seed in chosen.seeds:
            for choice in CHOICES:
                plan = ActivePlan(
                    chosen.model, chosen.budget, chosen.rounds, chosen.test, choice,
                    steps=chosen.steps, seed=seed,
                )  # fmt: skip
                folder = chosen.out / f"{choice}-{seed}"
                rounds = active(plan, pool, folder, look_up, tell=console.print)
                before = rounds[0].test_before_percent
                errors[choice].append([before, *(x.test_after_percent for x in rounds)])
    except InputError as error:
        print(f"active.py: {error}", file=sys.stderr)
        return 2
    part = chosen.budget / chosen.rounds
    numbers = [round(part * i) for i in range(chosen.rounds + 1)]
    table = Table("choice", "seed", *(f"{n} labels" for n in numbers), title="Err_rho, percent")
    for choice, found in errors.items():
        for seed, row in zip(chosen.seeds, found, strict=True):
            table.add_row(choice, str(seed), *(f"{x:.3f}" for x in row))
        table.add_row(choice, "mean", *(f"{x:.3f}" for x in np.mean(found, axis=0)))
    console.print(table)
    console.print(f"{len(pool)} structures in the pool, {chosen.test} in the test part")
    figures = {
        "pool": len(pool),
        "test": chosen.test,
        "labels": numbers,
        "seeds": chosen.seeds,
        **{choice: np.mean(found, axis=0).tolist() for choice, found in errors.items()},
    }
    record(chosen.results, "active", figures, Predictor(load_model(chosen.model)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
