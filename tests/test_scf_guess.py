"""Starting self-consistent calculations from predictions."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from pyscf import gto
from pyscf.pbc import gto as pbcgto
from pyscf.pbc.dft import rks

from denser.atoms.free_atoms import free_atom
from denser.atoms.sad import superposition
from denser.dft.guess import density_matrix, structure_of
from denser.dft.scf import scf
from denser.labels.reading import read_label
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.workflows.scf_guess import _sources, dm_from_density, pyscf_guess

LABELS = Path(__file__).parent / "reference" / "labels"


@pytest.fixture(scope="module")
def predictor():
    return Predictor("default", device="cpu")


def water(**options):
    atoms = molecule("H2O")
    places = list(zip(atoms.symbols, atoms.positions, strict=True))
    return gto.M(atom=places, **({"basis": "6-31g", "verbose": 0} | options))


@contextmanager
def periodic_rks(cell):
    mf = rks.RKS(cell, xc="pbe")
    yield mf
    mf._chkfile.close()  # else the garbage collector warns


def electrons(mf, dm):
    return np.einsum("...ij,ji->...", dm, mf.get_ovlp())


def test_a_predicted_start_saves_cycles_and_ends_at_the_same_energy(predictor):
    label = read_label(LABELS / "H2O.npz")
    plain = scf(label.structure, label.grid)
    density = predictor.density(superposition(label.structure, label.grid), periodic=True)
    dm = dm_from_density(density, Recipe())
    result = scf(label.structure, label.grid, dm0=dm)
    assert result.converged
    assert result.e_tot == pytest.approx(label.e_tot, abs=1e-8)
    assert result.cycles < plain.cycles


@pytest.mark.parametrize("options", [{}, {"basis": "gth-szv", "pseudo": "gth-pbe"}])
def test_the_users_own_molecule_in_his_own_basis_and_functional(predictor, options):
    mol = water(**options)
    mf = mol.RKS(xc="pbe0")
    dm = pyscf_guess(mf, predictor, padding=3.0)
    assert dm.shape == (mol.nao, mol.nao)
    assert electrons(mf, dm) == pytest.approx(mol.nelectron, abs=1e-9)
    energy = mf.kernel(dm)
    plain = mol.RKS(xc="pbe0")
    assert energy == pytest.approx(plain.kernel(), abs=1e-8)
    assert mf.cycles < plain.cycles


@pytest.mark.parametrize("kind", ["pbe0", "hf", "fitted"])
def test_a_coarse_calculation_saves_half_of_the_cycles(predictor, kind):
    """Of the same functional and basis, so that little is left to the calculation itself."""
    mol = water(basis="6-31g*")

    def calculation():
        mf = mol.RHF() if kind == "hf" else mol.RKS(xc="pbe0")
        return mf.density_fit() if kind == "fitted" else mf

    plain, mf = calculation(), calculation()
    near = pyscf_guess(mf, predictor, padding=3.0)
    far = pyscf_guess(mf, predictor, padding=3.0, coarse=False)
    start, of_matrix, end = mf.energy_tot(near), mf.energy_tot(far), plain.kernel()
    assert 0 <= start - end < 0.1 * (of_matrix - end)
    assert mf.kernel(near) == pytest.approx(end, abs=1e-8)
    assert mf.cycles <= 0.7 * plain.cycles


def test_a_start_does_not_change_the_calculation(predictor, tmp_path):
    mf = water().RKS(xc="pbe")
    mf.chkfile = str(tmp_path / "mine.chk")
    level, verbose = mf.grids.level, mf.verbose
    pyscf_guess(mf, predictor, padding=3.0)
    assert (mf.grids.level, mf.verbose, mf.mo_coeff) == (level, verbose, None)
    assert not (tmp_path / "mine.chk").exists()


def test_a_restricted_open_shell_has_the_same_orbitals_for_both_spins(predictor):
    mol = water(spin=2)
    dm = pyscf_guess(mol.ROHF(), predictor, padding=3.0)
    assert electrons(mol.UHF(), dm) == pytest.approx([6, 4], abs=1e-9)
    s = mol.intor("int1e_ovlp")  # the orbitals of the four are among those of the six
    np.testing.assert_allclose(dm[0] @ s @ dm[1], dm[1], atol=1e-9)


def test_radicals_start_from_their_own_spin_density(predictor):
    """With it, the start is closer than with the same orbitals for both spins."""
    atoms = molecule("CH3")
    places = list(zip(atoms.symbols, atoms.positions, strict=True))
    mol = gto.M(atom=places, basis="6-31g", spin=1, verbose=0)
    mf = mol.UKS(xc="pbe")
    dm = pyscf_guess(mf, predictor, padding=3.0)
    assert electrons(mf, dm) == pytest.approx([5, 4], abs=1e-9)
    same = pyscf_guess(mol.ROKS(xc="pbe"), predictor, padding=3.0)
    start, of_same, end = mf.energy_tot(dm), mf.energy_tot(same), mf.kernel()
    assert 0 <= start - end < 0.5 * (of_same - end) < 0.002


def test_spin_densities_at_points_are_those_of_the_grid(predictor):
    density = predictor.predict(molecule("CH3"), padding=3.0, spacing=0.25).density
    points = density.grid.points().reshape(-1, 3)
    m, gradient = density.continuous.spin_fields(points)
    np.testing.assert_allclose(m, density.spin_density.values.ravel(), atol=2e-6)
    step = 1e-3 * np.eye(3)
    some = points[::501]
    moved = [density.continuous.spin_fields(some + s * d)[0] for d in step for s in (1, -1)]
    slope = (np.array(moved[::2]) - moved[1::2]) / 2e-3
    np.testing.assert_allclose(gradient[:, ::501], slope, atol=2e-4)


def test_ghost_atoms_have_functions_and_no_density(predictor):
    mol = water()
    ghosts = [(f"X-{mol.atom_symbol(i)}", mol.atom_coord(i) + [0, 0, 8]) for i in range(3)]
    places = [(mol.atom_symbol(i), mol.atom_coord(i)) for i in range(3)]
    both = gto.M(atom=[*ghosts, *places], unit="bohr", basis="6-31g", verbose=0)
    mf = both.RKS(xc="pbe")
    dm = pyscf_guess(mf, predictor, padding=3.0)
    assert electrons(mf, dm) == pytest.approx(10, abs=1e-9)
    own = pyscf_guess(mol.RKS(xc="pbe"), predictor, padding=3.0)
    n = mol.nao
    assert np.abs(dm[n:, n:] - own).max() < 0.05


def neon(periodic):
    """Valence density of a free neon atom, and its place in bohr."""
    length = 10.0
    cell = np.eye(3) * length if periodic else None
    structure = Structure(np.array([10]), np.full((1, 3), length / 2 + 0.07), cell=cell)
    grid = Grid(np.zeros(3), np.eye(3) * length, (40, 40, 40))
    r = np.linalg.norm(grid.points() - structure.positions[0], axis=-1)
    charges = np.array([free_atom(10).valence], dtype=float)
    return Density(grid, free_atom(10).pseudo(r), structure=structure, valence_charges=charges)


@pytest.mark.filterwarnings("ignore:Function int1e_r2")  # PySCF says this of its own integral
@pytest.mark.parametrize(
    "options", [{"basis": "def2-svp"}, {"basis": "gth-dzvp", "pseudo": "gth-pbe"}]
)
def test_the_density_of_an_atom_gives_its_orbitals(options):
    """With all electrons and with a pseudopotential, against PySCF's converged atom."""
    density = neon(periodic=False)
    place = density.structure.positions[0]
    mf = gto.M(atom=[("Ne", place)], unit="bohr", verbose=0, **options).RKS(xc="pbe")
    mf.kernel()
    cores = np.array(["pseudo" not in options])
    dm = density_matrix(mf, _sources(density, cores, False), "pbe")
    assert 0 <= mf.energy_tot(dm) - mf.e_tot < 2e-4


