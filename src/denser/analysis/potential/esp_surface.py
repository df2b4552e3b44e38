"""Electrostatic potential on an isosurface of the density.

On the surface of 0.001 e/bohr^3 (Bader, Carroll, Cheeseman and Chang, J. Am. Chem. Soc. 109, 7968
(1987)) the extrema of the potential mark sigma-holes, lone pairs and acidic hydrogens, and its
statistics follow Politzer and Murray, e.g. J. Mol. Struct. (Theochem) 425, 107 (1998):

Pi = (1/A) integral |V - <V>| dA,  sigma_+-^2 = (1/A_+-) integral (V - <V>_+-)^2 dA over the
parts where V is positive and negative,  nu = sigma_+^2 sigma_-^2 / (sigma_+^2 + sigma_-^2)^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.analysis.potential.electrostatics import Potential
from denser.analysis.potential.surface_sites import SurfaceSite, sites
from denser.analysis.regions import nearest_atoms
from denser.analysis.uncertainty import potential_errors
from denser.atoms.free_atoms import complete
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, KCAL_PER_MOL

PERSISTENCE = 2e-4
"""An extremum is reported if it differs by more than this (hartree/e) from the saddle point that
leads to a higher maximum or a lower minimum. This excludes noise, for example on the rim of a
linear molecule."""

_LINES = 20
"""Largest number of maxima, and of minima, that `EspSurface.lines` shows."""

NEAR_IONS = (0.08, 0.02)
"""Near an ion the potential is steep, and the noise of the place of the surface counts: the second
number times what the potential has above the first, hartree/e, is added to `PERSISTENCE`. Surfaces
of neutral molecules without ions have no such potentials."""


@dataclass(frozen=True, eq=False)
class Extremum:
    """A local maximum or minimum of the potential on a surface.

    Parameters
    ----------
    value : float
        hartree/e.
    position : (3,) float
        Bohr.
    atom : int
        Index of the nearest atom.
    site : SurfaceSite
        Its kind (sigma-hole, lone pair, ...) and direction.
    error : float or None
        Of a prediction: what two of three errors do not exceed (`potential_errors`), hartree/e.
    """

    value: float
    position: np.ndarray
    atom: int
    site: SurfaceSite
    error: float | None = None


@dataclass(frozen=True, eq=False)
class EspSurface:
    """An isosurface of a density and the electrostatic potential on it.

    Parameters
    ----------
    structure : Structure
    isovalue : float
        Density on the surface, e/bohr^3.
    vertices : (n, 3) float
        Bohr.
    faces : (m, 3) int
        Triangles of vertices.
    areas : (m,) float
        Areas of the triangles, on which the potential is linear, bohr^2.
    potential : (n,) float
        At the vertices, hartree/e.
    volume : float
        Inside the surface, bohr^3.
    maxima, minima : tuple of Extremum
        V_s,max in descending order, V_s,min in ascending order.
    """

    structure: Structure
    isovalue: float
    vertices: np.ndarray
    faces: np.ndarray
    areas: np.ndarray
    potential: np.ndarray
    volume: float
    maxima: tuple[Extremum, ...]
    minima: tuple[Extremum, ...]

    @property
    def area(self) -> float:
        """Area, bohr^2."""
        return float(self.areas.sum())

    @property
    def mean(self) -> float:
        """Mean potential, hartree/e."""
        return float(self.areas @ self.potential[self.faces].mean(axis=1)) / self.area

    @property
    def positive(self) -> tuple[float, float, float]:
        """Area (bohr^2), mean and variance where the potential is positive, hartree/e."""
        return _mean_and_variance(*_positive_moments(self.areas, self.potential[self.faces]))

    @property
    def negative(self) -> tuple[float, float, float]:
        """Area (bohr^2), mean and variance where the potential is negative, hartree/e."""
        area, first, second = _positive_moments(self.areas, -self.potential[self.faces])
        return _mean_and_variance(area, -first, second)

    @property
    def deviation(self) -> float:
        """Mean absolute deviation Pi, hartree/e: the internal charge separation."""
        above = _positive_moments(self.areas, self.potential[self.faces] - self.mean)[1]
        return 2 * above / self.area

    @property
    def variance(self) -> float:
        """Total variance, sigma_+^2 + sigma_-^2, (hartree/e)^2."""
        return self.positive[2] + self.negative[2]

    @property
    def balance(self) -> float:
        """Nu, from 0 (only one sign varies) to 0.25 (both vary equally)."""
        total = self.variance
        return self.positive[2] * self.negative[2] / total**2 if total else 0.0

    def to_dict(self) -> dict:
        """Return plain data in angstrom and kcal/mol/e; no mesh."""
        positive, negative = self.positive, self.negative
        return {
            "isovalue_e_per_bohr3": self.isovalue,
            "area_angstrom2": self.area * BOHR**2,
            "volume_angstrom3": self.volume * BOHR**3,
            "area_positive_angstrom2": positive[0] * BOHR**2,
            "area_negative_angstrom2": negative[0] * BOHR**2,
            "mean_kcal_per_mol_e": self.mean * KCAL_PER_MOL,
            "mean_positive_kcal_per_mol_e": positive[1] * KCAL_PER_MOL,
            "mean_negative_kcal_per_mol_e": negative[1] * KCAL_PER_MOL,
            "deviation_pi_kcal_per_mol_e": self.deviation * KCAL_PER_MOL,
            "variance_positive_kcal2_per_mol2_e2": positive[2] * KCAL_PER_MOL**2,
            "variance_negative_kcal2_per_mol2_e2": negative[2] * KCAL_PER_MOL**2,
            "variance_total_kcal2_per_mol2_e2": self.variance * KCAL_PER_MOL**2,
            "balance_nu": self.balance,
            "maxima": [self._extremum_dict(extremum) for extremum in self.maxima],
            "minima": [self._extremum_dict(extremum) for extremum in self.minima],
        }

    def _extremum_dict(self, extremum: Extremum) -> dict:
        return {
            "potential_kcal_per_mol_e": extremum.value * KCAL_PER_MOL,
            "position_angstrom": (extremum.position * BOHR).tolist(),
            "nearest_atom": extremum.atom + 1,
            "nearest_element": self.structure.symbols[extremum.atom],
            "error_kcal_per_mol_e": (
                None if extremum.error is None else extremum.error * KCAL_PER_MOL
            ),
        } | extremum.site.to_dict(self.structure)

    def _name(self, atom: int) -> str:
        return f"{self.structure.symbols[atom]}{atom + 1}"

    def _kind(self, extremum: Extremum) -> str:
        """Such as: sigma hole of C1-Br2, 179 degrees."""
        site = extremum.site
        if site.kind == "sigma hole" and site.bonded is not None:
            bond = f"{self._name(site.bonded)}-{self._name(extremum.atom)}"
            return f": sigma hole of {bond}, {site.angle:.0f} degrees"
        return f": {site.kind}" if site.kind else ""

    def lines(self) -> list[str]:
        """Return lines about the surface, and one line for each of the largest extrema."""
        positive, negative = self.positive, self.negative
        rows = [
            f"surface of {self.isovalue:g} e/bohr^3: area {self.area * BOHR**2:.2f} A^2, "
            f"volume {self.volume * BOHR**3:.2f} A^3",
            f"potential on it: mean {self.mean * KCAL_PER_MOL:+.2f}, positive part "
            f"{positive[1] * KCAL_PER_MOL:+.2f} on {positive[0] * BOHR**2:.1f} A^2, negative part "
            f"{negative[1] * KCAL_PER_MOL:+.2f} on {negative[0] * BOHR**2:.1f} A^2 (kcal/mol/e)",
            f"Pi {self.deviation * KCAL_PER_MOL:.2f} kcal/mol/e, variance "
            f"{positive[2] * KCAL_PER_MOL**2:.1f} + {negative[2] * KCAL_PER_MOL**2:.1f} "
            f"(kcal/mol/e)^2, nu {self.balance:.3f}",
        ]
        for name, extrema in (("V_s,max", self.maxima), ("V_s,min", self.minima)):
            for extremum in extrema[:_LINES]:
                x, y, z = extremum.position * BOHR
                bar = "" if extremum.error is None else f" +- {extremum.error * KCAL_PER_MOL:.2g}"
                rows.append(
                    f"{name} {extremum.value * KCAL_PER_MOL:+8.2f}{bar} kcal/mol/e at {x:8.3f} "
                    f"{y:8.3f} {z:8.3f} A, near {self._name(extremum.atom)}{self._kind(extremum)}"
                )
            if len(extrema) > _LINES:
                rows.append(f"{name}: {len(extrema) - _LINES} more, which to_dict and JSON have")
        return rows


def esp_surface(
    density: Density, isovalue: float = 0.001, potential: Potential | None = None
) -> EspSurface:
    """Potential on the surface where the density is `isovalue`.

    The surface is that of the all-electron density, by marching cubes on its logarithm, which
    is nearly linear between nodes where the density decays. The minima of a valence density at
    heavy nuclei cause no inner surfaces.

    Parameters
    ----------
    density : Density
        Valence or all-electron. In a periodic structure the surface is that within the box.
    isovalue : float
        e/bohr^3.
    potential : Potential, optional
        Of this density, if it is at hand.

    Raises
    ------
    InputError
        There is no such surface, or it leaves the box of an isolated molecule; or an
        element has no free atom to complete its core with.
    """
    vertices, faces, volume = isosurface(density, isovalue)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(normals, axis=1) / 2
    values = (potential or Potential(density))(vertices)
    structure = density.structure

    def extrema(sign: int) -> tuple[Extremum, ...]:
        found = find_maxima(faces, sign * values)
        points = vertices[found]
        atoms = nearest_atoms(structure, points, True)
        errors = potential_errors(density, points)
        kinds = sites(structure, points, atoms, sign > 0)
        return tuple(
            Extremum(
                float(values[i]),
                vertices[i],
                int(atoms[k]),
                kinds[k],
                None if errors is None else float(errors[k]),
            )
            for k, i in enumerate(found)
        )

    maxima, minima = extrema(1), extrema(-1)
    return EspSurface(structure, isovalue, vertices, faces, areas, values, volume, maxima, minima)


def isosurface(density: Density, isovalue: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Vertices (bohr), triangles and the volume inside."""
    from skimage.measure import marching_cubes

    if not (np.isfinite(isovalue) and isovalue > 0):
        raise InputError(f"the isovalue must be a positive density, found {isovalue}")
    grid, periodic = density.grid, density.structure.cell is not None
    values = np.asarray(complete(density).values, dtype=float)
    high = values >= isovalue
    if not high.any() or high.all():
        raise InputError(
            f"the density has no surface of {isovalue:g} e/bohr^3: it ranges from "
            f"{values.min():.1e} to {values.max():.1e}; choose a value between"
        )
    if periodic:
        high_volume = high.sum() * grid.dv
        values = np.pad(values, (0, 1), mode="wrap")
    elif any(np.take(high, [0, -1], axis=axis).any() for axis in range(3)):
        raise InputError(
            f"the surface of {isovalue:g} e/bohr^3 leaves the box; use more padding or a larger "
            "isovalue"
        )
    logarithm = np.log(np.maximum(values, 1e-3 * isovalue))
    vertices, faces, _, _ = marching_cubes(logarithm, np.log(isovalue))
    vertices = grid.origin + vertices.astype(float) / grid.shape @ grid.cell
    if periodic:  # the surface is open where it meets the box
        return vertices, faces, float(high_volume)
    a, b, c = (vertices[faces[:, i]] - grid.origin for i in range(3))
    return vertices, faces, float(abs(np.einsum("ij,ij->", a, np.cross(b, c))) / 6)


