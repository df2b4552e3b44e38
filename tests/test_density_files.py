"""Which files are densities: compressed ones, those of VASP and XSF, and units that are wrong."""

import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.io import write as ase_write

import denser
from denser.atoms.sad import superposition
from denser.cli.plot import plot
from denser.io import is_density_file, read, read_density, write
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.viewer.items import read_items
from denser.workflows.inputs import find_inputs

WATER = Atoms("OHH", [[0.1, 0.0, 0.12], [0.1, 0.76, -0.48], [0.1, -0.76, -0.48]])


@pytest.fixture(scope="module")
def rho():
    structure = Structure.of(WATER)
    return superposition(structure, Grid.around(structure, spacing=0.6))


@pytest.fixture(scope="module")
def crystal():
    atoms = WATER.copy()
    atoms.set_cell([5.0, 5.5, 6.0])
    atoms.pbc = True
    structure = Structure.of(atoms)
    return superposition(structure, Grid.periodic(structure, spacing=0.4))


def foreign_cube(path, rho, length=1.0, value=1.0):
    """A cube of another program, with lengths and values multiplied by these factors."""
    write(path, rho)
    lines = path.read_text().splitlines()
    n = 6 + len(rho.structure)
    head = ["a program", "its cube"]
    for line in lines[2:n]:
        words = line.split()
        keep = 1 if len(head) < 6 else 2
        numbers = [f"{float(x) * length:.8f}" for x in words[keep:]]
        head.append(" ".join([*words[:keep], *numbers]))
    values = " ".join(f"{x:.8e}" for x in rho.values.ravel() * value)
    path.write_text("\n".join(head) + "\n" + values + "\n")
    return path


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".GZ"])
@pytest.mark.parametrize("name", ["a.cube", "CHGCAR", "a.dx", "a.ccp4", "a.xsf"])
def test_a_compressed_file_is_the_plain_one(tmp_path, rho, name, suffix):
    plain, compressed = tmp_path / name, tmp_path / (name + suffix)
    write(plain, rho)
    write(compressed, rho)
    assert is_density_file(compressed)
    assert compressed.stat().st_size < 0.9 * plain.stat().st_size
    first, second = read(plain), read(compressed)
    assert type(first) is type(second)
    assert first.grid.same_as(second.grid, 0.0)
    np.testing.assert_array_equal(first.values, second.values)


