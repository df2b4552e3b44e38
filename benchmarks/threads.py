"""One thread against many: seconds of a prediction by number of threads and of atoms.

    python benchmarks/threads.py
    python benchmarks/threads.py --threads 1 2 4 8 --repeat 5

Glycine peptides in boxes with 4 angstrom of padding; the shortest of some runs. "chosen" is what
denser does without `--threads` and `OMP_NUM_THREADS`. Run it on an idle machine, and again beside
other work.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

RESIDUES = (0, 2, 5, 9, 18)


def main() -> int:
    """Run and print the table, a row as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, os.cpu_count() or 1])
    parser.add_argument("--residues", nargs="+", type=int, default=RESIDUES)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="default")
    chosen = parser.parse_args()
    if min(*chosen.threads, chosen.repeat, 1) < 1:
        parser.error("--threads and --repeat must be at least 1")

    import torch

    from denser.io.structures import from_smiles
    from denser.model import threads
    from denser.model.predictor import Predictor

    os.environ.pop("OMP_NUM_THREADS", None)
    predictor = Predictor(chosen.model, device="cpu")
    numbers = sorted(set(chosen.threads))
    columns = [f"{n} thread{'s' if n > 1 else ''}" for n in numbers]
    print(f"load of this machine {os.getloadavg()[0]:.1f}; seconds")
    print(f"{'atoms':>7}" + "".join(f"{c:>12}" for c in columns) + f"{'chosen':>12}")
    usual = threads.FEW
    for n in chosen.residues:
        atoms = from_smiles("CC(=O)" + "NCC(=O)" * n + "NC")
        row = []
        for count, few in [*((k, 0) for k in numbers), (max(numbers), usual)]:
            torch.set_num_threads(count)
            threads.FEW = few
            times = []
            for _ in range(chosen.repeat + 1):  # the first is not counted
                start = time.perf_counter()
                predictor.predict(atoms)
                times.append(time.perf_counter() - start)
            row.append(min(times[1:]))
        print(f"{len(atoms):7}" + "".join(f"{t:12.3f}" for t in row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
