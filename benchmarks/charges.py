"""Molecules a second of `denser charges`, beside GFN2-xTB where tblite is installed.

    python benchmarks/charges.py [--n 100] [--workers N] [--kinds resp,hirshfeld]
    python benchmarks/charges.py --large 300 600 1200       # droplets of water
    python benchmarks/charges.py --files FILE ... [--kinds resp,mbis]     # any structures

The molecules are drug-like ones of data/kinds.xyz.gz (14 to 48 atoms), evenly taken from the file.
Each kind of charges is computed from the structures alone, with one worker of one thread for each
core. Seconds are wall time without the start of the workers; CPU seconds are those of one molecule.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule as build
from ase.io import read

import denser.dft  # noqa: F401 - before anything else brings in part of PySCF
from denser.analysis.charges.without_grid import Conformer, charges_of
from denser.io.files import read_bytes
from denser.io.structures import as_structure
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.workflows import many
from denser.workflows.charges import ChargeSettings, Molecule, charges
from droplets import droplet
from recording import add_option, record

STRUCTURES = Path(__file__).parents[1] / "data" / "kinds.xyz.gz"


def drugs(n: int) -> list[Atoms]:
    """Drug-like molecules of the file, evenly chosen."""
    import io

    frames = read(io.StringIO(read_bytes(STRUCTURES).decode()), ":", format="extxyz")
    found = [atoms for atoms in frames if str(atoms.info["name"]).startswith("drug_")]
    return [found[i] for i in np.linspace(0, len(found) - 1, min(n, len(found))).astype(int)]


def work(settings: ChargeSettings, molecule: Molecule) -> dict:
    """Charges of a molecule, and the CPU seconds of this process."""
    begin = time.process_time()
    charges(molecule, settings)
    return {"cpu": time.process_time() - begin}


def xtb(molecule: Molecule) -> dict:
    """GFN2-xTB of tblite on the same molecule."""
    from tblite.interface import Calculator

    begin = time.process_time()
    (structure,) = molecule.source
    calculator = Calculator(
        "GFN2-xTB", structure.numbers, structure.positions, charge=structure.charge
    )
    calculator.set("verbosity", 0)
    calculator.singlepoint()
    return {"cpu": time.process_time() - begin}


def measure(name: str, do: object, molecules: list[Molecule], workers: int) -> dict:
    """Run, print a line, return its figures; the first molecules, one a worker, load the model."""
    ends, seconds = [], []

    def take(molecule: Molecule, result: object) -> None:
        if not isinstance(result, dict):
            raise SystemExit(f"{molecule.name}: {result}")
        ends.append(time.perf_counter())
        seconds.append(result["cpu"])

    many.run(molecules, do, take, workers)
    skip = 2 * workers
    rate = (len(ends) - 1 - skip) / (ends[-1] - ends[skip])
    each = float(np.median(seconds[skip:]))
    print(f"{name:28s} {rate:8.2f} molecules/s   {each:8.3f} CPU s each")
    return {"charges": name, "per_second": rate, "cpu_s": each}


def large(structures: dict[str, Structure], kinds: list[str]) -> list[dict]:
    """Charges of single structures, in CPU seconds; kinds do not share their points."""
    predictor, rows = Predictor("default", "cpu"), []
    predictor.gaussians(Structure.of(build("H2O")))  # the program gets ready
    for name, structure in structures.items():
        begin = time.process_time()
        density, _ = predictor.gaussians(structure)
        row = {"name": name, "atoms": len(structure), "network": time.process_time() - begin}
        for kind in kinds:
            begin = time.process_time()
            charges_of(kind, [Conformer(structure, density)])
            row[kind] = time.process_time() - begin
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Print a line for each kind of charges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--kinds", default="resp")
    parser.add_argument("--large", type=int, nargs="+", help="atoms of large structures instead")
    parser.add_argument("--files", type=Path, nargs="+", help="large structures instead")
    add_option(parser)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.large or chosen.files:
        found = {f"{n} waters": Structure.of(droplet(n // 3)) for n in chosen.large or ()}
        found |= {path.stem: as_structure(path) for path in chosen.files or ()}
        record(
            chosen.results,
            "charges of large structures",
            {"rows": large(found, chosen.kinds.split(","))},
        )
        return
    molecules = [
        Molecule(str(atoms.info["name"]), str(i), (Structure.of(atoms),))
        for i, atoms in enumerate(drugs(chosen.n))
    ]
    sizes = [len(molecule.source[0]) for molecule in molecules]
    print(f"{len(molecules)} molecules of {min(sizes)} to {max(sizes)} atoms, "
          f"{chosen.workers} workers")  # fmt: skip
    rows = []
    for kind in chosen.kinds.split(","):
        do = partial(work, ChargeSettings((kind,)))
        rows.append(measure(kind, do, molecules, chosen.workers))
    try:
        import tblite  # noqa: F401
    except ImportError:
        print("GFN2-xTB     tblite is not installed")
    else:
        rows.append(measure("GFN2-xTB", xtb, molecules, chosen.workers))
    figures = {"n": len(molecules), "workers": chosen.workers, "rows": rows}
    figures |= {"fewest_atoms": min(sizes), "most_atoms": max(sizes)}
    record(chosen.results, "charges", figures)


if __name__ == "__main__":
    main()
