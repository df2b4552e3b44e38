"""Make the orbitals in `topologies/`: converged PBE/GTH-TZV2P, for critical points.

    python tests/reference/make_topologies.py

Benzene and ethene are those of `ase.build.molecule`, the water dimer is that of the S22 set
(Jurecka et al. 2006), cubane has C-C 1.571 and C-H 1.10 angstrom. PySCF 2.14.0, conv_tol 1e-9,
6 bohr around the atoms; single precision is enough.
"""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data.s22 import create_s22_system

from denser.dft.scf import scf
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

FOLDER = Path(__file__).parent / "topologies"


def cubane() -> Atoms:
    corners = np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1
    return Atoms(
        "C8H8", np.concatenate([corners * 1.571 / 2, corners * (1.571 / 2 + 1.10 / np.sqrt(3))])
    )


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, atoms in (
        ("C2H4", molecule("C2H4")),
        ("water_dimer", create_s22_system("Water_dimer")),
        ("C6H6", molecule("C6H6")),
        ("cubane", cubane()),
    ):
        structure = Structure.from_ase(atoms)
        grid = Grid.around(structure, padding=6.0)
        result = scf(structure, grid)
        np.savez_compressed(
            FOLDER / f"{name}.npz",
            numbers=structure.numbers,
            positions=(structure.positions - grid.origin) * BOHR,
            box=np.diag(grid.cell) * BOHR,
            mesh=np.array(grid.shape),
            charge=0,
            mo_coeff=result.mo_coeff[:, result.mo_occ > 0].astype(np.float32),
            energy=result.e_tot,
            converged=result.converged,
        )


if __name__ == "__main__":
    main()
