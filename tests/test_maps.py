"""Maps at a resolution, their files, and how well two maps agree."""

import json
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from scipy.integrate import quad

import denser
from denser.analysis.crystal.form_factors import electron_form_factor, spherical_form_factor
from denser.analysis.crystal.maps import (
    electron_potential_map,
    fourier_map,
    fourier_shell_correlation,
    real_space_correlation,
    xray_map,
)
from denser.analysis.crystal.scattering import structure_factors
from denser.atoms.sad import superposition
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE


def at(field, positions):
    """Value of a band-limited periodic field at points (n, 3): its Fourier series."""
    spectrum = np.fft.fftn(field.values) / field.values.size
    fraction = (positions - field.grid.origin) @ np.linalg.inv(field.grid.cell)
    waves = [
        np.exp(2j * np.pi * np.outer(x, np.fft.fftfreq(n) * n))
        for x, n in zip(fraction.T, field.grid.shape, strict=True)
    ]
    return np.einsum("xyz,ax,ay,az->a", spectrum, *waves, optimize=True).real


@pytest.fixture(scope="module")
def formamide():
    """An asymmetric molecule in a box that is no cube, away from the origin."""
    positions = np.array(
        [[1.0, -2.0, 3.0], [2.2, -2.1, 3.1], [0.2, -1.3, 3.9], [0.5, -2.5, 2.1], [-0.8, -1.3, 3.8]]
    )
    structure = Structure([6, 8, 7, 1, 1], positions / BOHR)
    return superposition(structure, Grid.around(structure, 6.0, 0.3))


def test_the_map_integrates_to_all_electrons(formamide):
    found = xray_map(formamide, 1.0, 10.0)
    assert found.integrate() == pytest.approx(structure_factors(formamide, 1.0).f_000, abs=1e-6)
    assert found.integrate() == pytest.approx(23, abs=0.01)
    assert found.grid.spacing.max() * BOHR < 1.0 / 3 + 1e-9


@pytest.mark.parametrize("make", [xray_map, electron_potential_map])
def test_one_atom_is_its_radial_integral(make):
    """f(0) = integral_0^(1/d) 4 pi s^2 f(s) exp(-B s^2/4) ds for an atom in a large box."""
    structure = Structure([7], [[0.5, -1.0, 2.0]])
    density = superposition(structure, Grid.around(structure, 8.0, 0.4))
    b, d_min = 25.0, 1.2
    electron = make is electron_potential_map
    factor = electron_form_factor if electron else spherical_form_factor
    expected, _ = quad(
        lambda s: 4 * np.pi * s**2 * factor(7, 2 * np.pi * s) * np.exp(-b * (s / BOHR) ** 2 / 4),
        0,
        BOHR / d_min,
    )
    expected *= 2 * np.pi * HARTREE if electron else 1
    assert at(make(density, d_min, b), structure.positions)[0] == pytest.approx(expected, rel=0.01)


def test_the_potential_has_the_constant_of_electron_diffraction(formamide):
    """V = 47.878 volt angstrom^2 times the Fourier series of f_e in angstrom."""
    factors = structure_factors(formamide, 1.0, 10.0, kind="electron")
    field = electron_potential_map(formamide, 1.0, 10.0)
    hkl, f = factors.expanded()
    point = formamide.structure.positions[1]
    phase = np.exp(-2j * np.pi * hkl @ (point @ np.linalg.inv(factors.cell)))
    expected = 47.878 * (f * BOHR * phase).sum().real / (factors.cell.diagonal() * BOHR).prod()
    assert at(field, point[None])[0] == pytest.approx(expected, rel=1e-4)
    assert field.unit == "V"


