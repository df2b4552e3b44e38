"""Reproducible points around a molecule, which depend only on its geometry.

Points are drawn from p(r) = 0.95 sum_a c_a sum_s w_s G_s(r - R_a) + 0.05 / V: Gaussians of three
widths at every atom, and evenly over the box. An integral over the box is the mean of f / p over
the points. The box is periodic, so a Gaussian is summed with its images.

The points are a Kronecker sequence in four dimensions (the Gaussian and three coordinates). Its
start depends on a hash of the geometry. Consecutive points cover p evenly, and their noise is
smaller than that of random points.

A box that is not along x, y and z has the same density p, in coordinates along its vectors where
points are drawn evenly (`_oblique`).

Published shards contain densities at these points, so this module must never change: a new way
to draw points needs a new function and a new format of shards.
"""

from __future__ import annotations

import hashlib

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import ndtri

from denser.fields.periodic import images_near, wrapped
from denser.types.grid import Grid
from denser.types.structure import Structure

_WIDTHS = np.array([0.5, 1.0, 1.8])
"""Standard deviations of the Gaussians, bohr."""

_SHARES = np.array([0.2, 0.4, 0.4])
_EVEN = 0.05
_HYDROGEN = 0.4
"""Points of a hydrogen atom per point of another atom."""

_RATIO = 1.16730397826141868
"""Root of x^5 = x + 1; its inverse powers are the steps of the sequence."""

_TAIL = 6.0
"""Images of a Gaussian are included up to this number of standard deviations."""


def cloud(structure: Structure, grid: Grid, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n, 3) in bohr, inside the box, and their density p (n,) in 1/bohr^3.

    Parameters
    ----------
    structure : Structure
        In the frame of `grid`.
    grid : Grid
        Only its box matters.
    n : int
    """
    if not grid.is_orthorhombic:
        return _oblique(structure, grid, n)
    lengths = np.diag(grid.cell)
    per_atom, u, about_atom, around = _drawn(structure, grid, n)
    points = grid.origin + u * lengths
    points[about_atom] = around
    points = grid.origin + (points - grid.origin) % lengths
    p = np.full(n, _EVEN / grid.volume)
    for s, share in zip(_WIDTHS, _SHARES, strict=True):
        density = np.ones((len(structure), n))
        for i in range(3):
            density *= _periodic_gaussian(
                points[:, i] - structure.positions[:, i, None], lengths[i], s
            )
        p += share * (per_atom @ density)
    return points, p


def _drawn(
    structure: Structure, grid: Grid, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shares of the atoms; even coordinates (n, 3); which points are about an atom, and where."""
    per_atom = np.where(structure.numbers == 1, _HYDROGEN, 1.0)
    per_atom = (1 - _EVEN) * per_atom / per_atom.sum()
    shares = np.outer(per_atom, _SHARES).ravel()  # (atom and width)
    steps = _RATIO ** -np.arange(1.0, 5.0)
    u = (_start(structure, grid) + np.arange(1, n + 1)[:, None] * steps) % 1.0
    choice = np.searchsorted(np.cumsum(shares), u[:, 0], side="right")
    about_atom = choice < shares.size
    atom, width = np.divmod(choice[about_atom], _WIDTHS.size)
    deviates = ndtri(np.clip(u[about_atom, 1:], 1e-9, 1 - 1e-9))
    around = structure.positions[atom] + _WIDTHS[width, None] * deviates
    return per_atom, u[:, 1:], about_atom, around


def _oblique(structure: Structure, grid: Grid, n: int) -> tuple[np.ndarray, np.ndarray]:
    """As `cloud`, for a box of any shape."""
    per_atom, u, about_atom, around = _drawn(structure, grid, n)
    points = grid.origin + u @ grid.cell
    points[about_atom] = around
    points = wrapped(points, grid.cell, grid.origin)
    p = np.full(n, _EVEN / grid.volume)
    for s, share in zip(_WIDTHS, _SHARES, strict=True):
        images, owner = images_near(structure.positions, grid, _TAIL * s)
        squares = cdist(images, points, "sqeuclidean")
        weights = share * per_atom[owner] / (s * np.sqrt(2 * np.pi)) ** 3
        p += weights @ np.exp(-0.5 / s**2 * squares)
    return points, p


def _periodic_gaussian(x: np.ndarray, length: float, s: float) -> np.ndarray:
    """Normalised Gaussian of width `s` at `x`, summed with its images `length` apart."""
    x = x - length * np.round(x / length)
    n_images = int(np.ceil(_TAIL * s / length))
    total = np.zeros_like(x)
    for image in range(-n_images, n_images + 1):
        total += np.exp(-0.5 * ((x - image * length) / s) ** 2)
    return total / (s * np.sqrt(2 * np.pi))


def _start(structure: Structure, grid: Grid) -> np.ndarray:
    """Four numbers in [0, 1) from a hash of atoms, charge and box; lengths to 2^-18 bohr."""
    digest = hashlib.sha256(structure.numbers.astype("<i4").tobytes())
    digest.update(str(structure.charge).encode())
    for lengths in (structure.positions - grid.origin, grid.cell):
        digest.update(np.round(lengths * 2**18).astype("<i4").tobytes())
    return np.frombuffer(digest.digest()[:16], dtype="<u4") / 2.0**32
