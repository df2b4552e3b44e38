import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from denser.analysis.energies.orbital_free import (
    KINETIC,
    THOMAS_FERMI,
    density_gradient,
    kinetic_energies,
    orbital_free_energies,
)
from denser.atoms.free_atoms import complete
from denser.atoms.sad import superposition, valence_charges
from denser.dft.functionals import xc_energy
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

# Kinetic functionals


def radial(density, r_max=40.0, n=800):
    """Kinetic energies of a spherical density given as f(r) -> (rho, drho/dr)."""
    x, w = np.polynomial.legendre.leggauss(n)
    t = (x + 1) / 2
    r, weights = r_max * t**3, w * 1.5 * r_max * t**2
    rho, slope = density(r)
    zero = np.zeros_like(slope)
    return kinetic_energies(rho, np.array([slope, zero, zero]), 4 * np.pi * r**2 * weights)


@pytest.mark.parametrize(("z", "n"), [(1.0, 1.0), (3.0, 2.0)])
def test_hydrogen_like_densities(z, n):
    def density(r):
        rho = n * z**3 / np.pi * np.exp(-2 * z * r)
        return rho, -2 * z * rho

    energies = radial(density)
    assert energies["von-weizsaecker"] == pytest.approx(n * z**2 / 2, rel=1e-6)
    # integral of exp(-10 z r / 3) over space is 8 pi / (10 z / 3)^3
    exact = THOMAS_FERMI * (n * z**3 / np.pi) ** (5 / 3) * 8 * np.pi / (10 * z / 3) ** 3
    assert energies["thomas-fermi"] == pytest.approx(exact, rel=1e-6)
    assert energies["tf+vw/5"] == pytest.approx(exact + n * z**2 / 10, rel=1e-6)
    assert n * z**2 / 2 < energies["lkt"] < n * z**2 / 2 + exact


def test_thomas_fermi_hydrogen_is_the_textbooks():
    energies = radial(lambda r: (np.exp(-2 * r) / np.pi, -2 * np.exp(-2 * r) / np.pi))
    assert energies["thomas-fermi"] == pytest.approx(0.2891, abs=1e-4)  # Parr and Yang, table 6.1


def test_the_uniform_gas_has_no_gradient():
    rho = np.full((4, 4, 4), 0.03)
    energies = kinetic_energies(rho, np.zeros((3, 4, 4, 4)), 0.5)
    assert energies["lkt"] == pytest.approx(energies["thomas-fermi"])
    k_f = (3 * np.pi**2 * 0.03) ** (1 / 3)
    assert energies["thomas-fermi"] == pytest.approx(0.3 * k_f**2 * 0.03 * 32)


def test_coordinate_scaling():
    """T[x^3 rho(x r)] = x^2 T[rho], which every kinetic functional here must obey."""

    def density(r, x):
        rho = x**3 * (1 + (x * r) ** 2) * np.exp(-1.3 * (x * r) ** 2)
        slope = x**4 * (2 * x * r - 2.6 * x * r * (1 + (x * r) ** 2)) * np.exp(-1.3 * (x * r) ** 2)
        return rho, slope

    one, two = (radial(lambda r, x=x: density(r, x), 15.0) for x in (1.0, 1.7))
    for name in KINETIC:
        assert two[name] == pytest.approx(1.7**2 * one[name], rel=1e-6)


def test_gradients_in_any_cell():
    cell = np.array([[9.0, 0, 0], [1.0, 10.0, 0], [-0.5, 0.7, 9.5]])
    grid = Grid(np.zeros(3), cell, (48, 50, 52))
    x = grid.points() - cell.sum(axis=0) / 2
    rho = np.exp(-(x**2).sum(axis=-1))
    slope = density_gradient(rho, grid)
    near = (x**2).sum(axis=-1) < 9  # dense and thin
    for i in range(3):
        np.testing.assert_allclose(slope[i][near], (-2 * x[..., i] * rho)[near], atol=2e-7)


# A Gaussian, whose energies are known


