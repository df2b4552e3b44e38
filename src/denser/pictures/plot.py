"""Pictures of densities: isosurfaces with the molecule, and slices."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols
from ase.data.colors import jmol_colors

from denser.analysis.catalogue import SPIN_ISOVALUES
from denser.io.files import replacing
from denser.pictures import scene
from denser.types.density import SPIN_UNIT, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

SUFFIXES = ("png", "svg", "pdf")
KINDS = ("isosurface", "slice")
WIDTH, DPI = 5.0, 300  # inches, dots per inch


def plot_density(
    density: Field,
    path: str | Path,
    kind: str = "isosurface",
    isovalue: float | None = None,
    axis: str = "z",
    position: float | None = None,
) -> None:
    """Draw a density, or any other field, to a file.

    A spin density is blue where spin up prevails and red where spin down does.

    Parameters
    ----------
    density : Density or Field
    path : str or Path
        Ends in .png, .svg or .pdf.
    kind : {"isosurface", "slice"}
        The isosurfaces at +isovalue and, if the field reaches it, at -isovalue; or a plane with
        contour lines at isovalue * 2^n, dashed if negative.
    isovalue : float, optional
        Positive, in the field's unit; default 0.1, or 0.005 for a spin density.
    axis : {"x", "y", "z"}
        Normal of the slice.
    position : float, optional
        Where the slice cuts `axis`, bohr; default: through the mean of the atoms' positions,
        or the middle of the box.

    Raises
    ------
    InputError
        A package is missing; the suffix, kind or axis is unknown; the isovalue or position is
        not valid; the field does not reach the isovalue; or (slices) the grid is not
        orthorhombic.
    """
    is_spin = density.unit == SPIN_UNIT
    if isovalue is None:
        isovalue = SPIN_ISOVALUES.level if is_spin else 0.1
    _plot(density, path, kind, isovalue, axis, position, signed=True if is_spin else None)


def plot_difference(
    a: Field,
    b: Field,
    path: str | Path,
    kind: str = "isosurface",
    isovalue: float = 0.003,
    axis: str = "z",
    position: float | None = None,
) -> None:
    """Draw a - b like `plot_density`: blue where `a` is larger, red where `b` is larger.

    The default isovalue is that of Li et al. (2025), figure 1.

    Raises
    ------
    InputError
        As `plot_density`, or the two grids differ.
    """
    _plot(replace(a, values=(a - b).values), path, kind, isovalue, axis, position, signed=True)


def _plot(
    field: Field,
    path: str | Path,
    kind: str,
    isovalue: float,
    axis: str,
    position: float | None,
    signed: bool | None,
) -> None:
    """Check the arguments of both public functions, draw, and write the file in one step."""
    path = Path(path)
    check_suffix(path)
    if kind not in KINDS:
        raise InputError(f"unknown kind {kind!r} of plot; use isosurface or slice")
    if axis not in ("x", "y", "z"):
        raise InputError(f"unknown axis {axis!r}; use x, y or z")
    if not (np.isfinite(isovalue) and isovalue > 0):
        raise InputError(f"the isovalue must be a positive number, found {isovalue}")
    if not np.isfinite(field.values).all():
        raise InputError("the field has values that are not finite numbers")
    if signed is None:
        signed = bool(field.values.min() <= -isovalue)
    subject = _subject(field)
    if kind == "isosurface":
        figure = _isosurface_figure(subject, isovalue, signed)
    else:
        figure = _slice_figure(subject, isovalue, signed, "xyz".index(axis), position)
    save_figure(figure, path, DPI)


def check_suffix(path: Path) -> None:
    """Raise an InputError unless a picture with this name can be written."""
    if path.suffix[1:].lower() not in SUFFIXES:
        raise InputError(
            f"{path}: cannot write {path.suffix or 'no suffix'}; use .png, .svg or .pdf"
        )


@dataclass(frozen=True)
class _Subject:
    """A field to draw, the atoms to show in it, its title, and its cell if it is periodic."""

    field: Field
    atoms: Structure | None = None
    title: str = ""
    cell: np.ndarray | None = None


def _subject(field: Field) -> _Subject:
    """Find the atoms; repeat the first nodes and atoms of a periodic field at the far faces."""
    structure, grid = getattr(field, "structure", None), field.grid
    if structure is None:
        return _Subject(field)
    title = _formula(structure)
    if structure.cell is None or not np.allclose(structure.cell, grid.cell, atol=1e-3):
        return _Subject(field, structure, title)
    fractions = (structure.positions - grid.origin) @ np.linalg.inv(grid.cell)
    fractions -= np.floor(fractions + 1e-4)
    numbers = structure.numbers
    for i in range(3):
        face = fractions[:, i] < 1e-4
        numbers = np.concatenate([numbers, numbers[face]])
        fractions = np.concatenate([fractions, fractions[face] + np.eye(3)[i]])
    shape = np.array(grid.shape)
    closed = Grid(grid.origin, grid.cell * ((shape + 1) / shape)[:, None], tuple(shape + 1))
    return _Subject(
        Field(closed, np.pad(field.values, (0, 1), mode="wrap"), field.unit),
        Structure(numbers, grid.origin + fractions @ grid.cell, structure.charge),
        title,
        grid.cell,
    )


# Isosurfaces


def _isosurface_figure(subject: _Subject, isovalue: float, signed: bool) -> Figure:
    from matplotlib.figure import Figure

    field = subject.field
    surfaces = [scene.isosurface(field, isovalue, scene.POSITIVE if signed else scene.DENSITY)]
    if signed:
        surfaces.append(
            scene.isosurface(replace(field, values=-field.values), isovalue, scene.NEGATIVE)
        )
    meshes = [surface for surface in surfaces if surface is not None]
    if not meshes:
        raise InputError(
            f"nothing to draw at the isovalue {isovalue:g} {field.unit}: the values range from "
            f"{field.values.min():.4g} to {field.values.max():.4g}"
        )
    points = meshes[0].vertices
    if subject.atoms is not None:
        meshes += scene.molecule(subject.atoms)
        points = subject.atoms.positions * BOHR
    if subject.cell is not None:
        edges = scene.box(subject.cell * BOHR, field.grid.origin * BOHR)
        meshes += edges
        points = np.concatenate([edge.vertices for edge in edges])
    picture, scale = scene.render(
        meshes, scene.view_along_thinnest(points), int(WIDTH * DPI), margin=0.25
    )
    height, strip = picture.shape[0] / DPI, 0.34
    figure = Figure(figsize=(WIDTH, height + strip), facecolor="white")
    axes = figure.add_axes((0, strip / (height + strip), 1, height / (height + strip)))
    axes.imshow(picture, interpolation="none", aspect="auto")
    axes.set_axis_off()
    _caption(figure, subject, isovalue, signed, strip / 2 / (height + strip))
    _scale_bar(figure, scale / DPI, strip / (height + strip))
    return figure


def _caption(figure: Figure, subject: _Subject, isovalue: float, signed: bool, y: float) -> None:
    """Formula, isovalue and unit at the lower left."""
    from matplotlib.offsetbox import AnchoredOffsetbox, DrawingArea, HPacker, TextArea
    from matplotlib.patches import Rectangle

    style = {"fontsize": 8, "color": "0.2"}
    items: list[Artist] = []
    if subject.title:
        items.append(TextArea(subject.title, textprops=style))
    surfaces = [("", scene.DENSITY)]
    if signed:
        surfaces = [("+", scene.POSITIVE), ("\N{MINUS SIGN}", scene.NEGATIVE)]
    for sign, colour in surfaces:
        swatch = DrawingArea(7, 7)
        swatch.add_artist(Rectangle((0, 0), 7, 7, facecolor=colour, alpha=0.6, linewidth=0))
        label = f"{sign}{isovalue:g}" + (f" {_unit(subject.field)}" if sign != "+" else "")
        items.append(
            HPacker(
                children=[swatch, TextArea(label, textprops=style)], pad=0, sep=3, align="baseline"
            )
        )
    row = HPacker(children=items, pad=0, sep=10, align="baseline")
    figure.add_artist(
        AnchoredOffsetbox(
            "center left",
            child=row,
            pad=0,
            borderpad=0,
            frameon=False,
            bbox_to_anchor=(0.03, y),
            bbox_transform=figure.transFigure,
        )
    )


def _scale_bar(figure: Figure, inches_per_angstrom: float, height: float) -> None:
    """Draw a scale bar with a round length in angstrom at the lower right."""
    from matplotlib.lines import Line2D

    longest = 0.25 * WIDTH / inches_per_angstrom
    length = max((x for x in (0.5, 1, 2, 5, 10, 20, 50, 100) if x <= longest), default=0.2)
    right, left = 0.97, 0.97 - length * inches_per_angstrom / WIDTH
    figure.add_artist(Line2D([left, right], [0.35 * height] * 2, color="0.2", linewidth=1.5))
    figure.text(
        (left + right) / 2, 0.48 * height, f"{length:g} Å", ha="center", fontsize=7, color="0.2"
    )


def _formula(structure: Structure) -> str:
    """Formula with subscripts and charge, in matplotlib's mathematics."""
    text = re.sub(r"(\d+)", r"_{\1}", structure.formula)
    if structure.charge:
        size = abs(structure.charge)
        text += f"^{{{size if size > 1 else ''}{'+' if structure.charge > 0 else '-'}}}"
    return rf"$\mathrm{{{text}}}$"


