"""Energies between the molecules of a crystal: electrostatics of predicted densities, dispersion.

The density of each molecule is predicted for the molecule on its own, in its geometry in the
crystal. For two of them, with the charge density q = nuclei - rho and its potential V_B,

E_electrostatic = integral q_A V_B = sum_(a in A) Z_a V_B(R_a) - integral rho_A V_B,

the electrostatic energy of first-order perturbation theory. It is exact for these densities, with
what their overlap (penetration) adds: V_B is that of Gaussians, and the integral is a sum over
points around all atoms. Farther apart than `NEAR`, molecules interact through the multipoles of
their atoms, up to quadrupoles. The lattice energy is Ewald's sum of these multipoles
(`denser.analysis.crystal.multipoles`) with what the near pairs have beyond it.

Dispersion is D3(BJ) or D4 of the pair minus that of the molecules; the lattice has that of the
crystal. Exchange repulsion, polarisation and charge transfer are not here: they take other
calculations. The sum of the two terms is therefore no interaction energy, and it is not scaled.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from denser.analysis.charges.without_grid import Conformer
from denser.analysis.crystal.electrostatic_energy import (
    electrostatic_energy,
    joined,
    moved,
    multipoles_of,
)
from denser.analysis.crystal.molecular_crystal import MolecularCrystal
from denser.analysis.crystal.multipoles import Multipoles, interaction, lattice_energy
from denser.dft.dispersion import dispersion
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR, KJ_PER_MOL

NEAR = 9.0
"""Molecules with two atoms closer than this are integrated, bohr; beyond, what penetration adds is
below 0.01 kJ/mol."""

LISTED = 3.8 / BOHR
"""Molecules with two atoms closer than this are in the table, bohr."""

PARTIAL_SUMS = (10.0, 20.0)
"""Distances of centres up to which the sum is printed beside the full one, angstrom."""

MISSING = (
    "no exchange repulsion, polarisation or charge transfer: these are parts of an interaction "
    "energy, not scaled"
)


@dataclass(frozen=True)
class Pair:
    """A molecule and those around it that are placed alike.

    Parameters
    ----------
    molecule, neighbour : int
        Molecules in the cell, from 0.
    operation : str
        Takes the molecule to the neighbour, as in a CIF; empty for another molecule that no
        operation leads to.
    times : int
        Number of such neighbours.
    distance, contact : float
        Between the centres and between the nearest atoms, bohr.
    electrostatic, penetration : float
        Energy, and what of it the multipoles lack, hartree.
    dispersion : float or None
        Hartree; None without the package.
    """

    molecule: int
    neighbour: int
    operation: str
    times: int
    distance: float
    contact: float
    electrostatic: float
    penetration: float
    dispersion: float | None


@dataclass(frozen=True, eq=False)
class PairEnergies:
    """Energies between the molecules of a crystal, hartree.

    Parameters
    ----------
    formulas : tuple of str
        Of all molecules in the cell.
    charges : tuple of int
    independent : tuple of int
        Molecules that no operation leads from one to another.
    pairs : tuple of Pair
        Of the independent molecules, the nearest first; within `LISTED`.
    lattice_electrostatic : float
        Of all molecules of the cell with all others.
    lattice_dispersion : float or None
    partial : tuple of float
        Electrostatic sums up to `PARTIAL_SUMS`; empty for ions, whose sums do not converge so.
    kind : str
        Dispersion correction.
    notes : tuple of str
    """

    formulas: tuple[str, ...]
    charges: tuple[int, ...]
    independent: tuple[int, ...]
    pairs: tuple[Pair, ...]
    lattice_electrostatic: float
    lattice_dispersion: float | None
    partial: tuple[float, ...]
    kind: str
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict:
        """Return plain data in kJ/mol and angstrom; sums are for one molecule."""
        n = len(self.formulas)
        sums = {
            f"within_{r:g}_angstrom": _kj(e / n)
            for r, e in zip(PARTIAL_SUMS, self.partial, strict=False)
        }
        return {
            "molecules": [
                {"formula": formula, "charge": charge}
                for formula, charge in zip(self.formulas, self.charges, strict=True)
            ],
            "pairs": [
                {
                    "molecule": pair.molecule + 1,
                    "neighbour": pair.neighbour + 1,
                    "operation": pair.operation,
                    "times": pair.times,
                    "centre_distance_angstrom": round(pair.distance * BOHR, 4),
                    "contact_angstrom": round(pair.contact * BOHR, 4),
                    "electrostatic_kj_per_mol": _kj(pair.electrostatic),
                    "penetration_kj_per_mol": _kj(pair.penetration),
                    "dispersion_kj_per_mol": _kj(pair.dispersion),
                    "sum_kj_per_mol": _kj(_sum(pair.electrostatic, pair.dispersion)),
                }
                for pair in self.pairs
            ],
            "lattice_electrostatic_kj_per_mol": _kj(self.lattice_electrostatic / n),
            "lattice_electrostatic_partial_kj_per_mol": sums,
            "lattice_dispersion_kj_per_mol": _kj(
                None if self.lattice_dispersion is None else self.lattice_dispersion / n
            ),
            "dispersion": self.kind,
            "not_included": MISSING,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return the table of pairs and the sums over the lattice."""
        names = ", ".join(
            f"{i + 1} {self.formulas[i]}{f' {self.charges[i]:+d}' if self.charges[i] else ''}"
            for i in self.independent
        )
        width = max([len(p.operation) for p in self.pairs] + [9])
        rows = [
            f"pair energies, kJ/mol, of molecule(s) {names} with those within "
            f"{LISTED * BOHR:g} A (between atoms)",
            f"{'pair':>7s}  {'operation':{width}s} {'times':>5s} {'centres, A':>10s} "
            f"{'electrostatic':>13s} {'dispersion':>10s} {'sum':>8s}",
        ]
        rows += [
            f"{f'{p.molecule + 1}-{p.neighbour + 1}':>7s}  {p.operation or '-':{width}s} "
            f"{p.times:5d} {p.distance * BOHR:10.3f} {_text(p.electrostatic):>13s} "
            f"{_text(p.dispersion):>10s} {_text(_sum(p.electrostatic, p.dispersion)):>8s}"
            for p in self.pairs
        ]
        n = len(self.formulas)
        dispersed = None if self.lattice_dispersion is None else self.lattice_dispersion / n
        within = ", ".join(
            f"{_text(e / n)} within {r:g} A"
            for r, e in zip(PARTIAL_SUMS, self.partial, strict=False)
        )
        within = f" ({within})" if within else ""
        rows += [
            f"lattice, for one molecule: electrostatic {_text(self.lattice_electrostatic / n)}"
            f"{within}, dispersion ({self.kind}) {_text(dispersed)}, sum "
            f"{_text(_sum(self.lattice_electrostatic / n, dispersed))}",
            MISSING,
            *self.notes,
        ]
        return rows


