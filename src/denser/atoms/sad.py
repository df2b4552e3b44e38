"""Superposition of spherical atomic densities (SAD), the starting density of every model.

Each atom's density is a short sum of Gaussians, n(r) = sum_k (s_k + p_k r^2) exp(-a_k r^2),
shipped in `tables/sad.json` (made by `denser.dft.tables.sad`). A Gaussian is a product of three
one-dimensional functions, so an atom needs one small matrix product per patch of the grid, and
periodic images are summed for each axis. Time and memory are linear in the number of atoms.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from scipy.sparse import csr_matrix

from denser.fields.windows import (
    axis_window,
    ball,
    block,
    groups_of_like_reach,
    orthogonal_axis,
    pieces,
    touching,
)
from denser.types.arrays import seal
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

if TYPE_CHECKING:
    from ase import Atoms

RECIPES = ("gth-szv-1e", "gth-szv-1e-atrocious")
"""SAD recipes: that of Li et al. (2025), and their deliberately poor variant, made from atoms
whose minimal basis has every primitive exponent doubled."""

CUTOFF = 1e-8
"""A Gaussian is cut off where it falls below this, e/bohr^3."""


def require_recipe(recipe: str) -> None:
    """Raise an InputError unless `recipe` is one of `RECIPES`."""
    if recipe not in RECIPES:
        raise InputError(f"unknown SAD recipe {recipe!r}; known: {', '.join(RECIPES)}")


@cache
def _table(recipe: str = RECIPES[0]) -> dict:
    require_recipe(recipe)
    text = (files("denser.atoms") / "tables" / "sad.json").read_text()
    return json.loads(text)["recipes"][recipe]


def supported_elements() -> list[str]:
    """Symbols of the elements with a table, by atomic number."""
    return sorted(_table(), key=lambda symbol: atomic_numbers[symbol])


def valence_charges(structure: Structure) -> np.ndarray:
    """Number of valence electrons of each neutral atom (n_atoms,): Z minus the GTH core.

    Raises
    ------
    InputError
        An element without a table.
    """
    table = _table()
    for z in np.unique(structure.numbers):
        if chemical_symbols[z] not in table:
            i = int(np.argmax(structure.numbers == z)) + 1
            raise InputError(
                f"atom {i} is {chemical_symbols[z]}{' (a ghost or dummy atom)' if z == 0 else ''}, "
                "which is not supported; supported elements: "
                + " ".join(supported_elements())
                + "; leave the atom out or replace it"
            )
    return np.array([table[symbol]["valence"] for symbol in structure.symbols], dtype=float)


def count_electrons(structure: Structure) -> int:
    """Number of valence electrons of a structure.

    Raises
    ------
    InputError
        An element has no table, or there are no electrons, fewer than unpaired ones, or more than
        twice those of the neutral atoms, which is more than their shells hold.
    """
    neutral = int(valence_charges(structure).sum())
    n_electrons = neutral - structure.charge
    if n_electrons > 2 * neutral:
        raise InputError(
            f"charge {structure.charge:+d} gives {structure.formula} {n_electrons} valence "
            f"electrons, more than twice the {neutral} of its atoms; check the charge"
        )
    if n_electrons <= 0:
        raise InputError(
            f"charge {structure.charge:+d} leaves {structure.formula} without valence electrons; "
            "check the charge"
        )
    if structure.spin > n_electrons:
        raise InputError(
            f"{structure.formula} with charge {structure.charge} has {n_electrons} valence "
            f"electrons, fewer than {structure.spin} unpaired ones; check the spin"
        )
    return n_electrons


def require_closed_shell(structure: Structure, what: str) -> None:
    """Raise an InputError for an open shell; `what` covers closed shells only.

    Parameters
    ----------
    structure : Structure
    what : str
        Subject of the sentence in the plural, such as "forces".
    """
    if not structure.spin:
        return
    n = structure.spin
    found = f"{structure.formula} with charge {structure.charge} has {n} unpaired electron"
    found += "" if n == 1 else "s"
    if n % 2 == 0:
        advice = "--spin 0 is a closed shell"
    elif structure.charge == 0:
        found += ", an odd number of electrons"
        advice = "if it is an ion, give its charge (--charge, or atoms.info['charge'])"
    else:
        found += ", an odd number of electrons"
        advice = "check the charge"
    raise InputError(f"{found}, and {what} cover closed shells only; {advice}")


def gaussians(z: int, recipe: str = "gth-szv-1e") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponents a, s and p (n_gaussians,) of the neutral atom with atomic number `z`."""
    entry = _table(recipe)[chemical_symbols[z]]
    return np.array(entry["exponents"]), np.array(entry["s"]), np.array(entry["p"])


def atomic_density(z: int, r: np.ndarray, recipe: str = "gth-szv-1e") -> np.ndarray:
    """Radial density n(r) of the neutral atom, e/bohr^3, at distances `r` in bohr."""
    a, s, p = gaussians(z, recipe)
    r2 = np.asarray(r, dtype=float)[..., None] ** 2
    return ((s + p * r2) * np.exp(-a * r2)).sum(axis=-1)


