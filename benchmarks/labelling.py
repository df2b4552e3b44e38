"""What `denser label` costs beside PySCF itself, and whether its labels agree with others.

    python benchmarks/labelling.py --workers 2 --repeat 2
    python benchmarks/labelling.py --against DIR --store labels.db

The first command labels twelve small molecules in the paper's box with `denser label`, and
converges the same ones with nothing but PySCF in a bare multiprocessing pool of as many
single-threaded processes, alternately; both times include starting the processes. The second
compares a store with a folder of .npz labels of the same names, in the same box: energy to
0.5 meV and Err_rho to 0.02 percent, and exits with 1 if one is further off.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import write
from rich.console import Console
from rich.progress import track
from rich.table import Table

from denser.labels.reading import read_label
from denser.labels.store import LabelStore
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import HARTREE
from denser.workflows.label import label_density

MOLECULES = [
    "CH3CH2OH", "C3H4_C3v", "CH3COCH3", "CH3CN", "C2H6CHOH", "CH3CONH2",
    "C4H4NH", "C4H4O", "CH3CH2OCH3", "isobutane", "HCOOCH3", "trans-butane",
]  # fmt: skip
ENERGY_LIMIT = 0.5
"""meV."""
DENSITY_LIMIT = 0.02
"""Err_rho, percent."""


def bare(atoms: Atoms) -> float:
    """Energy by PySCF alone, in the paper's box, hartree."""
    from pyscf.pbc import dft, gto
    from pyscf.pbc.dft.multigrid import MultiGridNumInt2

    structure, recipe = Structure.of(atoms), Recipe()
    grid = Grid.paper(structure, recipe.spacing)
    cell = gto.M(
        atom=list(zip(structure.symbols, structure.positions - grid.origin, strict=True)),
        unit="bohr", a=grid.cell, mesh=list(grid.shape), basis=recipe.basis, pseudo=recipe.pseudo,
        precision=1e-6, verbose=0,
    )  # fmt: skip
    mf = dft.RKS(cell)
    mf.xc, mf.conv_tol = recipe.xc, 1e-9
    mf._numint = MultiGridNumInt2(cell)
    mf.chkfile = None
    return mf.kernel()


def bare_seconds(molecules: list[Atoms], workers: int) -> float:
    """Wall time of a bare pool."""
    start = time.perf_counter()
    with get_context("spawn").Pool(workers) as pool:
        pool.map(bare, molecules, chunksize=1)
    return time.perf_counter() - start


def denser_seconds(files: list[Path], workers: int, folder: Path) -> float:
    """Wall time of the command, with a new store."""
    store = folder / "labels.db"
    store.unlink(missing_ok=True)
    command = [sys.executable, "-m", "denser", "label", *map(str, files), "-o", str(store)]
    command += ["--box", "paper", "--workers", str(workers)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise InputError(f"denser label failed: {done.stderr.strip()}")
    return seconds


def throughput(workers: int, repeat: int, n: int) -> Table:
    """Molecules an hour of both ways, alternating which comes first."""
    os.environ["OMP_NUM_THREADS"] = "1"
    names = MOLECULES[:n]
    molecules = [molecule(name) for name in names]
    table = Table(title=f"{n} molecules, {workers} workers")
    for column in ("round", "PySCF, an hour", "denser label, an hour", "ratio"):
        table.add_column(column, justify="right")
    rates = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{name}.xyz" for name in names]
        for path, atoms in zip(files, molecules, strict=True):
            write(path, atoms)
        for i in range(repeat):
            ways = [
                lambda: bare_seconds(molecules, workers),
                lambda: denser_seconds(files, workers, folder),
            ]
            order = (0, 1) if i % 2 == 0 else (1, 0)
            seconds = {k: ways[k]() for k in order}
            rates.append([3600 * n / seconds[k] for k in (0, 1)])
            table.add_row(str(i + 1), *(f"{r:.0f}" for r in rates[-1]), ratio(rates[-1]))
    mean = np.mean(rates, axis=0)
    table.add_row("mean", *(f"{r:.0f}" for r in mean), ratio(mean))
    return table


def ratio(rates: list[float] | np.ndarray) -> str:
    """Second rate over the first, percent."""
    return f"{100 * rates[1] / rates[0]:.1f} %"


def agreement(folder: Path, store: LabelStore) -> tuple[Table, bool]:
    """Differences of energy and density of all names that both hold, and whether all are small."""
    names = [name for name in store.names() if (folder / f"{name}.npz").exists()]
    if not names:
        raise InputError(f"{store.path} and {folder} have no label in common")
    table = Table(title=f"{store.path.name} against {folder.name}")
    for column in ("molecule", "formula", "dE, meV", "Err_rho, %"):
        table.add_column(column, justify="right")
    worst = np.zeros(2)
    for name in track(names, console=Console(stderr=True), transient=True):
        ours, theirs = store.read(name), read_label(folder / f"{name}.npz")
        if ours.grid.shape != theirs.grid.shape:
            raise InputError(f"{name}: the boxes differ; label with --box paper")
        energy = 1e3 * HARTREE * (ours.e_tot - theirs.e_tot)
        # Each on its own grid: the frames differ by a shift, the nodes seen from the atoms do not.
        new, old = label_density(ours), label_density(theirs)
        density = 100 * np.abs(new.values - old.values).sum() * old.grid.dv / old.n_electrons
        worst = np.maximum(worst, [abs(energy), density])
        table.add_row(name, ours.structure.formula, f"{energy:+.4f}", f"{density:.5f}")
    table.add_row(f"worst of {len(names)}", "", f"{worst[0]:.4f}", f"{worst[1]:.5f}")
    return table, bool(worst[0] < ENERGY_LIMIT and worst[1] < DENSITY_LIMIT)


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2, help="rounds")
    parser.add_argument("--molecules", type=int, default=len(MOLECULES), help="how many")
    parser.add_argument("--against", type=Path, help="folder of .npz labels")
    parser.add_argument("--store", type=Path, help="store to compare with it")
    chosen = parser.parse_args()
    if chosen.against is None:
        table, good = throughput(chosen.workers, chosen.repeat, chosen.molecules), True
    elif chosen.store is None:
        raise InputError("--against needs --store FILE.db")
    else:
        with LabelStore(chosen.store) as store:
            table, good = agreement(chosen.against, store)
    Console(width=100).print(table)
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.stderr.write(f"labelling.py: {error}\n")
        sys.exit(2)
