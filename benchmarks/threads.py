"""One thread against many: seconds of a prediction by number of threads and of atoms.

    python benchmarks/threads.py
    python benchmarks/threads.py --threads 1 2 4 8 --busy 0 8 --repeat 5

Glycine peptides in boxes with 4 angstrom of padding; the median of some runs. "chosen" is what
denser does without `--threads` and `OMP_NUM_THREADS`. --busy starts so many other processes that
never rest: by default none, and as many as there are processors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from recording import add_option, record

RESIDUES = (0, 2, 5, 9, 18)


def main() -> int:
    """Run and print the table, a row as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, os.cpu_count() or 1])
    parser.add_argument("--busy", nargs="+", type=int, default=[0, os.cpu_count() or 1])
    parser.add_argument("--residues", nargs="+", type=int, default=RESIDUES)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--model", default="default")
    add_option(parser)
    chosen = parser.parse_args()
    if min(*chosen.threads, chosen.repeat, 1) < 1:
        parser.error("--threads and --repeat must be at least 1")

    import torch

    from denser.io.structures import from_smiles
    from denser.model.predictor import Predictor

    predictor = Predictor(chosen.model, device="cpu")
    numbers = sorted(set(chosen.threads))
    columns = [f"{n} thread{'s' if n > 1 else ''}" for n in numbers]
    print(f"load of this machine {os.getloadavg()[0]:.1f}; seconds")
    print(f"{'atoms':>7}{'others':>8}" + "".join(f"{c:>12}" for c in columns) + f"{'chosen':>12}")
    rows = []
    for busy in chosen.busy:
        with others(busy):
            for n in chosen.residues:
                atoms = from_smiles("CC(=O)" + "NCC(=O)" * n + "NC")
                row = {}
                for name, count in [*((str(k), k) for k in numbers), ("chosen", max(numbers))]:
                    torch.set_num_threads(count)
                    os.environ["OMP_NUM_THREADS"] = name  # the number is kept
                    if name == "chosen":
                        del os.environ["OMP_NUM_THREADS"]
                    times = []
                    for _ in range(chosen.repeat + 1):  # the first is not counted
                        start = time.perf_counter()
                        predictor.predict(atoms)
                        times.append(time.perf_counter() - start)
                    row[name] = statistics.median(times[1:])
                rows.append({"n_atoms": len(atoms), "busy": busy, "seconds": row})
                text = "".join(f"{t:12.3f}" for t in row.values())
                print(f"{len(atoms):7}{busy:8}{text}", flush=True)
    record(chosen.results, "threads", rows, model=chosen.model, threads=max(numbers))
    return 0


@contextmanager
def others(n: int) -> Iterator[None]:
    """So many processes that never rest."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
