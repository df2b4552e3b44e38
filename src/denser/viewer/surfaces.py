"""Isosurfaces and slices as triangles, packed for the browser.

Lengths of the page are in angstrom. A surface is made from every second, third, ... node if the
screen cannot show more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
from ase.data import covalent_radii
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from denser.atoms.radii import bonds
from denser.pictures.scene import DENSITY, NEGATIVE, POSITIVE, Mesh, view_along_thinnest
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR

MAX_NODES = 112
"""Largest number of nodes along an axis for a surface."""

MAX_VERTICES = 60_000
"""Largest number of vertices of a mesh: the browser's indices have 16 bits."""

SLICE_NODES = 160
"""Number of points along each side of a slice."""

DIVERGING = np.array(
    [[165, 12, 20], [244, 145, 104], [246, 246, 246], [98, 146, 226], [8, 48, 140]]
)
"""From negative (red) to positive (blue); dark at both ends, and suitable for colour-blind
readers."""

SEQUENTIAL = np.array(
    [[253, 253, 250], [250, 221, 140], [233, 140, 84], [160, 58, 100], [52, 20, 84]]
)
"""From low to high values, with decreasing lightness."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles in angstrom.

    Parameters
    ----------
    vertices, normals : (n, 3) float32
    faces : (m, 3) uint32
    colour : (3,) float
        Colour of the whole surface, 0 to 1, unless `colours` are given.
    colours : (n, 3) float32 or None
        Colour of each vertex.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    colour: np.ndarray
    colours: np.ndarray | None = None

    def part(self, keep: np.ndarray) -> Surface | None:
        """The triangles whose vertices are all in `keep` (n,) bool; None if there are none."""
        faces = self.faces[keep[self.faces].all(axis=1)]
        used = np.unique(faces)
        if not len(used):
            return None
        number = np.zeros(len(keep), dtype=np.uint32)
        number[used] = np.arange(len(used))
        return replace(
            self, vertices=self.vertices[used], normals=self.normals[used], faces=number[faces]
        )

    def mesh(self) -> Mesh:
        """The same for a picture, transparent."""
        return Mesh(self.vertices, self.faces, self.normals, self.colour, opacity=0.3)

    def buffers(self) -> list[np.ndarray]:
        """Vertices, normals, faces and colours (if any), with the precision of a screen."""
        arrays = [
            self.vertices,
            np.round(127 * self.normals).astype(np.int8),
            self.faces.astype(np.uint16),
        ]
        if self.colours is not None:
            arrays.append(np.round(255 * self.colours).astype(np.uint8))
        return arrays


def isosurface(
    field: Field, level: float, colour: np.ndarray, max_nodes: int = MAX_NODES
) -> Surface | None:
    """Isosurface of the field at `level`; None if there is none.

    A positive level encloses the values above it, a negative level those below it.
    """
    from skimage.measure import marching_cubes

    sign = 1.0 if level > 0 else -1.0
    inside = field.values >= level if level > 0 else field.values <= level
    if not inside.any():
        return None
    occupied = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {i}))) for i in range(3)]
    coarse = max(-(-int(np.ptp(index)) // max_nodes) for index in occupied) or 1
    for stride in (coarse, 1):  # every node, if the surface lies between the coarse ones
        first = np.array([max(int(index[0]) - 2 * stride, 0) for index in occupied])
        last = [int(index[-1]) + 2 * stride for index in occupied]
        part = tuple(slice(i, j + 1, stride) for i, j in zip(first, last, strict=True))
        values = sign * np.asarray(field.values[part], dtype=np.float32)
        if values.max() > abs(level):
            break
    else:
        return None
    values = np.pad(values, 1, constant_values=min(0.0, float(values.min())))
    vertices, faces, slopes, _ = marching_cubes(
        values, abs(level), gradient_direction="ascent", allow_degenerate=False
    )
    step = stride * field.grid.cell / np.array(field.grid.shape)[:, None]
    vertices = (field.grid.origin + (first / stride + vertices - 1) @ step) * BOHR
    normals = slopes @ np.linalg.inv(step).T  # from d/d(index) to d/dr
    # Faces and normals must point outward, whatever the handedness of the mesher.
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    if np.einsum("ij,ij->", np.cross(b - a, c - a), normals[faces].sum(axis=1)) < 0:
        faces = faces[:, ::-1]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    if len(vertices) > MAX_VERTICES and max_nodes > 16:
        return isosurface(field, level, colour, int(0.75 * max_nodes))
    return Surface(
        vertices.astype(np.float32), normals.astype(np.float32), faces.astype(np.uint32), colour
    )


def isosurfaces(field: Field, level: float, signed: bool, max_nodes: int) -> list[Surface]:
    """Isosurface at `level`, and at -`level` for a field with a sign; those that there are."""
    found = [isosurface(field, level, POSITIVE if signed else DENSITY, max_nodes)]
    if signed:
        found.append(isosurface(field, -level, NEGATIVE, max_nodes))
    return [surface for surface in found if surface is not None]


def at_points(field: Field, points: np.ndarray) -> np.ndarray:
    """Values of a field at points (..., 3) in angstrom by trilinear interpolation.

    Outside the box it is continued periodically.
    """
    grid = field.grid
    index = (points / BOHR - grid.origin) @ np.linalg.inv(grid.cell) * grid.shape
    index = np.moveaxis(np.asarray(index), -1, 0)
    return map_coordinates(field.values, index, order=1, mode="grid-wrap", output=np.float32)


def coloured(values: np.ndarray, anchors: np.ndarray, low: float, high: float) -> np.ndarray:
    """Colours (n, 3) float32, 0 to 1, of values on a scale from `low` to `high`."""
    position = np.clip((values.ravel() - low) / (high - low), 0, 1) * (len(anchors) - 1)
    steps = np.arange(len(anchors))
    rgb = [np.interp(position, steps, anchors[:, k]) for k in range(3)]
    return (np.stack(rgb, axis=1) / 255).astype(np.float32)


def slice_frame(
    structure: Structure, plane: str, atoms: list[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (3,) in angstrom and the unit vectors of a plane: (right, up) (2, 3), normal (3,).

    Parameters
    ----------
    plane : str
        "x", "y", "z" (normals), "molecule" (the best plane through all atoms) or "atoms"
        (through three atoms).
    atoms : list of int
        The three atoms.
    """
    positions = structure.positions * BOHR
    centre = positions.mean(axis=0)
    if plane in ("x", "y", "z"):
        k = "xyz".index(plane)
        axes = np.eye(3)
        return centre, axes[[(k + 1) % 3, (k + 2) % 3]], axes[k]
    if plane == "molecule":
        away = positions - centre
        axes = np.linalg.eigh(away.T @ away)[1].T[::-1]
        return centre, axes[:2], np.cross(axes[0], axes[1])
    if plane == "atoms":
        if len(set(atoms)) != 3 or not all(0 <= a < len(structure) for a in atoms):
            raise InputError("a slice through atoms needs three of them; select three atoms first")
        a, b, c = positions[atoms]
        normal = np.cross(b - a, c - a)
        if np.linalg.norm(normal) < 1e-3:
            raise InputError("the three atoms are on one line and define no plane; select others")
        right = (b - a) / np.linalg.norm(b - a)
        normal /= np.linalg.norm(normal)
        return (a + b + c) / 3, np.stack([right, np.cross(normal, right)]), normal
    raise InputError(f"unknown plane {plane!r}; use x, y, z, molecule or atoms")


