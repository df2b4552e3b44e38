"""How RESP charges of predictions compare with those of HF/6-31G*, for Amber-like force fields.

    python benchmarks/hf_charges.py --keep hf_potentials [--n 200]

For 200 molecules of 3 to 12 heavy atoms, from data/kinds.xyz.gz and from the train part of QM9
(qm9pack), without any that is held out, RHF/6-31G* with density fitting gives the potential at the
Merz-Kollman points. A molecule takes some seconds, and what is in the folder `--keep` is not
computed again, so that the command can be interrupted. The table has the relative error of this
potential, from RESP charges of HF itself, of the prediction, and of the prediction with `--like hf`
(fitted to nine tenths of the molecules, and judged on the other tenth). The table of
`denser.analysis.charges.like_hf`, fitted to all, is printed.
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import read
from pyscf import gto, scf
from scipy.spatial.distance import cdist

import denser.dft  # noqa: F401 - before torch
from denser.analysis.charges.esp_charges import merz_kollman_points
from denser.analysis.charges.esp_fit import fit_resp
from denser.analysis.charges.like_hf import Kind, kinds_of_bonds
from denser.analysis.charges.without_grid import Conformer, resp
from denser.io.files import read_bytes
from denser.labels.held_out import why_held_out
from denser.labels.qm9 import molecules, split_numbers
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from recording import add_option, record

STRUCTURES = Path(__file__).parents[1] / "data" / "kinds.xyz.gz"

FAMILIES = {
    "aminoacid": 30, "sulfonamide": 16, "carboxylate": 8, "halogen": 16, "sulfur": 18,
    "nitrogen": 18, "phosphorus": 8, "cation": 14, "anion": 10, "nucleic": 4, "drug": 5,
    "peptide": 4,
}  # fmt: skip
"""Molecules of each family of data/kinds.xyz.gz; the others are from QM9."""

N_QM9 = 50
MOST_HEAVY = {"nucleic": 12, "drug": 12, "peptide": 12}
"""Heavy atoms of a molecule of a family; 9 of the others."""

ELEMENTS = (1, 6, 7, 8, 9, 15, 16, 17)
FOLDS = 10
RESTRAINT = 0.3
"""Of increments, e^-2, towards zero."""


def chosen(n: int) -> Iterator[tuple[str, Structure]]:
    """Names and structures; the first n of a fixed order."""
    frames = read(io.StringIO(read_bytes(STRUCTURES).decode()), ":", format="extxyz")
    found: dict[str, Structure] = {}
    for family, number in FAMILIES.items():
        fit = {}
        for atoms in frames:
            name = str(atoms.info["name"])
            heavy = int((atoms.numbers > 1).sum())
            if name.rpartition("_")[0] == family and 3 <= heavy <= MOST_HEAVY.get(family, 9):
                structure = Structure.of(atoms)
                if set(structure.numbers) <= set(ELEMENTS) and not why_held_out(name, structure):
                    fit[name] = structure
        names = sorted(fit)
        random.Random(0).shuffle(names)
        found |= {name: fit[name] for name in names[:number]}
    numbers = random.Random(0).sample([int(i) for i in split_numbers("train") if i > 1000], N_QM9)
    for name, structure in molecules(tuple(sorted(numbers))):
        if not why_held_out(name, structure):
            found[name] = structure
    order = sorted(found)
    random.Random(0).shuffle(order)
    for name in order[:n]:
        yield name, found[name]


def hartree_fock(structure: Structure, points: np.ndarray) -> np.ndarray:
    """Potential of RHF/6-31G* (Cartesian) at points (n, 3), bohr: (n,), hartree/e."""
    atoms = list(zip(structure.symbols, structure.positions, strict=True))
    mol = gto.M(
        atom=atoms, unit="bohr", basis="6-31g*", cart=True, charge=structure.charge, verbose=0
    )
    mf = scf.RHF(mol).density_fit(auxbasis="def2-universal-jkfit")
    mf.conv_tol = 1e-7
    mf.kernel()
    if not mf.converged:
        raise SystemExit(f"RHF of {structure.formula} did not converge")
    dm = mf.make_rdm1()
    blocks = np.array_split(points, len(points) // 100 + 1)
    electrons = [np.einsum("ipq,pq->i", mol.intor("int1e_grids", grids=b), dm) for b in blocks]
    nuclei = (mol.atom_charges() / cdist(points, mol.atom_coords())).sum(axis=1)
    return nuclei - np.concatenate(electrons)


def kept(folder: Path, name: str, structure: Structure, points: np.ndarray) -> np.ndarray:
    """The potential from the folder, or computed and written there."""
    path = folder / f"{name}.npz"
    if path.exists():
        stored = np.load(path)
        if np.array_equal(stored["positions"], structure.positions):
            return np.asarray(stored["values"])
    values = hartree_fock(structure, points)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{name}.npz")
    np.savez(partial, positions=structure.positions, values=values)
    partial.replace(path)
    return values


@dataclass(frozen=True)
class Fit:
    """A molecule: the potential of HF at the points, minus that of the mean charge, and charges.

    Columns of `design` are the potentials of the predicted charges about their mean, and of each
    kind of bond; of `charges` the charges themselves. All potentials are divided by the size of
    HF's.
    """

    structure: Structure
    potential: np.ndarray
    design: np.ndarray
    charges: np.ndarray
    by_hf: np.ndarray
    hf: np.ndarray

    @classmethod
    def of(
        cls, structure: Structure, values: np.ndarray, kinds: list[Kind], model: Predictor
    ) -> Fit:
        """Fit both."""
        points = merz_kollman_points(structure)
        own = fit_resp([structure], [points], [values]).charges
        found = resp([Conformer(structure, model.gaussians(structure)[0])]).charges
        mean = structure.charge / len(structure)
        inverse, size = 1 / cdist(points, structure.positions), np.linalg.norm(values)
        charges = np.zeros((len(structure), 1 + len(kinds)))
        charges[:, 0] = found - mean
        for i, j, kind in kinds_of_bonds(structure):
            charges[i, 1 + kinds.index(kind)] += 1
            charges[j, 1 + kinds.index(kind)] -= 1
        return cls(
            structure,
            (values - inverse.sum(axis=1) * mean) / size,
            inverse @ charges / size,
            charges,
            (values - inverse @ own) / size,
            own - mean,
        )


def solve(fits: list[Fit], n: int) -> np.ndarray:
    """The scale and the first n - 1 increments, with a restraint on these."""
    normal = sum(fit.design[:, :n].T @ fit.design[:, :n] for fit in fits)
    right = sum(fit.design[:, :n].T @ fit.potential for fit in fits)
    normal[np.arange(1, n), np.arange(1, n)] += RESTRAINT
    return np.linalg.solve(normal, right)


def validated(fits: list[Fit], n: int) -> list[np.ndarray]:
    """Parameters for each molecule, from the nine tenths of molecules without it."""
    parts = [solve([f for j, f in enumerate(fits) if j % FOLDS != k], n) for k in range(FOLDS)]
    return [parts[i % FOLDS] for i in range(len(fits))]


def main() -> None:
    """Compute, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True, help="folder for potentials of HF")
    parser.add_argument("--n", type=int, default=200)
    add_option(parser)
    options = parser.parse_args()
    model, molecules_ = Predictor("default"), list(chosen(options.n))
    kinds = sorted({kind for _, s in molecules_ for _, _, kind in kinds_of_bonds(s)})
    fits = []
    for name, structure in molecules_:
        values = kept(options.keep, name, structure, merz_kollman_points(structure))
        fits.append(Fit.of(structure, values, kinds, model))
        difference = np.sqrt(((fits[-1].hf - fits[-1].charges[:, 0]) ** 2).mean())
        print(f"{name:16s} {difference:.3f} e rms difference", flush=True)
    table = [
        _row("RESP of the prediction", fits, [np.ones(1)] * len(fits)),
        _row("with a scale alone", fits, validated(fits, 1)),
        _row("with `--like hf`", fits, validated(fits, 1 + len(kinds))),
    ]
    own = [100 * float(np.linalg.norm(f.by_hf)) for f in fits]
    table.append({"charges": "RESP of HF/6-31G* itself", **_errors(fits, own), "rms": 0.0})
    x = solve(fits, 1 + len(kinds))
    print(f"SCALE = {x[0]:.4f}\nINCREMENTS = {{")
    for kind, shift in zip(kinds, x[1:], strict=True):
        print(f"    {kind}: {shift:.4f},")
    print(f"}}\na scale alone: {solve(fits, 1)[0]:.4f}")
    for row in table:
        print(row)
    ions = sum(fit.structure.charge != 0 for fit in fits)
    figures = {"n": len(fits), "n_ions": ions, "scale": float(x[0]), "kinds": len(kinds)}
    record(options.results, "hf_charges", figures | {"rows": table}, model)


def _row(what: str, fits: list[Fit], parameters: list[np.ndarray]) -> dict:
    """Errors of the potential and of the charges."""
    errors, charges = [], []
    for f, x in zip(fits, parameters, strict=True):
        errors.append(100 * float(np.linalg.norm(f.potential - f.design[:, : len(x)] @ x)))
        charges.append(f.hf - f.charges[:, : len(x)] @ x)
    rms = float(np.sqrt((np.concatenate(charges) ** 2).mean()))
    return {"charges": what, **_errors(fits, errors), "rms": rms}


def _errors(fits: list[Fit], errors: list[float]) -> dict:
    """Relative errors of the potential, %."""
    neutral = [e for f, e in zip(fits, errors, strict=True) if f.structure.charge == 0]
    ions = [e for f, e in zip(fits, errors, strict=True) if f.structure.charge != 0]
    return {
        "mean": float(np.mean(neutral)),
        "median": float(np.median(neutral)),
        "ions": float(np.mean(ions)) if ions else None,
    }


if __name__ == "__main__":
    main()
