"""Pictures of properties: NCI scatter, potential on the surface, graph of critical points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denser.analysis.catalogue import PICTURES, PROPERTIES, load, unknown
from denser.pictures import scene
from denser.pictures.plot import DPI, WIDTH, check_suffix, plot_density, save_figure
from denser.types.errors import InputError
from denser.types.units import BOHR, KCAL_PER_MOL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from denser.analysis.interactions.fragment_energies import FragmentEnergies
    from denser.analysis.interactions.nci import NCI
    from denser.analysis.potential.esp_surface import EspSurface
    from denser.analysis.topology.critical_points import CriticalPoints
    from denser.types.structure import Structure

POINT_COLOURS = {"attractor": "#7a3fb0", "bond": "#e08a00", "ring": "#d81b60", "cage": "#00796b"}
"""Colours of critical points; nuclei are shown as atoms."""


REARRANGED = 0.002
"""Isovalue of the rearrangement, e/bohr^3."""


class NothingToDraw(InputError):
    """The property is empty, so there is no picture."""


def plot_property(name: str, result: Any, structure: Structure, path: str | Path) -> None:
    """Draw a property with the function that `denser.analysis.catalogue` names for it.

    Parameters
    ----------
    name : str
        One of `denser.analysis.catalogue.PICTURES`.
    result : dataclass
        The result of `Analysis.property`.
    structure : Structure
    path : str or Path
        Ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        The name or the suffix is unknown, or there is nothing to draw.
    """
    if name not in PICTURES:
        raise unknown("picture", name, PICTURES)
    load(PROPERTIES[name].picture)(result, structure, path)


def plot_nci(nci: NCI, structure: Structure, path: str | Path) -> None:
    """Draw the reduced density gradient against sign(lambda_2) rho.

    Parameters
    ----------
    nci : NCI
    structure : Structure
        Not used; all functions that draw a property take it.
    path : str or Path
        Ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        The suffix is unknown; `NothingToDraw` if the gradient is nowhere small.
    """
    path = Path(path)
    check_suffix(path)
    from matplotlib.figure import Figure

    if not len(nci.s):
        raise NothingToDraw(
            f"{path}: the reduced gradient is nowhere small; there is nothing to draw"
        )
    figure = Figure(figsize=(3.6, 2.7), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    limit = nci.rho_cutoff
    points = axes.scatter(
        nci.signed_density, nci.s, c=nci.signed_density, cmap="RdYlBu_r", s=1.5, lw=0,
        vmin=-limit, vmax=limit, rasterized=True,
    )  # fmt: skip
    points.set_edgecolor("none")
    axes.axhline(nci.s_cutoff, color="0.6", lw=0.6, ls="--")
    axes.axvline(0, color="0.8", lw=0.6)
    axes.set(xlim=(-limit, limit), ylim=(0, None))
    axes.set_xlabel(r"$\mathrm{sign}(\lambda_2)\,\rho$ / e bohr$^{-3}$", fontsize=8)
    axes.set_ylabel("reduced density gradient $s$", fontsize=8)
    axes.tick_params(labelsize=7)
    save_figure(figure, path, DPI)


def plot_esp(
    surface: EspSurface, structure: Structure, path: str | Path, limit: float | None = None
) -> None:
    """Draw an isosurface of the density coloured by the electrostatic potential on it.

    Parameters
    ----------
    surface : EspSurface
    structure : Structure
    path : str or Path
        Ends in .png, .svg or .pdf.
    limit : float, optional
        End of the colour scale, kcal/mol/e; by default only a few vertices are beyond it.

    Raises
    ------
    InputError
        An unknown suffix.
    """
    path = Path(path)
    check_suffix(path)
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    potential = surface.potential * KCAL_PER_MOL
    limit = float(np.quantile(np.abs(potential), 0.97)) if limit is None else limit
    norm, colours = Normalize(-limit, limit), colormaps["RdBu"]
    vertices = surface.vertices * BOHR
    faces = _outward(vertices, surface.faces)
    mesh = scene.Mesh(
        vertices, faces, scene.normals_of(vertices, faces), colours(norm(potential))[:, :3], 0.78
    )
    figure, strip = _canvas([mesh, *scene.molecule(structure)], structure)
    height = figure.get_size_inches()[1]
    bar = figure.add_axes((0.30, 0.55 * strip / height, 0.40, 0.16 * strip / height))
    figure.colorbar(ScalarMappable(norm, colours), cax=bar, orientation="horizontal", extend="both")
    bar.tick_params(labelsize=6, length=2, pad=1)
    figure.text(
        0.72, 0.55 * strip / height,
        f"kcal/mol/e on {surface.isovalue:g} e/bohr$^3$", fontsize=6, color="0.2",
    )  # fmt: skip
    save_figure(figure, path, DPI)


def plot_rearrangement(energies: FragmentEnergies, structure: Structure, path: str | Path) -> None:
    """Draw what the density changes where molecules meet, as isosurfaces of either sign.

    Parameters
    ----------
    energies : FragmentEnergies
    structure : Structure
        Not used; all functions that draw a property take it.
    path : str or Path
        Ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        The suffix is unknown; `NothingToDraw` for densities that were not predicted, or if the
        density hardly changes.
    """
    change = energies.rearrangement
    if change is None:
        raise NothingToDraw(f"{path}: the rearrangement needs a predicted density")
    if np.abs(change.values).max() < REARRANGED:
        raise NothingToDraw(
            f"{path}: the density changes by less than {REARRANGED:g} e/bohr^3 where the molecules "
            "meet; there is nothing to draw"
        )
    plot_density(change, path, isovalue=REARRANGED)


def plot_critical_points(points: CriticalPoints, structure: Structure, path: str | Path) -> None:
    """Draw bond paths and critical points among the atoms.

    Parameters
    ----------
    points : CriticalPoints
    structure : Structure
    path : str or Path
        Ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        An unknown suffix.
    """
    path = Path(path)
    check_suffix(path)
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.colors import to_rgb

    positions = structure.positions * BOHR
    meshes = [
        scene.sphere(position, 0.10 + 0.15 * covalent_radii[z], jmol_colors[z])
        for position, z in zip(positions, structure.numbers, strict=True)
    ]
    for bond in points.bonds:
        line = bond.path[:: max(1, len(bond.path) // 30)] * BOHR
        line = np.concatenate([line, bond.path[-1:] * BOHR])
        for start, end in zip(line[:-1], line[1:], strict=True):
            if np.linalg.norm(end - start) > 1e-6:
                meshes.append(scene.stick(start, end, 0.03, np.full(3, 0.45), n_sides=8))
    shown = [k for k, kind in enumerate(points.kinds) if kind in POINT_COLOURS]
    meshes += [
        scene.sphere(
            points.positions[k] * BOHR, 0.09, np.array(to_rgb(POINT_COLOURS[points.kinds[k]])), 200
        )
        for k in shown
    ]
    figure, strip = _canvas(meshes, structure)
    height = figure.get_size_inches()[1]
    x = 0.03
    for kind, colour in POINT_COLOURS.items():
        n = points.count(kind)
        if n:
            text = f"{n} {kind}{'s' if n > 1 else ''}"
            figure.text(x, 0.4 * strip / height, "\N{BLACK CIRCLE}", color=colour, fontsize=8)
            figure.text(x + 0.03, 0.4 * strip / height, text, color="0.2", fontsize=7)
            x += 0.2
    save_figure(figure, path, DPI)


def _canvas(meshes: list[scene.Mesh], structure: Structure) -> tuple[Figure, float]:
    """A figure with the rendered meshes, and the height of the strip below them, inches."""
    from matplotlib.figure import Figure

    view = scene.view_along_thinnest(structure.positions)
    picture, _ = scene.render(meshes, view, int(WIDTH * DPI), margin=0.25)
    height, strip = picture.shape[0] / DPI, 0.34
    figure = Figure(figsize=(WIDTH, height + strip), facecolor="white")
    axes = figure.add_axes((0, strip / (height + strip), 1, height / (height + strip)))
    axes.imshow(picture, interpolation="none", aspect="auto")
    axes.set_axis_off()
    return figure, strip


def _outward(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Orient faces counter-clockwise seen from outside: the enclosed volume is then positive."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return faces if np.einsum("ij,ij->", a, np.cross(b, c)) > 0 else faces[:, ::-1]
