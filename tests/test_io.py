"""Files: round trips, other programs' readers and writers, damaged files, failed writes."""

import contextlib
import copy
import errno
import os
import struct
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import denser
from denser.atoms.free_atoms import complete
from denser.atoms.sad import superposition
from denser.io import SUFFIXES, check_suffix, cube, read, read_density, write
from denser.io._digits import exponential, lines
from denser.io.electrons import describe
from denser.types.density import SPIN_UNIT, Density, Field
from denser.types.errors import DiskFull, InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

NAMES = ("a.cube", "CHGCAR", "a.ccp4", "a.npz")
CUBOID = np.diag([5.0, 6.5, 8.0])
STANDARD = np.array([[5.0, 0, 0], [1.2, 6.5, 0], [-0.7, 0.9, 8.0]])
"""As maps have it: first vector along x, second in the xy plane."""
SKEWED = np.array([[5.0, 0.3, -0.2], [0.1, 6.5, 0.4], [1.5, -0.6, 8.0]])


def make_density(cell=SKEWED, shape=(5, 7, 9), charge=-1, periodic=False, dtype=float):
    rng = np.random.default_rng(7)
    values = (rng.normal(size=shape) * 10 ** rng.uniform(-12, 2, shape)).astype(dtype)
    values.flat[:3] = 0.0, 9.999996e-1, -9.9999951e-8
    # Ungrouped species, and atoms outside of the box.
    positions = np.array([[0.1, 0.2, 0.3], [1.9, 0.1, -0.4], [-0.5, 1.8, 0.2], [3.1, 2.9, 4.0]])
    structure = Structure([1, 8, 1, 6], positions, charge, cell if periodic else None)
    grid = Grid([-1.25, 2.5, 0.375], cell, shape)
    return Density(grid, values, structure=structure, valence_charges=[1, 6, 1, 4])


def assert_same_atoms(found, expected, tolerance=1e-12):
    assert isinstance(found, Density)
    a, b = found.structure, expected.structure
    np.testing.assert_array_equal(a.numbers, b.numbers)
    np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=tolerance)
    assert a.charge == b.charge
    np.testing.assert_array_equal(found.valence_charges, expected.valence_charges)


def put(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Round trips


@pytest.mark.parametrize("cell", [CUBOID, STANDARD, SKEWED])
@pytest.mark.parametrize("shape", [(5, 7, 9), (2, 3, 12), (4, 1, 1)])
def test_cube_round_trip(tmp_path, cell, shape):
    density = make_density(cell, shape)
    write(tmp_path / "a.cube", density)
    found = read(tmp_path / "a.cube")
    assert found.grid.same_as(density.grid, 1e-6)
    np.testing.assert_allclose(found.values, density.values, rtol=5.1e-6)
    assert_same_atoms(found, density, 1e-6)
    assert found.structure.cell is None


def test_cubes_and_maps_of_other_values_keep_their_unit(tmp_path):
    density = make_density(CUBOID)
    potential = Density(
        density.grid,
        density.values,
        "hartree/e",
        structure=density.structure,
        valence_charges=density.valence_charges,
    )
    for name in ("a.cube", "a.ccp4"):
        write(tmp_path / name, potential)
        found = read(tmp_path / name)
        assert found.unit == "hartree/e"
        np.testing.assert_allclose(found.values, potential.values, rtol=1e-5)
    with pytest.raises(InputError, match="hartree/e"):
        write(tmp_path / "CHGCAR", potential)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(5, 7, 9), (5, 2, 3)])
def test_chgcar_round_trip(tmp_path, periodic, shape):
    density = make_density(shape=shape, periodic=periodic)
    write(tmp_path / "CHGCAR_1", density)
    found = read(tmp_path / "CHGCAR_1")
    assert found.grid.same_as(density.grid, 1e-12)
    np.testing.assert_allclose(found.values, density.values, rtol=5.1e-11)
    assert_same_atoms(found, density)
    if periodic:
        np.testing.assert_allclose(found.structure.cell, density.structure.cell, atol=1e-12)
    else:
        assert found.structure.cell is None


def test_large_chgcar_is_read_in_grouped_order(tmp_path):
    grid = Grid(np.zeros(3), 20 * np.eye(3), (2, 2, 2))
    positions = 3.0 * np.stack(np.unravel_index(np.arange(120), (5, 5, 5)), axis=-1)
    structure = Structure([1, 6] * 60, positions)
    density = Density(
        grid, np.ones(grid.shape), structure=structure, valence_charges=[1.0, 4.0] * 60
    )
    write(tmp_path / "a.chgcar", density)
    found = read(tmp_path / "a.chgcar")
    order = [*range(0, 120, 2), *range(1, 120, 2)]
    np.testing.assert_array_equal(found.structure.numbers, structure.numbers[order])
    np.testing.assert_allclose(found.structure.positions, positions[order], atol=1e-12)
    np.testing.assert_array_equal(found.valence_charges, density.valence_charges[order])


