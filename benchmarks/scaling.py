"""Prediction and one Kohn-Sham step against the SCF and the paper's network, by size.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --only ethanol --threads 1 --skip-paper

Molecules of 9 to 100 atoms from SMILES, in the paper's box, all in one run. The prediction is the
median of three (in parts: SAD; the network, its Gaussians on the grid and the scaling to N_e), the
paper's network one run after one that is not counted, the step and the SCF one run; the SCF starts
from PySCF's own density. "E error" is that of the one-step energy.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from importlib import import_module

from denser.types.errors import InputError
from speed import paper_seconds, time_prediction

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
    from denser.model.predictor import Predictor
    from denser.types.units import HARTREE

    torch.set_num_threads(chosen.threads)
    pyscf.lib.num_threads(chosen.threads)
    predictor = Predictor(chosen.model, device="cpu")
    recipe = predictor.model.recipe
    unknown = set(chosen.only) - set(MOLECULES)
    if unknown:
        raise InputError(f"no molecule named {unknown.pop()!r}; known: {', '.join(MOLECULES)}")
    print(f"model {predictor.model.name}, {chosen.threads} threads, seconds of wall time")
    head = ("atoms", "nodes/1e6", "SAD", "network", "prediction", "one step", "SCF", "cycles")
    head += ("SCF/pred", "SCF/both") + (() if chosen.skip_paper else ("paper fp32", "bf16"))
    print("".join(f"{title:>11}" for title in head) + "   E error/meV  molecule")
    predictor.predict(from_smiles("O"), box="paper")  # the first call loads and compiles
    for name in chosen.only or MOLECULES:
        atoms = from_smiles(MOLECULES[name])
        prediction, sad, network, predict = time_prediction(predictor, atoms, "paper", 3)
        begin = time.perf_counter()
        step = refine(prediction.density, recipe)
        one_step = time.perf_counter() - begin
        result = scf(atoms, prediction.density.grid, recipe)
        times = (f"{t:.2f}" for t in (sad, network, predict, one_step, result.seconds))
        ratios = (f"{result.seconds / t:.0f}" for t in (predict, predict + one_step))
        nodes = f"{prediction.density.grid.size / 1e6:.2f}"
        row = [str(len(atoms)), nodes, *times, str(result.cycles), *ratios]
        if not chosen.skip_paper:
            paper = paper_seconds(prediction.sad, 1)
            row += [f"{paper[key]:.1f}" if key in paper else "-" for key in ("float32", "bfloat16")]
        error = 1000 * HARTREE * (step.e_tot - result.e_tot)
        print("".join(f"{value:>11}" for value in row) + f"{error:14.1f}  {name}", flush=True)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--only", nargs="+", default=[], help="names of molecules")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--skip-paper", action="store_true", help="not the paper's network")
    try:
        run(parser.parse_args())
    except InputError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
