"""Potential of many charge distributions from afar: groups of groups, seen by their multipoles.

V(r) = sum_lm 4 pi/(2 l + 1) M_lm S_lm(r - C)/|r - C|^(2 l + 1)
M_lm = integral q(r) S_lm(r - C) dr

with the solid harmonics S_lm = r^l Y_lm and C the centre of a group. Groups are halved down to a
few atoms (J. Barnes, P. Hut, Nature 324, 446, 1986). The multipoles of the atoms about their nuclei
move to C by the addition theorem of harmonics,

S_lm(x + t) = sum over l' + l'' = l of G S_l'm'(x) S_l''m''(t),

whose coefficients G are fitted once; the theorem is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from denser.model.harmonics import harmonics_at

_DEGREE = 8
"""Degree of the multipoles of groups."""

_OPENING = 0.5
"""A group is seen as one if its radius is less than this times its distance from all points."""

_LEAF = 12
"""Largest number of atoms of a group that is not divided."""


@dataclass(frozen=True, eq=False)
class FarField:
    """Groups of atoms and their multipoles.

    Parameters
    ----------
    centres : (n_groups, 3) float
        Bohr.
    radii : (n_groups,) float
        Largest distance of an atom of the group from its centre, bohr.
    multipoles : (n_groups, (degree + 1)^2) float
        4 pi/(2 l + 1) M_lm.
    halves : (n_groups, 2) int
        The two groups that it consists of, -1 for none.
    atoms : list of (n,) int
        Atoms of each group.
    beyond : float
        Distance at which atoms are nothing but multipoles, bohr.
    """

    centres: np.ndarray
    radii: np.ndarray
    multipoles: np.ndarray
    halves: np.ndarray
    atoms: list[np.ndarray]
    beyond: float

    @classmethod
    def of(cls, positions: np.ndarray, multipoles: np.ndarray, beyond: float) -> FarField:
        """Groups of atoms at `positions` (n_atoms, 3).

        Parameters
        ----------
        positions : (n_atoms, 3) float
            Bohr.
        multipoles : (n_atoms, (degree + 1)^2) float
            4 pi/(2 l + 1) M_lm of each atom about its position.
        beyond : float
            As in the class.
        """
        own = multipoles / _sizes(round(multipoles.shape[1] ** 0.5) - 1)
        to_groups = _addition(round(own.shape[1] ** 0.5) - 1)
        groups, halves = [np.arange(len(positions))], []
        centres, radii, moments = [], [], []
        for some in groups:  # grows
            centre = positions[some].mean(axis=0)
            x = positions[some] - centre
            centres.append(centre)
            radii.append(np.linalg.norm(x, axis=1).max())
            harmonics = harmonics_at(torch.as_tensor(x.T), _DEGREE).numpy()
            moments.append(to_groups @ (harmonics @ own[some]).ravel())
            halves.append((-1, -1))
            if len(some) > _LEAF:
                along = x @ np.linalg.eigh(x.T @ x)[1][:, -1]
                halves[-1] = (len(groups), len(groups) + 1)
                groups += np.array_split(some[np.argsort(along, kind="stable")], 2)
        found = np.array(moments) * _sizes(_DEGREE)
        return cls(np.array(centres), np.array(radii), found, np.array(halves), groups, beyond)

    def seen_from(self, centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Groups that are far from all points in a sphere, and the atoms that are in none of them.

        Parameters
        ----------
        centre : (3,) float
        radius : float
            Bohr.
        """
        far, near = [], []
        looked_at = np.array([0])
        while looked_at.size:
            gap = np.linalg.norm(self.centres[looked_at] - centre, axis=1) - radius
            own = self.radii[looked_at]
            distant = (own < _OPENING * gap) & (gap - own > self.beyond)
            far.append(looked_at[distant])
            halves = self.halves[looked_at[~distant]]
            single = halves[:, 0] < 0
            near += [self.atoms[group] for group in looked_at[~distant][single]]
            looked_at = halves[~single].ravel()
        none = np.zeros(0, dtype=int)
        return np.concatenate(far), np.sort(np.concatenate([none, *near]))

    def potential(self, points: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Potential (n,) of some groups at points (n, 3), bohr, far from all of them."""
        if not groups.size:
            return np.zeros(len(points))
        x = torch.as_tensor(points.T[:, None] - self.centres[groups].T[:, :, None])
        moments = torch.as_tensor(self.multipoles[groups].T[:, :, None])
        harmonics = harmonics_at(x.reshape(3, -1), _DEGREE).view(len(moments), *x.shape[1:])
        harmonics *= moments
        r2 = (x * x).sum(dim=0)
        power, v = 1 / r2.sqrt(), torch.zeros_like(r2)
        for n in range(_DEGREE + 1):
            v += harmonics[n * n : (n + 1) ** 2].sum(dim=0) * power
            power = power / r2
        return v.sum(dim=0).numpy()


def _sizes(degree: int) -> np.ndarray:
    """4 pi/(2 l + 1) of each harmonic ((degree + 1)^2,)."""
    of_degrees = [np.full(2 * n + 1, 4 * math.pi / (2 * n + 1)) for n in range(degree + 1)]
    return np.concatenate(of_degrees)


@cache
def _addition(degree: int) -> np.ndarray:
    """G, from products of S_l''m'' of `_DEGREE` and S_l'm' of a lower degree.

    ((_DEGREE + 1)^2, (_DEGREE + 1)^2 (degree + 1)^2).
    """
    n_all, n_own = (_DEGREE + 1) ** 2, (degree + 1) ** 2
    x, t = np.random.default_rng(0).normal(size=(2, 3, 1200))
    of_x, of_t, of_sum = (harmonics_at(torch.as_tensor(y), _DEGREE).numpy() for y in (x, t, x + t))
    out = np.zeros((n_all, n_all, n_own))
    for n in range(_DEGREE + 1):
        places = [
            (j, i)
            for k in range(n + 1)
            for j in range((n - k) ** 2, (n - k + 1) ** 2)
            for i in range(k**2, (k + 1) ** 2)
        ]
        products = np.stack([of_t[j] * of_x[i] for j, i in places], axis=1)
        some = slice(n * n, (n + 1) ** 2)
        fit = np.linalg.lstsq(products, of_sum[some].T, rcond=None)[0]
        for (j, i), row in zip(places, fit, strict=True):
            if i < n_own:  # the others are zero for these atoms
                out[some, j, i] = np.where(np.abs(row) > 1e-9, row, 0.0)
    return out.reshape(n_all, -1)
