"""Shaded pictures of triangle meshes: a small software renderer in NumPy.

It uses orthographic projection, Phong shading and transparency for each pixel. Atoms are therefore
visible through surfaces without the seams and sorting errors of drawing one triangle after another.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from scipy.ndimage import zoom
from scipy.spatial import ConvexHull

from denser.atoms.radii import bonds
from denser.types.density import Field
from denser.types.structure import Structure
from denser.types.units import BOHR

SUPERSAMPLING = 2
MAX_NODES = 150
"""If an axis has more nodes than this, isosurfaces use every second, third, ... node."""

POSITIVE, NEGATIVE, DENSITY = (
    np.array(rgb) for rgb in ((0.12, 0.32, 0.86), (0.84, 0.10, 0.12), (0.20, 0.50, 0.82))
)
"""Blue where a field is positive and red where it is negative, in all pictures and in the viewer;
and the blue of a density."""

_BATCH = 500_000
_LIGHT = np.array([-0.40, 0.62, 0.68], dtype=np.float32)
_HALFWAY = _LIGHT + np.array(
    [0, 0, 1], dtype=np.float32
)  # between light and viewer, who looks along the z axis


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles.

    Parameters
    ----------
    vertices : (n, 3) float
    faces : (m, 3) int
        Counter-clockwise seen from outside; triangles seen from inside are not drawn.
    normals : (n, 3) float
        Outward unit vectors.
    colour : (3,) or (n, 3) float
        Red, green, blue from 0 to 1, for all vertices or for each.
    opacity : float
        Opacity of a face towards the viewer; transparent surfaces become denser near their rim.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colour: np.ndarray
    opacity: float = 1.0


def normals_of(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals at vertices: the mean of the adjacent faces' normals, weighted by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    of_face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, faces[:, i], of_face)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def unit_sphere(n_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (equal to their normals) and faces of a sphere of even triangles."""
    k = np.arange(n_points) + 0.5
    z = 1 - 2 * k / n_points
    angle = np.pi * (1 + 5**0.5) * k  # Fibonacci's lattice
    ring = np.sqrt(1 - z * z)
    vertices = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
    faces = ConvexHull(vertices).simplices
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) < 0
    faces[inward] = faces[inward][:, ::-1]
    return vertices, faces


def sphere(centre: np.ndarray, radius: float, colour: np.ndarray, n_points: int = 400) -> Mesh:
    """Return an opaque ball."""
    vertices, faces = unit_sphere(n_points)
    return Mesh(centre + radius * vertices, faces, vertices, colour)


def stick(
    start: np.ndarray, end: np.ndarray, radius: float, colour: np.ndarray, n_sides: int = 20
) -> Mesh:
    """Return an opaque tube without lids."""
    axis = (end - start) / np.linalg.norm(end - start)
    across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    across /= np.linalg.norm(across)
    angle = 2 * np.pi * np.arange(n_sides) / n_sides
    normals = np.outer(np.cos(angle), across) + np.outer(np.sin(angle), np.cross(axis, across))
    i, j = np.arange(n_sides), (np.arange(n_sides) + 1) % n_sides
    faces = np.concatenate(
        [np.stack([i, j, j + n_sides], axis=1), np.stack([i, j + n_sides, i + n_sides], axis=1)]
    )
    rim = radius * normals
    return Mesh(np.concatenate([start + rim, end + rim]), faces, np.tile(normals, (2, 1)), colour)


