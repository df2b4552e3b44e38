"""A predicted density among point charges: derivatives, invariances, and OpenMM."""

import numpy as np
import pytest
from ase.build import molecule

from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows.embedding import Embedding


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    return Embedding(molecule("CH3OH"))


@pytest.fixture(scope="module")
def surroundings(embedding) -> tuple[np.ndarray, np.ndarray]:
    """Forty charges, from 3 bohr of the next atom to 20 bohr."""
    rng = np.random.default_rng(1)
    x = embedding.structure.positions
    points = rng.uniform(-20, 20, size=(60, 3))
    distance = np.linalg.norm(points[:, None] - x, axis=-1).min(axis=1)
    points = points[distance > 3][:40]
    return points, rng.normal(scale=0.4, size=len(points))


def derivative(energy, step: float = 0.02) -> float:
    """Of fourth order."""
    far, near = energy(2 * step) - energy(-2 * step), energy(step) - energy(-step)
    return (8 * near - far) / (12 * step)


def test_forces_are_derivatives(embedding, surroundings):
    points, charges = surroundings
    x = embedding.structure.positions
    found = embedding(x, points, charges)
    for atom, axis in ((0, 0), (1, 1)):

        def moved_atom(step, atom=atom, axis=axis):
            there = x.copy()
            there[atom, axis] += step
            return embedding(there, points, charges).energy

        assert -derivative(moved_atom) == pytest.approx(found.forces_atoms[atom, axis], abs=1e-5)
    for i in np.abs(charges).argsort()[-2:]:

        def moved_charge(step, i=i):
            there = points.copy()
            there[i, 2] += step
            return embedding(x, there, charges).energy

        assert -derivative(moved_charge) == pytest.approx(found.forces_charges[i, 2], abs=1e-6)


def test_net_force_and_torque_vanish(embedding, surroundings):
    points, charges = surroundings
    x = embedding.structure.positions
    found = embedding(x, points, charges)
    total = found.forces_charges.sum(axis=0) + found.forces_atoms.sum(axis=0)
    assert np.abs(total).max() < 1e-9
    torque = np.cross(points, found.forces_charges).sum(axis=0)
    assert np.abs(torque + np.cross(x, found.forces_atoms).sum(axis=0)).max() < 2e-5


def test_potential_is_that_of_the_density(embedding, surroundings):
    """`Conformer.potential` has it from the other code path, `Predictor.gaussians`."""
    from denser.analysis.charges.without_grid import Conformer

    points, charges = surroundings
    structure = embedding.structure
    atoms, _ = Predictor("default").gaussians(structure)
    found = embedding(structure.positions, points, charges)
    assert found.potential == pytest.approx(Conformer(structure, atoms).potential(points), abs=2e-6)
    assert found.energy == pytest.approx(charges @ found.potential)
    far = np.array([[500.0, 0.0, 0.0]])
    ion = Embedding(Structure([8, 1], [[0, 0, 0], [1.8, 0, 0]], -1))
    assert ion(ion.structure.positions, far, [1.0]).energy == pytest.approx(-1 / 500, rel=0.01)


@pytest.mark.parametrize(
    "points, charges, words",
    [
        ([[0.0, 0, 9]], [1.0, 2.0], "1 points need as many"),
        ([[0.0, 0, np.nan]], [1.0], "must be finite numbers"),
        ([[0.0, 0, 9]], [417.0], "charges are in e"),
    ],
)
def test_bad_charges(embedding, points, charges, words):
    with pytest.raises(InputError, match=words):
        embedding(embedding.structure.positions, points, charges)


def test_bad_molecule(embedding):
    with pytest.raises(InputError, match=r"6 atoms, found positions of shape \(5, 3\)"):
        embedding(embedding.structure.positions[:5], [[0.0, 0, 9]], [1.0])
    crystal = molecule("CH3OH", vacuum=4.0, pbc=True)
    with pytest.raises(InputError, match="must be isolated"):
        Embedding(crystal)
