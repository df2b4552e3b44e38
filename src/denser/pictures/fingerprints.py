"""Pictures and meshes of Hirshfeld surfaces: d_norm on the surface, and the fingerprint plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denser.io.ply import write_mesh
from denser.pictures import scene
from denser.pictures.plot import check_suffix, save_figure
from denser.types.units import BOHR

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from denser.analysis.crystal.hirshfeld_surface import HirshfeldSurfaces, MoleculeSurface
    from denser.types.structure import Structure

_WIDTH, _DPI = 3.2, 200
"""Of each of the two panels, inches and dots per inch."""

_BIN = 0.02
"""Of the fingerprint, angstrom."""

_RANGE = (0.4, 3.0)
"""Of d_i and d_e in it, angstrom, or more where the surface has more."""

_HIGH = 1.0
"""d_norm from which on the surface is blue; its lowest value is red, and zero white."""

_SHOWN = 5
"""Largest number of contacts beside a fingerprint."""


def colours_of(surface: MoleculeSurface) -> np.ndarray:
    """Colours (n, 3) by d_norm: red below the van der Waals distance, white at it, blue above."""
    from matplotlib import colormaps

    low = min(float(surface.d_norm.min()), -1e-3)
    share = np.where(surface.d_norm < 0, surface.d_norm / -low, surface.d_norm / _HIGH)
    return np.asarray(colormaps["bwr_r"](0.5 + 0.5 * np.clip(share, -1, 1)))[:, :3]


def write_surface(surface: MoleculeSurface, path: Path) -> None:
    """Write a surface as PLY with d_i, d_e (angstrom), d_norm, shape_index and curvedness."""
    values = {
        "d_i": surface.d_i * BOHR,
        "d_e": surface.d_e * BOHR,
        "d_norm": surface.d_norm,
        "shape_index": surface.shape_index,
        "curvedness": surface.curvedness,
    }
    write_mesh(path, surface.vertices, surface.faces, values, colours_of(surface))


def plot_hirshfeld(surfaces: HirshfeldSurfaces, structure: Structure, path: str | Path) -> None:
    """Draw each surface, coloured by d_norm, beside its fingerprint.

    Parameters
    ----------
    surfaces : HirshfeldSurfaces
    structure : Structure
        Not used; all functions that draw a property take it.
    path : str or Path
        Ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        An unknown suffix.
    """
    path = Path(path)
    check_suffix(path)
    from matplotlib.figure import Figure

    n = len(surfaces.surfaces)
    figure = Figure(figsize=(2 * _WIDTH, _WIDTH * n), facecolor="white", layout="constrained")
    axes = figure.subplots(n, 2, squeeze=False)
    for (left, right), surface in zip(axes, surfaces.surfaces, strict=True):
        left.imshow(_rendered(surface), interpolation="none")
        left.set_axis_off()
        left.set_title(
            f"{surface.structure.formula}: $d_{{norm}}$ from {surface.d_norm.min():.2f} (red) over "
            f"0 (white) to {_HIGH:g} (blue)",
            fontsize=6,
        )
        _fingerprint(right, surface)
    save_figure(figure, path, _DPI)


def _rendered(surface: MoleculeSurface) -> np.ndarray:
    """Picture of the molecule in its surface."""
    normals = scene.normals_of(surface.vertices, surface.faces)
    mesh = scene.Mesh(surface.vertices * BOHR, surface.faces, normals, colours_of(surface), 0.8)
    view = scene.view_along_thinnest(surface.structure.positions)
    drawn = [mesh, *scene.molecule(surface.structure)]
    return scene.render(drawn, view, int(_WIDTH * _DPI), margin=0.25)[0]


def _fingerprint(axes: Axes, surface: MoleculeSurface) -> None:
    """Share of the area for each d_i and d_e, with the contacts."""
    found = surface.samples
    d_i, d_e = found.d_i * BOHR, found.d_e * BOHR
    end = max(_RANGE[1], float(max(d_i.max(), d_e.max())) + 0.1)
    edges = np.arange(min(_RANGE[0], float(min(d_i.min(), d_e.min()))), end + _BIN, _BIN)
    shares = np.histogram2d(d_i, d_e, bins=(edges, edges), weights=found.areas)[0]
    shares *= 100 / found.areas.sum()
    shown = np.ma.masked_equal(shares.T, 0)
    axes.pcolormesh(edges, edges, shown, cmap="turbo", vmin=0, vmax=0.1, rasterized=True)
    axes.set_aspect("equal")
    axes.grid(color="0.9", lw=0.5)
    axes.set_xlabel(r"$d_i$ / Å", fontsize=8)
    axes.set_ylabel(r"$d_e$ / Å", fontsize=8)
    axes.tick_params(labelsize=7)
    lines = [f"{name} {share:.1f} %" for name, share in list(surface.contacts.items())[:_SHOWN]]
    axes.text(
        0.97, 0.03, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", fontsize=7
    )
