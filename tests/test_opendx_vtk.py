"""OpenDX and VTK images: round trips, other programs' layouts, damaged files."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from denser.io import check_suffix, read, write
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR

SKEWED = np.array([[5.0, 0.3, -0.2], [0.1, 6.5, 0.4], [1.5, -0.6, 8.0]])
CUBOID = np.diag([5.0, 6.5, 8.0])

APBS = """# Data from 1.4
#
# POTENTIAL (kT/e)
#
object 1 class gridpositions counts 2 2 2
origin -1.000000e+00 0.000000e+00 1.000000e+00
delta 5.000000e-01 0.000000e+00 0.000000e+00
delta 0.000000e+00 5.000000e-01 0.000000e+00
delta 0.000000e+00 0.000000e+00 2.500000e-01
object 2 class gridconnections counts 2 2 2
object 3 class array type double rank 0 items 8 data follows
1.000000e+00 2.000000e+00 3.000000e+00
4.000000e+00 5.000000e+00 6.000000e+00
7.000000e+00 8.000000e+00
attribute "dep" string "positions"
object "regular positions regular connections" class field
component "positions" value 1
component "connections" value 2
component "data" value 3
"""


def make_density(cell=SKEWED, shape=(5, 7, 9)):
    rng = np.random.default_rng(7)
    values = rng.normal(size=shape) * 10 ** rng.uniform(-9, 2, shape)
    structure = Structure([8, 1], [[0.1, 0.2, 0.3], [1.9, 0.1, -0.4]])
    return Density(
        Grid([-1.25, 2.5, 0.375], cell, shape),
        values,
        structure=structure,
        valence_charges=[6.0, 1.0],
    )


def put(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("shape", [(5, 7, 9), (2, 2, 1), (4, 3, 2)])
@pytest.mark.parametrize("unit", ["e/bohr^3", "hartree/e", "1", "hartree/bohr^3"])
def test_dx_round_trip(tmp_path, shape, unit):
    density = make_density(shape=shape)
    write(tmp_path / "a.dx", Field(density.grid, density.values, unit))
    found = read(tmp_path / "a.dx")
    assert type(found) is Field
    assert found.unit == unit
    assert found.grid.same_as(density.grid, 1e-8)
    np.testing.assert_allclose(found.values, density.values, rtol=5.1e-7)


def test_dx_is_in_angstrom_and_its_values_count_electrons(tmp_path):
    density = make_density(CUBOID)
    write(tmp_path / "a.dx", density)
    text = (tmp_path / "a.dx").read_text().splitlines()
    assert "e/angstrom^3" in text[0] and "angstrom" in text[0]
    assert [float(x) for x in text[2].split()[1:]] == pytest.approx(density.grid.origin * BOHR)
    assert float(text[3].split()[1]) == pytest.approx(BOHR)
    first = [float(x) for line in text[8:111] for x in line.split()]
    np.testing.assert_allclose(first, density.values.ravel()[:309] / BOHR**3, rtol=5.1e-7)
    assert all(len(line.split()) == 3 for line in text[8:113])


def test_potentials_are_in_kt_per_e(tmp_path):
    """RT at 298.15 K is 2.4789570 kJ/mol, a hartree 2625.4996 kJ/mol."""
    field = Field(Grid(np.zeros(3), CUBOID, (1, 1, 2)), [[[1.0, -0.5]]], "hartree/e")
    write(tmp_path / "a.dx", field)
    line = (tmp_path / "a.dx").read_text().splitlines()[8]
    expected = 2625.4996 / 2.4789570
    assert [float(x) for x in line.split()] == pytest.approx([expected, -expected / 2], rel=1e-6)


def test_a_file_of_apbs(tmp_path):
    found = read(put(tmp_path / "a.dx", APBS))
    assert found.unit == "hartree/e"
    assert found.grid.shape == (2, 2, 2)
    np.testing.assert_allclose(found.grid.origin * BOHR, [-1, 0, 1])
    np.testing.assert_allclose(found.grid.cell * BOHR, np.diag([1.0, 1.0, 0.5]))
    np.testing.assert_allclose(found.values.ravel() / found.values[0, 0, 0], range(1, 9))
    assert found.values[0, 0, 0] == pytest.approx(2.4789570 / 2625.4996, rel=1e-6)


def test_a_file_of_vmd_has_no_attribute_and_no_unit(tmp_path):
    lines = [line for line in APBS.splitlines() if not line.startswith(("#", "attribute"))]
    found = read(put(tmp_path / "a.dx", "\n".join(lines) + "\n"))
    assert found.unit == "unstated"
    np.testing.assert_array_equal(found.values.ravel(), range(1, 9))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("counts 2 2 2\norigin", "counts 2 2\norigin", "gridpositions"),
        ("counts 2 2 2\norigin", "counts 2 0 2\norigin", "gridpositions"),
        ("origin -1.0", "origin x", "origin"),
        ("delta 5.000000e-01 0.000000e+00 0", "delta 0 0 0", "volume"),
        ("data follows", "data file a.bin", "data follows"),
        ("rank 0", "rank 1 shape 3", "rank 0"),
        ("7.000000e+00 8.000000e+00\n", "7.000000e+00\n", "expected 8 values"),
        ("7.000000e+00", "seven", "finite numbers"),
        (APBS[200:], "", "expected|truncated|gridpositions"),
    ],
)
def test_damaged_dx(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        read(put(tmp_path / "a.dx", APBS.replace(old, new, 1)))


def read_vti(path):
    """Read an image back by the format's rules: (image attributes, arrays by name)."""
    data = path.read_bytes()
    head, _, binary = data.partition(b'<AppendedData encoding="raw">\n_')
    root = ElementTree.fromstring(head + b"</VTKFile>")
    assert root.attrib["byte_order"] == "LittleEndian"
    arrays = {}
    for element in root.iter("DataArray"):
        offset = int(element.attrib["offset"])
        size = int(np.frombuffer(binary[offset : offset + 8], "<u8")[0])
        kind = {"Float32": "<f4", "Float64": "<f8", "Int32": "<i4"}[element.attrib["type"]]
        values = np.frombuffer(binary[offset + 8 : offset + 8 + size], kind)
        arrays[element.attrib["Name"]] = values.reshape(
            -1, int(element.attrib["NumberOfComponents"])
        )
    return root.find("ImageData").attrib, arrays


