"""Make the small labels in `labels/`: converged PBE/GTH-TZV2P orbitals in the paper's box.

    python tests/reference/make_labels.py

Geometries are those of `ase.build.molecule`. PySCF 2.14.0, conv_tol 1e-9; see `denser.dft.scf`.
"""

from pathlib import Path

import numpy as np
from ase.build import molecule

from denser.dft.scf import scf
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

FOLDER = Path(__file__).parent / "labels"
NAMES = ("CH4", "H2O", "C2H2", "H2CO", "HCN")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        structure = Structure.from_ase(molecule(name))
        grid = Grid.paper(structure)
        result = scf(structure, grid, Recipe())
        occupied = result.mo_occ > 0
        np.savez_compressed(
            FOLDER / f"{name}.npz",
            numbers=structure.numbers,
            positions=(structure.positions - grid.origin) * BOHR,
            box=np.diag(grid.cell) * BOHR,
            mesh=np.array(grid.shape),
            charge=structure.charge,
            mo_coeff=result.mo_coeff[:, occupied],
            mo_energy=result.mo_energy,
            energy=result.e_tot,
            converged=result.converged,
        )


if __name__ == "__main__":
    main()