@pytest.mark.parametrize("cell", [CUBOID, STANDARD])
@pytest.mark.parametrize("suffix", [".ccp4", ".map", ".MRC"])
def test_map_round_trip(tmp_path, cell, suffix):
    density = make_density(cell)
    write(tmp_path / f"a{suffix}", density)
    found = read(tmp_path / f"a{suffix}")
    assert type(found) is Field
    assert found.unit == "e/bohr^3"
    assert found.grid.same_as(density.grid, 2e-6)
    np.testing.assert_allclose(found.values, density.values, rtol=1e-6)


def test_map_of_a_rotated_box_is_refused(tmp_path):
    with pytest.raises(InputError, match="first vector along x"):
        write(tmp_path / "a.map", make_density(SKEWED))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("periodic", [True, False])
def test_npz_is_lossless(tmp_path, dtype, periodic):
    density = make_density(periodic=periodic, dtype=dtype)
    write(tmp_path / "a.npz", density)
    found = read(tmp_path / "a.npz")
    assert found.values.dtype == dtype
    np.testing.assert_array_equal(found.values, density.values)
    assert found.grid.same_as(density.grid, 0.0)
    assert_same_atoms(found, density, 0.0)
    if periodic:
        np.testing.assert_array_equal(found.structure.cell, density.structure.cell)
    else:
        assert found.structure.cell is None


def test_npz_of_a_field(tmp_path):
    density = make_density()
    write(tmp_path / "a.npz", Field(density.grid, density.values, "hartree/e"))
    found = read(tmp_path / "a.npz")
    assert type(found) is Field
    assert found.unit == "hartree/e"
    np.testing.assert_array_equal(found.values, density.values)


# Numbers as text


def as_python(values, decimals):
    # Zero has no sign, and what needs three digits of exponent is zero.
    values = [0.0 if abs(value) < 1e-99 else value for value in values]
    return [f"{value + 0.0:{decimals + 8}.{decimals}E}" for value in values]


NUMBERS = st.one_of(
    st.floats(-9e98, 9e98),
    st.floats(-1, 1),
    st.sampled_from([0.0, -0.0, 5e-324, -1e-300, 1e-99, -9.99e-100, 9.8e98]),
    # Near powers of ten and near ties, where an approximate digit shows.
    st.builds(lambda k, d: 10.0**k * (1 + d * 2**-52), st.integers(-98, 98), st.integers(-9, 9)),
    st.builds(
        lambda m, k, s: s * (m + 0.5) * 10.0**k,
        st.integers(100000, 999999),
        st.integers(-90, 90),
        st.sampled_from([-1, 1]),
    ),
    st.builds(lambda k: 9.999996 * 10.0**k, st.integers(-98, 97)),
)


@pytest.mark.parametrize("decimals", [5, 10])
@given(values=st.lists(NUMBERS, min_size=1, max_size=50))
def test_numbers_are_those_of_python(decimals, values):
    text = exponential(np.array(values), decimals)
    assert [row.tobytes().decode() for row in text] == as_python(values, decimals)


@given(
    n_rows=st.integers(1, 40),
    n_columns=st.integers(1, 20),
    per_line=st.integers(1, 7),
    seed=st.integers(0, 9),
)
@settings(max_examples=40)
def test_lines(n_rows, n_columns, per_line, seed):
    values = np.random.default_rng(seed).normal(size=(n_rows, n_columns))
    expected = ""
    for row in values:
        numbers = as_python(row, 5)
        for i in range(0, n_columns, per_line):
            expected += "".join(numbers[i : i + per_line]) + "\n"
    assert b"".join(block.tobytes() for block in lines(values, per_line, 5)).decode() == expected


def test_extreme_values_keep_the_layout(tmp_path):
    density = make_density(CUBOID, (3, 2, 7))
    values = density.values.copy()
    values[1, 0] = -1e-300, 1e-310, -9.999999e-100, 1e95, -1e95, -1e-99, -5.0
    for name in ("a.cube", "CHGCAR"):
        write(tmp_path / name, density.with_values(values))
        np.testing.assert_allclose(read(tmp_path / name).values, values, rtol=6e-6, atol=1e-98)
        values[1, 0, 0] = 1e120
        with pytest.raises(InputError, match="too large"):
            write(tmp_path / name, density.with_values(values))
        values[1, 0, 0] = 0.0


