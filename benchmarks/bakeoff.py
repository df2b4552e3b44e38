"""Networks at equal labels and time, or one network at equal steps: more labels, or others.

    python benchmarks/bakeoff.py networks --labels DIR --minutes 15 --out runs/bakeoff
    python benchmarks/bakeoff.py labels --labels DIR DIR2 --steps 2000 --counts 300 600 1200 \
--out runs/curve
    python benchmarks/bakeoff.py choices --labels RANDOM CHOSEN --test DIR DIR2 --steps 1500 \
--out runs/choices

Every run is a `denser train` of a file in `configs/`, in a folder of its own under --out; the
same command goes on after an interruption. Molecules of the first DIR are held out, the same ones
in every run; errors are those of the first --molecules of them, in the paper's box, and of as many
of each --test, whose molecules are not trained on. `choices` trains on equally many labels of each
DIR, and errors are those of each of --test alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from denser.atoms.sad import superposition
from denser.labels.label import Label, split
from denser.labels.reading import read_labels
from denser.model.checkpoint import load_model
from denser.model.predictor import Predictor
from denser.training.config import read_config
from denser.types.errors import InputError
from denser.workflows.evaluate.measure import measure_each
from denser.workflows.evaluate.records import Evaluation

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = (
    "model.options.hidden=64", "model.options.width=2", "model.options.output_degree=0",
    "model.options.exponents=[0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24]",
)  # fmt: skip
"""The default network before it was grown."""

NETWORKS = {
    "aspherical atoms": ("default.toml", ()),
    "the same, smaller": ("default.toml", SMALL),
    "smaller, two solutions": (
        "default.toml", (*SMALL, "model.options.electrons=2", "model.options.reach=0"),
    ),
    "smaller, one solution": (
        "default.toml", (*SMALL, "model.options.electrons=1", "model.options.reach=0"),
    ),
    "smaller, without electrons": (
        "default.toml", (*SMALL, "model.options.electrons=0", "model.options.reach=0"),
    ),
    "local U-Net": ("unet.toml", ()),
    # A step on a whole box, as published, takes minutes on one core.
    "ResNet of Li et al., x2": (
        "paper-x2.toml", ("schedule.epochs=0", "sample.crop=48", "sample.margin=4"),
    ),
}  # fmt: skip
N_ATOMS = 18
"""Of the held-out molecule that cost and time are shown for."""


@dataclass(frozen=True)
class Run:
    """One row: its title, configuration and settings."""

    title: str
    config: str
    settings: tuple[str, ...]


def train(run: Run, folder: Path, threads: int) -> Path:
    """Train, unless that is done; the model's file."""
    path = folder / "model.safetensors"
    if not path.exists():
        command = [sys.executable, "-m", "denser", "train", str(CONFIGS / run.config)]
        command += ["-o", str(folder), "--threads", str(threads)]
        for setting in run.settings:
            command += ["--set", setting]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if subprocess.run(command, env=environment).returncode:
            raise InputError(f"{run.title}: training ended early; the same command goes on")
    return path


def row(title: str, path: Path, labels: list[Label]) -> list[str]:
    """Figures of a trained model, as text."""
    model = load_model(path)
    predictor = Predictor(model, device="cpu")
    found = Evaluation.of(model.name, list(measure_each(labels, predictor, True, False)), "")
    errors = 100 * found.errors()
    shown = min(range(len(labels)), key=lambda i: abs(len(labels[i].structure) - N_ATOMS))
    measured = found.rows[shown]
    sad = superposition(labels[shown].structure, labels[shown].grid)
    with FlopCounterMode(display=False) as counter:
        predictor.raw(sad, True)
    return [
        title, f"{model.info['n_train']:,}", f"{model.info['steps']:,}",
        f"{model.info['seconds'] / 60:.0f}",
        *(f"{x:.3f}" for x in (errors.mean(), np.median(errors), errors.max())),
        f"{model.n_parameters:,}", f"{counter.get_total_flops() / 1e12:.3f}",
        f"{measured.seconds_sad + measured.seconds_network:.2f}",
    ]  # fmt: skip


def known_elements() -> set[int]:
    """Atomic numbers that the default network has a row for."""
    return set(read_config(CONFIGS / "default.toml").model.options["elements"])


def require_distinct(paths: list[str]) -> None:
    """An `InputError` if two folders or stores have the same name but for their suffix."""
    if len({Path(path).stem for path in paths}) < len(paths):
        raise InputError("two folders or stores of labels have one name, which tells the rows")