@pytest.mark.parametrize("turned", [False, True])
def test_vti_holds_nodes_values_and_atoms(tmp_path, turned):
    rotation = np.eye(3)
    if turned:
        rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    density = make_density(CUBOID @ rotation)
    write(tmp_path / "a.vti", density)
    image, arrays = read_vti(tmp_path / "a.vti")
    assert image["WholeExtent"] == "0 4 0 6 0 8"
    spacing = np.array(image["Spacing"].split(), dtype=float)
    direction = np.array(image["Direction"].split(), dtype=float).reshape(3, 3)
    index = np.stack(np.meshgrid(*map(np.arange, density.grid.shape), indexing="ij"), axis=-1)
    points = np.array(image["Origin"].split(), dtype=float) + (index * spacing) @ direction.T
    np.testing.assert_allclose(points, density.grid.points() * BOHR, atol=1e-9)
    values = arrays["density (e/angstrom^3)"].reshape(density.grid.shape, order="F")
    np.testing.assert_allclose(values, density.values / BOHR**3, rtol=1e-6)
    assert arrays["atomic_numbers"].ravel().tolist() == [8, 1]
    np.testing.assert_allclose(
        arrays["atomic_positions_angstrom"], density.structure.positions * BOHR
    )


def test_vti_of_another_field_names_its_unit(tmp_path):
    density = make_density(CUBOID)
    write(tmp_path / "a.vti", Field(density.grid, density.values, 'hartree/e <"odd">'))
    _, arrays = read_vti(tmp_path / "a.vti")
    assert list(arrays) == ['field (hartree/e <"odd">)']
    np.testing.assert_allclose(
        arrays.popitem()[1].ravel(), density.values.ravel(order="F"), rtol=1e-6
    )


def test_vti_refuses_what_it_cannot_hold(tmp_path):
    density = make_density()
    with pytest.raises(InputError, match="skewed"):
        write(tmp_path / "a.vti", density)
    with pytest.raises(InputError, match="not read"):
        read(tmp_path / "a.vti")
    big = Field(Grid(np.zeros(3), CUBOID, (1, 1, 1)), [[[1e60]]])
    with pytest.raises(InputError, match="single precision"):
        write(tmp_path / "a.vti", big)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.dx", "a.vti", "A.DX"])
def test_both_are_known(name):
    check_suffix(name)