def pair_energies(density: Density, predictor: Predictor, kind: str = "d3bj") -> PairEnergies:
    """Energies between the molecules of a crystal.

    Parameters
    ----------
    density : Density
        Of the crystal. Its prediction shows the charges of ions; without it the molecules are
        taken as neutral.
    predictor : Predictor
        Of a model of Gaussians; it predicts the molecules on their own.
    kind : str
        Dispersion, as in `denser.dft.dispersion`.

    Raises
    ------
    InputError
        No cell, atoms bonded without end, ions whose charges are not known, or a model that gives
        a density on a grid only.
    """
    structure = density.structure
    notes: list[str] = []
    crystal, owners = MolecularCrystal.of(structure, "pair energies")
    charges = _charges(density, owners, notes)
    parts = [replace(m, charge=q) for m, q in zip(crystal.molecules, charges, strict=True)]
    conformers = [_predicted(part, predictor, notes) for part in parts]
    multipoles = [multipoles_of(conformer) for conformer in conformers]
    of_lattice = _lattice_dispersion(structure, parts, kind, notes)
    pairs: list[Pair] = []
    penetration, partial = 0.0, np.zeros(len(PARTIAL_SUMS))
    orbits = crystal.orbits()
    for first, others in orbits.items():
        found = _near_pairs(crystal, conformers, first, None if of_lattice is None else kind)
        pairs += [pair for pair in found if pair.contact < LISTED]
        share = 0.5 * len(others)
        penetration += share * sum(pair.times * pair.penetration for pair in found)
        if not any(charges):
            partial += share * _up_to(crystal, multipoles, first)
    total = penetration + lattice_energy(multipoles, crystal.cell)
    dipole = sum(m.charges @ m.positions + m.dipoles.sum(axis=0) for m in multipoles)
    if not any(charges) and np.linalg.norm(dipole) > 0.05 * len(parts):
        notes.append(
            "the crystal is polar: its lattice energy depends on the shape of the crystal; this "
            "one is for a crystal within a conductor"
        )
    return PairEnergies(
        tuple(part.formula for part in parts),
        tuple(charges),
        tuple(orbits),
        tuple(pairs),
        total,
        of_lattice,
        () if any(charges) else tuple((partial + penetration).tolist()),
        kind,
        tuple(notes),
    )


