"""Critical points of the density, and the bond paths between them.

The gradient vanishes at a critical point. The signs of the eigenvalues of the Hessian give its
kind: attractor (---), bond (--+), ring (-++) or cage (+++). Their numbers obey the relation of
Poincare and Hopf,

n_attractors - n_bonds + n_rings - n_cages = chi,

where chi is the Euler characteristic of the region searched, {rho > RHO_MIN}: 1 for a molecule, 0
for a crystal filled with density, 2 for two molecules far apart. chi is counted on the grid.

Pairs of points that ripples of the density make are left out (`denser.analysis.topology.noise`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from denser.analysis.continuous import ContinuousDensity
from denser.analysis.fields import THOMAS_FERMI
from denser.analysis.topology.gradient_paths import ascend
from denser.analysis.topology.noise import KINDS, noise_pairs, without_noise
from denser.fields.periodic import nearest_image, wrapped
from denser.types.density import Density
from denser.types.units import BOHR

RHO_MIN = 1e-3
"""Critical points are searched for above this density, e/bohr^3, that of Bader's surface of a
molecule. Gaussian and plane-wave programs cut orbitals off; this gives ripples of up to 3e-4 in
the tails, with false critical points."""

LAPLACIAN_NOTE = (
    "lap: the cores are those of free atoms, so the laplacian of a polar bond is uncertain; at "
    "C=O of formaldehyde it is -0.36, with all electrons -0.25"
)
"""Beside the laplacians of bonds between two elements other than hydrogen."""

_MERGE = 0.02
"""Points closer than this are merged, bohr."""

_SAME = 1e-5
"""Newton's method ends nearer than this to a critical point, bohr."""

_NUCLEUS = 0.15
"""Points closer than this to a nucleus belong to its cusp, bohr."""


@dataclass(frozen=True, eq=False)
class BondPath:
    """The two paths of steepest ascent from a bond critical point.

    Parameters
    ----------
    atoms : (int, int)
        Indices of the atoms at their ends; -1 - k for the k-th non-nuclear attractor.
    point : int
        Index of the bond critical point.
    path : (n, 3) float
        From the first atom (or its image) through the point to the second, bohr.
    length : float
        Along the path, bohr.
    distance : float
        Between its ends, bohr.
    """

    atoms: tuple[int, int]
    point: int
    path: np.ndarray
    length: float
    distance: float


