"""Learning curves on features of the trained network, beside those on Morgan fingerprints.

    python benchmarks/features.py -o runs/features.json --plot docs/images/learning_curves.png

A kernel ridge regression learns polarizability, HOMO, gap and atomization energy of QM9 molecules
(B3LYP/6-31G(2df,p), as in the data set) from 100, 300 and 1,000 of them, and is measured on 400
others; all come from the training part of the split. "network" are the features of `denser
features`: sums over the atoms for polarizability and atomization energy, means for HOMO and gap.
"Morgan" are counts of Morgan's environments of radius 2 (RDKit), "composition" the numbers of atoms
of each element. "SOAP" (if the package dscribe is there; 6 angstrom, 8 radial functions, degree 6)
is summed or averaged over the atoms like the features. Width of the kernel and ridge are chosen by
fivefold cross-validation within the molecules to learn from. Mean absolute errors.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from rdkit import Chem, RDLogger
from rdkit.Chem import rdFingerprintGenerator
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial.distance import cdist

from denser.labels import qm9
from denser.model.predictor import Predictor
from denser.pictures.plot import save_figure
from denser.training.folder import write_json
from denser.types.units import HARTREE
from denser.workflows.features import features
from recording import add_option, record

N_TEST, SIZES = 400, (100, 300, 1000)
PROPERTIES = {
    "polarizability": ("Polarizability_bohr3", "bohr^3", 1.0, True),
    "HOMO": ("HOMO_au", "eV", HARTREE, False),
    "gap": ("HOMO_LUMO_gap_au", "eV", HARTREE, False),
    "atomization energy": ("InternalEnergy_0K_au", "eV", HARTREE, True),
}
"""Column, unit, factor from the table's unit, and whether it grows with the molecule."""

ELEMENTS = (1, 6, 7, 8, 9)
STYLES = {"network": "o-", "SOAP": "s--", "Morgan": "^:", "composition": "v:"}
WIDTHS, RIDGES = (0.5, 1.0, 2.0, 4.0, 8.0), (1e-8, 1e-6, 1e-4, 1e-2)