def superposition(
    structure: Structure | Atoms, grid: Grid, recipe: str = "gth-szv-1e", cutoff: float = CUTOFF
) -> Density:
    """Superpose neutral spherical atoms on a periodic grid.

    rho(r) = c * sum_a sum_L n_a(|r - R_a - L|), with c such that the density integrates on the
    grid to N_e = sum(valence charges) - charge exactly.

    Parameters
    ----------
    structure : Structure or ase.Atoms
    grid : Grid
        Its box, of any shape, is the period.
    recipe : str
        A key of `RECIPES`.
    cutoff : float
        Where a single Gaussian is cut off, e/bohr^3.

    Returns
    -------
    Density
        float64, e/bohr^3.

    Raises
    ------
    InputError
        Unsupported element, or no electrons left.
    """
    structure = Structure.of(structure)
    charges = valence_charges(structure)
    n_electrons = charges.sum() - structure.charge
    if n_electrons <= 0:
        raise InputError(
            f"charge {structure.charge:+d} leaves no valence electrons "
            f"({structure.formula} has {charges.sum():.0f})"
        )
    values = sum_of_atoms(structure, grid, recipe, cutoff=cutoff)
    np.maximum(values, 0.0, out=values)
    values *= n_electrons / (values.sum() * grid.dv)
    return Density(grid, seal(values), structure=structure, valence_charges=charges)


def sum_of_atoms(
    structure: Structure,
    grid: Grid,
    recipe: str,
    factors: np.ndarray | None = None,
    cutoff: float = CUTOFF,
) -> np.ndarray:
    """sum_a sum_L f_a n_a(|r - R_a - L|) on the nodes (nx, ny, nz), not scaled; f_a = 1 by default.

    Parameters are those of `superposition`, with a factor for each atom (n_atoms,).
    """
    add = _add_gaussians if grid.is_orthorhombic else _add_gaussians_obliquely
    values = np.zeros(grid.shape)
    factors = np.ones(len(structure)) if factors is None else factors
    batches = {z: _batches(*gaussians(z, recipe), cutoff) for z in np.unique(structure.numbers)}
    reach = np.array([batches[z][0][0] for z in structure.numbers])
    for i in np.flatnonzero(touching(grid, structure.positions, reach)):
        f = factors[i]
        for radius, a, s, p in batches[structure.numbers[i]]:
            add(values, grid, structure.positions[i], radius, a, f * s, f * p)
    return values


def superposition_at(
    structure: Structure, grid: Grid, points: np.ndarray, recipe: str = RECIPES[0]
) -> np.ndarray:
    """Superposed neutral atoms at any points, not scaled to the number of electrons.

    Parameters
    ----------
    structure : Structure
    grid : Grid
        Its box is the period.
    points : (n, 3) float
        Bohr, in the frame of `grid`.
    recipe : str
        A key of `RECIPES`.

    Returns
    -------
    (n,) float64, e/bohr^3
    """
    valence_charges(structure)  # raises for an element without a table
    elements = [int(z) for z in np.unique(structure.numbers)]
    reach = np.sqrt(np.log(1 / CUTOFF) / min(gaussians(z, recipe)[0].min() for z in elements))
    inverse = np.linalg.inv(grid.cell)
    heights = 1 / np.linalg.norm(inverse, axis=0)
    images = [np.arange(-n, n + 1) for n in (reach / heights + 0.5).astype(int)]
    values = np.zeros(len(points))
    for z in elements:
        d = points - structure.positions[structure.numbers == z, None]  # (atom, point, 3)
        d -= np.round(d @ inverse) @ grid.cell
        for shift in np.stack(np.meshgrid(*images, indexing="ij"), axis=-1).reshape(-1, 3):
            r = np.linalg.norm(d + shift @ grid.cell, axis=-1)
            atom, point = np.nonzero(r < reach)
            density = atomic_density(z, r[atom, point], recipe)
            values += np.bincount(point, density, minlength=len(points))
    return np.maximum(values, 0.0)


def _batches(a: np.ndarray, s: np.ndarray, p: np.ndarray, cutoff: float) -> list[tuple]:
    """Group Gaussians by range, so that narrow ones are evaluated only on small patches."""
    radius = np.ones_like(a)
    for _ in range(20):  # fixed point of (|s| + |p| r^2) exp(-a r^2) = cutoff
        radius = np.sqrt(
            np.maximum(np.log((np.abs(s) + np.abs(p) * radius**2 + 1e-300) / cutoff), 1e-3) / a
        )
    return [(radius[g[0]], a[g], s[g], p[g]) for g in groups_of_like_reach(radius)]


