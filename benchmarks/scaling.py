"""Prediction and one Kohn-Sham step against the self-consistent calculation, by size.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --only ethanol --threads 1

Molecules of 9 to 100 atoms from SMILES, in the paper's box, all in one run. The SCF starts from
PySCF's own density; "E error" is that of the one-step energy.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import import_module

from denser.errors import InputError

MOLECULES = {
    "ethanol": "CCO",
    "N-methylbutanamide": "CCCC(=O)NC",
    "ibuprofen ethyl ester": "CC(C)Cc1ccc(cc1)C(C)C(=O)OCC",
    "peptide": "CC(=O)" + "NCC(=O)" * 12 + "NCC",
}


def run(chosen: argparse.Namespace) -> None:
    """Time everything and print the table, a row as it comes."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(chosen.threads)
    import_module("denser.dft")  # before torch: its docstring says why
    import pyscf
    import torch

    from denser.dft.refine import refine
    from denser.dft.scf import scf
    from denser.io.structures import from_smiles
    from denser.prediction import Predictor
    from denser.units import HARTREE

    torch.set_num_threads(chosen.threads)
    pyscf.lib.num_threads(chosen.threads)
    predictor = Predictor(chosen.model, device="cpu")
    recipe = predictor.model.recipe
    unknown = set(chosen.only) - set(MOLECULES)
    if unknown:
        raise InputError(f"no molecule named {unknown.pop()!r}; known: {', '.join(MOLECULES)}")
    print(f"model {predictor.model.name}, {chosen.threads} threads, seconds of wall time")
    head = ("atoms", "prediction", "one step", "both", "SCF", "cycles", "SCF/pred", "SCF/both")
    print("".join(f"{title:>11}" for title in head) + "   E error/meV  molecule")
    predictor.predict(from_smiles("O"), box="paper")  # the first call loads and compiles
    for name in chosen.only or MOLECULES:
        atoms = from_smiles(MOLECULES[name])
        begin = time.perf_counter()
        prediction = predictor.predict(atoms, box="paper")
        middle = time.perf_counter()
        step = refine(prediction.density, recipe)
        end = time.perf_counter()
        result = scf(atoms, prediction.density.grid, recipe)
        predict, both = middle - begin, end - begin
        times = (f"{t:.2f}" for t in (predict, end - middle, both, result.seconds))
        ratios = (f"{result.seconds / t:.0f}" for t in (predict, both))
        row = [str(len(atoms)), *times, str(result.cycles), *ratios]
        error = 1000 * HARTREE * (step.e_tot - result.e_tot)
        print("".join(f"{value:>11}" for value in row) + f"{error:14.1f}  {name}", flush=True)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--only", nargs="+", default=[], help="names of molecules")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
