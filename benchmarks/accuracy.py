"""Err_rho of a model, and of its SAD, on the molecules that it was validated on.

    python benchmarks/accuracy.py --labels DIR
    python benchmarks/accuracy.py --labels DIR --model runs/x/model.safetensors --csv errors.csv

DIR holds labels as .npz files. By default the molecules are those that the model's own record
names as its validation part; --all takes every label in DIR that it was not trained on.
`denser evaluate` does the same and more. What only this does: --ship FILE rounds the weights to
float16, measures, and writes them with the figures to FILE:
    python benchmarks/accuracy.py --labels DIR --model FILE --ship OTHER.safetensors
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from denser.model.checkpoint import load_model, save_model
from denser.model.predictor import Predictor
from denser.pictures.plot import save_figure
from denser.types.errors import InputError
from denser.workflows.evaluate.measure import choose, measure_each, read_each
from denser.workflows.evaluate.records import Evaluation, sentences, tables
from recording import add_option, record


def figures(evaluation: Evaluation) -> dict[str, float]:
    """Figures for the model's metadata, percent."""
    values = 100 * evaluation.errors()
    out = {
        "n": values.size,
        "validation_mean_percent": values.mean(),
        "validation_median_percent": evaluation.summary()["err_rho_percent"]["model"]["median"],
        "validation_worst_percent": values.max(),
        "sad_mean_percent": 100 * evaluation.errors("sad").mean(),
    }
    for key, distorted in (("qm9_geometry", False), ("distorted", True)):
        part = evaluation.part(lambda row, d=distorted: row.distorted == d)
        if part.rows:
            out[f"{key}_mean_percent"] = 100 * part.errors().mean()
    return {key: round(float(value), 4) for key, value in out.items()}


def results_of(evaluation: Evaluation) -> dict:
    """Everything that the pages show: the summary, and those of the two kinds of geometries."""
    out = {"all": evaluation.summary()}
    for key, distorted in (("qm9_geometries", False), ("distorted", True)):
        part = evaluation.part(lambda row, d=distorted: row.distorted == d)
        if part.rows:
            out[key] = part.summary()
    return out


def draw(evaluation: Evaluation, path: Path) -> None:
    """The error of each molecule over what the model expects; the band is a factor of 1.5."""
    from matplotlib.figure import Figure

    rows = [row for row in evaluation.rows if row.expected_error]
    expected = 100 * np.array([row.expected_error for row in rows])
    errors = 100 * np.array([row.errors["model"] for row in rows])
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.subplots()
    ends = np.array([0.6, 1.7]) * (min(*expected, *errors), max(*expected, *errors))
    axes.fill_between(ends, ends / 1.5, ends * 1.5, color="0.9")
    axes.loglog(ends, ends, color="0.6", linewidth=0.8)
    for doubt, colour, text in ((False, "C0", "not in doubt"), (True, "C3", "in doubt")):
        some = np.array([row.in_doubt == doubt for row in rows])
        axes.loglog(expected[some], errors[some], "o", color=colour, markersize=3, label=text)
    axes.set(xlim=ends, ylim=ends, xlabel="expected error, %", ylabel="error of the density, %")
    axes.legend(fontsize=8)
    save_figure(figure, path, 150)


def without_paths(info: dict) -> dict:
    """The record of a run, with file names in place of paths, and without its command."""
    data = {
        key: Path(value).name if isinstance(value, str) and "/" in value else value
        for key, value in info.get("config", {}).get("data", {}).items()
    }
    for key in ("labels", "rehearsal"):
        if isinstance(data.get(key), list | tuple):
            data[key] = [Path(path).name for path in data[key]]
    model = dict(info.get("config", {}).get("model", {}))
    if model.get("start"):
        model["start"] = Path(model["start"]).stem
    config = info.get("config", {}) | {"data": data, "model": model}
    return {k: v for k, v in info.items() if k != "command"} | {"config": config}


def run(chosen: argparse.Namespace) -> int:
    """Measure and print; 2 if a label could not be measured."""
    model = load_model(chosen.model)
    if chosen.ship:
        for parameter in model.network.parameters():  # as it will be read again
            parameter.data = parameter.data.half().float()
    predictor = Predictor(model, device=chosen.device, bf16=False if chosen.fp32 else None)
    found, broken = read_each(chosen.labels, model.recipe)
    labels, selection = choose(found, model, "unseen" if chosen.all else "validation")
    results = track(
        measure_each(labels, predictor, not chosen.isolated, chosen.fitting),
        "measuring", total=len(labels), console=Console(stderr=True), transient=True,
    )  # fmt: skip
    evaluation = Evaluation.of(model.name, [*broken, *results], selection)
    for failure in evaluation.failures:
        print(f"accuracy.py: {failure.name}: {failure.error}", file=sys.stderr)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(
        f"model {model.name}, {model.n_parameters:,} parameters, "
        f"{'bfloat16' if predictor.bf16 else 'float32'}, SAD {model.recipe.sad}; {selection}"
    )
    for table in tables(evaluation):
        console.print(table)
    for line in sentences(evaluation):
        console.print(line)
    name = "accuracy_others" if chosen.all else "accuracy"
    record(chosen.results, name, results_of(evaluation), predictor)
    if chosen.csv:
        evaluation.write_csv(chosen.csv)
        console.print(f"wrote {chosen.csv}")
    if chosen.plot:
        draw(evaluation, chosen.plot)
        console.print(f"wrote {chosen.plot}")
    if chosen.ship:
        measured = figures(evaluation)
        info = without_paths(model.info)
        if info["config"].get("model", {}).get("learn", "all") not in ("all", "spin"):
            # elements: nothing else has changed, so the figures of the start remain
            kept = ("n", "validation_mean_percent", "validation_worst_percent", "sad_mean_percent")
            new = {f"elements_{key}": measured[key] for key in kept}
            old = {k: v for k, v in info["measured"].items() if "elements_" not in k}
            measured = old | new
        shipped = replace(model, info=info | {"measured": measured})
        save_model(chosen.ship, shipped, torch.float16)
        console.print(f"wrote {chosen.ship}: {measured}")
    return 2 if evaluation.failures else 0


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True, help="folder of .npz labels")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--all", action="store_true", help="every label not trained on")
    parser.add_argument("--fitting", action="store_true", help="Gaussian density fitting beside it")
    parser.add_argument("--isolated", action="store_true", help="do not treat boxes as periodic")
    parser.add_argument("--fp32", action="store_true", help="float32 convolutions")
    parser.add_argument("--csv", type=Path, help="one row a molecule")
    parser.add_argument("--plot", type=Path, help="picture of errors and expected errors (.png)")
    add_option(parser)
    parser.add_argument("--ship", type=Path, help="write float16 weights with the figures")
    try:
        return run(parser.parse_args())
    except InputError as error:
        print(f"accuracy.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