def _positive_moments(areas: np.ndarray, corners: np.ndarray) -> tuple[float, float, float]:
    """Integrals of 1, f and f^2 where f > 0, of f linear on triangles with these corner values."""

    def moments(areas: np.ndarray, f: np.ndarray) -> np.ndarray:
        squares = (f**2).sum(axis=1) + f.sum(axis=1) ** 2
        return areas @ np.stack([np.ones(len(f)), f.mean(axis=1), squares / 12], axis=1)

    n_positive = (corners > 0).sum(axis=1)
    total = moments(areas[n_positive > 1], corners[n_positive > 1])
    # If one corner has the other sign, f = 0 cuts off a smaller triangle there.
    for n, order, sign in ((1, -1, 1), (2, 1, -1)):
        lone, b, c = np.sort(corners[n_positive == n], axis=1)[:, ::order].T
        small = areas[n_positive == n] * lone**2 / ((lone - b) * (lone - c))
        zeros = np.zeros_like(lone)
        total = total + sign * moments(small, np.stack([lone, zeros, zeros], axis=1))
    a, b, c = (float(x) for x in total)
    return a, b, c


def _mean_and_variance(area: float, first: float, second: float) -> tuple[float, float, float]:
    if area == 0:
        return 0.0, 0.0, 0.0
    return area, first / area, second / area - (first / area) ** 2


