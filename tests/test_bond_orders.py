"""Bond orders of Kohn-Sham steps: their definition, sum rules, a known molecule."""

import numpy as np
import pytest
from ase.build import molecule

from denser.analysis.charges.stockholder import curve, deform
from denser.analysis.energies.bond_orders import bond_orders
from denser.analysis.energies.local_ionisation import average_ionisation, local_ionisation
from denser.analysis.properties import Analysis
from denser.model.predictor import Predictor
from denser.types.structure import Structure


@pytest.fixture(scope="module")
def formaldehyde():
    predictor = Predictor("default", "cpu")
    density = predictor.predict(Structure.from_ase(molecule("H2CO"))).density
    return Analysis(density, predictor.model.recipe).orbitals


@pytest.fixture(scope="module")
def orders(formaldehyde):
    return bond_orders(formaldehyde)


def test_orders_and_valences(orders):
    o, c, h = 0, 1, 2
    assert orders.structure.symbols == ["O", "C", "H", "H"]
    for found in (orders.mayer, orders.wiberg, orders.delocalisation):
        np.testing.assert_allclose(found, found.T, atol=1e-10)
        assert 1.6 < found[o, c] < 2.6  # a double bond
        assert 0.7 < found[c, h] < 1.1
        assert found[o, h] < 0.25
    assert orders.mayer.sum(axis=1)[c] == pytest.approx(4, abs=0.3)
    assert orders.mayer.sum(axis=1)[o] == pytest.approx(2, abs=0.3)


def test_orders_by_their_definition(formaldehyde, orders):
    """By their definition, with the overlap and Loewdin's basis of PySCF for the molecule alone."""
    from pyscf.lo import orth

    mol = formaldehyde.mf.cell.to_mol()
    s = mol.intor("int1e_ovlp")
    ps = formaldehyde.dm @ s
    expected = np.zeros((4, 4))
    slices = mol.aoslice_by_atom()[:, 2:]
    for a, (i, j) in enumerate(slices):
        for b, (k, m) in enumerate(slices):
            if a != b:
                expected[a, b] = np.trace(ps[i:j, k:m] @ ps[k:m, i:j])
    np.testing.assert_allclose(orders.mayer, expected, atol=2e-4)  # without images of the box
    half = np.linalg.inv(orth.lowdin(s))
    square = (half @ formaldehyde.dm @ half) ** 2
    expected = square[slices[0][0] : slices[0][1], slices[1][0] : slices[1][1]].sum()
    assert orders.wiberg[0, 1] == pytest.approx(expected, abs=2e-4)


def test_electrons_are_localised_or_shared(formaldehyde, orders):
    """N_A = lambda_A + sum_B delta_AB / 2, and all electrons are in some atom."""
    sums = orders.localisation + orders.delocalisation.sum(axis=1) / 2
    np.testing.assert_allclose(sums, orders.populations, atol=2e-3)
    assert orders.populations.sum() == pytest.approx(12, abs=5e-3)
    density = formaldehyde.density  # the same electrons from a uniform grid
    structure, points = density.structure, density.grid.points()
    promolecule = deform(density, periodic=False)[1]
    for a, (z, centre) in enumerate(zip(structure.numbers, structure.positions, strict=True)):
        atom = curve(int(z))
        own = atom.at(np.linalg.norm(points - centre, axis=-1), atom.all_electron)
        share = np.divide(own, promolecule, out=np.zeros_like(own), where=promolecule > 0)
        expected = (share * density.values).sum() * density.grid.dv
        assert orders.populations[a] == pytest.approx(expected, abs=3e-3)


def test_table(orders):
    data = orders.to_dict()
    bonds = {tuple(bond["atoms"]): bond for bond in data["bonds"]}
    assert bonds[1, 2]["elements"] == ["O", "C"]
    assert bonds[1, 2]["distance_angstrom"] == pytest.approx(1.205, abs=0.02)
    assert len(orders.lines()) == len(orders.pairs) + 1
    assert any("O1-C2" in line for line in orders.lines())


def test_average_local_ionisation(formaldehyde):
    """Its definition, and its lowest values where the lone pairs of O are."""
    found = local_ionisation(formaldehyde)
    occupied = formaldehyde.mo_energy[formaldehyde.mo_occ > 0]
    assert -occupied.max() <= found.values.min() and found.values.max() < -occupied.min()
    symbols = found.structure.symbols
    assert symbols[found.minima[0][1]] == "O"  # its lone pairs are the HOMO
    assert found.of_atoms[0] == found.values.min()
    grid = formaldehyde.density.grid  # on nodes, in the frame of the calculation
    nodes = grid.points().reshape(-1, 3)[
        np.argsort(formaldehyde.density.values.ravel())[-9000::900]
    ]
    ao = formaldehyde.mf.cell.pbc_eval_gto("GTOval_sph", nodes - grid.origin)
    rho = np.square(ao @ formaldehyde.mo_coeff[:, formaldehyde.mo_occ > 0])
    expected = -rho @ occupied / rho.sum(axis=1)
    np.testing.assert_allclose(average_ionisation(formaldehyde, nodes), expected, rtol=1e-5)
    density = formaldehyde.density
    inner = density.structure.positions[1] + np.array([[0.3, 0.4, 0.2]])
    assert average_ionisation(formaldehyde, inner)[0] > found.values.mean()
    data = found.to_dict()
    assert data["lowest_of_atoms_ev"][0] == pytest.approx(data["minima"][0]["ionisation_ev"])
    assert len(found.lines()) == 1 + len(found.minima)
