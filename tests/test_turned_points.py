"""Points that turn with a molecule: the share of each atom, against PySCF's own points."""

import numpy as np
import pytest
from ase import Atoms
from pyscf.dft import gen_grid

from denser.dft.molecular import build_molecule
from denser.dft.turned_points import _shares, quadrature
from denser.types.structure import Structure


@pytest.fixture(scope="module")
def mol():
    """Atoms of two sizes along a bent line of 30 bohr, longer than a neighbourhood."""
    places = [(0.9 * i, 0.6 * np.sin(i), 0.5 * (i % 3)) for i in range(18)]
    structure = Structure.of(Atoms("CHN" * 6, places))
    return build_molecule(structure, "gth-dzvp")


def test_integrals_are_those_of_pyscf(mol):
    grids = gen_grid.Grids(mol)
    grids.atom_grid = (40, 302)
    grids.radii_adjust = None
    grids.build()
    points, weights = quadrature(mol)
    assert len(points) < np.count_nonzero(grids.weights)
    for exponent in (0.4, 3.0):

        def total(x, w, exponent=exponent):
            r2 = ((x[:, None] - mol.atom_coords()) ** 2).sum(axis=2)
            return w @ np.exp(-exponent * r2).sum(axis=1)

        exact = mol.natm * (np.pi / exponent) ** 1.5
        ours, theirs = total(points, weights), total(grids.coords, grids.weights)
        assert ours == pytest.approx(exact, rel=1e-5)
        assert ours == pytest.approx(theirs, rel=1e-5)


def becke(points, centres, a):
    """Product of the steps s(mu) over all other atoms."""
    r = np.linalg.norm(points - centres[:, None], axis=2)
    product = np.ones(len(points))
    for b in set(range(len(centres))) - {a}:
        mu = (r[a] - r[b]) / np.linalg.norm(centres[a] - centres[b])
        for _ in range(3):
            mu = 0.5 * mu * (3 - mu**2)
        product *= 0.5 * (1 - mu)
    return product


def test_shares_are_those_of_all_atoms(mol):
    centres = mol.atom_coords()
    rng = np.random.default_rng(2)
    points = np.concatenate([centres + 3 * x for x in rng.normal(size=(250, 3))])
    found = np.array([_shares(points, np.full(len(points), a), centres) for a in range(mol.natm)])
    np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-12)
    every = np.array([becke(points, centres, a) for a in range(mol.natm)])
    np.testing.assert_allclose(found, every / every.sum(axis=0), atol=1e-7)
