"""Scale a density to exactly N_e electrons, separately for each molecule.

A single factor for the whole box would couple distant molecules: the error of one would change the
density of the other. Here each atom has its own factor. Excess charge flows freely between atoms in
contact, so that the atoms of a molecule have the same factor, and does not flow across empty space.
See `electron_factors`.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix, csc_matrix, diags_array
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import cg, spsolve
from torch import Tensor

from denser.atoms.sad import hirshfeld_weights
from denser.types.density import Density
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

MOBILITY = 1e5
"""Mobility of excess charge between bonded atoms; atoms of one molecule get the same factor."""

CONTACT = 1.5 / BOHR
DECAY = 0.4 / BOHR
"""The flow decays as exp(-(d - CONTACT)/DECAY); molecules separate at about 6 angstrom."""

_FAR = 10.0 / BOHR
BLOCK = 4
"""Nodes along each edge of a block."""

_DIRECT = 1000
_RESIDUAL = 1e-10
"""From this number of atoms on, factors come from conjugate gradients, to this residual."""


def contacts(structure: Structure) -> coo_matrix:
    """Conductance between atoms (n_atoms, n_atoms): exp(-(d - CONTACT)/DECAY), at most 1.

    In a cell it is the sum over the images.
    """
    n = len(structure)
    i, j, vectors = structure.neighbours(_FAR)
    d = np.linalg.norm(vectors, axis=1)
    conductance = np.minimum(1.0, np.exp(-(d - CONTACT) / DECAY))
    off = i != j
    return coo_matrix((conductance[off], (i[off], j[off])), shape=(n, n))


def electron_factors(structure: Structure, electrons: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """Factor on the density of each atom that removes all excess electrons.

    Solves (diag(m) + MOBILITY L) y = e, with m the electrons of each atom, e its excess and L
    the graph Laplacian of `contacts`; the factors are 1 - y. Since the rows of L sum to zero,
    sum m y = sum e: the total is exact for each group of atoms in contact.

    Parameters
    ----------
    electrons, excess : (n_atoms,) float
        Electrons of the raw density by Hirshfeld partition, and their excess over the SAD.

    Returns
    -------
    (n_atoms,) float
    """
    matrix = _flow(structure, electrons)
    if len(electrons) < _DIRECT:
        return 1.0 - np.atleast_1d(spsolve(matrix, excess))
    # positive definite; factorising it would take the cube of the number of atoms
    start = np.full(len(electrons), excess.sum() / electrons.sum())
    inverse = diags_array(1 / matrix.diagonal())
    y, failed = cg(matrix, excess, start, rtol=_RESIDUAL, M=inverse, maxiter=len(electrons) + 9999)
    if failed:
        y = spsolve(matrix, excess)
    return 1.0 - y


def _flow(structure: Structure, electrons: np.ndarray) -> csc_matrix:
    """diag(m) + MOBILITY L (n_atoms, n_atoms)."""
    matrix = laplacian(contacts(structure)) * MOBILITY
    matrix = matrix + coo_matrix((electrons, (np.arange(electrons.size),) * 2), shape=matrix.shape)
    return matrix.tocsc()


def factors_pullback(
    structure: Structure, electrons: np.ndarray, excess: np.ndarray, by_factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of sum_a g_a F_a with F = f N_e / (f . m), the factors of an isolated molecule.

    f are those of `electron_factors`, or one for a single atom, m the electrons of the atoms and
    N_e their number without the excess. With A = diag(m) + MOBILITY L, y = 1 - f = A^-1 e and
    u = A^-1 (-dE/df): dE = u . de - u . dA y.

    Parameters
    ----------
    structure, electrons, excess
        As of `electron_factors`.
    by_factor : (n_atoms,) float
        g.

    Returns
    -------
    (n_atoms, 3) float
        With respect to the positions of the atoms.
    (n_atoms,) float
        With respect to their electrons.
    """
    n_electrons = float((electrons - excess).sum())
    positions = np.zeros((len(structure), 3))
    matrix = None if len(structure) == 1 else _flow(structure, electrons)
    y = np.zeros(1) if matrix is None else spsolve(matrix, excess)
    f = 1.0 - y
    total = float(f @ electrons)
    share = float(by_factor @ f) / total
    by_f = (by_factor - share * electrons) * (n_electrons / total)
    by_electrons = -share * f * (n_electrons / total)
    if matrix is None:
        return positions, by_electrons
    u = spsolve(matrix, -by_f)
    by_electrons = by_electrons + u * (1.0 - y)
    flow = contacts(structure)
    i, j = flow.row, flow.col
    steps = structure.positions[i] - structure.positions[j]
    d = np.linalg.norm(steps, axis=1)
    # u . L y = sum over the pairs of C_ij (u_i - u_j) (y_i - y_j), each pair twice here
    pull = np.where(d > CONTACT, -flow.data / DECAY, 0.0) * (u[i] - u[j]) * (y[i] - y[j])
    np.add.at(positions, i, -MOBILITY * (pull / d)[:, None] * steps)
    return positions, by_electrons


