"""Form factors and structure factors: exact sums, other programs' atoms, symmetry."""

import json
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from denser.analysis.crystal.form_factors import (
    electron_form_factor,
    form_factors,
    mott_bethe,
    spherical_form_factor,
)
from denser.analysis.crystal.scattering import displacement_factors, structure_factors, write_tsc
from denser.analysis.crystal.symmetry import miller_indices, operations, site_occupancies
from denser.atoms.free_atoms import complete, free_atom
from denser.atoms.sad import superposition, valence_charges
from denser.io import tsc
from denser.labels.reading import read_label
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.evaluate.measure import reference_density

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def label():
    return read_label(REFERENCE / "labels" / "H2O.npz")


@pytest.fixture(scope="module")
def water(label):
    return reference_density(label)


def molecule(symbols, positions, spacing=0.3, padding=7.0):
    """SAD of atoms at positions in angstrom, in a box of their own."""
    numbers = [gemmi.Element(s).atomic_number for s in symbols]
    structure = Structure(numbers, np.array(positions) / BOHR)
    return superposition(structure, Grid.around(structure, padding, spacing))


@pytest.fixture(scope="module")
def hcn():
    return molecule("NCH", [[2.9, 2.1, 3.2], [3.4, 2.9, 3.9], [3.9, 3.6, 4.6]])


# Free atoms


@pytest.mark.parametrize("z", [6, 7, 8, 9, 14, 15, 16, 17])
def test_free_atoms_against_the_international_tables(z):
    """The tables hold relativistic Hartree-Fock atoms: PBE is within a percent."""
    q = np.linspace(0, 8, 33)
    stol2 = (q / (4 * np.pi * BOHR)) ** 2
    expected = np.array([gemmi.Element(z).it92.calculate_sf(x) for x in stol2])
    np.testing.assert_allclose(spherical_form_factor(z, q), expected, rtol=0.01)
    assert spherical_form_factor(z, 0.0) == pytest.approx(z, abs=1e-5)
    q = np.linspace(2, 8, 20)
    stol2 = (q / (4 * np.pi * BOHR)) ** 2
    expected = np.array([gemmi.Element(z).c4322.calculate_sf(x) for x in stol2])
    np.testing.assert_allclose(electron_form_factor(z, q) * BOHR, expected, rtol=0.01)


def test_mott_bethe_has_the_published_constant():
    """0.023934 angstrom^-1 (Z - f)/s^2 (International Tables C, 4.3.1)."""
    s = 0.37  # 1/angstrom
    found = mott_bethe(6, 2.5, 4 * np.pi * s * BOHR) * BOHR
    assert found == pytest.approx(0.0239337 * 3.5 / s**2, rel=1e-5)


def test_electron_factor_is_smooth_to_the_forward_direction():
    q = np.linspace(0, 0.2, 41)
    f = electron_form_factor(8, q)
    r = np.linspace(0, 20, 200001)
    moment = np.trapezoid(4 * np.pi * r**4 * free_atom(8).all_electron(r), r)
    assert f[0] == pytest.approx(moment / 3, rel=1e-4)
    assert np.abs(np.diff(f, 2)).max() < 1e-3 * f[0]


# Hirshfeld atoms


def test_hirshfeld_atoms_against_an_all_electron_calculation(water):
    """PySCF, all-electron PBE/aug-cc-pVQZ: see reference/make_form_factors.py.

    The rest is the level's: frozen cores, GTH-TZV2P and the paper's small box.
    """
    reference = json.loads((REFERENCE / "form_factors_water.json").read_text())
    expected = np.array(reference["f_real"]) + 1j * np.array(reference["f_imag"])
    found = form_factors(water, np.array(reference["q"]) / (2 * np.pi))
    error = np.abs(found - expected).sum(axis=1) / np.abs(expected).sum(axis=1)
    assert error[0] < 0.005
    assert error[1:].max() < 0.015
    # What is aspherical is right as well, not only the free atoms that dominate.
    q = np.linalg.norm(reference["q"], axis=1)
    free = np.array([spherical_form_factor(z, q) for z in (8, 1, 1)])
    assert np.abs(found - expected).max() < 0.1 * np.abs(free - expected).max()