@dataclass(frozen=True, eq=False)
class CriticalPoints:
    """Critical points of a completed density where it exceeds 1e-3 e/bohr^3.

    Parameters
    ----------
    symbols : list of str
        Of the atoms.
    kinds : list of str
        "nucleus", "attractor" (non-nuclear), "bond", "ring" or "cage", in this order; the
        nuclei are the atoms in theirs.
    positions : (n, 3) float
        Bohr.
    rho : (n,) float
        e/bohr^3.
    gradient_norms : (n,) float
        e/bohr^4; zero at a nucleus, whose cusp has no gradient.
    eigenvalues : (n, 3) float
        Of the Hessian, ascending, e/bohr^5; nan at a nucleus.
    laplacians : (n,) float
        e/bohr^5; nan at a nucleus.
    ellipticities : (n,) float
        lambda_1/lambda_2 - 1 of a bond critical point; nan elsewhere.
    kinetic_energy_densities, potential_energy_densities : (n,) float
        G = (3/10)(3 pi^2)^(2/3) rho^(5/3) + |grad rho|^2/(72 rho) + lap/6 and V = lap/4 - 2 G,
        Abramov's approximations (Acta Cryst. A53, 264, 1997; made for closed-shell
        interactions), hartree/bohr^3; nan at a nucleus.
    bonds : tuple of BondPath
        One per bond critical point.
    euler : int
        Euler characteristic of the region searched.
    """

    symbols: list[str]
    kinds: list[str]
    positions: np.ndarray
    rho: np.ndarray
    gradient_norms: np.ndarray
    eigenvalues: np.ndarray
    laplacians: np.ndarray
    ellipticities: np.ndarray
    kinetic_energy_densities: np.ndarray
    potential_energy_densities: np.ndarray
    bonds: tuple[BondPath, ...]
    euler: int

    def count(self, *kinds: str) -> int:
        """Return the number of critical points of these kinds."""
        return sum(kind in kinds for kind in self.kinds)

    @property
    def poincare_hopf(self) -> int:
        """Attractors - bonds + rings - cages, which should be `euler`."""
        n_attractors = self.count("nucleus", "attractor")
        return n_attractors - self.count("bond") + self.count("ring") - self.count("cage")

    @property
    def is_complete(self) -> bool:
        """True if the numbers of critical points obey Poincare and Hopf."""
        return self.poincare_hopf == self.euler

    def to_dict(self) -> dict:
        """Return plain data: positions in angstrom, other values in atomic units."""
        points = []
        for i, kind in enumerate(self.kinds):
            point = {
                "kind": kind,
                "position_angstrom": (self.positions[i] * BOHR).tolist(),
                "rho_e_per_bohr3": float(self.rho[i]),
            }
            if kind != "nucleus":
                point |= {
                    "gradient_norm_e_per_bohr4": float(self.gradient_norms[i]),
                    "laplacian_e_per_bohr5": float(self.laplacians[i]),
                    "hessian_eigenvalues_e_per_bohr5": self.eigenvalues[i].tolist(),
                    "abramov_kinetic_energy_density_hartree_per_bohr3": float(
                        self.kinetic_energy_densities[i]
                    ),
                    "abramov_potential_energy_density_hartree_per_bohr3": float(
                        self.potential_energy_densities[i]
                    ),
                }
            if kind == "bond":
                point["ellipticity"] = float(self.ellipticities[i])
            points.append(point)
        return {
            "points": points,
            "bond_paths": [
                {
                    "atoms": [i + 1 if i >= 0 else None for i in bond.atoms],
                    "point": bond.point + 1,
                    "length_angstrom": bond.length * BOHR,
                    "distance_angstrom": bond.distance * BOHR,
                    "path_angstrom": (bond.path * BOHR).round(4).tolist(),
                }
                for bond in self.bonds
            ],
            "poincare_hopf": self.poincare_hopf,
            "euler_characteristic": self.euler,
            "complete": self.is_complete,
        } | ({"laplacian_note": LAPLACIAN_NOTE} if self._has_polar_bonds else {})

    def lines(self) -> list[str]:
        """One line per bond, ring and cage, and whether the count is complete."""
        out = ["critical point    rho/au     lap/au     ellipt.   G/au      V/au   path/A  dist./A"]
        bonds = {bond.point: bond for bond in self.bonds}
        for i, kind in enumerate(self.kinds):
            if kind == "nucleus":
                continue
            bond = bonds.get(i)
            name = kind if bond is None else "-".join(self._name(a) for a in bond.atoms)
            line = f"{name:14s} {self.rho[i]:9.5f} {self.laplacians[i]:10.5f}"
            if bond is None:
                line += " " * 11
            else:
                line += f" {self.ellipticities[i]:10.4f}"
            line += f" {self.kinetic_energy_densities[i]:9.5f}"
            line += f" {self.potential_energy_densities[i]:9.5f}"
            if bond is not None:
                line += f" {bond.length * BOHR:7.3f} {bond.distance * BOHR:7.3f}"
            out.append(line)
        counts = f"{self.count('nucleus')} nuclei, {self.count('attractor')} other attractors"
        for kind in ("bond", "ring", "cage"):
            counts += f", {self.count(kind)} {kind}{'' if self.count(kind) == 1 else 's'}"
        out.append(counts)
        verdict = "as" if self.is_complete else "but some are missing or spurious, as"
        out.append(
            f"Poincare-Hopf sum {self.poincare_hopf}, {verdict} the region "
            f"rho > {RHO_MIN:g} requires {self.euler}"
        )
        out.append("G and V are Abramov's approximations from the density")
        if self._has_polar_bonds:
            out.append(LAPLACIAN_NOTE)
        return out

    @property
    def _has_polar_bonds(self) -> bool:
        """Whether two different elements other than hydrogen are bonded."""
        pairs = [{self.symbols[a] for a in bond.atoms if a >= 0} for bond in self.bonds]
        return any(len(pair) == 2 and "H" not in pair for pair in pairs)

    def _name(self, atom: int) -> str:
        return f"{self.symbols[atom]}{atom + 1}" if atom >= 0 else "NNA"


