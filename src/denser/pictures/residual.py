"""Picture of the residual density of a crystal before and after a refinement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from denser.atoms.molecules import whole_molecules
from denser.pictures import scene
from denser.pictures.plot import DPI, WIDTH, check_suffix, save_figure
from denser.types.density import Density, Field
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

_REACH = 1.5 / BOHR
"""The density is shown up to this distance from the atoms, bohr."""

_STEP = 0.12 / BOHR
"""Spacing of the nodes on which it is drawn, bohr."""


def plot_residual(
    before: Density, after: Density, n_sites: int, path: str | Path, isovalue: float | None = None
) -> None:
    """Draw two residual densities around the molecules of the asymmetric unit, side by side.

    Blue is missing density (+isovalue), red is too much of it (-isovalue).

    Parameters
    ----------
    before, after : Density
        Of the whole cell, e/angstrom^3.
    n_sites : int
        The molecules that hold the first `n_sites` atoms are shown.
    path : str or Path
        Ends in .png, .svg or .pdf.
    isovalue : float, optional
        e/angstrom^3; by default three times the root mean square before.

    Raises
    ------
    InputError
        The suffix is unknown.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    check_suffix(path)
    if isovalue is None:
        isovalue = max(round(3 * float(before.values.std()), 2), 0.01)
    shown = [_shown(residual.structure, n_sites) for residual in (before, after)]
    view = scene.view_along_thinnest(shown[0].positions * BOHR)
    frame = np.concatenate([atoms.positions * BOHR for atoms in shown])
    frame = np.concatenate([frame - _REACH * BOHR, frame + _REACH * BOHR])
    nothing = np.zeros((0, 3), dtype=int)
    pictures = []
    for residual, atoms in zip((before, after), shown, strict=True):
        field = _around(residual, atoms)
        negative = Field(field.grid, -field.values, field.unit)
        surfaces = [
            scene.isosurface(field, isovalue, scene.POSITIVE),
            scene.isosurface(negative, isovalue, scene.NEGATIVE),
        ]
        meshes = [surface for surface in surfaces if surface is not None]
        # Vertices without faces: both pictures have the same scale.
        meshes.append(scene.Mesh(frame, nothing, np.zeros_like(frame), scene.POSITIVE))
        picture, _ = scene.render(
            [*meshes, *scene.molecule(atoms)], view, int(WIDTH / 2 * DPI), margin=0.1
        )
        pictures.append(picture)
    middle, total = pictures[0].shape[0] / DPI, pictures[0].shape[0] / DPI + 0.65
    figure = Figure(figsize=(WIDTH, total), facecolor="white")
    titles = ("spherical atoms", "Hirshfeld atoms")
    for i, residual in enumerate((before, after)):
        axes = figure.add_axes((i / 2, 0.2 / total, 0.5, middle / total))
        axes.imshow(pictures[i], interpolation="none", aspect="auto")
        axes.set_axis_off()
        low, high = residual.values.min(), residual.values.max()
        text = f"{titles[i]}\n{low:+.2f} to {high:+.2f} e/Å³".replace("-", "\N{MINUS SIGN}")
        axes.set_title(text, fontsize=8, color="0.2")
    figure.text(
        0.5, 0.07 / total,
        f"residual density: blue +{isovalue:g}, red \N{MINUS SIGN}{isovalue:g} e/Å³",
        ha="center", fontsize=8, color="0.2",
    )  # fmt: skip
    save_figure(figure, path, DPI)


def _shown(structure: Structure, n_sites: int) -> Structure:
    """Whole molecules with the first atoms, without a cell."""
    chosen = [m for m in whole_molecules(structure) if (m.atoms < n_sites).any()]
    numbers = np.concatenate([structure.numbers[m.atoms] for m in chosen])
    return Structure(numbers, np.concatenate([m.positions for m in chosen]))


def _around(residual: Density, shown: Structure) -> Field:
    """The residual density near atoms, on a box around them; zero elsewhere."""
    low, high = (f(shown.positions, axis=0) for f in (np.min, np.max))
    n = np.ceil((high - low + 2 * _REACH) / _STEP).astype(int)
    grid = Grid(low - _REACH, np.diag(n * _STEP), (int(n[0]), int(n[1]), int(n[2])))
    points = grid.points().reshape(-1, 3)
    near = cKDTree(shown.positions).query(points, distance_upper_bound=_REACH)[0] < _REACH
    values = np.zeros(len(points))
    values[near] = residual.at(points[near])
    return Field(grid, values.reshape(grid.shape), residual.unit)
