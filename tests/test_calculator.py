"""The ASE calculator: its contract, and forces that are the slope of its energy."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces
from ase.optimize import BFGS

import denser
import denser.types.units
from denser.analysis.charges.stockholder import hirshfeld
from denser.atoms.sad import superposition
from denser.atoms.sad_derivatives import superposition_pullback
from denser.dft.dispersion import dispersion
from denser.model.checkpoint import Model, build
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.calculator import Calculator, GammaPointWarning

COARSE = Recipe(spacing=0.28)


@pytest.fixture(scope="module")
def model() -> Model:
    """A network that changes the SAD by some percent, on a coarse grid."""
    import torch

    torch.manual_seed(4)
    options = {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1]}
    network = build("unet", options)
    torch.nn.init.normal_(network.head.weight, std=0.01)
    return Model("coarse", "unet", network.eval(), COARSE, {})


@pytest.fixture
def hydrogen() -> Atoms:
    return Atoms("H2", [(0, 0, 0), (0.05, 0.0, 0.80)])


def slope(function, step: float) -> np.ndarray:
    a, b, c, d = (function(n * step) for n in (-2, -1, 1, 2))
    return (8 * (c - b) - (d - a)) / (12 * step)


@pytest.mark.parametrize("name", ["H2CO", "H2"])
def test_the_pullback_of_a_superposition_is_its_derivative(name):
    structure = Structure.of(molecule(name))
    grid = Grid.around(structure, 5.0, 0.28, multiple_of=4)
    field = np.cos((grid.points() - structure.positions[0]) @ np.array([0.7, 0.3, 0.9]))
    direction = np.random.default_rng(1).normal(size=structure.positions.shape)

    def found(step: float) -> float:
        positions = structure.positions + step * direction
        moved = superposition(Structure(structure.numbers, positions), grid)
        return float(np.vdot(field, moved.values))

    expected = slope(found, 0.005)
    ours = np.vdot(superposition_pullback(field, structure, grid), direction)
    assert ours == pytest.approx(expected, rel=1e-5)


def energy_slope(atoms: Atoms, direction: np.ndarray, step: float) -> float:
    """Derivative of the energy along a direction of all atoms, eV/angstrom."""

    def energy(h: float) -> float:
        there = atoms.copy()
        there.positions += h * direction
        there.calc = atoms.calc
        return there.get_potential_energy()

    return slope(energy, step)


@pytest.mark.slow
def test_forces_of_one_step_are_the_slope_of_its_energy(hydrogen):
    hydrogen.calc = Calculator(padding=2.0, device="cpu")
    forces = hydrogen.get_forces()
    assert np.abs(forces).max() > 0.5
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)
    direction = np.array([[0.3, -0.2, 0.1], [0.5, 0.1, 0.9]])
    expected = energy_slope(hydrogen, direction, 0.005)
    assert np.vdot(forces, direction) == pytest.approx(-expected, abs=1e-3)


def test_forces_of_the_scf_are_the_slope_of_its_energy(model, hydrogen):
    hydrogen.calc = Calculator(model, "scf", padding=2.0, conv_tol=1e-11, device="cpu")
    forces = hydrogen.get_forces()
    assert np.abs(forces).max() > 0.5
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)
    direction = np.array([[0.3, -0.2, 0.1], [0.5, 0.1, 0.9]])
    expected = energy_slope(hydrogen, direction, 0.005)
    assert np.vdot(forces, direction) == pytest.approx(-expected, abs=1e-3)
    assert hydrogen.calc.n_boxes == 1


def test_a_molecule_feels_neither_where_it_is_nor_its_drift(model, hydrogen):
    calc = hydrogen.calc = Calculator(model, padding=2.0, device="cpu")
    energy = hydrogen.get_potential_energy()
    hydrogen.translate([0.31, -7.23, 3.17])
    assert hydrogen.get_potential_energy() == pytest.approx(energy, abs=1e-7)
    assert calc.n_boxes == 1
    hydrogen.positions[1, 2] += 3.0  # too long for the box
    hydrogen.get_potential_energy()
    assert calc.n_boxes == 2


def test_results_belong_together(model, hydrogen):
    hydrogen.calc = calc = Calculator(model, padding=2.0, device="cpu")
    with pytest.raises(InputError, match="nothing has been calculated"):
        _ = calc.density
    energy = hydrogen.get_potential_energy()
    step = calc.step
    hydrogen.get_forces()
    assert calc.step is step, "forces must not repeat the step"
    assert hydrogen.get_potential_energy(force_consistent=True) == energy
    assert calc.density.integrate() == pytest.approx(2, abs=1e-3)
    charges = hydrogen.get_charges()
    assert calc.step is step, "charges must not repeat the step"
    np.testing.assert_array_equal(charges, hirshfeld(calc.density).charges)
    assert charges.sum() == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(hydrogen.get_dipole_moment(), calc.density.dipole() * BOHR)
    assert calc.result is None and not hasattr(calc, "stress")


def test_charge_counts_as_a_change(model):
    ion = Atoms("HeH", [(0, 0, 0), (0, 0, 0.8)], info={"charge": 1})
    ion.calc = Calculator(model, padding=2.0, device="cpu")
    ion.get_potential_energy()
    ion.info["charge"] = -1
    assert ion.calc.calculation_required(ion, ["energy"])
    ion.info["charge"] = 0
    with pytest.raises(InputError, match="an odd number"):
        ion.get_potential_energy()


def test_density_alone_has_no_energy(model, hydrogen):
    hydrogen.calc = Calculator(model, "density", padding=2.0, device="cpu")
    for ask in (hydrogen.get_potential_energy, hydrogen.get_forces):
        with pytest.raises(PropertyNotImplementedError, match='task "density" has no'):
            ask()
    with pytest.raises(PropertyNotImplementedError, match="has no forces"):
        hydrogen.calc.calculate(hydrogen, ["forces"])
    with pytest.raises(InputError, match="the calculator has no atoms"):
        Calculator(model, "density", device="cpu").calculate()
    assert hydrogen.get_charges().sum() == pytest.approx(0, abs=1e-6)
    assert hydrogen.calc.density.values.min() >= 0


@pytest.mark.parametrize(
    "atoms",
    [molecule("LiF"), Atoms("OH", [(0, 0, 0), (0, 0, 0.97)], info={"charge": -1})],
    ids=["LiF", "OH-"],
)
def test_charges_are_those_of_analyze_and_sum_to_the_charge(model, atoms):
    atoms.calc = Calculator(model, "density", device="cpu")
    charges = atoms.get_charges()
    assert charges.sum() == pytest.approx(atoms.info.get("charge", 0), abs=1e-6)
    np.testing.assert_array_equal(charges, hirshfeld(atoms.calc.density).charges)


def test_charges_after_a_step_sum_to_the_charge():
    salt = Atoms("LiCl", [(0, 0, 0), (0, 0, 2.02)], calculator=Calculator(padding=3, device="cpu"))
    assert salt.get_charges().sum() == pytest.approx(0, abs=1e-6)


def test_a_small_cell_is_told_once(model):
    cell = Atoms("H2", [(0, 0, 0), (0.1, 0, 0.75)], cell=[2.4, 4.2, 4.4], pbc=True)
    cell.calc = Calculator(model, device="cpu")
    with pytest.warns(
        GammaPointWarning, match="H2: orbitals are those at Gamma alone, .* 4 x 2 x 2"
    ):
        cell.get_potential_energy()
    cell.positions[0, 0] += 0.01
    cell.get_potential_energy()


def test_periodic_cells(model):
    cell = Atoms("H2", [(0, 0, 0), (0.1, 0, 0.75)], cell=[4.0, 4.2, 4.4], pbc=True)
    cell.calc = Calculator(model, "scf", conv_tol=1e-11, device="cpu")
    energy = cell.get_potential_energy()
    forces = cell.get_forces()
    assert cell.calc.density.grid.same_as(Grid.periodic(Structure.of(cell), 0.28, 4))
    numerical = calculate_numerical_forces(cell, eps=5e-3, iatoms=[0])
    np.testing.assert_allclose(forces[0], numerical[0], atol=3e-3)
    cell.positions[0, 2] += cell.cell[2, 2]  # an image of itself
    assert cell.get_potential_energy() == pytest.approx(energy, abs=1e-5)


def test_relaxation_finds_the_minimum_of_the_scan(model, hydrogen):
    hydrogen.calc = Calculator(model, "scf", padding=2.0, device="cpu")
    assert BFGS(hydrogen, logfile=None).run(fmax=0.01, steps=20)
    relaxed = hydrogen.get_distance(0, 1)
    assert 0.72 < relaxed < 0.78
    energy = hydrogen.get_potential_energy()
    for d in (relaxed - 0.03, relaxed + 0.03):
        hydrogen.set_distance(0, 1, d)
        assert hydrogen.get_potential_energy() > energy


@pytest.mark.parametrize(("kind", "package"), [("d3bj", "dftd3"), ("d4", "dftd4")])
def test_dispersion_is_added_to_energy_and_forces(model, hydrogen, kind, package):
    pytest.importorskip(package)
    hydrogen.calc = Calculator(model, padding=2.0, device="cpu")
    energy, forces = hydrogen.get_potential_energy(), hydrogen.get_forces()
    hydrogen.calc = Calculator(model, padding=2.0, device="cpu", dispersion=kind)
    e_disp, gradient = dispersion(Structure.of(hydrogen), kind)
    assert e_disp < 0
    unit = denser.types.units.HARTREE
    assert hydrogen.get_potential_energy() - energy == pytest.approx(e_disp * unit, abs=1e-8)
    difference = hydrogen.get_forces() - forces
    np.testing.assert_allclose(difference, -gradient * unit / BOHR, atol=1e-8)


@pytest.mark.parametrize(("kind", "package"), [("d3bj", "dftd3"), ("d4", "dftd4")])
def test_dispersion_gradient_is_its_slope(kind, package):
    pytest.importorskip(package)
    pair = molecule("CH4") + Atoms("Ar", [(0, 0.3, 3.6)])
    structure = Structure.of(pair)

    def energy(h: float) -> float:
        positions = structure.positions.copy()
        positions[-1, 2] += h
        return dispersion(Structure(structure.numbers, positions), kind)[0]

    e, gradient = dispersion(structure, kind)
    assert -0.005 < e < -0.0005
    assert gradient[-1, 2] == pytest.approx(slope(energy, 0.01), rel=1e-5)
    with pytest.raises(InputError, match=f"dispersion '{kind}' of CH4"):
        dispersion(Structure.of(molecule("CH4")), kind, xc="no-such-functional")


def test_bad_options_are_sentences(model):
    for options, message in (
        ({"task": "energy"}, "unknown task 'energy'; known: one-step, scf, density"),
        ({"dispersion": "d3"}, "unknown dispersion 'd3'; known: d3bj, d4"),
        ({"forces": "none"}, "unknown forces"),
        ({"estimate": "best"}, "unknown estimate"),
    ):
        with pytest.raises(InputError, match=message):
            Calculator(model, **options)
    with pytest.raises(InputError, match="cuts the density off"):
        molecule_ = molecule("H2")
        molecule_.calc = Calculator(model, padding=0.5, device="cpu")
        molecule_.get_potential_energy()


def test_it_is_a_public_name():
    assert denser.Calculator is Calculator
