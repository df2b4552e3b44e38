"""A density and its derivatives at any point, not only at the nodes of the grid.

rho(r) = s(r) + sum_a c_a(|r - R_a|),    c_a = n_all - n_pseudo (1 - exp(-(r/w)^4))

c_a is the density of a free atom near its nucleus and is evaluated analytically. It contains the
core of `denser.atoms.free_atoms` with its cusp, and the dip of the pseudo-atom within w = 1.2
bohr. The rest, s, is smooth. It is interpolated between the nodes with tensor products of quintic
B-splines, which are four times differentiable and periodic in the box. All-electron densities are
split in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from functools import cache

import numpy as np
from scipy.interpolate import BSpline, PPoly
from scipy.ndimage import correlate1d, spline_filter, spline_filter1d
from scipy.spatial import cKDTree

from denser.atoms.free_atoms import FreeAtom, complete, free_atom
from denser.fields.periodic import images_near, wrapped
from denser.fields.windows import ball, pieces
from denser.types.density import Density
from denser.types.grid import Grid

ORDER = 5
"""Degree of the B-splines."""

WINDOW = 1.2
"""w in the equation above, bohr."""

CLOSED = 2.3
"""Distance at which the window is closed, exp(-(CLOSED/WINDOW)^4) = 1e-6, bohr."""

_CHUNK = 8192
"""Points evaluated at once; each uses 6^3 coefficients."""


class ContinuousDensity:
    """The all-electron density of `density`, with gradient and Hessian at any point.

    Parameters
    ----------
    density : Density
        Valence or all-electron, of H to Xe. A structure with a cell is periodic with the
        period of the grid. Values outside the box of an isolated molecule have no meaning.

    Attributes
    ----------
    values : (nx, ny, nz) float
        The all-electron density at the nodes, e/bohr^3.
    smooth : (nx, ny, nz) float
        s at the nodes, e/bohr^3.

    Raises
    ------
    InputError
        An element without a free atom, or a valence density of another pseudopotential.

    Notes
    -----
    Errors of density, gradient and Hessian between the nodes of a 0.157 bohr grid, for water from
    converged orbitals: below 4e-5, 6e-4 and 0.012 a.u. farther than 1.2 bohr from oxygen, down
    to 0.2 bohr from hydrogen; 1e-4, 2e-3 and 0.05 from 0.8 bohr on, 4e-4, 8e-3 and 0.15 from 0.5.
    """

    def __init__(self, density: Density) -> None:
        self.structure = density.structure
        self.grid = density.grid
        self.periodic = self.structure.cell is not None
        self.values = np.asarray(complete(density).values, dtype=float)
        self.atoms = [free_atom(int(z)) for z in self.structure.numbers]
        self._reach = np.array([sharp_radius(atom) for atom in self.atoms])
        self.smooth = self.values - self._sharp_values()
        self._coefficients = spline_filter(self.smooth, order=ORDER, mode="grid-wrap")
        self._images, self._owner = self.nuclei()
        self._tree = cKDTree(self._images)

    def patches(self) -> Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray]]:
        """Yield a block of nodes for each nucleus, a mask of those in reach, distances (m,)."""
        for centre, radius in zip(self.structure.positions, self._reach, strict=True):
            nodes, squared = ball(self.grid, centre, radius, self.periodic)
            inside = squared <= radius**2
            yield nodes, inside, np.sqrt(squared[inside])

    def _sharp_values(self) -> np.ndarray:
        """Sum of c_a at the nodes."""
        values = np.zeros(self.grid.shape)
        for atom, (nodes, inside, r) in zip(self.atoms, self.patches(), strict=True):
            patch = np.zeros(inside.shape)
            patch[inside] = sharp(atom, r)[0]
            for on_grid, in_patch in pieces(nodes, self.grid.shape):
                values[on_grid] += patch[in_patch]
        return values

    def refined(self) -> ContinuousDensity:
        """Return the same function on a grid of half the spacing."""
        finer = copy(self)
        nx, ny, nz = self.grid.shape
        finer.grid = Grid(self.grid.origin, self.grid.cell, (2 * nx, 2 * ny, 2 * nz))
        finer.smooth = self.smooth
        for axis in range(3):
            finer.smooth = _doubled(finer.smooth, axis)
        finer.values = finer.smooth + finer._sharp_values()
        finer._coefficients = spline_filter(finer.smooth, order=ORDER, mode="grid-wrap")
        return finer

    def nuclei(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions of all nuclei whose sharp part reaches into the box, and their atoms."""
        positions = self.structure.positions
        if not self.periodic:
            return positions, np.arange(len(positions))
        return images_near(positions, self.grid, self._reach)

    def evaluate(self, points: np.ndarray, order: int = 0) -> tuple[np.ndarray, ...]:
        """Density and its derivatives.

        Parameters
        ----------
        points : (n, 3) float
            Bohr. At a nucleus the derivatives are those of the smooth part: the cusp has none.
        order : int
            Highest derivative: 0, 1 or 2.

        Returns
        -------
        rho : (n,) float, e/bohr^3
        gradient : (n, 3) float, e/bohr^4
            With `order` 1 or 2.
        hessian : (n, 3, 3) float, e/bohr^5
            With `order` 2.
        """
        points = np.asarray(points, dtype=float).reshape(-1, 3)
        n = len(points)
        out = tuple(np.empty((n, *[3] * k)) for k in range(order + 1))
        for i in range(0, n, _CHUNK):
            block = slice(i, i + _CHUNK)
            for total, part in zip(out, self._spline(points[block], order), strict=True):
                total[block] = part
            self._add_cores(points[block], [total[block] for total in out])
        return out

    def _spline(self, points: np.ndarray, order: int) -> list[np.ndarray]:
        """Smooth part and its derivatives."""
        grid, shape = self.grid, np.array(self.grid.shape)
        jacobian = np.linalg.inv(grid.cell) * shape  # du/dr of the node coordinate u
        u = (points - grid.origin) @ jacobian
        base = np.floor(u).astype(np.int64)
        weights = _spline_weights(u - base, order)  # (n, 3, order + 1, 6)
        nodes = np.mod(base[..., None] + np.arange(-2, 4), shape[:, None])  # (n, 3, 6)
        flat = (nodes[:, 0, :, None] * shape[1] + nodes[:, 1, None, :])[..., None] * shape[2]
        block = self._coefficients.ravel()[flat + nodes[:, 2, None, None, :]]  # (n, 6, 6, 6)
        n, m = len(points), order + 1
        t = block.reshape(n, 36, 6) @ weights[:, 2].swapaxes(1, 2)  # (n, 6*6, kz)
        t = weights[:, None, 1] @ t.reshape(n, 6, 6, m)  # (n, 6, ky, kz)
        t = weights[:, 0] @ t.reshape(n, 6, m * m)  # (n, kx, ky*kz)
        t = t.reshape(n, m, m, m)
        out = [t[:, 0, 0, 0]]
        if order > 0:
            out.append(np.stack([t[:, 1, 0, 0], t[:, 0, 1, 0], t[:, 0, 0, 1]], 1) @ jacobian.T)
        if order > 1:
            xx, yy, zz = t[:, 2, 0, 0], t[:, 0, 2, 0], t[:, 0, 0, 2]
            xy, xz, yz = t[:, 1, 1, 0], t[:, 1, 0, 1], t[:, 0, 1, 1]
            h = np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], axis=1).reshape(n, 3, 3)
            out.append(jacobian @ h @ jacobian.T)
        return out

    def _add_cores(self, points: np.ndarray, out: list[np.ndarray]) -> None:
        """Add the cores of the nuclei in reach, in place."""
        if self.periodic:
            points = wrapped(points, self.grid.cell, self.grid.origin)
        near = cKDTree(points).sparse_distance_matrix(
            self._tree, self._reach.max(), output_type="ndarray"
        )
        point, image, r = near["i"], near["j"], near["v"]
        for z in np.unique(self.structure.numbers):
            atom = free_atom(int(z))
            chosen = (self.structure.numbers[self._owner[image]] == z) & (r < sharp_radius(atom))
            i, distance = point[chosen], r[chosen]
            derivatives = sharp(atom, distance, len(out) - 1)
            np.add.at(out[0], i, derivatives[0])
            if len(out) == 1:
                continue
            unit = (points[i] - self._images[image[chosen]]) / np.maximum(distance, 1e-12)[:, None]
            np.add.at(out[1], i, derivatives[1][:, None] * unit)
            if len(out) > 2:  # c'' u u^T + (c'/r) (1 - u u^T)
                ratio = derivatives[1] / np.maximum(distance, 1e-12)
                outer = unit[:, :, None] * unit[:, None, :]
                tensor = (derivatives[2] - ratio)[:, None, None] * outer
                np.add.at(out[2], i, tensor + ratio[:, None, None] * np.eye(3))

    def gradient_at_nodes(self) -> np.ndarray:
        """Gradient of the density at every node (3, nx, ny, nz) float32, e/bohr^4."""
        grid = self.grid
        jacobian = np.linalg.inv(grid.cell) * np.array(grid.shape)
        along = [node_derivative(self.smooth, axis, 1) for axis in range(3)]
        out = np.empty((3, *grid.shape), dtype=np.float32)
        for i in range(3):
            out[i] = sum(jacobian[i, j] * along[j] for j in range(3) if jacobian[i, j])
        positions = self.structure.positions
        for atom, centre, patch in zip(self.atoms, positions, self.patches(), strict=True):
            nodes, inside, r = patch
            radial = np.zeros(inside.shape)
            radial[inside] = sharp(atom, r, 1)[1] / np.maximum(r, 1e-12)
            steps = [a / n for a, n in zip(nodes, grid.shape, strict=True)]
            mesh = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1)
            vectors = radial[..., None] * (grid.origin - centre + mesh @ grid.cell)
            for on_grid, in_patch in pieces(nodes, grid.shape):
                out[:, *on_grid] += np.moveaxis(vectors[in_patch], -1, 0)
        return out


