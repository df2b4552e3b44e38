"""Reference ELF of water from CP2K: the same functional, basis, pseudopotentials and box.

    python tests/reference/cp2k/make_elf.py [WORK FOLDER]

needs `cp2k.psmp` (Debian's package `cp2k`). It writes `H2O_elf.npz`, CP2K's ELF at every fourth
node, with the program's version and settings. CP2K takes its gradients on the grid.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import make_cp2k
import numpy as np

import denser

if __name__ == "__main__":
    work = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    plain = "      &E_DENSITY_CUBE\n        STRIDE 1 1 1\n      &END E_DENSITY_CUBE\n"
    if plain not in make_cp2k.INPUT:
        raise RuntimeError("the input of make_cp2k.py has changed")
    elf_cube = plain.replace("E_DENSITY_CUBE", "ELF_CUBE")
    make_cp2k.INPUT = make_cp2k.INPUT.replace(plain, plain + elf_cube)
    structure, grid = make_cp2k.placed("H2O")
    result = make_cp2k.cp2k(structure, grid, "H2O", work, rel_cutoff=400, n_grids=1)
    (cube,) = work.glob("H2O-ELF*.cube")
    values = denser.read(cube).values
    if values.shape != grid.shape:
        raise RuntimeError(f"CP2K's grid is {values.shape}, ours {grid.shape}")
    np.savez_compressed(
        Path(__file__).with_name("H2O_elf.npz"),
        elf=values[::4, ::4, ::4].astype(np.float32),
        numbers=structure.numbers,
        positions=structure.positions,
        box=np.diag(grid.cell),
        mesh=grid.shape,
        program=result["version"],
        settings="as cp2k.json: PBE, TZV2P-GTH, GTH-PBE, GPW, periodic, 400 Ry, one grid level, "
        "ELF_CUBE of every node, every fourth kept; bohr",
        made_by=Path(__file__).name,
    )
