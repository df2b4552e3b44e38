from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import denser
from denser.analysis.potential import ewald
from denser.analysis.potential.electrostatics import (
    Potential,
    electrostatic_potential,
)
from denser.analysis.potential.esp_surface import esp_surface, find_maxima
from denser.atoms.free_atoms import complete, core_values, free_atom
from denser.atoms.sad import superposition, valence_charges
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, KCAL_PER_MOL

LABELS = Path(__file__).parent / "reference" / "labels"


def isolated(name):
    """Density of a label's orbitals, orthonormal without the box, and PySCF's molecule."""
    from denser.dft.cell import build_cell
    from denser.types.recipe import Recipe

    label = read_label(LABELS / f"{name}.npz")
    structure = replace(label.structure, cell=None)
    grid = Grid.around(structure, padding=8.0)
    mol = build_cell(structure, grid, Recipe()).to_mol()
    mol.set_geom_(structure.positions, unit="bohr")
    overlap = label.mo_coeff.T @ mol.intor("int1e_ovlp") @ label.mo_coeff
    e, u = np.linalg.eigh(overlap)
    mo_coeff = label.mo_coeff @ (u / np.sqrt(e)) @ u.T
    values = density_on_grid(structure.numbers, structure.positions, mo_coeff, grid).numpy()
    charges = valence_charges(structure)
    density = Density(grid, values, structure=structure, valence_charges=charges)
    return density, mol, 2 * mo_coeff @ mo_coeff.T