def critical_points(density: Density | ContinuousDensity) -> CriticalPoints:
    """All critical points of the completed density above 1e-3 e/bohr^3, and the bond paths.

    Newton's method starts at the node of every 3x3x3 block of nodes over which each component
    of the gradient changes its sign, and halfway between neighbouring atoms. Pairs that noise makes
    are left out (`denser.analysis.topology.noise`).

    Parameters
    ----------
    density : Density or ContinuousDensity
        Valence (it is completed) or all-electron, H to Xe.

    Returns
    -------
    CriticalPoints

    Raises
    ------
    InputError
        As in `denser.atoms.free_atoms.complete`.
    """
    field = density if isinstance(density, ContinuousDensity) else ContinuousDensity(density)
    structure = field.structure
    found = _newton(field, _seeds(field))
    rho, gradient, hessian = field.evaluate(found, 2)
    eigenvalues, vectors = np.linalg.eigh(hessian)
    n_negative = (eigenvalues < 0).sum(axis=1)
    order = np.lexsort((-rho, -n_negative))
    found, rho, gradient, eigenvalues = (a[order] for a in (found, rho, gradient, eigenvalues))
    kinds = [KINDS[n] for n in n_negative[order]]
    laplacian = eigenvalues.sum(axis=1)
    squared = (gradient**2).sum(axis=1)
    kinetic = THOMAS_FERMI * rho ** (5 / 3) + squared / (72 * rho) + laplacian / 6
    bond = np.array([kind == "bond" for kind in kinds], dtype=bool)
    ellipticity = np.full(len(found), np.nan)
    ellipticity[bond] = eigenvalues[bond, 0] / eigenvalues[bond, 1] - 1
    n = len(structure)
    extra = np.array([kind == "attractor" for kind in kinds], dtype=bool)
    bonds = _bond_paths(field, found[bond], vectors[order][bond, :, 2], found[extra])
    false = noise_pairs(field, found, rho, kinds, bonds)
    bonds = without_noise(bonds, false, np.flatnonzero(bond), np.flatnonzero(extra))
    kept = np.setdiff1d(np.arange(len(found)), np.ravel(false))
    kinds = [kinds[i] for i in kept]
    found, rho, squared, eigenvalues, laplacian, kinetic, ellipticity = (
        a[kept] for a in (found, rho, squared, eigenvalues, laplacian, kinetic, ellipticity)
    )
    first = n + kinds.count("attractor")
    nan = np.full(n, np.nan)
    return CriticalPoints(
        symbols=structure.symbols,
        kinds=["nucleus"] * n + kinds,
        positions=np.concatenate([structure.positions, found]),
        rho=np.concatenate([field.evaluate(structure.positions)[0], rho]),
        gradient_norms=np.concatenate([np.zeros(n), np.sqrt(squared)]),
        eigenvalues=np.concatenate([np.full((n, 3), np.nan), eigenvalues]),
        laplacians=np.concatenate([nan, laplacian]),
        ellipticities=np.concatenate([nan, ellipticity]),
        kinetic_energy_densities=np.concatenate([nan, kinetic]),
        potential_energy_densities=np.concatenate([nan, laplacian / 4 - 2 * kinetic]),
        bonds=tuple(
            BondPath(
                atoms, first + i, path, _length(path), float(np.linalg.norm(path[-1] - path[0]))
            )
            for i, (atoms, path) in enumerate(bonds)
        ),
        euler=_euler_characteristic(field.values > RHO_MIN, field.periodic),
    )


