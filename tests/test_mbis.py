"""MBIS: densities with a known answer, Psi4's and HORTON's published values, invariants."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyscf import dft, gto, scf

from denser.analysis.charges.mbis import (
    Quadrature,
    free_shells,
    interpolate,
    mbis,
    partition,
    whole,
)
from denser.atoms.free_atoms import complete, free_atom
from denser.atoms.sad import superposition
from denser.labels.reading import read_label
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import DEBYE
from denser.workflows.evaluate.measure import reference_density

REFERENCE = Path(__file__).parent / "reference"
WATER = Structure([8, 1, 1], [[0.1, 0.2, 0.3], [1.6, 1.2, 0.3], [-1.4, 1.3, 0.4]])


def label_density(name):
    return reference_density(read_label(REFERENCE / "labels" / f"{name}.npz"))


@pytest.fixture(scope="module")
def formaldehyde():
    return label_density("H2CO")


def test_quadrature_of_gaussians():
    """In all space, and in a cell with the images of its Gaussians."""
    a = 0.8
    for cell in (None, np.diag([8.0, 9.0, 7.0])):
        structure = replace(WATER, cell=cell)
        quadrature = Quadrature.around(structure)
        total = 0.0
        for shift in np.ndindex(5, 5, 5) if cell is not None else [(2, 2, 2)]:
            image = WATER.positions[1] + (0 if cell is None else (np.array(shift) - 2) @ cell)
            r2 = ((quadrature.points - image) ** 2).sum(axis=1)
            total += quadrature.weights @ np.exp(-a * r2)
        assert total == pytest.approx((np.pi / a) ** 1.5, rel=3e-5)


def test_shells_are_found_again():
    """A density that is a sum of shells is its own MBIS, from another start."""
    n = [np.array([1.7, 7.2]), np.array([0.6]), np.array([0.5])]
    s = [np.array([0.06, 0.42]), np.array([0.37]), np.array([0.41])]
    quadrature = Quadrature.around(WATER)
    rho = np.zeros(len(quadrature.points))
    for atom, _, index, r in quadrature.pairs:
        for population, width in zip(n[atom], s[atom], strict=True):
            rho[index] += population / (8 * np.pi * width**3) * np.exp(-r / width)
    found = partition(WATER, whole(quadrature, rho), 10.0)
    np.testing.assert_allclose(np.concatenate(found.populations), np.concatenate(n), atol=2e-5)
    np.testing.assert_allclose(np.concatenate(found.widths), np.concatenate(s), rtol=1e-5)
    np.testing.assert_allclose(found.charges, [8 - 8.9, 0.4, 0.5], atol=2e-5)
    np.testing.assert_allclose(found.dipoles, 0, atol=2e-5)
    np.testing.assert_allclose(found.volumes[1:], [60 * 0.6 * 0.37**3, 60 * 0.5 * 0.41**3], 1e-4)
    assert abs(found.divergence) < 1e-6


def test_water_in_psi4_and_horton():
    """HF/cc-pVDZ, the case of Psi4's test mbis-1, which quotes HORTON's volumes too.

    Psi4 fits the density in its SCF and stops MBIS earlier: 1e-4 is its distance from HORTON.
    """
    angle = np.radians(104.5)
    mol = gto.M(
        atom=[["O", (0, 0, 0)], ["H", (1, 0, 0)], ["H", (np.cos(angle), np.sin(angle), 0)]],
        basis="cc-pvdz",
        verbose=0,
    )
    mf = scf.RHF(mol).run(conv_tol=1e-10)
    structure = Structure(mol.atom_charges(), mol.atom_coords())
    quadrature = Quadrature.around(structure)
    ao = dft.numint.eval_ao(mol, quadrature.points)
    rho = np.einsum("pi,pi->p", ao @ mf.make_rdm1(), ao)
    found = partition(structure, whole(quadrature, rho), 10.0)
    np.testing.assert_allclose(found.charges, [-0.84572442, 0.42286136, 0.42286136], atol=1e-4)
    np.testing.assert_allclose(found.volumes[0], 26.33864405917908, rtol=5e-5)
    np.testing.assert_allclose(found.volumes[1:], [1.50962576, 1.50944314], rtol=5e-4)
    norms = np.linalg.norm(found.dipoles, axis=1)
    np.testing.assert_allclose(norms, [0.169806726, 0.03159040, 0.03159040], atol=1e-4)


def test_from_the_grid_as_from_the_orbitals():
    """Interpolation costs little: a valence density on nodes 0.157 bohr apart, and exactly."""
    mol = gto.M(
        atom=list(zip(["O", "H", "H"], WATER.positions.tolist(), strict=True)),
        unit="bohr",
        basis="gth-tzv2p",
        pseudo="gth-pbe",
        verbose=0,
    )
    mf = dft.RKS(mol, xc="pbe").run(conv_tol=1e-8)
    dm = mf.make_rdm1()

    def valence(points):
        out = [
            np.einsum("pi,pi->p", (ao := dft.numint.eval_ao(mol, block)) @ dm, ao)
            for block in np.array_split(points, 1 + len(points) // 50000)
        ]
        return np.concatenate(out)

    grid = Grid.around(WATER, padding=7.0)
    values = valence(grid.points().reshape(-1, 3)).reshape(grid.shape)
    density = Density(grid, values, structure=WATER, valence_charges=[6.0, 1.0, 1.0])
    quadrature = Quadrature.around(WATER)
    rho = valence(quadrature.points)
    for atom, centre, *_ in quadrature.pairs:
        r = np.linalg.norm(quadrature.points - centre, axis=1)
        rho += free_atom(int(WATER.numbers[atom])).core(r)
    found, expected = mbis(density), partition(WATER, whole(quadrature, rho), 10.0)
    np.testing.assert_allclose(found.charges, expected.charges, atol=1e-4)
    np.testing.assert_allclose(found.dipoles, expected.dipoles, atol=2e-4)
    np.testing.assert_allclose(found.volumes, expected.volumes, rtol=2e-3)
    assert abs(found.residual) < 5e-5


@pytest.mark.parametrize("z", [1, 6, 17])
def test_free_shells_hold_the_atom(z):
    n, s = free_shells(z)
    assert len(n) == 1 + (z > 2) + (z > 10)
    assert n.sum() == pytest.approx(z, abs=1e-4)
    assert (np.diff(s) > 0).all()


def test_electrons_and_dipole_add_up():
    density = superposition(WATER, Grid.around(WATER, padding=9.0, spacing=0.2))
    found = mbis(density)
    assert found.charges.sum() == pytest.approx(found.residual, abs=1e-9)
    assert abs(found.residual) < 1e-4
    moment = found.charges @ WATER.positions + found.dipoles.sum(axis=0)
    np.testing.assert_allclose(moment, density.dipole(), atol=1e-3)


def test_completing_the_core_changes_nothing(formaldehyde):
    valence, completed = mbis(formaldehyde), mbis(complete(formaldehyde))
    # On a grid a core ends at 1e-6 e/bohr^3, which leaves 4e-4 e out in all.
    np.testing.assert_allclose(completed.charges, valence.charges, atol=4e-4)


def test_a_rotated_box_gives_rotated_atoms():
    density = superposition(WATER, Grid.around(WATER, padding=6.0, spacing=0.2))
    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    grid = Grid(
        density.grid.origin @ rotation.T, density.grid.cell @ rotation.T, density.grid.shape
    )
    turned = replace(
        density, grid=grid, structure=replace(WATER, positions=WATER.positions @ rotation.T)
    )
    one, other = mbis(density), mbis(turned)
    np.testing.assert_allclose(other.charges, one.charges, atol=1e-4)  # Lebedev points stay
    np.testing.assert_allclose(other.dipoles, one.dipoles @ rotation.T, atol=2e-4)


def test_a_crystal_is_the_same_in_a_double_cell():
    cell = np.diag([6.0, 7.0, 6.5])
    one = Structure([9, 1], [[1.0, 2.0, 3.0], [2.2, 3.1, 3.4]], cell=cell)
    two = Structure(
        np.tile(one.numbers, 2),
        np.concatenate([one.positions, one.positions + cell[0]]),
        cell=np.diag([12.0, 7.0, 6.5]),
    )
    small = superposition(one, Grid(np.zeros(3), cell, (38, 44, 41)))
    large = superposition(two, Grid(np.zeros(3), two.cell, (76, 44, 41)))
    found, twice = mbis(small), mbis(large)
    np.testing.assert_allclose(twice.charges, np.tile(found.charges, 2), atol=1e-5)
    assert abs(found.residual) < 3e-4


def test_interpolation_is_periodic():
    grid = Grid([-1.0, 0.5, 0.0], np.diag([5.0, 6.0, 7.0]), (40, 48, 56))
    x = 2 * np.pi * (grid.points() - grid.origin) / np.diag(grid.cell)
    values = np.cos(x[..., 0]) * np.sin(x[..., 1] + x[..., 2])
    points = np.random.default_rng(3).uniform(-9, 9, (200, 3))
    u = 2 * np.pi * (points - grid.origin) / np.diag(grid.cell)
    expected = np.cos(u[:, 0]) * np.sin(u[:, 1] + u[:, 2])
    np.testing.assert_allclose(interpolate(values, grid, points), expected, atol=1e-6)


def test_beyond_the_box_the_shells_stand_for_the_density():
    """A box that cuts the tails off gives the shells of the whole density all the same."""
    n, s = [8.7, 0.7, 0.6], [0.45, 0.5, 0.55]
    quadrature = Quadrature.around(WATER)
    rho = np.zeros(len(quadrature.points))
    for atom, _, index, r in quadrature.pairs:
        rho[index] += n[atom] / (8 * np.pi * s[atom] ** 3) * np.exp(-r / s[atom])
    box = Grid.around(WATER, padding=2.0, spacing=0.5, multiple_of=1)
    cut = quadrature.within(box)
    assert cut.weights @ rho < 9.9
    charges = [partition(WATER, whole(part, rho), 10.0).charges for part in (cut, quadrature)]
    np.testing.assert_allclose(*charges, atol=1e-3)


def test_output(formaldehyde):
    found = mbis(formaldehyde)
    data = json.loads(json.dumps(found.to_dict()))
    np.testing.assert_allclose(data["atomic_dipoles_debye"], found.dipoles * DEBYE)
    assert [len(n) for n in data["shell_populations_e"]] == [
        1 if z == 1 else 2 for z in formaldehyde.structure.numbers
    ]
    assert len(found.lines()) == len(found.charges) + 2


def test_bad_input(formaldehyde):
    with pytest.raises(InputError, match="valence electrons"):
        mbis(replace(formaldehyde, valence_charges=formaldehyde.valence_charges + 1))


@pytest.mark.parametrize(
    ("z", "n_shells"), [(2, 1), (10, 2), (17, 3), (20, 4), (35, 4), (37, 5), (46, 5), (53, 5)]
)
def test_atoms_have_a_shell_for_each_row(z, n_shells):
    """All free atoms converge, with all electrons in shells of rising width."""
    populations, widths = free_shells(z)
    assert len(populations) == n_shells
    assert populations.sum() == pytest.approx(z, abs=3e-3)
    assert (np.diff(widths) > 0).all() and (populations > 0.5).all()