def test_the_potential_solves_poissons_equation(formamide):
    """-lap V = 4 pi (nuclei - density), both to the same resolution."""
    density, potential = xray_map(formamide, 1.0), electron_potential_map(formamide, 1.0)
    grid = potential.grid
    assert grid.same_as(density.grid)
    q = [
        2 * np.pi * np.fft.fftfreq(n) * n / x
        for n, x in zip(grid.shape, np.diag(grid.cell), strict=True)
    ]
    q2 = q[0][:, None, None] ** 2 + q[1][None, :, None] ** 2 + q[2][None, None, :] ** 2
    charge = np.fft.ifftn(q2 * np.fft.fftn(potential.values)).real / (4 * np.pi * HARTREE)
    nuclei = structure_factors(formamide, 1.0)
    phase = np.exp(
        2j * np.pi * formamide.structure.positions @ np.linalg.inv(grid.cell) @ nuclei.hkl.T
    )
    nuclei = replace(nuclei, f_calc=formamide.structure.numbers @ phase, f_000=23.0)
    expected = fourier_map(nuclei, grid).values - density.values
    np.testing.assert_allclose(charge, expected - expected.mean(), atol=1e-8)


def test_every_atom_is_a_peak_where_it_stands(formamide):
    for field in (xray_map(formamide, 0.8, 5.0), electron_potential_map(formamide, 0.8, 5.0)):
        atoms = formamide.structure.positions
        here = at(field, atoms)
        around = [at(field, atoms + 0.4 * step) for step in np.vstack([np.eye(3), -np.eye(3)])]
        assert (here[:3] > np.array(around)[:, :3]).all()
        order = np.argsort(-here)[:3]
        assert sorted(order) == [0, 1, 2]  # hydrogens are lowest


