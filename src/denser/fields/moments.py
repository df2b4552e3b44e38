"""Moments of a function on a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def grid_moments(
    values: np.ndarray, nodes: list[np.ndarray], cell: np.ndarray, dv: float
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Integrals of f times 1, x_i, x_i x_j and x_i x_j x_k as sums over the nodes.

    The monomials are summed in fractions of the cell, axis by axis, and transformed afterwards.

    Parameters
    ----------
    values : (nx, ny, nz) float
    nodes : three (n_i,) float
        Fractions of the cell along each axis, from the origin of the moments.
    cell : (3, 3) float
        Rows are the vectors of the box, bohr.
    dv : float
        Volume per node, bohr^3.
    """
    powers = [t[:, None] ** np.arange(4) for t in nodes]
    partial = np.stack([plane @ powers[2] for plane in values])  # (x, y, c)
    partial = np.einsum("xyc,yb->xbc", partial, powers[1])
    sums = dv * np.einsum("xbc,xa->abc", partial, powers[0])  # of t0^a t1^b t2^c
    first, second, third = tensors(sums)
    return (
        float(sums[0, 0, 0]),
        first @ cell,
        cell.T @ second @ cell,
        np.einsum("abc,ai,bj,ck->ijk", third, cell, cell, cell),
    )


def tensors(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moments (..., 3), (..., 3, 3) and (..., 3, 3, 3) from those of x^a y^b z^c (..., 4, 4, 4)."""
    index = np.eye(3, dtype=int)

    def moment(powers: np.ndarray) -> np.ndarray:
        return sums[..., powers[0], powers[1], powers[2]]

    first = np.stack([moment(i) for i in index], axis=-1)
    second = np.stack([np.stack([moment(i + j) for j in index], axis=-1) for i in index], axis=-2)
    third = np.stack(
        [
            np.stack([np.stack([moment(i + j + k) for k in index], -1) for j in index], -2)
            for i in index
        ],
        axis=-3,
    )
    return first, second, third


def shifted(
    moments: Sequence[np.ndarray], by: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Moments about an origin, of functions with these moments about points at `by` from it.

    Parameters
    ----------
    moments : (n,), (n, 3), (n, 3, 3) and (n, 3, 3, 3) float
        Of each function about its own point.
    by : (n, 3) float
        Points minus origin, bohr.
    """
    m0, m1, m2, m3 = moments
    x, xx = by, np.einsum("ni,nj->nij", by, by)
    first = m1 + x * m0[:, None]
    crossed = np.einsum("ni,nj->nij", x, m1)
    second = m2 + crossed + np.swapaxes(crossed, 1, 2) + xx * m0[:, None, None]
    a = np.einsum("ni,njk->nijk", x, m2)
    b = np.einsum("nij,nk->nijk", xx, m1)
    third = m3 + np.einsum("nij,nk->nijk", xx, x) * m0[:, None, None, None]
    third = third + a + a.transpose(0, 2, 1, 3) + a.transpose(0, 3, 2, 1)
    third = third + b + b.transpose(0, 1, 3, 2) + b.transpose(0, 3, 2, 1)
    return m0, first, second, third