@pytest.fixture(scope="module")
def gaussian():
    structure = Structure([1, 1], [[0.0, 0.0, -0.7], [0.0, 0.0, 0.7]])
    grid = Grid.around(structure, 9.0, 0.25)
    r2 = (grid.points() ** 2).sum(axis=-1)
    values = 2 * (0.8 / np.pi) ** 1.5 * np.exp(-0.8 * r2)
    return Density(grid, values, structure=structure, valence_charges=[1.0, 1.0])


def test_energies_of_a_gaussian(gaussian):
    energies = orbital_free_energies(gaussian, ("slater,", "pbe"))
    # one doubly occupied orbital exp(-0.4 r^2) has T = 2 * 3/2 * 0.4
    assert energies.kinetic["von-weizsaecker"] == pytest.approx(1.2, rel=1e-6)
    assert energies.hartree == pytest.approx(4 * np.sqrt(0.8 / (2 * np.pi)), rel=1e-6)
    slater = -0.75 * (3 / np.pi) ** (1 / 3)
    exact = slater * (2 * (0.8 / np.pi) ** 1.5) ** (4 / 3) * (np.pi * 3 / 3.2) ** 1.5
    assert energies.exchange_correlation["slater,"] == pytest.approx(exact, rel=1e-6)
    assert energies.kinetic["lkt"] > energies.kinetic["von-weizsaecker"]


def test_sums_over_blocks_are_the_sum(gaussian, monkeypatch):
    from denser.dft import functionals

    rho = gaussian.values.ravel()
    slope = np.zeros((3, rho.size))
    whole = xc_energy("pbe", rho, slope, 1.0)
    monkeypatch.setattr(functionals, "_BLOCK", 1000)
    assert xc_energy("pbe", rho, slope, 1.0) == pytest.approx(whole, rel=1e-12)


# Molecules, against PySCF


@pytest.fixture(scope="module")
def water():
    """A converged water with pseudopotentials, isolated, and its density at any spacing."""
    from pyscf import gto
    from pyscf.pbc import gto as pbcgto

    structure = Structure.from_ase(molecule("H2O"))
    mol = gto.M(
        atom=[[s, tuple(x)] for s, x in zip("OHH", structure.positions, strict=True)],
        unit="bohr",
        basis={s: pbcgto.basis.load("gth-tzv2p", s) for s in "OH"},
        pseudo={s: pbcgto.pseudo.load("gth-pbe", s) for s in "OH"},
        verbose=0,
    )
    mf = mol.RKS(xc="pbe")
    mf.chkfile = None
    mf._chkfile.close()  # else the garbage collector warns
    mf.grids.level = 4
    mf.kernel()
    occupied = mf.mo_coeff[:, mf.mo_occ > 0]
    charges = valence_charges(structure)

    def density(padding, spacing):
        grid = Grid.around(structure, padding, spacing)
        values = density_on_grid(structure.numbers, structure.positions, occupied, grid).numpy()
        return Density(grid, values, structure=structure, valence_charges=charges)

    return mf, density


def test_energies_of_a_converged_molecule_are_pyscfs(water):
    from pyscf.scf import atom_hf_pp

    mf, density = water
    energies = orbital_free_energies(density(7.0, 0.12), ("pbe", "lda,vwn"))
    dm = mf.make_rdm1()
    assert energies.hartree == pytest.approx(mf.scf_summary["coul"], abs=5e-5)
    assert energies.exchange_correlation["pbe"] == pytest.approx(mf.scf_summary["exc"], abs=5e-5)
    _, lda, _ = mf._numint.nr_rks(mf.mol, mf.grids, "lda,vwn", dm)
    assert energies.exchange_correlation["lda,vwn"] == pytest.approx(lda, abs=5e-5)
    local = np.vdot(dm, atom_hf_pp.get_pp_loc(mf.mol))
    assert energies.external_local == pytest.approx(local, abs=5e-4)
    kinetic = np.vdot(dm, mf.mol.intor("int1e_kin"))
    assert energies.kinetic["von-weizsaecker"] < kinetic  # the exact lower bound
    assert energies.kinetic["thomas-fermi"] < kinetic
    assert abs(energies.kinetic["lkt"] / kinetic - 1) < 0.1