@pytest.mark.parametrize("make", [xray_map, electron_potential_map])
def test_files_hold_the_map_in_the_frame_of_the_atoms(formamide, tmp_path, make):
    """gemmi's own interpolation of the written map at the atoms: e/angstrom^3, or volt."""
    field = make(formamide, 1.0, 10.0, spacing=0.15)
    denser.write(tmp_path / "a.ccp4", field)
    ccp4_map = gemmi.read_ccp4_map(str(tmp_path / "a.ccp4"))
    first = np.array([ccp4_map.header_i32(5 + i) for i in range(3)])
    ccp4_map.setup(0.0)
    start = first * ccp4_map.grid.spacing
    origin = np.array([ccp4_map.header_float(50 + i) for i in range(3)])
    assert np.abs(start - origin).max() <= 0.5 * max(ccp4_map.grid.spacing) + 1e-4
    found = [
        ccp4_map.grid.tricubic_interpolation(gemmi.Position(*(x * BOHR - origin + start)))
        for x in formamide.structure.positions
    ]
    expected = at(field, formamide.structure.positions)
    if make is xray_map:
        expected /= BOHR**3
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_a_crystal_map_has_the_symmetry_of_the_group(formamide):
    cell = np.array([[9.0, 0, 0], [0, 10.0, 0], [-2.0, 0, 11.0]]) / BOHR
    field = xray_map(formamide, 1.2, 5.0, cell=cell, space_group="P 1 21/c 1")
    values = field.values
    assert field.integrate() == pytest.approx(4 * 23, abs=0.05)
    inverted = np.roll(values[::-1, ::-1, ::-1], 1, axis=(0, 1, 2))
    np.testing.assert_allclose(values, inverted, atol=1e-9)
    glide = np.roll(values[:, ::-1, :], 1, axis=1)  # x, 1/2 - y, 1/2 + z
    n = values.shape
    glide = np.roll(glide, (n[1] // 2, n[2] // 2), axis=(1, 2))
    np.testing.assert_allclose(values, glide, atol=1e-9)
    atoms = formamide.structure.positions
    assert at(field, atoms)[:3].min() > 0.3


# Agreement


@pytest.fixture(scope="module")
def fields():
    grid = Grid(np.zeros(3), np.diag([14.0, 15.0, 16.0]), (36, 40, 42))
    rng = np.random.default_rng(0)
    return [Field(grid, rng.normal(size=grid.shape)) for _ in range(3)]


def test_correlation_ignores_scale_and_offset(fields):
    a = fields[0]
    scaled = Field(a.grid, 3 * a.values - 7, "V")
    assert real_space_correlation(a, scaled).correlation == pytest.approx(1)
    assert real_space_correlation(a, Field(a.grid, -a.values)).correlation == pytest.approx(-1)
    assert abs(real_space_correlation(a, fields[1]).correlation) < 0.02
    expected = np.corrcoef(a.values.ravel(), (a.values + fields[1].values).ravel())[0, 1]
    both = Field(a.grid, a.values + fields[1].values)
    assert real_space_correlation(a, both).correlation == pytest.approx(expected)


def test_mask_and_atoms_pick_their_own_nodes(fields):
    a, b = fields[:2]
    structure = Structure([6, 8], [[0.2, 7.0, 8.0], [7.0, 7.0, 8.0]])
    points = a.grid.points()
    away = points - structure.positions[0]
    away -= np.round(away / np.diag(a.grid.cell)) * np.diag(a.grid.cell)
    near = np.linalg.norm(away, axis=-1) <= 1.5 / BOHR
    mixed = Field(a.grid, np.where(near, a.values, b.values))
    found = real_space_correlation(a, mixed, structure=structure)
    assert found.atoms[0] == pytest.approx(1)  # through the box's face
    assert abs(found.atoms[1]) < 0.2
    masked = real_space_correlation(a, mixed, mask=near)
    assert masked.correlation == pytest.approx(1)
    assert masked.n_nodes == near.sum()
    assert json.loads(json.dumps(found.to_dict()))["radius_angstrom"] == pytest.approx(1.5)
    assert len(found.lines()) == 3


def test_shell_correlation_of_half_maps_of_equal_signal_and_noise(fields):
    """Two maps of one signal with independent noise of the same power correlate to 1/2."""
    signal, one, other = (field.values for field in fields)
    grid = fields[0].grid
    found = fourier_shell_correlation(Field(grid, signal + one), Field(grid, signal + other))
    large = found.counts > 1000
    np.testing.assert_allclose(found.correlation[large], 0.5, atol=0.12)
    mean = np.average(found.correlation, weights=found.counts)
    assert mean == pytest.approx(0.5, abs=0.02)
    assert found.counts.sum() < grid.size


def test_shell_correlation_finds_the_resolution(formamide):
    fine, coarse = (xray_map(formamide, d, 5.0, spacing=0.3) for d in (0.9, 2.0))
    found = fourier_shell_correlation(fine, coarse)
    shell = found.frequency[1] - found.frequency[0]
    # The shell that holds 2.0 angstrom is filled in part, the next one is empty.
    assert 1 / found.resolution_05 == pytest.approx(BOHR / 2.0, abs=1.5 * shell)
    assert found.resolution_0143 < found.resolution_05
    np.testing.assert_allclose(found.correlation[BOHR / found.frequency > 2.5], 1, atol=1e-9)
    assert (found.correlation[BOHR / found.frequency < 1.7] == 0).all()
    same = fourier_shell_correlation(coarse, Field(coarse.grid, 2 * coarse.values))
    assert 1 / same.resolution_05 == pytest.approx(BOHR / 2.0, abs=1.5 * shell)
    noise = Field(fine.grid, np.random.default_rng(1).normal(size=fine.grid.shape))
    assert fourier_shell_correlation(noise, noise).resolution_0143 is None
    assert "to the end" in fourier_shell_correlation(noise, noise).lines()[0]
    assert json.loads(json.dumps(found.to_dict()))["resolution_at_0.5_angstrom"] > 1


def test_bad_input(formamide, fields):
    a = fields[0]
    other = Field(Grid(np.ones(3), a.grid.cell, a.grid.shape), a.values)
    for function in (real_space_correlation, fourier_shell_correlation):
        with pytest.raises(InputError, match="the grids differ"):
            function(a, other)
    with pytest.raises(InputError, match="mask"):
        real_space_correlation(a, a, mask=np.zeros(a.grid.shape))
    with pytest.raises(InputError, match="constant"):
        real_space_correlation(a, Field(a.grid, np.ones(a.grid.shape)))
    with pytest.raises(InputError, match="shells"):
        fourier_shell_correlation(a, a, n_shells=500)
    with pytest.raises(InputError, match="finer spacing"):
        xray_map(formamide, 1.0, spacing=0.6)
    with pytest.raises(InputError, match="positive length"):
        xray_map(formamide, 1.0, spacing=-0.6)
