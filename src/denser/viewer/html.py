"""Structures, densities and grids as HTML: what Jupyter shows for them.

Their `_repr_html_` call the functions of this module by name, because it stands above their rooms.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

import numpy as np

from denser.labels.label import Label
from denser.pictures import scene
from denser.types.density import Density, Field
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.viewer.fields import of_values
from denser.viewer.surfaces import Surface, isosurfaces

WIDTH = 220
"""Width of a picture, pixels."""

MAX_ATOMS = 300
"""Larger structures get no picture."""

NODES = 40
"""Largest number of nodes along an axis for the surface of a picture."""


def structure(shown: Structure) -> str:
    """A picture of the atoms and a table."""
    return _page(_picture(shown), _structure_rows(shown))


def grid(shown: Grid) -> str:
    """A table."""
    return _page("", _grid_rows(shown))


def field(shown: Field) -> str:
    """A table, and for a density a picture of its surface."""
    values = np.asarray(shown.values)
    rows = [("Values", f"{values.min():.3g} to {values.max():.3g} {shown.unit}")]
    rows += _grid_rows(shown.grid)
    if not isinstance(shown, Density):
        return _page("", rows)
    electrons = "all" if shown.all_electron else "valence"
    found = [("Integral", f"{shown.integrate():.4f}")]
    if shown.unit == Field.unit:
        found = [(f"Electrons ({electrons})", f"{shown.integrate():.4f}")]
    drawn = of_values(shown)
    level, signed = drawn.level, drawn.signed
    surfaces = isosurfaces(shown, level, signed, NODES)
    picture = _picture(shown.structure, surfaces)
    sign = "\N{PLUS-MINUS SIGN}" if signed else ""
    rows = [("Picture at", f"{sign}{level:g} {shown.unit}"), *found, *rows]
    return _page(picture, [*_structure_rows(shown.structure), *rows])


def label(shown: Label) -> str:
    """A picture of the atoms and a table."""
    rows = [("Label", shown.name), *_structure_rows(shown.structure)]
    rows += [("Orbitals", str(shown.mo_coeff.shape[1]))]
    if shown.e_tot is not None:
        rows += [("Energy", f"{shown.e_tot:.6f} hartree")]
    return _page(_picture(shown.structure), rows)


def _structure_rows(shown: Structure) -> list[tuple[str, str]]:
    rows = [("Formula", shown.formula), ("Atoms", str(len(shown)))]
    if shown.charge:
        rows.append(("Charge", f"{shown.charge:+d}"))
    if shown.spin:
        rows.append(("Unpaired electrons", str(shown.spin)))
    if shown.cell is not None:
        lengths = " x ".join(f"{x:.3f}" for x in np.linalg.norm(shown.cell, axis=1) * BOHR)
        rows.append(("Cell", f"{lengths} angstrom"))
    return rows


def _grid_rows(shown: Grid) -> list[tuple[str, str]]:
    return [
        ("Nodes", " x ".join(str(n) for n in shown.shape)),
        ("Spacing", " x ".join(f"{h:.4f}" for h in shown.spacing * BOHR) + " angstrom"),
    ]


def _picture(atoms: Structure, surfaces: Iterable[Surface] = ()) -> str:
    """The atoms, and surfaces around them, as an <img>; empty if there are too many atoms."""
    if len(atoms) > MAX_ATOMS:
        return ""
    turn = scene.view_along_thinnest(atoms.positions) if len(atoms) > 1 else np.eye(3)
    meshes = [*scene.molecule(atoms), *(surface.mesh() for surface in surfaces)]
    png = scene.png(scene.render(meshes, turn, WIDTH, margin=0.3)[0])
    data = base64.b64encode(png).decode()
    return (
        f'<img alt="{html.escape(atoms.formula)}" src="data:image/png;base64,{data}" '
        'style="max-height:260px;object-fit:contain">'
    )


def _page(picture: str, rows: list[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><td style="text-align:left">{html.escape(name)}</td>'
        f'<td style="text-align:left">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return (
        f'<div style="display:flex;gap:18px;align-items:center">{picture}'
        f"<table>{cells}</table></div>"
    )
