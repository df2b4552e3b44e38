"""Hirshfeld and CM5: invariants, and PySCF's own partition of all electrons."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from denser.analysis.core import complete, free_atom
from denser.analysis.stockholder import Hirshfeld, cm5, hirshfeld
from denser.data.labels import read_label
from denser.density import Density
from denser.errors import InputError
from denser.evaluate import reference_density
from denser.grid import Grid
from denser.sad import superposition
from denser.structure import Structure
from denser.units import BOHR, DEBYE

REFERENCE = Path(__file__).parent / "reference"
WATER = Structure([8, 1, 1], [[0.1, 0.2, 0.3], [1.6, 1.2, 0.3], [-1.4, 1.3, 0.4]])
LEVELS = json.loads((REFERENCE / "stockholder.json").read_text())["molecules"]


def promolecule(structure, grid, all_electron):
    """Free atoms and their images, summed without any cut-off or table of ours."""
    points = grid.points()
    values = np.zeros(grid.shape)
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        atom = free_atom(int(z))
        curve = atom.all_electron if all_electron else atom.pseudo
        for shift in np.ndindex(3, 3, 3):
            image = position + (np.array(shift) - 1) @ grid.cell
            values += curve(np.linalg.norm(points - image, axis=-1))
    charges = [z if all_electron else free_atom(int(z)).valence for z in structure.numbers]
    return Density(
        grid,
        values,
        structure=structure,
        valence_charges=np.array(charges, dtype=float),
        all_electron=all_electron,
    )


def label_density(name):
    return reference_density(read_label(REFERENCE / "labels" / f"{name}.npz"))


@pytest.fixture(scope="module")
def formaldehyde():
    return label_density("H2CO")


@pytest.mark.parametrize("all_electron", [False, True])
@pytest.mark.parametrize("skewed", [False, True])
def test_a_promolecule_has_free_atoms(all_electron, skewed):
    cell = np.diag([17.0, 18.0, 16.0]) + skewed * np.array([[0, 0, 0], [2, 0, 0.0], [1, -1, 0]])
    grid = Grid([-8.0, -8.0, -8.0], cell, (50, 54, 48))
    found = hirshfeld(promolecule(WATER, grid, all_electron))
    np.testing.assert_allclose(found.charges, 0, atol=2e-5)
    np.testing.assert_allclose(found.dipoles, 0, atol=1e-4)
    np.testing.assert_allclose(found.volume_ratios, 1, atol=1e-3)
    assert abs(found.residual) < 1e-9


def test_charge_and_dipole_add_up(formaldehyde):
    found = hirshfeld(formaldehyde)
    structure = formaldehyde.structure
    assert found.charges.sum() == pytest.approx(
        formaldehyde.valence_charges.sum() - formaldehyde.integrate(), abs=1e-6
    )
    moment = found.charges @ structure.positions + found.dipoles.sum(axis=0)
    np.testing.assert_allclose(moment, formaldehyde.dipole(), atol=0.03)  # tails leave the box


@pytest.mark.parametrize("charge", [0, 1])
def test_charges_sum_to_the_charge_of_the_structure(charge):
    structure = replace(WATER, charge=charge)
    density = superposition(structure, Grid.around(structure, padding=8.0, spacing=0.3))
    found = hirshfeld(density)
    assert found.charges.sum() == pytest.approx(charge, abs=2e-5)
    moment = found.charges @ (structure.positions - density.structure.positions.mean(axis=0))
    charges = density.valence_charges
    centre = charges @ structure.positions / charges.sum()
    expected = density.dipole() + charge * (centre - structure.positions.mean(axis=0))
    np.testing.assert_allclose(moment + found.dipoles.sum(axis=0), expected, atol=2e-3)


def test_completing_the_core_changes_nothing(formaldehyde):
    valence, completed = hirshfeld(formaldehyde), hirshfeld(complete(formaldehyde))
    np.testing.assert_allclose(completed.charges, valence.charges, atol=2e-4)
    np.testing.assert_allclose(completed.volumes, valence.volumes, rtol=2e-3)


def test_distant_molecules_do_not_see_each_other():
    grid = Grid([-9.0, -9.0, -9.0], np.diag([42.0, 18.0, 18.0]), (140, 60, 60))
    two = Structure(
        np.tile(WATER.numbers, 2), np.concatenate([WATER.positions, WATER.positions + [21, 0, 0]])
    )
    one = Grid([-9.0, -9.0, -9.0], np.diag([21.0, 18.0, 18.0]), (70, 60, 60))
    apart = hirshfeld(superposition(two, grid))
    alone = hirshfeld(superposition(WATER, one))
    np.testing.assert_allclose(apart.charges, np.tile(alone.charges, 2), atol=1e-5)
    np.testing.assert_allclose(apart.volumes, np.tile(alone.volumes, 2), rtol=1e-4)


def test_a_rotated_box_gives_rotated_atoms():
    density = superposition(WATER, Grid.around(WATER, padding=6.0, spacing=0.3))
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    grid = Grid(
        density.grid.origin @ rotation.T, density.grid.cell @ rotation.T, density.grid.shape
    )
    turned = replace(
        density, grid=grid, structure=replace(WATER, positions=WATER.positions @ rotation.T)
    )
    one, other = hirshfeld(density), hirshfeld(turned)
    np.testing.assert_allclose(other.charges, one.charges, atol=1e-9)
    np.testing.assert_allclose(other.dipoles, one.dipoles @ rotation.T, atol=1e-9)


def test_the_place_in_the_box_does_not_matter():
    density = superposition(WATER, Grid.around(WATER, padding=6.0, spacing=0.3))
    step = density.grid.spacing * [17, -21, 30]
    rolled = replace(
        density,
        values=np.roll(density.values, (17, -21, 30), axis=(0, 1, 2)),
        structure=replace(WATER, positions=WATER.positions + step),
    )
    np.testing.assert_allclose(hirshfeld(rolled).charges, hirshfeld(density).charges, atol=1e-9)


@pytest.mark.parametrize("name", LEVELS)
def test_against_all_electrons_in_pyscf(name):
    """The label's box (2 angstrom of padding), GTH-TZV2P and the pseudopotential differ."""
    found, expected = hirshfeld(label_density(name)), LEVELS[name]["hirshfeld"]
    np.testing.assert_allclose(found.charges, expected["charges"], atol=0.012)
    ratios = np.array(expected["volumes"]) / expected["free_volumes"]
    np.testing.assert_allclose(found.volume_ratios, ratios, rtol=0.03)


