"""Forces, relaxed geometries, vibrations and energy conservation of the calculator.

python benchmarks/forces.py compare H2O CH4 H2CO HCN    # against PySCF's converged molecular SCF
python benchmarks/forces.py relax H2O H2CO              # from three orientations
python benchmarks/forces.py vibrations H2O              # in three orientations
python benchmarks/forces.py dynamics H2CO --steps 500
python benchmarks/forces.py dimer                       # the rigid water dimer, turned
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Vibrations
from pyscf import dft
from scipy.spatial.transform import Rotation

from denser import Calculator
from denser.dft.molecular import build_molecule
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

ORIENTATIONS = [Rotation.identity(), Rotation.random(rng=1), Rotation.random(rng=2)]


def distorted(name: str, width: float = 0.05, seed: int = 1) -> Atoms:
    """A molecule whose coordinates are displaced by a Gaussian of `width` angstrom."""
    atoms = molecule(name)
    atoms.positions += width * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return atoms


def converged(atoms: Atoms) -> tuple[float, np.ndarray]:
    """Energy, eV, and forces, eV/angstrom, of PySCF's molecular code."""
    mf = dft.RKS(build_molecule(Structure.of(atoms), "gth-tzv2p"), xc="pbe")
    mf.grids.level = 4
    energy = mf.kernel() * HARTREE
    slope = mf.nuc_grad_method()
    slope.grid_response, slope.verbose = True, 0
    return energy, -slope.kernel() * HARTREE / BOHR


def compare(name: str, model: str) -> None:
    """Energy and forces of one step against the SCF, meV and meV/angstrom."""
    for width in (0.0, 0.05):
        atoms = distorted(name, width)
        energy, forces = converged(atoms)
        for kind in ("exact", "rigid"):
            start = time.process_time()
            atoms.calc = Calculator(model, forces=kind, device="cpu")
            error = 1e3 * (atoms.get_forces() - forces)
            difference = 1e3 * (atoms.get_potential_energy() - energy)
            print(
                f"{name:5s} {width:4.2f}  {kind:5s}  dE {difference:8.2f}  "
                f"dF max {np.abs(error).max():7.2f} mean {np.abs(error).mean():6.2f}  "
                f"{time.process_time() - start:6.1f} s",
                flush=True,
            )


def relax(name: str, model: str) -> None:
    """Bond lengths (angstrom) after BFGS from a distorted start in three orientations."""
    found = []
    for turn in ORIENTATIONS:
        atoms = distorted(name)
        atoms.positions = turn.apply(atoms.positions)
        atoms.calc = Calculator(model, device="cpu")
        optimizer = BFGS(atoms, logfile=None)
        done = optimizer.run(fmax=0.001, steps=80)
        found.append(atoms.get_all_distances()[np.triu_indices(len(atoms), 1)])
        text = " ".join(f"{d:.5f}" for d in np.sort(found[-1]))
        print(
            f"{name:5s} steps {optimizer.nsteps:2d} {'' if done else 'NOT '}done  {text}",
            flush=True,
        )
    print(f"{name:5s} largest difference {np.ptp(found, axis=0).max():.5f}")


def vibrations(name: str, model: str) -> None:
    """Wave numbers (1/cm) of the relaxed molecule in three orientations, rotations first."""
    atoms = molecule(name)
    atoms.calc = Calculator(model, device="cpu")
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=80)  # otherwise rotations have frequencies
    relaxed, found = atoms.positions.copy(), []
    for turn in ORIENTATIONS:
        atoms.positions = turn.apply(relaxed)
        with tempfile.TemporaryDirectory() as folder:
            modes = Vibrations(atoms, name=str(Path(folder) / "modes"))
            modes.run()
            waves = modes.get_frequencies()
        found.append(np.sort(waves.real - waves.imag))
        print(f"{name:5s} " + " ".join(f"{w:8.1f}" for w in found[-1]), flush=True)
    print(f"{name:5s} largest difference {np.ptp(np.array(found)[:, 6:], axis=0).max():.2f}")


def dimer(model: str) -> None:
    """Range of the energy (meV) of a rigid water dimer, turned in ten steps of 0.8 degrees."""
    acceptor = molecule("H2O")
    acceptor.translate((0.0, 0.0, 2.9) - acceptor.positions[0])
    both = molecule("H2O") + acceptor
    calculator = Calculator(model, device="cpu")
    energies = []
    for step in range(11):
        atoms = both.copy()
        atoms.rotate(0.8 * step, (1, 2, 3))
        atoms.calc = calculator
        energies.append(1e3 * atoms.get_potential_energy())
        print(f"{0.8 * step:4.1f} degrees {energies[-1] - energies[0]:8.4f}", flush=True)
    print(f"range {np.ptp(energies):.4f} meV")


def dynamics(name: str, model: str, steps: int) -> None:
    """Total energy (meV) of a molecule at 300 K with steps of 0.25 fs, and its drift."""
    atoms = molecule(name)
    atoms.calc = Calculator(model, device="cpu")
    masses = atoms.get_masses()[:, None]
    velocities = np.random.default_rng(3).normal(size=atoms.positions.shape)
    velocities *= np.sqrt(300 * units.kB / masses)
    atoms.set_velocities(velocities - (masses * velocities).sum(axis=0) / masses.sum())
    totals, kinetic = [], []

    def record() -> None:
        kinetic.append(atoms.get_kinetic_energy())
        totals.append(atoms.get_potential_energy() + kinetic[-1])

    integrator = VelocityVerlet(atoms, 0.25 * units.fs)
    integrator.attach(record)
    integrator.run(steps)
    total = 1e3 * np.array(totals)
    drift = np.polyfit(np.arange(total.size), total, 1)[0] * (total.size - 1)
    print(
        f"{name:5s} {steps} steps: kinetic energy {1e3 * min(kinetic):.1f} to "
        f"{1e3 * max(kinetic):.1f}, total within {np.ptp(total):.3f}, drift {drift:+.3f} meV"
    )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    actions = {"compare": compare, "relax": relax, "vibrations": vibrations}
    parser.add_argument("what", choices=[*actions, "dynamics", "dimer"])
    parser.add_argument("molecules", nargs="*")
    parser.add_argument("--model", default="default")
    parser.add_argument("--steps", type=int, default=500, help="of the dynamics")
    arguments = parser.parse_args()
    if arguments.what == "dimer":
        dimer(arguments.model)
    for name in arguments.molecules:
        if arguments.what == "dynamics":
            dynamics(name, arguments.model, arguments.steps)
        else:
            actions[arguments.what](name, arguments.model)


if __name__ == "__main__":
    main()
