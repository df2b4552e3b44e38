"""Fukui functions of the atoms of small molecules to learn from.

    python benchmarks/fukui.py label fukui.xyz
    python benchmarks/fukui.py label fukui.xyz --orbitals LABELS
    python benchmarks/fukui.py fit data/fukui.xyz.gz -o FILE.safetensors

`label`: molecules of QM9's training part and of data/kinds.xyz.gz with up to 14 atoms, closed
shells without metals and of one piece, in an order drawn at random. Each is appended as it is done;
run it again to continue. None is of QM9's test part, and none is held out. The quantity is that of
`denser analyze --reactivity`: squares of the frontier orbitals (mean of a degenerate level), shared
by Hirshfeld's valence atoms; here of self-consistent orbitals in open space, in the model's basis.

With `--orbitals`, f- of molecules whose occupied orbitals a folder of labels holds, in a tenth of
the time. They are those of the box of the label, which changes f- by up to 0.01.

`fit`: on four of five molecules; the others are measured.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from pyscf import gto
from pyscf.dft import gen_grid
from scipy.stats import spearmanr
from torch import Tensor

import denser.dft  # noqa: F401 - before torch
from denser.atoms.sad import atomic_density
from denser.dft.frontier import DEGENERATE
from denser.dft.molecular import MolecularResult, build_molecule, converge
from denser.labels.held_out import why_held_out
from denser.labels.reading import read_label
from denser.model.frontier_atoms import FrontierAtoms, TightBinding
from denser.model.harmonics import invariants
from denser.model.heads import Head, fingerprints_of
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from polarizabilities import LEFT_OUT, candidates, parts_of

SIZES = ((9, 40), (14, 140))
SMALL, LARGER, SHARE = 6, 14, 0.33
"""As in `polarizabilities`."""

SEVERAL = ("dimer", "halogen_bond", "salt", "ion_shell", "droplet", "ion_and_ligand")
"""Kinds of several molecules."""

CONVERGED, LEVEL, FINER = 1e-5, 0, 1
"""Change of the energy in the last cycle, hartree; levels of PySCF's grids, for the SCF and for the
shares of the atoms."""


PENALTIES = {
    "constants": 1e-2, "shared": 0.1, "own": 0.3, "shared_of_tensors": 0.1, "own_of_tensors": 0.3,
    "attractions": 1e-2, "decays": 1e-2, "temperatures": 0.1,
}  # fmt: skip
"""Of squares of the parameters, minus what they start from."""

ROBUST = 0.1
"""Errors of a function (root of the sum of squares) above this count less than their square."""

STEPS = 80

NEAR = 0.02
"""Sites whose shares differ by less are as reactive."""


def condensed(
    structure: Structure, mol: gto.Mole, levels: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Shares f_a of the atoms (n_atoms,) in each level, of orbitals (nao, n); their sums are one.

    f_a = int w_a(r) mean_i |psi_i(r)|^2 dr, with i in the level.
    """
    grids = gen_grid.Grids(mol)
    grids.level = FINER
    grids.build()
    distances = np.linalg.norm(grids.coords[:, None] - structure.positions, axis=2)
    atoms = [atomic_density(z, r) for z, r in zip(structure.numbers, distances.T, strict=True)]
    weights = np.array(atoms) + 1e-300
    weights *= grids.weights / weights.sum(axis=0)
    values = mol.eval_gto("GTOval_sph", grids.coords)
    shares = [weights @ np.square(values @ level).mean(axis=1) for level in levels]
    for found in shares:
        if abs(found.sum() - 1) > 0.02:
            raise InputError(f"a frontier orbital has a norm of {found.sum():.3f} on the points")
    return [found / found.sum() for found in shares]


def frontier_levels(result: MolecularResult) -> list[np.ndarray]:
    """Orbitals of the LUMO's and of the HOMO's level, (nao, n) each."""
    energy, occupied = result.mo_energy, result.mo_occ > 0
    lumo = ~occupied & (energy < energy[~occupied].min() + DEGENERATE)
    homo = occupied & (energy > energy[occupied].max() - DEGENERATE)
    return [result.mo_coeff[:, lumo], result.mo_coeff[:, homo]]


def of_orbitals(path: Path, labels: Path, most: int) -> None:
    """Append f- of molecules whose occupied orbitals are known, up to `most` in all; f+ is NaN."""
    known = {x.info["name"] for x in ase.io.read(path, ":")} if path.exists() else set()
    found = np.random.default_rng(11).permutation(sorted(labels.glob("*.npz")))[:most]
    for file in found:
        stored = read_label(file)
        if stored.mo_energy is None:
            raise InputError(f"{file} has no orbital energies")
        energy = stored.mo_energy[: stored.mo_coeff.shape[1]]
        structure = replace(stored.structure, cell=None)
        charge, homo = structure.charge, energy > energy[-1] - DEGENERATE
        if file.stem in known or charge < 0 or why_held_out(file.stem, structure):
            continue
        mol = build_molecule(structure, Recipe().basis)
        try:
            (minus,) = condensed(structure, mol, [stored.mo_coeff[:, homo]])
        except InputError as error:
            print(f"{file.stem}: {error}", flush=True)
            continue
        out = structure.to_ase()
        out.info = {"name": file.stem, "charge": charge, "homo_hartree": round(energy[-1], 5)}
        append(path, out, np.full(len(minus), np.nan), minus)


