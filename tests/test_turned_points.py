"""Points that turn with a molecule: the share of each atom, against PySCF's own points."""

import numpy as np
import pytest
from ase import Atoms
from pyscf.dft import gen_grid

from denser.dft import turned_points
from denser.dft.molecular import build_molecule
from denser.dft.turned_points import POINTS, _shares, quadrature
from denser.types.structure import Structure


@pytest.fixture(scope="module")
def chain():
    """Atoms of two sizes along a bent line of 30 bohr, longer than a neighbourhood."""
    places = [(0.9 * i, 0.6 * np.sin(i), 0.5 * (i % 3)) for i in range(18)]
    structure = Structure.of(Atoms("CHN" * 6, places))
    return structure, build_molecule(structure, "gth-dzvp")


def test_integrals_are_those_of_pyscf(chain):
    structure, mol = chain
    grids = gen_grid.Grids(mol)
    grids.atom_grid = POINTS
    grids.build()
    points, weights = quadrature(mol, structure)
    assert len(points) < np.count_nonzero(grids.weights)
    for exponent in (0.4, 3.0):

        def total(x, w, exponent=exponent):
            r2 = ((x[:, None] - mol.atom_coords()) ** 2).sum(axis=2)
            return w @ np.exp(-exponent * r2).sum(axis=1)

        exact = mol.natm * (np.pi / exponent) ** 1.5
        ours, theirs = total(points, weights), total(grids.coords, grids.weights)
        assert ours == pytest.approx(exact, rel=1e-5)
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_shares_of_all_atoms_add_up_to_one(chain, monkeypatch):
    _, mol = chain
    centres, borders = mol.atom_coords(), np.zeros((mol.natm, mol.natm))
    rng = np.random.default_rng(2)
    points = np.concatenate([centres + x for x in rng.normal(size=(250, 3))])

    def shares():
        return np.array(
            [_shares(points, np.full(len(points), a), centres, borders) for a in range(mol.natm)]
        )

    found = shares()
    np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-12)
    monkeypatch.setattr(turned_points, "_SHARING", 1e9)  # all atoms are neighbours
    every = shares()
    assert np.abs(found - every).max() < 1e-3
    assert (found != every).any()