@pytest.mark.filterwarnings("ignore:Function int1e_r2")
def test_the_same_in_a_cell():
    """The box is large, so that the density matrices of atom and cell agree."""
    isolated, periodic = neon(False), neon(True)
    place = isolated.structure.positions[0]
    for options, core in (
        ({"basis": "sto-3g"}, True), ({"basis": "gth-szv", "pseudo": "gth-pbe"}, False)
    ):  # fmt: skip
        mol = gto.M(atom=[("Ne", place)], unit="bohr", verbose=0, **options)
        cell = pbcgto.M(
            atom=[("Ne", place)], unit="bohr", a=periodic.grid.cell, verbose=0, precision=1e-6,
            mesh=[51] * 3, **options,
        )  # fmt: skip
        cores = np.array([core])
        dm = density_matrix(mol.RKS(xc="pbe"), _sources(isolated, cores, False), "pbe")
        with periodic_rks(cell) as mf:
            own = density_matrix(mf, _sources(periodic, cores, core), "pbe", core)
        np.testing.assert_allclose(own, dm, atol=2e-3)


def test_the_users_own_cell(predictor):
    mol = water()
    cell = pbcgto.M(
        atom=mol.atom, a=np.eye(3) * 12.0, unit="bohr", basis="gth-szv", pseudo="gth-pbe",
        verbose=0, precision=1e-6, mesh=[60] * 3,
    )  # fmt: skip
    cell.set_geom_(mol.atom_coords(), unit="bohr")
    with periodic_rks(cell) as mf:
        dm = pyscf_guess(mf, predictor)
        assert electrons(mf, dm) == pytest.approx(8, abs=1e-9)
        structure = structure_of(mf)
    assert structure.formula == "H2O" and structure.is_orthorhombic


def test_other_calculations_are_refused(predictor):
    sodium = gto.M(atom="Na 0 0 0; Cl 0 0 2.4", basis="lanl2dz", ecp="lanl2dz", verbose=0)
    ghosts = gto.M(atom="X-O 0 0 0", basis={"X-O": gto.basis.load("sto-3g", "O")}, verbose=0)
    for mf, message in (
        (water().GHF(), "found GHF"),
        (sodium.RKS(), "leaves 1 electrons, but that of the model .* leaves 9"),
        (ghosts.RHF(), "ghost atoms only"),
        (water(), "found Mole"),
    ):
        with pytest.raises(InputError, match=message):
            pyscf_guess(mf, predictor)
    cell = pbcgto.M(atom="He 0 0 0", a=np.eye(3) * 5, basis="gth-szv", pseudo="gth-pbe", verbose=0)
    for mf, message in (
        (cell.KRKS(kpts=cell.make_kpts([2, 1, 1])), "k points"),
        (cell.RKS(kpt=np.array([0.1, 0, 0])), "only at the Gamma point"),
    ):
        mf._chkfile.close()
        with pytest.raises(InputError, match=message):
            pyscf_guess(mf, predictor)
