"""Electrons of large structures in fragments: they are those of the whole structure."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.neighborlist import primitive_neighbor_list

import denser
from denser.io.structures import from_smiles
from denser.model import fragments, tight_binding
from denser.model.diagonalisation import Whole
from denser.model.fragments import Fragments
from denser.model.hamiltonians import ELEMENTS, Neighbours, hueckel, tabulated
from denser.types.structure import Structure

CUTOFF = 8.0


def droplet(n, ions=()):
    """Water molecules about 3.1 angstrom apart, turned at random; ions in place of some."""
    rng = np.random.default_rng(0)
    places = 3.1 * np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 3)
    out = Atoms()
    for place in places:
        water = molecule("H2O")
        water.rotate(360 * rng.random(), rng.normal(size=3), center="COM")
        water.translate(place)
        out += water
    for i, symbol in ions:
        out.numbers[3 * i] = Atoms(symbol).numbers[0]
    gone = [3 * i + k for i, _ in ions for k in (1, 2)]
    return out[[i for i in range(len(out)) if i not in gone]]


def peptide():
    return from_smiles("CC(=O)" + "NCC(=O)" * 5 + "NC")


def both(atoms, monkeypatch, buffer, charge=0, spin=0, make=tabulated, core=8):
    """All blocks of the fragments and of the whole: [(fragments, whole), ...]."""
    structure = Structure.from_ase(atoms, charge)
    cell = structure.cell
    receivers, senders, vectors, shifts = primitive_neighbor_list(
        "ijDS", (cell is not None,) * 3, np.eye(3) if cell is None else cell,
        structure.positions, CUTOFF,
    )  # fmt: skip
    vectors = torch.as_tensor(vectors)
    pairs = Neighbours(structure.numbers, senders, receivers, vectors, CUTOFF)
    n_valence = torch.tensor([ELEMENTS[int(z)][0] for z in structure.numbers]).double()
    h = make(pairs)
    g = tight_binding.interaction_of(h.repulsion, pairs)
    monkeypatch.setattr(fragments, "BUFFER", buffer)
    monkeypatch.setattr(fragments, "_CORE", core)
    solvers = (
        Fragments(pairs, shifts, cell, structure.positions),
        Whole(pairs, shifts, cell),
    )
    found = [list(s.solutions(h, n_valence, charge, g, spin)) for s in solvers]
    return list(zip(*found, strict=True))


def error(solutions):
    """Largest difference of any element."""
    return max(
        float((x - y).abs().max())
        for part, whole in solutions
        for x, y in zip(part, whole, strict=True)
        if x.numel()
    )


def electrons(blocks):
    return float(blocks.p_atoms.diagonal(dim1=1, dim2=2).sum())


@pytest.mark.parametrize("make", [hueckel, tabulated])
@pytest.mark.parametrize("build", [lambda: droplet(3), peptide])
def test_blocks_become_those_of_the_whole(build, make, monkeypatch):
    atoms = build()
    errors = [error(both(atoms, monkeypatch, b, make=make)) for b in (6.0, 10.0, 100.0)]
    assert errors[0] > 2 * errors[1]
    assert errors[1] < 0.02  # of an element of P, the largest of which are 2
    assert errors[2] < 2e-5  # single precision


@pytest.mark.parametrize("charge", [-1, 0, 2])
def test_the_number_of_electrons_is_exact(charge, monkeypatch):
    atoms = peptide()
    expected = sum(ELEMENTS[z][0] for z in atoms.numbers) - charge
    for part, _ in both(atoms, monkeypatch, 8.5, charge=charge, spin=abs(charge) % 2):
        assert electrons(part) == pytest.approx(expected, abs=1e-4)


def test_ions_far_apart_keep_their_charges(monkeypatch):
    """Sodium and chloride at two ends: neither is in a fragment of the other."""
    atoms = droplet(3, [(0, "Na"), (26, "Cl")])
    sites = [int(np.flatnonzero(atoms.numbers == z)[0]) for z in (11, 17)]
    for part, whole in both(atoms, monkeypatch, 10.0):
        ours, exact = (x.p_atoms[sites].diagonal(dim1=1, dim2=2).sum(dim=1) for x in (part, whole))
        torch.testing.assert_close(ours, exact, atol=2e-3, rtol=0)
        assert exact[0] < 0.5 and exact[1] > 7


def test_one_electron_for_two_equal_atoms_far_apart_is_shared(monkeypatch):
    """Levels of different fragments at the chemical potential are filled alike."""
    atoms = Atoms("Li2", [[0, 0, 0], [30, 0, 0]])
    for part, whole in both(atoms, monkeypatch, 8.5, charge=1, spin=1, core=1):
        n = part.p_atoms.diagonal(dim1=1, dim2=2).sum(dim=1)
        torch.testing.assert_close(n, torch.tensor([0.5, 0.5]).double(), atol=1e-4, rtol=0)
        assert error([(part, whole)]) < 1e-4


def test_unpaired_electrons(monkeypatch):
    atoms = droplet(2) + Atoms("OH", [[-3.0, 0, 0], [-3.5, 0.8, 0]])
    # single precision: 1e-7 hartree times 1 / 2 kT, where a level is half filled
    assert error(both(atoms, monkeypatch, 100.0, spin=1)) < 1e-4
    assert error(both(atoms, monkeypatch, 10.0, spin=1)) < 0.01


@pytest.mark.parametrize("moved", [0.0, 50.0])
def test_a_periodic_cell(moved, monkeypatch):
    """Images belong to fragments; it does not matter in which cell the input has an atom."""
    atoms = droplet(3)
    atoms.set_cell([9.3, 9.3, 9.3])
    atoms.pbc = True
    atoms.positions[4:9] += moved // 9.3 * atoms.cell[0] - atoms.cell[2]
    assert error(both(atoms, monkeypatch, 10.0)) < 0.01


def test_hybrids_of_cut_bonds_are_taken_out(monkeypatch):
    """A long alkane: no level of a fragment is in the gap."""
    chain = from_smiles("C" * 14)
    gaps = []
    filled = fragments._Filled.of.__func__

    def watched(cls, states, n, spin):
        found = filled(cls, states, n, spin)
        levels = np.concatenate([s.energies for s in states])
        gaps.append(np.abs(levels - found.mu[0]).min())
        return found

    monkeypatch.setattr(fragments._Filled, "of", classmethod(watched))
    assert error(both(chain, monkeypatch, 9.0)) < 0.01
    assert min(gaps) > 2.0 / 27.2  # hartree


def test_large_structures_are_solved_in_fragments(monkeypatch, tmp_path, run):
    """The prediction says so, and is nearly the same; derivatives are those of the whole."""
    atoms = peptide()
    exact = denser.predict(atoms, spacing=0.3)
    monkeypatch.setattr(fragments, "SMALLEST", 40)
    found = denser.predict(atoms, spacing=0.3)
    change = np.abs(found.values - exact.values).sum() * exact.grid.dv / exact.n_electrons
    assert 0 < change < 1e-4  # of Err_rho: 0.01 %
    atoms.write(tmp_path / "a.xyz")
    code, out, _ = run("predict", "a.xyz", "-o", "a.npz", "--spacing", 0.4, "--json")
    record = json.loads(out)
    assert code == 0 and record["electrons_in_fragments"]
    assert "solved in overlapping fragments" in record["notes"][0]


def test_derivatives_are_those_of_the_whole(monkeypatch):
    structure = Structure.from_ase(molecule("CH3OH"))
    x = torch.tensor(structure.positions, requires_grad=True)
    receivers, senders, shifts = primitive_neighbor_list(
        "ijS", (False,) * 3, np.eye(3), structure.positions, CUTOFF
    )
    monkeypatch.setattr(fragments, "SMALLEST", 1)
    pairs = Neighbours(structure.numbers, senders, receivers, x[senders] - x[receivers], CUTOFF)
    found = tight_binding.solve(pairs, 0, shifts, positions=structure.positions)
    assert all(getattr(found, f.name).requires_grad for f in fields(found))