def sharp_radius(atom: FreeAtom) -> float:
    """Distance beyond which `sharp` is negligible, bohr."""
    return max(atom.core_radius, CLOSED)


def sharp(atom: FreeAtom, r: np.ndarray, order: int = 0) -> list[np.ndarray]:
    """c_a(r) and its derivatives by r up to `order` (0 to 2), e/bohr^3 and per bohr."""
    window = np.exp(-((r / WINDOW) ** 4))
    if order == 0:
        inner = atom.core(r)
        return [inner + window * (atom.all_electron(r) - inner)]
    core = atom.core_derivatives(r)
    pseudo = [n - c for n, c in zip(atom.all_electron_derivatives(r), core, strict=True)]
    slope = -4 * r**3 / WINDOW**4 * window
    curvature = (16 * r**6 / WINDOW**8 - 12 * r**2 / WINDOW**4) * window
    return [
        core[0] + window * pseudo[0],
        core[1] + window * pseudo[1] + slope * pseudo[0],
        core[2] + window * pseudo[2] + 2 * slope * pseudo[1] + curvature * pseudo[0],
    ][: order + 1]


def node_derivative(values: np.ndarray, axis: int, order: int) -> np.ndarray:
    """Derivative of the quintic spline through periodic `values` along one axis, at the nodes.

    Parameters
    ----------
    values : (nx, ny, nz) float
    axis : int
    order : int
        1 or 2.

    Returns
    -------
    (nx, ny, nz) float
        Per node spacing to the power of `order`.
    """
    stencil = _spline_weights(np.zeros(1), order)[0, order, :5]
    coefficients = spline_filter1d(values, order=ORDER, axis=axis, mode="grid-wrap")
    return correlate1d(coefficients, stencil, axis=axis, mode="wrap")


