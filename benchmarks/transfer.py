"""Transfer to molecules off equilibrium: C7H10O2 isomers of QM9 in motion at 500 K.

    python benchmarks/transfer.py -o runs/transfer [--isomers 12] [--frames 5]

The test of Li et al. (2025), Table 3, in small. Isomers that the model was not trained on come from
the training part of the split of QM9. Each moves with GFN2-xTB (tblite) at 500 K (Langevin); after
250 fs a frame is taken every 50 fs. The first two frames of each are there to learn from, the third
to choose the weights with, the others for the test. Compared are the model as it is, fine-tuned on
the first two frames, and a network of the same form that learns from these alone; and one
Kohn-Sham step from each of the former two. Run it again to continue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from rich.console import Console
from rich.table import Table

import denser.dft  # noqa: F401 - before torch
from denser.io.files import make_folder, replacing
from denser.labels import qm9
from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.model.checkpoint import Model, load_model
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.training.config import with_settings
from denser.training.loop import train
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows.evaluate.measure import measure_each
from denser.workflows.finetune import Plan, finetune
from denser.workflows.label import LabelInput, LabelSettings, label
from one_step import measure as measure_steps
from recording import add_option, record

FORMULA, LOOKED_AT = "C7H10O2", 6000
LEARN, VALIDATE = 2, 1
"""Frames of each isomer."""

PAPER = {"as it is": 0.65, "fine-tuned": 0.25, "from scratch": 1.5}
"""Err_rho of Li et al. (2025), percent, on their frames."""


def isomers(number: int, model: Model) -> list[tuple[str, Structure]]:
    """Isomers of the training part of QM9 that the model was not trained on, drawn at random."""
    order = np.random.default_rng(12).permutation(qm9.split_numbers("train"))[:LOOKED_AT]
    trained = " ".join(model.info.get("train_names", ()))
    found = [
        (name, structure)
        for name, structure in qm9.molecules(tuple(int(n) for n in order))
        if structure.formula == FORMULA and name not in trained
    ]
    if len(found) < number:
        raise InputError(f"found {len(found)} isomers of {FORMULA}, not {number}")
    return found[:number]


def moving(structure: Structure, frames: int, seed: int) -> list[Atoms]:
    """Frames of a molecule at 500 K."""
    from tblite.ase import TBLite

    atoms = structure.to_ase()
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    random = np.random.default_rng(seed)
    spread = np.sqrt(500 * units.kB * atoms.get_masses())
    atoms.set_momenta(random.normal(size=(len(atoms), 3)) * spread[:, None])
    motion = Langevin(
        atoms, 0.5 * units.fs, temperature_K=500, friction=0.02 / units.fs, rng=random, fixcm=False
    )
    out = []
    motion.run(500)
    for _ in range(frames):
        motion.run(100)
        out.append(Atoms(atoms.numbers, atoms.positions))
    return out


def structures(path: Path, number: int, frames: int, model: Model) -> list[LabelInput]:
    """The frames, from a file if it is there."""
    if not path.exists():
        all_frames = []
        for seed, (name, structure) in enumerate(isomers(number, model)):
            for i, atoms in enumerate(moving(structure, frames, seed)):
                atoms.info["name"] = f"{name}_{i:02d}"
                all_frames.append(atoms)
        with replacing(path) as temporary:
            write(temporary, all_frames, format="extxyz")
    found = read(path, ":", format="extxyz")
    return [LabelInput(a.info["name"], Structure.of(a), a.info["name"][:-3]) for a in found]


def names_file(path: Path, names: list[str]) -> str:
    """Write names, one per line; return the path."""
    path.write_text("\n".join(names) + "\n")
    return str(path)


def scratch(out: Path, store: Path, learn: list[str], model: Model, minutes: float) -> Path:
    """Train a network of the model's form on the labels to learn from alone."""
    others = [x.name for x in read_labels(store, model.recipe) if x.name not in learn]
    options = {
        key: getattr(model.network.config, key)
        for key in ("channels", "electrons", "reach", "layers", "hidden", "width", "output_degree")
    }
    data = {
        "bf16": False,
        "data": {"labels": [str(store)], "validation": 0, "exclude": others},
        "model": {
            "architecture": model.architecture,
            "options": {"elements": [1, 6, 8], **options},
        },
        "optimizer": {"name": "muon", "lr": 0.008, "lr_rest": 5e-5, "weight_decay": 0.3},
        "schedule": {"minutes": minutes, "warmup": 0.02},
        "sample": {"batch": 4, "points": 1024},
    }
    return train(with_settings(data, (), "the training from scratch"), out)


