"""Vibrations, infrared and Raman spectra, zero-point energy and thermochemistry of a molecule.

python benchmarks/vibrations.py H2O                  # a name of ase.build.molecule
python benchmarks/vibrations.py molecule.xyz -o spectrum.png
python benchmarks/vibrations.py H2O --raman          # Raman activities too

All is done by ASE; denser gives energies, forces, dipoles and polarizabilities. Wave numbers are
harmonic. The relaxed geometry and the forces are kept in the folder named after the picture (H2O
for H2O.png), so that an interrupted run continues.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from ase.optimize import BFGS
from ase.thermochemistry import IdealGasThermo
from ase.units import Bohr, Hartree
from ase.vibrations import Infrared
from ase.vibrations.placzek import PlaczekStatic
from ase.vibrations.raman import StaticRamanCalculator

import denser
from denser import Calculator
from denser.dft.polarizability import polarizability


class Polarizability:
    """What ASE calls with the atoms of each displacement."""

    def __call__(self, atoms: Atoms) -> np.ndarray:
        """The polarizability tensor, e^2 angstrom^2/eV."""
        return polarizability(denser.predict(atoms)).tensor * Bohr**2 / Hartree


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("molecule", help="a file, or a name of ase.build.molecule")
parser.add_argument("-o", "--out", type=Path, help="by default H2O.png for H2O")
parser.add_argument("--raman", action="store_true", help="Raman activities too; takes longer")
options = parser.parse_args()

picture = options.out or Path(Path(options.molecule).stem + ".png")
folder = picture.with_suffix("")
folder.mkdir(parents=True, exist_ok=True)
relaxed = folder / "relaxed.extxyz"
if relaxed.exists():
    atoms = read(relaxed)
elif Path(options.molecule).is_file():
    atoms = read(options.molecule)
else:
    atoms = molecule(options.molecule)
atoms.calc = Calculator()
if not relaxed.exists():
    BFGS(atoms, logfile=None).run(fmax=1e-4)  # otherwise rotations have frequencies
    write(relaxed, atoms.copy())
inertia = atoms.get_moments_of_inertia()
linear = inertia[0] < 1e-3 * inertia[2]
rigid = 5 if linear else 6

infrared = Infrared(atoms, name=str(folder / "ir"), nfree=4)
infrared.clean(empty_files=True)  # an interrupted one
infrared.run()
energies = infrared.get_energies()  # eV; imaginary ones first
waves, intensities = infrared.get_frequencies(), np.asarray(infrared.intensities)
order = np.argsort(np.abs(waves))
print("rotations and translations, 1/cm:", np.round(np.abs(waves[order[:rigid]]), 1))
activities = np.full(len(waves), np.nan)
if options.raman:
    raman = StaticRamanCalculator(atoms, Polarizability, name=str(folder / "raman"))
    raman.clean(empty_files=True)
    raman.run()
    placzek = PlaczekStatic(atoms, name=str(folder / "raman"))
    activities = placzek.get_absolute_intensities()
print("   1/cm   infrared, (D/angstrom)^2/amu   Raman, angstrom^4/amu")
for i in order[rigid:]:
    print(f"{waves[i].real:8.1f} {intensities[i]:16.3f} {activities[i]:22.2f}")
x, absorption = infrared.get_spectrum(start=400, end=4200, width=15, type="Lorentzian")

modes = energies[order[rigid:]].real
print(f"zero-point energy {0.5 * modes.sum():.4f} eV")
gas = IdealGasThermo(
    modes,
    "linear" if linear else "nonlinear",
    potentialenergy=atoms.get_potential_energy(),
    atoms=atoms,
    symmetrynumber=1,
    spin=0,
)
free = gas.get_gibbs_energy(temperature=298.15, pressure=101325, verbose=False)
print(f"Gibbs energy at 298.15 K and 1 atm, symmetry number 1: {free:.4f} eV")

figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.plot(x, absorption)
axes.set(xlim=(4200, 400), xlabel="wave number, 1/cm", ylabel="absorption", yticks=[])
axes.set_title(f"{atoms.get_chemical_formula()}, harmonic")
figure.savefig(picture, dpi=150)
print(f"written to {picture}")