def test_cube_layout_is_the_standard_one(tmp_path):
    density = make_density(shape=(2, 2, 8))
    write(tmp_path / "a.cube", density)
    text = (tmp_path / "a.cube").read_text().splitlines()
    assert text[:3] == [
        "denser: valence density in e/bohr^3",
        "charge=-1 spin=1",
        "    4   -1.250000    2.500000    0.375000",
    ]
    assert text[3] == "    2  2.50000000  0.15000000 -0.10000000"
    assert text[7] == "    8    6.000000    1.900000    0.100000   -0.400000"
    assert [len(line) for line in text[10:]] == [78, 26] * 4


def test_speed(tmp_path):
    density = make_density(CUBOID, (64, 64, 64))

    def least_seconds(act) -> float:
        """Least processor time of three runs, which other programs disturb least."""
        seconds = []
        for _ in range(3):
            start = time.process_time()
            act()
            seconds.append(time.process_time() - start)
        return min(seconds)

    # 4 million values in about 1 s and 2 s, with room for a slow machine.
    assert least_seconds(lambda: write(tmp_path / "a.cube", density)) < 0.25
    assert least_seconds(lambda: read(tmp_path / "a.cube")) < 0.5


# Which electrons a file holds


def make_water(charge=0):
    structure = Structure([8, 1, 1], [[0.0, 0, 0.2], [0, 1.4, -0.9], [0, -1.4, -0.9]], charge)
    return superposition(structure, Grid.around(structure, 6.0, 0.3))


@pytest.mark.parametrize("charge", [0, 1, 2])
def test_valence_densities_of_other_programs(tmp_path, foreign_files, charge):
    density = make_water(charge)
    for path in foreign_files(tmp_path, density):
        found = read(path)
        assert (found.structure.charge, found.all_electron) == (charge, False), path
        np.testing.assert_array_equal(found.valence_charges, [6, 1, 1])
        assert describe(read_density(path)).endswith(f"the {8 - charge} valence electrons of H2O")


def test_all_electron_densities_of_other_programs(tmp_path, foreign_files):
    density = replace(complete(make_water()), all_electron=False)
    for path in foreign_files(tmp_path, density):
        found = read(path)
        assert (found.structure.charge, found.all_electron) == (0, True), path
        np.testing.assert_array_equal(found.valence_charges, [8, 1, 1])


@pytest.mark.parametrize("name", ["a.cube", "CHGCAR", "a.npz"])
def test_our_files_say_kind_and_charge(tmp_path, name):
    for density in (make_water(2), complete(make_water(1)), complete(make_water(-2))):
        write(tmp_path / name, density)
        found = read(tmp_path / name)
        assert found.structure.charge == density.structure.charge
        assert found.all_electron == density.all_electron
        np.testing.assert_array_equal(found.valence_charges, density.valence_charges)
    # also where the electrons do not fit
    half = density.with_values(density.values / 2)
    write(tmp_path / name, half)
    assert read(tmp_path / name).structure.charge == -2
    with pytest.raises(InputError, match=f"{name}: the density holds"):
        read_density(tmp_path / name)


def test_kind_and_charge_that_the_caller_states(tmp_path, as_foreign_cube):
    path = as_foreign_cube(tmp_path / "a.cube", make_water(), lambda z: z)
    found = read(path, charge=-2, kind="all-electron")
    assert found.all_electron and found.structure.charge == -2
    assert read(path, kind="valence").structure.charge == 0
    with pytest.raises(InputError, match=r"a\.cube: unknown kind of density 'core'"):
        read(path, kind="core")
    with pytest.raises(InputError, match=r"a\.cube: the density holds .* charge 4"):
        read_density(path, charge=4)


@pytest.mark.parametrize("column", [0, 1])
def test_what_is_no_density_keeps_what_the_file_says(tmp_path, as_foreign_cube, column):
    density = make_water()
    potential = density.with_values(density.values - 0.3)
    path = as_foreign_cube(tmp_path / "a.cube", potential, lambda z: z * column)
    found = read(path)
    assert found.structure.charge == 0 and not found.all_electron
    np.testing.assert_array_equal(found.valence_charges, [8, 1, 1])
    np.testing.assert_allclose(found.values, potential.values, rtol=5.1e-6)
    with pytest.raises(InputError, match=r"a\.cube: the density holds .* neither|but H2O"):
        read_density(path)
    with pytest.raises(InputError, match="neither all nor the valence electrons of H2O"):
        denser.analyze(found)


