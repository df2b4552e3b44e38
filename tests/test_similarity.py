"""Electrostatic similarity and complementarity."""

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from denser.analysis.charges.esp_charges import merz_kollman_points
from denser.analysis.charges.without_grid import Conformer
from denser.analysis.potential.similarity import complementarity, similarity
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR


def predicted(atoms, shift=(0, 0, 0)) -> Conformer:
    structure = Structure.of(atoms)
    moved = Structure(structure.numbers, structure.positions + np.array(shift) / BOHR)
    return Conformer(moved, Predictor("default").gaussians(moved)[0])


@pytest.fixture(scope="module")
def methanol() -> Conformer:
    return predicted(molecule("CH3OH"))


def test_a_molecule_is_like_itself(methanol):
    found = similarity(methanol, methanol)
    assert (found.carbo, found.hodgkin) == (pytest.approx(1), pytest.approx(1))
    thiol = predicted(molecule("CH3SH"))
    other = similarity(methanol, thiol)
    assert 0 < other.hodgkin <= other.carbo < 0.98
    assert similarity(thiol, methanol).carbo == pytest.approx(other.carbo)


def test_a_molecule_turned_over_is_not(methanol):
    """Water upside down: opposite dipoles."""
    water = molecule("H2O")
    water.positions -= water.positions.mean(axis=0)
    turned = water.copy()
    turned.rotate(180, "x")
    assert similarity(predicted(water), predicted(turned)).carbo < -0.3


def test_hydrogen_bonds_are_complementary():
    water = molecule("H2O")  # its oxygen is at +z, hydrogens below
    donor = predicted(water, (0, 0, 0))
    acceptor = predicted(water, (0, 0, -2.9))
    flipped = molecule("H2O")
    flipped.rotate(180, "x")
    against = predicted(flipped, (0, 0, -2.9))
    good, bad = complementarity(donor, acceptor), complementarity(donor, against)
    assert good is not None and bad is not None
    assert good > bad
    assert complementarity(donor, predicted(water, (0, 0, 30))) is None


def test_points_on_spheres_are_those_of_the_fit(methanol):
    points = merz_kollman_points(methanol.structure)
    distance = np.linalg.norm(points[:, None] - methanol.structure.positions, axis=-1)
    assert distance.min() == pytest.approx(1.4 * 1.2 / BOHR, abs=1e-6)  # of hydrogen


def test_command(run, tmp_path):
    molecule("CH3OH").write(tmp_path / "a.xyz")
    molecule("CH3SH").write(tmp_path / "b.xyz")
    code, out, err = run("compare", "a.xyz", "b.xyz")
    assert code == 0, err
    assert "A CH4O, B CH4S: similarity of the potentials 0." in out
    write(tmp_path / "both.xyz", [molecule("CH3OH"), molecule("CH3SH")])
    assert run("compare", "both.xyz@0", "both.xyz@1")[1] == out
    code, _, err = run("compare", "both.xyz@0:2", "b.xyz")
    assert code == 2 and "2 structures, and one is needed; name one as both.xyz@0," in err
    far = molecule("CH3OH")
    far.positions += 20
    far.write(tmp_path / "far.xyz")
    for arguments, words in (
        (("a.xyz", "far.xyz"), "superpose them"),
        (("a.xyz", "none.xyz"), "none.xyz"),
        (("a.xyz", "b.xyz", "-o", "x.cube"), "difference of two densities"),
    ):
        code, _, err = run("compare", *arguments)
        assert code == 2
        assert words in err


def test_potentials_must_be_near(methanol):
    with pytest.raises(InputError, match="superpose them"):
        similarity(methanol, predicted(molecule("CH3OH"), (30, 0, 0)))
