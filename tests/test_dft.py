"""PySCF's side of the package: cells, self-consistency, and the tables made from its atoms."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.data import atomic_numbers, chemical_symbols
from scipy.linalg import block_diag

from denser.atoms.sad import RECIPES, atomic_density, superposition
from denser.dft.basis import ELEMENTS
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.scf import scf
from denser.dft.tables import sad as pseudo_atoms
from denser.dft.tables import two_centre
from denser.fields.metrics import err_rho
from denser.labels.render import density_at_points, density_on_grid, n_orbitals
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

REFERENCE = json.loads((Path(__file__).parent / "reference" / "scf_energies.json").read_text())
# PySCF 2.14 uses its own deprecated function in its atoms.
own_atoms = pytest.mark.filterwarnings("ignore:remove_linear_dep_:DeprecationWarning")


def angstrom(symbols: list[str], positions: list, charge: int = 0) -> Structure:
    numbers = [atomic_numbers[symbol] for symbol in symbols]
    return Structure(np.array(numbers), np.array(positions) / BOHR, charge)


def neutral_atom(symbol: str, recipe: str) -> np.ndarray:
    """Density matrix of all valence electrons: the projection to the larger basis loses some."""
    atom, dm = pseudo_atoms.atomic_density_matrix(symbol, recipe)
    return dm * (atom.nelectron / np.einsum("ij,ji", dm, atom.intor("int1e_ovlp")))


@pytest.fixture(scope="module")
def formaldehyde():
    structure = Structure.of(molecule("H2CO"))
    grid = Grid.paper(structure)
    return structure, grid, scf(structure, grid)


@own_atoms
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("symbols", "positions"),
    [
        (
            ["C", "N", "O", "F", "H"],
            [(0, 0, 0), (1.3, 0.1, -0.3), (-0.6, 1.1, 0.2), (-0.5, -1.1, 0.6), (1.9, 0.9, -0.5)],
        ),
        (["S", "Cl", "Na"], [(0, 0, 0), (1.9, 0.5, 0.3), (-1.2, 2.0, 0.7)]),
    ],
    ids=["CNOFH", "SClNa"],
)
def test_superposition_is_that_of_the_atoms_density_matrices(symbols, positions, recipe):
    structure = angstrom(symbols, positions)
    # A wide box: the cell's periodic orbitals overlap with their images, atoms do not.
    grid = Grid.around(structure, padding=10.0)
    ours = superposition(structure, grid, recipe)
    # The charge makes the shell closed, as a cell demands; density matrices know none of it.
    closed = Structure(structure.numbers, structure.positions, int(ours.n_electrons) % 2)
    dm = block_diag(*[neutral_atom(symbol, recipe) for symbol in symbols])
    theirs = density_from_dm(build_cell(closed, grid), dm, grid, structure)
    theirs = theirs.with_values(theirs.values * (ours.n_electrons / theirs.integrate()))
    assert err_rho(ours, theirs) < (1e-3 if recipe == Recipe().sad else 3e-3)


@pytest.mark.parametrize("name", REFERENCE["molecules"])
def test_energy_agrees_with_pyscf_called_directly(name):
    reference = REFERENCE["molecules"][name]
    structure = angstrom(reference["symbols"], reference["positions"])
    grid = Grid.paper(structure)
    np.testing.assert_allclose(np.diag(grid.cell) * BOHR, reference["box"], atol=1e-8)
    assert grid.shape == tuple(reference["mesh"])
    result = scf(structure, grid)
    assert result.converged
    assert abs(result.e_tot - reference["e_tot"]) * HARTREE < 1e-5
    occupied = result.mo_energy[result.mo_occ > 0]
    np.testing.assert_allclose(occupied, reference["mo_energy"], atol=1e-6)


def test_rendered_orbitals_agree_with_the_multigrid_density(formaldehyde):
    structure, grid, result = formaldehyde
    multigrid = density_from_dm(build_cell(structure, grid), result.dm, grid, structure)
    assert multigrid.integrate() == pytest.approx(12, abs=1e-4)
    occupied = result.mo_coeff[:, result.mo_occ > 0]
    assert occupied.shape == (n_orbitals(structure.numbers), 6)
    rendered = density_on_grid(
        structure.numbers, structure.positions, occupied, grid, dtype=torch.float64
    ).numpy()
    assert rendered.sum() * grid.dv == pytest.approx(12, abs=1e-6)
    assert err_rho(multigrid.with_values(rendered), multigrid) < 1e-3


@pytest.mark.parametrize("symbols", [("H", "I"), ("Zn", "Se")])
def test_orbitals_with_f_functions(symbols):
    structure = angstrom(symbols, [(0, 0, 0), (0.3, 0.2, 1.6)])
    grid = Grid.around(structure, 5.0, 0.2)
    cell = build_cell(structure, grid)
    assert max(cell.bas_angular(shell) for shell in range(cell.nbas)) == 3
    random = np.random.default_rng(0).normal(size=(cell.nao_nr(), 3))
    orbitals = random @ np.linalg.inv(
        np.linalg.cholesky(random.T @ cell.pbc_intor("int1e_ovlp") @ random).T
    )
    points = grid.points().reshape(-1, 3)[:: grid.size // 50]
    ours = density_at_points(structure.numbers, structure.positions, orbitals, grid, points)
    theirs = cell.pbc_eval_gto("GTOval_sph", points - grid.origin) @ orbitals
    np.testing.assert_allclose(ours, 2 * np.square(theirs).sum(axis=1), atol=1e-10)
    # PySCF's multigrid agrees only with the precision that `build_cell` sets for these sets
    multigrid = density_from_dm(cell, 2 * orbitals @ orbitals.T, grid, structure)
    rendered = density_on_grid(structure.numbers, structure.positions, orbitals, grid)
    assert err_rho(replace(multigrid, values=rendered.numpy()), multigrid) < 1e-3


def test_a_converged_density_matrix_is_a_fixed_point(formaldehyde):
    structure, grid, result = formaldehyde
    again = scf(structure, grid, dm0=result.dm)
    assert again.converged and again.cycles <= 2
    assert again.e_tot == pytest.approx(result.e_tot, abs=1e-8)


def test_the_frame_does_not_matter(formaldehyde):
    structure, grid, result = formaldehyde
    cell = build_cell(structure, grid)
    shift = np.array([30.0, -7.0, 0.3])
    there = Structure(structure.numbers, structure.positions + shift)
    its_grid = Grid(grid.origin + shift, grid.cell, grid.shape)
    rho = density_from_dm(cell, result.dm, grid, structure)
    moved = density_from_dm(build_cell(there, its_grid), result.dm, its_grid, there)
    np.testing.assert_allclose(moved.values, rho.values, atol=1e-10)
    # Atoms outside of the box stand for their images, here by whole boxes and ten nodes.
    nodes = np.array([10, grid.shape[1], -2 * grid.shape[2]])
    beyond = Grid(grid.origin + nodes * grid.spacing, grid.cell, grid.shape)
    rolled = density_from_dm(build_cell(structure, beyond), result.dm, beyond, structure)
    assert err_rho(rolled, rolled.with_values(np.roll(rho.values, -10, axis=0))) < 1e-4


def test_charged_cells_and_the_default_grid():
    # PySCF alone fails at the end of this one: see denser.dft.scf._RKS.
    ion = angstrom(["He", "H"], [(0, 0, 0), (0, 0, 0.77)], charge=1)
    result = scf(ion)
    assert result.converged and result.seconds > 0
    np.testing.assert_array_equal(result.mo_occ[:2], [2, 0])
    grid = Grid.around(ion)
    rho = density_from_dm(build_cell(ion, grid), result.dm, grid, ion)
    assert rho.integrate() == pytest.approx(rho.n_electrons, abs=1e-4)


@own_atoms
def test_shipped_tables_are_what_pyscf_makes_today():
    folder = files("denser.atoms") / "tables"
    shipped = json.loads((folder / "sad.json").read_text())["recipes"]
    for symbol in ("H", "C", "Cl", "Na"):
        for recipe in RECIPES:
            made = pseudo_atoms.sad_entry(symbol, recipe)
            assert made["valence"] == shipped[recipe][symbol]["valence"]
            for key in ("exponents", "s", "p"):
                np.testing.assert_allclose(
                    made[key], shipped[recipe][symbol][key], rtol=1e-8, atol=1e-8
                )
    r = np.linspace(0, 8, 81)
    for symbol in ("Br", "Zn"):  # fits, whose coefficients depend on the machine
        made = pseudo_atoms.sad_entry(symbol, RECIPES[0])
        a, s, p = (np.array(made[key]) for key in ("exponents", "s", "p"))
        n = ((s + p * r[:, None] ** 2) * np.exp(-a * r[:, None] ** 2)).sum(axis=1)
        np.testing.assert_allclose(n, atomic_density(atomic_numbers[symbol], r), atol=1e-6)
    shipped = json.loads((folder / "basis.json").read_text())["elements"]
    assert tuple(shipped) == ELEMENTS
    for symbol in ("H", "O", "P", "Br", "Zn"):
        made = pseudo_atoms.basis_entry(symbol)
        assert shipped[symbol]["basis"] == made["basis"]
        for ours, theirs in zip(shipped[symbol]["shells"], made["shells"], strict=True):
            assert ours["l"] == theirs["l"]
            np.testing.assert_allclose(ours["exponents"], theirs["exponents"], rtol=1e-8)
            np.testing.assert_allclose(ours["coefficients"], theirs["coefficients"], rtol=1e-8)
    with np.load(folder / "two_centre.npz") as shipped:
        assert [chemical_symbols[z] for z in shipped["numbers"]] == list(two_centre.ATOMS)
        for pair in (("H", "C"), ("C", "O"), ("N", "Cl"), ("C", "Br"), ("O", "Zn")):
            numbers = [atomic_numbers[s] for s in pair]
            (row,) = np.flatnonzero((shipped["pairs"] == numbers).all(axis=1))
            made = two_centre.integrals(*pair, shipped["distances"][7])
            np.testing.assert_allclose(shipped["integrals"][row, 7], made, atol=1e-6)


def test_what_cannot_be_computed_is_refused():
    water = Structure.of(molecule("H2O"))
    grid = Grid.paper(water)
    with pytest.raises(InputError, match="not supported"):
        build_cell(angstrom(["Au"], [(0, 0, 0)]), grid)
    with pytest.raises(InputError, match="lacks the basis 'sto-7g' of"):
        build_cell(water, grid, Recipe(basis="sto-7g"))
    with pytest.raises(InputError, match="'pbe0' needs orbitals or a nonlocal kernel"):
        scf(water, grid, Recipe(xc="pbe0"))
    with pytest.raises(InputError, match="does not know functional 'pbee'"):
        scf(water, grid, Recipe(xc="pbee"))
    with pytest.raises(InputError, match=r"shape \(40, 40\); found \(3, 3\)"):
        scf(water, grid, dm0=np.eye(3))
    with pytest.raises(InputError, match="build it with build_cell"):
        density_from_dm(build_cell(water, grid), np.eye(40), grid.coarsen(2), water)
    mirrored = Grid(grid.origin, grid.cell[[1, 0, 2]], grid.shape)
    with pytest.raises(InputError, match="left-handed"):
        build_cell(water, mirrored)
