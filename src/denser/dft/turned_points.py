"""Points around the atoms of a molecule that turn with it, and their weights.

As in PySCF: spheres around each atom (Mura and Knowles, J. Chem. Phys. 104, 9848 (1996)), whose
points share space with those of the other atoms (Becke, J. Chem. Phys. 88, 2547 (1988)). A share
depends only on the atoms in the neighbourhood, and points without a share are left out.
"""

from __future__ import annotations

import numpy as np
from pyscf import gto
from pyscf.dft import gen_grid, radi
from scipy.spatial.distance import cdist

from denser.dft.pyscf_private import cell_functions
from denser.fields.compact import compact_blocks
from denser.types.structure import Structure

POINTS = (40, 302)
"""Spheres around each atom, and points on the largest of them."""

_LEAST_SHARE = 1e-10
"""Points of which their atom has less are left out."""

_SHARED_AT_ONCE = 512

_SHARING, _SHARING_RADII = 6.0, 5.0
"""A piece of space is shared by the atoms that are closer to it than this many bohr and this
multiple of the distance of its points from the nearest atom."""


def quadrature(mol: gto.Mole, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3), bohr, and weights (n,), bohr^3, that turn with the molecule."""
    axes = principal_axes(structure)
    centres = mol.atom_coords() @ axes.T
    spheres = gen_grid.gen_atomic_grids(mol, POINTS, radi.mura_knowles)
    own = [spheres[mol.atom_symbol(a)] for a in range(mol.natm)]
    points = np.concatenate([x + centre for (x, _), centre in zip(own, centres, strict=True)])
    weights = np.concatenate([volumes for _, volumes in own])
    parents = np.repeat(np.arange(mol.natm), [len(volumes) for _, volumes in own])
    i, j = np.indices((mol.natm, mol.natm))
    sizes = radi.treutler_atomic_radii_adjust(mol, radi.BRAGG_RADII)
    shares = _shares(points, parents, centres, sizes(i, j, np.zeros(i.shape)))
    used = shares > _LEAST_SHARE
    return points[used] @ axes, (weights * shares)[used]


def _shares(
    points: np.ndarray, parents: np.ndarray, centres: np.ndarray, borders: np.ndarray
) -> np.ndarray:
    """Becke's share of each point (n,) that its atom has, among the atoms in the neighbourhood.

    The neighbourhood belongs to a piece of space, so that the shares of all atoms add up to one.
    """
    shares = np.zeros(len(points))
    for some in compact_blocks(points, _SHARED_AT_ONCE):
        r = cdist(points[some], centres)
        near = r.min(axis=0) <= _SHARING + _SHARING_RADII * r.min(axis=1).max()
        place = (np.cumsum(near) - 1)[parents[some]]
        cells = cell_functions(points[some], centres[near], borders[np.ix_(near, near)])
        own = cells[place, np.arange(len(some))] * near[parents[some]]
        shares[some] = own / cells.sum(axis=0)
    return shares


def principal_axes(structure: Structure) -> np.ndarray:
    """Orthogonal axes (3, 3) in rows that turn with the molecule, of either direction.

    The axes of the second moments of the atoms. Where two moments are the same, the atom farthest
    from the centre decides. The points of a sphere are the same after inversion of an axis.
    """
    charges = structure.numbers + 0.0
    x = structure.positions - np.average(structure.positions, axis=0, weights=charges)
    moments, axes = np.linalg.eigh((charges[:, None] * x).T @ x)
    axes = axes.T
    scale = max(moments[-1], 1e-12)
    for first, last in ((0, 2), (0, 1), (1, 2)):
        if moments[last] - moments[first] < 1e-6 * scale:
            plane = axes[first : last + 1]
            within = x @ plane.T
            length = charges * np.linalg.norm(within, axis=1)
            far = within[int(np.argmax(np.round(length, 6)))]
            if np.linalg.norm(far) > 1e-6:
                basis = np.linalg.qr(np.column_stack([far, np.eye(len(plane))]))[0].T
                axes[first : last + 1] = basis @ plane
            break
    return axes