def _number(x: float, form: str = "g") -> str:
    """Write a number with a minus sign instead of a hyphen."""
    return f"{x:{form}}".replace("-", "\N{MINUS SIGN}")


def _unit(field: Field) -> str:
    return re.sub(r"\^(-?\d+)", r"$^{\1}$", field.unit)


# Slices


def _slice_figure(
    subject: _Subject, isovalue: float, signed: bool, axis: int, position: float | None
) -> Figure:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, SymLogNorm
    from matplotlib.figure import Figure

    field = subject.field
    across = [i for i in range(3) if i != axis]
    plane, position = _plane(subject, axis, position)
    x, y = (field.grid.axis(i) * BOHR for i in across)
    largest = max(float(np.abs(plane).max()), 2 * isovalue)
    decades = 10.0 ** np.arange(np.ceil(np.log10(2 * isovalue)), np.log10(largest))
    if signed:
        levels = isovalue * 2.0 ** np.arange(12)
        levels = np.concatenate([-levels[::-1], levels])
        norm: Normalize = SymLogNorm(isovalue, vmin=-largest, vmax=largest)
        colours = colormaps["RdBu"]
        ticks = np.concatenate([-decades[::-1], [-isovalue, 0, isovalue], decades])
    else:
        levels = isovalue * 2.0 ** np.arange(-6, 12)
        norm = LogNorm(vmin=levels[0], vmax=largest)
        colours, ticks = colormaps["YlGnBu"].with_extremes(under="white"), None
        plane = np.maximum(plane, 1e-3 * levels[0])
    (left, right), (bottom, top) = _window(subject, across)
    scale = min(4.0 / (right - left), 5.0 / (top - bottom))  # inches per angstrom
    width, height = scale * (right - left), scale * (top - bottom)
    figure = Figure(figsize=(width + 1.6, height + 0.75), facecolor="white")
    w, h = figure.get_size_inches()
    axes = figure.add_axes((0.6 / w, 0.45 / h, width / w, height / h))
    image = axes.pcolormesh(
        x, y, plane.T, norm=norm, cmap=colours, shading="gouraud", rasterized=True
    )
    levels = levels[(plane.min() < levels) & (levels < plane.max())]
    if levels.size:
        axes.contour(
            x,
            y,
            plane.T,
            levels=levels,
            colors="0.15",
            linewidths=[0.9 if np.isclose(abs(level), isovalue) else 0.35 for level in levels],
            linestyles=["dashed" if level < 0 else "solid" for level in levels],
        )
    if subject.atoms is not None:
        _mark_atoms(axes, subject.atoms, across, axis, position)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_xlabel(f"${'xyz'[across[0]]}$ / Å", fontsize=8)
    axes.set_ylabel(f"${'xyz'[across[1]]}$ / Å", fontsize=8)
    axes.tick_params(labelsize=7, direction="out")
    name = f"{subject.title},  " if subject.title else ""
    axes.set_title(
        f"{name}${'xyz'[axis]}$ = {_number(position * BOHR, '.2f')} Å,  "
        f"contours at {'±' if signed else ''}{isovalue:g}" + r"$\,\times\,2^n$",
        fontsize=8,
        loc="left",
    )
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.035, 1)), ticks=ticks)
    if ticks is not None:
        bar.ax.set_yticklabels([_number(tick) for tick in ticks])
        bar.ax.minorticks_off()
    bar.set_label(_unit(field), fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _plane(subject: _Subject, axis: int, position: float | None) -> tuple[np.ndarray, float]:
    """Values on a plane, interpolated linearly between nodes, and its position in bohr."""
    x, atoms = subject.field.grid.axis(axis), subject.atoms
    if position is None:
        position = (x[0] + x[-1]) / 2 if atoms is None else atoms.positions[:, axis].mean()
    if not x[0] <= position <= x[-1]:
        raise InputError(
            f"the position {position:g} bohr lies outside of the box, which spans {x[0]:.4g} to "
            f"{x[-1]:.4g} bohr along {'xyz'[axis]}"
        )
    above = int(np.clip(np.searchsorted(x, position), 1, x.size - 1))
    fraction = (position - x[above - 1]) / (x[above] - x[above - 1])
    lower, upper = (np.take(subject.field.values, i, axis=axis) for i in (above - 1, above))
    return (1 - fraction) * lower + fraction * upper, float(position)


def _window(subject: _Subject, across: list[int]) -> list[tuple[float, float]]:
    """Limits of the picture: the molecule plus 2.5 angstrom, or the whole box, in angstrom."""
    axes = [subject.field.grid.axis(i) * BOHR for i in across]
    limits = [(x[0], x[-1]) for x in axes]
    if subject.atoms is None or subject.cell is not None:
        return limits
    positions = subject.atoms.positions[:, across] * BOHR
    return [
        (max(low, p.min() - 2.5), min(high, p.max() + 2.5))
        for (low, high), p in zip(limits, positions.T, strict=True)
    ]


def _mark_atoms(
    axes: Axes, structure: Structure, across: list[int], axis: int, position: float
) -> None:
    """Mark the atoms within 0.5 angstrom of the plane with their symbols."""
    near = np.abs(structure.positions[:, axis] - position) * BOHR < 0.5
    for z, r in zip(structure.numbers[near], structure.positions[near] * BOHR, strict=True):
        colour = jmol_colors[z]
        x, y = r[across]
        axes.plot(x, y, "o", ms=9, color=colour, mec="0.2", mew=0.5, clip_on=False)
        axes.annotate(
            chemical_symbols[z],
            (x, y),
            ha="center",
            va="center_baseline",
            fontsize=6,
            color="white" if colour @ (0.30, 0.59, 0.11) < 0.5 else "black",
            zorder=4,
        )


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure in the format that its suffix names."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix[1:].lower())
