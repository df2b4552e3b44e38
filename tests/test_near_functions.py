"""Basis functions near points, and the energy of a step made of them."""

import numpy as np
import pytest
from ase.build import molecule

from denser.dft import near_functions
from denser.dft.molecular import build_molecule
from denser.dft.near_functions import NEGLIGIBLE
from denser.dft.near_functions import near_functions as near
from denser.fields.compact import compact_blocks
from denser.types.structure import Structure


@pytest.fixture(scope="module")
def far_apart():
    """Two waters, 16 angstrom apart: no function of one reaches the other."""
    atoms = molecule("H2O")
    other = atoms.copy()
    other.positions += [16.0, 1.0, 0.5]
    return build_molecule(Structure.of(atoms + other), "aug-gth-tzv2p")


def test_compact_blocks_hold_each_point_once_and_one_kind():
    rng = np.random.default_rng(0)
    points, kinds = rng.normal(size=(1001, 3)), rng.integers(0, 3, 1001)
    blocks = compact_blocks(points, 100, kinds)
    assert sorted(np.concatenate(blocks).tolist()) == list(range(1001))
    assert max(len(block) for block in blocks) <= 100
    assert all(len(set(kinds[block].tolist())) == 1 for block in blocks)
    size = np.mean([np.ptp(points[block], axis=0).max() for block in compact_blocks(points, 100)])
    assert size < 0.8 * np.ptp(points, axis=0).max()
    assert compact_blocks(np.zeros((0, 3)), 10) == []


@pytest.mark.parametrize("deriv", [0, 1, 2])
def test_values_are_those_of_all_functions(far_apart, deriv):
    rng = np.random.default_rng(1)
    points = np.concatenate([far_apart.atom_coords() + x for x in rng.normal(size=(300, 3)) * 2])
    kind = "GTOval_sph" + ("" if not deriv else f"_deriv{deriv}")
    exact = far_apart.eval_gto(kind, points).reshape(-1, len(points), far_apart.nao)
    found = np.zeros_like(exact)
    shares = []
    for some, used, values in near(far_apart, points, deriv):
        found[:, some[:, None], used] = values.transpose(0, 2, 1)
        shares.append(len(used) / far_apart.nao)
    assert np.abs(found[0] - exact[0]).max() < NEGLIGIBLE
    assert np.abs(found - exact).max() < 10 * NEGLIGIBLE
    assert min(shares) < 0.6
    assert near_functions.shell_reaches(far_apart).max() < 30
