"""Density fitting against the mathematics of least squares, and against PySCF's integrals."""

from pathlib import Path

import numpy as np
import pytest
import torch

from denser.atoms.sad import superposition
from denser.dft import fitting
from denser.dft.fitting import AuxiliaryBasis, auxiliary_shells, fit_density
from denser.fields.metrics import err_rho
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure

LABELS = Path(__file__).parent / "reference" / "labels"


def reference(name):
    label = read_label(LABELS / f"{name}.npz")
    structure = label.structure
    sad = superposition(structure, label.grid)
    values = density_on_grid(
        structure.numbers, structure.positions, label.mo_coeff, label.grid, dtype=torch.float64
    )
    return sad, sad.with_values(values.numpy())


@pytest.fixture(scope="module")
def hcn():
    """SAD of HCN on an asymmetric box that does not begin at the origin."""
    structure = Structure([1, 6, 7], [[0.2, 0.1, -2.1], [0.1, -0.2, 0.0], [0.0, 0.3, 2.2]])
    grid = Grid([-4.0, -4.5, -6.0], np.diag([8.4, 9.0, 12.6]), (42, 45, 63))
    return superposition(structure, grid)


def test_a_density_of_auxiliary_functions_is_fitted_exactly(hcn):
    shells = auxiliary_shells(hcn.structure)
    auxiliary = AuxiliaryBasis(hcn, shells)
    rng = np.random.default_rng(1)
    values = auxiliary.evaluate(rng.normal(size=len(auxiliary.overlap)))
    fitted = fit_density(hcn.with_values(values))
    assert np.abs(fitted.values - values).max() < 1e-6 * np.abs(values).max()


def test_the_fit_is_the_best_one_with_its_electrons(hcn):
    """The residual is orthogonal to every function that holds no electrons."""
    fitted = fit_density(hcn)
    assert fitted.integrate() == pytest.approx(hcn.integrate(), abs=1e-9)
    auxiliary = AuxiliaryBasis(hcn, auxiliary_shells(hcn.structure))
    overlap = auxiliary.project(hcn.values - fitted.values)
    charges = auxiliary.charges()
    multiplier = overlap @ charges / (charges @ charges)
    assert np.abs(overlap - multiplier * charges).max() < 1e-5 * np.abs(charges).max()
    assert abs(multiplier) > 0  # the constraint is felt
    assert 0 < err_rho(fitted, hcn) < 0.01


def test_integrals_and_values_are_those_of_pyscf(hcn):
    """On a grid fine enough that quadrature is exact for the tightest functions."""
    from pyscf.df import aug_etb
    from pyscf.pbc import gto

    structure = Structure([1, 9], [[0.0, 0.2, -0.7], [0.1, 0.0, 1.1]])
    grid = Grid([-3.0, -3.5, -3.0], np.diag([6.5, 7.0, 7.5]), (84, 90, 96))
    density = superposition(structure, grid)
    cell = gto.Cell()
    cell.atom = list(zip(structure.symbols, structure.positions - grid.origin, strict=True))
    cell.unit, cell.a, cell.verbose, cell.precision = "bohr", grid.cell, 0, 1e-10
    cell.basis, cell.pseudo = Recipe().basis, Recipe().pseudo
    cell.build()
    basis = aug_etb(cell)
    shells = auxiliary_shells(structure)
    expected = [(i, b[0], b[1][0]) for i, s in enumerate(structure.symbols) for b in basis[s]]
    assert [shell[:2] for shell in shells] == [shell[:2] for shell in expected]
    np.testing.assert_allclose([s[2] for s in shells], [s[2] for s in expected])
    cell.basis = basis
    cell.build()
    overlap = cell.pbc_intor("int1e_ovlp").real
    norm = 1 / np.sqrt(np.diag(overlap))
    auxiliary = AuxiliaryBasis(density, shells)
    np.testing.assert_allclose(auxiliary.overlap, overlap * norm * norm[:, None], atol=2e-5)
    rng = np.random.default_rng(2)
    c = rng.normal(size=norm.size)
    nodes = (slice(None, None, 23), slice(None, None, 19), slice(None, None, 21))
    points = (grid.points() - grid.origin)[nodes].reshape(-1, 3)
    found = auxiliary.evaluate(c)[nodes].ravel()
    np.testing.assert_allclose(
        found, cell.pbc_eval_gto("GTOval_sph", points) @ (norm * c), atol=1e-4
    )


def test_fit_is_better_than_sad_and_worse_than_the_density():
    for name, percent in (("H2O", 0.508), ("CH4", 0.319)):
        sad, rho = reference(name)
        error = 100 * err_rho(fit_density(rho), rho)
        assert error == pytest.approx(percent, abs=0.005)
        assert error < 0.1 * 100 * err_rho(sad, rho)


def test_more_functions_fit_better():
    _, rho = reference("H2O")
    errors = [err_rho(fit_density(rho, beta=beta), rho) for beta in (3.0, 2.0, 1.6)]
    assert errors[0] > errors[1] > errors[2]


def test_what_cannot_be_fitted(hcn, monkeypatch):
    with pytest.raises(InputError, match="ratio beta above 1, found 1"):
        fit_density(hcn, beta=1.0)
    skewed = Grid(hcn.grid.origin, hcn.grid.cell + np.eye(3, k=1), hcn.grid.shape)
    density = type(hcn)(
        skewed, hcn.values, structure=hcn.structure, valence_charges=hcn.valence_charges
    )
    with pytest.raises(InputError, match="orthorhombic"):
        fit_density(density)
    monkeypatch.setattr(fitting, "MAX_FUNCTIONS", 100)
    with pytest.raises(InputError, match=r"CHN would need \d+ fitting functions"):
        fit_density(hcn)
