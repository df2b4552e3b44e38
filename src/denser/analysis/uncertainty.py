"""Where the error of a predicted density is expected, and what it does to other results.

A model that estimates its errors gives the wrong electrons e_a of each atom (`Density.wrong`).
Spread over the atoms' own spherical densities n_a, they are

u(r) = sum_a (e_a / Z_a) n_a(|r - R_a|),

whose integral is sum_a e_a, since n_a holds the Z_a valence electrons of the atom. So u / rho is
large where an atom is uncertain; it does not resolve the error within an atom.

Error bars of results are numbers that two of three errors do not exceed. Wrong electrons are
displaced by some fraction of an angstrom, so the error of a dipole is taken to be proportional to
their number, and that of the potential at r to

sqrt(sum_a (e_a / |r - R_a|^2)^2).

That of a Hirshfeld charge is proportional to e_a. `benchmarks/error_bars.py` measures the three
factors and how often the bars hold.
"""

from __future__ import annotations

import numpy as np

from denser.atoms.sad import RECIPES, sum_of_atoms, valence_charges
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError

OF_DIPOLE = 0.43
"""Length by which the wrong electrons are displaced together, bohr."""

OF_POTENTIAL = 0.8
"""The same for each atom, bohr."""


OF_CHARGE = 0.3
"""Share of the wrong electrons of an atom by which its Hirshfeld charge is off."""


def charge_errors(wrong: np.ndarray | None) -> np.ndarray | None:
    """What the error of Hirshfeld charges does not exceed in two of three atoms (n_atoms,), e.

    Parameters
    ----------
    wrong : (n_atoms,) float or None
        As `Density.wrong`; None if the density is no prediction of a model that estimates errors.
    """
    return None if wrong is None else OF_CHARGE * wrong


def dipole_error(density: Density) -> float | None:
    """Length that the error of the dipole does not exceed in two of three molecules, e bohr.

    None if the density is no prediction of a model that estimates its errors.
    """
    return None if density.wrong is None else OF_DIPOLE * float(density.wrong.sum())


def potential_errors(density: Density, points: np.ndarray) -> np.ndarray | None:
    """What the error of the potential does not exceed at two of three points (n,), hartree/e.

    Parameters
    ----------
    density : Density
        None is returned if it is no prediction of a model that estimates its errors.
    points : (n, 3) float
        Bohr, outside the atoms; periodic images are not taken into account.
    """
    if density.wrong is None:
        return None
    total = np.zeros(len(points))
    for position, wrong in zip(density.structure.positions, density.wrong, strict=True):
        total += (wrong / ((points - position) ** 2).sum(axis=1)) ** 2
    return OF_POTENTIAL * np.sqrt(total)


def uncertainty(density: Density) -> Field:
    """Expected absolute error of a prediction (nx, ny, nz), e/bohr^3.

    Raises
    ------
    InputError
        The density is no prediction of a model that estimates its errors.
    """
    if density.wrong is None:
        raise InputError(
            "no expected errors are known of this density: they belong to predictions of models "
            "that estimate them, such as the default, and not to files or to densities after "
            "Kohn-Sham steps"
        )
    structure = density.structure
    factors = density.wrong / valence_charges(structure)
    values = sum_of_atoms(structure, density.grid, RECIPES[0], factors)
    return Field(density.grid, seal(values))