def analytic(mol, dm, charges, points):
    """Point ions less electrons, of PySCF's integrals <p| 1/|r - r_i| |q>, and distances."""
    r = np.linalg.norm(points[:, None] - mol.atom_coords(), axis=-1)
    electrons = np.concatenate(
        [
            np.einsum("ipq,pq->i", mol.intor("int1e_grids", grids=block), dm)
            for block in np.array_split(points, len(points) // 100 + 1)
        ]
    )
    return (charges / r).sum(axis=1) - electrons, r.min(axis=1)


@pytest.fixture(scope="module")
def formaldehyde():
    return isolated("H2CO")


@pytest.fixture(scope="module")
def formaldehyde_potential(formaldehyde):
    return Potential(formaldehyde[0])


@pytest.fixture(scope="module")
def formaldehyde_points(formaldehyde):
    density, mol, dm = formaldehyde
    rng = np.random.default_rng(0)
    away = rng.normal(size=(300, 3))
    away *= rng.uniform(0.8, 16.0, 300)[:, None] / np.linalg.norm(away, axis=1)[:, None]
    points = density.structure.positions[rng.integers(0, 4, 300)] + away
    exact, distance = analytic(mol, dm, density.valence_charges, points)
    low = density.grid.origin
    inside = ((points > low) & (points < low + np.diag(density.grid.cell))).all(axis=1)
    return points, exact, distance, inside


def test_potential_anywhere_is_that_of_analytic_integrals(
    formaldehyde_potential, formaldehyde_points
):
    points, exact, distance, inside = formaldehyde_points
    error = np.abs(formaldehyde_potential(points) - exact)
    assert inside.sum() > 100 and (~inside).sum() > 90
    assert error[distance > 0.8].max() < 1e-5
    assert error[~inside].max() < 3e-6


def test_potential_on_the_nodes_is_that_of_analytic_integrals(formaldehyde):
    density, mol, dm = formaldehyde
    field = electrostatic_potential(density)
    rng = np.random.default_rng(1)
    nodes = tuple(rng.integers(n // 4, 3 * n // 4, 300) for n in density.grid.shape)
    exact, distance = analytic(mol, dm, density.valence_charges, density.grid.points()[nodes])
    error = np.abs(field.values[nodes] - exact)
    assert (distance < 2).sum() > 40
    assert error[distance > 0.8].max() < 1e-5
    assert field.unit == "hartree/e" and np.isfinite(field.values).all()


def test_no_seam_between_the_spline_and_the_charges_outside(formaldehyde, formaldehyde_potential):
    potential = formaldehyde_potential
    grid = formaldehyde[0].grid
    face = grid.origin[0] + grid.cell[0, 0]
    points = np.array([[x, *formaldehyde[0].structure.positions[0, 1:]] for x in face
                       + np.linspace(-1, 1, 41)])  # fmt: skip
    values, slopes = potential.with_gradient(points)
    step = points[1, 0] - points[0, 0]
    simpson = (slopes[:-2, 0] + 4 * slopes[1:-1, 0] + slopes[2:, 0]) * step / 3
    np.testing.assert_allclose(values[2:] - values[:-2], simpson, atol=3e-7)


@pytest.mark.parametrize("all_electron", [False, True])
@pytest.mark.parametrize("kind", ["isolated", "periodic"])
def test_gradient_is_the_slope_of_the_potential(ethanol, kind, all_electron):
    density = superposition(ethanol, Grid.around(ethanol, padding=5.0, spacing=0.3))
    potential = Potential(complete(density) if all_electron else density, kind)
    rng = np.random.default_rng(2)
    away = rng.normal(size=(60, 3))
    away *= rng.uniform(0.3, 14, 60)[:, None] / np.linalg.norm(away, axis=1)[:, None]
    points = ethanol.positions[rng.integers(0, 9, 60)] + away
    _, slopes = potential.with_gradient(points)
    h = 1e-4
    for i in range(3):
        step = h * np.eye(3)[i]
        numeric = (potential(points + step) - potential(points - step)) / (2 * h)
        np.testing.assert_allclose(slopes[:, i], numeric, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("all_electron", [False, True])
@pytest.mark.parametrize("kind", ["isolated", "periodic"])
def test_fields_on_the_nodes_are_those_at_points(ethanol, kind, all_electron):
    density = superposition(ethanol, Grid.around(ethanol, padding=5.0, spacing=0.3))
    if all_electron:
        density = complete(density)
    nodes = tuple(np.random.default_rng(3).integers(0, n, 500) for n in density.grid.shape)
    points = density.grid.points()[nodes]
    r = np.linalg.norm(points[:, None] - ethanol.positions, axis=-1).min(axis=1)
    values = Potential(density, kind)(points)
    far = r > 0.3  # beyond the radius of a node's ball
    found = electrostatic_potential(density, kind).values[nodes]
    np.testing.assert_allclose(found[far], values[far], atol=3e-7)


def test_ions_of_many_atoms_are_added_around_them(formaldehyde, monkeypatch):
    """The Gaussians of the ions from nodes nearby are those of the sum of waves."""
    expected = ewald.EwaldSplit(formaldehyde[0]).charge_density
    monkeypatch.setattr(ewald, "MANY", 1)
    found = ewald.EwaldSplit(formaldehyde[0]).charge_density
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_free_atom_shows_its_bare_nucleus_inside_its_core():
    """Against Z/r - (1/r) integral_0^r - integral_r^inf of the radial density."""
    structure = Structure([17], np.zeros((1, 3)))
    atom = free_atom(17)
    grid = Grid.around(structure, padding=9.0, spacing=0.25)
    r = np.linalg.norm(grid.points(), axis=-1)
    values = atom.pseudo(r) + core_values(structure, grid)
    density = Density(grid, values, structure=structure, valence_charges=[17.0], all_electron=True)
    points = np.outer([0.01, 0.1, 0.4, 1.0, 2.0, 4.0], [0.6, 0.0, 0.8])
    s = np.concatenate([[0], np.geomspace(1e-5, 25, 40001)])
    shell = 4 * np.pi * s**2 * atom.all_electron(s)
    exact = [
        (17 - np.trapezoid(np.where(s <= x, shell, 0), s)) / x
        - np.trapezoid(np.where(s > x, shell / np.maximum(s, 1e-9), 0), s)
        for x in np.linalg.norm(points, axis=1)
    ]
    np.testing.assert_allclose(Potential(density)(points), exact, atol=2e-3, rtol=1e-4)


def test_core_electrons_change_nothing_outside_the_cores(formaldehyde, formaldehyde_potential):
    density = formaldehyde[0]
    points = formaldehyde[0].structure.positions[0] + np.array([[0, 0, 4.0], [5, 2, 1], [9, 9, 9]])
    every = Potential(complete(density))(points)
    np.testing.assert_allclose(every, formaldehyde_potential(points), atol=1e-6)


def test_point_ions_of_rock_salt_have_madelungs_constant():
    """The potential of the other ions at one: -1.747564594633 / nearest distance."""
    corners = np.array([[x, y, z] for x in range(2) for y in range(2) for z in range(2)])
    length = 10.0
    structure = Structure(
        np.where(corners.sum(axis=1) % 2, 17, 11), corners * length / 2, cell=length * np.eye(3)
    )
    grid = Grid.periodic(structure, spacing=0.3)
    density = Density(
        grid,
        np.zeros(grid.shape),
        structure=structure,
        valence_charges=(-1.0) ** corners.sum(axis=1),
    )
    r = 0.01
    around = np.array([[r, 0, 0], [-r, 0, 0], [0, r, 0], [0, -r, 0], [0, 0, r], [0, 0, -r]])
    others = (Potential(density)(around + 3 * length) - 1 / r).mean()  # far images are the same
    assert others * length / 2 == pytest.approx(-1.747564594633, abs=2e-7)


def test_periodic_box_grows_into_the_isolated_molecule():
    """Differences of the potential of a neutral molecule lose their images as 1/volume."""
    structure = Structure.from_ase(molecule("CH4"))
    points = np.array([[2.5, 0, 0], [0, 3.0, 1.0], [-3, 1, 2.0]])
    errors = []
    for padding in (4.0, 8.0):
        density = superposition(structure, Grid.around(structure, padding=padding, spacing=0.25))
        difference = Potential(density, "periodic")(points) - Potential(density)(points)
        errors.append(np.ptp(difference))
    assert errors[1] < 1e-5 < errors[0]


def test_interaction_gives_energy_and_forces(formaldehyde_potential):
    potential = formaldehyde_potential
    points, charges = np.array([[6.0, 3, 3], [4, 9.0, 2], [30, 2, 5]]), np.array([0.4, -0.8, 1])
    energy, forces = potential.interaction(points, charges)
    assert energy == pytest.approx(charges @ potential(points))
    step = np.array([0, 1e-3, 0])
    slope = charges * (potential(points + step) - potential(points - step)) / 2e-3
    np.testing.assert_allclose(forces[:, 1], -slope, atol=1e-7)


def test_what_cannot_be_used(ethanol):
    density = superposition(ethanol, Grid.around(ethanol, padding=4.0, spacing=0.5))
    with pytest.raises(InputError, match="unknown kind of boundary 'open'"):
        electrostatic_potential(density, "open")
    with pytest.raises(InputError, match="should have 20 electrons, found 22"):
        Potential(density.with_values(1.1 * density.values))
    with pytest.raises(InputError, match="shape \\(3,\\)"):
        Potential(density)(np.zeros(3))
    with pytest.raises(InputError, match="as many charges"):
        Potential(density).interaction(np.full((2, 3), 9.0), np.ones(3))


# Surfaces


def ball(radius=4.0, spacing=0.3):
    """Nine electrons that fall off exponentially around a helium nucleus: 0.001 at `radius`."""
    structure = Structure([2], [[0.1, -0.05, 0.02]], charge=-7)
    grid = Grid.around(structure, padding=5.5, spacing=spacing)
    r = np.linalg.norm(grid.points() - structure.positions, axis=-1)
    values = 0.001 * np.exp(-1.984 * (r - radius))
    return Density(grid, values, structure=structure, valence_charges=[2.0], all_electron=True)


def test_a_sphere_has_its_area_and_volume():
    """Flat triangles between points on the sphere: both are low by a share of h^2."""
    errors = []
    for spacing in (0.3, 0.15):
        surface = esp_surface(ball(spacing=spacing))
        radii = np.linalg.norm(surface.vertices - surface.structure.positions[0], axis=1)
        np.testing.assert_allclose(radii, 4.0, atol=2e-3 * spacing / 0.15)
        sphere = np.array([4 * np.pi * 16, 4 / 3 * np.pi * 64])
        errors.append(1 - np.array([surface.area, surface.volume]) / sphere)
    assert (errors[1] > 0).all() and (errors[1] < 1e-3).all()
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.1)


def test_surface_statistics_of_a_dipole():
    """V = c cos(theta) on a sphere: means +-c/2, Pi = c/2, variances c^2/12 each, nu = 1/4."""
    surface = esp_surface(ball(spacing=0.15))
    cosine = (surface.vertices - surface.structure.positions[0])[:, 2] / 4.0
    surface = replace(surface, potential=0.05 * cosine)
    assert surface.mean == pytest.approx(0, abs=1e-5)
    assert surface.positive[1] == pytest.approx(0.025, rel=1e-3)
    assert surface.deviation == pytest.approx(0.025, rel=1e-3)
    assert surface.positive[2] == pytest.approx(0.05**2 / 12, rel=2e-3)
    assert surface.balance == pytest.approx(0.25, abs=1e-4)


def test_extrema_of_formaldehyde(formaldehyde, formaldehyde_potential):
    density, mol, dm = formaldehyde
    surface = esp_surface(density, potential=formaldehyde_potential)
    exact, _ = analytic(mol, dm, density.valence_charges, surface.vertices[::40])
    np.testing.assert_allclose(surface.potential[::40], exact, atol=5e-6)
    symbols = density.structure.symbols
    assert surface.potential.max() == surface.maxima[0].value
    assert surface.potential.min() == surface.minima[0].value
    # two lone pairs at O, mirror images of each other
    first, second = surface.minima[:2]
    assert symbols[first.atom] == symbols[second.atom] == "O"
    assert first.value == pytest.approx(second.value, abs=5e-5)
    assert "H" in {symbols[m.atom] for m in surface.maxima[:2]}
    positions = density.structure.positions
    h1, h2 = np.flatnonzero(density.structure.numbers == 1)
    across = positions[h2] - positions[h1]
    assert first.site.direction @ across == pytest.approx(-second.site.direction @ across, rel=0.1)
    for lone_pair in (first, second):  # in the plane of the molecule, one to each side
        site = lone_pair.site
        assert site.kind == "lone pair" and symbols[site.bonded] == "C" and site.angle < 160
        normal = np.cross(across, positions[site.bonded] - positions[lone_pair.atom])
        assert abs(site.direction @ normal) < 0.1 * np.linalg.norm(normal)
        reached = density.structure.positions[lone_pair.atom] + site.distance * site.direction
        np.testing.assert_allclose(reached, lone_pair.position, atol=1e-9)
    data = surface.to_dict()
    assert -45 < data["minima"][0]["potential_kcal_per_mol_e"] < -20
    assert data["area_angstrom2"] == pytest.approx(surface.area * BOHR**2)
    assert any("V_s,min" in line for line in surface.lines())


def test_near_ions_the_noise_of_the_surface_makes_no_extrema():
    """Two peaks 1e-3 hartree/e above the saddle between them, at low and at high potentials."""
    faces = np.array([[0, 1, 2], [1, 2, 3]])  # vertices 0 and 3 are not neighbours
    for base, n in ((0.03, 2), (0.25, 1)):
        values = base + np.array([1e-3, 0.0, -1e-3, 1.1e-3])
        assert len(find_maxima(faces, values)) == n


# PySCF's own integrals of a molecule's pseudopotential
@pytest.mark.filterwarnings("ignore:Function int1e_r2_origi_sph not found:UserWarning")
def test_sigma_holes_of_chlorine():
    """At the ends of the bond, with a negative belt, as all electrons have them.

    PySCF 2.14, PBE/def2-TZVPP at the places that GTH-TZV2P finds: 25.7 and -3.6 kcal/mol/e.
    """
    from pyscf import dft, gto

    structure = Structure.from_ase(molecule("Cl2"))
    mol = gto.M(
        atom=[("Cl", r) for r in structure.positions], unit="bohr", basis="gth-tzv2p",
        pseudo="gth-pbe", verbose=0,
    )  # fmt: skip
    mf = dft.RKS(mol, xc="pbe")
    mf.chkfile = None
    mf._chkfile.close()  # else the garbage collector warns
    mf.kernel()
    mo_coeff = mf.mo_coeff[:, mf.mo_occ > 0]
    grid = Grid.around(structure, padding=7.0, spacing=0.2)
    blocks = np.array_split(grid.points().reshape(-1, 3), 50)
    rho = [2 * ((mol.eval_gto("GTOval_sph", b) @ mo_coeff) ** 2).sum(axis=1) for b in blocks]
    density = Density(
        grid, np.concatenate(rho).reshape(grid.shape), structure=structure,
        valence_charges=[7.0, 7.0],
    )  # fmt: skip
    surface = esp_surface(density)
    values = [m["potential_kcal_per_mol_e"] for m in surface.to_dict()["maxima"]]
    assert len(values) == 3 and len(surface.minima) == 2  # of each rim, one vertex
    np.testing.assert_allclose(values[:2], [25.7, 25.7], atol=2.5)
    assert {m.atom for m in surface.maxima[:2]} == {0, 1}
    for hole in surface.maxima[:2]:
        assert np.linalg.norm(hole.position[:2] - structure.positions[0, :2]) < 0.15
        assert hole.site.kind == "sigma hole" and hole.site.angle > 175
        assert hole.site.bonded == 1 - hole.atom
    assert sum("sigma hole of Cl" in line for line in surface.lines()) == 2
    assert surface.minima[0].value * 627.5095 == pytest.approx(-3.6, abs=0.5)


def test_sigma_hole_of_bromomethane():
    """A prediction; PySCF 2.14, PBE/def2-SVP, has 5.8 kcal/mol/e 2.07 angstrom beyond Br."""
    r, angle = 1.086, np.radians(107.7)
    turns = np.radians([0, 120, 240])
    h = np.sin(angle) * np.cos(turns), np.sin(angle) * np.sin(turns), np.cos(angle) + 0 * turns
    atoms = Atoms("CBrH3", [[0, 0, 0], [0, 0, 1.939], *(r * np.array(h).T)])
    surface = esp_surface(denser.predict(atoms, spacing=0.15))
    (hole,) = (m for m in surface.maxima if m.atom == 1)
    assert hole.site.kind == "sigma hole" and hole.site.bonded == 0 and hole.site.angle > 176
    assert hole.value * KCAL_PER_MOL == pytest.approx(5.8, abs=1.5)
    assert hole.site.distance * BOHR == pytest.approx(2.07, abs=0.03)
    assert {m.site.kind for m in surface.minima} == {"lone pair"}  # the belt
    hydrogens = [m for m in surface.maxima if m.site.kind == "hydrogen"]
    assert {m.atom for m in hydrogens} == {2, 3, 4}


def test_surface_that_is_not_there(sad_density):
    with pytest.raises(InputError, match="no surface"):
        esp_surface(sad_density, 1e6)
    with pytest.raises(InputError, match="leaves the box"):
        esp_surface(sad_density, 1e-9)
    with pytest.raises(InputError, match="positive"):
        esp_surface(sad_density, -0.001)


def test_periodic_surface_is_that_of_the_molecule(ethanol):
    density = superposition(ethanol, Grid.around(ethanol, padding=6.0, spacing=0.3))
    crystal = replace(density, structure=replace(ethanol, cell=density.grid.cell))
    one, other = esp_surface(density), esp_surface(crystal)
    assert other.area == pytest.approx(one.area, rel=1e-6)
    assert other.volume == pytest.approx(one.volume, rel=3e-3)
