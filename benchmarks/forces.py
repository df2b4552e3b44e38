"""Forces, relaxed geometries and energy conservation of the calculator against the SCF.

python benchmarks/forces.py compare H2O CH4 H2CO HCN
python benchmarks/forces.py relax H2O H2CO
python benchmarks/forces.py dynamics H2
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from denser import Calculator

OPTIONS = {"padding": 2.0, "device": "cpu"}


def distorted(name: str, width: float = 0.05, seed: int = 1) -> Atoms:
    """A molecule whose coordinates are displaced by a Gaussian of `width` angstrom."""
    atoms = molecule(name)
    atoms.positions += width * np.random.default_rng(seed).normal(size=atoms.positions.shape)
    return atoms


def compare(name: str, model: str) -> None:
    """Energy and forces of one step against the SCF, meV and meV/angstrom."""
    for width in (0.0, 0.05):
        atoms = distorted(name, width)
        atoms.calc = Calculator(model, "scf", **OPTIONS)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        kinds = [("mixed", "exact"), ("mixed", "rigid"), ("recommended", "exact")]
        for estimate, kind in kinds:
            start = time.perf_counter()
            atoms.calc = Calculator(model, estimate=estimate, forces=kind, **OPTIONS)
            error = 1e3 * (atoms.get_forces() - forces)
            difference = 1e3 * (atoms.get_potential_energy() - energy)
            print(
                f"{name:5s} {width:4.2f}  {estimate:11s} {kind:5s}  dE {difference:8.1f}  "
                f"dF max {np.abs(error).max():7.1f} mean {np.abs(error).mean():6.1f}  "
                f"{time.perf_counter() - start:6.1f} s",
                flush=True,
            )


def relax(name: str, model: str) -> None:
    """Bond lengths (angstrom) after BFGS from a distorted start."""
    for task in ("scf", "one-step"):
        atoms = distorted(name)
        atoms.calc = Calculator(model, task, **OPTIONS)
        optimizer = BFGS(atoms, logfile=None)
        done = optimizer.run(fmax=0.01, steps=40)
        bonds = atoms.get_all_distances()[np.triu_indices(len(atoms), 1)]
        text = " ".join(f"{d:.4f}" for d in np.sort(bonds))
        print(
            f"{name:5s} {task:9s} steps {optimizer.nsteps:2d} {'' if done else 'NOT '}done  {text}"
        )


def dynamics(name: str, model: str, steps: int = 30) -> None:
    """Drift of the total energy (meV) of a molecule at 600 K with steps of 0.5 fs."""
    for task in ("scf", "one-step"):
        atoms = molecule(name)
        atoms.calc = Calculator(model, task, **OPTIONS)
        masses = atoms.get_masses()[:, None]
        velocities = np.random.default_rng(3).normal(size=atoms.positions.shape)
        velocities *= np.sqrt(600 * units.kB / masses)
        atoms.set_velocities(velocities - (masses * velocities).sum(axis=0) / masses.sum())
        totals, kinetic = [], []

        def record(atoms=atoms, totals=totals, kinetic=kinetic) -> None:
            kinetic.append(atoms.get_kinetic_energy())
            totals.append(atoms.get_potential_energy() + kinetic[-1])

        integrator = VelocityVerlet(atoms, 0.5 * units.fs)
        integrator.attach(record)
        integrator.run(steps)
        total = 1e3 * np.array(totals)
        drift = np.polyfit(np.arange(total.size), total, 1)[0] * (total.size - 1)
        print(
            f"{name:5s} {task:9s} {steps} steps: kinetic energy {1e3 * min(kinetic):.1f} to "
            f"{1e3 * max(kinetic):.1f}, total within {np.ptp(total):.3f}, drift {drift:+.3f} meV",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["compare", "relax", "dynamics"])
    parser.add_argument("molecules", nargs="+")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    action = {"compare": compare, "relax": relax, "dynamics": dynamics}[arguments.what]
    for molecule_name in arguments.molecules:
        action(molecule_name, arguments.model)
