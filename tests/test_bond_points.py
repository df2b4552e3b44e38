"""Critical points of bonds without a grid."""

import csv

import numpy as np
import pytest
from ase.build import molecule

import denser
from denser.analysis.topology.bond_points import bond_points
from denser.atoms.radii import bonds
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
