"""Polarizabilities of small molecules to learn from, by the package's own coupled-perturbed SCF.

    python benchmarks/polarizabilities.py label polarizabilities.xyz
    python benchmarks/polarizabilities.py fit data/polarizabilities.xyz.gz -o FILE.safetensors
    python benchmarks/polarizabilities.py compare data/polarizabilities.xyz.gz

`label`: molecules of QM9's training part and of data/kinds.xyz.gz, closed shells without metals, in
an order drawn at random. Each is appended as it is done; run it again to continue. None is of QM9's
test part, and none is held out.

`fit`: on four of five molecules; the others are measured. With another model as the default, it is
all that is needed to make the file in src/denser/model/weights/heads anew.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols
from torch import Tensor

import denser.dft  # noqa: F401 - before torch
from denser.analysis.energies.learned_polarizability import learned_polarizability
from denser.atoms.sad import count_electrons
from denser.dft.basis import AUGMENTED
from denser.dft.molecular import converge
from denser.dft.polarizability import coupled_perturbed
from denser.labels import qm9
from denser.labels.held_out import why_held_out
from denser.model.harmonics import invariants
from denser.model.heads import Head, fingerprints_of, load_head
from denser.model.polarizable_atoms import DAMPING, PolarizableAtoms
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure

KINDS = Path(__file__).parent.parent / "data" / "kinds.xyz.gz"
ELEMENTS = ["H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I"]
SIZES = ((9, 130), (12, 30))
"""Most atoms, and the number of molecules of QM9 with at most as many (and more than before)."""

SMALL, LARGER, SHARE = 8, 12, 0.2
"""Of the other kinds all with up to `SMALL` atoms, and a share of those with up to `LARGER`."""

LEFT_OUT = ("ion", "small_anion", "dianion", "stretched")
"""Kinds that are not learnt: many have unbound electrons, or a gap near zero."""

CONVERGED = 1e-5
"""Change of the energy in the last cycle, hartree: 0.03 % of a polarizability."""

THOLE = {
    "H": 2.79, "B": 14.0, "C": 8.70, "N": 6.56, "O": 5.75, "F": 3.00, "Si": 27.0, "P": 21.0,
    "S": 16.7, "Cl": 16.2, "Br": 23.6, "I": 37.0,
}  # fmt: skip
"""Polarizabilities of atoms to start from, bohr^3: van Duijnen and Swart; B, Si, P estimated."""

PENALTIES = {
    "constants": 1e-3, "damping": 1e-3, "shared": 0.3, "own": 3.0, "shared_of_tensors": 3.0,
    "own_of_tensors": 10.0, "products": 10.0,
}  # fmt: skip
"""Of squares of the parameters; the errors are relative."""

ROBUST = 0.03
"""Errors above this count less than their square."""

STEPS = 150


def candidates(
    sizes: Sequence[tuple[int, int]] = SIZES,
    small: int = SMALL,
    larger: int = LARGER,
    share: float = SHARE,
    left_out: Sequence[str] = LEFT_OUT,
) -> list[Atoms]:
    """The molecules, with their names and charges in `info`.

    Parameters
    ----------
    sizes, small, larger, share, left_out
        As the constants in capitals.
    """
    random = np.random.default_rng(7)
    found = []
    numbers = qm9.split_numbers("train")
    numbers = np.sort(random.permutation(numbers[:6000])[:2500])
    smallest = 1
    of_qm9 = list(qm9.molecules(tuple(int(i) for i in numbers)))
    for most, n in sizes:
        some = [x for x in of_qm9 if smallest <= len(x[1]) <= most]
        for i in random.permutation(len(some))[:n]:
            name, structure = some[i]
            atoms = structure.to_ase()
            atoms.info = {"name": name, "charge": 0}
            found.append(atoms)
        smallest = most + 1
    for atoms in ase.io.read(KINDS, ":"):
        large = len(atoms) > small and random.random() > share
        kind = re.sub(r"_\d+[a-z]*$", "", atoms.info["name"])
        if not set(atoms.symbols) <= set(ELEMENTS) or kind in left_out:
            continue
        if len(atoms) <= larger and not large:
            found.append(atoms)
    kept = []
    for i in random.permutation(len(found)):
        atoms = found[i]
        structure = Structure.of(atoms, charge=int(atoms.info["charge"]))
        if structure.charge < 0 or count_electrons(structure) % 2:
            continue
        if why_held_out(atoms.info["name"], structure):
            continue
        kept.append(atoms)
    return kept


def label(path: Path) -> None:
    """Append what is missing."""
    known = {x.info["name"] for x in ase.io.read(path, ":")} if path.exists() else set()
    predictor = Predictor("default")
    chosen = candidates()
    for i, atoms in enumerate(chosen):
        name, charge = atoms.info["name"], int(atoms.info["charge"])
        if name in known:
            continue
        start = time.process_time()
        try:
            density = predictor.predict(atoms, charge=charge, spacing=0.4).density
            if density.structure.spin:
                continue
            about = density.structure, AUGMENTED, predictor.model.recipe
            found = coupled_perturbed(converge(*about, about=density, conv_tol=CONVERGED, level=0))
        except InputError as error:
            print(f"{name}: {error}", flush=True)
            continue
        seconds = time.process_time() - start
        out = Atoms(atoms.numbers, atoms.positions)
        rows, columns = np.triu_indices(3)
        values = " ".join(f"{x:.3f}" for x in found.tensor[rows, columns])
        out.info = {
            "name": name, "charge": charge, "polarizability_bohr3": values,
            "seconds": round(seconds, 1),
        }  # fmt: skip
        ase.io.write(path, out, format="extxyz", append=True)
        print(f"{i + 1}/{len(chosen)} {name} {found.mean:.2f} {seconds:.1f} s", flush=True)


@dataclass(frozen=True, eq=False)
class Known:
    """Molecules with their polarizabilities (n, 3, 3), their atoms and features of these.

    `places` (n, most) are the numbers of the atoms of each molecule, -1 beyond its last; positions
    (n, most, 3) are far away there.
    """

    names: list[str]
    tensors: Tensor
    numbers: Tensor
    features: Tensor
    positions: Tensor
    places: Tensor

    @classmethod
    def read(cls, path: Path, predictor: Predictor) -> Known:
        """Read the file that `label` writes."""
        names, tensors, numbers, features, where = [], [], [], [], []
        upper = np.triu_indices(3)
        for atoms in ase.io.read(path, ":", format="extxyz"):
            charge = int(atoms.info["charge"])
            structure = Structure.of(atoms, charge=charge)
            tensor = np.zeros((3, 3))
            tensor[upper] = np.ravel(atoms.info["polarizability_bohr3"])
            names.append(atoms.info["name"])
            tensors.append(tensor + np.triu(tensor, 1).T)
            numbers.append(torch.tensor(structure.numbers))
            features.append(predictor.features(structure).double())
            where.append(structure.positions)
        most = max(len(x) for x in numbers)
        places = torch.full((len(names), most), -1)
        far = torch.arange(most)[:, None] * torch.tensor([1e6, 0.0, 0.0])
        positions = far.double().repeat(len(names), 1, 1)
        first = 0
        for i, x in enumerate(where):
            places[i, : len(x)] = first + torch.arange(len(x))
            positions[i, : len(x)] = torch.tensor(x)
            first += len(x)
        known = torch.as_tensor(np.array(tensors))
        return cls(names, known, torch.cat(numbers), torch.cat(features), positions, places)

    def of(self, head: PolarizableAtoms, inputs: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Polarizabilities (n, 3, 3) by a head."""
        p, q = inputs or head.inputs(self.features)
        there = (self.places >= 0)[:, :, None, None]
        alone = head.alone(self.numbers, p, q)[self.places.clamp(min=0)]
        alone = torch.where(there, alone, torch.eye(3).double())
        return (head.coupled(alone, self.positions) * there).sum(dim=1)

    def groups(self) -> list[str]:
        """Names without what tells distances of the same molecules apart."""
        return [re.sub(r"(?<=\d)[a-z]$", "", name) for name in self.names]