def errors(labels: list[Label], model: Model) -> np.ndarray:
    """Err_rho of each label, percent."""
    found = measure_each(labels, Predictor(model))
    return np.array([100 * row.errors["model"] for row in found])


def run(chosen: argparse.Namespace) -> int:
    """Make, label, train, measure and print."""
    console = Console(highlight=False, width=100)
    model = load_model(chosen.model)
    make_folder(chosen.out)
    inputs = structures(chosen.out / "frames.xyz", chosen.isomers, chosen.frames, model)
    store = chosen.out / "labels.db"
    frame = {x.name: int(x.name[-2:]) for x in inputs}
    learn = [name for name, i in frame.items() if i < LEARN]
    validate = [name for name, i in frame.items() if LEARN <= i < LEARN + VALIDATE]
    test = [name for name, i in frame.items() if i >= LEARN + VALIDATE]
    options = PredictionOptions(box="paper", device="cpu")
    for names, residual in ((learn + validate, 1.5e-3), (test, None)):  # the test is converged
        some = [x for x in inputs if x.name in names]
        settings = LabelSettings(options, residual=residual)
        label(some, store, settings, workers=chosen.workers, tell=console.print)
    labels = [x for x in read_labels(store, model.recipe) if x.name in test]
    plan = Plan(
        chosen.model,
        (str(store),),
        test=names_file(chosen.out / "test.txt", test),
        validation=names_file(chosen.out / "validation.txt", validate),
    )
    tuned = load_model(finetune(plan, chosen.out / "tuned", tell=console.print).path)
    own = load_model(scratch(chosen.out / "scratch", store, learn, model, chosen.minutes))
    found = {"as it is": model, "fine-tuned": tuned, "from scratch": own}
    table = Table(
        "network", "mean", "worst", "Li et al.", title=f"Err_rho of {len(labels)} frames, %"
    )
    figures: dict = {
        "n": len(labels),
        "n_learn": len(learn),
        "minutes_from_scratch": chosen.minutes,
    }
    for name, network in found.items():
        values = errors(labels, network)
        table.add_row(name, f"{values.mean():.3f}", f"{values.max():.3f}", f"{PAPER[name]:g}")
        figures[name] = {"mean": float(values.mean()), "worst": float(values.max())}
    console.print(table)
    steps = Table("from", "density, %", "energy, meV", title="One Kohn-Sham step, mean errors")
    for name in ("as it is", "fine-tuned"):
        rows = [measure_steps(x, Predictor(found[name])) for x in labels[: chosen.steps]]
        density = float(np.mean([row["rho_one"] for row in rows]))
        energy = float(np.mean([abs(row["e_one"]) for row in rows]))
        steps.add_row(name, f"{density:.3f}", f"{energy:.2f}")
        figures[name] |= {"one_step": density, "e_one_step_mev": energy, "n_steps": len(rows)}
    console.print(steps)
    record(chosen.results, "transfer", figures, Predictor(model))
    return 0


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--isomers", type=int, default=12)
    parser.add_argument("--frames", type=int, default=5, help="of each isomer, 4 or more")
    parser.add_argument("--minutes", type=float, default=10, help="of the training from scratch")
    parser.add_argument("--steps", type=int, default=12, help="frames with Kohn-Sham steps")
    parser.add_argument("--workers", type=int)
    add_option(parser)
    try:
        return run(parser.parse_args())
    except InputError as error:
        print(f"transfer.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
