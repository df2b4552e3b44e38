"""Droplets of 3 to 5 water molecules, and one of 8, for the tutorial on fine tuning.

    python examples/water_clusters.py

writes `examples/water_clusters.extxyz`. Rigid TIP4P molecules (Jorgensen et al., J. Chem. Phys.
79, 926, 1983) are dropped at random, and cooled by Monte Carlo from 450 to 250 K; then every
coordinate is displaced by a Gaussian of 0.02 angstrom, because real molecules vibrate. Seeds are
fixed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

SIZES = {3: 10, 4: 8, 5: 5, 8: 1}
MOVES = 2000  # per molecule

R_OH, ANGLE, R_OM = 0.9572, np.radians(104.52), 0.15  # angstrom
SIGMA, EPSILON = 3.154, 0.155  # angstrom, kcal/mol
CHARGES = np.array([0.52, 0.52, -1.04])  # H, H, M
COULOMB, BOLTZMANN = 332.0637, 0.0019872  # kcal/mol angstrom/e^2, kcal/mol/K


def sites() -> np.ndarray:
    """O, H, H and M of one molecule (4, 3), angstrom, O at the origin."""
    s, c = np.sin(ANGLE / 2), np.cos(ANGLE / 2)
    return np.array([[0, 0, 0], [R_OH * s, 0, R_OH * c], [-R_OH * s, 0, R_OH * c], [0, 0, R_OM]])


def energy_of_one(molecules: np.ndarray, i: int) -> float:
    """TIP4P energy (kcal/mol) of molecule `i` with all others; molecules (n, 4, 3)."""
    others = np.delete(molecules, i, axis=0)
    d_oo = np.linalg.norm(others[:, 0] - molecules[i, 0], axis=1)
    six = (SIGMA / d_oo) ** 6
    d = np.linalg.norm(others[:, 1:, None] - molecules[i, None, None, 1:], axis=3)
    coulomb = COULOMB * np.einsum("a,b,nab->", CHARGES, CHARGES, 1 / np.maximum(d, 0.3))
    return float(4 * EPSILON * (six * six - six).sum() + coulomb)


def packed(n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` molecules turned at random, oxygens 2.9 angstrom from a neighbour."""
    centres = [np.zeros(3)]
    while len(centres) < n:
        new = centres[rng.integers(len(centres))] + 2.9 * Rotation.random(rng=rng).as_matrix()[0]
        if min(np.linalg.norm(new - c) for c in centres) > 2.7:
            centres.append(new)
    return np.array([Rotation.random(rng=rng).apply(sites()) + c for c in centres])


def droplet(n: int, seed: int) -> Atoms:
    """One droplet that holds together by neighbours within 3.3 angstrom, oxygen to oxygen."""
    rng = np.random.default_rng([n, seed])
    while True:
        molecules = packed(n, rng)
        for temperature in np.linspace(450, 250, MOVES * n):
            i = rng.integers(n)
            before, old = energy_of_one(molecules, i), molecules[i].copy()
            turn = Rotation.from_rotvec(rng.normal(0, 0.15, 3))
            molecules[i] = turn.apply(old - old[0]) + old[0] + rng.normal(0, 0.06, 3)
            rise = energy_of_one(molecules, i) - before
            if rise > 0 and rng.random() > np.exp(-rise / (BOLTZMANN * temperature)):
                molecules[i] = old
        oxygen = molecules[:, 0]
        distance = np.linalg.norm(oxygen[:, None] - oxygen[None], axis=2) + 99 * np.eye(n)
        if connected_components(distance < 3.3)[0] == 1 and distance.min() > 2.4:
            break
    positions = molecules[:, :3].reshape(-1, 3)
    positions = positions + rng.normal(0.0, 0.02, positions.shape)
    out = Atoms("OHH" * n, positions - positions.mean(axis=0))
    out.info["name"] = f"water{n}_{seed:02d}"
    return out


def main() -> None:
    """Write all droplets to one file."""
    clusters = [droplet(n, seed) for n, count in SIZES.items() for seed in range(count)]
    write(Path(__file__).with_suffix(".extxyz"), clusters, format="extxyz")


if __name__ == "__main__":
    main()
