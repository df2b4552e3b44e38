"""The electron localisation function from features of the network: fit its head, and measure it.

    python benchmarks/localisation.py fit LABELS -o kinetic.safetensors
    python benchmarks/localisation.py measure LABELS [-n 8]
    python benchmarks/localisation.py draw -o docs/images/learnt-elf.png

LABELS are orbitals (a folder of .npz labels, or a store of `denser label`), of which none is of
QM9's test part. One in eight molecules, drawn at random, is left out of the fit and measured.
`measure` compares fields of some of them, each predicted from its atoms alone, with those of the
label's orbitals where the density is above 1e-3 e/bohr^3: learnt, of one Kohn-Sham step, and
estimated from the density. A maximum is found if there is one within 0.25 angstrom.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase.build import molecule
from ase.data import chemical_symbols
from scipy.ndimage import maximum_filter
from scipy.spatial.distance import cdist
from torch import Tensor

import denser.dft  # noqa: F401 - before torch
from denser.analysis.energies.electron_localisation import localisation_of_orbitals
from denser.analysis.fields import THOMAS_FERMI
from denser.analysis.properties import Analysis
from denser.dft.kinetic_density import kinetic_density
from denser.fields.periodic import images_near
from denser.labels.held_out import why_held_out
from denser.labels.label import Label
from denser.labels.reading import read_labels
from denser.model.checkpoint import Model, load_model
from denser.model.graph import Graph
from denser.model.heads import Head, fingerprints_of, load_head
from denser.model.kinetic_head import KineticHead
from denser.model.predictor import Predictor
from denser.pictures.plot import save_figure
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

COARSER = 2.7
"""Nodes are this much farther apart than those of the label."""

SHARES = {(1e-3, np.inf): 0.7, (1e-4, 1e-3): 0.15, (1e-6, 1e-4): 0.15}
"""Parts of a label's points in regions of the density, e/bohr^3."""

PER_LABEL, PER_STEP, BATCH = 3000, 400, 4

RATES = {"of_atoms": 0.05, "constants": 0.05, "weights": 0.003}
"""Largest learning rates of Adam."""

NEAR = 0.25
"""Maxima at most so far apart are the same, angstrom."""

_REACH = 7.5
"""Images of atoms within this distance of the box are included, bohr."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Points of a label: `chi` is (tau - tau_W) / tau_TF, `w` is tau_W / tau_TF."""

    name: str
    numbers: Tensor
    features: Tensor
    points: Tensor
    images: Tensor
    owner: Tensor
    uniform: Tensor
    rho: Tensor
    chi: Tensor
    w: Tensor

    def __len__(self) -> int:
        return len(self.rho)


def sample(label: Label, model: Model, rng: np.random.Generator) -> Sample:
    """Points of a label, and the features of its atoms."""
    grid, structure = label.grid, label.structure
    nx, ny, nz = (max(8, round(n / COARSER)) for n in grid.shape)
    coarse = Grid(grid.origin, grid.cell, (nx, ny, nz))
    found = kinetic_density(structure, label.mo_coeff, coarse)
    rho = found.rho.ravel()
    chosen = []
    for (low, high), share in SHARES.items():
        inside = np.flatnonzero((rho > low) & (rho <= high))
        chosen.append(rng.permutation(inside)[: round(share * PER_LABEL)])
    some = rng.permutation(np.concatenate(chosen))
    points = coarse.points().reshape(-1, 3)[some]
    images, owner = images_near(structure.positions, grid, _REACH)
    with torch.no_grad():
        features = model.network.features(Graph.of(structure, grid, model.network.config))
    rho = rho[some]
    uniform = THOMAS_FERMI * rho ** (5 / 3)
    w = found.squared_gradient.ravel()[some] / (8 * rho)
    arrays = points, images, uniform, rho
    arrays += (found.tau.ravel()[some] - w) / uniform, w / uniform
    places = [torch.as_tensor(a).float() for a in arrays]
    numbers = torch.tensor(structure.numbers)
    return Sample(label.name, numbers, features, *places[:2], torch.as_tensor(owner), *places[2:])


def chi_of(head: KineticHead, of: Sample, some: slice | Tensor) -> Tensor:
    """The head's `chi` at some points."""
    found = head.coefficients(of.numbers, of.features)
    x = of.points[some][None] - of.images[:, None]
    return head.at(x, of.owner, *found) / of.uniform[some]


