"""Droplets of water and solutions of salts, of any size, for benchmarks.

Molecules at the density of the liquid on a lattice, with random displacements, each turned several
times to the orientation of lowest energy of 24 in the field of its neighbours' TIP3P charges. Not
a liquid, but with its hydrogen bonds and contacts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

_LATTICE = 3.104
"""Distance of molecules, angstrom: 1 g/cm3."""

_APART = 6.0
_REACH = 7.0
_SWEEPS = 3
_ORIENTATIONS = 24
_COULOMB = 332.06
_ANGLE = np.radians(52.26)
_WATER = 0.9572 * np.array(
    [[0, 0, 0], [np.sin(_ANGLE), 0, np.cos(_ANGLE)], [-np.sin(_ANGLE), 0, np.cos(_ANGLE)]]
)
_CHARGES = (-0.834, 0.417, 0.417)
_IONS = {"Na": (1, 2.4), "Cl": (-1, 3.2), "Mg": (2, 2.1), "K": (1, 2.8)}
"""Charge, and distance of the nearest water oxygens, angstrom."""


def droplet(n: int, ions: Sequence[str] = (), seed: int = 0) -> Atoms:
    """A sphere of n sites, water molecules and ions (symbols) at least 6 angstrom apart."""
    rng = np.random.default_rng(seed)
    k = int(np.ceil((0.75 * n / np.pi) ** (1 / 3))) + 1
    sites = np.stack(np.meshgrid(*[np.arange(-k, k + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    order = np.argsort(np.linalg.norm(sites, axis=1), kind="stable")
    oxygens = sites[order[:n]] * _LATTICE + rng.normal(scale=0.12, size=(n, 3))
    charges = np.tile(_CHARGES, (n, 1))
    symbols = {}
    for i in rng.permutation(n):
        if len(symbols) == len(ions):
            break
        if all(np.linalg.norm(oxygens[i] - oxygens[j]) > _APART for j in symbols):
            symbols[int(i)] = ions[len(symbols)]
    for i, symbol in symbols.items():
        charge, distance = _IONS[symbol]
        charges[i] = charge, 0, 0
        step = oxygens - oxygens[i]
        r = np.linalg.norm(step, axis=1)
        for j in np.flatnonzero((r > 0) & (r < 3.6)):
            oxygens[j] += step[j] / r[j] * (distance - r[j])
    turns = Rotation.random(n, random_state=seed).as_matrix()
    x = oxygens[:, None] + _WATER @ turns.transpose(0, 2, 1)
    near = cKDTree(oxygens).query_ball_point(oxygens, _REACH)
    for _ in range(_SWEEPS):
        for i in rng.permutation(n):
            if i in symbols:
                continue
            others = [j for j in near[i] if j != i]
            seeds = int(rng.integers(1 << 31))
            turns = Rotation.random(_ORIENTATIONS, random_state=seeds).as_matrix()
            trials = np.concatenate([x[i][None], _WATER @ turns.transpose(0, 2, 1) + oxygens[i]])
            d = np.linalg.norm(trials[:, None, :, None] - x[others][None, :, None], axis=-1)
            pairs = charges[i][:, None] * charges[others][:, None, :] / d
            energy = _COULOMB * pairs + 1e3 * np.maximum(1.75 - d, 0) ** 2
            x[i] = trials[energy.sum(axis=(1, 2, 3)).argmin()]
    letters: list[str] = []
    for i in range(n):
        letters += [symbols[i], "", ""] if i in symbols else ["O", "H", "H"]
        if i in symbols:
            x[i] = oxygens[i]
    there = [i for i, letter in enumerate(letters) if letter]
    return Atoms([letters[i] for i in there], x.reshape(-1, 3)[there])
