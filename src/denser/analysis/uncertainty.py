"""Where the error of a predicted density is expected.

A model that estimates its errors gives the wrong electrons e_a of each atom (`Density.wrong`).
Spread over the atoms' own spherical densities n_a, they are

u(r) = sum_a (e_a / Z_a) n_a(|r - R_a|),

whose integral is sum_a e_a, since n_a holds the Z_a valence electrons of the atom. So u / rho is
large where an atom is uncertain; it does not resolve the error within an atom.
"""

from __future__ import annotations

from denser.atoms.sad import RECIPES, sum_of_atoms, valence_charges
from denser.types.arrays import seal
from denser.types.density import Density, Field
from denser.types.errors import InputError


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
