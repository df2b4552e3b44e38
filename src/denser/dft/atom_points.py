"""Points around atoms, with the derivatives of their weights.

The points of an atom lie on spheres, and share space with those of the other atoms (Becke, J. Chem.
Phys. 88, 2547 (1988)):

w_i = v_i P_a(r_i) / sum_b P_b(r_i),   P_b = product_c s(mu_bc),   mu_bc = (r_b - r_c) / R_bc,

where a is the atom of the point. All atoms have the same size, as integrals then depend less on the
orientation of the spheres than with the radii of Treutler and Ahlrichs. The points move with their
atoms and keep their orientation in space.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from pyscf import gto
from pyscf.dft import gen_grid, radi

POINTS = (40, 590)
"""Spheres around each atom, and points on the largest of them. With 434 points the energy of water
has a curvature of up to 8 meV per radian^2 when it turns, rotations with frequencies of 45/cm, with
590 of 1.4; for H2CO of 15 and 2. With 30 spheres the stretches of water change by 7/cm."""

_FARTHEST = 14.0
"""Spheres beyond this radius are left out, bohr."""

_NEGLIGIBLE = 1e-10
"""Points with a smaller weight are left out, bohr^3."""

_FAR = 12.0
"""An atom at more than this multiple of a sphere's radius changes its weights by less than 1e-5."""

_AT_ONCE = 4096


def atom_points(mol: gto.Mole) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3), bohr, their weights (n,), bohr^3, and the atom of each (n,), ascending."""
    spheres = {
        mol.atom_symbol(i): _spheres(gto.charge(mol.atom_symbol(i))) for i in range(mol.natm)
    }
    parts = gen_grid.get_partition(mol, spheres, concat=False)
    weights = np.concatenate(parts[1])
    parents = np.repeat(np.arange(mol.natm), [len(w) for w in parts[1]])
    used = np.abs(weights) > _NEGLIGIBLE
    return np.concatenate(parts[0])[used], weights[used], parents[used]


@cache
def _spheres(z: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) about an atom at the origin, from the inside to the outside, and volumes."""
    radii, steps = radi.treutler_ahlrichs(POINTS[0], z)
    order = np.argsort(radii)
    radii, steps = radii[order], steps[order]
    sizes = gen_grid.nwchem_prune(z, radii, POINTS[1])
    used = radii < _FARTHEST
    return on_spheres(radii[used], steps[used], sizes[used])


def on_spheres(
    radii: np.ndarray, steps: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) of Lebedev's rules with these sizes on spheres, and their volumes (n,).

    `steps` are the weights of the radii in an integral over r.
    """
    points, volumes = [], []
    for r, step, size in zip(radii, steps, sizes, strict=True):
        sphere = gen_grid.MakeAngularGrid(int(size))
        points.append(r * sphere[:, :3])
        volumes.append(4 * np.pi * r**2 * step * sphere[:, 3])
    return np.concatenate(points), np.concatenate(volumes)


def weights_pullback(
    mol: gto.Mole,
    points: np.ndarray,
    weights: np.ndarray,
    parents: np.ndarray,
    values: np.ndarray,
) -> np.ndarray:
    """Derivative of sum_i w_i f_i with respect to the atoms by the weights alone (n_atoms, 3).

    d ln w_i = d ln P_a - sum_b (P_b / S) d ln P_b with S = sum_b P_b. The points move with their
    atoms.

    Parameters
    ----------
    mol : pyscf.gto.Mole
    points, weights, parents
        Of `atom_points`.
    values : (n,) float
        f.
    """
    centres = mol.atom_coords()
    apart = gto.inter_distance(mol)
    gradient = np.zeros_like(centres)
    for start, stop in blocks(parents):
        a = int(parents[start])
        x = points[start:stop]
        reach = _FAR * np.linalg.norm(x - centres[a], axis=1).max()
        near = np.flatnonzero(apart[a] < reach)
        if len(near) < 2:
            continue
        steps = x[None] - centres[near, None]  # (atom, point, axis)
        r = np.linalg.norm(steps, axis=2)
        p = np.ones_like(r)
        pairs = []
        for i in range(len(near)):
            for j in range(i):
                mu = (r[i] - r[j]) / apart[near[i], near[j]]
                s, slope = _switch(mu)
                p[i] *= s
                p[j] *= 1 - s
                pairs.append((i, j, mu, s, slope))
        by_log = -(p / p.sum(axis=0))
        by_log[near == a] += 1
        by_log *= values[start:stop] * weights[start:stop]
        by_r = np.zeros_like(r)
        for i, j, mu, s, slope in pairs:
            up = np.divide(by_log[i], s, out=np.zeros_like(s), where=s > 1e-30)
            down = np.divide(by_log[j], 1 - s, out=np.zeros_like(s), where=s < 1)
            by_mu = (up - down) * slope / apart[near[i], near[j]]
            by_r[i] += by_mu
            by_r[j] -= by_mu
            axis = (centres[near[i]] - centres[near[j]]) / apart[near[i], near[j]]
            pull = float(by_mu @ mu) * axis
            gradient[near[i]] -= pull
            gradient[near[j]] += pull
        by_atom = np.einsum("bi,bix->bx", by_r / np.maximum(r, 1e-12), steps)
        gradient[near] -= by_atom
        gradient[a] += by_atom.sum(axis=0)
    return gradient


def blocks(parents: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of points of one atom, which lie at similar distances from it."""
    ends = np.flatnonzero(np.diff(parents, append=-1)) + 1
    out, begin = [], 0
    for end in ends.tolist():
        out += [(i, min(i + _AT_ONCE, end)) for i in range(begin, end, _AT_ONCE)]
        begin = end
    return out


def _switch(mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """s(mu) of Becke and its derivative."""
    g, slope = mu, np.full_like(mu, -0.5)
    for _ in range(3):
        slope = slope * 1.5 * (1 - g**2)
        g = 0.5 * g * (3 - g**2)
    return 0.5 * (1 - g), slope