def test_the_whole_is_the_transform_of_the_orbitals(label, water):
    """Exact: analytic transform of the GTH orbitals, and of the free atoms' cores."""
    from pyscf.pbc.df import ft_ao

    from denser.dft.scf import mean_field

    factors = structure_factors(water, 0.5)
    some = np.random.default_rng(0).choice(len(factors.hkl), 60, replace=False)
    g = 2 * np.pi * factors.hkl[some] @ np.linalg.inv(factors.cell)
    cell = mean_field(label.structure, label.grid).cell
    dm = 2 * label.mo_coeff @ label.mo_coeff.T
    expected = np.einsum("gij,ij->g", ft_ao.ft_aopair(cell, g), dm).conj()
    x, w = np.polynomial.legendre.leggauss(2000)
    q = np.linalg.norm(g, axis=1)
    for z, position in zip(label.structure.numbers, label.structure.positions, strict=True):
        radius = free_atom(int(z)).core_radius
        r = radius * (x + 1) / 2
        shell = 4 * np.pi * r**2 * free_atom(int(z)).core(r) * w * radius / 2
        expected += np.exp(1j * g @ position) * (np.sinc(np.outer(q, r) / np.pi) @ shell)
    assert np.abs(factors.f_calc[some] - expected).max() < 1e-4
    assert factors.f_000 == pytest.approx(10, abs=1e-3)


def test_a_valence_density_and_its_completion_agree(water):
    a, b = structure_factors(water, 0.8), structure_factors(complete(water), 0.8)
    np.testing.assert_allclose(a.f_calc, b.f_calc, atol=1e-9)


def test_free_atoms_have_no_asphericity(hcn):
    """Superposed pseudo-atoms give the independent-atom model."""
    structure, grid = hcn.structure, hcn.grid
    values = np.zeros(grid.shape)
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        away = grid.points() - position
        values += free_atom(int(z)).pseudo(np.linalg.norm(away, axis=-1))
    density = Density(grid, values, structure=structure, valence_charges=valence_charges(structure))
    factors = structure_factors(density, 0.8)
    np.testing.assert_allclose(factors.f_calc, factors.f_spherical, atol=2e-3)
    assert factors.asphericity < 1e-4 < structure_factors(hcn, 0.8).asphericity


def test_a_shifted_grid_changes_nothing(water):
    """Atoms, and so phases, stay; the nodes are other ones of the same periodic density."""
    grid = Grid(water.grid.origin + water.grid.cell[0] / 2, water.grid.cell, water.grid.shape)
    rolled = replace(water, grid=grid, values=np.roll(water.values, -25, axis=0))
    a, b = structure_factors(water, 0.9), structure_factors(rolled, 0.9)
    np.testing.assert_allclose(a.f_calc, b.f_calc, atol=1e-9)


def test_a_moved_origin_turns_the_phases_only(water):
    shift = np.array([1.0, -2.0, 0.7])
    structure = replace(water.structure, positions=water.structure.positions + shift)
    grid = Grid(water.grid.origin + shift, water.grid.cell, water.grid.shape)
    a = structure_factors(water, 0.9)
    b = structure_factors(replace(water, grid=grid, structure=structure), 0.9)
    phase = np.exp(2j * np.pi * a.hkl @ (shift @ np.linalg.inv(a.cell)))
    np.testing.assert_allclose(b.f_calc, a.f_calc * phase, atol=1e-9)


# Displacements


def test_isotropic_b_is_the_tensor_b_over_8_pi_squared(water):
    b = np.array([1.0, 2.0, 3.0])
    u = b[:, None, None] / (8 * np.pi**2) * np.eye(3)
    one, other = (structure_factors(water, 0.9, b_factors=x) for x in (b, u))
    np.testing.assert_allclose(one.f_calc, other.f_calc, atol=1e-10)
    assert one.f_000 == pytest.approx(structure_factors(water, 0.9).f_000)


def test_b_of_all_atoms_damps_the_structure_factor(water):
    still, moving = structure_factors(water, 0.9), structure_factors(water, 0.9, b_factors=4.0)
    damping = np.exp(-4.0 / (4 * still.d_spacing**2))
    np.testing.assert_allclose(moving.f_calc, still.f_calc * damping, atol=1e-10)


