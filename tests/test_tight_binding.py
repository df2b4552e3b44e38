"""Electrons that networks are shown: symmetry, locality, periods, charges and derivatives."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.neighborlist import primitive_neighbor_list

from denser.dft.tables import two_centre
from denser.model import tight_binding as tb
from denser.model.aspherical_config import AsphericalConfig
from denser.model.graph import Graph
from denser.model.hamiltonians import Neighbours, require_parameters, tabulated
from denser.model.tight_binding import Electrons, solve
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

CUTOFF = 8.0
ELEMENTS = (1, 3, 6, 7, 8, 9, 16, 17)


def electrons(atoms, charge=0, cell=None):
    structure = Structure.from_ase(atoms, charge)
    grid = None if cell is None else Grid(np.zeros(3), structure.cell, (16, 16, 16))
    return Graph.of(structure, grid, AsphericalConfig(ELEMENTS, electrons=4)).electrons


def populations(atoms, charge=0):
    """Electrons of each atom in each solution: twice the trace of its block of P."""
    typical = torch.tensor(
        [
            [of.get(z, (0.0,) * 4) for of in (tb._TYPICAL,) * 2 + (tb._TYPICAL_TABLES,) * 2]
            for z in atoms.numbers
        ]
    )
    found = electrons(atoms, charge).scalars.reshape(len(atoms), 4, 4) * tb.SPREAD + typical
    return found[:, :, 0] + 3 * found[:, :, 1]


def solved(numbers, x, charge=0):
    """Parts of the answer as functions of positions (n_atoms, 3) in bohr."""
    receivers, senders, shifts = primitive_neighbor_list(
        "ijS", (False,) * 3, np.eye(3), x.detach().numpy(), CUTOFF
    )
    pairs = Neighbours(numbers, senders, receivers, x[senders] - x[receivers], CUTOFF)
    found = solve(pairs, charge, shifts)
    return tuple(getattr(found, f.name) for f in fields(found))


@pytest.mark.parametrize("name", ["H2CO", "CH3OH", "LiF"])
def test_derivatives_are_those_of_differences(name):
    """Of random sums of each part, which a wrong derivative of any number in it changes."""
    structure = Structure.from_ase(molecule(name))
    x = torch.tensor(structure.positions, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    eps = 1e-5
    steps = eps * torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    with torch.no_grad():
        ends = [[solved(structure.numbers, x + sign * step) for sign in (1, -1)] for step in steps]
    for i, part in enumerate(solved(structure.numbers, x)):
        slopes = torch.stack([(plus[i] - minus[i]) / (2 * eps) for plus, minus in ends])
        for _ in range(3):
            weights = torch.randn(part.shape, generator=generator, dtype=part.dtype)
            (found,) = torch.autograd.grad(part, x, weights, retain_graph=True)
            expected = (slopes * weights).flatten(1).sum(dim=1).reshape(x.shape)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_a_turned_molecule_has_turned_electrons(ethanol):
    rng = np.random.default_rng(0)
    turn = torch.as_tensor(np.linalg.qr(rng.normal(size=(3, 3)))[0])
    x = torch.tensor(ethanol.positions)
    before, after = (Electrons(*solved(ethanol.numbers, y)) for y in (x, x @ turn))
    expected = before.turned(turn)
    torch.testing.assert_close(expected.tensors, turn.T @ before.tensors @ turn)
    for f in fields(after):
        torch.testing.assert_close(getattr(after, f.name), getattr(expected, f.name))


def test_pi_electrons_lie_across_the_bond_and_the_plane():
    """Of ethene's C-C block, what is not axial is the pi bond: along z less along y."""
    ethene = electrons(Atoms("C2H4", [[0.665, 0, 0], [-0.665, 0, 0]] + [
        [sx * 1.232, sy * 0.924, 0] for sx in (1, -1) for sy in (1, -1)
    ]))  # fmt: skip
    i = int(ethene.bonds[:, -1].argmax())
    p = ethene.bond_tensors[i, 0]
    assert float(p[2, 2]) > 0.3 and abs(float(p[0, 0])) < 1e-6
    torch.testing.assert_close(p[1, 1], -p[2, 2])
    acetylene = electrons(Atoms("C2H2", [[0.6, 0, 0], [-0.6, 0, 0], [1.66, 0, 0], [-1.66, 0, 0]]))
    assert float(acetylene.bond_tensors.abs().max()) < 1e-5
    assert float(acetylene.bond_vectors.abs().max()) < 1e-5


def test_electrons_that_feel_each_other_charge_atoms_less():
    """All solutions hold N_e; the second of each two moves less of it from hydrogen to oxygen."""
    water = molecule("H2O")
    n = populations(water)
    torch.testing.assert_close(n.sum(dim=0), torch.full((4,), 8.0))
    alone, together = (n[0] - 6)[[0, 2]], (n[0] - 6)[[1, 3]]
    assert (together > 0.1).all() and (together < 0.95 * alone).all()


