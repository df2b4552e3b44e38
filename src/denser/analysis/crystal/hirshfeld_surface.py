"""Hirshfeld surfaces of the molecules of a crystal, and what fingerprint plots show.

The surface of a molecule is where its superposed free atoms make half of the density of those of
the crystal, w = rho_molecule / rho_crystal = 1/2 (Spackman and Byrom, Chem. Phys. Lett. 267, 215
(1997)). It is found as the zero of f = ln rho_molecule - ln rho_others, which is nearly linear,
and its vertices are then moved onto the zero by Newton's method.

At each point d_i and d_e are the distances to the nearest nucleus inside and outside (Spackman and
McKinnon, CrystEngComm 4, 378 (2002)), and with the van der Waals radii r of these two atoms

d_norm = (d_i - r_i)/r_i + (d_e - r_e)/r_e

(McKinnon, Jayatilaka and Spackman, Chem. Commun. 2007, 3814). With the principal curvatures k1 and
k2 of the surface, positive where it is convex, the shape index is S = (2/pi) arctan((k1 + k2)/(k1 -
k2)), k1 >= k2, and the curvedness C = (2/pi) ln sqrt((k1^2 + k2^2)/2), in angstrom (Koenderink and
van Doorn, Image Vis. Comput. 10, 557 (1992)). The curvatures follow from the derivatives of f.

The free atoms are those of this package: all electrons, PBE, spherical. Other programs use
Hartree-Fock atoms, so that volumes and shares of contacts differ in the last digit shown. No
predicted density is used: the surface depends on the positions alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data.vdw import vdw_radii
from scipy.spatial import cKDTree

from denser.analysis.crystal.molecular_crystal import MolecularCrystal
from denser.atoms.free_atoms import free_atom
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

SPACING = 0.24 / BOHR
"""Of the nodes on which the surface is found first, bohr."""

_MARGINS = (3.0 / BOHR, 5.0 / BOHR, 8.0 / BOHR)
"""Space around the atoms of the molecule, bohr; the next one if the surface leaves the box."""

_REACH = 11.0
"""Atoms farther from a point than this are left out, bohr; the surface moves by less than 0.001."""

_AT_ONCE = 4096

_PARTS = 4
"""Edges of triangles are divided into this many parts, for shares of contacts."""

RADII = {1: 1.09}
"""Van der Waals radii in angstrom that are not Bondi's (`ase.data.vdw`): that of hydrogen is of
Rowland and Taylor, J. Phys. Chem. 100, 7384 (1996)."""

_METAL = 2.0
"""Where Bondi has no radius, angstrom."""

_LEAST_SHARE = 0.05
"""Shares of contacts below this (percent) are not printed."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Points spread evenly over a surface: `areas` (n,), bohr^2, distances and nearest atoms.

    Parameters
    ----------
    areas, d_i, d_e : (n,) float
    inside, outside : (n,) int
        Atomic numbers of the nearest atoms.
    """

    areas: np.ndarray
    d_i: np.ndarray
    d_e: np.ndarray
    inside: np.ndarray
    outside: np.ndarray


@dataclass(frozen=True, eq=False)
class MoleculeSurface:
    """The Hirshfeld surface of a molecule.

    Parameters
    ----------
    molecule : int
        In the cell, from 0.
    structure : Structure
        The molecule.
    vertices : (n, 3) float
        Bohr.
    faces : (m, 3) int
        Counter-clockwise seen from outside.
    areas : (n,) float
        Shares of the vertices in the area, bohr^2.
    d_i, d_e : (n,) float
        Bohr.
    d_norm, shape_index, curvedness : (n,) float
        The last for lengths in angstrom.
    samples : Samples
    volume : float
        Bohr^3.
    """

    molecule: int
    structure: Structure
    vertices: np.ndarray
    faces: np.ndarray
    areas: np.ndarray
    d_i: np.ndarray
    d_e: np.ndarray
    d_norm: np.ndarray
    shape_index: np.ndarray
    curvedness: np.ndarray
    samples: Samples
    volume: float

    @property
    def area(self) -> float:
        """Area, bohr^2."""
        return float(self.areas.sum())

    @property
    def contacts(self) -> dict[str, float]:
        """Percent of the area by elements inside and outside, either way round, largest first."""
        from ase.data import chemical_symbols

        found = self.samples
        low, high = np.minimum(found.inside, found.outside), np.maximum(found.inside, found.outside)
        shares = {}
        for pair in np.unique(np.stack([low, high], axis=1), axis=0):
            chosen = (low == pair[0]) & (high == pair[1])
            name = "...".join(chemical_symbols[z] for z in pair[::-1])
            shares[name] = 100 * float(found.areas[chosen].sum() / found.areas.sum())
        return dict(sorted(shares.items(), key=lambda share: -share[1]))

    def to_dict(self) -> dict:
        """Return plain data in angstrom; no mesh."""

        def limits(values: np.ndarray, scale: float = 1.0) -> list[float]:
            mean = float(values @ self.areas) / self.area
            return [round(scale * float(x), 4) for x in (values.min(), mean, values.max())]

        return {
            "molecule": self.molecule + 1,
            "formula": self.structure.formula,
            "volume_angstrom3": self.volume * BOHR**3,
            "area_angstrom2": self.area * BOHR**2,
            "globularity": float(
                (36 * np.pi * self.volume**2) ** (1 / 3) / self.area
            ),  # area of the sphere of this volume
            "d_i_min_mean_max_angstrom": limits(self.d_i, BOHR),
            "d_e_min_mean_max_angstrom": limits(self.d_e, BOHR),
            "d_norm_min_mean_max": limits(self.d_norm),
            "shape_index_min_mean_max": limits(self.shape_index),
            "curvedness_min_mean_max": limits(self.curvedness),
            "contacts_percent": {k: round(x, 3) for k, x in self.contacts.items()},
        }


@dataclass(frozen=True, eq=False)
class HirshfeldSurfaces:
    """Surfaces of the independent molecules of a crystal.

    Parameters
    ----------
    surfaces : tuple of MoleculeSurface
    filled : float
        Share of the cell inside the surfaces of all molecules.
    """

    surfaces: tuple[MoleculeSurface, ...]
    filled: float

    def to_dict(self) -> dict:
        """Return plain data in angstrom; no meshes."""
        return {
            "surfaces": [surface.to_dict() for surface in self.surfaces],
            "filled_percent": 100 * self.filled,
        }

    def lines(self) -> list[str]:
        """Return lines for each surface, and how much of the cell all fill."""
        rows = []
        for surface in self.surfaces:
            found = surface.to_dict()
            low, mean, high = found["d_norm_min_mean_max"]
            shares = ", ".join(
                f"{name} {share:.1f}"
                for name, share in surface.contacts.items()
                if share >= _LEAST_SHARE
            )
            rows += [
                f"Hirshfeld surface of molecule {surface.molecule + 1}, {found['formula']}: volume "
                f"{found['volume_angstrom3']:.2f} A^3, area {found['area_angstrom2']:.2f} A^2, "
                f"globularity {found['globularity']:.3f}",
                f"  d_i from {surface.d_i.min() * BOHR:.3f} to {surface.d_i.max() * BOHR:.3f}, d_e "
                f"from {surface.d_e.min() * BOHR:.3f} to {surface.d_e.max() * BOHR:.3f} A; d_norm "
                f"from {low:.3f} to {high:.3f}, mean {mean:.3f}",
                f"  contacts, % of the area: {shares}",
            ]
        rows.append(f"the surfaces of all molecules fill {100 * self.filled:.1f} % of the cell")
        return rows


def hirshfeld_surfaces(density: Density) -> HirshfeldSurfaces:
    """Hirshfeld surfaces of the independent molecules of a crystal.

    Parameters
    ----------
    density : Density
        Of the crystal; only its atoms are used.

    Raises
    ------
    InputError
        No cell, atoms bonded without end, or an element beyond Xe.
    """
    crystal, _ = MolecularCrystal.of(density.structure, "Hirshfeld surfaces")
    orbits = crystal.orbits()
    surfaces = tuple(_surface(crystal, i) for i in orbits)
    inside = sum(
        len(others) * surface.volume
        for surface, others in zip(surfaces, orbits.values(), strict=True)
    )
    return HirshfeldSurfaces(surfaces, float(inside / abs(np.linalg.det(crystal.cell))))


@dataclass(frozen=True, eq=False)
class _Atoms:
    """Free atoms at places (n, 3)."""

    numbers: np.ndarray
    positions: np.ndarray

    def density(self, points: np.ndarray, order: int = 0) -> list[np.ndarray]:
        """Density of all electrons at points (n, 3), with gradient and Hessian if wanted."""
        n = len(points)
        out = [np.zeros((n, *[3] * k)) for k in range(order + 1)]
        tree = cKDTree(self.positions)
        for start in range(0, n, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            near = cKDTree(points[some]).sparse_distance_matrix(tree, _REACH, output_type="ndarray")
            for z in np.unique(self.numbers):
                of_kind = near[self.numbers[near["j"]] == z]
                self._add(int(z), points[some], of_kind, [x[some] for x in out])
        return out

    def _add(self, z: int, points: np.ndarray, near: np.ndarray, out: list[np.ndarray]) -> None:
        """Add the atoms of an element to the density and its derivatives at some points."""
        i, r = near["i"], np.maximum(near["v"], 1e-9)
        if len(out) == 1:
            out[0] += np.bincount(i, free_atom(z).all_electron(r), minlength=len(points))
            return
        value, slope, curvature = free_atom(z).all_electron_derivatives(r)
        unit = (points[i] - self.positions[near["j"]]) / r[:, None]
        ratio = slope / r
        out[0] += np.bincount(i, value, minlength=len(points))
        for a in range(3):
            out[1][:, a] += np.bincount(i, slope * unit[:, a], minlength=len(points))
            for b in range(3):
                term = (curvature - ratio) * unit[:, a] * unit[:, b] + ratio * (a == b)
                out[2][:, a, b] += np.bincount(i, term, minlength=len(points))


def _log_ratio(own: _Atoms, others: _Atoms, points: np.ndarray, order: int = 0) -> list[np.ndarray]:
    """Return f = ln rho_molecule - ln rho_others at points, with gradient and Hessian if wanted."""
    first, second = (atoms.density(points, order) for atoms in (own, others))
    out = [np.log(first[0] + 1e-300) - np.log(second[0] + 1e-300)]
    if order:
        slopes = [x[1] / x[0][:, None] for x in (first, second)]
        out.append(slopes[0] - slopes[1])
        bends = [
            x[2] / x[0][:, None, None] - s[:, :, None] * s[:, None, :]
            for x, s in zip((first, second), slopes, strict=True)
        ]
        out.append(bends[0] - bends[1])
    return out


def _surface(crystal: MolecularCrystal, i: int) -> MoleculeSurface:
    """The surface of a molecule."""
    molecule = crystal.molecules[i]
    own = _Atoms(molecule.numbers, molecule.positions)
    for margin in _MARGINS:
        around = list(crystal.neighbours(i, margin + 8.0))
        others = _Atoms(
            np.concatenate([crystal.molecules[x.index].numbers for x in around]),
            np.concatenate([crystal.positions(x.index) + x.shift for x in around]),
        )
        found = _mesh(molecule, own, others, margin)
        if found is not None:
            break
    else:
        raise InputError(
            f"the Hirshfeld surface of molecule {i + 1} ({molecule.formula}) does not close within "
            f"{_MARGINS[-1] * BOHR:g} angstrom; the crystal has large voids"
        )
    vertices, faces = found
    for _ in range(2):
        f, gradient, _ = _log_ratio(own, others, vertices, 2)
        step = f / np.maximum((gradient**2).sum(axis=1), 1e-6)
        step = np.clip(step, -0.2, 0.2)[:, None] * gradient
        vertices = vertices - step
    _, gradient, hessian = _log_ratio(own, others, vertices, 2)
    k1, k2 = _curvatures(gradient, hessian)
    corners = vertices[faces]
    of_faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    volume = float(np.einsum("ij,ij->", corners[:, 0], of_faces)) / 6
    if volume < 0:
        volume, faces = -volume, faces[:, ::-1]
    areas = np.zeros(len(vertices))
    np.add.at(areas, faces, (np.linalg.norm(of_faces, axis=1) / 6)[:, None])
    d_i, inside = cKDTree(own.positions).query(vertices)
    d_e, outside = cKDTree(others.positions).query(vertices)
    z_i, z_e = own.numbers[inside], others.numbers[outside]
    r_i, r_e = (np.array([radius(int(z)) for z in x]) for x in (z_i, z_e))
    mean_square = 0.5 * (k1**2 + k2**2) / BOHR**2
    return MoleculeSurface(
        i,
        molecule,
        vertices,
        faces,
        areas,
        d_i,
        d_e,
        (d_i - r_i) / r_i + (d_e - r_e) / r_e,
        2 / np.pi * np.arctan2(k1 + k2, k1 - k2),
        2 / np.pi * 0.5 * np.log(np.maximum(mean_square, 1e-12)),
        _samples(corners, np.linalg.norm(of_faces, axis=1) / 2, own, others),
        volume,
    )


def _samples(corners: np.ndarray, areas: np.ndarray, own: _Atoms, others: _Atoms) -> Samples:
    """Distances and nearest atoms at the centres of `_PARTS`^2 parts of each triangle (n, 3, 3)."""
    k = np.arange(_PARTS)
    i, j = (x.ravel() for x in np.meshgrid(k, k, indexing="ij"))
    upright, turned = i + j < _PARTS, i + j < _PARTS - 1
    first = np.concatenate([i[upright] + 1 / 3, i[turned] + 2 / 3]) / _PARTS
    second = np.concatenate([j[upright] + 1 / 3, j[turned] + 2 / 3]) / _PARTS
    weights = np.stack([1 - first - second, first, second], axis=1)
    points = np.einsum("pc,ncx->npx", weights, corners).reshape(-1, 3)
    d_i, inside = cKDTree(own.positions).query(points)
    d_e, outside = cKDTree(others.positions).query(points)
    return Samples(
        np.repeat(areas / _PARTS**2, _PARTS**2),
        d_i,
        d_e,
        own.numbers[inside],
        others.numbers[outside],
    )


def radius(z: int) -> float:
    """Van der Waals radius of an element, bohr."""
    bondi = float(vdw_radii[z]) if z < len(vdw_radii) else np.nan
    return RADII.get(z, bondi if np.isfinite(bondi) else _METAL) / BOHR


def _mesh(
    molecule: Structure, own: _Atoms, others: _Atoms, margin: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Vertices and triangles of the surface; None if it leaves the box."""
    from skimage.measure import label, marching_cubes

    grid = Grid.around(molecule, margin, SPACING)
    f = _log_ratio(own, others, grid.points().reshape(-1, 3))[0].reshape(grid.shape)
    high = f > 0
    parts = label(high, connectivity=1)
    nodes = np.round((own.positions - grid.origin) @ np.linalg.inv(grid.cell) * grid.shape)
    mine = {int(parts[tuple(x)]) for x in nodes.astype(int)} - {0}
    f = np.where(high & ~np.isin(parts, list(mine)), -1e-3, f)  # not the voids between others
    if any((np.take(f, [0, -1], axis=axis) > 0).any() for axis in range(3)):
        return None
    vertices, faces, _, _ = marching_cubes(f, 0.0)
    return grid.origin + vertices.astype(float) / grid.shape @ grid.cell, faces.astype(int)


def _curvatures(gradient: np.ndarray, hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal curvatures of a level of f that falls outwards, 1/bohr.

    Positive where the surface is convex. They are the eigenvalues of -P H P / |grad f| in the plane
    of the surface, P = 1 - n n.
    """
    length = np.linalg.norm(gradient, axis=1)
    normal = gradient / length[:, None]
    plane = np.eye(3) - normal[:, :, None] * normal[:, None, :]
    shape = -plane @ hessian @ plane / length[:, None, None]
    trace = np.trace(shape, axis1=1, axis2=2)  # k1 + k2; the third eigenvalue is zero
    squares = np.einsum("nij,nij->n", shape, shape)
    difference = np.sqrt(np.maximum(2 * squares - trace**2, 0.0))
    return 0.5 * (trace + difference), 0.5 * (trace - difference)