def append(path: Path, atoms: Atoms, plus: np.ndarray, minus: np.ndarray) -> None:
    """Append a molecule to a file."""
    atoms.arrays |= {"f_plus": plus.round(5), "f_minus": minus.round(5)}
    ase.io.write(path, atoms, format="extxyz", append=True)


def label(path: Path) -> None:
    """Append what is missing."""
    known = {x.info["name"] for x in ase.io.read(path, ":")} if path.exists() else set()
    predictor = Predictor("default")
    chosen = candidates(SIZES, SMALL, LARGER, SHARE, LEFT_OUT + SEVERAL)
    for i, atoms in enumerate(chosen):
        name, charge = atoms.info["name"], int(atoms.info["charge"])
        if name in known:
            continue
        start = time.process_time()
        try:
            density = predictor.predict(atoms, charge=charge, spacing=0.4).density
            structure, recipe = density.structure, predictor.model.recipe
            if structure.spin:
                continue
            result = converge(
                structure, recipe.basis, recipe, about=density, conv_tol=CONVERGED, level=LEVEL
            )
            plus, minus = condensed(structure, result.mf.mol, frontier_levels(result))
        except InputError as error:
            print(f"{name}: {error}", flush=True)
            continue
        seconds = time.process_time() - start
        out = Atoms(atoms.numbers, atoms.positions)
        out.info = {
            "name": name, "charge": charge, "homo_hartree": round(result.homo, 5),
            "lumo_hartree": round(result.lumo, 5), "seconds": round(seconds, 1),
        }  # fmt: skip
        append(path, out, plus, minus)
        print(f"{i + 1}/{len(chosen)} {name} {seconds:.1f} s", flush=True)


@dataclass(frozen=True, eq=False)
class Known:
    """Molecules with f+ and f- of their atoms (n, 2, m), padded, NaN where unknown."""

    names: list[str]
    electrons: TightBinding
    features: Tensor
    shares: Tensor

    @classmethod
    def read(cls, path: Path, predictor: Predictor) -> Known:
        """Read the file that `label` writes."""
        names, structures, features, shares = [], [], [], []
        for atoms in ase.io.read(path, ":", format="extxyz"):
            structure = Structure.of(atoms, charge=int(atoms.info["charge"]))
            names.append(atoms.info["name"])
            structures.append(structure)
            features.append(predictor.features(structure).double())
            shares.append(np.stack([atoms.arrays["f_plus"], atoms.arrays["f_minus"]], axis=1))
        electrons = TightBinding.of(structures)
        known = electrons.padded(torch.tensor(np.concatenate(shares))).transpose(1, 2)
        return cls(names, electrons, torch.cat(features), known)

    def of(self, head: FrontierAtoms) -> Tensor:
        """f+ and f- by a head."""
        p, q = (self.electrons.padded(x) for x in head.inputs(self.features))
        with torch.no_grad():
            return head(self.electrons, p, q)

    def groups(self) -> list[str]:
        """Names without what tells distances of the same molecules apart."""
        return [re.sub(r"(?<=\d)[a-z]$", "", name.removesuffix("_rattled")) for name in self.names]