def test_fewer_solutions_are_the_first_of_more():
    water = Structure.from_ase(molecule("H2O"))
    one, *others = (
        Graph.of(water, None, AsphericalConfig(ELEMENTS, electrons=n)).electrons
        for n in range(1, 5)
    )
    for n, more in enumerate(others, 2):
        for f in fields(one):
            first, found = getattr(one, f.name), getattr(more, f.name)
            assert found.shape[1] == n * first.shape[1]
            torch.testing.assert_close(found[:, : first.shape[1]], first)


@pytest.mark.parametrize("symbols", ["CO", "OC", "HN", "CC", "ClH"])
def test_blocks_of_the_tables_are_those_of_superposed_atoms(symbols):
    """PySCF's Fock and overlap matrix of two atoms, anyhow turned and between tabulated r."""
    first, second = Atoms(symbols).symbols
    vector = 2.33 * np.array([1.0, -2.0, 3.0]) / 14**0.5
    fock, overlap = two_centre.matrices([first, second], np.array([np.zeros(3), vector]))
    n = 1 if first == "H" else 4
    numbers = Atoms(symbols).numbers
    vectors = torch.as_tensor(vector)[None]
    found = tabulated(Neighbours(numbers, np.array([1]), np.array([0]), vectors, CUTOFF))
    for blocks, exact in ((found.overlap, overlap), (found.blocks, fock)):
        np.testing.assert_allclose(blocks[0, :n, : len(exact) - n], exact[:n, n:], atol=2e-4)
        assert not blocks[0, n:].any() and not blocks[0, :, len(exact) - n :].any()
    np.testing.assert_allclose(found.levels[0], two_centre.levels(first)[0], atol=1e-6)


@pytest.mark.parametrize("charge", [0, 1, -1])
def test_distant_molecules_do_not_know_of_each_other(charge):
    """Methane is the same alone and beside water, a lithium cation or a chloride."""
    alone = electrons(molecule("CH4"))
    other = {0: molecule("H2O"), 1: Atoms("Li"), -1: Atoms("Cl")}[charge]
    other.translate([15.0, 0, 0])
    both = electrons(molecule("CH4") + other, charge)
    for a, b in ((alone.scalars, both.scalars), (alone.tensors, both.tensors)):
        torch.testing.assert_close(b[: len(a)], a, atol=1e-5, rtol=0)
    torch.testing.assert_close(both.bonds[: len(alone.bonds)], alone.bonds, atol=1e-5, rtol=0)


def test_a_charge_goes_where_chemistry_puts_it():
    """The two oxygens of formate are one; its electron sits on them, not on the hydrogen."""
    formate = Atoms("CO2H", [[0, 0, 0], [1.1, 0.6, 0], [-1.1, 0.6, 0], [0, -1.1, 0]])
    anion, cation = electrons(formate, -1).scalars, electrons(formate, 1).scalars
    torch.testing.assert_close(anion[1], anion[2], atol=1e-4, rtol=1e-4)
    change = anion[:, 0] + 3 * anion[:, 1] - cation[:, 0] - 3 * cation[:, 1]
    assert change[1] + change[2] > 0.75 * change.sum()


def test_occupations_add_up_to_the_electrons():
    """Of every solution, whatever the charge."""
    for name, charge, expected in (("H2O", 0, 8), ("CH3OH", 0, 14), ("OH", -1, 8), ("Li", 1, 0)):
        atoms = molecule(name)
        total = populations(atoms, charge).sum(dim=0)
        torch.testing.assert_close(total, torch.full((4,), float(expected)), atol=1e-5, rtol=0)


def test_a_period_is_a_supercell_of_it():
    """Short periods are solved in cells of 15 bohr: doubling such a cell changes little."""
    water = molecule("H2O")
    water.set_cell([8.2, 8.5, 8.3])
    water.pbc = True
    small = electrons(water, cell=True)
    large = electrons(water.repeat((2, 1, 1)), cell=True)
    torch.testing.assert_close(large.scalars[:3], small.scalars, atol=1e-4, rtol=0)
    torch.testing.assert_close(large.scalars[3:], small.scalars, atol=1e-4, rtol=0)
    isolated = electrons(molecule("H2O"))
    torch.testing.assert_close(small.scalars, isolated.scalars, atol=1e-3, rtol=0)


def test_a_small_cell_is_a_crystal():
    """Diamond's eight atoms are alike, and each has four bonds of one order."""
    carbon = 3.57 * np.array(
        [[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0], [1, 1, 1], [1, 3, 3], [3, 1, 3], [3, 3, 1]]
    )
    diamond = Atoms("C8", carbon / 4, cell=[3.57] * 3, pbc=True)
    found = electrons(diamond, cell=True)
    torch.testing.assert_close(found.scalars, found.scalars[:1].expand(8, -1), atol=1e-4, rtol=0)
    order = found.bonds[:, 10]
    strong = order > 0.5 * order.max()
    assert int(strong.sum()) == 8 * 4
    assert float(order[strong].std()) < 1e-4


def test_an_element_without_parameters_is_named():
    with pytest.raises(InputError, match="tight-binding parameters for Fe"):
        require_parameters((6, 26))
    with pytest.raises(InputError, match="electrons must be 0 to 4, found 5"):
        AsphericalConfig(electrons=5)
    with pytest.raises(InputError, match="tight-binding parameters for Xe"):
        AsphericalConfig((1, 54), electrons=2)
