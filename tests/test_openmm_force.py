"""Embedding in OpenMM: energies against the embedding itself, forces against differences."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule

from denser.types.errors import InputError
from denser.types.units import BOHR, KJ_PER_MOL
from denser.workflows.embedding import Embedding
from denser.workflows.openmm_force import COULOMB, embed_in_openmm

openmm = pytest.importorskip("openmm", exc_type=ImportError)
from openmm import app  # noqa: E402

LIGAND = molecule("CH3OH")
CHARGES = [0.1, -0.6, 0.4, 0.03, 0.03, 0.04]
BONDS = ((0, 1), (1, 3), (0, 2), (0, 4), (0, 5))
WATER = molecule("H2O")
WATERS = np.array([[3.4, 0.5, 0.2], [-4.6, 0.6, 0.8], [0.4, 5.9, -0.5], [-1.0, -2.5, 8.4]])


def build(box: float | None = None):
    """System, topology and positions (nm) of methanol in waters, with charges only."""
    topology, system = app.Topology(), openmm.System()
    force = openmm.NonbondedForce()
    chain = topology.addChain()
    places = [LIGAND.positions - LIGAND.positions.mean(axis=0)]
    kinds = [(LIGAND, CHARGES, BONDS)]
    for place in WATERS:
        kinds.append((WATER, [-0.834, 0.417, 0.417], ((0, 1), (0, 2))))
        places.append(WATER.positions + place)
    for atoms, charges, bonds in kinds:
        residue = topology.addResidue("X", chain)
        added = []
        for symbol, mass, q in zip(atoms.symbols, atoms.get_masses(), charges, strict=True):
            added.append(topology.addAtom(symbol, app.Element.getBySymbol(symbol), residue))
            system.addParticle(mass)
            force.addParticle(q, 0.3, 0.0)
        for i, j in bonds:
            topology.addBond(added[i], added[j])
    force.createExceptionsFromBonds(
        [(b[0].index, b[1].index) for b in topology.bonds()], 1 / 1.2, 0.5
    )
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*np.diag([box] * 3))
        force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(0.49 * box)
    system.addForce(force)
    return system, topology, np.vstack(places) / 10


def context_of(system):
    return openmm.Context(
        system, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName("Reference")
    )


def energy(context, x) -> float:
    context.setPositions(x)
    return context.getState(energy=True).getPotentialEnergy()._value


def coulomb(x, charges, pairs) -> float:
    return sum(COULOMB * charges[i] * charges[j] / np.linalg.norm(x[i] - x[j]) for i, j in pairs)


def test_energy_of_a_droplet():
    """Waters with each other and methanol within itself as before, and the embedding."""
    system, topology, x = build()
    before = energy(context_of(system), x)
    embed_in_openmm(system, topology, range(6))
    n = len(x)
    charges = CHARGES + [-0.834, 0.417, 0.417] * len(WATERS)
    pairs = [(i, j) for i in range(6) for j in range(6, n)]
    rest = before - coulomb(x, charges, pairs)
    of_density = Embedding(LIGAND)(
        x[:6] * 10 / BOHR, x[6:] * 10 / BOHR, np.array(charges[6:])
    ).energy
    found = energy(context_of(system), x)
    assert found == pytest.approx(rest + of_density * KJ_PER_MOL, abs=2e-3)
    assert abs(found - rest) > 0.05


@pytest.mark.parametrize("box", [None, 1.9])
def test_forces_are_derivatives(box):
    """In a box the waters are within the range where they fade, and beyond a face of it."""
    system, topology, x = build(box)
    if box is not None:
        x[6:9] += [box, 0, -box]  # a water of another cell
    embed_in_openmm(system, topology, range(6), **({} if box is None else {"cutoff": 0.7}))
    for force in system.getForces():
        if force.getName() != "denser":
            force.setForceGroup(1)
    context = context_of(system)

    def value(there) -> float:
        context.setPositions(there)
        return context.getState(energy=True, groups={0}).getPotentialEnergy()._value

    context.setPositions(x)
    known = context.getState(forces=True, groups={0}).getForces(asNumpy=True)._value
    if box is not None:
        assert np.abs(known[15:]).max() == 0  # the last water is beyond the cutoff
        assert np.abs(known[9:12]).max() > 0
    assert np.abs(known.sum(axis=0)).max() < 1e-6
    step = 1e-3
    for particle, axis in ((0, 0), (6, 0), (10, 1)):
        there = x.copy()
        values = []
        for sign in (1, -1):
            there[particle, axis] = x[particle, axis] + sign * step
            values.append(value(there))
        slope = (values[0] - values[1]) / (2 * step)
        assert -slope == pytest.approx(known[particle, axis], abs=0.6)  # kJ/mol/nm


def test_energy_is_conserved():
    system, topology, x = build()
    for k in range(4):
        first = 6 + 3 * k
        for i, j in ((0, 1), (0, 2), (1, 2)):
            length = np.linalg.norm(x[first + i] - x[first + j])
            system.addConstraint(first + i, first + j, length)
    stiff = openmm.HarmonicBondForce()
    for i in range(6):
        for j in range(i):
            stiff.addBond(i, j, float(np.linalg.norm(x[i] - x[j])), 2e5)
    system.addForce(stiff)
    embed_in_openmm(system, topology, range(6))
    context = context_of(system)
    context.setPositions(x)
    context.setVelocitiesToTemperature(300, 1)
    totals, kinetic = [], []
    for _ in range(5):
        state = context.getState(energy=True)
        kinetic.append(state.getKineticEnergy()._value)
        totals.append(kinetic[-1] + state.getPotentialEnergy()._value)
        context.getIntegrator().step(4)
    assert np.ptp(kinetic) > 1
    assert np.ptp(totals) < 0.05 * np.ptp(kinetic)


def test_bad_input():
    system, topology, _ = build()
    with pytest.raises(InputError, match="embedding needs whole molecules"):
        embed_in_openmm(system, topology, range(5), charge=0)
    with pytest.raises(InputError, match="different atoms from 0 to 17"):
        embed_in_openmm(system, topology, [3, 99])
    with pytest.raises(InputError, match="the system has none"):
        embed_in_openmm(system, topology, range(6), cutoff=1.0)
    with pytest.raises(InputError, match="topology has 0 atoms, but the system 18"):
        embed_in_openmm(system, app.Topology(), range(6))
    small, topology, _ = build(1.9)
    with pytest.raises(InputError, match="does not fit a box"):
        embed_in_openmm(small, topology, range(6), cutoff=1.2)
    implicit, topology, _ = build()
    implicit.addForce(openmm.GBSAOBCForce())
    with pytest.raises(InputError, match="GBSAOBCForce"):
        embed_in_openmm(implicit, topology, range(6))


def test_charge_is_that_of_the_system():
    system, topology, _ = build()
    nonbonded = system.getForces()[0]
    nonbonded.setParticleParameters(0, 0.5, 0.3, 0.0)
    with pytest.raises(InputError, match=r"add up to 0\.400"):
        embed_in_openmm(system, topology, range(6))