def fitted(known: Known, train: np.ndarray, channels: int) -> FrontierAtoms:
    """Least squares of the shares of molecules (n,) bool; few large errors count less."""
    numbers = known.electrons.numbers
    head = FrontierAtoms(
        sorted({*numbers[numbers > 0].tolist()}), channels, invariants(known.features[:1]).shape[1]
    )
    some = torch.as_tensor(train)
    head.whiten(known.features[some[:, None].expand_as(numbers)[numbers > 0]])
    p, q = (known.electrons.padded(x)[some] for x in head.inputs(known.features))
    electrons, shares = known.electrons.part(some), known.shares[some]
    there = ~shares.isnan()
    start = {name: x.detach().clone() for name, x in head.named_parameters()}
    optimizer = torch.optim.LBFGS(
        list(head.parameters()), max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        errors = torch.where(there, head(electrons, p, q) - shares.nan_to_num(), 0.0)
        squares = errors.square().sum(dim=2)
        loss = (2 * ROBUST**2 * ((1 + squares / ROBUST**2).sqrt() - 1)).sum()
        for name, value in head.named_parameters():
            loss = loss + PENALTIES[name] * (value - start[name]).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return head.eval().requires_grad_(False)


def measured(known: Known, found: Tensor, some: np.ndarray) -> dict[str, float]:
    """Mean error and spread, rank correlation and share of right sites, of f+ and of f-."""
    out: dict[str, float] = {}
    for k, name in enumerate(("f_plus", "f_minus")):
        errors, spreads, ranks, right = [], [], [], []
        for i in np.flatnonzero(some):
            numbers = known.electrons.numbers[i]
            there = (numbers > 0).numpy()
            own, true = found[i, k].numpy()[there], known.shares[i, k].numpy()[there]
            if np.isnan(true).any():
                continue
            errors.append(np.abs(own - true).mean())
            spreads.append(np.abs(true - 1 / len(true)).mean())
            if len(true) > 3 and np.ptp(true) > NEAR:
                ranks.append(np.nan_to_num(spearmanr(own, true)[0]) if np.ptp(own) > 0 else 0.0)
            heavy = np.flatnonzero(numbers.numpy()[there] > 1)
            if len(heavy) > 1 and np.ptp(true[heavy]) > NEAR:
                best = np.flatnonzero(own[heavy] > own[heavy].max() - 1e-9)  # several: by chance
                right.append(np.mean(true[heavy][best] > true[heavy].max() - NEAR))
        out |= {
            name: float(np.mean(errors)), f"{name}_spread": float(np.mean(spreads)),
            f"{name}_rank": float(np.mean(ranks)), f"{name}_right": float(np.mean(right)),
            f"{name}_molecules": float(len(errors)),
        }  # fmt: skip
    return out


def by_element(known: Known, train: np.ndarray) -> Tensor:
    """Shares that are the mean of the element, scaled to a sum of 1."""
    numbers = known.electrons.numbers
    out = torch.zeros_like(known.shares)
    for k in range(2):
        for z in {*numbers[numbers > 0].tolist()}:
            of_z = known.shares[torch.as_tensor(train), k][numbers[torch.as_tensor(train)] == z]
            mean = of_z[~of_z.isnan()].mean() if (~of_z.isnan()).any() else torch.tensor(0.05)
            out[:, k][numbers == z] = mean
    return out / out.sum(dim=2, keepdim=True)


def shown(what: str, found: dict[str, float]) -> None:
    """Print them."""
    for name in ("f_plus", "f_minus"):
        print(
            f"{what}, {name} ({found[name + '_molecules']:.0f}): error {found[name]:.4f} of a "
            f"spread of {found[name + '_spread']:.4f}, rank correlation "
            f"{found[name + '_rank']:.2f}, right site {100 * found[name + '_right']:.0f} %",
            flush=True,
        )


def fit(data: Path, out: Path) -> None:
    """Fit on four of five molecules, measure on the others, and write."""
    predictor = Predictor("default")
    model = predictor.model
    known = Known.read(data, predictor)
    channels = model.network.config.channels
    groups = known.groups()
    parts = parts_of(groups)
    rest, left_out = parts != 0, parts == 0
    outside = torch.zeros_like(known.shares)
    for i in range(1, 5):  # from the three others: what penalties are chosen by
        found = known.of(fitted(known, rest & (parts != i), channels))
        outside[torch.as_tensor(parts == i)] = found[torch.as_tensor(parts == i)]
    shown("cross-validation", measured(known, outside, rest))
    numbers = known.electrons.numbers
    equal = (numbers > 0)[:, None] / (numbers > 0).sum(dim=1)[:, None, None]
    equal = equal.double().expand(-1, 2, -1)
    head = fitted(known, rest, channels)
    elements = sorted({*numbers[numbers > 0].tolist()})
    bare = FrontierAtoms(elements, channels, len(head.mean))
    shown("equal shares", measured(known, equal, left_out))
    shown("mean of the element", measured(known, by_element(known, rest), left_out))
    shown("tight binding alone", measured(known, known.of(bare), left_out))
    found = known.of(head)
    shown("fitted", measured(known, found, rest))
    errors = measured(known, found, left_out)
    shown("left out", errors)
    for kind in sorted({re.sub(r"_\d+.*$", "", group) for group in groups}):
        some = left_out & np.array([group.startswith(kind) for group in groups])
        some &= ~known.shares[:, 0, 0].isnan().numpy()
        if some.sum() > 1:
            shown(f"  {kind}", measured(known, found, some))
    names = np.array(known.names)
    info = {
        "quantity": "Fukui function of the atoms",
        "level": "PBE/gth-tzv2p, frontier orbitals; neutral molecules and cations",
        "fingerprints": fingerprints_of(model, elements),
        "model": model.identity(),
        "command": f"benchmarks/fukui.py fit {data.name}",
        "trained_on": names[rest].tolist(),
        "left_out": names[left_out].tolist(),
        "measured": {name: round(x, 4) for name, x in errors.items()},
    }
    tensors = {key: x.numpy() for key, x in head.state_dict().items()}
    Head("fukui", tensors, info).save(out)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    labelling = commands.add_parser("label")
    labelling.add_argument("path", type=Path)
    labelling.add_argument("--orbitals", type=Path, help="folder of labels with orbitals")
    labelling.add_argument("--most", type=int, default=500, help="labels of that folder to try")
    fitting = commands.add_parser("fit")
    fitting.add_argument("path", type=Path)
    fitting.add_argument("-o", "--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        if chosen.command == "fit":
            fit(chosen.path, chosen.out)
        elif chosen.orbitals:
            of_orbitals(chosen.path, chosen.orbitals, chosen.most)
        else:
            label(chosen.path)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
