"""Crystals in cells of any shape: the same crystal has the same density."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.spacegroup import crystal

import denser
from denser.atoms.radii import bonds
from denser.atoms.sad import superposition, superposition_at
from denser.dft.one_step import one_step
from denser.fields.periodic import images_near
from denser.model.expansion import add_to_grid, evaluate, project
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE
from denser.viewer.crystal import around, shown
from denser.viewer.surfaces import at_points
from denser.workflows.calculator import GammaPointWarning

TRICLINIC = np.array([[9.0, 0, 0], [2.5, 8.0, 0], [-3.0, 1.5, 7.0]])  # bohr; angles from 68 to 107


MONOCLINIC = [[9.0, 0, 0], [0, 8.0, 0], [-3.0, 0, 7.0]]
HEXAGONAL = [[8.0, 0, 0], [-4.0, 4 * 3**0.5, 0], [0, 0, 7.0]]
CELLS = [TRICLINIC, np.array(MONOCLINIC), np.array(HEXAGONAL)]


def ice() -> Atoms:
    """Two water molecules in an orthorhombic cell."""
    atoms = molecule("H2O")
    second = atoms.copy()
    second.rotate(70, (1, 2, 3))
    atoms.positions += [1.2, 1.5, 1.4]
    second.positions += [3.4, 3.6, 3.9]
    both = atoms + second
    both.set_cell([4.8, 5.0, 5.4])
    both.pbc = True
    return both


def resheared(atoms: Atoms) -> Atoms:
    """The same crystal with lattice vectors a, a + b, c, and the atoms in this cell."""
    a, b, c = atoms.cell
    other = atoms.copy()
    other.set_cell([a, a + b, c])
    other.wrap()
    return other


def on_other_nodes(values: np.ndarray) -> np.ndarray:
    """Values on the nodes i a/n + j (a + b)/n + k c/m from those on i a/n + j b/n + k c/m."""
    n = values.shape[0]
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    return values[(i + j) % n, j]


@pytest.mark.parametrize("cell", CELLS, ids=["triclinic", "monoclinic", "hexagonal"])
def test_superposition_on_oblique_nodes(cell):
    structure = Structure(
        np.array([8, 6, 1]), np.array([[0, 0, 0], [3, 3, 2], [5, 2, 5.0]]), cell=cell
    )
    grid = Grid(np.array([0.3, -0.2, 0.1]), cell, (24, 20, 18))
    found = superposition(structure, grid)
    assert found.integrate() == pytest.approx(11)
    expected = superposition_at(structure, grid, grid.points().reshape(-1, 3))
    np.testing.assert_allclose(
        found.values.ravel() * (expected.sum() / found.values.sum()), expected, atol=1e-6
    )


@pytest.mark.parametrize("cell", CELLS, ids=["triclinic", "monoclinic", "hexagonal"])
def test_expansion_on_oblique_nodes(cell):
    generator = torch.Generator().manual_seed(1)
    exponents = torch.tensor([0.3, 0.6, 1.2])
    coefficients = 0.1 * torch.randn(2, 3, 25, generator=generator, dtype=torch.float64)
    grid = Grid(np.array([0.3, -0.2, 0.1]), cell, (10, 9, 8))
    positions = torch.tensor([[1.0, 2.0, 3.0], [6.0, 5.0, 1.0]], dtype=torch.float64)
    values = torch.zeros(grid.shape, dtype=torch.float64)
    add_to_grid(values, grid, positions, coefficients, exponents)
    images, owner = images_near(positions.numpy(), grid, 12.0)
    points = torch.as_tensor(grid.points().reshape(-1, 3))
    steps = points[None] - torch.as_tensor(images)[:, None]
    expected = evaluate(coefficients, exponents.double(), steps, torch.as_tensor(owner))
    np.testing.assert_allclose(values.numpy().ravel(), expected.numpy(), atol=2e-5)
    # the adjoint, and its derivative with respect to the positions
    weight = torch.randn(grid.shape, generator=generator, dtype=torch.float64)
    total = project(weight, grid, positions, coefficients, exponents)
    assert float(total) == pytest.approx(float((weight * values).sum()), rel=1e-9)
    positions.requires_grad_()
    (slopes,) = torch.autograd.grad(
        project(weight, grid, positions, coefficients, exponents), positions
    )
    direction = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        ends = [
            float(project(weight, grid, positions + h * direction, coefficients, exponents))
            for h in (-1e-3, 1e-3)
        ]
    assert float((slopes * direction).sum()) == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=1e-4)


def test_another_setting_and_a_supercell_have_the_same_density():
    n = 32
    predictor = denser.Predictor()

    def of(atoms: Atoms, shape: tuple[int, int, int]) -> np.ndarray:
        structure = Structure.of(atoms)
        grid = Grid(np.zeros(3), structure.cell, shape)
        sad = superposition(structure, grid, predictor.model.recipe.sad)
        return predictor.density(sad, periodic=True).values

    values = of(ice(), (n, n, n))
    for other, expected in (
        (of(resheared(ice()), (n, n, n)), on_other_nodes(values)),
        (of(ice().repeat((1, 1, 2)), (n, n, 2 * n)), np.concatenate([values, values], axis=2)),
    ):
        assert np.abs(other - expected).sum() < 1e-5 * expected.sum()


def test_bonds_and_distances_across_oblique_faces():
    atoms = resheared(ice())
    found = bonds(Structure.of(atoms))
    assert len(found) == 4
    close = Structure.of(atoms).positions.copy()
    close[3] = close[0] + Structure.of(atoms).cell[1] + [0.1, 0, 0]
    with pytest.raises(InputError, match=r"atoms 1 .* and 4 .* are closer"):
        Structure(atoms.numbers, close, cell=np.asarray(atoms.cell) / BOHR)


def test_a_hexagonal_crystal_has_its_symmetry():
    """Boron nitride, P 6_3/m m c: the threefold axis at the origin."""
    atoms = crystal(
        "BN", [(1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.25)], spacegroup=194,
        cellpar=[2.50, 2.50, 6.66, 90, 90, 120],
    )  # fmt: skip
    rho = denser.Predictor().predict(atoms, spacing=0.15).density
    assert rho.integrate() == pytest.approx(16)
    n = rho.grid.shape[0]
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    turned = rho.values[(-j) % n, (i - j) % n]  # (x, y) -> (-y, x - y)
    # the network is equivariant to about this
    assert np.abs(turned - rho.values).sum() < 5e-4 * rho.values.sum()


def test_files_of_an_oblique_cell(tmp_path):
    """Cube, CHGCAR, CCP4 and npz keep the cell and the values."""
    atoms = resheared(ice())
    rho = denser.Predictor().predict(atoms, spacing=0.2).density
    for name in ("a.cube", "a.npz", "CHGCAR", "a.ccp4"):
        denser.write(tmp_path / name, rho)
        again = denser.read(tmp_path / name)
        assert again.grid.shape == rho.grid.shape
        lengths = np.linalg.norm(rho.grid.cell, axis=1)
        np.testing.assert_allclose(np.linalg.norm(again.grid.cell, axis=1), lengths, rtol=1e-5)
        np.testing.assert_allclose(again.values, rho.values, atol=2e-5)


def test_energy_of_two_settings():
    """At Gamma both lattices have the same states; their grids differ like shifted ones."""
    predictor = denser.Predictor("default", "cpu", bf16=False)
    energies = [
        one_step(predictor.predict(atoms).density).e_tot for atoms in (ice(), resheared(ice()))
    ]
    assert abs(energies[1] - energies[0]) * HARTREE < 0.01


def test_forces_in_an_oblique_cell():
    """They are the slope of the energy, on a coarse grid too."""
    atoms = resheared(ice())
    grid = Grid(np.zeros(3), np.asarray(atoms.cell) / BOHR, (32, 44, 36))
    atoms.calc = denser.Calculator(device="cpu", grid=grid)
    with pytest.warns(GammaPointWarning, match="at Gamma alone"):
        force, ends = atoms.get_forces()[0, 0], []
    for step in (-2e-3, 4e-3):
        atoms.positions[0, 0] += step
        ends.append(atoms.get_potential_energy())
    # within the accuracy of PySCF's multigrid on such a grid
    assert force == pytest.approx((ends[0] - ends[1]) / 4e-3, abs=0.02)


def test_the_viewer_shows_whole_molecules_of_an_oblique_cell():
    structure = Structure.of(resheared(ice()))
    rho = superposition(structure, Grid.periodic(structure, 0.5))
    atoms = shown(structure)
    assert len(bonds(atoms.structure, periodic=False)) == 4
    part = around(rho, atoms, 200)
    values = at_points(rho, part.grid.points() * BOHR)
    np.testing.assert_allclose(part.values, values, atol=1e-5)
