"""The commands `denser energy` and `denser scf`, and what they write."""

import json
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from iodata import load_one
from typer.testing import CliRunner

from denser.analysis.moments import dipole
from denser.atoms.free_atoms import complete
from denser.cli import app
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.orbitals import molden, write_molden
from denser.dft.scf import scf
from denser.io import read, write
from denser.labels.reading import read_label
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.units import DEBYE, HARTREE
from denser.workflows.energy import orbital_index, scf_summary

LABELS = Path(__file__).parent / "reference" / "labels"


@pytest.fixture(scope="module")
def converged(tmp_path_factory):
    """A label, and the file of its density."""
    label = read_label(LABELS / "H2O.npz")
    dm = 2 * label.mo_coeff @ label.mo_coeff.T
    rho = density_from_dm(build_cell(label.structure, label.grid), dm, label.grid, label.structure)
    path = tmp_path_factory.mktemp("energy") / "water.npz"
    write(path, rho)
    return label, path


@pytest.fixture(scope="module")
def energy(converged):
    """What `denser energy` says and writes for it."""
    _, path = converged
    folder = path.parent / "orbitals"
    arguments = ["energy", str(path), "--steps", "1", "--json", "-o", str(folder)]
    arguments += ["--orbitals", "homo", "--orbitals", "lumo+1", "--molden", f"{folder}.molden"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output), folder


def test_energy_of_a_converged_density_file(converged, energy):
    label, path = converged
    record, _ = energy
    n = label.mo_coeff.shape[1]
    assert record["e_tot_hartree"] == pytest.approx(label.e_tot, abs=1e-7)
    assert record["homo_ev"] == pytest.approx(label.mo_energy[n - 1] * HARTREE, abs=1e-3)
    assert record["lumo_ev"] == pytest.approx(label.mo_energy[n] * HARTREE, abs=1e-3)
    assert record["dipole_norm_debye"] == pytest.approx(
        np.linalg.norm(dipole(read(path))) * DEBYE, abs=1e-3
    )
    assert 1e-4 <= record["uncertainty_ev"] < 1e-3 and record["formula"] == "H2O"
    assert record["density_error_percent"] <= record["density_error_before_percent"] < 0.02


def test_densities_of_other_programs_have_the_same_energy(converged, foreign_files, tmp_path):
    """A cube does not say that its box is a period, so the molecule is on its own."""
    label, path = converged
    files = [str(file) for file in foreign_files(tmp_path, read(path))]
    isolated = scf(
        label.structure, label.grid, isolated=True, dm0=2 * label.mo_coeff @ label.mo_coeff.T
    )
    assert 1e-3 < isolated.e_tot - label.e_tot < 3e-3  # the dipoles of the box's images attract
    result = CliRunner().invoke(app, ["energy", *files, "--steps", "1", "--json"])
    assert result.exit_code == 0, result.output
    for record in map(json.loads, result.stdout.splitlines()):
        periodic = "CHGCAR" in record["input"]
        expected = label.e_tot if periodic else isolated.e_tot
        assert record["e_tot_hartree"] == pytest.approx(expected, abs=1e-5), record["input"]
        assert record["against_vacuum"] is not periodic
        assert record["calculation"] == ("periodic" if periodic else "corrected box")
        assert record["charge"] == 0
    result = CliRunner().invoke(app, ["scf", files[0], "--json"])
    assert json.loads(result.stdout)["e_tot_hartree"] == pytest.approx(isolated.e_tot, abs=1e-5)


def test_what_is_no_valence_density_has_no_energy(converged, as_foreign_cube, tmp_path):
    rho = read(converged[1])
    for density, words in (
        (complete(rho), "holds all electrons"),
        (rho.with_values(rho.values - 0.02), "the density holds"),
    ):
        path = as_foreign_cube(tmp_path / "a.cube", density, lambda z: z)
        result = CliRunner().invoke(app, ["energy", str(path)])
        assert result.exit_code == 2
        assert words in result.output and "Traceback" not in result.output


def test_orbitals_are_normalised_fields(energy):
    record, folder = energy
    files = [folder / "water_homo.cube", folder / "water_lumo+1.cube"]
    assert record["written"] == [*map(str, files), f"{folder}.molden"]
    homo = read(files[0])
    assert homo.unit == "bohr^-3/2"
    assert np.sum(homo.values**2) * homo.grid.dv == pytest.approx(1, abs=1e-3)
    # the lone pair of water has a node in the plane of the molecule
    x = homo.structure.positions[:, 0]
    assert np.ptp(x) < 1e-3
    assert abs(homo.values.sum() * homo.grid.dv) < 1e-2