def _doubled(values: np.ndarray, axis: int) -> np.ndarray:
    """Periodic `values`, and those of the spline through them halfway, along one axis."""
    coefficients = spline_filter1d(values, order=ORDER, axis=axis, mode="grid-wrap")
    weights = _spline_weights(np.array(0.5), 0)[0]
    halfway = sum(w * np.roll(coefficients, 2 - k, axis) for k, w in enumerate(weights))
    shape = list(values.shape)
    shape[axis] *= 2
    return np.stack([values, halfway], axis=axis + 1).reshape(shape)


def laplacian_at_nodes(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Laplacian of the spline through periodic `values` at the nodes (nx, ny, nz), bohr^-2."""
    jacobian = np.linalg.inv(grid.cell) * np.array(grid.shape)
    metric = jacobian.T @ jacobian
    out = np.zeros(grid.shape)
    for i in range(3):
        out += metric[i, i] * node_derivative(values, i, 2)
        for j in range(i):
            if abs(metric[i, j]) > 1e-9 * metric[i, i]:
                out += 2 * metric[i, j] * node_derivative(node_derivative(values, i, 1), j, 1)
    return out


@cache
def _spline_polynomials() -> np.ndarray:
    """Powers of t of the six B-splines that reach the interval 0 <= t < 1 (6, 6)."""
    pieces_ = PPoly.from_spline(BSpline.basis_element(np.arange(ORDER + 2.0)))
    start = [np.searchsorted(pieces_.x, i, side="right") - 1 for i in range(ORDER + 1)]
    # of the spline centred on node -2 this is the last interval, of that on node 3 the first
    return pieces_.c[::-1, start[::-1]]


def _spline_weights(t: np.ndarray, order: int) -> np.ndarray:
    """B-splines of nodes -2 .. 3 at t and derivatives by t (..., order + 1, 6)."""
    polynomials = _spline_polynomials()
    out = []
    for k in range(order + 1):
        powers = np.arange(k, ORDER + 1)
        factor = np.prod([powers - i for i in range(k)], axis=0) if k else np.ones(ORDER + 1)
        out.append((factor * t[..., None] ** (powers - k)) @ polynomials[k:])
    return np.stack(out, axis=-2)
