"""Critical points of bonds without a grid."""

import csv

import numpy as np
import pytest
from ase.build import molecule
from pyscf import dft, gto

import denser
from denser.analysis.topology.bond_points import _add_penetration, bond_points
from denser.atoms.free_atoms import free_atom
from denser.atoms.radii import bonds
from denser.io.qtaim_embed import BONDS
from denser.model.predictor import Predictor
from denser.types.structure import Structure


@pytest.fixture(scope="module")
def formaldehyde():
    structure = Structure.of(molecule("H2CO"))
    gaussians = Predictor("default").gaussians(structure)[0]
    return structure, gaussians, bond_points(structure, gaussians, bonds(structure))


def test_agrees_with_the_search_on_a_grid(formaldehyde):
    """The other search has splines through a grid and starts everywhere."""
    structure, _, found = formaldehyde
    points = denser.analyze(denser.predict(structure, spacing=0.1), ["qtaim"])["qtaim"]
    known = {tuple(sorted(bond.atoms)): bond.point for bond in points.bonds}
    assert len(known) == len(found.pairs) == 3
    for k, pair in enumerate(found.pairs):
        i = known[tuple(sorted(map(int, pair)))]
        assert found.rho[k] == pytest.approx(points.rho[i], abs=1e-4)
        assert found.ellipticity[k] == pytest.approx(points.ellipticities[i], abs=3e-3)
        assert found.laplacian[k] == pytest.approx(points.laplacians[i], abs=0.03)
        assert found.kinetic[k] == pytest.approx(points.kinetic_energy_densities[i], abs=0.01)
        total = points.kinetic_energy_densities[i] + points.potential_energy_densities[i]
        assert found.energy[k] == pytest.approx(total, abs=0.005)


def test_gradient_is_that_of_the_density(formaldehyde):
    _, gaussians, found = formaldehyde
    rho, slopes = gaussians.gradients(found.positions)
    assert rho == pytest.approx(gaussians.at(found.positions), abs=1e-5)
    step = np.array([1e-2, 0, 0])
    far = gaussians.at(found.positions + step) - gaussians.at(found.positions - step)
    assert slopes[:, 0] == pytest.approx(far / 0.02, abs=2e-3)


def test_turns_with_the_molecule(formaldehyde):
    structure, _, found = formaldehyde
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turned = Structure(structure.numbers, structure.positions @ turn)
    other = bond_points(turned, Predictor("default").gaussians(turned)[0], found.pairs)
    assert other.rho == pytest.approx(found.rho, abs=2e-4)
    assert other.positions == pytest.approx(found.positions @ turn, abs=2e-3)


def test_atoms_that_are_not_bonded_have_no_point(formaldehyde):
    structure, gaussians, _ = formaldehyde
    hydrogens = np.flatnonzero(structure.numbers == 1)
    found = bond_points(structure, gaussians, [hydrogens])
    assert np.isnan(found.rho).all()
    assert np.isfinite(found.lengths).all()


def test_table_of_bonds(run, tmp_path):
    (tmp_path / "two.smi").write_text("CO methanol\n[Na+].[Cl-] salt\nC=O formaldehyde\n")
    command = ("charges", "two.smi", "--charges", "cm5", "-o", "atoms.csv", "--bonds", "bonds.csv")
    code, out, err = run(*command)
    assert code == 0, err
    assert "bonds in bonds.csv" in out
    first = (tmp_path / "bonds.csv").read_text()
    rows = list(csv.DictReader(first.splitlines()))
    assert [row["molecule"] for row in rows] == ["methanol"] * 5 + ["formaldehyde"] * 3
    carbonyl = rows[5]
    assert (carbonyl["element1"], carbonyl["element2"], carbonyl["order"]) == ("C", "O", "2")
    assert float(carbonyl["density_e_per_bohr3"]) == pytest.approx(0.41, abs=0.02)
    assert run(*command, "--resume")[0] == 0
    assert (tmp_path / "bonds.csv").read_text() == first


def test_bad_tables(run):
    code, _, err = run("charges", "--smiles", "CO", "-o", "a.csv", "--bonds", "bonds.txt")
    assert (code, "a table ends in .csv or .parquet" in err) == (2, True)
    code, _, err = run(
        "charges", "--smiles", "CO", "-o", "a.csv", "--bonds", "b.csv", "--conformers"
    )
    assert (code, "leave out --conformers" in err) == (2, True)


