"""Critical points and bond paths."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from denser.analysis.continuous import ContinuousDensity
from denser.analysis.topology.critical_points import (
    _distinct,
    _euler_characteristic,
    critical_points,
)
from denser.atoms.free_atoms import free_atom
from denser.atoms.sad import superposition, valence_charges
from denser.dft.cell import build_cell
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

REFERENCE = Path(__file__).parent / "reference"
BONDS = json.loads((REFERENCE / "bond_points.json").read_text())


def isolated(name, spacing=0.2):
    """Label and valence density of its orbitals around the isolated molecule, in its frame."""
    label = read_label(REFERENCE / "topologies" / f"{name}.npz")
    structure = Structure(label.structure.numbers, label.structure.positions)
    grid = Grid.around(structure, padding=5.5, spacing=spacing)
    values = density_on_grid(
        structure.numbers, structure.positions, label.mo_coeff, grid, dtype=torch.float64
    ).numpy()
    charges = valence_charges(structure)
    return label, Density(grid, values, structure=structure, valence_charges=charges)


@pytest.fixture(scope="module")
def ethene():
    label, density = isolated("C2H4", 0.1571)
    return label, density, critical_points(density)


@pytest.fixture(scope="module")
def dimer():
    label, density = isolated("water_dimer", 0.1571)
    return label, density, critical_points(density)


@pytest.mark.parametrize(
    ("name", "bonds", "rings", "cages"), [("C6H6", 12, 1, 0), ("cubane", 20, 6, 1)]
)
def test_topology_is_that_of_the_molecular_graph(name, bonds, rings, cages):
    _, density = isolated(name)
    found = critical_points(density)
    assert found.count("bond") == bonds
    assert found.count("ring") == rings
    assert found.count("cage") == cages
    assert found.count("attractor") == 0
    assert found.is_complete and found.poincare_hopf == 1
    assert found.gradient_norms.max() < 1e-8
    # each path joins two neighbours, and all neighbours are joined
    structure = density.structure
    distance = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=-1) * BOHR
    i, j = np.nonzero(np.triu(distance < 1.7, 1))
    assert sorted(bond.atoms for bond in found.bonds) == sorted(
        zip(i.tolist(), j.tolist(), strict=True)
    )
    centre = structure.positions.mean(axis=0)
    if name == "cubane":
        cage = found.positions[found.kinds.index("cage")]
        np.testing.assert_allclose(cage, centre, atol=1e-3)
        # bonds of a strained cage are bent outwards
        bent = [b.length / b.distance for b in found.bonds if max(b.atoms) < 8]
        assert min(bent) > 1.001
    else:
        ring = found.positions[found.kinds.index("ring")]
        np.testing.assert_allclose(ring, centre, atol=1e-3)


def derivatives(label, points):
    """Completed density with derivatives from the orbitals of an isolated molecule."""
    mol = build_cell(label.structure, label.grid).to_mol()
    mol.set_geom_(label.structure.positions, unit="bohr")
    psi = mol.eval_gto("GTOval_sph_deriv2", points) @ label.mo_coeff
    rho = 2 * (psi[0] ** 2).sum(axis=1)
    gradient = 4 * np.einsum("ni,xni->nx", psi[0], psi[1:4])
    hessian = 4 * np.einsum("xni,yni->nxy", psi[1:4], psi[1:4])
    i, j = np.triu_indices(3)
    second = 4 * np.einsum("ni,xni->nx", psi[0], psi[4:])
    hessian[:, i, j] += second
    hessian[:, j[i != j], i[i != j]] += second[:, i != j]
    for z, centre in zip(label.structure.numbers, label.structure.positions, strict=True):
        d = points - centre
        r = np.linalg.norm(d, axis=1)
        u = d / r[:, None]
        value, slope, curvature = free_atom(int(z)).core_derivatives(r)
        uu = u[:, :, None] * u[:, None, :]
        rho += value
        gradient += slope[:, None] * u
        hessian += curvature[:, None, None] * uu
        hessian += (slope / r)[:, None, None] * (np.eye(3) - uu)
    return rho, gradient, hessian


@pytest.mark.parametrize("molecule", ["ethene", "dimer"])
def test_agrees_with_the_analytic_derivatives(molecule, request):
    label, _, found = request.getfixturevalue(molecule)
    bonds = [bond.point for bond in found.bonds]
    rho, gradient, hessian = derivatives(label, found.positions[bonds])
    np.testing.assert_allclose(found.rho[bonds], rho, atol=4e-5)  # the spline, near oxygen
    values = np.linalg.eigvalsh(hessian)
    np.testing.assert_allclose(found.eigenvalues[bonds], values, rtol=0.01, atol=0.02)
    # how far the true critical point is, by one Newton step
    step = np.linalg.solve(hessian, gradient[..., None])[..., 0]
    assert np.linalg.norm(step, axis=1).max() < 1e-3


@pytest.mark.parametrize("key", sorted(BONDS))
def test_agrees_with_all_electron_calculations(key, request):
    """PBE/cc-pVTZ with all electrons: what pseudopotential, basis and free cores change."""
    name, *atoms = key.split()
    _, _, found = request.getfixturevalue("ethene" if name == "C2H4" else "dimer")
    (bond,) = (b for b in found.bonds if b.atoms == tuple(map(int, atoms)))
    expected = BONDS[key]
    np.testing.assert_allclose(found.positions[bond.point], expected["position_bohr"], atol=0.03)
    assert found.rho[bond.point] == pytest.approx(expected["rho"], rel=0.03)
    values = np.array(expected["eigenvalues"])
    ellipticity = values[0] / values[1] - 1
    assert found.ellipticities[bond.point] == pytest.approx(ellipticity, abs=0.04)
    np.testing.assert_allclose(found.eigenvalues[bond.point, :2], values[:2], rtol=0.1)


def test_ellipticities_tell_double_from_single_bonds(ethene):
    _, _, found = ethene
    for bond in found.bonds:
        double = bond.atoms == (0, 1)
        assert (found.ellipticities[bond.point] > 0.2) == double
        assert (found.ellipticities[bond.point] < 0.02) != double


def test_hydrogen_bond_of_the_water_dimer(dimer):
    _, density, found = dimer
    hydrogen_bonds = [b for b in found.bonds if b.distance * BOHR > 1.5]
    assert len(hydrogen_bonds) == 1
    (bond,) = hydrogen_bonds
    assert {density.structure.symbols[i] for i in bond.atoms} == {"H", "O"}
    i = bond.point
    assert 0.02 < found.rho[i] < 0.03
    assert found.laplacians[i] > 0  # closed shells
    assert bond.length >= bond.distance
    # Abramov's energy densities obey the local virial theorem, and Espinosa's -V/2 is about
    # the binding energy of 5 kcal/mol
    virial = 2 * found.kinetic_energy_densities[i] + found.potential_energy_densities[i]
    assert virial == pytest.approx(found.laplacians[i] / 4)
    assert 3 < -found.potential_energy_densities[i] / 2 * 627.5 < 8


def test_bond_paths_end_at_nuclei_and_climb(dimer):
    _, density, found = dimer
    field = ContinuousDensity(density)
    for bond in found.bonds:
        positions = density.structure.positions[list(bond.atoms)]
        np.testing.assert_allclose(bond.path[[0, -1]], positions)
        rho = field.evaluate(bond.path)[0]
        lowest = int(rho.argmin())
        np.testing.assert_allclose(bond.path[lowest], found.positions[bond.point], atol=0.02)
        assert (np.diff(rho[lowest + 1 : -2]) > 0).all()
        assert (np.diff(rho[2:lowest]) < 0).all()


def test_simple_cubic_crystal():
    """One nucleus, three bonds, three rings and a cage in a cell of one atom: sum 0."""
    length = 5.0
    structure = Structure([6], [[0.3, 0.4, 0.5]], cell=length * np.eye(3))
    grid = Grid.periodic(structure, spacing=0.21)
    values = np.zeros(grid.shape)
    for shift in np.ndindex(5, 5, 5):
        centre = structure.positions[0] + (np.array(shift) - 2) * length
        values += free_atom(6).pseudo(np.linalg.norm(grid.points() - centre, axis=-1))
    found = critical_points(
        Density(grid, values, structure=structure, valence_charges=np.array([4.0]))
    )
    assert [found.count(kind) for kind in ("nucleus", "bond", "ring", "cage")] == [1, 3, 3, 1]
    assert found.euler == 0 and found.is_complete
    where = (found.positions - structure.positions[0]) / length * 2
    np.testing.assert_allclose(where, np.round(where), atol=1e-3)
    for bond in found.bonds:
        assert bond.atoms == (0, 0)
        assert bond.distance == pytest.approx(length, abs=1e-6)
        assert bond.length == pytest.approx(length, rel=1e-3)


def test_thousands_of_starts_that_end_at_one_point_are_one_point():
    """As in crystals, where symmetry makes the gradient vanish at many nodes: no list of pairs."""
    cell = np.eye(3) * 9.0
    crystal = Structure(np.array([2]), np.full((1, 3), 4.5), cell=cell)
    field = ContinuousDensity(superposition(crystal, Grid.periodic(crystal, 0.5)))
    rng = np.random.default_rng(1)
    points = rng.uniform(0.5, 8.5, (20, 3)) // 0.1 * 0.1
    points[1] = points[0] + 0.01  # merged
    points[2] = [0, 2, 2]
    ends = np.repeat(points, 2000, axis=0) + rng.uniform(-3e-8, 3e-8, (40_000, 3))
    ends[4000:5000, 0] += 9.0  # at the other face
    found = _distinct(field, ends)
    assert len(found) == 19
    apart = (found[1:] - points[2:] + 4.5) % 9.0 - 4.5
    np.testing.assert_allclose(apart, 0, atol=1e-6)


def test_euler_characteristic():
    x = np.stack(np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij"), axis=-1) - [11.3, 11.8, 12.1]
    r = np.linalg.norm(x, axis=-1)
    assert _euler_characteristic(r < 8, False) == 1
    shell = (r < 9) & (r > 5)
    assert _euler_characteristic(shell, False) == 2
    ring = (np.hypot(x[..., 0], x[..., 1]) - 7) ** 2 + x[..., 2] ** 2 < 9
    assert _euler_characteristic(ring, False) == 0
    two = (np.abs(x[..., 0]) > 3) & (r < 9)
    assert _euler_characteristic(two, False) == 2
    assert _euler_characteristic(np.ones((6, 7, 8), dtype=bool), True) == 0
    assert _euler_characteristic(np.ones((6, 7, 8), dtype=bool), False) == 1


def test_a_missing_point_is_noticed(ethene):
    from dataclasses import replace

    _, _, found = ethene
    kinds = [*found.kinds[:-1], "ring"]
    assert found.is_complete
    broken = replace(found, kinds=kinds)
    assert not broken.is_complete
    assert any("missing" in line for line in broken.lines())


def test_report(ethene):
    _, _, found = ethene
    data = json.loads(json.dumps(found.to_dict()))
    assert len(data["points"]) == len(found.kinds)
    assert data["complete"] is True
    assert data["bond_paths"][0]["atoms"] == [1, 2]
    assert data["points"][data["bond_paths"][0]["point"] - 1]["kind"] == "bond"
    assert any(line.startswith("C1-C2") for line in found.lines())


def atoms_and_bump(distance, height, place, width=1.0, z=6):
    """Free atoms on an axis, and a Gaussian: a ripple, or an attractor without a nucleus."""
    structure = Structure(np.full(len(distance), z), np.outer(distance, [0, 0, 1.0]))
    grid = Grid.around(structure, padding=4.0, spacing=0.3)
    points = grid.points()
    values = height * np.exp(-((points - place) ** 2).sum(axis=-1) / width**2)
    for position in structure.positions:
        values = values + free_atom(z).pseudo(np.linalg.norm(points - position, axis=-1))
    charges = valence_charges(structure)
    values *= charges.sum() / (values.sum() * grid.dv)
    return Density(grid, values, structure=structure, valence_charges=charges)


def test_ripples_make_no_critical_points(monkeypatch):
    """An attractor between two atoms goes with one of its bonds; the other then joins the atoms."""
    density = atoms_and_bump([0, 7.0], 0.007, [0, 0, 3.5])
    found = critical_points(density)
    assert found.kinds == ["nucleus", "nucleus", "bond"] and found.is_complete
    (bond,) = found.bonds
    assert bond.atoms == (0, 1) and bond.length == pytest.approx(7.0, abs=1e-3)
    monkeypatch.setattr("denser.analysis.topology.noise.NOISE", (0.0, 0.0))
    every = critical_points(density)
    assert every.count("attractor") == 1 and every.count("bond") == 2
    assert every.is_complete and every.euler == found.euler


def test_an_attractor_above_the_noise_is_found():
    found = critical_points(atoms_and_bump([0, 7.0], 0.01, [0, 0, 3.5]))
    assert found.count("attractor") == 1 and found.is_complete
    assert sorted(bond.atoms for bond in found.bonds) == [(-1, 0), (-1, 1)]


def test_contacts_as_weak_as_those_of_argon_are_found():
    found = critical_points(atoms_and_bump([0, 7.1], 0.0, [0, 0, 0], z=18))
    assert [bond.atoms for bond in found.bonds] == [(0, 1)]
    assert 0.001 < found.rho[found.bonds[0].point] < 0.004
    assert found.is_complete


def test_laplacians_of_polar_bonds_carry_a_note(ethene):
    _, _, found = ethene
    assert not any(line.startswith("lap:") for line in found.lines())
    assert "laplacian_note" not in found.to_dict()
    from dataclasses import replace

    polar = replace(found, symbols=["O", *found.symbols[1:]])
    assert any(line.startswith("lap:") for line in polar.lines())
    assert "free atoms" in polar.to_dict()["laplacian_note"]