def parts_of(groups: Sequence[str]) -> np.ndarray:
    """One of five parts for each molecule (n,), the same for all of a group; drawn at random."""
    unique = sorted({*groups})
    order = np.random.default_rng(3).permutation(len(unique))
    part = {unique[g]: i % 5 for i, g in enumerate(order)}
    return np.array([part[group] for group in groups])


def errors_of(found: Tensor, known: Tensor) -> dict[str, np.ndarray]:
    """Errors of each molecule in percent of its isotropic polarizability.

    Of the isotropic one, of the anisotropy, and the root mean square over the tensor.
    """
    size = known.diagonal(dim1=1, dim2=2).mean(dim=1)

    def anisotropy(x: Tensor) -> Tensor:
        shape = x - x.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] * torch.eye(3)
        return (1.5 * shape.square().sum(dim=(1, 2))).sqrt()

    parts = {
        "mean": found.diagonal(dim1=1, dim2=2).mean(dim=1) - size,
        "anisotropy": anisotropy(found) - anisotropy(known),
        "tensor": ((found - known).square().sum(dim=(1, 2)) / 3).sqrt(),
    }
    return {name: (100 * x / size).abs().numpy() for name, x in parts.items()}


def fitted(known: Known, train: np.ndarray, channels: int) -> PolarizableAtoms:
    """Least squares of relative errors on molecules (n,) bool; few large errors count less."""
    elements = sorted({*known.numbers.tolist()})
    inside = known.places[torch.as_tensor(train)]
    inside = inside[inside >= 0]
    head = PolarizableAtoms(elements, channels, invariants(known.features[:1]).shape[1])
    head.whiten(known.features[inside])
    start = torch.tensor([THOLE[chemical_symbols[z]] for z in elements]).double().log()
    head.constants.data.copy_(start)
    inputs = head.inputs(known.features)
    some = torch.as_tensor(train)
    size = known.tensors.diagonal(dim1=1, dim2=2).mean(dim=1)[some]
    optimizer = torch.optim.LBFGS(
        list(head.parameters()), max_iter=STEPS, history_size=30, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = known.of(head, inputs)[some]
        squares = (found - known.tensors[some]).square().sum(dim=(1, 2)) / (3 * size**2)
        loss = (2 * ROBUST**2 * ((1 + squares / ROBUST**2).sqrt() - 1)).sum()
        for name, weight in PENALTIES.items():
            value = getattr(head, name)
            first = {"constants": start, "damping": DAMPING}.get(name, 0.0)
            loss = loss + weight * (value - first).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.eval().requires_grad_(False)


def fit(data: Path, out: Path) -> None:
    """Fit on four of five molecules, measure on the others, and write."""
    predictor = Predictor("default")
    model = predictor.model
    known = Known.read(data, predictor)
    parts = parts_of(known.groups())
    channels = model.network.config.channels
    folds, outside = {}, np.empty(len(parts))
    for i in range(1, 5):  # parts 1 to 4, each from the three others: what penalties are chosen by
        head = fitted(known, (parts != 0) & (parts != i), channels)
        found = known.of(head)
        errors = errors_of(found[parts == i], known.tensors[parts == i])
        outside[parts == i] = errors["mean"]
        for name, values in errors.items():
            folds.setdefault(name, []).append(values)
    shown("cross-validation", {name: np.concatenate(x) for name, x in folds.items()})
    head = fitted(known, parts != 0, channels)
    found = known.of(head)
    own = errors_of(found[parts != 0], known.tensors[parts != 0])
    shown("fitted", own)
    errors = errors_of(found[parts == 0], known.tensors[parts == 0])
    shown("left out", errors)
    outside[parts == 0] = errors["mean"]
    names = [name for name, i in zip(known.names, parts, strict=True) if i == 0]
    kinds = [re.sub(r"_\d+[a-z]*$", "", name) for name in names]
    for kind in sorted({*kinds}):
        of_kind = np.array([k == kind for k in kinds])
        some = {name: values[of_kind] for name, values in errors.items()}
        shown(f"  {kind} ({of_kind.sum()})", some)
    worst = np.argsort(-errors["tensor"])[:5]
    print("worst:", ", ".join(f"{names[i]} {errors['tensor'][i]:.0f} %" for i in worst))
    elements = sorted({*known.numbers.tolist()})
    molecules = [{*known.numbers[places[places >= 0]].tolist()} for places in known.places]
    holding = {z: outside[[z in numbers for numbers in molecules]] for z in elements}
    for z, values in holding.items():
        print(f"with {chemical_symbols[z]}: {values.mean():.1f} % ({len(values)})")
    info = {
        "quantity": "polarizability",
        "level": "PBE/aug-gth-tzv2p, coupled-perturbed; neutral molecules and cations",
        "fingerprints": fingerprints_of(model, elements),
        "model": model.identity(),
        "command": f"benchmarks/polarizabilities.py fit {data.name}",
        "trained_on": [x for x, i in zip(known.names, parts, strict=True) if i],
        "left_out": names,
        "measured": {f"{name}_percent": round(float(x.mean()), 2) for name, x in errors.items()}
        | {f"worst_{name}_percent": round(float(x.max()), 1) for name, x in errors.items()}
        | {"with_percent": {chemical_symbols[z]: round(x.mean(), 1) for z, x in holding.items()}},
    }
    tensors = {key: x.numpy() for key, x in head.state_dict().items()}
    Head("polarizability", tensors, info).save(out)


def compare(data: Path, n: int) -> None:
    """Print errors and times of the shipped head, and of the response of one SCF cycle."""
    predictor = Predictor("default")
    left_out = load_head("polarizability").info["left_out"][:n]
    known = {x.info["name"]: x for x in ase.io.read(data, ":", format="extxyz")}
    errors: dict[str, list[float]] = {"learnt": [], "one cycle": []}
    seconds: dict[str, list[float]] = {"learnt": [], "one cycle": [], "self-consistent": []}
    for name in left_out:
        charge = int(known[name].info["charge"])
        about = predictor.predict(known[name], charge=charge, spacing=0.4).density
        values = np.ravel(known[name].info["polarizability_bohr3"])
        mean = values[[0, 3, 5]].mean()

        def timed(what: str, work: Callable[[], float], mean: float = mean) -> None:
            start = time.process_time()
            found = work()
            seconds[what].append(time.process_time() - start)
            if what in errors:
                errors[what].append(abs(found / mean - 1) * 100)

        def response(conv_tol: float, about: Density = about) -> float:
            where = about.structure, AUGMENTED, predictor.model.recipe
            return coupled_perturbed(converge(*where, about=about, conv_tol=conv_tol)).mean

        timed("learnt", lambda about=about: learned_polarizability(about, predictor).mean)
        timed("one cycle", lambda work=response: work(1e3))
        timed("self-consistent", lambda work=response: work(1e-7))
        print(name, {key: round(x[-1], 2) for key, x in (errors | seconds).items()}, flush=True)
    for what, times in seconds.items():
        error = f"{np.mean(errors[what]):.2f} %, " if what in errors else ""
        print(f"{what}: {error}{np.mean(times):.2f} s")


def shown(what: str, errors: dict[str, np.ndarray]) -> None:
    """Print mean, median and largest errors."""
    found = "; ".join(
        f"{name} {x.mean():.2f} (median {np.median(x):.2f}, worst {x.max():.1f})"
        for name, x in errors.items()
    )
    print(f"{what}: {found} %", flush=True)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("label").add_argument("path", type=Path)
    fitting = commands.add_parser("fit")
    fitting.add_argument("path", type=Path)
    fitting.add_argument("-o", "--out", type=Path, required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("path", type=Path)
    comparing.add_argument("-n", type=int, default=10, help="number of molecules")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if chosen.command == "fit":
            fit(chosen.path, chosen.out)
        elif chosen.command == "compare":
            compare(chosen.path, chosen.n)
        else:
            label(chosen.path)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
