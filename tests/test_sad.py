import numpy as np
import pytest
from ase.build import molecule
from ase.data import chemical_symbols

from denser import Grid, InputError, Structure
from denser.atoms.sad import (
    CUTOFF,
    RECIPES,
    atomic_density,
    count_electrons,
    hirshfeld_weights,
    require_closed_shell,
    superposition,
    supported_elements,
    valence_charges,
)
from denser.fields.windows import groups_of_like_reach


def test_supported_elements_are_five_rows():
    assert supported_elements() == chemical_symbols[1:55]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_atom_integrates_to_its_valence(recipe):
    r = np.linspace(0, 25, 20001)
    for symbol in supported_elements():
        z = chemical_symbols.index(symbol)
        n = np.trapezoid(4 * np.pi * r**2 * atomic_density(z, r, recipe), r)
        assert n == pytest.approx(valence_charges(Structure([z], [[0, 0, 0]]))[0], abs=1e-6)
        assert atomic_density(z, r, recipe).min() > -1e-5  # fitted ones; `superposition` clips


@pytest.mark.parametrize(("name", "spacing"), [("HCN", 0.25), ("CH3Cl", 0.25), ("NaCl", 0.16)])
def test_superposition_is_the_sum_of_radial_functions(name, spacing):
    structure = Structure.from_ase(molecule(name))
    grid = Grid.around(structure, padding=9.0, spacing=spacing)
    rho = superposition(structure, grid)
    assert rho.integrate() == pytest.approx(rho.n_electrons, abs=1e-9)
    near = np.flatnonzero(rho.values > 1e-7)  # the isolated atoms know no images in the tails
    chosen = np.random.default_rng(0).choice(near, 20000)
    points = grid.points().reshape(-1, 3)[chosen]
    direct = sum(
        atomic_density(z, np.linalg.norm(points - p, axis=-1))
        for z, p in zip(structure.numbers, structure.positions, strict=True)
    )
    error = np.abs(direct - rho.values.ravel()[chosen]).sum() / direct.sum()
    assert error < 1e-4


def test_coarse_nodes_carry_the_same_values(ethanol):
    """SAD then coarsen equals SAD on the coarse grid, up to the constant that fixes N_e."""
    grid = Grid.around(ethanol, padding=8.0)
    fine = superposition(ethanol, grid).values[::2, ::2, ::2]
    coarse = superposition(ethanol, grid.coarsen(2)).values
    np.testing.assert_allclose(fine * (coarse.sum() / fine.sum()), coarse, atol=2 * CUTOFF)


def test_periodic_images_wrap(ethanol):
    """Atoms moved by a lattice vector give the same density; a roll moves it by nodes."""
    grid = Grid([0, 0, 0], np.diag([9.0, 10.0, 11.0]), (48, 56, 64))
    inside = superposition(ethanol, grid).values
    moved = Structure(ethanol.numbers, ethanol.positions + [18.0, -10.0, 33.0])
    np.testing.assert_allclose(superposition(moved, grid).values, inside, atol=2 * CUTOFF)
    rolled = Structure(ethanol.numbers, ethanol.positions + grid.spacing * [3, 5, -7])
    np.testing.assert_allclose(
        superposition(rolled, grid).values, np.roll(inside, (3, 5, -7), (0, 1, 2)), atol=2 * CUTOFF
    )


def test_rotated_molecule_on_rotated_grid(ethanol):
    turn = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    grid = Grid([-10, -9, -8], np.diag([20.0, 18.0, 16.0]), (80, 72, 64))
    turned_grid = Grid(turn @ grid.origin, np.diag([18.0, 16.0, 20.0]), (72, 64, 80))
    turned = superposition(Structure(ethanol.numbers, ethanol.positions @ turn.T), turned_grid)
    np.testing.assert_allclose(
        turned.values, superposition(ethanol, grid).values.transpose(1, 2, 0), atol=1e-12
    )


