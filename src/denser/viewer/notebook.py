"""Densities in Jupyter: `denser.show(rho)`, and pages that can be sent to others.

A view holds its atoms, its surfaces at a series of isovalues, a picture, and a small script; it
needs no server and no network, and still works in a saved notebook. Where scripts do not run, as in
a notebook that is not trusted or on a code host, the picture is shown. All views on a page share
one WebGL context (page/notebook.js).
"""

from __future__ import annotations

import base64
import gzip
import html
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from denser.atoms.radii import bonds
from denser.io.files import replacing
from denser.pictures import scene
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.viewer import fields
from denser.viewer.surfaces import Surface, isosurfaces, pack

LEVELS, FACTOR = 9, 1.6
"""Number of isovalues of the slider, and the factor from one to the next."""

MAX_NODES = 44
"""Largest number of nodes along an axis for a surface."""

PICTURE_WIDTH = 460
"""Width of the picture, pixels."""

OPACITY = 0.5


@dataclass(frozen=True)
class View:
    """A view for Jupyter.

    Parameters
    ----------
    title : str
        What it shows.
    markup : str
        The view as HTML: the picture, the controls, the surfaces and the script.
    height : int
        Pixels.
    """

    title: str
    markup: str
    height: int

    def __repr__(self) -> str:
        return f"View({self.title}, {len(self.markup) / 1000:.0f} kB)"

    def _repr_html_(self) -> str:
        return self.markup

    def save(self, path: str | Path) -> None:
        """Write a page that any browser opens without a server or a network.

        Parameters
        ----------
        path : str or Path
            Its suffix is .html.

        Raises
        ------
        InputError
            Another suffix, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{path}: a view is saved as a page; end the name with .html")
        page = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(self.title)}</title></head>\n"
            f'<body style="margin:12px;background:#fff">{self.markup}</body></html>\n'
        )
        with replacing(path) as temporary:
            temporary.write_text(page, "utf-8")


def show(
    density: Density,
    minus: Density | None = None,
    isovalue: float | None = None,
    height: int = 420,
) -> View:
    """Show a density, or the difference of two, in Jupyter.

    Positive values are blue and negative values are red.

    Parameters
    ----------
    density : Density
        A density, or another field with atoms, such as an orbital.
    minus : Density, optional
        A density on the same grid; `density` minus this one is shown.
    isovalue : float, optional
        Initial isovalue, in the density's unit; default 0.1, 0.003 for a difference, 0.005 for
        a spin density.
    height : int
        Pixels.

    Returns
    -------
    View

    Raises
    ------
    InputError
        There are no atoms, the grids differ, or the isovalue is not positive or is not reached.
    """
    if not isinstance(density, Density):
        raise InputError(
            f"denser.show needs a Density, found {type(density).__name__}; a Field has no atoms"
        )
    if minus is not None:
        density = replace(density, values=(density - minus).values)
    values = np.asarray(density.values)
    shown = fields.of_values(density)
    signed = minus is not None or shown.signed
    if isovalue is None:
        isovalue = fields.DIFFERENCE.level if minus is not None else shown.level
    if not (np.isfinite(isovalue) and isovalue > 0):
        raise InputError(f"the isovalue must be a positive number, found {isovalue}")
    if not np.abs(values).max() > isovalue:
        raise InputError(
            f"the field does not reach {isovalue:g} {density.unit}; its values are between "
            f"{values.min():.3g} and {values.max():.3g}"
        )
    levels = isovalue * FACTOR ** (np.arange(LEVELS) - LEVELS // 2)
    drawn = {
        float(f"{level:.3g}"): surfaces
        for level in levels
        if (surfaces := isosurfaces(density, level, signed, MAX_NODES))
    }
    start = int(np.argmin(np.abs(np.log(np.array(list(drawn)) / isovalue))))
    structure = density.structure
    frame = _Frame(structure, drawn[list(drawn)[start]])
    sign = "\N{PLUS-MINUS SIGN}" if signed else ""
    title = f"{structure.formula} at {sign}{list(drawn)[start]:g} {density.unit}"
    header = {
        "atoms": frame.atoms(),
        "turn": frame.turn.tolist(),
        "centre": frame.centre.tolist(),
        "extent": frame.extent.tolist(),
        "reach": frame.reach,
        "step": frame.step,
        "levels": list(drawn),
        "start": start,
        "unit": density.unit,
        "signed": signed,
    }
    layers: list[list[dict]] = []
    buffers: list[np.ndarray] = []
    for surfaces in drawn.values():
        layers.append([])
        for surface in surfaces:
            layers[-1].append({"colour": surface.colour.tolist(), "vertices": len(buffers)})
            _, normals, faces = surface.buffers()
            vertices = np.round(surface.vertices / frame.step).astype(np.int16)
            buffers += [_steps(vertices), normals, _steps(faces.ravel())]
    message = gzip.compress(pack(header | {"layers": layers}, buffers), mtime=0)
    picture = frame.picture()
    return View(title, _markup(title, picture, message, len(drawn), int(height)), int(height))


def _steps(values: np.ndarray) -> np.ndarray:
    """Differences along the first axis, modulo 2^16: small numbers, which compress well."""
    return np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))


class _Frame:
    """Where atoms and surfaces stand in the view and in its picture, angstrom."""

    def __init__(self, structure: Structure, surfaces: list[Surface]) -> None:
        self.structure, self.surfaces = structure, surfaces
        positions = structure.positions * BOHR
        self.turn = np.eye(3)
        if len(structure) > 1:
            self.turn = scene.view_along_thinnest(positions)
        points = np.concatenate([positions, *(s.vertices for s in surfaces), *self.edges()])
        turned = points @ self.turn.T
        low, high = turned.min(axis=0), turned.max(axis=0)
        self.centre = (low + high) / 2 @ self.turn
        self.extent = (high - low)[:2] + 0.6
        self.reach = float(np.linalg.norm(points - self.centre, axis=1).max()) + 20.0
        self.step = float(np.abs(points).max() + 20.0) / 32000
        """Unit of the vertices, which are whole numbers of 16 bits."""

    def edges(self) -> list[np.ndarray]:
        """Ends (2, 3) of the edges of the cell."""
        if self.structure.cell is None:
            return []
        a, b, c = self.structure.cell * BOHR
        corners = {0: (b, c), 1: (c, a), 2: (a, b)}
        return [
            np.array([at, at + axis])
            for k, axis in enumerate((a, b, c))
            for at in (0 * a, *corners[k], sum(corners[k]))
        ]

    def atoms(self) -> dict:
        """Balls, sticks and lines for the page."""
        structure = self.structure
        return {
            "positions": np.round(structure.positions * BOHR, 4).tolist(),
            "colours": np.round(jmol_colors[structure.numbers], 3).tolist(),
            "radii": (0.15 + 0.25 * covalent_radii[structure.numbers]).tolist(),
            "bonds": bonds(structure, periodic=False).tolist(),
            "lines": [edge.tolist() for edge in self.edges()],
        }

    def picture(self) -> bytes:
        """PNG of the first isovalue."""
        meshes = scene.molecule(self.structure)
        meshes += [scene.stick(a, b, 0.02, np.full(3, 0.45), 8) for a, b in self.edges()]
        meshes += [surface.mesh() for surface in self.surfaces]
        return scene.png(scene.render(meshes, self.turn, PICTURE_WIDTH, margin=0.3)[0])


STYLE = """
.denser-view{position:relative;max-width:960px;font:13px/1.4 system-ui,sans-serif;color:#1d2330;
background:#fff;border:1px solid #dfe3e9;border-radius:8px;overflow:hidden}
.denser-view .stage{position:absolute;inset:0 0 34px}
.denser-view img{position:absolute;inset:0;width:100%;height:100%;object-fit:contain}
.denser-view canvas{position:absolute;inset:0;width:100%;height:100%;display:none;cursor:grab;
touch-action:none;outline:none}
.denser-view .bar{position:absolute;left:0;right:0;bottom:0;height:34px;display:flex;gap:10px;
align-items:center;padding:0 12px;border-top:1px solid #dfe3e9;background:#fff;color:#626b7b}
.denser-view .bar>*{display:none}
.denser-view .bar>.title,.denser-view.live .bar>*{display:block}
.denser-view.live .bar>.title,.denser-view.live img{display:none}
.denser-view.live canvas{display:block}
.denser-view output{min-width:116px;font-variant-numeric:tabular-nums}
.denser-view input{flex:1;min-width:40px;max-width:240px;accent-color:#1c66b8}
"""


def _markup(title: str, picture: bytes, message: bytes, n_levels: int, height: int) -> str:
    """HTML of a view."""
    folder = files("denser") / "viewer" / "page"
    script = "\n".join(
        (folder / name).read_text("utf-8").replace("export ", "")
        for name in ("unpack.js", "notebook.js")
    )
    start = "document.querySelectorAll('.denser-view:not(.begun)').forEach(begin);"
    shown = html.escape(title)
    return (
        f"<style>{STYLE}</style>\n"
        f'<div class="denser-view" style="height:{height}px" '
        f'data-message="{base64.b64encode(message).decode()}">'
        f'<div class="stage"><img alt="{shown}" '
        f'src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        '<canvas tabindex="0" title="Drag to turn, click and then scroll to zoom, double-click to '
        'reset"></canvas></div>'
        f'<div class="bar"><span class="title">{shown}</span><label>Isovalue</label>'
        f'<input name="level" type="range" min="0" max="{n_levels - 1}" step="1" '
        'aria-label="Isovalue"><output></output><label>Opacity</label>'
        f'<input name="opacity" type="range" min="5" max="100" value="{100 * OPACITY:.0f}" '
        'aria-label="Opacity"></div></div>\n'
        f"<script>(() => {{\n{script}\n{start}\n}})();</script>\n"
    )
