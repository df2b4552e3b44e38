"""Derivatives of superposed atomic densities with respect to the positions of the atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.atoms.sad import atomic_density, gaussians, superposition
from denser.fields.windows import axis_window, ball, block
from denser.types.grid import Grid
from denser.types.structure import Structure

_REACH = 1e-9
"""The derivative of an atom's density is neglected where the density is below this, e/bohr^3."""


def superposition_pullback(
    field: np.ndarray, structure: Structure, grid: Grid, recipe: str = "gth-szv-1e"
) -> np.ndarray:
    """sum_r f(r) d rho_SAD(r)/dR_a on a fixed grid (n_atoms, 3), unit of f times e/bohr^4.

    rho_SAD = c sum_a n_a(|r - R_a|) with c = N_e / sum_r sum_a n_a dv. The normalisation adds <f>,
    the mean of f over the electrons of rho_SAD:

    d/dR_a = c sum_r (f(r) - <f>) dn_a(|r - R_a|)/dR_a.

    Parameters
    ----------
    field : (nx, ny, nz) float
    structure, grid, recipe
        As in `denser.atoms.sad.superposition`.
    """
    sad = superposition(structure, grid, recipe)
    kind = _Atom if grid.is_orthorhombic else _ObliqueAtom
    atoms = [
        kind.on_grid(grid, position, int(z), recipe)
        for z, position in zip(structure.numbers, structure.positions, strict=True)
    ]
    scale = sad.n_electrons / (sum(atom.total() for atom in atoms) * grid.dv)
    mean = np.vdot(field, sad.values) / sad.values.sum()
    # Negative values of the sum over atoms were set to zero.
    field = np.where(sad.values > 0, scale * (field - mean), 0.0)
    return np.array([atom.pullback(field) for atom in atoms])


@dataclass(frozen=True, eq=False)
class _Atom:
    """n(r) = sum_k (s_k + p_k r^2) exp(-a_k r^2) as products of functions of x, y and z.

    For each axis, `factors` (4, k, nodes) contains g = exp(-a d^2), d^2 g, and the derivatives of
    both with respect to the centre; `nodes` are their nodes of the grid.
    """

    nodes: list[np.ndarray]
    factors: list[np.ndarray]
    s: np.ndarray
    p: np.ndarray

    @classmethod
    def on_grid(cls, grid: Grid, position: np.ndarray, z: int, recipe: str) -> _Atom:
        a, s, p = gaussians(z, recipe)
        reach = _reach(z, recipe)
        nodes, factors = [], []
        for i in range(3):
            index, d = axis_window(grid, i, position[i], reach)
            g = np.exp(-np.outer(a, d * d))  # (k, nodes)
            dg = 2 * np.outer(a, d) * g
            factors.append(np.stack([g, d * d * g, dg, d * d * dg - 2 * d * g]))
            nodes.append(index % grid.shape[i])
        return cls(nodes, factors, s, p)

    def total(self) -> float:
        """Sum of n over the nodes."""
        (x, x2), (y, y2), (z, z2) = (f.sum(axis=-1)[:2] for f in self.factors)
        return float(self.s @ (x * y * z) + self.p @ (x2 * y * z + x * y2 * z + x * y * z2))

    def pullback(self, field: np.ndarray) -> np.ndarray:
        """sum_r f(r) dn(|r - R|)/dR (3,)."""
        x, y, z = self.factors
        c = np.einsum("xyz,nkz->xynk", field[np.ix_(*self.nodes)], z, optimize=True)
        c = np.einsum("xynk,mky->xmnk", c, y, optimize=True)
        c = np.einsum("xmnk,lkx->lmnk", c, x, optimize=True)
        out = []
        for axis in range(3):
            d = np.moveaxis(c, axis, 0)  # the derivative is along the first index
            out.append(self.s @ d[2, 0, 0] + self.p @ (d[3, 0, 0] + d[2, 1, 0] + d[2, 0, 1]))
        return np.array(out)


@dataclass(frozen=True, eq=False)
class _ObliqueAtom:
    """n(r) on any grid: values, slope dn/d(r^2) and r - R at the nodes of a block."""

    nodes: list[np.ndarray]
    values: np.ndarray
    slope: np.ndarray
    steps: list[np.ndarray]

    @classmethod
    def on_grid(cls, grid: Grid, position: np.ndarray, z: int, recipe: str) -> _ObliqueAtom:
        reach = _reach(z, recipe)
        nodes, r2 = ball(grid, position, reach, periodic=True)
        values, slope = np.zeros_like(r2), np.zeros_like(r2)
        for a, s, p in zip(*gaussians(z, recipe), strict=True):
            g = np.exp(-a * r2)
            values += (s + p * r2) * g
            slope += (p - a * (s + p * r2)) * g
        _, offsets = block(grid, position, reach, periodic=True)
        nodes = [n % m for n, m in zip(nodes, grid.shape, strict=True)]
        steps = [np.outer(f, vector) for f, vector in zip(offsets, grid.cell, strict=True)]
        return cls(nodes, values, slope, steps)

    def total(self) -> float:
        """Sum of n over the nodes."""
        return float(self.values.sum())

    def pullback(self, field: np.ndarray) -> np.ndarray:
        """sum_r f(r) dn(|r - R|)/dR (3,)."""
        weight = -2 * self.slope * field[np.ix_(*self.nodes)]
        sums = (weight.sum(axis=tuple({0, 1, 2} - {i})) for i in range(3))
        return sum((w @ step for w, step in zip(sums, self.steps, strict=True)), np.zeros(3))


def _reach(z: int, recipe: str) -> float:
    r = np.linspace(0.0, 15.0, 1501)
    return float(r[np.flatnonzero(atomic_density(z, r, recipe) > _REACH)[-1]])