def test_anisotropic_u_smears_along_its_own_axis():
    structure = Structure([8], np.zeros((1, 3)))
    u = np.diag([0.05, 0.0, 0.0])[None]
    found = displacement_factors(structure, u, np.array([[0.5, 0, 0], [0, 0.5, 0]]) * BOHR)
    np.testing.assert_allclose(found, [[np.exp(-2 * np.pi**2 * 0.05 * 0.25), 1.0]])


# Symmetry

CELL = np.array([[9.0, 0, 0], [0, 10.0, 0], [0, 0, 11.0]]) / BOHR
OBLIQUE = np.array([[9.0, 0, 0], [0, 10.0, 0], [-2.0, 0, 11.0]]) / BOHR


@pytest.mark.parametrize(
    ("group", "cell"), [("P 21 21 21", CELL), ("P 1 21/c 1", OBLIQUE), ("C 1 2 1", OBLIQUE)]
)
def test_spherical_atoms_in_a_space_group_against_gemmi(group, cell):
    density = molecule("NCO", [[2.9, 2.1, 3.2], [3.4, 2.9, 3.9], [3.9, 3.7, 4.6]])
    b = np.array([2.0, 3.0, 4.0])
    factors = structure_factors(density, 1.0, b, cell, group)
    crystal = gemmi.SmallStructure()
    a = np.linalg.norm(cell, axis=1) * BOHR
    beta = np.degrees(np.arccos(cell[0] @ cell[2] / (a[0] * a[2]) * BOHR**2))
    crystal.cell = gemmi.UnitCell(*a, 90, beta, 90)
    crystal.spacegroup_hm = group
    crystal.determine_and_set_spacegroup("1")
    for symbol, position, b_iso in zip("NCO", density.structure.positions, b, strict=True):
        site = gemmi.SmallStructure.Site()
        site.label = symbol
        site.element = gemmi.Element(symbol)
        site.fract = crystal.cell.fractionalize(gemmi.Position(*(position * BOHR)))
        site.u_iso = b_iso / (8 * np.pi**2)
        crystal.add_site(site)
    calculator = gemmi.StructureFactorCalculatorX(crystal.cell)
    expected = np.array(
        [calculator.calculate_sf_from_small_structure(crystal, hkl.tolist()) for hkl in factors.hkl]
    )
    error = np.abs(factors.f_spherical - expected).sum() / np.abs(expected).sum()
    assert error < 0.006
    assert factors.f_000 == pytest.approx(21 * len(operations(group)), abs=0.05)


def test_a_space_group_is_its_copies_in_p1(hcn):
    """An asymmetric unit in P -1 against the molecule and its inverse in the whole cell."""
    cell = CELL
    inverse = cell.sum(axis=0) - hcn.structure.positions
    both = Structure(
        np.tile(hcn.structure.numbers, 2),
        np.concatenate([hcn.structure.positions, inverse]),
        cell=cell,
    )
    whole = superposition(both, Grid(np.zeros(3), cell, (60, 64, 72)))
    one = structure_factors(hcn, 1.0, cell=cell, space_group="P -1")
    all_of_it = structure_factors(whole, 1.0)
    order = {tuple(hkl): f for hkl, f in zip(*all_of_it.expanded(), strict=True)}
    expected = np.array([order[tuple(hkl)] for hkl in one.hkl])
    np.testing.assert_allclose(one.f_calc, expected, atol=0.02)
    assert np.abs(one.f_calc.imag).max() < 1e-6
    # Far less than what bonding does to these structure factors.
    assert np.abs(one.f_calc - expected).max() < 0.05 * np.abs(one.f_calc - one.f_spherical).max()


def test_expansion_covers_the_sphere_of_p1(hcn):
    one = structure_factors(hcn, 1.3, cell=CELL, space_group="P 21 21 21")
    hkl, f = one.expanded()
    half = miller_indices(CELL, 1.3)
    assert len(hkl) <= 2 * len(half) + 1
    found = {tuple(x): y for x, y in zip(hkl, f, strict=True)}
    for x, y in found.items():
        assert found[tuple(-np.array(x))] == pytest.approx(np.conj(y), abs=1e-9)
    absent = [x for x in map(tuple, half) if x not in found]
    assert absent  # and those are the screw axes' odd orders only
    assert all(sum(i != 0 for i in x) == 1 and sum(x) % 2 for x in absent)


