"""Drugs in TIP3P water with OpenMM, with RESP charges or with the predicted density itself.

    denser charges --smiles "CC(=O)Nc1ccc(O)cc1" -o ligand.sdf
    python examples/ligand_in_water.py ligand.sdf --steps 200 --density

Bonded terms are MMFF94 and Lennard-Jones terms UFF, both from RDKit, so that any molecule runs
without further packages; hydrogens of N, O and S have none, as in Amber. They stand for those of
your own force field: nobody has tuned them for water. Needs openmm and rdkit.
"""

from __future__ import annotations

import argparse
import sys
import time
from io import StringIO

import numpy as np
import openmm
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers as fields

KCAL = 4.184  # kJ
TYPE = '<Type name="{0}" class="{0}" element="{1}" mass="{2:.4f}"/>'
ATOM = '<Atom type="{0}" sigma="{1:.6f}" epsilon="{2:.6f}" charge="{3:.6f}"/>'


class Bonded:
    """MMFF94 without its charges: energy and forces of a state of OpenMM."""

    def __init__(self, molecule: Chem.Mol) -> None:
        properties = fields.MMFFGetMoleculeProperties(molecule)
        if properties is None:
            raise SystemExit("MMFF94 lacks an element or a bond of this molecule")
        properties.SetMMFFEleTerm(False)
        self.field = fields.MMFFGetMoleculeForceField(
            molecule, properties, nonBondedThresh=1e3, ignoreInterfragInteractions=False
        )
        self.field.Initialize()

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Energy (kJ/mol) and forces (kJ/mol/nm)."""
        x = (10 * state.getPositions(asNumpy=True)._value).ravel().tolist()
        energy = self.field.CalcEnergy(x)  # first: the gradient takes its distances
        gradient = np.array(self.field.CalcGrad(x)).reshape(-1, 3)
        return energy * KCAL, -10 * KCAL * gradient


def force_field(molecule: Chem.Mol) -> app.ForceField:
    """TIP3P, and the molecule with its charges and UFF's Lennard-Jones terms, as residue LIG."""
    types, atoms, particles = [], [], []
    for atom in molecule.GetAtoms():
        i, symbol = atom.GetIdx(), atom.GetSymbol()
        length, depth = fields.GetUFFVdWParams(molecule, i, i)  # angstrom, kcal/mol
        polar = symbol == "H" and atom.GetNeighbors()[0].GetSymbol() in ("N", "O", "S")
        types.append(TYPE.format(f"lig{i}", symbol, atom.GetMass()))
        atoms.append(f'<Atom name="A{i}" type="lig{i}"/>')
        sigma, epsilon = length / 2 ** (1 / 6) / 10, 0.0 if polar else depth * KCAL
        q = atom.GetDoubleProp("PartialCharge")
        particles.append(ATOM.format(f"lig{i}", sigma, epsilon, q))
    bonds = [
        f'<Bond atomName1="A{b.GetBeginAtomIdx()}" atomName2="A{b.GetEndAtomIdx()}"/>'
        for b in molecule.GetBonds()
    ]
    text = f"""<ForceField><AtomTypes>{"".join(types)}</AtomTypes><Residues><Residue name="LIG">
        {"".join(atoms)}{"".join(bonds)}</Residue></Residues>
        <NonbondedForce coulomb14scale="0.833333" lj14scale="0.5">{"".join(particles)}
        </NonbondedForce></ForceField>"""
    field = app.ForceField("tip3p.xml")
    field.loadFile(StringIO(text))
    return field


def ligand(molecule: Chem.Mol) -> tuple[app.Topology, np.ndarray]:
    """Topology of the molecule alone, and its positions in nm."""
    topology = app.Topology()
    residue = topology.addResidue("LIG", topology.addChain())
    atoms = [
        topology.addAtom(
            f"A{atom.GetIdx()}", app.Element.getByAtomicNumber(atom.GetAtomicNum()), residue
        )
        for atom in molecule.GetAtoms()
    ]
    for bond in molecule.GetBonds():
        topology.addBond(atoms[bond.GetBeginAtomIdx()], atoms[bond.GetEndAtomIdx()])
    return topology, molecule.GetConformer().GetPositions() / 10


def make_system(molecule: Chem.Mol, field: app.ForceField, topology: app.Topology) -> openmm.System:
    """System in a periodic box with MMFF94 within the molecule."""
    system = field.createSystem(
        topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.9 * unit.nanometer,
        switchDistance=0.8 * unit.nanometer,
        ewaldErrorTolerance=1e-5,
    )
    n = molecule.GetNumAtoms()
    (nonbonded,) = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    nonbonded.setUseDispersionCorrection(False)
    # MMFF94 has the Lennard-Jones terms within the molecule.
    known = {}
    for k in range(nonbonded.getNumExceptions()):
        i, j, product, sigma, _ = nonbonded.getExceptionParameters(k)
        if i < n and j < n:
            known[min(i, j), max(i, j)] = None
            nonbonded.setExceptionParameters(k, i, j, product, sigma, 0.0)
    charges = [nonbonded.getParticleParameters(i)[0] for i in range(n)]
    for i in range(n):
        for j in range(i + 1, n):
            if (i, j) not in known:
                nonbonded.addException(i, j, charges[i] * charges[j], 0.1, 0.0)
    bonded = openmm.PythonForce(Bonded(molecule))
    bonded.setParticles(list(range(n)))
    system.addForce(bonded)
    return system


