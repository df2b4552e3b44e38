"""Molecules on their own, calculated in periodic boxes."""

from itertools import product

import numpy as np
import pytest
from pyscf import dft, gto
from pyscf.pbc import gto as pbcgto
from pyscf.pbc.tools import madelung

from denser.atoms.sad import superposition, valence_charges
from denser.dft.gradient import mixed_gradient, scf_gradient, step_gradient
from denser.dft.isolated import Isolation, lattice_expansion
from denser.dft.one_step import one_step
from denser.dft.scf import scf
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE

COARSE = Recipe(spacing=0.22)
STEPS = np.array([-0.02, -0.01, 0.01, 0.02])  # bohr


def hydroxide(stretch: float = 0.0) -> Structure:
    """OH- along no axis of the box; its bond is longer by `stretch` (bohr)."""
    bond = (0.97 / BOHR + stretch) * np.array([1.0, 2.0, 2.0]) / 3
    return Structure(np.array([8, 1]), np.array([np.zeros(3), bond]), -1)


def box(padding: float) -> Grid:
    return Grid.around(hydroxide(), padding / BOHR, COARSE.spacing)


def slope(values: list[float]) -> float:
    return (8 * (values[2] - values[1]) - (values[3] - values[0])) / (12 * STEPS[2])


@pytest.fixture(scope="module")
def converged():
    return scf(hydroxide(), box(4.0), COARSE, conv_tol=1e-10, isolated=True)


def test_expansion_of_a_lattice():
    xi, tensor = lattice_expansion(10 * np.eye(3))
    assert xi == pytest.approx(0.2837297479)
    np.testing.assert_allclose(tensor, np.eye(3) * 4 * np.pi / 3000, atol=1e-12)
    cell = np.array([[9.0, 0, 0], [1.0, 11.0, 0], [0, -2.0, 14.0]])
    xi, tensor = lattice_expansion(cell)
    theirs = pbcgto.M(atom="He 0 0 0", a=cell, unit="bohr", basis="gth-szv", pseudo="gth-pbe")
    assert xi == pytest.approx(madelung(theirs, np.zeros(3)), rel=1e-6)
    # Dipoles within a large sphere, and Lorentz' field of what is outside.
    n = np.array(list(product(range(-34, 35), range(-28, 29), range(-22, 23))))
    r = n[np.any(n, axis=1)] @ cell
    d = np.linalg.norm(r, axis=1)
    r, d = r[d < 240], d[d < 240]
    direct = np.einsum("n,ni,nj->ij", 3 / d**5, r, r) - (1 / d**3).sum() * np.eye(3)
    direct += 4 * np.pi / (3 * np.linalg.det(cell)) * np.eye(3)
    np.testing.assert_allclose(tensor, direct, atol=2e-5)
    assert np.trace(tensor) == pytest.approx(4 * np.pi / np.linalg.det(cell))  # the background's


def test_the_potential_is_the_derivative_and_the_origin_does_not_matter():
    structure, grid = hydroxide(), box(3.0)
    isolation = Isolation(structure, valence_charges(structure), grid)
    rho = superposition(structure, grid).values.astype(float)
    rho *= 8 / (rho.sum() * grid.dv)
    change = np.random.default_rng(1).normal(size=grid.shape) * rho
    # the energy is a quadratic form, so differences are exact
    by_difference = (isolation.energy(rho + change) - isolation.energy(rho - change)) / 2
    assert np.vdot(isolation.potential(rho), change) * grid.dv == pytest.approx(by_difference)
    second = isolation.energy(rho + change) + isolation.energy(rho - change)
    second -= 2 * isolation.energy(rho)
    assert np.vdot(isolation.kernel(change), change) * grid.dv == pytest.approx(second)
    direction = np.random.default_rng(2).normal(size=(2, 3))
    energies = [
        Isolation(
            Structure(structure.numbers, structure.positions + h * direction, -1),
            valence_charges(structure),
            grid,
        ).energy(rho)
        for h in STEPS
    ]
    assert np.vdot(isolation.gradient(rho), direction) == pytest.approx(slope(energies))
    # everything two nodes further along z; the density ends before the faces
    rho[:, :, -3:] = rho[:, :, :3] = 0
    shift = np.array([0, 0, 2 * grid.spacing[2]])
    further = Structure(structure.numbers, structure.positions + shift, -1)
    same = Isolation(further, valence_charges(structure), grid).energy(np.roll(rho, 2, axis=2))
    assert same == pytest.approx(isolation.energy(rho))


def test_an_ion_has_the_energy_and_levels_of_open_space(converged):
    structure = hydroxide()
    mol = gto.M(
        atom=list(zip(structure.symbols, structure.positions, strict=True)),
        unit="bohr", charge=-1, basis="gth-tzv2p", pseudo="gth-pbe", verbose=0,
    )  # fmt: skip
    theirs = dft.RKS(mol)
    theirs.xc = "pbe"
    theirs.kernel()
    assert abs(converged.e_tot - theirs.e_tot) * HARTREE < 0.02  # 2.07 eV without
    homo, lumo = theirs.mo_energy[3], theirs.mo_energy[4]
    assert abs(converged.homo - homo) * HARTREE < 0.05  # 4.3 without
    assert abs(converged.lumo - lumo) * HARTREE < 0.05


def test_the_box_does_not_matter(converged):
    smaller = scf(hydroxide(), box(3.0), COARSE, 1e-6, dm0=converged.dm, isolated=True)
    assert abs(smaller.e_tot - converged.e_tot) * HARTREE < 0.01  # 0.5 eV without
    assert abs(smaller.homo - converged.homo) * HARTREE < 0.03


def test_forces_are_derivatives_of_the_energy():
    grid = box(2.0)
    direction = np.array([np.zeros(3), [1 / 3, 2 / 3, 2 / 3]])
    middle = scf(hydroxide(), grid, COARSE, 1e-10, isolated=True)
    energies = [
        scf(hydroxide(h), grid, COARSE, 1e-9, dm0=middle.dm, isolated=True).e_tot for h in STEPS
    ]
    gradient = scf_gradient(hydroxide(), grid, middle, COARSE, isolated=True)
    assert np.vdot(gradient, direction) == pytest.approx(slope(energies), abs=2e-5)
    steps = [
        one_step(superposition(hydroxide(h), grid), COARSE, isolated=True) for h in [*STEPS, 0.0]
    ]
    d_rho = slope([step.density_in.values for step in steps])
    for name, gradient_of in (("e_mixed", mixed_gradient), ("e_tot", step_gradient)):
        found = gradient_of(steps[-1])
        total = np.vdot(found.explicit, direction) + np.vdot(found.response, d_rho) * grid.dv
        assert total == pytest.approx(slope([getattr(s, name) for s in steps]), abs=2e-5), name