def plane_slice(
    field: Field, structure: Structure, plane: str, offset: float, atoms: list[int], level: float
) -> tuple[Surface, np.ndarray, dict]:
    """Coloured plane through a field with contour lines at level * 2^k.

    Parameters
    ----------
    offset : float
        Offset of the plane along its normal, angstrom.
    level : float
        Positive; k runs from -6 to 6.

    Returns
    -------
    Surface
    (n, 2, 3) float32
        Line segments of the contours, angstrom.
    dict
        "low", "high" and "colours" of the scale.
    """
    from skimage.measure import find_contours

    centre, axes, normal = slice_frame(structure, plane, atoms)
    centre = centre + offset * normal
    reach = np.abs((structure.positions * BOHR - centre) @ axes.T).max(axis=0) + 2.2
    t = np.linspace(-1, 1, SLICE_NODES)
    right, up = reach[:, None] * axes
    points = centre + t[:, None, None] * right + t[None, :, None] * up
    values = at_points(field, points)
    signed = bool(field.values.min() < -1e-3 * field.values.max())
    high = 16 * level if signed else 4 * level
    low, anchors = (-high, DIVERGING) if signed else (0.0, SEQUENTIAL)
    shown = np.cbrt(values / high) if signed else np.sqrt(np.maximum(values, 0) / high)
    n = SLICE_NODES
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    across = corner + n + 1
    lower, upper = (corner, corner + n, across), (corner, across, corner + 1)
    faces = np.concatenate([np.stack(lower, axis=1), np.stack(upper, axis=1)])
    surface = Surface(
        points.reshape(-1, 3).astype(np.float32),
        np.broadcast_to(normal, (n * n, 3)).astype(np.float32),
        faces.astype(np.uint32),
        DENSITY,
        coloured(shown, anchors, -1.0 if signed else 0.0, 1.0),
    )
    lines = []
    levels = level * 2.0 ** np.arange(-6, 7)
    for value in [*(-levels if signed else ()), *levels]:
        if values.min() < value < values.max():
            for path in find_contours(values, value):
                xyz = centre + (path / (n - 1) * 2 - 1) @ np.stack([right, up]) + 0.01 * normal
                lines.append(np.stack([xyz[:-1], xyz[1:]], axis=1))
    contours = np.concatenate(lines) if lines else np.zeros((0, 2, 3))
    notes = ["square-root scale"]
    if signed:
        notes = ["cube-root scale", "red: negative, blue: positive"]
    scale = {"low": low, "high": high, "colours": anchors.tolist(), "notes": notes}
    return surface, contours.astype(np.float32), scale