def test_layout_of_qtaim_embed(run, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "two.smi").write_text("C=O formaldehyde\n[Na+].[Cl-] salt\n")
    command = ("charges", "two.smi", "--charges", "cm5,adch", "-o", "a.csv", "--bonds")
    code, _, err = run(*command, "b.parquet", "--layout", "qtaim-embed")
    assert code == 0, err
    rows = parquet.read_table(tmp_path / "b.parquet").to_pylist()
    assert [row["ids"] for row in rows] == ["formaldehyde", "salt_1", "salt_2"]
    first, ion, _ = rows
    assert first["elements"] == ["C", "O", "H", "H"] and ion["bonds"] == []
    assert first["bonds"] == first["extra_feat_bond_indices_qtaim"] == [[0, 1], [0, 2], [0, 3]]
    assert run(*command, "b.csv", "--resume")[0] == 0
    table = csv.DictReader((tmp_path / "b.csv").read_text().splitlines())
    for k, row in enumerate(table):
        own = {name: values[k] for name, values in first.items() if name in BONDS}
        hessian = [float(row[f"lambda{i}_e_per_bohr5"]) for i in (1, 2, 3)]
        assert own["extra_feat_bond_density_all"] == float(row["density_e_per_bohr3"])
        assert own["extra_feat_bond_eig_hess"] == pytest.approx(sum(hessian), abs=1e-5)
        assert own["extra_feat_bond_det_hessian"] == pytest.approx(np.prod(hessian), rel=1e-4)
        assert own["extra_feat_bond_eta"] == pytest.approx(-hessian[0] / hessian[2], rel=1e-4)
        parts = own["extra_feat_bond_esp_nuc"] + own["extra_feat_bond_esp_e"]
        assert own["extra_feat_bond_esp_total"] == pytest.approx(parts, abs=1e-4)
        assert own["extra_feat_bond_esp_e"] < 0 < own["extra_feat_bond_esp_total"]
    charges = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    assert first["adch_charge"] == [float(row["adch_e"]) for row in charges][:4]
    assert sum(first["cm5_charge"]) == pytest.approx(0, abs=1e-6)
    code, _, err = run(*command, "b.csv", "--layout", "qtaim-embed")
    assert code == 2 and "--layout qtaim-embed is for lists in Parquet" in err


def test_values_are_those_of_all_electrons():
    """The critical point of a calculation with all electrons; the potentials at one point."""
    structure = Structure.of(molecule("H2CO"))
    found = bond_points(structure, Predictor("default").gaussians(structure)[0], [[0, 1]])
    atoms = list(zip(structure.symbols, structure.positions, strict=True))
    mol = gto.M(atom=atoms, unit="bohr", basis="def2-tzvp", verbose=0)
    mf = dft.RKS(mol, xc="pbe").density_fit()
    mf.kernel()
    dm = mf.make_rdm1()
    start, step = found.positions[0], 1e-3
    x, shifts = start.copy(), 1e-3 * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
    for _ in range(6):
        orbitals = mol.eval_gto("GTOval_sph_deriv1", x + shifts)
        rho = mf._numint.eval_rho(mol, orbitals, dm, xctype="GGA")
        hessian = (rho[1:, 1:4] - rho[1:, 4:]) / (2 * step)
        x -= np.linalg.solve((hessian + hessian.T) / 2, rho[1:, 0])
    assert np.linalg.norm(x - start) < 0.02
    assert found.rho[0] == pytest.approx(rho[0, 0], rel=0.02)
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    assert found.eigenvalues[0] == pytest.approx(values, rel=0.15)
    nuclei = (structure.numbers / np.linalg.norm(structure.positions - start, axis=1)).sum()
    assert found.nuclear[0] == pytest.approx(nuclei, rel=1e-6)
    electrons = -np.einsum("ij,ij", mol.intor("int1e_grids", grids=start[None])[0], dm)
    # an SCF with this pseudopotential differs by 0.014, one in def2-QZVP by 0.003
    assert found.potential[0] == pytest.approx(nuclei + electrons, abs=0.015)


def test_potentials_inside_cores_are_those_of_free_atoms():
    """Of a free sulphur atom: Newton's shells of all electrons, and of the valence and the core."""
    atom, x = free_atom(16), 1.0
    r = np.linspace(1e-4, atom.radius, 200000)
    inside = r <= x

    def electrons(n):
        shells = 4 * np.pi * n * r
        return np.trapezoid((shells * r)[inside], r[inside]) / x + np.trapezoid(
            shells[~inside], r[~inside]
        )

    whole = 16 / x - electrons(atom.all_electron(r))
    potential = np.array([atom.valence / x - electrons(atom.pseudo(r))])
    assert abs(potential[0] - whole) > 0.01
    _add_penetration(Structure(np.array([16]), np.zeros((1, 3))), np.array([[x, 0, 0]]), potential)
    assert potential[0] == pytest.approx(whole, abs=1e-3)
