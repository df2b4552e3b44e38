"""Energy of molecules beside a TIP3P water: frozen prediction, one step, self-consistency.

    python benchmarks/polarisation.py

The water's charges donate a hydrogen bond to the lone pair of the first O or N. All energies are in
kcal/mol: of the prediction as it is, what one step in the field of the charges adds, and the same
of self-consistent calculations in two bases.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase import Atoms
from ase.build import molecule

from denser.dft.molecular import converge, molecular_mean_field
from denser.dft.open_space_gradient import open_step
from denser.dft.point_charges import PointCharges
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import BOHR, KCAL_PER_MOL
from denser.workflows.embedding import Embedding

MOLECULES = ("H2O", "CH3OH", "H2CO", "CH3CN", "C5H5N")
DISTANCE = 2.9  # angstrom


def tip3p(atoms: Atoms) -> PointCharges:
    """A water that donates to the first N or O, away from the rest of the molecule."""
    i = next(i for i, symbol in enumerate(atoms.symbols) if symbol in "NO")
    away = atoms.positions[i] - atoms.positions.mean(axis=0)
    away /= np.linalg.norm(away)
    side = np.cross(away, [0.3, 0.5, 0.9])
    side /= np.linalg.norm(side)
    oxygen = atoms.positions[i] + DISTANCE * away
    angle = np.deg2rad(104.52)
    second = -np.cos(angle) * away + np.sin(angle) * side
    points = np.array([oxygen, oxygen - 0.9572 * away, oxygen + 0.9572 * second])
    return PointCharges(points / BOHR, np.array([-0.834, 0.417, 0.417]))


def self_consistent(structure: Structure, around: PointCharges, basis: str) -> tuple[float, float]:
    """Energy of the unperturbed density in the potential, and what polarisation adds, hartree."""
    alone = converge(structure, basis)
    mf = molecular_mean_field(structure, basis)
    potential = around.matrix(mf.mol)
    core = mf.get_hcore() + potential
    mf.get_hcore = lambda *_: core
    mf.kernel(alone.dm)
    first = float(np.vdot(alone.dm, potential))
    nuclei = around.nuclear_energy(mf.mol.atom_charges(), mf.mol.atom_coords())
    return first + nuclei, float(mf.e_tot) - alone.e_tot - first


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--molecules", nargs="+", default=MOLECULES, help="names that ASE knows")
    predictor = Predictor("default")
    print("| molecule | prediction | gth-tzv2p | aug- | step | gth-tzv2p | aug- |")
    print("|---|---|---|---|---|---|---|")
    for name in parser.parse_args().molecules:
        atoms = molecule(name)
        structure, around = Structure.of(atoms), tip3p(atoms)
        frozen = Embedding(structure)(structure.positions, around.points, around.charges).energy
        gaussians = predictor.gaussians(structure)[0]
        step = open_step(structure, gaussians, charges=around).energy
        step -= open_step(structure, gaussians).energy + frozen
        small, large = (
            self_consistent(structure, around, basis) for basis in ("gth-tzv2p", "aug-gth-tzv2p")
        )
        row = np.array([frozen, small[0], large[0], step, small[1], large[1]]) * KCAL_PER_MOL
        print(f"| {name} | " + " | ".join(f"{x:.2f}" for x in row) + " |", flush=True)


if __name__ == "__main__":
    main()
