"""Vibrations, infrared spectrum, zero-point energy and thermochemistry of a molecule.

python benchmarks/vibrations.py H2O                  # a name of ase.build.molecule
python benchmarks/vibrations.py molecule.xyz -o spectrum.png

All is done by ASE; denser gives energies, forces and dipoles. Wave numbers are harmonic.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.build import molecule
from ase.io import read
from ase.optimize import BFGS
from ase.thermochemistry import IdealGasThermo
from ase.vibrations import Infrared

from denser import Calculator

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("molecule", help="a file, or a name of ase.build.molecule")
parser.add_argument("-o", "--out", type=Path, default=Path("spectrum.png"))
options = parser.parse_args()

atoms = read(options.molecule) if Path(options.molecule).is_file() else molecule(options.molecule)
atoms.calc = Calculator()
BFGS(atoms, logfile=None).run(fmax=1e-4)  # otherwise rotations have frequencies
inertia = atoms.get_moments_of_inertia()
linear = inertia[0] < 1e-3 * inertia[2]
rigid = 5 if linear else 6

with tempfile.TemporaryDirectory() as folder:
    infrared = Infrared(atoms, name=str(Path(folder) / "ir"))
    infrared.run()
    energies = infrared.get_energies()  # eV; imaginary ones first
    waves, intensities = infrared.get_frequencies(), np.asarray(infrared.intensities)
    order = np.argsort(np.abs(waves))
    print("rotations and translations, 1/cm:", np.round(np.abs(waves[order[:rigid]]), 1))
    print("   1/cm   (D/angstrom)^2/amu")
    for i in order[rigid:]:
        print(f"{waves[i].real:8.1f} {intensities[i]:10.3f}")
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
figure.savefig(options.out, dpi=150)
print(f"written to {options.out}")
