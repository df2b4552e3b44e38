"""What the error of a predicted density does to the properties that are read off it.

    python benchmarks/properties.py --labels DIR --n 10 [--csv FILE]

DIR holds labels; the molecules are those of the model's own validation part, in a fixed random
order. Each is converged anew in a box of 4 angstrom padding (the labels' boxes cut surfaces
off). A property is computed from the predicted density, from the same after one Kohn-Sham step,
from superposed atoms, and from the converged one, always with the same settings. The table has
the mean magnitude, the mean absolute errors, and the worst of the prediction; seconds are those
of one property of one molecule.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import denser.dft
from denser.analysis.electrostatics import Potential
from denser.analysis.scattering import structure_factors
from denser.data.labels import read_labels
from denser.density import Density
from denser.dft.cell import density_from_dm
from denser.dft.refine import refine
from denser.dft.scf import mean_field, scf
from denser.errors import InputError
from denser.evaluate import choose
from denser.grid import Grid
from denser.metrics import err_rho
from denser.prediction import Predictor
from denser.properties import Analysis
from denser.sad import superposition
from denser.structure import Structure
from denser.units import DEBYE

KCAL = 627.509474
"""Kilocalories per mole in a hartree."""

UNITS = {
    "dipole": "D",
    "quadrupole": "D A",
    "hirshfeld charges": "e",
    "cm5 charges": "e",
    "mbis charges": "e",
    "bader charges": "e",
    "chelpg charges": "e",
    "mk charges": "e",
    "resp charges": "e",
    "ESP on the 0.001 surface": "kcal/mol/e",
    "highest ESP on the surface": "kcal/mol/e",
    "lowest ESP on the surface": "kcal/mol/e",
    "rho at bond critical points": "e/bohr^3",
    "Laplacian at bond critical points": "e/bohr^5",
    "ellipticity of bonds": "",
    "Hartree energy": "hartree",
    "exchange-correlation energy": "hartree",
    "Thomas-Fermi kinetic energy": "hartree",
    "|F(hkl)| to 0.8 A": "e",
}


def properties(density: Density, points: np.ndarray | None, seconds: dict) -> dict:
    """Arrays by name; the potential at `points` (n, 3), or at those of this density's surface."""
    analysis, out = Analysis(density), {}

    def timed(name: str) -> object:
        begin = time.perf_counter()
        result = analysis.property(name)
        seconds.setdefault(name, []).append(time.perf_counter() - begin)
        return result

    moments = timed("moments")
    out["dipole"] = moments.dipole * DEBYE
    out["quadrupole"] = moments.quadrupole.ravel() * DEBYE * 0.529177210903
    for name in ("hirshfeld", "cm5", "mbis", "bader", "chelpg", "mk", "resp"):
        out[f"{name} charges"] = timed(name).charges
    surface = timed("esp")
    points = surface.vertices if points is None else points
    out["points"] = points
    out["ESP on the 0.001 surface"] = KCAL * Potential(density).values(points)
    out["highest ESP on the surface"] = np.array([KCAL * surface.potential.max()])
    out["lowest ESP on the surface"] = np.array([KCAL * surface.potential.min()])
    return out
