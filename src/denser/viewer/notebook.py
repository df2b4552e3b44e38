"""Densities in Jupyter: `denser.show(rho)`.

The view is a self-contained HTML page: 3Dmol, the atoms, and surfaces at a series of isovalues. It
needs no server and no network, and still works in a saved notebook.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np

from denser.fields.metrics import subtract
from denser.pictures.scene import DENSITY, NEGATIVE, POSITIVE
from denser.types.density import Density
from denser.types.errors import InputError
from denser.viewer.surfaces import atoms, isosurface, pack

LEVELS = 13
"""Isovalues of the slider; they increase by factors of the square root of two."""

MAX_NODES = 50


@dataclass(frozen=True)
class View:
    """A view for Jupyter.

    Parameters
    ----------
    page : str
        A complete HTML page; write it to a file to share the view.
    height : int
        Pixels.
    """

    page: str
    height: int

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" style="width:100%;height:{self.height}px;'
            'border:1px solid #dfe3e9;border-radius:8px" sandbox="allow-scripts"></iframe>'
        )


def show(
    density: Density,
    minus: Density | None = None,
    isovalue: float | None = None,
    height: int = 460,
) -> View:
    """Show a density, or the difference of two, in Jupyter.

    Parameters
    ----------
    density : Density
        A density, or another field with atoms, such as an orbital.
    minus : Density, optional
        A density on the same grid; `density` minus this one is shown.
    isovalue : float, optional
        Initial isovalue, in the density's unit; default 0.1, or 0.003 for a difference.
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
        density = replace(density, values=subtract(density, minus))
    values = np.asarray(density.values)
    signed = minus is not None or bool(values.min() < -1e-3 * values.max())
    if isovalue is None:
        isovalue = 0.003 if minus is not None else 0.05 if signed else 0.1
    if not (np.isfinite(isovalue) and isovalue > 0):
        raise InputError(f"the isovalue must be a positive number, found {isovalue}")
    if not np.abs(values).max() > isovalue:
        raise InputError(
            f"the field does not reach {isovalue:g} {density.unit}; its values are between "
            f"{values.min():.3g} and {values.max():.3g}"
        )
    levels: list[float] = []
    layers: list[list[dict]] = []
    buffers: list[np.ndarray] = []
    for level in isovalue * 2.0 ** (np.arange(LEVELS) / 2 - LEVELS // 2 / 2):
        found = [isosurface(density, level, POSITIVE if signed else DENSITY, MAX_NODES)]
        if signed:
            found.append(isosurface(density, -level, NEGATIVE, MAX_NODES))
        drawn = []
        for surface in (s for s in found if s is not None):
            drawn.append(
                {"role": "surface", "colour": surface.colour.tolist(), "vertices": len(buffers)}
            )
            buffers += surface.buffers()
        if drawn:
            levels.append(float(f"{level:.3g}"))
            layers.append(drawn)
    header = {
        "atoms": atoms(density.structure),
        "levels": levels,
        "start": int(np.argmin(np.abs(np.log(np.array(levels) / isovalue)))),
        "layers": layers,
        "unit": density.unit,
        "signed": signed,
    }
    return View(_page(pack(header, buffers)), int(height))


def _page(message: bytes) -> str:
    """HTML that contains the scripts and the message."""
    folder = files("denser") / "viewer" / "page"
    modules = "\n".join(
        (folder / name).read_text("utf-8").replace("export ", "")
        for name in ("api.js", "scene.js", "notebook.js")
    )
    library = (folder / "3Dmol-min.js").read_text("utf-8").replace("</script", "<\\/script")
    data = json.dumps(base64.b64encode(message).decode())
    return (
        (folder / "notebook.html")
        .read_text("utf-8")
        .format(library=library, modules=modules, data=data)
    )