def test_a_damaged_compressed_file_is_a_sentence(tmp_path, rho):
    write(tmp_path / "a.cube.gz", rho)
    data = (tmp_path / "a.cube.gz").read_bytes()
    (tmp_path / "a.cube.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"a\.cube\.gz: cannot be decompressed"):
        read(tmp_path / "a.cube.gz")
    with pytest.raises(InputError, match="compressed already"):
        write(tmp_path / "a.npz.gz", rho)


VASP = [
    "CHGCAR",
    "CHG",
    "CHG_1",
    "PARCHG.0003.ALLK",
    "AECCAR0",
    "AECCAR2.gz",
    "rho.vasp",
    "a_CONTCAR",
]


@pytest.mark.parametrize("name", VASP)
def test_densities_of_vasp(tmp_path, crystal, name):
    write(tmp_path / "CHGCAR", crystal)
    if name != "CHGCAR":
        shutil.copy(tmp_path / "CHGCAR", tmp_path / name)
    assert is_density_file(tmp_path / name)
    found = read_density(tmp_path / name)
    np.testing.assert_allclose(found.values, crystal.values, rtol=1e-9, atol=1e-12)
    assert [x.source for x in find_inputs([tmp_path / name])] == [tmp_path / name]


def test_the_title_of_a_chgcar_says_that_vasp_cannot_start_from_it(tmp_path, rho):
    write(tmp_path / "CHGCAR", rho)
    assert (
        "VASP cannot start from it (no PAW occupancies)"
        in ((tmp_path / "CHGCAR").read_text().splitlines()[0])
    )


def test_structures_of_vasp_and_xsf_stay_structures(tmp_path, crystal):
    atoms = crystal.structure.to_ase()
    for name in ("POSCAR", "CONTCAR", "a.vasp", "a.xsf"):
        ase_write(tmp_path / name, atoms, format="xsf" if name == "a.xsf" else "vasp")
        assert not is_density_file(tmp_path / name)
    with pytest.raises(InputError, match=r"a\.vasp: holds atoms only"):
        read(tmp_path / "a.vasp")
    with pytest.raises(InputError, match=r"a\.xsf: holds no data grid"):
        read(tmp_path / "a.xsf")


@pytest.mark.parametrize("name", ["LOCPOT", "ELFCAR_2"])
def test_grids_that_are_no_density_are_refused_by_name(tmp_path, crystal, name):
    write(tmp_path / "CHGCAR", crystal)
    shutil.copy(tmp_path / "CHGCAR", tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: holds .* and no density"):
        read(tmp_path / name)
    assert [x.source for x in find_inputs([tmp_path / name])] == [tmp_path / name]


@pytest.mark.parametrize("periodic", [False, True])
def test_xsf_round_trip(tmp_path, rho, crystal, periodic):
    density = crystal if periodic else rho
    write(tmp_path / "a.xsf", density)
    found = read(tmp_path / "a.xsf")
    assert isinstance(found, Density)
    assert found.grid.same_as(density.grid, 1e-8)
    assert (found.structure.cell is None) == (not periodic)
    np.testing.assert_allclose(found.structure.positions, density.structure.positions, atol=1e-8)
    np.testing.assert_allclose(found.values, density.values, rtol=1e-9, atol=1e-98)
    np.testing.assert_array_equal(found.valence_charges, density.valence_charges)
    write(tmp_path / "v.xsf", Density(
        density.grid, density.values, "hartree/e", structure=density.structure,
        valence_charges=density.valence_charges,
    ))  # fmt: skip
    assert read(tmp_path / "v.xsf").unit == "hartree/e"


@pytest.mark.parametrize("factor", [1.0, BOHR**-3])
def test_xsf_of_another_program_in_either_unit(tmp_path, crystal, factor):
    """Written by ASE, with the repeated last nodes that the format asks for."""
    values = np.pad(crystal.values, [(0, 1)] * 3, mode="wrap") * factor
    atoms = crystal.structure.to_ase()
    ase_write(
        tmp_path / "a.xsf", atoms, data=values, origin=np.zeros(3), span_vectors=atoms.cell[:]
    )
    assert is_density_file(tmp_path / "a.xsf")
    found = read_density(tmp_path / "a.xsf")
    assert found.integrate() == pytest.approx(8.0, abs=1e-5)
    np.testing.assert_allclose(found.values, crystal.values, rtol=1e-4, atol=1e-5)
    ase_write(
        tmp_path / "b.xsf", atoms, data=values[:-1, :-1, :-1] + np.arange(values.shape[2] - 1),
        origin=np.zeros(3), span_vectors=atoms.cell[:],
    )  # fmt: skip
    with pytest.raises(InputError, match="do not repeat the first"):
        read(tmp_path / "b.xsf")


def test_xsf_values_of_unknown_unit(tmp_path, crystal):
    values = np.pad(0.01 * crystal.values, [(0, 1)] * 3, mode="wrap")
    atoms = crystal.structure.to_ase()
    ase_write(
        tmp_path / "a.xsf", atoms, data=values, origin=np.zeros(3), span_vectors=atoms.cell[:]
    )
    assert read(tmp_path / "a.xsf").unit == "unstated"
    with pytest.raises(InputError, match="expected a density in e/bohr"):
        read_density(tmp_path / "a.xsf")


def test_damaged_xsf(tmp_path, rho):
    write(tmp_path / "a.xsf", rho)
    text = (tmp_path / "a.xsf").read_text()
    for changed, message in (
        (text[:9000], "truncated"),
        (text.replace("DATAGRID_3D", "DATAGRID_2D"), "two dimensions"),
        (text + text, "several data grids"),
        (text.replace("ATOMS", "SLAB"), "SLAB is not supported"),
        (text.replace("  8  ", " Qq  ", 1), "expected an element and three coordinates"),
    ):
        (tmp_path / "b.xsf").write_text(changed)
        with pytest.raises(InputError, match=message):
            read(tmp_path / "b.xsf")
    with pytest.raises(InputError, match="needs atoms"):
        write(tmp_path / "c.xsf", Field(rho.grid, rho.values))


def test_predicting_from_a_density_file_uses_its_atoms_and_charge(tmp_path, rho):
    ion = Density(
        rho.grid, rho.values, structure=Structure.of(WATER, charge=2),
        valence_charges=rho.valence_charges,
    )  # fmt: skip
    write(tmp_path / "a.cube.gz", ion)
    (entry,) = find_inputs([tmp_path / "a.cube.gz"], densities=False)
    assert entry.stem == "a"
    assert entry.notes == ("only the atoms of this density file are used, not its density",)
    structure = Structure.of(entry.atoms())
    assert structure.charge == 2 and structure.cell is None


@pytest.mark.parametrize(
    ("length", "value", "message"),
    [
        (BOHR, 1.0, "0.97 if they are in angstrom"),
        (BOHR, BOHR**-3, "0.97 if they are in angstrom"),
        (1.0, BOHR**-3, r"8\.0\d if its values are in e/angstrom"),
    ],
)
def test_cubes_in_other_units_are_refused_wherever_they_are_read(
    tmp_path, rho, length, value, message
):
    path = foreign_cube(tmp_path / "a.cube", rho, length, value)
    for use in (
        denser.read,
        read_density,
        read_items,
        lambda path: plot(path, out=tmp_path / "x.png"),
    ):
        with pytest.raises(InputError, match=message):
            use(path)
    right = foreign_cube(tmp_path / "b.cube", rho)
    assert denser.read(right).integrate() == pytest.approx(8.0, abs=1e-5)


def test_a_cube_of_one_atom_in_angstrom_is_refused_by_its_electrons(tmp_path):
    structure = Structure([10], [[0.0, 0.0, 0.0]])
    rho = superposition(structure, Grid.around(structure, spacing=0.6))
    path = foreign_cube(tmp_path / "a.cube", rho, BOHR)
    with pytest.raises(InputError, match=r"8\.\d\d if its lengths are in angstrom"):
        denser.read(path)