def elf(chi: Tensor) -> Tensor:
    """1 / (1 + chi^2)."""
    return 1 / (1 + chi**2)


def loss_of(head: KineticHead, of: Sample, some: slice, start: float) -> Tensor:
    """Errors of ELF, LOL and a little of ln chi; `start` is the weight of the latter at first."""
    chi, known, w = chi_of(head, of, some), of.chi[some], of.w[some]
    weights = torch.where(of.rho[some] > 1e-3, 1.0, 0.3)
    lol = (1 / (1 + chi + w) - 1 / (1 + known + w)).abs()
    relative = (chi.clamp(min=1e-4).log() - known.clamp(min=1e-4).log()).abs()
    total = (elf(chi) - elf(known)).abs() + 0.3 * lol + (0.02 + start) * relative
    return (weights * total).mean()


def measured(head: KineticHead, samples: list[Sample]) -> dict[str, float]:
    """Mean error of ELF where the density is above 1e-3 e/bohr^3, and that of the worst."""
    errors = []
    with torch.no_grad():
        for of in samples:
            some = of.rho > 1e-3
            errors.append(float((elf(chi_of(head, of, some)) - elf(of.chi[some])).abs().mean()))
    return {"elf_mean": round(float(np.mean(errors)), 4), "elf_worst": round(max(errors), 4)}