def test_ions_of_either_kind_are_not_guessed(tmp_path, as_foreign_cube):
    """Eight electrons are those of the valence of OH- or all of OH+."""
    structure = Structure([8, 1], [[0.0, 0, 0], [0, 0, 1.8]], -1)
    grid = Grid.around(structure, 2.0, 0.08)  # where the cusp counts right
    density = superposition(structure, grid)
    path = as_foreign_cube(tmp_path / "a.cube", density, lambda z: z)
    with pytest.raises(InputError, match="say which it is"):
        read_density(path)
    found = read_density(path, charge=-1)
    assert not found.all_electron and found.structure.charge == -1
    assert read_density(path, kind="valence").structure.charge == -1


# Other programs read our files


def test_ase_reads_our_cube(tmp_path):
    from ase.io.cube import read_cube

    density = make_density()
    write(tmp_path / "a.cube", density)
    with open(tmp_path / "a.cube") as file:
        found = read_cube(file)
    np.testing.assert_allclose(found["data"], density.values, rtol=5.1e-6)
    np.testing.assert_allclose(found["origin"], density.grid.origin * BOHR, atol=1e-6)
    np.testing.assert_allclose(found["atoms"].cell, density.grid.cell * BOHR, atol=1e-6)
    np.testing.assert_array_equal(found["atoms"].numbers, density.structure.numbers)
    positions = density.structure.positions * BOHR
    np.testing.assert_allclose(found["atoms"].positions, positions, atol=1e-6)


def test_ase_reads_our_chgcar(tmp_path):
    from ase.calculators.vasp import VaspChargeDensity

    density = make_density()
    write(tmp_path / "CHGCAR", density)
    found = VaspChargeDensity(str(tmp_path / "CHGCAR"))
    np.testing.assert_allclose(found.chg[0] * BOHR**3, density.values, rtol=1e-8, atol=1e-20)
    atoms = found.atoms[0]
    assert atoms.get_chemical_symbols() == ["H", "H", "O", "C"]
    np.testing.assert_allclose(atoms.cell, density.grid.cell * BOHR, atol=1e-8)
    expected = (density.structure.positions - density.grid.origin)[[0, 2, 1, 3]]
    np.testing.assert_allclose(atoms.positions, expected * BOHR, atol=1e-8)


def test_gemmi_reads_our_map(tmp_path):
    import gemmi

    density = make_density(STANDARD)
    write(tmp_path / "a.ccp4", density)
    found = gemmi.read_ccp4_map(str(tmp_path / "a.ccp4"))
    assert found.header_i32(4) == 2
    assert found.axis_positions() == [0, 1, 2]
    assert "e/angstrom^3" in found.header_str(57, 80)
    np.testing.assert_allclose(np.array(found.grid) * BOHR**3, density.values, rtol=1e-6)
    origin = [found.header_float(i) for i in (50, 51, 52)]
    np.testing.assert_allclose(origin, density.grid.origin * BOHR, rtol=1e-6)
    a, b, c = found.grid.unit_cell.orth.mat.tolist()
    np.testing.assert_allclose(np.array([a, b, c]).T, STANDARD * BOHR, atol=1e-5)


def test_gemmi_and_coot_find_the_place_of_our_map(tmp_path):
    """They read NSTART, a whole number of nodes; it was 0 everywhere, off by the whole origin."""
    import gemmi

    cell, shape = np.diag([4.0, 5.0, 6.0]), (8, 10, 12)
    nodes = np.array([-3, 2, -17])
    density = make_density(cell, shape)
    for shift in (0.0, 0.1):
        grid = Grid((nodes + shift) * 0.5, cell, shape)
        write(tmp_path / "a.ccp4", Field(grid, density.values))
        found = gemmi.read_ccp4_map(str(tmp_path / "a.ccp4"), setup=True)
        place = gemmi.Position(*((nodes + [2, 3, 4]) * 0.5 * BOHR))
        value = found.grid.interpolate_value(place) * BOHR**3
        assert value == pytest.approx(density.values[2, 3, 4], rel=1e-4)
        assert read(tmp_path / "a.ccp4").grid.same_as(grid, 1e-5)


# We read other programs' files


def test_read_cube_of_pyscf(tmp_path):
    from pyscf import gto
    from pyscf.tools import cubegen

    mol = gto.M(atom="O 0.1 0.2 0.3; H 0.1 0.2 1.26; H 1.03 0.2 0.06", basis="sto-3g", verbose=0)
    path = str(tmp_path / "water.cube")
    rho = cubegen.density(mol, path, np.eye(mol.nao), nx=6, ny=7, nz=8)
    found = read(path)
    assert found.grid.shape == (6, 7, 8)
    np.testing.assert_allclose(found.values, rho, rtol=5.1e-6)
    np.testing.assert_array_equal(found.structure.numbers, [8, 1, 1])
    np.testing.assert_array_equal(found.valence_charges, [8, 1, 1])
    np.testing.assert_allclose(found.structure.positions, mol.atom_coords(), atol=1e-6)
    nodes = cubegen.Cube(mol, 6, 7, 8, resolution=None).get_coords()
    np.testing.assert_allclose(found.grid.points().reshape(-1, 3), nodes, atol=1e-5)