def find_maxima(faces: np.ndarray, values: np.ndarray) -> list[int]:
    """Maxima with a persistence above `PERSISTENCE` and `NEAR_IONS`, in descending order.

    From each vertex a path goes to the highest neighbour until it reaches a peak. The highest
    vertex between the regions of two peaks is a saddle; the lower peak counts if it is higher than
    the saddle by this value.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    rank = np.empty(len(values), dtype=int)  # like the values, without ties
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    start, end = edges[np.lexsort([rank[edges[:, 1]], edges[:, 0]])].T
    last = np.flatnonzero(np.diff(start, append=-1))  # of each vertex, its highest neighbour
    peak = np.arange(len(values))
    uphill = rank[end[last]] > rank[start[last]]
    peak[start[last][uphill]] = end[last][uphill]
    while (peak != peak[peak]).any():
        peak = peak[peak]

    borders = np.flatnonzero(peak[start] != peak[end])
    saddles = np.minimum(values[start[borders]], values[end[borders]])
    joined = {int(p): int(p) for p in np.unique(peak)}

    def top(p: int) -> int:
        while joined[p] != p:
            p = joined[p]
        return p

    kept = []
    for k in np.argsort(-saddles, kind="stable"):
        a, b = top(int(peak[start[borders[k]]])), top(int(peak[end[borders[k]]]))
        if a != b:
            lower, higher = sorted((a, b), key=lambda p: rank[p])
            joined[lower] = higher
            beyond = max(0.0, abs(values[lower]) - NEAR_IONS[0])
            if values[lower] - saddles[k] > PERSISTENCE + NEAR_IONS[1] * beyond:
                kept.append(lower)
    kept += [p for p in joined if joined[p] == p]
    return sorted(kept, key=lambda p: -rank[p])
