"""Average local ionisation energy on an isosurface of the density.

I(r) = sum_i rho_i(r) |e_i| / sum_i rho_i(r)

over the occupied orbitals with densities rho_i and energies e_i (Sjoberg, Murray, Brinck and
Politzer, Can. J. Chem. 68, 1440 (1990)). Its minima show where electrons are held least: where
electrophiles and radicals attack. Kohn-Sham energies of PBE lie several eV above minus the
ionisation energies, so that only differences between places mean something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from denser.analysis.potential.esp_surface import find_maxima, isosurface
from denser.analysis.regions import nearest_atoms
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

if TYPE_CHECKING:
    from denser.dft.one_step import OneStep

_AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class LocalIonisation:
    """Average local ionisation energy on a surface.

    Parameters
    ----------
    structure : Structure
    isovalue : float
        Density on the surface, e/bohr^3.
    vertices : (n, 3) float
        Bohr.
    values : (n,) float
        I at the vertices, hartree.
    minima : tuple of (int, int)
        Vertex and nearest atom of each local minimum, in ascending order of I.
    of_atoms : (n_atoms,) float
        The lowest I on the part of the surface that is nearest to the atom, hartree; nan without
        such a part.
    """

    structure: Structure
    isovalue: float
    vertices: np.ndarray
    values: np.ndarray
    minima: tuple[tuple[int, int], ...]
    of_atoms: np.ndarray

    def to_dict(self) -> dict:
        """Return plain data in eV and angstrom; atoms are counted from 1."""
        return {
            "isovalue_e_per_bohr3": self.isovalue,
            "mean_ev": float(self.values.mean() * HARTREE),
            "minima": [
                {
                    "ionisation_ev": float(self.values[i] * HARTREE),
                    "position_angstrom": (self.vertices[i] * BOHR).tolist(),
                    "nearest_atom": a + 1,
                    "nearest_element": self.structure.symbols[a],
                }
                for i, a in self.minima
            ],
            "lowest_of_atoms_ev": [
                None if np.isnan(value) else float(value * HARTREE) for value in self.of_atoms
            ],
        }

    def lines(self) -> list[str]:
        """Return a line about the surface, and one per minimum."""
        rows = [
            f"average local ionisation energy on {self.isovalue:g} e/bohr^3: "
            f"{self.values.min() * HARTREE:.2f} to {self.values.max() * HARTREE:.2f} eV"
        ]
        for i, a in self.minima:
            x, y, z = self.vertices[i] * BOHR
            rows.append(
                f"I_s,min {self.values[i] * HARTREE:8.3f} eV at {x:8.3f} {y:8.3f} {z:8.3f} A, near "
                f"{self.structure.symbols[a]}{a + 1}"
            )
        return rows


def local_ionisation(step: OneStep, isovalue: float = 0.001) -> LocalIonisation:
    """Average local ionisation energy on the surface where the density is `isovalue`.

    Parameters
    ----------
    step : OneStep
        Of an isolated molecule with a closed shell.
    isovalue : float
        e/bohr^3.

    Raises
    ------
    InputError
        A periodic structure, whose orbitals have no vacuum level, or there is no such surface.
    """
    structure = step.density.structure
    if structure.cell is not None:
        raise InputError(
            "orbital energies in a periodic cell have no vacuum level; leave out --alie, or "
            "remove the cell of a molecule"
        )
    vertices, faces, _ = isosurface(step.density, isovalue)
    values = average_ionisation(step, vertices)
    atoms = nearest_atoms(structure, vertices, False)
    lowest = np.full(len(structure), np.inf)
    np.minimum.at(lowest, atoms, values)
    minima = tuple((i, int(atoms[i])) for i in find_maxima(faces, -values))
    return LocalIonisation(
        structure, isovalue, vertices, values, minima, np.where(np.isinf(lowest), np.nan, lowest)
    )


def average_ionisation(step: OneStep, points: np.ndarray) -> np.ndarray:
    """I at points (n, 3), bohr: (n,), hartree."""
    mol, occupied = step.mf.cell.to_mol(), step.mo_occ > 0
    shift = mol.atom_coords()[0] - step.density.structure.positions[0]  # the frame of its box
    out = np.empty(len(points))
    for i in range(0, len(points), _AT_ONCE):
        block = points[i : i + _AT_ONCE] + shift
        rho = (mol.eval_gto("GTOval_sph", block) @ step.mo_coeff[:, occupied]) ** 2
        out[i : i + _AT_ONCE] = (rho @ np.abs(step.mo_energy[occupied])) / rho.sum(axis=1)
    return out