def fit(labels: list[Label], out: Path, epochs: int) -> None:
    """Fit, measure and write."""
    rng = np.random.default_rng(1)
    torch.manual_seed(0)
    model = load_model("default")
    molecules = sorted({label.molecule for label in labels})
    left_out = {*rng.permutation(molecules)[: len(molecules) // 8].tolist()}
    train: list[Sample] = []
    test: list[Sample] = []
    for label in labels:
        (test if label.molecule in left_out else train).append(sample(label, model, rng))
    numbers = sorted({z for of in train for z in of.numbers.tolist()})
    head = KineticHead(numbers, model.network.config.channels)
    head.standardise(torch.cat([of.features for of in train]))
    groups = [{"params": [getattr(head, name)], "lr": rate} for name, rate in RATES.items()]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    n_steps = epochs * (len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, list(RATES.values()), total_steps=n_steps + 1, pct_start=0.1
    )
    start = time.process_time()
    for epoch in range(epochs):
        order = rng.permutation(len(train))
        for b in range(len(train) // BATCH):
            done = (epoch + b / (len(train) // BATCH)) / epochs
            optimizer.zero_grad()
            for i in order[BATCH * b : BATCH * (b + 1)]:
                first = int(rng.integers(max(1, len(train[i]) - PER_STEP)))
                some = slice(first, first + PER_STEP)
                (loss_of(head, train[i], some, max(0.0, 1 - 5 * done)) / BATCH).backward()
            optimizer.step()
            schedule.step()
        print(
            epoch + 1, measured(head, test[:20]), f"{time.process_time() - start:.0f} s", flush=True
        )
    fingerprints = fingerprints_of(model, numbers)
    info = {
        "quantity": "kinetic energy density",
        "level": "valence orbitals of the labels, PBE/GTH-TZV2P",
        "fingerprints": fingerprints,
        "model": model.identity(),
        "elements": [chemical_symbols[z] for z in numbers],
        "command": f"benchmarks/localisation.py fit --epochs {epochs}",
        "trained_on": [of.name for of in train],
        "left_out": [of.name for of in test],
        "measured": measured(head, test) | {"elf_mean_trained": measured(head, train)["elf_mean"]},
    }
    print(info["measured"])
    Head(out.stem, {key: x.numpy() for key, x in head.state_dict().items()}, info).save(out)


def measure(labels: list[Label], n: int) -> None:
    """Print the errors of fields of `n` molecules that the shipped head was not fitted on."""
    left_out = {*load_head("kinetic").info["left_out"]}
    chosen = [label for label in labels if label.name in left_out][:n]
    predictor = Predictor("default")
    rows: dict[str, list[tuple[float, ...]]] = {}
    for label in chosen:
        alone = replace(label.structure, cell=None)
        density = predictor.predict(alone).density
        where = label.structure, label.mo_coeff, density.grid
        reference = localisation_of_orbitals(*where)
        inside = np.asarray(kinetic_density(*where).rho) > 1e-3
        known = reference.elf.values
        for name, field in (
            ("learnt", "elf-learned"),
            ("one step", "elf"),
            ("density", "elf-density"),
        ):
            start = time.process_time()
            values = Analysis(density, predictor.model.recipe).field(field).values
            seconds = time.process_time() - start
            error = float(np.abs(values - known)[inside].mean())
            found = compared(maxima(known, inside), maxima(values, inside), density.grid)
            rows.setdefault(name, []).append((error, *found, seconds))
            print(label.name, name, np.round(rows[name][-1], 3), flush=True)
    for name, found in rows.items():
        error, there, apart, more, seconds = np.mean(found, axis=0)
        worst = max(row[0] for row in found)
        print(
            f"{name}: ELF {error:.4f} (worst {worst:.4f}), {100 * there:.0f} % of the maxima, "
            f"{apart:.3f} A away, {100 * more:.0f} % too many, {seconds:.1f} s"
        )


def draw(out: Path) -> None:
    """ELF of acetamide in the plane of its heavy atoms: learnt, and of one Kohn-Sham step."""
    from matplotlib.figure import Figure

    predictor = Predictor("default")
    atoms = molecule("CH3CONH2")
    heavy = np.flatnonzero(atoms.numbers > 1)
    centre = atoms.positions[heavy].mean(axis=0)
    normal = np.linalg.svd(atoms.positions[heavy] - centre)[2]
    atoms.positions = (atoms.positions - centre) @ normal.T  # the plane is z = 0
    analysis = Analysis(predictor.predict(atoms).density, predictor.model.recipe)
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    names = {"learnt": "elf-learned", "one Kohn-Sham step": "elf", "density alone": "elf-density"}
    for axes, (title, name) in zip(figure.subplots(1, len(names)), names.items(), strict=True):
        field = analysis.field(name)
        (x, y, z), n = (field.grid.axis(i) * BOHR for i in range(3)), field.grid.shape
        plane = np.asarray(field.values)[:, :, int(np.abs(z).argmin())]
        assert plane.shape == n[:2]
        shown = axes.contourf(x, y, plane.T, np.linspace(0, 1, 21), cmap="viridis")
        axes.plot(*atoms.positions[:, :2].T, "w.", markersize=3)
        axes.set(title=title, aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
    figure.colorbar(shown, ax=figure.axes, label="ELF")
    save_figure(figure, out, 110)


def maxima(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Nodes (n, 3) where ELF is largest within 0.4 angstrom and above 0.6."""
    reach = np.arange(-5, 6)
    ball = np.add.outer(np.add.outer(reach**2, reach**2), reach**2) <= 25
    largest = maximum_filter(values, footprint=ball, mode="wrap") == values
    return np.argwhere(largest & inside & (values > 0.6))


def compared(known: np.ndarray, found: np.ndarray, grid: Grid) -> tuple[float, float, float]:
    """Share of known maxima that are found, their distance (angstrom), and share of others."""
    steps = grid.cell / np.array(grid.shape)[:, None] * BOHR
    apart = cdist(known @ steps, found @ steps)
    nearest = apart.min(axis=1)
    there = nearest < NEAR
    return (
        float(there.mean()),
        float(nearest[there].mean()),
        float((apart.min(axis=0) > NEAR).mean()),
    )


def usable(path: Path, most: int) -> list[Label]:
    """Closed shells that are not held out."""
    labels = read_labels(path)
    chosen = [x for x in labels if not x.structure.spin and not why_held_out(x.name, x.structure)]
    return [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))[:most]]


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit")
    fitting.add_argument("labels", type=Path)
    fitting.add_argument("-o", "--out", type=Path, required=True)
    fitting.add_argument("--epochs", type=int, default=40)
    fitting.add_argument("--most", type=int, default=400, help="number of labels")
    measuring = commands.add_parser("measure")
    measuring.add_argument("labels", type=Path)
    measuring.add_argument("-n", type=int, default=8, help="number of molecules")
    drawing = commands.add_parser("draw")
    drawing.add_argument("-o", "--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if chosen.command == "fit":
            fit(usable(chosen.labels, chosen.most), chosen.out, chosen.epochs)
        elif chosen.command == "draw":
            draw(chosen.out)
        else:
            measure(usable(chosen.labels, 10_000), chosen.n)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