def test_read_cube_of_ase(tmp_path):
    from ase.io.cube import write_cube

    density = make_density(CUBOID)
    atoms = density.structure.to_ase()
    atoms.cell = density.grid.cell * BOHR
    with open(tmp_path / "a.cube", "w") as file:
        write_cube(file, atoms, density.values, origin=density.grid.origin * BOHR)
    found = read(tmp_path / "a.cube")
    assert found.grid.same_as(density.grid, 1e-5)
    np.testing.assert_allclose(found.values, density.values, rtol=1e-6)
    np.testing.assert_allclose(found.structure.positions, density.structure.positions, atol=1e-6)


def text_of_cube(atoms=1, sign="", ids="", values="1.0 2.0 3.0 4.0 5.0 6.0"):
    return f"""title
 comment
{atoms:5d}    1.000000    2.000000    3.000000
 {sign}2    0.500000    0.000000    0.000000
 {sign}1    0.000000    0.500000    0.000000
 {sign}3    0.000000    0.000000    0.500000
    3    3.000000    1.000000    2.000000    3.000000
{ids} {values}
"""


def test_cube_in_angstrom(tmp_path):
    found = read(put(tmp_path / "a.cube", text_of_cube(sign="-")))
    assert found.grid.shape == (2, 1, 3)
    np.testing.assert_allclose(found.grid.cell, np.diag([1.0, 0.5, 1.5]) / BOHR)
    np.testing.assert_allclose(found.grid.origin, np.array([1, 2, 3]) / BOHR)
    np.testing.assert_allclose(found.structure.positions, np.array([[1, 2, 3]]) / BOHR)
    mixed = text_of_cube(sign="-").replace("-1 ", " 1 ")
    with pytest.raises(InputError, match=r"a.cube:5: .* of one sign"):
        read(put(tmp_path / "a.cube", mixed))


def test_cube_of_orbitals(tmp_path):
    found = read(put(tmp_path / "a.cube", text_of_cube(atoms=-1, ids="1 5\n")))
    np.testing.assert_array_equal(found.values.ravel(), [1, 2, 3, 4, 5, 6])
    assert found.structure.charge == 0
    assert found.unit == "bohr^-3/2"
    several = text_of_cube(atoms=-1, ids="2 5 6\n", values="1.0 " * 12)
    with pytest.raises(InputError, match=r"a.cube:8: expected one orbital, found 2"):
        read(put(tmp_path / "a.cube", several))
    several = text_of_cube().replace("3.000000\n", "3.000000    2\n", 1)
    with pytest.raises(InputError, match=r"a.cube:3: expected one value per point, found 2"):
        read(put(tmp_path / "a.cube", several))


def test_cube_without_atoms_is_a_field(tmp_path):
    lines_of_text = text_of_cube(atoms=0).splitlines(keepends=True)
    found = read(put(tmp_path / "a.cub", "".join(lines_of_text[:6] + lines_of_text[7:])))
    assert type(found) is Field


def test_cube_of_fortran_numbers(tmp_path):
    values = "1.0D+00 -1.5d-1 2.5-101 1.00000E+00-1.00000E-100 7"
    found = read(put(tmp_path / "a.cube", text_of_cube(values=values)))
    np.testing.assert_array_equal(found.values.ravel(), [1, -0.15, 2.5e-101, 1, -1e-100, 7])