def isosurface(field: Field, level: float, colour: np.ndarray) -> Mesh | None:
    """Triangulated isosurface of the field at `level`, in angstrom; None if there is none."""
    from skimage.measure import marching_cubes

    high = field.values >= level
    if not high.any() or high.all():
        return None
    # Only the part of the box that contains the surface, closed at the faces of the box.
    occupied = [np.flatnonzero(high.any(axis=tuple({0, 1, 2} - {i}))) for i in range(3)]
    coarse = max(-(-int(np.ptp(index)) // MAX_NODES) for index in occupied) or 1
    stride: float
    for stride in (coarse, 1):  # every node, if the surface lies between the coarse ones
        margin = stride + 3  # keeps the ends of the splines below away from the surface
        first = [max(int(index[0]) - margin, 0) for index in occupied]
        last = [int(index[-1]) + margin for index in occupied]
        part = tuple(slice(i, j + 1, stride) for i, j in zip(first, last, strict=True))
        values = np.asarray(field.values[part], dtype=np.float32)
        if values.max() > level:
            break
    else:
        return None
    if stride == 1 and 2 * max(values.shape) <= MAX_NODES:  # otherwise small molecules show facets
        values = zoom(values, [2 - 1 / n for n in values.shape], order=3)
        stride = 0.5
    values = np.pad(values, 1, constant_values=min(0.0, float(values.min())))
    vertices, faces, slopes, _ = marching_cubes(values, level)
    step = stride * field.grid.cell / np.array(field.grid.shape)[:, None]
    normals = slopes @ np.linalg.inv(step).T  # from d/d(index) to d/dr
    vertices = field.grid.origin + (np.array(first) / stride + vertices - 1) @ step
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    outward = normals[faces].sum(axis=1)
    if np.einsum("ij,ij->", np.cross(b - a, c - a), outward) < 0:
        faces = faces[:, ::-1]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Mesh(vertices * BOHR, faces, normals, colour, opacity=0.17)


def molecule(structure: Structure) -> list[Mesh]:
    """Balls and two-coloured sticks, in angstrom."""
    positions, numbers = structure.positions * BOHR, structure.numbers
    radii, colours = covalent_radii[numbers], jmol_colors[numbers]
    n_points = 400 if len(structure) < 100 else 150
    meshes = [
        sphere(position, 0.15 + 0.25 * radius, colour, n_points)
        for position, radius, colour in zip(positions, radii, colours, strict=True)
    ]
    for i, j in bonds(structure, periodic=False):
        middle = (positions[i] + positions[j]) / 2
        meshes.append(stick(positions[i], middle, 0.11, colours[i]))
        meshes.append(stick(positions[j], middle, 0.11, colours[j]))
    return meshes


def box(cell: np.ndarray, origin: np.ndarray) -> list[Mesh]:
    """Twelve thin sticks along the edges of a box."""
    edges = []
    for i in range(3):
        j, k = cell[(i + 1) % 3], cell[(i + 2) % 3]
        edges += [(corner, corner + cell[i]) for corner in origin + np.array([0 * j, j, k, j + k])]
    return [stick(start, end, 0.02, np.full(3, 0.45), n_sides=8) for start, end in edges]


def view_along_thinnest(points: np.ndarray, tilt: tuple[float, float] = (-26, -16)) -> np.ndarray:
    """Rotation (3, 3) of points for a picture; the rows are right, up and towards the viewer.

    The longest principal axis points to the right and the shortest one to the viewer. The view
    is then tilted by `tilt` degrees about the right and the upward axis.
    """
    centred = points - points.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1].T[::-1].copy()
    for axis in axes[:2]:  # the sign of eigenvectors is arbitrary
        axis *= np.sign(axis[np.argmax(np.abs(axis) > np.abs(axis).max() - 1e-6)])
    axes[2] = np.cross(axes[0], axes[1])
    (ca, cb), (sa, sb) = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    about_right = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_up = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    return about_right @ about_up @ axes


def render(
    meshes: list[Mesh],
    view: np.ndarray,
    width: int,
    margin: float,
    around: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Draw meshes on a white background.

    Parameters
    ----------
    meshes : list of Mesh
    view : (3, 3) float
        Rotation whose rows are right, up and towards the viewer.
    width : int
        Width of the picture, pixels; the height follows from it.
    margin : float
        Empty space around the meshes, in their unit of length.
    around : (n, 3) float, optional
        The picture shows these points and the margin instead; no mesh may be outside.

    Returns
    -------
    picture : (height, width, 3) uint8
    scale : float
        Pixels per unit of length.
    """
    projected = [mesh.vertices @ view.T for mesh in meshes]
    shown = projected if around is None else [around @ view.T]
    everything = np.concatenate([p[:, :2] for p in shown])
    low, high = everything.min(axis=0) - margin, everything.max(axis=0) + margin
    fine = width * SUPERSAMPLING
    scale = fine / (high[0] - low[0])
    height = int(np.ceil((high[1] - low[1]) * scale / SUPERSAMPLING)) * SUPERSAMPLING
    image = np.ones((height * fine, 3), dtype=np.float32)
    depth = np.full(height * fine, -np.inf, dtype=np.float32)
    glass = []
    for mesh, p in sorted(zip(meshes, projected, strict=True), key=lambda m: -m[0].opacity):
        p = np.column_stack([(p[:, 0] - low[0]) * scale, (high[1] - p[:, 1]) * scale, p[:, 2]])
        colours = np.broadcast_to(mesh.colour, mesh.vertices.shape)
        turned = np.concatenate([mesh.normals @ view.T, colours], axis=1)
        for pixel, z, look in _fragments(mesh, p, turned, (height, fine)):
            seen = np.flatnonzero(z > depth[pixel])
            pixel, z, rgba = pixel[seen], z[seen], _shade(look[seen], mesh.opacity)
            if mesh.opacity < 1:
                glass.append((pixel, z, (255 * rgba + 0.5).astype(np.uint8)))
                continue
            order = np.argsort(z)  # for equal indices, the last assignment counts
            image[pixel[order]] = rgba[order, :3]
            depth[pixel[order]] = z[order]
    if any(len(pixel) for pixel, _, _ in glass):
        _blend(image, *(np.concatenate(parts) for parts in zip(*glass, strict=True)))
    shape = (height // SUPERSAMPLING, SUPERSAMPLING, width, SUPERSAMPLING, 3)
    picture = image.reshape(shape).mean(axis=(1, 3))
    return (255 * np.clip(picture, 0, 1) + 0.5).astype(np.uint8), scale / SUPERSAMPLING


def png(picture: np.ndarray, n_colours: int = 64) -> bytes:
    """PNG file of a picture (height, width, 3) uint8, with a palette that keeps it small."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).quantize(n_colours).save(file, "PNG", optimize=True)
    return file.getvalue()


def _fragments(
    mesh: Mesh, p: np.ndarray, look: np.ndarray, shape: tuple[int, int]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (pixel, depth, look) of the pixel centres inside the triangles, in batches.

    `look` are the values interpolated between vertices: normals and colours.
    """
    height, width = shape
    a, b, c = (p[mesh.faces[:, i]] for i in range(3))
    area = _cross(c - a, b - a)  # positive if the face looks at the viewer: y runs downwards
    kept = np.flatnonzero(area > 1e-9)
    a, b, c, area, faces = a[kept], b[kept], c[kept], area[kept], mesh.faces[kept]
    # Pixel k has its centre at k + 0.5.
    xy = np.stack([a, b, c])[..., :2] - 0.5
    first = np.maximum(np.ceil(xy.min(axis=0)), 0).astype(np.int32)
    last = np.minimum(np.floor(xy.max(axis=0)), [width - 1, height - 1]).astype(np.int32)
    extent = np.maximum(last - first + 1, 0)
    # Weights of the corners b and c at the first pixel, and their change per pixel.
    corner = first + 0.5 - a[:, :2]
    of_b = np.column_stack(
        [_cross(c - a, corner), a[:, 1] - c[:, 1], c[:, 0] - a[:, 0]] / area
    ).astype(np.float32)
    of_c = np.column_stack(
        [-_cross(b - a, corner), b[:, 1] - a[:, 1], a[:, 0] - b[:, 0]] / area
    ).astype(np.float32)
    attributes = np.concatenate([p[:, 2:], look], axis=1).astype(np.float32)
    at_a = attributes[faces[:, 0]]
    to_b, to_c = attributes[faces[:, 1]] - at_a, attributes[faces[:, 2]] - at_a
    counts = extent[:, 0] * extent[:, 1]
    cuts = np.searchsorted(counts.cumsum(), np.arange(_BATCH, counts.sum(), _BATCH))
    for batch in np.split(np.arange(len(faces)), cuts):
        n = counts[batch]
        face = np.repeat(batch, n)
        k = np.arange(face.size, dtype=np.int32) - np.repeat(n.cumsum() - n, n).astype(np.int32)
        dy, dx = np.divmod(k, extent[face, 0])
        u = of_b[face, 0] + of_b[face, 1] * dx + of_b[face, 2] * dy
        v = of_c[face, 0] + of_c[face, 1] * dx + of_c[face, 2] * dy
        inside = np.flatnonzero((u >= 0) & (v >= 0) & (u + v <= 1))
        face, u, v = face[inside], u[inside, None], v[inside, None]
        pixel = (first[face, 1] + dy[inside]) * width + first[face, 0] + dx[inside]
        interpolated = at_a[face] + u * to_b[face] + v * to_c[face]
        yield pixel, interpolated[:, 0], interpolated[:, 1:]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _shade(look: np.ndarray, opacity: float) -> np.ndarray:
    """Phong shading of normals and colours (n, 6): red, green, blue and opacity (n, 4)."""
    normal, colour = look[:, :3], look[:, 3:]
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    lit = np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    gloss = 0.5 * np.clip(normal @ (_HALFWAY / np.linalg.norm(_HALFWAY)), 0, 1) ** 40
    ambient = 0.52 if opacity == 1 else 0.75  # dark glass would look dirty
    rgba = np.ones((len(normal), 4), dtype=np.float32)
    rgba[:, :3] = colour * (ambient + (1 - ambient) * lit)[:, None]
    rgba[:, :3] += (1 - rgba[:, :3]) * gloss[:, None]
    if opacity < 1:
        rim = (1 - np.clip(normal[:, 2], 0, 1)) ** 2
        alpha = opacity + (0.85 - opacity) * rim
        rgba[:, 3] = alpha + (1 - alpha) * gloss
    return rgba


def _blend(image: np.ndarray, pixel: np.ndarray, z: np.ndarray, rgba: np.ndarray) -> None:
    """Draw transparent fragments over the image, from back to front in each pixel."""
    rank = ((z - z.min()) * (2**30 / max(np.ptp(z), 1e-9))).astype(np.int64)
    order = np.argsort((pixel.astype(np.int64) << 32) + rank)
    pixel, rgba = pixel[order], rgba[order]
    starts = np.flatnonzero(np.diff(pixel, prepend=-1))
    counts = np.diff(starts, append=pixel.size)
    for layer in range(counts.max(initial=0)):
        i = starts[counts > layer] + layer
        colour = rgba[i].astype(np.float32) / 255
        image[pixel[i]] += colour[:, 3:] * (colour[:, :3] - image[pixel[i]])
