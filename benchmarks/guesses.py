"""Cycles of PySCF's SCF from the prediction and from PySCF's own starts.

python benchmarks/guesses.py                                  # all 20 molecules, 4 levels
python benchmarks/guesses.py --smallest 10 --basis def2-svp   # some, smallest first
python benchmarks/guesses.py --only acetate water -o guesses.json   # the same command continues

Half of the molecules are of QM9's kind, the others are ions, compounds of S, P and Cl, and
pieces of drugs. A cycle builds one Fock matrix. "builds" counts those of the start too: one for the
starting density matrix of every start, and one for that of `vsap` and of the prediction. All use
the molecular code with PySCF's settings; --density-fit adds density fitting.

"denser" is `denser.pyscf_guess`, "matrix" the same with `coarse=False`, and "minao+" the coarse
calculation from `minao`. "coarse" are the cycles of coarse calculations, which "builds" leaves out
and "seconds" has. Points and fitted integrals are made once for a molecule, and the time is added
to each start.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from pyscf import dft, gto
from pyscf.dft import gen_grid

import denser
import denser.dft
from denser.dft.guess import coarse_calculation
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from recording import add_option, record

QM9_LIKE = {
    "water": "O",
    "ammonia": "N",
    "formaldehyde": "C=O",
    "acetonitrile": "CC#N",
    "formamide": "NC=O",
    "ethanol": "CCO",
    "furan": "c1ccoc1",
    "imidazole": "c1c[nH]cn1",
    "acetone": "CC(=O)C",
    "fluorobenzene": "c1ccccc1F",
}
OTHERS = {
    "chloromethane": "CCl",
    "methylphosphine": "CP",
    "methylammonium": "C[NH3+]",
    "acetate": "CC(=O)[O-]",
    "dimethyl sulfide": "CSC",
    "dimethyl sulfoxide": "CS(=O)C",
    "thiophene": "c1ccsc1",
    "dimethyl phosphate": "COP(=O)([O-])OC",
    "methanesulfonamide": "CS(=O)(=O)N",
    "acetanilide": "CC(=O)Nc1ccccc1",
}
SMILES = QM9_LIKE | OTHERS
GUESSES = ("minao", "atom", "vsap", "huckel", "minao+", "matrix", "denser")
OTHERS_OF_PYSCF = GUESSES[:4]
EXTRA_BUILDS = {"vsap": 1, "matrix": 1, "denser": 1}


def measure(mf: dft.rks.RKS, guess: str, predictor: Predictor) -> dict[str, float]:
    """Cycles, builds, coarse cycles, wall time in seconds with the guess's, energy in hartree."""
    start = time.perf_counter()
    coarse = None
    if guess in ("matrix", "denser"):
        dm = denser.pyscf_guess(mf, predictor, coarse=False)
    else:
        dm = mf.get_init_guess(key=guess.rstrip("+"))
    if guess in ("minao+", "denser"):
        coarse = coarse_calculation(mf)
        coarse.kernel(dm)
        dm = coarse.make_rdm1()
    mf.kernel(dm)
    cycles = mf.cycles if mf.converged else mf.max_cycle
    return {
        "cycles": cycles,
        "builds": cycles + 1 + EXTRA_BUILDS.get(guess, 0),
        "coarse": 0 if coarse is None else coarse.cycles,
        "seconds": time.perf_counter() - start,
        "hartree": mf.e_tot,
    }


def main() -> None:
    """Print the table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help=", ".join(SMILES))
    parser.add_argument("--smallest", type=int, default=len(SMILES), help="number of molecules")
    parser.add_argument("--basis", nargs="+", default=["def2-svp", "def2-tzvp"])
    parser.add_argument("--xc", nargs="+", default=["pbe", "b3lyp"])
    parser.add_argument("--density-fit", action="store_true")
    parser.add_argument("-o", "--out", type=Path, help="write the results to a JSON file")
    add_option(parser)
    options = parser.parse_args()
    names = options.only or list(SMILES)
    if unknown := set(names) - set(SMILES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SMILES)}")
    predictor = Predictor()
    structures = {name: Structure.of(denser.from_smiles(SMILES[name])) for name in names}
    names = sorted(names, key=lambda name: structures[name].numbers.sum())[: options.smallest]
    results: list[dict] = []
    if options.out and options.out.exists():
        results = json.loads(options.out.read_text())
    asked = []  # rows of this command
    for basis in options.basis:
        for xc in options.xc:
            print(f"\n{xc}/{basis}: cycles\n{'':20}" + "".join(f"{g:>8}" for g in GUESSES))
            for name in names:
                key = {"molecule": name, "basis": basis, "xc": xc, "fit": options.density_fit}
                row = next((r for r in results if key.items() <= r.items()), None)
                if row is not None and set(GUESSES) <= row.keys():
                    asked.append(row)
                    show(row)
                    continue
                structure = structures[name]
                mol = gto.M(
                    atom=list(zip(structure.symbols, structure.positions, strict=True)),
                    unit="bohr", charge=structure.charge, basis=basis, verbose=0,
                )  # fmt: skip
                if row is None:
                    row = key | {"atoms": len(structure)}
                    results.append(row)
                start = time.perf_counter()
                grids = gen_grid.Grids(mol).build()
                fitted = (
                    mol.RKS(xc=xc).density_fit().with_df.build() if options.density_fit else None
                )
                made = time.perf_counter() - start
                for guess in (g for g in GUESSES if g not in row):
                    mf = mol.RKS(xc=xc)
                    if fitted is not None:
                        mf = mf.density_fit()
                        mf.with_df = fitted
                    mf.grids = grids
                    row[guess] = measure(mf, guess, predictor)
                    row[guess]["seconds"] += made
                asked.append(row)
                show(row)
                if options.out:
                    rows = ",\n".join(map(json.dumps, results))
                    options.out.write_text(f"[\n{rows}\n]\n")
            report([r for r in asked if (r["basis"], r["xc"]) == (basis, xc)])
    print(f"\nall, {len(asked)} calculations of {len(names)} molecules")
    record(options.results, "guesses", report(asked), predictor)
    if options.out:
        print(f"written to {options.out}")


def show(row: dict) -> None:
    """Print the cycles of a molecule."""
    cycles = "".join(f"{row[g]['cycles']:8}" for g in GUESSES)
    print(f"{row['molecule']:20}{cycles}", flush=True)


def report(rows: list[dict]) -> dict:
    """Print the means, and what the prediction saves against the best other start."""
    means = {}
    for key in ("cycles", "builds", "coarse", "seconds"):
        means[key] = {g: float(np.mean([row[g][key] for row in rows])) for g in GUESSES}
        print(f"{'mean ' + key:20}" + "".join(f"{means[key][g]:8.1f}" for g in GUESSES))
    best = min(OTHERS_OF_PYSCF, key=means["cycles"].__getitem__)
    for key in ("cycles", "builds", "seconds"):
        share = 1 - means[key]["denser"] / means[key][best]
        each = [1 - row["denser"][key] / row[best][key] for row in rows]
        print(f"{key} saved against {best}: {100 * share:.0f} % (worst {100 * min(each):.0f} %)")
        means[f"{key}_saved_percent"] = {"mean": 100 * share, "worst": 100 * min(each)}
    return {"n": len(rows), "best_other": best} | means


if __name__ == "__main__":
    main()
