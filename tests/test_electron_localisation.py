"""ELF and LOL: one orbital, the electron gas, the kinetic energy, and CP2K."""

from pathlib import Path

import numpy as np
import pytest

from denser.analysis.energies.electron_localisation import (
    NO_DENSITY,
    THOMAS_FERMI,
    localisation,
    localisation_of_density,
    localisation_of_orbitals,
)
from denser.analysis.fields import gradient_norm
from denser.atoms.free_atoms import complete
from denser.atoms.sad import superposition
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.kinetic_density import kinetic_density
from denser.dft.one_step import one_step
from denser.dft.scf import scf
from denser.labels.reading import read_label
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.workflows.evaluate.measure import reference_density

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def label():
    return read_label(REFERENCE / "labels" / "H2CO.npz")


def test_kinetic_density_is_that_of_the_basis_functions(label):
    structure, grid, c = label.structure, label.grid, label.mo_coeff
    found = kinetic_density(structure, c, grid)
    cell = build_cell(structure, grid)
    kinetic = 2 * np.einsum("pi,pq,qi", c, cell.pbc_intor("int1e_kin"), c)
    assert found.tau.sum() * grid.dv == pytest.approx(kinetic, rel=1e-6)
    assert found.rho.sum() * grid.dv == pytest.approx(12, rel=1e-6)
    nodes = np.random.default_rng(4).integers(0, grid.size, 300)
    points = grid.points().reshape(-1, 3)[nodes] - grid.origin
    psi = np.asarray(cell.pbc_eval_gto("GTOval_sph_deriv1", points)) @ c
    slope = 4 * (psi[0] * psi[1:]).sum(axis=-1)
    for values, expected in (
        (found.rho, 2 * np.square(psi[0]).sum(axis=-1)),
        (found.tau, np.square(psi[1:]).sum(axis=(0, 2))),
        (found.squared_gradient, np.square(slope).sum(axis=0)),
    ):
        np.testing.assert_allclose(values.ravel()[nodes], expected, atol=2e-6)
    with pytest.raises(InputError, match="basis functions, so its orbitals must have shape"):
        kinetic_density(structure, c[:-1], grid)


def test_one_orbital_is_localised_everywhere():
    hydrogen = Structure(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 1.4]]))
    step = one_step(superposition(hydrogen, Grid.around(hydrogen, padding=5.0)))
    found = localisation(step)
    here = found.elf.values > 0
    assert here.mean() > 0.5
    np.testing.assert_allclose(found.elf.values[here], 1, atol=1e-6)
    # Von Weizsaecker's tau is exact, so LOL follows from the density.
    rho = step.density.values
    inside = rho > 1e-2
    tau_w = gradient_norm(step.density).values[inside] ** 2 / (8 * rho[inside])
    lol = 1 / (1 + tau_w / (THOMAS_FERMI * rho[inside] ** (5 / 3)))
    np.testing.assert_allclose(found.lol.values[inside], lol, atol=5e-3)
    half = localisation(step, step.density.grid.coarsen(2))
    np.testing.assert_allclose(half.lol.values, found.lol.values[::2, ::2, ::2], atol=1e-7)


def test_electron_gas_is_one_half():
    ghost = Structure(np.array([2]), np.array([[2.0, 2, 2]]), cell=np.eye(3) * 4.0)
    grid = Grid(np.zeros(3), np.eye(3) * 4.0, (8,) * 3)
    gas = Density(grid, np.full(grid.shape, 2 / 64), structure=ghost, valence_charges=[2.0])
    found = localisation_of_density(gas)
    np.testing.assert_allclose(found.elf.values, 0.5)
    np.testing.assert_allclose(found.lol.values, 0.5)
    energy = THOMAS_FERMI * (2 / 64) ** (5 / 3) * 64
    assert found.kinetic_energy == pytest.approx(energy)