def test_molden_file_is_read_back(converged, energy):
    label, _ = converged
    record, folder = energy
    mol, mo_energy, mo_coeff, mo_occ, _, _ = molden.load(f"{folder}.molden")
    n = label.mo_coeff.shape[1]
    np.testing.assert_allclose(mol.atom_coords(), label.structure.positions, atol=1e-5)
    assert mo_energy[n - 1] * HARTREE == pytest.approx(record["homo_ev"], abs=1e-3)
    assert mo_occ.sum() == 2 * n
    overlap = mol.intor("int1e_ovlp")
    molecule = build_cell(label.structure, label.grid).to_mol()
    np.testing.assert_allclose(overlap, molecule.intor("int1e_ovlp"), atol=1e-6)
    # Those of the cell are orthonormal with the images of this small box only.
    overlap = mo_coeff.T @ overlap @ mo_coeff
    np.testing.assert_allclose(overlap, np.eye(len(mo_occ)), atol=1e-7)
    dm, of_cell = (c @ c.T for c in (mo_coeff[:, :n], label.mo_coeff))
    np.testing.assert_allclose(dm, of_cell, atol=0.02)


def test_writing_a_molden_file_leaves_the_calculation_alone(converged, tmp_path):
    label, _ = converged
    cell = build_cell(label.structure, label.grid)
    dm = 2 * label.mo_coeff @ label.mo_coeff.T
    before = density_from_dm(cell, dm, label.grid, label.structure).values
    n = label.mo_coeff.shape[1]
    origin = label.grid.origin + 1.0
    write_molden(tmp_path / "a.molden", cell, origin, label.mo_coeff, np.zeros(n), np.full(n, 2.0))
    after = density_from_dm(cell, dm, label.grid, label.structure).values
    np.testing.assert_array_equal(after, before)


def test_iodata_reads_the_molden_file(energy):
    """IOData refuses orbitals that are not orthonormal, or a basis in other conventions."""
    _, folder = energy
    found = load_one(f"{folder}.molden")
    np.testing.assert_array_equal(found.atcorenums, [6, 1, 1])
    assert found.mo.nelec == 8 and found.charge == 0


def test_orbital_names():
    assert [orbital_index(x, 4, 9) for x in ("homo", "homo-3", "lumo", "lumo+4")] == [3, 0, 4, 8]
    for name in ("HOMO", "homo+1", "lumo-1", "3"):
        with pytest.raises(InputError, match="name homo, lumo"):
            orbital_index(name, 4, 9)
    for name in ("homo-4", "lumo+5"):
        with pytest.raises(InputError, match="4 of 9 orbitals are occupied"):
            orbital_index(name, 4, 9)


HYDROGEN = "2\n\nH 0 0 0\nH 0 0 {}\n"
QUICK = ("--steps", "1", "--padding", "2", "--json")


def test_orbitals_never_overwrite_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, bonds = ["d1/a.xyz", "d2/a.xyz", "a_2.xyz"], [0.7, 0.75, 0.8]
    for name, bond in zip(names, bonds, strict=True):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(HYDROGEN.format(bond))
    result = CliRunner().invoke(app, ["energy", *names, *QUICK, "--orbitals", "homo", "-o", "out"])
    assert result.exit_code == 0, result.output
    for line, bond in zip(result.stdout.splitlines(), bonds, strict=True):
        atoms = read(json.loads(line)["written"][0]).structure.to_ase()
        assert atoms.get_distance(0, 1) == pytest.approx(bond, abs=1e-4)
    rho = read(Path("out/d1_a_homo.cube"))
    write("b.cube", rho)
    write("b_homo.cube", rho)
    before = Path("b_homo.cube").read_bytes()
    result = CliRunner().invoke(app, ["energy", "b.cube", "b_homo.cube", "--orbitals", "homo"])
    assert result.exit_code == 2 and "is an input and would be overwritten" in result.stderr
    result = CliRunner().invoke(app, ["scf", "b_homo.cube", "-o", "."])
    assert result.exit_code == 2 and "is an input and would be overwritten" in result.stderr
    assert Path("b_homo.cube").read_bytes() == before


def test_converged_densities_never_overwrite_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, bonds = ["t.xyz", "t_00001.xyz"], [0.7, 0.75, 0.8]
    Path("t.xyz").write_text(HYDROGEN.format(0.7) + HYDROGEN.format(0.75))
    Path("t_00001.xyz").write_text(HYDROGEN.format(0.8))
    result = CliRunner().invoke(app, ["scf", *names, *QUICK, "-o", "out"])
    assert result.exit_code == 0, result.output
    for line, bond in zip(result.stdout.splitlines(), bonds, strict=True):
        atoms = read(json.loads(line)["written"][0]).structure.to_ase()
        assert atoms.get_distance(0, 1) == pytest.approx(bond, abs=1e-4)


def test_an_scf_that_does_not_converge_fails(tmp_path, monkeypatch):
    """One input that does not converge is told, with its spin; the other goes on."""
    monkeypatch.chdir(tmp_path)
    Path("a.xyz").write_text(HYDROGEN.format(0.7))
    Path("b.xyz").write_text(HYDROGEN.format(0.75))
    cycles = iter([1, 50])
    monkeypatch.setattr(
        "denser.workflows.energy.scf",
        lambda *args, **more: scf(*args, max_cycle=next(cycles), **more),
    )
    result = CliRunner().invoke(app, ["scf", "a.xyz", "b.xyz", *QUICK, "-o", "out"])
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 2
    assert [record["converged"] for record in records] == [False, True]
    assert [bool(record["written"]) for record in records] == [False, True]
    assert len(list(Path("out").iterdir())) == 1
    (sentence,) = records[0]["errors"].values()
    assert "did not converge in 1 cycles" in sentence and "--spin" in sentence
    assert f"denser: a.xyz: {sentence}" in result.stderr
    assert "1 of 2 converged" in result.stderr and "1 failed" in result.stderr
    assert "NOT CONVERGED" in scf_summary(records[0]) and records[1]["errors"] == {}


