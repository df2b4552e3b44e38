"""Films: isosurfaces of a field that changes in time, as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from denser.io.files import replacing
from denser.pictures import scene
from denser.types.density import Field
from denser.types.structure import Structure
from denser.types.units import BOHR

WIDTH = 340
"""Pixels."""

_MILLISECONDS = 80
"""Each frame is shown for so long."""

_SHARE = 0.1
"""Default isovalue, as a share of the largest absolute value in all frames."""

_STRIP = 22
"""Pixels below the picture, for the text."""


def write_film(
    path: Path,
    frames: Sequence[Field],
    structure: Structure,
    texts: Sequence[str],
    isovalue: float | None = None,
) -> float:
    """Write a film: blue where the field is above the isovalue, red where it is below minus it.

    Parameters
    ----------
    path : Path
        Ends in .gif.
    frames : sequence of Field
        On one grid.
    structure : Structure
        Atoms, which do not move.
    texts : sequence of str
        Below each frame.
    isovalue : float, optional
        In the unit of the field; by default a tenth of the largest absolute value.

    Returns
    -------
    float
        The isovalue.
    """
    from PIL import Image, ImageDraw

    if isovalue is None:
        isovalue = _SHARE * max(float(np.abs(frame.values).max()) for frame in frames)
    atoms = scene.molecule(structure)
    parts = [[*atoms, *_surfaces(frame, isovalue)] for frame in frames]
    everything = np.concatenate([mesh.vertices for meshes in parts for mesh in meshes])
    view = scene.view_along_thinnest(structure.positions * BOHR)
    pictures = []
    for meshes, text in zip(parts, texts, strict=True):
        picture, _ = scene.render(meshes, view, WIDTH, 0.25, everything)
        height, width, _ = picture.shape
        image = Image.new("RGB", (width, height + _STRIP), "white")
        image.paste(Image.fromarray(picture), (0, 0))
        ImageDraw.Draw(image).text((8, height + 4), text, fill=(70, 70, 70))
        pictures.append(image.quantize(64))
    with replacing(path) as temporary:
        pictures[0].save(
            temporary,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=_MILLISECONDS,
            loop=0,
        )
    return isovalue


def _surfaces(frame: Field, isovalue: float) -> list[scene.Mesh]:
    """What the frame has of the two surfaces, perhaps nothing."""
    if not isovalue:
        return []
    below = replace(frame, values=-frame.values)
    found = (
        scene.isosurface(frame, isovalue, scene.POSITIVE),
        scene.isosurface(below, isovalue, scene.NEGATIVE),
    )
    return [mesh for mesh in found if mesh is not None]