def atoms(structure: Structure, shown: Structure) -> dict:
    """Atoms in angstrom with their bonds, and the quaternion of a good first view.

    Atom k of `shown` is a copy of atom k % n_atoms of the structure.
    """
    turn = view_along_thinnest(shown.positions) if len(shown) > 1 else np.eye(3)
    return {
        "formula": structure.formula,
        "charge": structure.charge,
        "n_atoms": len(structure),
        "symbols": shown.symbols,
        "positions": np.round(shown.positions * BOHR, 5).tolist(),
        "radii": covalent_radii[shown.numbers].tolist(),
        "bonds": bonds(shown, periodic=False).tolist(),
        "cell": None if structure.cell is None else (structure.cell * BOHR).tolist(),
        "view": Rotation.from_matrix(turn).as_quat().tolist(),
    }


def pack(header: dict, buffers: list[np.ndarray]) -> bytes:
    """One message: length of the header (uint32), the header as JSON, then the arrays.

    The header gains "buffers", a list of {"type", "offset", "length"}; everything begins at a
    multiple of four bytes and is little-endian.
    """
    table, raw, offset = [], [], 0
    for array in buffers:
        table.append({"type": array.dtype.name, "offset": offset, "length": array.size})
        raw.append(array.tobytes() + b"\0" * (-array.nbytes % 4))
        offset += len(raw[-1])
    text = json.dumps(header | {"buffers": table}, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([np.uint32(len(text)).tobytes(), text, *raw])
