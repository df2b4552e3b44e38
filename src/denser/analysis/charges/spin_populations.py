"""Unpaired electrons of the atoms: stockholder populations of a spin density.

    m_a = integral w_a m,  w_a = n_a / sum_b n_b

with the free all-electron atoms n of Hirshfeld charges. Their sum is the number of unpaired
electrons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denser.analysis.charges.stockholder import curve, deform
from denser.fields.windows import ball
from denser.types.density import Density, Field
from denser.types.errors import InputError


@dataclass(frozen=True, eq=False)
class UnpairedElectrons:
    """Unpaired electrons of the atoms.

    Parameters
    ----------
    populations : (n_atoms,) float
        Positive for spin up; their sum is the number of unpaired electrons.
    symbols : tuple of str
    closed : bool
        Whether the density was taken for one of a closed shell, where all are zero.
    """

    populations: np.ndarray
    symbols: tuple[str, ...]
    closed: bool = False

    def to_dict(self) -> dict:
        """Return plain data."""
        return {"populations": self.populations.tolist(), "closed_shell": self.closed}

    def lines(self) -> list[str]:
        """Return the lines of a table."""
        if self.closed:
            return ["no unpaired electrons: taken for a closed shell"]
        rows = [
            f"{i:4d} {symbol:2s} {m:10.5f}"
            for i, (symbol, m) in enumerate(zip(self.symbols, self.populations, strict=True), 1)
        ]
        return ["atom    unpaired e", *rows, f"    sum {self.populations.sum():9.5f}"]


def unpaired_electrons(density: Density) -> UnpairedElectrons:
    """Unpaired electrons of the atoms of a density that has a spin density.

    Raises
    ------
    InputError
        As `hirshfeld_spins`; or a radical or triplet whose spin density is not known.
    """
    structure = density.structure
    symbols = tuple(structure.symbols)
    if density.spin_density is None and not structure.spin:
        return UnpairedElectrons(np.zeros(len(structure)), symbols, closed=True)
    return UnpairedElectrons(hirshfeld_spins(density, spin_density(density)), symbols)


def spin_density(density: Density) -> Density:
    """The spin density of an open shell, unpaired e/bohr^3.

    Raises
    ------
    InputError
        A closed shell, or a density that comes without its spin density.
    """
    structure = density.structure
    if density.spin_density is not None:
        return density.spin_density
    if not structure.spin:
        raise InputError(
            f"{structure.formula} is taken for a closed shell, which has no spin density; give its "
            "unpaired electrons (--spin)"
        )
    raise InputError(
        f"the density of {structure.formula} comes without its spin density; give a file that "
        "holds both, such as the .npz or CHGCAR that denser scf -o writes, or take Kohn-Sham "
        "steps (--refine)"
    )


def hirshfeld_spins(density: Density, spin: Field) -> np.ndarray:
    """Unpaired electrons of each atom (n_atoms,), positive for spin up.

    Parameters
    ----------
    density : Density
        As in `denser.analysis.charges.stockholder.hirshfeld`.
    spin : Field
        Spin density on the same grid, e/bohr^3.

    Raises
    ------
    InputError
        As `hirshfeld`; or the grids differ.
    """
    structure, grid = density.structure, density.grid
    grid.require_same(spin.grid)
    promolecule = deform(density, periodic=True)[1]
    m = np.asarray(spin.values, dtype=float)
    ratio = np.divide(m, promolecule, out=np.zeros_like(m), where=promolecule > 0)
    found = np.empty(len(structure))
    for a, (z, position) in enumerate(zip(structure.numbers, structure.positions, strict=True)):
        atom = curve(int(z))
        nodes, squared = ball(grid, position, atom.radius, periodic=True)
        wrapped = np.ix_(*(i % n for i, n in zip(nodes, grid.shape, strict=True)))
        share = atom.at(np.sqrt(squared), atom.all_electron) * ratio[wrapped]
        found[a] = share.sum() * grid.dv
    return found
