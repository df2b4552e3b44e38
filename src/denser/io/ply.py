"""Meshes with values and colours at their vertices: PLY files, for MeshLab, Blender and others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from denser.io.files import replacing
from denser.types.units import BOHR


def write_mesh(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    values: Mapping[str, np.ndarray],
    colours: np.ndarray,
) -> None:
    """Write a mesh of triangles as binary PLY.

    Parameters
    ----------
    path : str or Path
    vertices : (n, 3) float
        Bohr; angstrom in the file.
    faces : (m, 3) int
        Counter-clockwise seen from outside.
    values : mapping of str to (n,) float
        Properties of the vertices, as they are.
    colours : (n, 3) float
        Red, green and blue from 0 to 1.
    """
    columns = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    columns += [(name, "u1") for name in ("red", "green", "blue")]
    columns += [(name, "<f4") for name in values]
    table = np.empty(len(vertices), dtype=columns)
    for axis, name in enumerate("xyz"):
        table[name] = vertices[:, axis] * BOHR
    for k, name in enumerate(("red", "green", "blue")):
        table[name] = np.round(255 * np.clip(colours[:, k], 0, 1))
    for name, column in values.items():
        table[name] = column
    triangles = np.empty(len(faces), dtype=[("n", "u1"), ("index", "<i4", 3)])
    triangles["n"], triangles["index"] = 3, faces
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply", "format binary_little_endian 1.0", "comment lengths in angstrom",
        f"element vertex {len(table)}",
        *(f"property {kinds[kind]} {name}" for name, kind in columns),
        f"element face {len(triangles)}", "property list uchar int vertex_indices", "end_header",
    ]  # fmt: skip
    with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
        file.write("\n".join([*header, ""]).encode())
        file.write(table.tobytes())
        file.write(triangles.tobytes())