def _seeds(field: ContinuousDensity) -> np.ndarray:
    """Starting points of Newton's method (n, 3)."""
    grid = field.grid
    candidate = field.values > RHO_MIN
    for component in field.gradient_at_nodes():
        for sign in (component > 0, component < 0):
            for axis in range(3):
                sign = sign | np.roll(sign, 1, axis) | np.roll(sign, -1, axis)
            candidate &= sign
    nodes = np.stack(np.nonzero(candidate), axis=-1)
    seeds = grid.origin + (nodes / grid.shape) @ grid.cell
    positions, _ = field.nuclei()
    pairs = cKDTree(positions).query_pairs(8.0, output_type="ndarray")
    return np.concatenate([seeds, positions[pairs].mean(axis=1)])


def _newton(field: ContinuousDensity, x: np.ndarray) -> np.ndarray:
    """Distinct critical points, away from the nuclei, that Newton's method finds from `x`."""
    x = x.copy()
    active = np.arange(len(x))
    done = np.zeros(len(x), dtype=bool)
    for _ in range(40):
        _, g, h = field.evaluate(x[active], 2)
        values, vectors = np.linalg.eigh(h)
        values = np.where(np.abs(values) < 1e-8, 1e-8, values)
        step = -(vectors @ ((vectors.swapaxes(1, 2) @ g[..., None])[..., 0] / values)[..., None])
        step = step[..., 0]
        length = np.linalg.norm(step, axis=1)
        x[active] += step * np.minimum(1.0, 0.2 / np.maximum(length, 1e-300))[:, None]
        done[active[length < 1e-7]] = True
        active = active[length >= 1e-7]
        if active.size == 0:
            break
    x = x[done]
    if x.size == 0:
        return x.reshape(0, 3)
    if field.periodic:
        x = wrapped(x, field.grid.cell, field.grid.origin)
    else:
        fraction = (x - field.grid.origin) @ np.linalg.inv(field.grid.cell)
        x = x[((fraction >= 0) & (fraction < 1)).all(axis=1)]
    distance, _ = cKDTree(field.nuclei()[0]).query(x)
    x = x[(distance > _NUCLEUS) & (field.evaluate(x)[0] > RHO_MIN)]
    return _distinct(field, x)


def _distinct(field: ContinuousDensity, x: np.ndarray) -> np.ndarray:
    """One point of each cluster closer than `_MERGE`, images counted."""
    if len(x) < 2:
        return x
    # Thousands of starts end at one point where symmetry makes components of the gradient vanish.
    _, first = np.unique(np.round(x / _SAME), axis=0, return_index=True)
    x = x[np.sort(first)]
    difference = x[:, None] - x[None]
    if field.periodic:
        difference = nearest_image(difference, field.grid.cell)
    close = coo_array(np.linalg.norm(difference, axis=-1) < _MERGE)
    _, cluster = connected_components(close)
    return x[np.unique(cluster, return_index=True)[1]]


def _bond_paths(
    field: ContinuousDensity, points: np.ndarray, along: np.ndarray, attractors: np.ndarray
) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Ends and polylines of the ascents from bond critical points along +-`along`."""
    if len(points) == 0:
        return []
    starts = np.concatenate([points - 0.01 * along, points + 0.01 * along])
    ends, lines = ascend(field, starts, attractors)
    out = []
    for i, point in enumerate(points):
        a, b = i, i + len(points)
        if ends[a] > ends[b]:
            a, b = b, a
        path = np.concatenate([lines[a][::-1], point[None], lines[b]])
        out.append(((int(ends[a]), int(ends[b])), path))
    return out


def _length(path: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _euler_characteristic(inside: np.ndarray, periodic: bool) -> int:
    """Nodes - edges + faces - cubes of the cubical complex on the nodes `inside`."""
    if not periodic:  # a layer outside keeps opposite faces of the box apart
        inside = np.pad(inside, ((0, 1),) * 3)
    total = 0
    for corner in np.ndindex(2, 2, 2):
        cells = inside
        for axis in np.flatnonzero(corner):
            cells = cells & np.roll(cells, -1, axis)
        total += (-1) ** sum(corner) * int(np.count_nonzero(cells))
    return total
