"""Boxes of predictions, and their nodes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from denser.fields.fourier import resample
from denser.model.network import Network
from denser.model.options import cube_of
from denser.types.arrays import seal
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

MIN_PADDING = 2.0
"""Smallest padding in angstrom; below it the density overlaps its periodic images."""

_BYTES_PER_NODE = 60
IN_MEMORY = 24
"""Bytes for each node of a prediction of Gaussians that is made at once."""


def make_grid(
    structure: Structure, box: str, padding: float, spacing: float, network: Network
) -> Grid:
    """Grid of a box: "cell", "isolated", "paper" or "cube:N:H".

    `padding` is in angstrom, `spacing` in bohr.
    """
    if cube := cube_of(box):
        if not network.any_spacing:
            raise InputError(
                "this model predicts on its own grid only; the default model predicts on any nodes"
            )
        return Grid.cube(structure, *cube)
    if box == "paper":
        return Grid.paper(structure, spacing)
    if box == "cell":
        return Grid.periodic(structure, spacing, network.multiple_of)
    if not padding >= MIN_PADDING:
        raise InputError(
            f"a padding of {padding} angstrom cuts the density off; give at least {MIN_PADDING} "
            "(4 is the default)"
        )
    return Grid.around(structure, padding / BOHR, spacing, network.multiple_of)


def respace(density: Density, spacing: float) -> Density:
    """Interpolate to nodes at most `spacing` bohr apart; N_e stays exact, no value is negative."""
    grid = respaced(density.grid, spacing)
    check_memory(grid)
    values = np.maximum(resample(density.values, grid.shape), 0.0)
    values *= density.n_electrons / (values.sum() * grid.dv)
    out = Density(
        grid,
        seal(values.astype(np.float32)),
        structure=density.structure,
        valence_charges=density.valence_charges,
    )
    if density.spin_density is None:
        return out
    return out.with_spin_density(resample(density.spin_density.values, grid.shape))


def respaced(grid: Grid, spacing: float) -> Grid:
    """The same box with nodes at most `spacing` bohr apart."""
    if not (np.isfinite(spacing) and spacing > 0):
        raise InputError(f"the spacing must be a positive length, found {spacing * BOHR:g}")
    lengths = np.linalg.norm(grid.cell, axis=1)
    nx, ny, nz = (int(n) for n in np.ceil(lengths / spacing - 1e-6))
    if min(nx, ny, nz) < 8:
        raise InputError(
            f"a spacing of {spacing * BOHR:g} angstrom leaves only {min(nx, ny, nz)} nodes along "
            "the shortest side of the box; choose a finer one"
        )
    return Grid(grid.origin, grid.cell, (nx, ny, nz))


def check_memory(grid: Grid) -> None:
    """Raise an InputError before an impossible allocation, with its size."""
    needed = grid.size * _BYTES_PER_NODE
    present = _present_memory()
    if needed > present:
        raise InputError(
            f"a grid of {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} nodes needs about "
            f"{needed / 1e9:.0f} GB of memory, this machine has {present / 1e9:.0f}; are the "
            "coordinates in angstrom, and is it one molecule (--box isolated)? If so, denser "
            "predict with the default model, without --refine and --grid, writes it in parts to a "
            "file of any format; denser.without_grid needs no grid"
        )


def memory_for_grids(workers: int = 1) -> float:
    """Bytes for the grid of each of some workers: half of what is free, shared."""
    return free_memory() / (2 * workers)


def free_memory() -> int:
    """Bytes that are free, or that the system would give back; on macOS and others, all."""
    try:
        known = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * int(known["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return _present_memory()


def _present_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