def largest_excess(factors: np.ndarray) -> float:
    """Excess of electrons of the molecule whose factor is farthest from one, at most 1."""
    farthest = float(factors[np.abs(factors - 1.0).argmax()])
    return 1.0 / max(farthest, 0.5) - 1.0


def normalise(
    raw: Tensor, sad: Density, recipe: str, target: np.ndarray | None = None
) -> tuple[Tensor, float]:
    """Scale a raw density to N_e electrons, separately for each molecule.

    rho(r) = raw(r) sum_a w_a(r) f_a, with Hirshfeld weights w_a = n_a / sum_b n_b on blocks of
    4^3 nodes and the factors of `electron_factors`. Within a molecule this is one factor.

    Parameters
    ----------
    raw : (nx, ny, nz) tensor
        Not negative.
    sad : Density
        On the same grid; its N_e is the target.
    recipe : str
        SAD recipe, for the weights.
    target : (n_atoms,) float, optional
        Electrons that the molecules of the atoms should have
        (`denser.model.molecular_electrons`); by default in proportion to the neutral atoms.

    Returns
    -------
    (nx, ny, nz) tensor
    float
        Largest relative excess (negative: deficit) of electrons of a molecule. The Err_rho of
        the raw density of this molecule is at least as large.
    """
    structure, grid = sad.structure, sad.grid
    excess = 0.0
    if len(structure) > 1 and min(grid.shape) >= 2 * BLOCK:
        scaled, factors = _factor_field(raw, sad, recipe, target)
        scaled *= raw
        excess = largest_excess(factors)
    else:
        scaled = raw.clone()
    total = float(scaled.sum(dtype=torch.float64)) * grid.dv
    left = total / sad.n_electrons
    for plane in scaled:  # no array of all nodes in double precision
        plane.copy_(plane.double() / left)
    return scaled, (1.0 + excess) * left - 1.0


def _factor_field(
    raw: Tensor, sad: Density, recipe: str, target: np.ndarray | None
) -> tuple[Tensor, np.ndarray]:
    """sum_a w_a(r) f_a on the nodes of `raw`, and the factors f_a (n_atoms,)."""
    structure, grid = sad.structure, sad.grid
    weights = hirshfeld_weights(structure, block_grid(grid), recipe)
    in_raw, in_sad = (block_sums(f, grid.dv) for f in (raw.cpu().numpy(), sad.values))
    electrons, neutral = weights @ in_raw.ravel(), weights @ in_sad.ravel()
    factors = electron_factors(structure, electrons, electrons - wanted(neutral, sad, target))
    field = (1.0 + weights.T @ (factors - 1.0)).reshape(in_raw.shape)
    fine = between_blocks(torch.as_tensor(field, dtype=raw.dtype, device=raw.device))
    return fine[: grid.shape[0], : grid.shape[1], : grid.shape[2]], factors


def wanted(in_sad: np.ndarray, sad: Density, target: np.ndarray | None) -> np.ndarray:
    """Electrons that the molecules of the atoms should have (n_atoms,).

    Parameters
    ----------
    in_sad : (n_atoms,) float
        Electrons of the atoms in the SAD by Hirshfeld partition.
    sad : Density
        Its atoms and electrons.
    target
        As of `normalise`.
    """
    if target is None:
        return in_sad
    # relative to those of the SAD, so that the error of the sums over nodes cancels
    neutral = sad.valence_charges
    return in_sad * (target * neutral.sum() / (neutral * sad.n_electrons))


def block_grid(grid: Grid) -> Grid:
    """The middles of blocks of 4^3 nodes, which may reach beyond the last nodes."""
    nx, ny, nz = (-(-n // BLOCK) for n in grid.shape)
    steps = grid.cell / np.array(grid.shape)[:, None]  # rows
    cell = BLOCK * steps * np.array([nx, ny, nz])[:, None]
    return Grid(grid.origin + (BLOCK - 1) / 2 * steps.sum(axis=0), cell, (nx, ny, nz))


def block_sums(f: np.ndarray, dv: float) -> np.ndarray:
    """Integrals over the blocks of `block_grid`, of values (nx, ny, nz) at the nodes."""
    for axis in range(3):
        starts = np.arange(0, f.shape[axis], BLOCK)
        f = np.add.reduceat(f, starts, axis=axis, dtype=np.float64)
    return f * dv


def between_blocks(field: Tensor) -> Tensor:
    """Values at all nodes of the blocks (4 nx, 4 ny, 4 nz) of a field on blocks (nx, ny, nz)."""
    return torch.nn.functional.interpolate(field[None, None], scale_factor=BLOCK, mode="trilinear")[
        0, 0
    ]