def simulation(
    system: openmm.System, topology: app.Topology, integrator: openmm.Integrator, platform: str
) -> app.Simulation:
    """OpenMM's simulation on a platform."""
    return app.Simulation(topology, system, integrator, openmm.Platform.getPlatformByName(platform))


def energy(state: openmm.State) -> float:
    """Total energy, kJ/mol."""
    total = state.getPotentialEnergy() + state.getKineticEnergy()
    return float(total.value_in_unit(unit.kilojoule_per_mole))


def simulate(molecule: Chem.Mol, args: argparse.Namespace) -> None:
    """Solvate, equilibrate with fixed charges, and run at constant energy."""
    name = molecule.GetProp("_Name")
    field = force_field(molecule)
    modeller = app.Modeller(*ligand(molecule))
    size = float(np.ptp(np.array(modeller.positions._value), axis=0).max()) + 2 * args.padding
    # The file of TIP3P has no ions: Ewald's sum neutralises an ion with a uniform charge.
    cube = openmm.Vec3(size, size, size)
    modeller.addSolvent(field, model="tip3p", boxSize=cube, neutralize=False)
    topology, n = modeller.topology, molecule.GetNumAtoms()
    n_waters = sum(residue.name == "HOH" for residue in topology.residues())
    system = make_system(molecule, field, topology)
    langevin = openmm.LangevinMiddleIntegrator(300, 5.0, 0.001)
    langevin.setRandomNumberSeed(1)
    run = simulation(system, topology, langevin, args.platform)
    run.context.setPositions(modeller.positions)
    run.minimizeEnergy(maxIterations=200)
    run.context.setVelocitiesToTemperature(300, 1)
    run.step(args.equilibrate)
    state = run.context.getState(positions=True, velocities=True, parameters=True)
    what = "RESP charges"
    if args.density:
        import denser

        denser.embed_in_openmm(system, topology, range(n))
        what = "the predicted density"
    verlet = openmm.VerletIntegrator(args.timestep / 1000)
    verlet.setConstraintTolerance(1e-8)
    run = simulation(system, topology, verlet, args.platform)
    run.context.setPositions(state.getPositions())
    run.context.setVelocities(state.getVelocities())
    energies, begin = [], time.perf_counter()
    for step in range(0, args.steps + 1, args.every):
        run.step(args.every if step else 0)
        now = run.context.getState(energy=True)
        energies.append(energy(now))
        if args.verbose:
            kinetic = now.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)
            print(f"{step:6d} {energies[-1]:14.4f} {kinetic:12.3f}", flush=True)
    seconds = time.perf_counter() - begin
    e = np.array(energies)
    slope = np.polyfit(np.arange(len(e)), e, 1)[0] * (len(e) - 1)
    print(
        f"{name}: {n} atoms in {n_waters} waters, {what}, {args.steps} steps of "
        f"{args.timestep:g} fs: energy {e.mean():.2f} kJ/mol, rms deviation {e.std():.3f}, drift "
        f"{slope:+.3f}, kinetic {kinetic_of(run):.0f}; {seconds / max(args.steps, 1):.3f} s a step",
        flush=True,
    )


def kinetic_of(run: app.Simulation) -> float:
    """Kinetic energy, kJ/mol."""
    state = run.context.getState(energy=True)
    return float(state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole))


def main() -> int:
    """Simulate each molecule of an SDF."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sdf", help="from denser charges -o ligand.sdf; one molecule or many")
    parser.add_argument("--density", action="store_true", help="embed the predicted density")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--equilibrate", type=int, default=1000, help="steps of 1 fs before")
    parser.add_argument("--padding", type=float, default=1.0, help="water on each side, nm")
    parser.add_argument("--every", type=int, default=10, help="steps between energies")
    parser.add_argument("--platform", default="CPU", help="CPU, Reference, CUDA, ...")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    failed = 0
    for i, molecule in enumerate(Chem.SDMolSupplier(args.sdf, removeHs=False), start=1):
        if molecule is None or not molecule.HasProp("atom.dprop.PartialCharge"):
            print(f"{args.sdf}: molecule {i} cannot be read or has no charges", file=sys.stderr)
            failed = 2
            continue
        simulate(molecule, args)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
