"""Electrons of both spins, from a Hamiltonian with corrections of its levels."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.neighborlist import primitive_neighbor_list

from denser.model.hamiltonians import Neighbours
from denser.model.unpaired import OpenShell
from denser.types.structure import Structure

CUTOFF = 8.0
METHYL = molecule("CH3")
ALLYL = Atoms(
    "C3H5",
    [
        [-1.228, -0.195, 0], [0, 0.436, 0], [1.228, -0.195, 0], [0, 1.523, 0],
        [-1.298, -1.276, 0], [-2.157, 0.362, 0], [1.298, -1.276, 0], [2.157, 0.362, 0],
    ],
)  # fmt: skip
FORMYL = Atoms("COH", [[0, 0, 0], [1.18, 0, 0], [-0.64, 0.93, 0]])


def shell_of(atoms, spin=1, charge=0):
    structure = Structure.of(atoms, charge, spin=spin)
    receivers, senders, vectors, shifts = primitive_neighbor_list(
        "ijDS", (False,) * 3, np.eye(3), structure.positions, CUTOFF
    )
    where = (structure.numbers, senders, receivers, torch.as_tensor(vectors), CUTOFF)
    return OpenShell.of(Neighbours(*where), charge, shifts, None, 4, spin)


def solved(shell, levels=None, exchange=(0.0, 0.0)):
    levels = torch.zeros(shell.n_atoms, 4, 4).double() if levels is None else levels
    return shell.solved(levels, torch.tensor(exchange).double())


def traces(blocks):
    return blocks.p_atoms.diagonal(dim1=1, dim2=2).sum(dim=1)


def test_unpaired_electrons_are_counted():
    for atoms, spin in ((METHYL, 1), (molecule("O2"), 2), (ALLYL, 1)):
        d, f, shown = solved(shell_of(atoms, spin), exchange=(0.15, 0.05))
        assert float(traces(d).sum()) == pytest.approx(spin, abs=1e-6)
        assert float(traces(f).sum()) == pytest.approx(spin, abs=0.05)
        n = 3 + 4 if atoms is METHYL else 12 if spin == 2 else 17
        for blocks in shown:
            assert float(traces(blocks).sum()) == pytest.approx(n, abs=1e-6)
    d = solved(shell_of(METHYL))[0]
    p = d.p_atoms[0, 1:, 1:]
    assert float(p[2, 2]) > 0.95  # perpendicular to the plane


def test_exchange_polarises_the_other_electrons():
    """The middle of allyl has spin down in PBE, too; without exchange it has a node."""
    shell = shell_of(ALLYL)
    before, after = (traces(solved(shell, exchange=x)[0]) for x in ((0.0, 0.0), (0.15, 0.05)))
    assert abs(float(before[1])) < 0.01
    assert -0.5 < float(after[1]) < -0.05
    np.testing.assert_allclose(after[0], after[2], atol=1e-6)


def test_levels_choose_the_orbital():
    """Formyl: the electron is in the plane, or perpendicular to it if that is lower in carbon."""
    shell = shell_of(FORMYL)
    levels = torch.zeros(3, 4, 4).double()
    found = []
    for shift in (0.1, -0.25):
        levels[0, 3, 3] = shift
        d, _, shown = solved(shell, levels)
        found.append(float(d.p_atoms[:, 3, 3].sum()))
        # what the network is shown has the same orbital occupied once
        plane = [float(x.p_atoms[:, 3, 3].sum()) for x in shown]
        np.testing.assert_allclose(plane, 2 + found[-1], atol=0.1)
    assert found[0] < 0.02 and found[1] > 0.9


def test_a_turned_molecule_has_turned_electrons():
    shell = shell_of(FORMYL)
    turn = torch.as_tensor(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0])
    before, after = (solved(x, exchange=(0.15, 0.05)) for x in (shell, shell.turned(turn)))
    full = torch.eye(4).double()
    full[1:, 1:] = turn
    for old, new in ((before[0], after[0]), (before[2][3], after[2][3])):
        for x, y in zip(old, new, strict=True):
            torch.testing.assert_close(full.T @ x @ full, y, atol=1e-7, rtol=0)


def test_a_molecule_far_away_is_as_alone():
    """It has no unpaired electrons, and the network is shown the same of it as without them."""
    water = molecule("H2O")
    water.positions += [12.0, 0, 0]
    pair = METHYL + water
    levels = 0.02 * torch.eye(4).double().repeat(len(pair), 1, 1)
    d, f, shown = solved(shell_of(pair), levels, (0.15, 0.05))
    assert float(d.p_atoms[4:].abs().max()) < 1e-6
    assert float(f.p_atoms[4:].abs().max()) < 1e-6
    nothing, _, alone = solved(shell_of(water, 0))
    assert float(nothing.p_atoms.abs().max()) < 1e-9
    for ours, its in zip(shown, alone, strict=True):
        torch.testing.assert_close(ours.p_atoms[4:], its.p_atoms, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.w_atoms[4:], its.w_atoms, atol=1e-5, rtol=0)


def test_two_radicals_far_apart_have_an_electron_each():
    other = METHYL.copy()
    other.positions += [15.0, 0, 0]
    d = solved(shell_of(METHYL + other, 2), exchange=(0.15, 0.05))[0]
    alone = solved(shell_of(METHYL), exchange=(0.15, 0.05))[0]
    torch.testing.assert_close(d.p_atoms, torch.cat([alone.p_atoms] * 2), atol=1e-5, rtol=0)
