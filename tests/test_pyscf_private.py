"""Each private name of PySCF that is used: it exists and gives the value that it should."""

from pathlib import Path

import numpy as np
import pytest
from pyscf import gto
from pyscf.pbc.grad import rks as rks_gradient

from denser.dft import pyscf_private, require_tested_pyscf
from denser.dft.functionals import hartree_xc
from denser.dft.scf import mean_field, scf
from denser.labels.reading import read_label
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure

LABELS = Path(__file__).parent / "reference" / "labels"


@pytest.fixture(scope="module")
def water():
    """Mean field, density matrix and density of a converged calculation on a coarse grid."""
    structure = read_label(LABELS / "H2O.npz").structure
    grid, recipe = Grid.around(structure, 5.0, 0.25), Recipe(spacing=0.25)
    result = scf(structure, grid, recipe, conv_tol=1e-11)
    mf = mean_field(structure, grid, recipe)
    return mf, result, grid, pyscf_private.density_on_mesh(mf, result.dm)


def test_the_density_holds_the_electrons(water):
    _, _, grid, rho = water
    assert rho.shape == grid.shape
    assert rho.sum() * grid.dv == pytest.approx(8, abs=2e-4)


def test_the_fock_matrix_is_that_of_pyscf(water):
    mf, result, grid, rho = water
    core = pyscf_private.core_hamiltonian(mf)
    ours = core + pyscf_private.potential_matrix(mf, hartree_xc(mf.xc, rho, grid)[0])
    theirs = core + np.asarray(mf.get_veff(dm=result.dm))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    # and the orbitals diagonalise it
    in_orbitals = result.mo_coeff.T @ ours @ result.mo_coeff
    np.testing.assert_allclose(in_orbitals, np.diag(result.mo_energy), atol=1e-5)


def test_the_long_ranged_pseudopotential_is_that_of_gaussian_charges(water):
    mf, _, grid, _ = water
    components = pyscf_private.long_range_pseudopotential(mf)
    assert components.shape == grid.shape
    g = 2 * np.pi / grid.cell[0, 0]  # the first wave along x
    phases = np.exp(-1j * g * mf.cell.atom_coords()[:, 0])
    charges = mf.cell.atom_charges()
    widths = [pyscf_private.basis_and_pseudopotentials(mf.cell)[1][s][1] for s in mf.cell.elements]
    gaussians = np.exp(-0.5 * (g * np.array(widths)) ** 2)
    expected = -4 * np.pi / g**2 * np.sum(charges * phases * gaussians)
    assert components[1, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_derivatives_are_those_of_pyscf(water):
    mf, result, grid, rho = water
    v = hartree_xc(mf.xc, rho, grid)[0]
    pieces = (
        pyscf_private.pseudopotential_gradient(mf, result.dm),
        -2 * pyscf_private.contract_by_atom(mf, mf.cell.pbc_intor("int1e_ipkin"), result.dm),
        -2
        * pyscf_private.contract_by_atom(
            mf, pyscf_private.potential_matrix_slope(mf, v), result.dm
        ),
        pyscf_private.nuclear_repulsion_gradient(mf),
    )
    occupied = result.mo_occ > 0
    c = result.mo_coeff[:, occupied]
    weighted = 2 * (c * result.mo_energy[occupied]) @ c.T
    overlap = mf.cell.pbc_intor("int1e_ipovlp")
    total = sum(pieces) + 2 * pyscf_private.contract_by_atom(mf, overlap, weighted)
    mf.mo_energy, mf.mo_coeff, mf.mo_occ = result.mo_energy, result.mo_coeff, result.mo_occ
    mf.e_tot, mf.converged = result.e_tot, True
    np.testing.assert_allclose(total, rks_gradient.Gradients(mf).kernel(), atol=1e-8)


def test_a_charged_cell_is_not_reported_on():
    ion = Structure([2, 1], [[0, 0, 0], [0, 0, 1.5]], charge=1)
    assert scf(ion, Grid.around(ion, 4.0, 0.3), Recipe(spacing=0.3)).converged


def test_contraction_coefficients_normalise_the_basis():
    atom = gto.M(atom="O", basis="gth-szv", pseudo="gth-pbe", verbose=0)
    coefficients = pyscf_private.contraction_coefficients(atom, 0)
    a = atom.bas_exp(0)
    radial = np.sqrt(np.pi) / (4 * (a[:, None] + a) ** 1.5)  # integral r^2 exp(-(a + b) r^2) dr
    assert (coefficients.T @ radial @ coefficients).item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("version", ["2.13.1", "2.15.0", "3.0"])
def test_versions_of_pyscf_that_were_not_tested_are_refused(version):
    with pytest.raises(InputError, match=rf"PySCF {version} is installed.*'pyscf>=2.14,<2.15'"):
        require_tested_pyscf(version)
    require_tested_pyscf("2.14.7")