def test_charge_scales_to_the_electrons_left(ethanol):
    grid = Grid.around(ethanol, 7.0, 0.4)
    anion = Structure(ethanol.numbers, ethanol.positions, charge=-2)
    assert superposition(anion, grid).integrate() == pytest.approx(22.0, abs=1e-9)


def test_errors_are_clear():
    grid = Grid([-5, -5, -5], np.eye(3) * 10, (16, 16, 16))
    with pytest.raises(InputError, match=r"atom 2 is Au.*supported elements: H He"):
        superposition(Structure([6, 79], [[0, 0, 0], [0, 0, 3]]), grid)
    with pytest.raises(InputError, match=r"atom 1 is X \(a ghost.*supported elements: H He"):
        superposition(Structure([0], [[0, 0, 0]]), grid)
    with pytest.raises(InputError, match="no valence electrons"):
        superposition(Structure([1], [[0, 0, 0]], charge=1), grid)
    with pytest.raises(InputError, match="unknown SAD recipe"):
        superposition(Structure([2], [[0, 0, 0]]), grid, "minao")


def test_atrocious_is_far_from_the_recipe(ethanol):
    grid = Grid.around(ethanol, 8.0, 0.2)
    good, bad = (superposition(ethanol, grid, recipe) for recipe in RECIPES)
    error = np.abs(good.values - bad.values).sum() * grid.dv / 20
    assert 0.15 < error < 0.4


def test_hirshfeld_weights_sum_to_one_where_there_are_atoms(ethanol):
    grid = Grid.around(ethanol, 8.0, 0.2)
    weights = hirshfeld_weights(ethanol, grid)
    total = np.asarray(weights.sum(axis=0)).ravel()
    assert set(np.round(total, 9)) <= {0.0, 1.0}
    rho = superposition(ethanol, grid).values.ravel()
    # the Hirshfeld charges of a SAD are zero
    electrons = weights @ rho * grid.dv
    np.testing.assert_allclose(electrons, valence_charges(ethanol), atol=2e-3)


def test_two_thousand_atoms():
    side = np.arange(13) * 4.5
    positions = np.stack(np.meshgrid(side, side, side[:12], indexing="ij"), -1).reshape(-1, 3)
    structure = Structure(np.resize([6, 7, 8, 9], len(positions)), positions)
    assert len(structure) == 2028
    rho = superposition(structure, Grid.around(structure, padding=4.0, spacing=0.5))
    assert rho.integrate() == pytest.approx(rho.n_electrons, rel=1e-9)


def test_functions_are_grouped_by_reach():
    reach = np.array([1.0, 4.0, 0.0, 3.2, 2.9, 0.8])
    assert groups_of_like_reach(reach) == [[1, 3], [4], [0, 5]]


def test_open_shells_are_refused_where_closed_ones_are_needed():
    positions = np.array([[0.0, 0, 0], [0, 0, 1.8]])
    with pytest.raises(InputError, match="labels cover closed shells only; if it is"):
        require_closed_shell(Structure([8, 1], positions), "labels")
    with pytest.raises(InputError, match=r"has 1 unpaired electron, an.*; check the charge$"):
        require_closed_shell(Structure([1, 1], positions, 1), "labels")
    with pytest.raises(InputError, match=r"2 unpaired electrons, and .*; --spin 0 is a closed"):
        require_closed_shell(Structure([8, 8], positions, spin=2), "labels")
    require_closed_shell(Structure([8, 8], positions), "labels")


def test_valence_electrons_are_enough_for_the_unpaired_ones():
    positions = np.zeros((1, 3))
    assert count_electrons(Structure([8], positions, spin=2)) == 6
    with pytest.raises(InputError, match="6 valence electrons, fewer than 8 unpaired"):
        count_electrons(Structure([8], positions, spin=8))
    with pytest.raises(InputError, match="without valence electrons"):
        count_electrons(Structure([1], positions, 1))
