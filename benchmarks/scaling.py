"""Prediction and one Kohn-Sham step against the SCF and the paper's network, by size.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --only ethanol --threads 1 --skip-paper
    python benchmarks/scaling.py --droplets 100 300 1000 3000 10000 --threads 1

Molecules of 9 to 100 atoms from SMILES, in the paper's box, all in one run. The prediction is the
median of three (in parts: SAD; the network, its Gaussians on the grid and the scaling to N_e), the
paper's network one run after one that is not counted, the step and the SCF one run; the SCF starts
from PySCF's own density. "E error" is that of the one-step energy.

With --droplets, predictions of droplets of water of about these numbers of atoms alone, on a grid
with the spacing of --spacing; "GB" is the largest memory of the process so far. CPU seconds do not
depend on other work as much as wall seconds do.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from importlib import import_module

from denser.types.errors import InputError
from recording import add_option, record
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
    found = []
    for name in chosen.only or MOLECULES:
        atoms = from_smiles(MOLECULES[name])
        prediction, sad, network, predict = time_prediction(predictor, atoms, "paper", 3)
        begin = time.perf_counter()
        step = refine(prediction.density, recipe)
        one_step = time.perf_counter() - begin
        result = scf(atoms, prediction.density.grid, recipe)
        times = (sad, network, predict, one_step, result.seconds)
        ratios = (f"{result.seconds / t:.0f}" for t in (predict, predict + one_step))
        nodes = prediction.density.grid.size
        row = [str(len(atoms)), f"{nodes / 1e6:.2f}", *[f"{t:.2f}" for t in times]]
        row += [str(result.cycles), *ratios]
        figures = {"molecule": name, "n_atoms": len(atoms), "nodes": nodes, "sad_s": sad}
        figures |= {"network_s": network, "prediction_s": predict}
        figures |= {"with_one_step_s": predict + one_step}
        figures |= {"scf_s": result.seconds, "cycles": result.cycles}
        if not chosen.skip_paper:
            paper = paper_seconds(prediction.sad, 1)
            figures |= {f"paper_{key}_s": seconds for key, seconds in paper.items()}
            row += [f"{paper[key]:.1f}" if key in paper else "-" for key in ("float32", "bfloat16")]
        error = 1000 * HARTREE * (step.e_tot - result.e_tot)
        found.append(figures | {"energy_error_mev": error})
        print("".join(f"{value:>11}" for value in row) + f"{error:14.1f}  {name}", flush=True)
    record(chosen.results, "scaling", found, predictor, threads=chosen.threads)


def run_droplets(chosen: argparse.Namespace) -> None:
    """Predict droplets of water and print the table, a row as it comes."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(chosen.threads)
    import torch

    from denser.model.graph import Graph
    from denser.model.predictor import Predictor
    from denser.types.structure import Structure
    from droplets import droplet

    torch.set_num_threads(chosen.threads)
    predictor = Predictor(chosen.model, device="cpu")
    predictor.predict(droplet(2))  # the first call loads and compiles
    print(f"model {predictor.model.name}, {chosen.threads} threads, {chosen.spacing} angstrom")
    head = ("atoms", "nodes/1e6", "SAD", "network", "electrons", "wall", "CPU", "CPU ms/atom", "GB")
    print("".join(f"{title:>12}" for title in head))
    rows = []
    for n in sorted(chosen.droplets):
        atoms = droplet(max(1, round(n / 3)))
        start, start_cpu = time.perf_counter(), time.process_time()
        found = predictor.predict(atoms, spacing=chosen.spacing)
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        start = time.perf_counter()
        Graph.of(Structure.from_ase(atoms, 0), None, predictor.network.config)
        graph = time.perf_counter() - start
        row = f"{len(atoms):12}{found.density.grid.size / 1e6:12.2f}"
        times = (found.seconds_sad, found.seconds_network, graph, wall, cpu)
        row += "".join(f"{t:12.2f}" for t in times)
        print(row + f"{1000 * cpu / len(atoms):12.2f}{peak:12.2f}", flush=True)
        names = ("sad_s", "network_s", "electrons_s", "wall_s", "cpu_s")
        figures = {"n_atoms": len(atoms), "nodes": found.density.grid.size, "memory_gb": peak}
        rows.append(figures | dict(zip(names, times, strict=True)))
    name = predictor.model.name
    record(chosen.results, "droplets", rows, model=name, threads=chosen.threads)


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--only", nargs="+", default=[], help="names of molecules")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--droplets", nargs="+", type=int, help="numbers of atoms")
    parser.add_argument("--spacing", type=float, default=0.2, help="of droplets, angstrom")
    parser.add_argument("--skip-paper", action="store_true", help="not the paper's network")
    add_option(parser)
    try:
        chosen = parser.parse_args()
        run_droplets(chosen) if chosen.droplets else run(chosen)
    except InputError as error:
        print(f"scaling.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
