"""Electrostatic potential and field of a density and its nuclei, on the grid and anywhere.

V(r) = sum_a Z_a / |r - R_a| - integral rho(r') / |r - r'| dr'

For a valence density Z is the charge of the pseudopotential's ion. The potential is then right
outside the cores, where a GTH ion is a point charge. For an all-electron density Z is the charge
of the nucleus.
`denser.analysis.potential.ewald` says how the sum is split: V = L on the grid + S of each atom.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.interpolate import NdBSpline
from scipy.ndimage import spline_filter
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from denser.analysis.potential.ewald import MARGIN, EwaldSplit
from denser.fields.periodic import images_near
from denser.fields.windows import ball, pieces
from denser.types.density import Continuous, Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid

ORDER = 5
"""Degree of the splines through the smooth part of the potential."""

COARSE = 0.95
"""Spacing (bohr) of the point charges that replace the density for points outside its box."""

NEGLIGIBLE = 1e-6
"""The smallest of these charges are neglected, up to this sum (e)."""

ANALYTIC = 20_000_000
"""Nodes times atoms up to which the potential of a coarse grid is computed without a sum over
nodes, in half a minute at most."""

_SPLINE_ENDS = {"isolated": "mirror", "periodic": "grid-wrap"}
_PADDING: dict[str, Literal["reflect", "wrap"]] = {"isolated": "reflect", "periodic": "wrap"}
_CHUNK = 2_000_000


def electrostatic_potential(density: Density, kind: str | None = None) -> Field:
    """Potential of nuclei and electrons on the nodes.

    Parameters
    ----------
    density : Density
        Valence or all-electron.
    kind : "isolated" or "periodic", optional
        Boundary; by default periodic if the structure has a cell.

    Returns
    -------
    Field
        hartree/e, positive near nuclei. Within the radius of a node's share of the volume, the
        nucleus is a homogeneous ball, so that the value at a node is finite. A periodic potential
        has zero mean, without that of the cores of an all-electron density; it agrees with that
        of the valence density outside the cores. That of a prediction on a small coarse grid
        (`Grid.is_coarse`, up to `ANALYTIC` nodes times atoms) is the potential of its Gaussians,
        not a sum over nodes.

    Raises
    ------
    InputError
        Another `kind`, an isolated box that is not orthorhombic, or an all-electron density
        with an element beyond Ar.
    """
    split, grid = EwaldSplit(density, kind), density.grid
    n_pairs = grid.size * len(density.structure)
    if split.kind == "isolated" and density.continuous and grid.is_coarse and n_pairs <= ANALYTIC:
        return _analytic(density, density.continuous)
    long, wider = split.long_range()
    values = np.ascontiguousarray(long[_inner(grid, wider)])
    radius = _node_radius(grid)
    for ion, centre in zip(split.ions, density.structure.positions, strict=True):
        nodes, squared = ball(grid, centre, ion.radius, split.kind == "periodic")
        r = np.sqrt(squared)
        patch = np.where(r <= ion.radius, ion.charge_at(r) * _inverse(r, radius), 0.0)
        for on_grid, in_patch in pieces(nodes, grid.shape):
            values[on_grid] += patch[in_patch]
    return Field(grid, values, "hartree/e")


def _analytic(density: Density, electrons: Continuous) -> Field:
    """Potential of the Gaussians of a prediction at the nodes."""
    grid, centres = density.grid, density.structure.positions
    points = grid.points().reshape(-1, 3)
    values = electrons.potential(points, np.zeros(len(centres)))
    radius = _node_radius(grid)
    for charge, centre in zip(density.valence_charges, centres, strict=True):
        values += charge * _inverse(np.linalg.norm(points - centre, axis=1), radius)
    return Field(grid, values.reshape(grid.shape), "hartree/e")


class Potential:
    """The electrostatic potential of a density at any point, for surfaces, charges and QM/MM.

    Within the box L is a quintic spline through the nodes; S is analytic everywhere. Outside
    an isolated box L is the sum over charges on a lattice of 0.95 bohr that have the same
    moments, locally to the seventh, as the density: at the faces of the box its error is
    1e-7 hartree/e with 4 angstrom of vacuum, and at most 2e-4 (2e-5 root mean square) with the 2
    angstrom of the paper's box.

    Parameters
    ----------
    density : Density
        Valence or all-electron; of a valence density the potential inside the cores, closer
        than about 1 bohr to a heavy nucleus, is that of the bare ion.
    kind : "isolated" or "periodic", optional
        By default periodic if the structure has a cell.

    Notes
    -----
    `interaction` is that with point charges of a force field, for a fixed density. A molecule that
    moves takes `denser.workflows.embedding`.
    """

    def __init__(self, density: Density, kind: str | None = None) -> None:
        split = EwaldSplit(density, kind)
        self.kind, self.structure = split.kind, density.structure
        values, self.grid = split.long_range()
        if self.kind == "isolated":
            self._lattice, self._charges = _coarse_charges(split.charge_density, density.grid)
        self._ions = split.ions
        self._reach = max(ion.radius for ion in self._ions)
        coefficients = spline_filter(values, order=ORDER, mode=_SPLINE_ENDS[self.kind])
        padded = np.pad(coefficients, (2, 3), mode=_PADDING[self.kind])
        # the coefficient of node i belongs to the spline between nodes i - 3 and i + 3
        knots = tuple(np.arange(n + ORDER + 1.0) - ORDER for n in padded.shape)
        self._spline = NdBSpline(knots, padded, ORDER)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Potential at points (n, 3), bohr: (n,), hartree/e; infinite at a nucleus."""
        return self._evaluate(points, None)

    def with_gradient(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Potential (n,), hartree/e, and its gradient (n, 3), hartree/(e bohr), at points."""
        slopes = np.empty(np.shape(points))
        return self._evaluate(points, slopes), slopes

    def interaction(self, points: np.ndarray, charges: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy of point charges in the potential, and the forces on them.

        E = sum_i q_i V(r_i), F_i = -q_i grad V(r_i); the density does not respond.

        Parameters
        ----------
        points : (n, 3) float
            Bohr.
        charges : (n,) float
            e.

        Returns
        -------
        energy : float
            Hartree.
        forces : (n, 3) float
            Hartree/bohr.
        """
        charges = np.asarray(charges, dtype=float)
        values, slopes = self.with_gradient(points)
        if charges.shape != values.shape:
            raise InputError(
                f"{len(values)} points need as many charges, found an array of {charges.shape}"
            )
        return float(charges @ values), -charges[:, None] * slopes

    def _evaluate(self, points: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """Potential at points; the gradient is written to `out`."""
        points = np.asarray(points, dtype=float)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(
                f"points must be finite numbers of shape (n, 3), found shape {points.shape}"
            )
        shape = np.array(self.grid.shape)
        jacobian = np.linalg.inv(self.grid.cell) * shape  # du/dr of the node coordinate u
        u = (points - self.grid.origin) @ jacobian
        values = np.empty(len(points))
        if self.kind == "periodic":
            u -= np.floor(u / shape) * shape
            points = self.grid.origin + u @ np.linalg.inv(jacobian)
            inside = np.ones(len(points), dtype=bool)
        else:
            inside = ((u >= MARGIN - 1) & (u <= shape - MARGIN)).all(axis=1)
            self._from_outside(points, ~inside, values, out)
        values[inside] = self._spline(u[inside])
        if out is not None:
            along = [self._spline(u[inside], nu=nu) for nu in np.eye(3, dtype=int)]
            out[inside] = np.stack(along, axis=1) @ jacobian.T
        self._add_ions(points, values, out)
        return values

    def _from_outside(
        self, points: np.ndarray, chosen: np.ndarray, values: np.ndarray, out: np.ndarray | None
    ) -> None:
        """Compute L and its gradient at the selected points by direct summation."""
        index = np.flatnonzero(chosen)
        step = max(1, _CHUNK // len(self._charges))
        moments = np.column_stack([self._charges, self._charges[:, None] * self._lattice])
        for i in range(0, index.size, step):
            block = index[i : i + step]
            inverse = 1 / cdist(points[block], self._lattice)
            values[block] = inverse @ self._charges
            if out is not None:
                inverse **= 3
                sums = inverse @ moments
                out[block] = sums[:, 1:] - sums[:, :1] * points[block]

    def _add_ions(self, points: np.ndarray, values: np.ndarray, out: np.ndarray | None) -> None:
        """Add S of the nuclei within range and of their images."""
        centres = self.structure.positions
        owner = np.arange(len(centres))
        if self.kind == "periodic":
            centres, owner = images_near(centres, self.grid, self._reach)
        near = cKDTree(points).sparse_distance_matrix(
            cKDTree(centres), self._reach, output_type="ndarray"
        )
        charges = [ion.charge for ion in self._ions]
        _, first, kind = np.unique(
            np.column_stack([self.structure.numbers, charges]),
            axis=0, return_index=True, return_inverse=True,
        )  # fmt: skip
        of_pairs = kind.ravel()[owner[near["j"]]]
        for k, i in enumerate(first):
            ion = self._ions[i]
            pairs = near[(of_pairs == k) & (near["v"] < ion.radius)]
            point, r = pairs["i"], pairs["v"]
            with np.errstate(divide="ignore", invalid="ignore"):
                charge = ion.charge_at(r)
                np.add.at(values, point, charge / r)
                if out is not None:
                    strength = (ion.slope_at(r) - charge / r) / r**2
                    away = points[point] - centres[pairs["j"]]
                    np.add.at(out, point, strength[:, None] * away)


def _inner(grid: Grid, wider: Grid) -> tuple[slice, ...]:
    """Nodes of a grid within a larger grid with a margin."""
    return tuple(
        slice((m - n) // 2, (m + n) // 2) for n, m in zip(grid.shape, wider.shape, strict=True)
    )


def _node_radius(grid: Grid) -> float:
    """Radius of the ball with a node's share of the volume."""
    return (3 * grid.dv / (4 * np.pi)) ** (1 / 3)


def _inverse(r: np.ndarray, radius: float) -> np.ndarray:
    """Potential of a unit charge: a point charge outside `radius`, a homogeneous ball inside."""
    return np.where(r < radius, (3 - (r / radius) ** 2) / (2 * radius), 1 / np.maximum(r, radius))


def _coarse_charges(charge_density: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Point charges on a coarse lattice with the same potential at distance: (m, 3) bohr, (m,) e.

    The charge of each node is distributed over 8 nodes per axis with the weights of Lagrange's
    interpolation, so that the sum over them of any polynomial up to order 7 does not change.
    """
    charges, axes = charge_density * grid.dv, []
    for i, n in enumerate(grid.shape):
        nodes = grid.axis(i)
        m = max(8, int(np.ceil(np.ptp(nodes) / COARSE)) + 1)
        u = np.arange(n) * (m - 1) / (n - 1)  # in steps of the lattice
        first = np.clip(np.floor(u).astype(int) - 3, 0, m - 8)
        shares = np.zeros((n, m))
        around = np.arange(8)
        for k in around:
            others = around[around != k]
            terms = ((u - first)[:, None] - others) / (k - others)
            shares[np.arange(n), first + k] = terms.prod(axis=1)
        charges = np.tensordot(charges, shares, axes=(0, 0))  # the next axis comes first
        axes.append(np.linspace(nodes[0], nodes[-1], m))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    order = np.argsort(np.abs(charges), axis=None)
    kept = order[np.cumsum(np.abs(charges).ravel()[order]) > NEGLIGIBLE]
    return points.reshape(-1, 3)[kept], charges.ravel()[kept]