def test_cm5_of_water_by_hand():
    r = 0.9572
    angle = np.radians(104.52)
    atoms = np.array([[0, 0, 0], [r, 0, 0], [r * np.cos(angle), r * np.sin(angle), 0]]) / BOHR
    structure = Structure([8, 1, 1], atoms)
    zeros = np.zeros(3)
    neutral = Hirshfeld(structure, zeros, np.zeros((3, 3)), zeros, zeros, 0.0)
    shift = 0.1671 * np.exp(-2.474 * (0.9572 - 0.32 - 0.64))
    np.testing.assert_allclose(cm5(neutral).charges, [-2 * shift, shift, shift], atol=1e-12)


def test_cm5_of_a_pair_without_its_own_parameter():
    structure = Structure([6, 17], [[0, 0, 0], [0, 0, 1.76 / BOHR]])
    neutral = Hirshfeld(structure, *np.zeros((1, 2)), np.zeros((2, 3)), *np.zeros((2, 2)), 0.0)
    shift = (-0.0446 + 0.0444) * np.exp(-2.474 * (1.76 - 0.75 - 1.00))
    np.testing.assert_allclose(cm5(neutral).charges, [shift, -shift], atol=1e-12)


@pytest.mark.parametrize(("name", "measured"), [("H2O", 1.855), ("H2CO", 2.332), ("HCN", 2.985)])
def test_cm5_dipoles_are_near_experiment(name, measured):
    """Marenich et al. fit CM5 to dipoles and find a mean unsigned error of about 0.3 debye."""
    found = cm5(hirshfeld(label_density(name)))
    assert np.linalg.norm(found.dipole) * DEBYE == pytest.approx(measured, abs=0.3)
    assert abs(found.charges.sum()) < 1e-4


def test_cm5_sees_periodic_images():
    cell = np.diag([5.0, 30.0, 30.0])
    ring = Structure([6, 8], [[0, 0, 0], [2.2, 0, 0]], cell=cell)
    chain = Structure(
        np.tile([6, 8], 9),
        np.concatenate([[[5.0 * i, 0, 0], [5.0 * i + 2.2, 0, 0]] for i in range(9)]),
    )

    def neutral(structure):
        n = len(structure)
        return Hirshfeld(structure, np.zeros(n), np.zeros((n, 3)), *np.zeros((2, n)), 0.0)

    np.testing.assert_allclose(
        cm5(neutral(ring)).charges, cm5(neutral(chain)).charges[8:10], atol=1e-7
    )


def test_output(formaldehyde):
    found = hirshfeld(formaldehyde)
    data = json.loads(json.dumps(found.to_dict()))
    np.testing.assert_allclose(data["dipoles_debye"], found.dipoles * DEBYE)
    assert len(found.lines()) == len(found.charges) + 2
    assert f"{found.charges[0]:.4f}" in found.lines()[1]
    data = json.loads(json.dumps(cm5(found).to_dict()))
    assert data["charges_e"] == cm5(found).charges.tolist()
    assert len(cm5(found).lines()) == len(found.charges) + 2


def test_bad_input(formaldehyde):
    charges = formaldehyde.valence_charges.copy()
    charges[0] += 2
    with pytest.raises(InputError, match=r"atom 1 .* valence electrons"):
        hirshfeld(replace(formaldehyde, valence_charges=charges))
    iron = Structure([26], np.zeros((1, 3)))
    alone = Hirshfeld(iron, np.zeros(1), np.zeros((1, 3)), np.zeros(1), np.zeros(1), 0.0)
    with pytest.raises(InputError, match="Fe"):
        cm5(alone)
    with pytest.raises(InputError, match="do not belong"):
        cm5(alone, WATER)