def read_tests(chosen: argparse.Namespace) -> dict[str, list[Label]]:
    """Labels of each of --test, evenly through it, that the default network can know."""
    require_distinct(chosen.test)
    known = known_elements()
    out = {}
    for path in chosen.test:
        labels = [x for x in read_labels(path) if set(x.structure.numbers) <= known]
        if not labels:
            raise InputError(f"{path} holds no label of elements that the default network knows")
        n = min(chosen.molecules, len(labels))
        out[Path(path).stem] = [labels[i * len(labels) // n] for i in range(n)]
    return out


def choices(chosen: argparse.Namespace) -> tuple[list[Run], dict[str, list[Label]]]:
    """As `runs`: one on equally many labels of each folder or store, drawn at random."""
    tests = read_tests(chosen)
    if not tests:
        raise InputError("choices are compared on labels of their own; name them with --test")
    require_distinct(chosen.labels)
    groups = {label.molecule for labels in tests.values() for label in labels}
    known = known_elements()
    found, usable = {}, {}
    for path in chosen.labels:
        labels = read_labels(path)
        found[path] = [x.name for x in labels]
        usable[path] = [
            x.name for x in labels if x.molecule not in groups and set(x.structure.numbers) <= known
        ]
    n = min(map(len, usable.values()))
    chosen.out.mkdir(parents=True, exist_ok=True)
    out = []
    for path, names in usable.items():
        taken = set(np.random.default_rng(0).permutation(names)[:n])
        left_out = chosen.out / f"without_{Path(path).stem}.txt"
        left_out.write_text("".join(f"{name}\n" for name in found[path] if name not in taken))
        settings = (f'data.labels=["{path}"]', f"data.validation={max(1, min(20, n // 10))}")
        settings += ("schedule.validate_every=0.5", "schedule.minutes=0")
        settings += (f"schedule.steps={chosen.steps}", f"data.exclude={left_out}", *SMALL)
        out.append(Run(Path(path).stem, "default.toml", settings))
    return out, tests


def runs(chosen: argparse.Namespace) -> tuple[list[Run], dict[str, list[Label]]]:
    """Training runs to make, and the labels to measure them on."""
    if chosen.what == "choices":
        return choices(chosen)
    first, *others = [read_labels(path) for path in chosen.labels]
    labels = [label for part in (first, *others) for label in part]
    held_out = split(first, chosen.held_out, 0)[1]
    tests = {"": held_out[: chosen.molecules]} | read_tests(chosen)
    tested = {label.molecule for part in tests.values() for label in part}
    validated = {label.molecule for label in held_out}
    left_out = (tested - validated) & {label.molecule for label in labels}
    labels = [label for label in labels if label.molecule not in tested | validated]
    chosen.out.mkdir(parents=True, exist_ok=True)
    validation = chosen.out / "validation.txt"
    validation.write_text("\n".join(label.name for label in held_out) + "\n")
    paths = ",".join(f'"{path}"' for path in chosen.labels)
    common = (f"data.labels=[{paths}]", f"data.validation={validation}")
    common += ("data.validation_subset=20", "schedule.validate_every=0.25")
    if chosen.what == "networks":
        common += (*without(chosen.out / "without.txt", left_out), *chosen.set)
        length = (f"schedule.minutes={chosen.minutes}",)
        unknown = set(chosen.only) - set(NETWORKS)
        if unknown:
            raise InputError(f"no network {min(unknown)!r}; there are: {', '.join(NETWORKS)}")
        out = []
        for title in chosen.only or NETWORKS:
            config, settings = NETWORKS[title]
            out.append(Run(title, config, (*common, *settings, *length)))
    else:
        known = known_elements()
        sizes = Counter(x.molecule for x in labels if set(x.structure.numbers) <= known)
        left_out |= {label.molecule for label in labels} - sizes.keys()
        groups = np.random.default_rng(0).permutation(sorted(sizes))
        total = np.cumsum([sizes[group] for group in groups])
        common += ("schedule.minutes=0", f"schedule.steps={chosen.steps}")
        out = []
        for n in chosen.counts:
            more = set(groups[np.searchsorted(total, n) + 1 :])
            settings = without(chosen.out / f"without_{n}.txt", left_out | more)
            settings = (*common, *settings, *chosen.set)
            out.append(Run(f"aspherical atoms, {n}", "default.toml", settings))
    return out, tests


def without(path: Path, groups: set[str]) -> tuple[str, ...]:
    """The setting that leaves molecules out, which are written to a file."""
    path.write_text("".join(f"{group}\n" for group in sorted(groups)))
    return (f"data.exclude={path}",) if groups else ()


def main() -> int:
    """Train, measure and print; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("networks", "labels", "choices"))
    parser.add_argument("--labels", nargs="+", required=True, help="folders or stores of labels")
    parser.add_argument("--test", nargs="+", default=[], help="more labels to measure on")
    parser.add_argument("--out", type=Path, required=True, help="folder of the training runs")
    parser.add_argument("--minutes", type=float, default=15.0, help="of training, networks")
    parser.add_argument("--only", nargs="+", default=[], metavar="TITLE", help="rows of networks")
    parser.add_argument("--steps", type=int, default=3000, help="of training, labels and choices")
    parser.add_argument("--counts", type=int, nargs="+", default=[300, 600], help="of labels")
    parser.add_argument("--held-out", type=int, default=200, help="molecules not to train on")
    parser.add_argument("--molecules", type=int, default=40, help="to measure on")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of every run"
    )
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    try:
        planned, tests = runs(chosen)
        table = Table(
            "network", "labels", "steps", "minutes", "mean, %", "median", "worst", "parameters",
            f"TFLOP, {N_ATOMS} atoms", "seconds", box=None,
        )  # fmt: skip
        for run in planned:
            folder = chosen.out / run.title.replace(" ", "_").replace(",", "").replace(".", "")
            path = train(run, folder, chosen.threads)
            for name, labels in tests.items():
                table.add_row(*row(f"{run.title} on {name}" if name else run.title, path, labels))
        Console(width=140).print(table)
    except InputError as error:
        print(f"bakeoff.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