def _near_pairs(
    crystal: MolecularCrystal, conformers: list[Conformer], i: int, kind: str | None
) -> list[Pair]:
    """Pairs of a molecule with those nearer than `NEAR`, without dispersion beyond `LISTED`."""
    found = []
    for other, times in crystal.alike(i, NEAR):
        j = other.index
        apart = float(np.linalg.norm(crystal.centre(j) + other.shift - crystal.centre(i)))
        there = moved(conformers[j], other.shift)
        energy = electrostatic_energy(conformers[i], there)
        far = interaction(multipoles_of(conformers[i]), multipoles_of(there))
        listed = other.contact < LISTED
        between = None
        if kind and listed:
            between = pair_dispersion(conformers[i].structure, there.structure, kind)
        operation = crystal.operation(i, j, other.shift) if listed else ""
        found.append(
            Pair(i, j, operation, times, apart, other.contact, energy, energy - far, between)
        )
    return sorted(found, key=lambda pair: pair.distance)


def pair_dispersion(first: Structure, second: Structure, kind: str) -> float:
    """Dispersion of a pair minus that of its molecules, hartree."""
    both, *own = (dispersion(part, kind)[0] for part in (joined(first, second), first, second))
    return both - sum(own)


def _up_to(crystal: MolecularCrystal, multipoles: list[Multipoles], i: int) -> np.ndarray:
    """Energies of multipoles of a molecule with those whose centres are within `PARTIAL_SUMS`."""
    radii = np.array(PARTIAL_SUMS) / BOHR
    sums = np.zeros(len(radii))
    for other in crystal.neighbours(i, float(radii.max())):
        apart = np.linalg.norm(crystal.centre(other.index) + other.shift - crystal.centre(i))
        if apart < radii.max():
            pair = interaction(multipoles[i], multipoles[other.index].moved(other.shift))
            sums[apart < radii] += pair
    return sums


def _lattice_dispersion(
    structure: Structure, parts: list[Structure], kind: str, notes: list[str]
) -> float | None:
    """Dispersion of the crystal minus that of its molecules, hartree; None without package."""
    try:
        return dispersion(structure, kind)[0] - sum(dispersion(part, kind)[0] for part in parts)
    except InputError as error:
        notes.append(f"no dispersion: {error}")
        return None


def _charges(density: Density, molecules: list[np.ndarray], notes: list[str]) -> list[int]:
    """Charges of the molecules: whole, with paired electrons, next to those of the prediction."""
    structure, atoms = density.structure, density.continuous
    valence = density.valence_charges
    if not isinstance(atoms, DeformedAtoms):
        if structure.charge or any(int(valence[m].sum()) % 2 for m in molecules):
            raise InputError(
                "the charges of the ions are not known from a density file; give the structure, "
                "whose density is predicted"
            )
        return [0] * len(molecules)
    charged = valence - atoms.of_atoms()[0]
    found = []
    for molecule in molecules:
        odd = int(structure.numbers[molecule].sum()) % 2
        found.append(2 * round((float(charged[molecule].sum()) - odd) / 2) + odd)
    if sum(found) != structure.charge:
        raise InputError(
            f"the molecules of {structure.formula} seem to have the charges "
            f"{', '.join(f'{q:+d}' for q in found)}, which do not add up to {structure.charge}; "
            "pair energies need molecules with paired electrons"
        )
    if any(found):
        notes.append("the charges of the ions are those of the predicted density, rounded")
    return found


def _predicted(part: Structure, predictor: Predictor, notes: list[str]) -> Conformer:
    """A molecule with its density on its own."""
    atoms, excess = predictor.gaussians(part)
    doubt = predictor.doubt_of(part, excess, predictor.wrong_electrons(atoms, excess))
    if doubt and (text := f"{part.formula} on its own: {doubt}") not in notes:
        notes.append(text)
    return Conformer(part, atoms)


def _sum(electrostatic: float, dispersed: float | None) -> float | None:
    return None if dispersed is None else electrostatic + dispersed


def _kj(energy: float | None) -> float | None:
    return None if energy is None else round(energy * KJ_PER_MOL, 4)


def _text(energy: float | None) -> str:
    return "-" if energy is None else f"{energy * KJ_PER_MOL:z.1f}"
