"""Electrostatic energies of molecules with predicted densities, and their multipoles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from denser.analysis.charges.quadrature import Quadrature
from denser.analysis.charges.without_grid import Conformer
from denser.analysis.crystal.multipoles import Multipoles
from denser.atoms.free_atoms import pseudo_charges
from denser.model.deformed_atoms import DeformedAtoms
from denser.types.structure import Structure

POINTS = (30, 15)
"""Radial points per atom, and degree of the Lebedev rule (86 points): energies of pairs are right
to 0.1 kJ/mol, those of hydrogen bonds too."""

_LEAST = 1e-7
"""Where the density is below this (e/bohr^3), it is left out."""


def electrostatic_energy(first: Conformer, second: Conformer) -> float:
    """Electrostatic energy of two molecules in their own densities, hartree.

    The mean of the integrals of either density in the potential of the other one.
    """
    return coulomb_and_overlap(first, second)[0]


def coulomb_and_overlap(first: Conformer, second: Conformer) -> tuple[float, float]:
    """`electrostatic_energy`, and the overlap of the two densities, e^2/bohr^3.

    The overlap is integral rho_A rho_B dr of the valence electrons.
    """
    quadrature = Quadrature.around(joined(first.structure, second.structure), *POINTS)
    densities = [part.density.at(quadrature.points) for part in (first, second)]
    energies = []
    for a, b, rho in ((first, second, densities[0]), (second, first, densities[1])):
        used = rho > _LEAST
        nuclei = pseudo_charges(a.structure) @ b.potential(a.structure.positions)
        electrons = (rho * quadrature.weights)[used] @ b.potential(quadrature.points[used])
        energies.append(float(nuclei - electrons))
    return sum(energies) / 2, float(quadrature.weights @ (densities[0] * densities[1]))


def multipoles_of(conformer: Conformer) -> Multipoles:
    """Multipoles of the atoms, nuclei and electrons."""
    part, atoms = conformer.structure, conformer.density
    assert isinstance(atoms, DeformedAtoms)
    n, first, second = atoms.of_atoms()
    traces = np.trace(second, axis1=1, axis2=2)[:, None, None] / 3
    return Multipoles(part.positions, pseudo_charges(part) - n, -first, traces * np.eye(3) - second)


def moved(conformer: Conformer, shift: np.ndarray) -> Conformer:
    """The same molecule at another place."""
    part, atoms = conformer.structure, conformer.density
    assert isinstance(atoms, DeformedAtoms)
    there = Structure(part.numbers, part.positions + shift, part.charge)
    return Conformer(there, replace(atoms, structure=there))


def joined(first: Structure, second: Structure) -> Structure:
    """The atoms of two molecules."""
    return Structure(
        np.concatenate([first.numbers, second.numbers]),
        np.concatenate([first.positions, second.positions]),
        first.charge + second.charge,
    )
