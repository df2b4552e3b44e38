"""Forces, relaxed geometries, vibrations and energy conservation of the calculator.

python benchmarks/forces.py compare H2O CH4 H2CO HCN    # against PySCF's converged molecular SCF
python benchmarks/forces.py relax H2O H2CO              # from three orientations
python benchmarks/forces.py vibrations H2O              # in three orientations
python benchmarks/forces.py dynamics H2CO --steps 500
python benchmarks/forces.py dimer                       # the rigid water dimer, turned

Relaxations, vibrations and dynamics keep their results in --folder: after an interruption, or with
more --steps, the same command continues.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.io import Trajectory, read, write
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


def relax(name: str, model: str, folder: Path) -> None:
    """Bond lengths (angstrom) after BFGS from a distorted start in three orientations."""
    found = []
    calculator = Calculator(model, device="cpu")
    for i, turn in enumerate(ORIENTATIONS):
        file = folder / f"{name}-relaxed-{i}.extxyz"
        if file.exists():
            atoms = read(file)
        else:
            atoms = distorted(name)
            atoms.positions = turn.apply(atoms.positions)
            atoms.calc = calculator
            if not BFGS(atoms, logfile=None).run(fmax=0.001, steps=80):
                print(f"{name:5s} NOT done in 80 steps")
            write(file, atoms.copy())
        found.append(atoms.get_all_distances()[np.triu_indices(len(atoms), 1)])
        print(f"{name:5s} " + " ".join(f"{d:.5f}" for d in np.sort(found[-1])), flush=True)
    print(f"{name:5s} largest difference {np.ptp(found, axis=0).max():.5f}")


def vibrations(name: str, model: str, folder: Path) -> None:
    """Wave numbers (1/cm) of the relaxed molecule in three orientations, rotations first.

    Differences of forces at four displacements: with two, the terms of third order give the
    rotations of water frequencies of 40 (0.01 angstrom) to 100/cm (0.02 angstrom).
    """
    start, found = folder / f"{name}.extxyz", []
    calculator = Calculator(model, device="cpu")
    atoms = read(start) if start.exists() else molecule(name)
    atoms.calc = calculator
    if not start.exists():
        BFGS(atoms, logfile=None).run(fmax=1e-4, steps=80)  # otherwise rotations have frequencies
        write(start, atoms.copy())
    relaxed = atoms.positions.copy()
    for i, turn in enumerate(ORIENTATIONS):
        atoms.positions = turn.apply(relaxed)
        modes = Vibrations(atoms, name=str(folder / f"{name}-{i}"), nfree=4)
        modes.clean(empty_files=True)  # an interrupted one
        modes.run()
        waves = modes.get_frequencies()
        found.append(np.sort(waves.real - waves.imag))
        print(f"{name:5s} " + " ".join(f"{w:8.1f}" for w in found[-1]), flush=True)
    rigid = 5 if np.linalg.matrix_rank(relaxed - relaxed[0], tol=1e-3) == 1 else 6
    order = np.argsort(np.abs(found), axis=1)
    sizes = np.abs(np.take_along_axis(np.array(found), order, axis=1))
    print(
        f"{name:5s} rotations and translations up to {sizes[:, :rigid].max():.1f}/cm, largest "
        f"difference of the others {np.ptp(sizes[:, rigid:], axis=0).max():.2f}/cm"
    )


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


def dynamics(name: str, model: str, steps: int, folder: Path) -> None:
    """Total energy (meV) of a molecule at 300 K with steps of 0.25 fs, and its drift."""
    file = folder / f"{name}.traj"
    if file.exists():
        atoms = read(file)
    else:
        atoms = molecule(name)
        masses = atoms.get_masses()[:, None]
        velocities = np.random.default_rng(3).normal(size=atoms.positions.shape)
        velocities *= np.sqrt(300 * units.kB / masses)
        atoms.set_velocities(velocities - (masses * velocities).sum(axis=0) / masses.sum())
    atoms.calc = Calculator(model, device="cpu")
    done = len(Trajectory(file)) - 1 if file.exists() else -1
    integrator = VelocityVerlet(atoms, 0.25 * units.fs)
    with Trajectory(file, "a", atoms) as trajectory:

        def record() -> None:
            if done < 0 or integrator.nsteps:  # the last frame of an earlier run is there
                trajectory.write()

        integrator.attach(record)
        integrator.run(max(steps - max(done, 0), 0))
    with Trajectory(file) as trajectory:
        frames = [frame for frame, _ in zip(trajectory, range(steps + 1), strict=False)]
    kinetic = [1e3 * frame.get_kinetic_energy() for frame in frames]
    total = np.array([1e3 * frame.get_total_energy() for frame in frames])
    drift = np.polyfit(np.arange(total.size), total, 1)[0] * (total.size - 1)
    print(
        f"{name:5s} {total.size - 1} steps: kinetic energy {min(kinetic):.1f} to "
        f"{max(kinetic):.1f}, total within {np.ptp(total):.3f}, drift {drift:+.3f} meV"
    )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["compare", "relax", "vibrations", "dynamics", "dimer"])
    parser.add_argument("molecules", nargs="*")
    parser.add_argument("--model", default="default")
    parser.add_argument("--steps", type=int, default=500, help="of the dynamics")
    parser.add_argument("--folder", type=Path, default=Path("forces-benchmark"))
    arguments = parser.parse_args()
    model, folder = arguments.model, arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "dimer":
        dimer(model)
    for name in arguments.molecules:
        if arguments.what == "compare":
            compare(name, model)
        elif arguments.what == "relax":
            relax(name, model, folder)
        elif arguments.what == "vibrations":
            vibrations(name, model, folder)
        elif arguments.what == "dynamics":
            dynamics(name, model, arguments.steps, folder)


if __name__ == "__main__":
    main()