def _add_gaussians(
    values: np.ndarray,
    grid: Grid,
    position: np.ndarray,
    radius: float,
    a: np.ndarray,
    s: np.ndarray,
    p: np.ndarray,
) -> None:
    """Add sum_k (s_k + p_k r^2) exp(-a_k r^2) around `position` to `values`, in place."""
    indices, plain, squared = [], [], []
    for i in range(3):
        n = grid.shape[i]
        nodes, d = axis_window(grid, i, position[i], radius)
        g = np.exp(-np.outer(a, d * d))  # (k, nodes)
        g2 = g * (d * d)
        if nodes.size > n:  # the patch overlaps its own images: sum them
            folded = np.zeros((2, a.size, n))
            np.add.at(folded.T, nodes % n, np.stack([g, g2]).T)
            g, g2 = folded
            nodes = np.arange(n)
        indices.append(nodes)
        plain.append(g)
        squared.append(g2)
    if not all(index.size for index in indices):  # beside a slab
        return
    (gx, gy, gz), (gx2, gy2, gz2) = plain, squared
    nx, ny = gx.shape[1], gy.shape[1]
    # s g g g + p (x^2 + y^2 + z^2) g g g = [s gg + p (x^2+y^2) gg] g + [gg] (p z^2 g)
    gxy = np.einsum("kx,ky->xyk", gx, gy).reshape(nx * ny, a.size)
    left = s * gxy
    right = gz
    if p.any():
        left += p * (np.einsum("kx,ky->xyk", gx2, gy) + np.einsum("kx,ky->xyk", gx, gy2)).reshape(
            nx * ny, a.size
        )
        left = np.concatenate([left, gxy], axis=1)
        right = np.concatenate([gz, p[:, None] * gz2])
    patch = (left @ right).reshape(nx, ny, gz.shape[1])
    for on_grid, in_patch in pieces(indices, grid.shape):
        values[on_grid] += patch[in_patch]


def _add_gaussians_obliquely(
    values: np.ndarray,
    grid: Grid,
    position: np.ndarray,
    radius: float,
    a: np.ndarray,
    s: np.ndarray,
    p: np.ndarray,
) -> None:
    """As `_add_gaussians` on any grid, where Gaussians are no products of functions of the axes."""
    across = orthogonal_axis(grid)
    if across is None:
        nodes, r2 = ball(grid, position, radius, periodic=True)
        patch = np.zeros_like(r2)
        for ak, sk, pk in zip(a, s, p, strict=True):
            patch += (sk + pk * r2) * np.exp(-ak * r2)
    else:  # r^2 is q in the plane of two axes plus w^2 across it
        nodes, offsets = block(grid, position, radius, periodic=True)
        i, j = (axis for axis in range(3) if axis != across)
        steps = np.outer(offsets[i], grid.cell[i])[:, None] + np.outer(offsets[j], grid.cell[j])
        q = np.square(steps).sum(axis=-1).reshape(-1, 1)
        w2 = (offsets[across] * np.linalg.norm(grid.cell[across])) ** 2
        plane, line = np.exp(-a * q), np.exp(-np.outer(a, w2))
        left = np.concatenate([(s + p * q) * plane, plane], axis=1)
        right = np.concatenate([line, p[:, None] * w2 * line])
        patch = (left @ right).reshape(len(nodes[i]), len(nodes[j]), w2.size)
        patch = patch.transpose(np.argsort([i, j, across]))
    for on_grid, in_patch in pieces(nodes, grid.shape):
        values[on_grid] += patch[in_patch]


def hirshfeld_weights(
    structure: Structure, grid: Grid, recipe: str = RECIPES[0], cutoff: float = 1e-5
) -> csr_matrix:
    """Hirshfeld weights of the valence atoms at each node, w_a = n_a / sum_b n_b.

    They are not used for Hirshfeld charges: `denser.analysis.charges.stockholder.hirshfeld` uses
    all-electron free atoms. Atoms end where their density falls below `cutoff`, e/bohr^3. The
    weights of a node sum to one, or to zero where there is no atom.

    Returns
    -------
    (n_atoms, grid.size) sparse matrix
    """
    r = np.linspace(0.0, 12.0, 2401)
    curves = {z: atomic_density(z, r, recipe) for z in np.unique(structure.numbers)}
    reach = {z: r[np.flatnonzero(n > cutoff)[-1]] for z, n in curves.items()}
    columns, shares, counts = [np.empty(0, dtype=np.int32)], [np.empty(0)], [0]
    radii = np.array([reach[z] for z in structure.numbers])
    near = touching(grid, structure.positions, radii)
    for z, position, close in zip(structure.numbers, structure.positions, near, strict=True):
        if not close:
            counts.append(0)
            continue
        nodes, squared = ball(grid, position, reach[z], periodic=True)
        inside = squared <= reach[z] ** 2
        index = np.ravel_multi_index(np.ix_(*nodes), grid.shape, mode="wrap")
        columns.append(index[inside].astype(np.int32 if grid.size < 2**31 else np.int64))
        shares.append(np.interp(np.sqrt(squared[inside]), r, curves[z]))
        counts.append(columns[-1].size)
    matrix = csr_matrix(
        (np.concatenate(shares), np.concatenate(columns), np.cumsum(counts)),
        shape=(len(structure), grid.size),
    )
    matrix.sum_duplicates()  # an atom and its image at one node
    total = np.asarray(matrix.sum(axis=0)).ravel()
    total[total == 0] = 1.0
    matrix.data /= total[matrix.indices]
    return matrix