def gathered(n: int, predictor: Predictor) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs {name: (n, k)} and values {property: (n,)} of molecules drawn at random."""
    numbers = np.random.default_rng(5).permutation(qm9.split_numbers("train"))[: n + 100]
    columns = tuple(entry[0] for entry in PROPERTIES.values())
    known = dict(qm9.table(tuple(int(i) for i in numbers), ("SMILES", *columns)))
    structures = dict(qm9.molecules(tuple(int(i) for i in numbers)))
    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    soap = soap_of_atoms()
    inputs: dict[str, list] = {"sum": [], "mean": [], "Morgan": [], "composition": []}
    if soap is not None:
        inputs |= {"SOAP sum": [], "SOAP mean": []}
    values: dict[str, list] = {name: [] for name in PROPERTIES}
    chosen = [i for i in numbers.tolist() if i in known and f"qm9_{i:06d}" in structures][:n]
    console = Console(stderr=True)
    for i in track(chosen, "features", console=console, transient=True):
        structure = structures[f"qm9_{i:06d}"]
        found = features(predictor, structure)
        inputs["sum"].append(found.sum(axis=0))
        inputs["mean"].append(found.mean(axis=0))
        if soap is not None:
            atoms = soap(structure.to_ase())
            inputs["SOAP sum"].append(atoms.sum(axis=0))
            inputs["SOAP mean"].append(atoms.mean(axis=0))
        molecule = Chem.AddHs(Chem.MolFromSmiles(known[i][0]))
        inputs["Morgan"].append(morgan.GetCountFingerprintAsNumPy(molecule).astype(float))
        inputs["composition"].append([(structure.numbers == z).sum() for z in ELEMENTS])
        for name, text in zip(PROPERTIES, known[i][1:], strict=True):
            values[name].append(float(text) * PROPERTIES[name][2])
    return (
        {name: np.array(rows, dtype=float) for name, rows in inputs.items()},
        {name: np.array(rows) for name, rows in values.items()},
    )


def soap_of_atoms() -> Callable[[Atoms], np.ndarray] | None:
    """A callable for the SOAP of each atom (n_atoms, k); None without the package dscribe."""
    try:
        from dscribe.descriptors import SOAP
    except ImportError:
        print("without SOAP: pip install dscribe", file=sys.stderr)
        return None
    return SOAP(species=ELEMENTS, r_cut=6.0, n_max=8, l_max=6).create


def draw(rows: list[dict], path: Path) -> None:
    """Learning curves of each property, one panel each."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(10.0, 2.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(PROPERTIES)), PROPERTIES, strict=True):
        for row in (row for row in rows if row["property"] == name):
            errors = row["errors"]
            axes.loglog(
                list(errors), list(errors.values()), STYLES[row["input"]],
                label=row["input"], markersize=4,
            )  # fmt: skip
            axes.set_title(f"{name}, {row['unit']}", fontsize=9)
        axes.set_xticks(list(errors), [str(n) for n in errors])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.tick_params(labelsize=8)
        axes.set_xlabel("molecules to learn from", fontsize=8)
    figure.axes[0].set_ylabel("mean absolute error", fontsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right", fontsize=8)
    save_figure(figure, path, 150)
    print(f"wrote {path}")


def predicted(x: np.ndarray, y: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Kernel ridge regression on standardised inputs after a linear fit of the composition."""
    scale = x.std(axis=0) + 1e-9
    x, others = x / scale, others / scale
    squared = cdist(x, x, "sqeuclidean")
    apart = cdist(others, x, "sqeuclidean")
    typical = np.median(squared[squared > 0])
    fold = np.arange(len(y)) % 5
    best = (np.inf, 0.0, 0.0)
    for width in WIDTHS:
        kernel = np.exp(-squared / (width**2 * typical))
        for ridge in RIDGES:
            errors = [
                np.abs(
                    kernel[np.ix_(fold == k, fold != k)] @ _solved(kernel, y, fold != k, ridge)
                    - y[fold == k]
                ).mean()
                for k in range(5)
            ]
            best = min(best, (float(np.mean(errors)), width, ridge))
    _, width, ridge = best
    kernel = np.exp(-squared / (width**2 * typical))
    weights = _solved(kernel, y, np.ones(len(y), dtype=bool), ridge)
    return np.exp(-apart / (width**2 * typical)) @ weights


def _solved(kernel: np.ndarray, y: np.ndarray, some: np.ndarray, ridge: float) -> np.ndarray:
    own = kernel[np.ix_(some, some)]
    return np.linalg.solve(own + ridge * np.eye(len(own)), y[some])


def error(x: np.ndarray, counts: np.ndarray, y: np.ndarray, n: int) -> float:
    """Mean absolute error on the last `N_TEST` molecules of a fit to the first `n`.

    What is linear in the numbers of atoms is fitted first, the same for all inputs.
    """
    terms = np.column_stack([np.ones(len(y)), counts])
    linear = terms @ np.linalg.lstsq(terms[:n], y[:n], rcond=1e-8)[0]
    rest = predicted(x[:n], (y - linear)[:n], x[-N_TEST:])
    return float(np.abs(linear[-N_TEST:] + rest - y[-N_TEST:]).mean())


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/features.json"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--plot", type=Path, help="picture of the learning curves (.png)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    add_option(parser)
    chosen = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    predictor = Predictor(chosen.model)
    inputs, values = gathered(max(chosen.sizes) + N_TEST, predictor)
    rows = []
    for name, (_, unit, _, grows) in PROPERTIES.items():
        kinds = {
            "network": inputs["sum" if grows else "mean"],
            "Morgan": inputs["Morgan"],
            "composition": inputs["composition"],
        }
        if "SOAP sum" in inputs:
            kinds["SOAP"] = inputs["SOAP sum" if grows else "SOAP mean"]
        for kind, x in kinds.items():
            errors = {n: error(x, inputs["composition"], values[name], n) for n in chosen.sizes}
            rows.append({"property": name, "unit": unit, "input": kind, "errors": errors})
    table = Table("property", "unit", "input", *(f"{n} molecules" for n in chosen.sizes))
    for row in rows:
        shown = (f"{x:.3f}" for x in row["errors"].values())
        table.add_row(row["property"], row["unit"], row["input"], *shown)
    Console().print(table)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(chosen.out, {"n_test": N_TEST, "model": chosen.model, "rows": rows})
    print(f"wrote {chosen.out}")
    if chosen.plot:
        draw(rows, chosen.plot)
    record(chosen.results, "features", {"n_test": N_TEST, "rows": rows}, predictor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
