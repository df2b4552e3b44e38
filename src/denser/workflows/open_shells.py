"""Self-consistent calculations of open shells: `denser scf` for unpaired electrons.

In a box the calculation starts from PySCF's `minao` guess.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from denser.analysis.charges.spin_populations import hirshfeld_spins
from denser.atoms.sad import superposition
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.scf import KSResult, scf
from denser.io import holds_spin, write
from denser.io.files import plain_name
from denser.model.options import PredictionOptions
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

OPEN_SHELL_CUBES = (
    "orbitals of open shells are written to a Molden file, with both spins (--molden), and not to "
    "cubes"
)


def superposed(structure: Structure, options: PredictionOptions) -> Density:
    """Superposed atoms in the box of the options, at the spacing of the labels.

    Of these the calculation uses the grid only.
    """
    spacing = Recipe().spacing
    if options.box == "paper":
        grid = Grid.paper(structure, spacing)
    elif structure.cell is not None:
        grid = Grid.periodic(structure, spacing)
    else:
        grid = Grid.around(structure, options.padding / BOHR, spacing)
    return superposition(structure, grid)


def open_shell_scf(
    start: Density, recipe: Recipe, out: Path | None, compare: bool
) -> tuple[KSResult, Density, dict[str, Any]]:
    """Converge an open shell on the grid of a density; write its density and spin density.

    Nothing is written if it does not converge.

    Returns
    -------
    KSResult
    Density
    dict
        For the record: <S^2>, Hirshfeld's unpaired electrons of the atoms, and the files.

    Raises
    ------
    InputError
        As `denser.dft.scf.scf`; or other starts are to be compared.
    """
    if compare:
        raise InputError("--compare is for closed shells: an open shell has one start only")
    structure, grid = start.structure, start.grid
    result = scf(structure, grid, recipe, isolated=structure.isolated)
    cell = build_cell(structure, grid, recipe)
    up, down = (density_from_dm(cell, dm, grid, structure) for dm in result.dm)
    values = np.maximum(up.values + down.values, 0.0)
    density = up.with_values(values * (up.n_electrons / (values.sum() * grid.dv)))
    m = up.values - down.values
    density = density.with_spin_density(m * (structure.spin / (m.sum() * grid.dv)))
    assert density.spin_density is not None
    written = [] if out is None or not result.converged else write_with_spin(out, density)
    populations = hirshfeld_spins(density, density.spin_density)
    return result, density, {
        "s_squared": round(result.s_squared, 6),
        "spins_hirshfeld": np.round(populations, 5).tolist(),
        "written": written,
    }  # fmt: skip


def write_with_spin(out: Path, density: Density) -> list[str]:
    """Write a density and its spin density, if there is one, to one file or two; their names."""
    write(out, density)
    if density.spin_density is None or holds_spin(out):
        return [str(out)]
    beside = spin_path(out)
    write(beside, density.spin_density)
    return [str(out), str(beside)]


def spin_path(out: Path) -> Path:
    """Name of the file of a spin density beside that of its density: `oh_spin.cube`."""
    suffixes = out.name[len(Path(plain_name(out)).stem) :]
    return out.with_name(f"{Path(plain_name(out)).stem}_spin{suffixes}")