def test_a_molecule_on_an_inversion_centre_counts_once():
    density = molecule("OCO", [[-1.16, 0.2, 0.1], [0, 0, 0], [1.16, -0.2, -0.1]])
    one = structure_factors(density, 1.0, cell=CELL)
    other = structure_factors(density, 1.0, cell=CELL, space_group="P -1")
    np.testing.assert_allclose(site_occupancies(density.structure, CELL, "P -1"), 0.5)
    assert other.f_000 == pytest.approx(one.f_000)
    mine = {tuple(hkl): f for hkl, f in zip(*one.expanded(), strict=True)}
    expected = np.array([mine[tuple(hkl)] for hkl in other.hkl])
    np.testing.assert_allclose(other.f_calc, expected, atol=1e-4)


def test_electron_structure_factors_obey_mott_and_bethe(hcn):
    x, e = structure_factors(hcn, 1.0), structure_factors(hcn, 1.0, kind="electron")
    q = 2 * np.pi * BOHR / x.d_spacing
    nuclei = hcn.structure.numbers @ np.exp(
        2j * np.pi * hcn.structure.positions @ np.linalg.inv(x.cell) @ x.hkl.T
    )
    np.testing.assert_allclose(e.f_calc, 2 * (nuclei - x.f_calc) / q**2, atol=1e-9)


# Output and input


def test_report(hcn):
    factors = structure_factors(hcn, 1.0)
    plain = json.loads(json.dumps(factors.to_dict()))
    assert plain["f_000_e"] == pytest.approx(14, abs=0.01)
    assert plain["n_reflections"] == len(factors.hkl)
    assert "14.0" in "\n".join(factors.lines())
    electron = structure_factors(hcn, 1.0, kind="electron")
    assert electron.to_dict()["f_000_angstrom"] == pytest.approx(electron.f_000 * BOHR)
    assert "electron structure factors" in electron.lines()[0]


def test_tsc_of_a_density(hcn, tmp_path):
    write_tsc(tmp_path / "a.tsc", hcn, 1.2, CELL)
    labels, hkl, factors = tsc.read(tmp_path / "a.tsc")
    assert labels == ["N1", "C1", "H1"]
    known = structure_factors(hcn, 1.2, cell=CELL)
    phase = np.exp(2j * np.pi * hcn.structure.positions @ np.linalg.inv(CELL) @ hkl.T)
    found = {tuple(x): y for x, y in zip(hkl, (factors * phase).sum(axis=0), strict=True)}
    np.testing.assert_allclose([found[tuple(x)] for x in known.hkl], known.f_calc, atol=1e-6)
    assert tuple(-known.hkl[0]) in found


def test_bad_input(hcn):
    for arguments, message in [
        ({"d_min": 0.2}, "resolves reflections down to 0.318 angstrom"),
        ({"d_min": -1.0}, "positive"),
        ({"d_min": 90.0}, "no reflections to 90 angstrom"),
        ({"d_min": 1.0, "b_factors": [1.0, 2.0]}, "b_factors"),
        ({"d_min": 1.0, "kind": "neutron"}, "neutron"),
        ({"d_min": 1.0, "space_group": "P 9"}, "unknown space group 'P 9'"),
        ({"d_min": 1.0, "space_group": "P 41", "cell": CELL}, "does not fit space group P 41"),
        ({"d_min": 1.0, "cell": np.ones((3, 3))}, "three independent vectors"),
    ]:
        with pytest.raises(InputError, match=message):
            structure_factors(hcn, **arguments)
    with pytest.raises(InputError, match=r"atom 2 .C. has 6 valence electrons"):
        structure_factors(replace(hcn, valence_charges=[5.0, 6.0, 1.0]), 1.0)
    with pytest.raises(InputError, match=r"0\.042 angstrom"):
        spherical_form_factor(6, 90.0)
