"""The commands `denser energy` and `denser scf`, and what they write."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from denser.cli import app
from denser.dft.cell import build_cell, density_from_dm
from denser.dft.orbitals import molden
from denser.io import read, write
from denser.labels.label import read_label
from denser.types.errors import InputError
from denser.types.units import DEBYE, HARTREE
from denser.workflows.energy import orbital_index, run

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
    assert record["e_tot"] == pytest.approx(label.e_tot, abs=1e-7)
    assert record["homo_ev"] == pytest.approx(label.mo_energy[n - 1] * HARTREE, abs=1e-3)
    assert record["lumo_ev"] == pytest.approx(label.mo_energy[n] * HARTREE, abs=1e-3)
    assert record["dipole_norm_debye"] == pytest.approx(
        np.linalg.norm(read(path).dipole()) * DEBYE, abs=1e-3
    )
    assert 1e-4 <= record["uncertainty_ev"] < 1e-3 and record["formula"] == "H2O"


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
    # Orthonormal in the cell; without the images of this small box nearly so.
    overlap = mo_coeff.T @ overlap @ mo_coeff
    np.testing.assert_allclose(overlap[:n, :n], np.eye(n), atol=0.02)


def test_orbital_names():
    assert [orbital_index(x, 4, 9) for x in ("homo", "homo-3", "lumo", "lumo+4")] == [3, 0, 4, 8]
    for name in ("HOMO", "homo+1", "lumo-1", "3"):
        with pytest.raises(InputError, match="name homo, lumo"):
            orbital_index(name, 4, 9)
    for name in ("homo-4", "lumo+5"):
        with pytest.raises(InputError, match="4 of 9 orbitals are occupied"):
            orbital_index(name, 4, 9)


def test_one_bad_item_among_many(capsys):
    def bad() -> dict:
        raise InputError("it is bad; mend it")

    def stop() -> dict:
        raise KeyboardInterrupt

    work = [("a", lambda: {"n": 1}), ("b", bad), ("c", lambda: {"n": 3})]
    assert run(work, True, str) == 2
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert out[0] == {"input": "a", "n": 1} and out[2]["n"] == 3
    assert out[1] == {"input": "b", "error": "b: it is bad; mend it"}
    assert run([*work[:1], ("d", stop), *work[2:]], False, str) == 130
    assert "stopped after 1" in capsys.readouterr().err


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
    dipoles = [np.linalg.norm(rho.dipole() - reference.dipole()) for rho in (plain, refined)]
    assert dipoles[1] < dipoles[0]
    assert results[2]["converged"] and reference.integrate() == pytest.approx(8, abs=1e-6)