def test_kinetic_energies_do_not_ring_in_the_vacuum(water):
    """At the default spacing spectral gradients alone would give 140 hartree too much."""
    mf, density = water
    ao = mf._numint.eval_ao(mf.mol, mf.grids.coords, deriv=1)
    rho = mf._numint.eval_rho(mf.mol, ao, mf.make_rdm1(), xctype="GGA")
    exact = kinetic_energies(rho[0], rho[1:], mf.grids.weights)
    found = orbital_free_energies(density(7.6, 0.1571)).kinetic
    for name in KINETIC:
        assert found[name] == pytest.approx(exact[name], rel=2e-3)


def test_energies_of_a_cell_are_pyscfs():
    from pyscf.pbc.gto.pseudo import get_vlocG
    from pyscf.pbc.tools import pbc

    from denser.dft.cell import build_cell

    structure = replace(Structure.from_ase(molecule("H2O")), cell=np.diag([9.0, 10.0, 11.0]))
    grid = Grid.periodic(structure, 0.16)
    density = superposition(structure, grid)
    energies = orbital_free_energies(density)
    cell = build_cell(structure, grid)
    rho_g = pbc.fft(density.values, cell.mesh)
    hartree = 0.5 * np.sum(np.abs(rho_g) ** 2 * pbc.get_coulG(cell)) * grid.dv**2 / grid.volume
    assert energies.hartree == pytest.approx(hartree, rel=1e-9)
    v_g = -np.sum(cell.get_SI() * get_vlocG(cell), axis=0)
    local = np.sum(pbc.ifft(v_g, cell.mesh).real * density.values.ravel())
    assert energies.external_local == pytest.approx(local, abs=1e-4)
    assert energies.periodic and "per cell" in energies.lines()[len(KINETIC)]


def test_one_orbital_is_all_von_weizsaecker():
    """For two electrons in one orbital T_vW is the kinetic energy itself."""
    from pyscf import gto
    from pyscf.pbc import gto as pbcgto

    structure = Structure([1, 1], [[0.0, 0.0, -0.7], [0.1, 0.0, 0.7]])
    mol = gto.M(
        atom=[["H", tuple(x)] for x in structure.positions],
        unit="bohr",
        basis={"H": pbcgto.basis.load("gth-tzv2p", "H")},
        verbose=0,
    )
    mf = mol.RHF()
    mf.chkfile = None
    mf._chkfile.close()  # else the garbage collector warns
    mf.kernel()
    grid = Grid.around(structure, 8.0, 0.15)
    values = density_on_grid(structure.numbers, structure.positions, mf.mo_coeff[:, :1], grid)
    density = Density(grid, values.numpy(), structure=structure, valence_charges=[1.0, 1.0])
    kinetic = np.vdot(mf.make_rdm1(), mol.intor("int1e_kin"))
    found = orbital_free_energies(density).kinetic["von-weizsaecker"]
    assert found == pytest.approx(kinetic, rel=1e-4)


# Edges


def test_what_cannot_be_answered_is_said(gaussian):
    for xc in ("b3lyp", "scan", "hf", "wb97m-v"):
        with pytest.raises(InputError, match="needs orbitals or a nonlocal kernel"):
            orbital_free_energies(gaussian, (xc,))
    with pytest.raises(InputError, match="does not know functional 'nonsense'"):
        orbital_free_energies(gaussian, ("nonsense",))
    with pytest.raises(InputError, match="need a valence density"):
        orbital_free_energies(complete(gaussian))
    other = replace(gaussian, structure=Structure([11, 1], gaussian.structure.positions))
    assert orbital_free_energies(other).external_local is None  # charge 1 is not GTH's 9


def test_report_and_json(gaussian):
    result = orbital_free_energies(gaussian, ("pbe", "b88,lyp"))
    data = json.loads(json.dumps(result.to_dict()))
    assert set(data["e_kinetic_hartree"]) == set(KINETIC)
    assert data["e_exchange_correlation_hartree"]["b88,lyp"] < 0
    assert any("Hartree" in line and " Ha" in line for line in result.lines())