CHGCAR = """some crystal
 2.0
   1.0 0.0 0.0
   0.0 1.5 0.0
   0.0 0.0 2.0
   Si_pv/0123 O
   1 1
Direct
  0.0 0.0 0.0
  0.5 0.5 0.5

    2    1    3
 .60000000000E+01 .12000000000E+02 .18000000000E+02 .24000000000E+02 .30000000000E+02
 .36000000000E+02
augmentation occupancies   1   2
  0.1 0.2
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Direct", "Selective dynamics\nDirect"),
        ("\n 2.0\n", "\n -24.0\n"),
        ("\n 2.0\n", "\n 2.0 2.0 2.0\n"),
        ("Direct", "Cartesian"),
        ("augmentation occupancies   1   2\n  0.1 0.2\n", ""),
        ("\n", "\r\n"),
        ("  0.5 0.5 0.5\n", "  0.5 0.5 0.5 T T F\n"),
    ],
)
def test_chgcar_of_other_programs(tmp_path, old, new):
    text = CHGCAR.replace(old, new)
    if new == "Cartesian":
        text = text.replace("0.5 0.5 0.5", "0.5 0.75 1.0")
    found = read(put(tmp_path / "CHGCAR", text))
    cell = np.diag([2.0, 3.0, 4.0]) / BOHR
    np.testing.assert_allclose(found.grid.cell, cell)
    np.testing.assert_allclose(found.structure.cell, cell)
    np.testing.assert_array_equal(found.grid.origin, 0)
    np.testing.assert_array_equal(found.structure.numbers, [14, 8])
    np.testing.assert_allclose(found.structure.positions[1], np.diag(cell) / 2)
    volumes = np.array([[6, 18, 30], [12, 24, 36]])[:, None, :]
    np.testing.assert_allclose(found.values * found.grid.volume, volumes)
    assert found.structure.charge == 0
    np.testing.assert_array_equal(found.valence_charges, [14, 8])


SPIN_BLOCK = """ 0.7 -0.2
    2    1    3
 0.5 0.1 0.2 0.1 0.1
 1.0
augmentation occupancies   1   2
  0.3 0.4
