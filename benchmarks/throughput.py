"""Molecules a second: QM9 molecules with grids and with properties alone, beside GFN2-xTB.

    python benchmarks/throughput.py [--n 100] [--workers N]
    python benchmarks/throughput.py --costs          # what a molecule's time is spent on

Training molecules of QM9 (qm9pack), evenly taken. Each row is computed from the structures alone,
with workers of one thread: dipole and expected error from the Gaussians of the network; with
charges fitted to the potential at Merz-Kollman points, Hirshfeld's and those of MBIS, all without a
grid; and densities on the default grid, written as .npz. Wall time is without the start of the
workers; CPU seconds are the median of a molecule. tblite is used where it is installed.

--costs measures the parts in one process, and the network on 1 to 16 molecules at a time, joined
to one graph.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

import denser.dft  # noqa: F401 - before anything else brings in part of PySCF
from charges import measure, xtb
from denser.analysis.charges.without_grid import Conformer, charges_of
from denser.io import write
from denser.labels import qm9
from denser.model.graph import Graph
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.workflows.charge_inputs import Molecule
from recording import add_option, record

KINDS = ("mk", "hirshfeld", "mbis")

BATCHES = (1, 2, 4, 8, 16)


def molecules(n: int) -> list[Molecule]:
    """Training molecules of QM9, evenly chosen."""
    numbers = qm9.split_numbers("train")
    chosen = numbers[np.linspace(0, len(numbers) - 1, n).astype(int)].tolist()
    return [Molecule(name, name, (structure,)) for name, structure in qm9.molecules(chosen)]


def properties(kinds: tuple[str, ...], molecule: Molecule) -> dict:
    """Dipole, expected error and some kinds of charges, without a grid."""
    begin = time.process_time()
    (structure,) = molecule.source
    predictor = Predictor("default", "cpu")
    atoms, excess = predictor.gaussians(structure)
    predictor.wrong_electrons(atoms, excess)
    conformer = Conformer(structure, atoms)
    conformer.dipole()
    for kind in kinds:
        charges_of(kind, [conformer])
    return {"cpu": time.process_time() - begin}


def grid(folder: Path, molecule: Molecule) -> dict:
    """The density on the default grid, written."""
    begin = time.process_time()
    (structure,) = molecule.source
    density = Predictor("default", "cpu").predict(structure).density
    write(folder / f"{molecule.name}.npz", density)
    return {"cpu": time.process_time() - begin}


def costs(structures: list[Structure]) -> dict:
    """CPU milliseconds of a molecule in its parts."""
    predictor = Predictor("default", "cpu")
    network = predictor.network
    n = len(structures)

    def timed(name: str, do: Callable) -> list:
        begin = time.process_time()
        found = do()
        parts[name] = 1000 * (time.process_time() - begin) / n
        print(f"{name:34s} {parts[name]:8.1f} ms", flush=True)
        return found

    parts: dict[str, float] = {}
    pairs = [(s, predictor.gaussians(s)[0]) for s in structures]  # not counted
    with torch.no_grad():
        graphs = timed(
            "neighbours and electrons",
            lambda: [Graph.of(s, None, network.config, network.device) for s in structures],
        )
        for size in BATCHES:
            joined = [graphs[i : i + size] for i in range(0, n, size)]
            name = f"network, {size} at a time"
            timed(name, lambda joined=joined: [network(Graph.joined(some)) for some in joined])
    timed("scaling and dipole", lambda: [atoms.moments(np.zeros(3)) for _, atoms in pairs])
    conformers = [Conformer(*pair) for pair in pairs]
    timed("Merz-Kollman charges", lambda: [charges_of("mk", [c]) for c in conformers])
    timed("density at points for both below", lambda: [c._points for c in conformers])
    timed("Hirshfeld", lambda: [c.hirshfeld for c in conformers])
    timed("MBIS", lambda: [c.mbis for c in conformers])
    return parts


def main() -> None:
    """Print a line for each kind of result, or the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--costs", action="store_true", help="the parts of a molecule's time")
    add_option(parser)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = molecules(chosen.n)
    sizes = [len(molecule.source[0]) for molecule in found]
    figures = {"n": len(found), "mean_atoms": float(np.mean(sizes)), "workers": chosen.workers}
    print(f"{len(found)} molecules of {min(sizes)} to {max(sizes)} atoms, mean "
          f"{np.mean(sizes):.1f}; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    if chosen.costs:
        figures["parts_ms"] = costs([molecule.source[0] for molecule in found])
        record(chosen.results, "costs of a molecule", figures)
        return
    rows = []
    for kinds in [(), *(KINDS[:k] for k in range(1, len(KINDS) + 1))]:
        name = ", ".join(("dipole", *kinds))
        rows.append(measure(name, partial(properties, kinds), found, chosen.workers))
    with tempfile.TemporaryDirectory() as folder:
        do = partial(grid, Path(folder))
        rows.append(measure("density on a grid, written", do, found, chosen.workers))
    try:
        import tblite  # noqa: F401
    except ImportError:
        print("GFN2-xTB: tblite is not installed")
    else:
        rows.append(measure("GFN2-xTB", xtb, found, chosen.workers))
    record(chosen.results, "throughput", figures | {"rows": rows})


if __name__ == "__main__":
    main()