def test_an_open_shell_that_does_not_converge_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("denser.workflows.open_shells.scf", partial(scf, max_cycle=1))
    (tmp_path / "h.xyz").write_text("1\n\nH 0 0 0\n")
    options = ["--padding", "2", "-o", str(tmp_path / "h.npz")]
    result = CliRunner().invoke(app, ["scf", str(tmp_path / "h.xyz"), *options])
    assert result.exit_code == 2 and "NOT CONVERGED" in result.stdout
    assert "did not converge in 1 cycles" in result.stderr and "(--spin, here 1)" in result.stderr
    assert not (tmp_path / "h.npz").exists()


@pytest.mark.parametrize("command", ["energy", "scf"])
def test_memory_that_runs_out_for_one_input_leaves_the_others(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.xyz").write_text(HYDROGEN.format(0.75))
    original, calls = Predictor.predict, []

    def predict(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError
        return original(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "predict", predict)
    result = CliRunner().invoke(app, [command, "a.xyz", "b.xyz", *QUICK])
    assert result.exit_code == 2, result.exception
    failed, done = [json.loads(line) for line in result.stdout.splitlines()]
    assert failed["input"] == "a.xyz" and "memory ran out" in failed["error"]
    assert done["input"] == "b.xyz" and done["e_tot_hartree"] < -1
    assert "denser: a.xyz: memory ran out" in result.stderr


def test_options_that_make_no_sense(converged, tmp_path):
    _, path = converged
    for arguments, message in (
        (["energy"], "nothing to do"),
        (["energy", str(path), "--steps", "0"], "at least one Kohn-Sham step"),
        (["energy", str(path), "--orbitals", "somo"], "unknown orbital 'somo'"),
        (["energy", str(path), str(path), "--molden", "x"], "there are 2 structures"),
        (["scf", str(path), "-o", str(tmp_path / "x.txt")], "unknown file format"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code != 0
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
    wrong = CliRunner().invoke(app, ["energy", str(path), "--charge", "2", "--steps", "1"])
    assert wrong.exit_code == 2


@pytest.mark.slow
def test_scf_from_a_prediction_and_refined_prediction(tmp_path):
    structure = tmp_path / "water.xyz"
    structure.write_text("3\n\nO 0 0 0.119262\nH 0 0.763239 -0.477047\nH 0 -0.763239 -0.477047\n")
    options = [str(structure), "--padding", "2", "--json"]
    paths = [tmp_path / f"{name}.npz" for name in ("plain", "refined", "converged")]
    results = []
    for command, path in (
        (["predict", "--spacing", "0.1"], paths[0]),
        (["predict", "--refine", "1", "--spacing", "0.1"], paths[1]),
        (["scf"], paths[2]),
    ):
        result = CliRunner().invoke(app, [*command, *options, "-o", str(path)])
        assert result.exit_code == 0, result.output
        results.append(json.loads(result.output))
    assert [record["refined_steps"] for record in results[:2]] == [0, 1]
    plain, refined, reference = (read(path) for path in paths)
    assert refined.integrate() == pytest.approx(8, abs=1e-4)
    dipoles = [np.linalg.norm(dipole(rho) - dipole(reference)) for rho in (plain, refined)]
    assert dipoles[1] < dipoles[0]
    assert results[2]["converged"] and reference.integrate() == pytest.approx(8, abs=1e-6)


def test_small_cells_at_gamma(tmp_path):
    """They are repeated on request, and otherwise a sentence says so."""
    places = [[0.4, 0.1, 0.3], [1.1, 0.3, 0.5]]
    cell = Atoms("H2", places, cell=[4.0, 8.0, 8.1], pbc=True)
    for name, atoms in (("cell", cell), ("two", cell.repeat((2, 1, 1)))):
        ase.io.write(tmp_path / f"{name}.xyz", atoms)

    def record(name: str, *more: str) -> dict:
        arguments = ["energy", str(tmp_path / f"{name}.xyz"), "--steps", "1", "--json", *more]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    small, repeated, two = record("cell"), record("cell", "--repeat"), record("two", "--repeat")
    assert "the cell repeated 2 x 1 x 1 times is large enough" in small["notes"][0]
    assert repeated["repeated"] == [2, 1, 1] and repeated["formula"] == "H4"
    assert two["notes"] == [] and "repeated" not in two
    assert repeated["e_cell_hartree"] == pytest.approx(two["e_tot_hartree"] / 2, abs=1e-9)
    assert abs(small["e_tot_hartree"] - repeated["e_cell_hartree"]) * HARTREE > 0.01
    (note,) = repeated["notes"]
    assert note.startswith("the cell is repeated 2 x 1 x 1 times; E of one cell is -1.1")