def test_a_sharp_peak_leaves_no_stripes_along_the_axes():
    """rho = sum_k c_k exp(-a_k r^2), whose derivatives are known; no grid resolves the first."""
    atom = Structure(np.array([8]), np.array([[0.05, 0.03, -0.02]]))
    grid = Grid.around(atom, 6.0, 0.16)
    x = grid.points() - atom.positions[0]
    r2 = np.square(x).sum(axis=-1)
    rho, slope, laplacian = np.zeros((3, *grid.shape))
    for c, a in ((2.0, 20.0), (0.5, 1.4), (0.02, 0.3)):
        part = c * np.exp(-a * r2)
        rho += part
        slope -= 2 * a * part  # grad rho = slope x
        laplacian += (4 * a**2 * r2 - 6 * a) * part
    squared = slope**2 * r2
    tau_0 = THOMAS_FERMI * rho ** (5 / 3)
    excess = tau_0 + squared / (72 * rho) + laplacian / 6 - squared / (8 * rho)
    exact = 1 / (1 + (np.maximum(excess, 0) / tau_0) ** 2)
    valence = [float(rho.sum() * grid.dv)]
    found = localisation_of_density(Density(grid, rho, structure=atom, valence_charges=valence))
    here = (rho > NO_DENSITY) & (r2 > 1)
    assert here.sum() > 20_000 and exact[here].max() > 0.3
    np.testing.assert_allclose(found.elf.values[here], exact[here], atol=0.01)


def test_elf_of_cp2k():
    data = np.load(REFERENCE / "cp2k" / "H2O_elf.npz")
    structure = Structure(data["numbers"], data["positions"])
    grid = Grid(np.zeros(3), np.diag(data["box"]), tuple(data["mesh"]))
    result = scf(structure, grid, conv_tol=1e-7)
    c = result.mo_coeff[:, result.mo_occ > 0]
    coarse = grid.coarsen(4)
    found = localisation_of_orbitals(structure, c, coarse)
    ours = kinetic_density(structure, c, coarse)
    here = ours.rho > 0.1
    np.testing.assert_allclose(found.elf.values[here], data["elf"][here], atol=5e-4)
    # CP2K adds 2.871e-5 to tau - tau_W, by which its ELF fades in the tails; so here.
    tau_0 = THOMAS_FERMI * ours.rho ** (5 / 3)
    excess = ours.tau - ours.squared_gradient / (8 * ours.rho) + 2.871e-5
    here = ours.rho > 1e-5
    faded = 1 / (1 + (excess / tau_0) ** 2)
    assert np.count_nonzero(here) > 2000
    np.testing.assert_allclose(faded[here], data["elf"][here], atol=1e-3)


def test_the_density_alone_says_nearly_the_same(label):
    exact = localisation_of_orbitals(label.structure, label.mo_coeff, label.grid)
    density = reference_density(label)
    found = localisation_of_density(complete(density))
    between = (density.values > 1e-2) & (np.abs(complete(density).values - density.values) < 1e-3)
    correlation = np.corrcoef(exact.elf.values[between], found.elf.values[between])[0, 1]
    assert correlation > 0.9
    assert found.source == "density" and "approximate" in found.lines()[0]
    assert exact.to_dict()["e_kinetic_hartree"] == pytest.approx(17.8226, abs=1e-3)
    for values in (found.elf.values, found.lol.values):
        assert values.min() >= 0 and values.max() <= 1
        assert not values[density.values < NO_DENSITY / 10].any()


def test_localisation_of_a_step_uses_its_occupied_orbitals(label):
    density = density_from_dm(
        build_cell(label.structure, label.grid),
        2 * label.mo_coeff @ label.mo_coeff.T,
        label.grid,
        label.structure,
    )
    step = one_step(density, Recipe())
    coarse = label.grid.coarsen(2)
    expected = localisation_of_orbitals(label.structure, label.mo_coeff, coarse)
    found = localisation(step, coarse)
    np.testing.assert_allclose(found.tau.values, expected.tau.values, atol=1e-4)
