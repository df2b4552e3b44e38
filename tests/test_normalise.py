import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from denser import Grid, Structure, superposition
from denser.model import normalise as normalise_module
from denser.model.normalise import electron_factors, normalise

WATER = Structure.from_ase(molecule("H2O"))


def pair(distance: float) -> Structure:
    """Two water molecules, `distance` bohr apart along x."""
    shifted = WATER.positions + [distance, 0, 0]
    return Structure([*WATER.numbers] * 2, np.concatenate([WATER.positions, shifted]))


def test_one_molecule_gets_one_factor():
    excess = np.array([0.3, -0.1, 0.05])
    factors = electron_factors(WATER, np.array([6.0, 1.0, 1.0]), excess)
    np.testing.assert_allclose(factors, 1 - excess.sum() / 8, atol=1e-4)


def test_excess_is_removed_exactly_however_it_flows():
    rng = np.random.default_rng(0)
    for distance in (6.0, 10.0, 12.0, 14.0, 30.0):
        electrons, excess = rng.uniform(1, 6, 6), rng.normal(size=6) * 0.1
        factors = electron_factors(pair(distance), electrons, excess)
        assert (electrons * (1 - factors)).sum() == pytest.approx(excess.sum(), abs=1e-9)


def test_distant_molecules_do_not_share():
    electrons, excess = np.array([6.0, 1, 1] * 2), np.array([0.4, 0, 0, -0.2, 0, 0])
    factors = electron_factors(pair(28.0), electrons, excess)
    np.testing.assert_allclose(factors, [1 - 0.05] * 3 + [1 + 0.025] * 3, atol=1e-4)


def test_factors_change_smoothly_as_molecules_part():
    electrons, excess = np.array([6.0, 1, 1] * 2), np.array([0.4, 0, 0, -0.2, 0, 0])
    distances = np.arange(6.0, 24.0, 0.25)
    first = np.array([electron_factors(pair(d), electrons, excess)[0] for d in distances])
    assert np.abs(np.diff(first)).max() < 0.2 * np.ptp(first)
    assert first[0] == pytest.approx(1 - 0.2 / 16, abs=1e-3)


def test_density_holds_the_electrons_of_each_molecule():
    """A raw density with 2 % too much in one molecule and 1 % too little in the other."""
    both = pair(26.0)
    sad = superposition(both, Grid.around(both, 8.0, 0.3))
    left = sad.grid.points()[..., 0] < both.positions[:, 0].mean()
    raw = torch.as_tensor(np.where(left, 1.02, 0.99) * sad.values, dtype=torch.float32)
    rho, excess = normalise(raw, sad, "gth-szv-1e")
    assert excess == pytest.approx(0.02, abs=1e-4)  # though the whole box is only 0.5 % off
    rho = rho.double().numpy()
    assert rho.sum() * sad.grid.dv == pytest.approx(16, abs=1e-5)
    assert rho[left].sum() * sad.grid.dv == pytest.approx(8, abs=2e-4)
    assert np.abs(rho - sad.values).sum() * sad.grid.dv / 16 < 2e-4
    assert rho.min() >= 0


def test_any_shape_and_charge(ethanol):
    cation = Structure(ethanol.numbers, ethanol.positions, charge=2)
    sad = superposition(cation, Grid.paper(cation, 0.35))
    assert any(n % 4 for n in sad.grid.shape)
    raw = torch.as_tensor(sad.values * 1.3, dtype=torch.float32)
    rho, excess = normalise(raw, sad, "gth-szv-1e")
    assert excess == pytest.approx(0.3, rel=1e-3)  # atoms share a factor nearly
    assert float(rho.double().sum()) * sad.grid.dv == pytest.approx(18, abs=1e-5)


def test_factors_of_many_atoms_are_those_of_few(monkeypatch):
    """Conjugate gradients against the direct solution, for two molecules and an ion far apart."""
    atoms = molecule("CH3CH2OH") + molecule("CH3CONH2") + Atoms("Na", [[0.0, 0.0, 0.0]])
    atoms.positions[9:18] += [5.0, 0.0, 0.0]
    atoms.positions[18:] += [30.0, 0.0, 0.0]
    structure = Structure.from_ase(atoms, 0)
    rng = np.random.default_rng(0)
    electrons = rng.uniform(1.0, 6.0, len(atoms))
    excess = rng.normal(scale=0.01, size=len(atoms))
    direct = electron_factors(structure, electrons, excess)
    monkeypatch.setattr(normalise_module, "_DIRECT", 1)
    found = electron_factors(structure, electrons, excess)
    np.testing.assert_allclose(found, direct, rtol=0, atol=1e-10)
    assert (1 - found) @ electrons == pytest.approx(excess.sum(), abs=1e-10)