"""


def test_chgcar_of_other_programs_with_spin(tmp_path):
    found = read(put(tmp_path / "CHGCAR", CHGCAR + SPIN_BLOCK))
    volumes = np.array([[0.5, 0.2, 0.1], [0.1, 0.1, 1.0]])[:, None, :]
    spin = found.spin_density
    np.testing.assert_allclose(spin.values * found.grid.volume, volumes)
    assert spin.unit == SPIN_UNIT and found.structure.spin == 0  # 0.33 electrons
    two = put(tmp_path / "CHGCAR_2", CHGCAR + SPIN_BLOCK.replace(" 1.0\n", " 11.0\n"))
    assert read(two).structure.spin == 2
    three = put(tmp_path / "CHGCAR_3", CHGCAR + 3 * SPIN_BLOCK)
    assert read(three).spin_density is None  # non-collinear spins
    with pytest.raises(InputError, match="expected 6 values after line 18, found 5"):
        read(put(tmp_path / "CHGCAR_4", CHGCAR + SPIN_BLOCK.replace(" 1.0\n", "")))


@pytest.mark.parametrize("name", ["a.npz", "CHGCAR", "a.vasp.gz"])
def test_spin_densities_stand_beside_densities(tmp_path, name):
    rng = np.random.default_rng(4)
    grid = Grid(np.ones(3), np.diag([4.0, 5.0, 6.0]), (4, 5, 3))
    structure = Structure(np.array([8, 1]), np.array([[2.0, 2, 2], [2, 2, 4]]), spin=1)
    rho, m = rng.random((2, *grid.shape))
    density = Density(grid, rho, structure=structure, valence_charges=np.array([6.0, 1.0]))
    write(tmp_path / name, density.with_spin_density(m - 0.5))
    for back in (read(tmp_path / name), copy.deepcopy(read(tmp_path / name))):
        np.testing.assert_allclose(back.values, rho, rtol=1e-9)
        np.testing.assert_allclose(back.spin_density.values, m - 0.5, rtol=1e-8)
        assert back.structure.spin == 1 and back.spin_density.unit == SPIN_UNIT
    assert back.with_values(rho).spin_density is None
    write(tmp_path / name, density)
    assert read(tmp_path / name).spin_density is None


def foreign_map(values, axes, start, sampling, lengths, origin=(0, 0, 0), order="<"):
    """Return the bytes of a map whose column, row and section axes are `axes`."""
    stored = np.transpose(values, [a - 1 for a in axes])
    words = [0] * 256
    words[0:3] = stored.shape
    words[3] = 2
    words[4:7] = [start[a - 1] for a in axes]
    words[7:10] = sampling
    words[16:19] = axes
    words[22] = 1
    header = bytearray(struct.pack(f"{order}256i", *words))
    header[40:64] = struct.pack(f"{order}6f", *lengths, 90, 90, 90)
    header[196:208] = struct.pack(f"{order}3f", *origin)
    header[208:216] = b"MAP " + (b"\x44\x44\0\0" if order == "<" else b"\x11\x11\0\0")
    return bytes(header) + stored.ravel(order="F").astype(f"{order}f4").tobytes()


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 1, 2), (2, 1, 3), (3, 2, 1)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_map_with_other_axes_and_start(tmp_path, axes, order):
    values = np.random.default_rng(1).normal(size=(2, 3, 4)).astype("f4")
    header = {"start": (1, -2, 3), "sampling": (4, 3, 8), "lengths": (4.0, 6.0, 16.0)}
    path = put(tmp_path / "a.map", foreign_map(values, axes, order=order, **header))
    found = read(path)
    np.testing.assert_allclose(found.values, values * BOHR**3, rtol=1e-6)
    np.testing.assert_allclose(found.grid.cell * BOHR, np.diag([2.0, 6.0, 8.0]), atol=1e-9)
    np.testing.assert_allclose(found.grid.origin * BOHR, [1.0, -4.0, 6.0], atol=1e-9)
    put(path, foreign_map(values, axes, order=order, origin=(0.5, 0, -1), **header))
    np.testing.assert_allclose(read(path).grid.origin * BOHR, [0.5, 0, -1], atol=1e-9)


# Damaged files


@pytest.mark.parametrize("name", NAMES)
def test_truncated(tmp_path, name):
    write(tmp_path / name, make_density(STANDARD, (3, 4, 5)))
    data = (tmp_path / name).read_bytes()
    # A text that lacks no more than its last line end is complete.
    last = len(data) - 1 if name in ("a.cube", "CHGCAR") else len(data)
    for size in [*range(0, last, 29), *range(last - 25, last)]:
        put(tmp_path / name, data[:size])
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "data",
    [b"", b"\n" * 50, b"\0" * 5000, b"not a density\n" * 99, b"PK\x03\x04" * 999, b"1 " * 99],
)
def test_garbage(tmp_path, name, data):
    with pytest.raises(InputError, match=name):
        read(put(tmp_path / name, data))


@pytest.mark.parametrize("name", NAMES)
def test_overwritten_byte_is_read_or_refused(tmp_path, name):
    write(tmp_path / name, make_density(STANDARD, (3, 4, 5)))
    data = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(3)
    for head in [len(data), 300] * 60:
        damaged = bytearray(data)
        damaged[rng.integers(head)] = rng.integers(256)
        with contextlib.suppress(InputError):
            read(put(tmp_path / name, bytes(damaged)))


@pytest.mark.parametrize("name", NAMES)
def test_unreadable(tmp_path, name):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" 1    1.000000", " 1 abc 1.000000", ":3: expected 4 numbers, found '1 abc 1.000000 "),
        ("0.500000", "nan", ":4: expected 4 numbers, found "),
        (" 2 ", " 0 ", ":4: expected the number of voxels, found 0"),
        (" 2 ", " 2.5 ", ":4: expected the number of voxels, found 2.5"),
        (" 2 ", " 2000000000 ", ": expected 6000000000 values after line 7, found 6"),
        ("    3    3.000000", "  3.5    3.000000", ":7: expected an atomic number, found 3.5"),
        ("    3    3.000000", "  119    3.000000", ": atom 1 has atomic number 119"),
        ("2.0 3.0", "2.0 three\n", ":8: expected finite numbers, found '1.0 2.0 three'"),
        ("5.0 6.0", "\n5.0 inf", ":9: expected finite numbers, found '5.0 inf'"),
        ("5.0 6", "5.0 5.5 6", ": expected 6 values after line 7, found 7"),
        ("5.0 6", "6", ": expected 6 values after line 7, found 5"),
    ],
)
def test_message_for_a_bad_cube(tmp_path, old, new, message):
    with pytest.raises(InputError) as caught:
        read(put(tmp_path / "bad.cube", text_of_cube().replace(old, new, 1)))
    assert str(caught.value).startswith(f"{tmp_path / 'bad.cube'}{message}")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("origin=-1.25,", "origin=", ": the comment line is damaged, expected origin"),
        ("charge=-1", "charge=x", ": the comment line is damaged, expected charge"),
        ("valence=", "", ": the comment line is damaged, expected valence to be there"),
        ("order=0,", "order=1,", ": the comment line is damaged, expected order"),
        ("   1.0\n", "   0\n", ":2: expected one scaling factor"),
        (" O ", " Oz ", ":6: expected element symbols, found 'H     Oz     C'"),
        ("     H     O     C\n", "", ":6: expected element symbols, found '2     1     1'"),
        ("     2     1", "     2     x", ":7: expected 3 numbers, found "),
        ("     2     1", "     3     1", ":13: expected 3 numbers, found "),
        ("    5    7    9", "    5    7", ":14: expected 3 numbers, found "),
        ("    5    7    9", "    5    7    0", ":14: expected three positive numbers"),
        ("    5    7    9", "    5    7    8", None),
        ("    5    7    9", "    5    7   10", ": expected 350 values after line 14, found 315"),
        ("E-", "X-", ":"),
    ],
)
def test_message_for_a_bad_chgcar(tmp_path, old, new, message):
    write(tmp_path / "CHGCAR", make_density())
    text = (tmp_path / "CHGCAR").read_text()
    assert old in text
    put(tmp_path / "CHGCAR", text.replace(old, new, 1))
    if message is None:  # what follows the grid is not read
        assert read(tmp_path / "CHGCAR").grid.shape == (5, 7, 8)
        return
    with pytest.raises(InputError) as caught:
        read(tmp_path / "CHGCAR")
    assert str(caught.value).startswith(f"{tmp_path / 'CHGCAR'}{message}")


def test_npz_of_something_else(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="found no format"):
        read(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.zeros(3))
    os.rename(tmp_path / "b.npy", tmp_path / "b.npz")
    with pytest.raises(InputError, match="not a complete"):
        read(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", format="denser-density-1", values=np.zeros((2, 2, 2)))
    with pytest.raises(InputError, match="has no 'unit'"):
        read(tmp_path / "c.npz")


# Writing


def test_suffixes(tmp_path):
    for name in [*(f"x{suffix}" for suffix in SUFFIXES), "X.CUBE", "CHGCAR", "CHGCAR_sum.vasp"]:
        check_suffix(tmp_path / name)
    for name in ("x", "x.xyz", "x.xyz.gz", "cube"):
        for act in (check_suffix, lambda path: write(path, make_density())):
            with pytest.raises(InputError, match=r"unknown file format.*\.cube, .*\.npz.*CHGCAR"):
                act(tmp_path / name)
        wanted = "is a structure, not a density" if ".xyz" in name else "unknown file format"
        with pytest.raises(InputError, match=wanted):
            read(tmp_path / name)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_written(tmp_path, name):
    density = make_density(STANDARD)
    for bad, message in ((np.nan, "not finite"), (-np.inf, "not finite"), (1j, "only real")):
        values = density.values + 0 * bad if bad == 1j else density.values.copy()
        values[1, 2, 3] = bad
        with pytest.raises(InputError, match=message):
            write(tmp_path / name, density.with_values(values))
    with pytest.raises(InputError, match="found ndarray"):
        write(tmp_path / name, density.values)
    if name in ("a.cube", "CHGCAR"):
        with pytest.raises(InputError, match="needs atoms"):
            write(tmp_path / name, Field(density.grid, density.values))
    assert list(tmp_path.iterdir()) == []


def test_coordinates_too_large_for_a_cube(tmp_path):
    density = make_density()
    for shift, fits in ((-9999.0, True), (1e9, True), (-1e11, False)):
        grid = Grid([shift, 0, 0], density.grid.cell, density.grid.shape)
        moved = Density(
            grid, density.values, structure=density.structure, valence_charges=[1, 6, 1, 4]
        )
        if fits:
            write(tmp_path / "a.cube", moved)
            assert read(tmp_path / "a.cube").grid.origin[0] == shift
        else:
            with pytest.raises(InputError, match="too large for its column"):
                write(tmp_path / "a.cube", moved)


@pytest.mark.parametrize("name", NAMES)
def test_unwritable(tmp_path, name, monkeypatch):
    density = make_density(STANDARD)
    with pytest.raises(InputError, match=r"folder .*absent does not exist; make it first"):
        write(tmp_path / "absent" / name, density)
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        write(tmp_path / name, density)
    (tmp_path / name).rmdir()
    write(tmp_path / name, density)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # tests may run as root
    with pytest.raises(InputError, match="write-protected"):
        write(tmp_path / name, density)


@pytest.mark.parametrize("name", NAMES)
def test_failed_write_leaves_the_old_file(tmp_path, name, monkeypatch):
    density = make_density(STANDARD)
    write(tmp_path / name, density)
    old = (tmp_path / name).read_bytes()

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(DiskFull, match="the disk is full; make room"):
        write(tmp_path / name, density.with_values(2 * density.values))
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == old


def test_write_that_fails_half_way(tmp_path, monkeypatch):
    density = make_density()
    write(tmp_path / "a.cube", density)
    old = (tmp_path / "a.cube").read_bytes()

    def interrupted(*_, **__):
        yield np.frombuffer(b"1.0", np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(cube, "lines", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.cube", density)
    assert os.listdir(tmp_path) == ["a.cube"]
    assert (tmp_path / "a.cube").read_bytes() == old


def test_a_link_and_permissions_stay(tmp_path):
    target = tmp_path / "target.npz"
    put(target, b"old").chmod(0o640)
    (tmp_path / "link.npz").symlink_to(target)
    write(tmp_path / "link.npz", make_density())
    assert (tmp_path / "link.npz").is_symlink()
    assert isinstance(read(target), Density)
    assert target.stat().st_mode & 0o777 == 0o640
