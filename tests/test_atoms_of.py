"""The atoms of a density, from its values on nodes alone."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.distance import cdist
from typer.testing import CliRunner

import denser
from denser import Density, Field, Grid, InputError
from denser.analysis.topology.atom_peaks import WIDTH, Samples, profile, thinned
from denser.atoms.sad import valence_charges
from denser.cli import app
from denser.labels.reading import read_label
from denser.labels.render import density_on_grid
from denser.types.units import BOHR

LABELS = Path(__file__).parent / "reference" / "labels"


def agree(found, structure, within):
    """The same elements within some angstrom, in any order."""
    d = BOHR * cdist(structure.positions, found.structure.positions)
    nearest = d.argmin(axis=1)
    assert sorted(nearest) == list(range(len(structure)))
    np.testing.assert_array_equal(found.structure.numbers[nearest], structure.numbers)
    assert d.min(axis=1).max() < within
    assert found.structure.charge == structure.charge


def test_gain_is_that_of_its_definition():
    """Var_w(rho) - Var_w(rho - t_Z) at a node, by sums over the window."""
    rng, grid = np.random.default_rng(1), Grid([0, 0, 0], 6 * np.eye(3), (12, 12, 12))
    rho = Field(grid, rng.random(grid.shape), "e/bohr^3")
    gain = Samples(rho).gains(rho.values.ravel(), [8])[0][0, 3, 4, 5]
    x = grid.points() - grid.points()[3, 4, 5]
    r = np.linalg.norm(x - 6 * np.round(x / 6), axis=-1)  # the nodes are periodic
    w, t = np.exp(-(r**2) / (2 * WIDTH**2)), profile(8, r)

    def variance(f):
        return np.average(f**2, weights=w) - np.average(f, weights=w) ** 2

    assert gain == pytest.approx(variance(rho.values) - variance(rho.values - t), abs=1e-6)


@pytest.mark.parametrize("box", ["auto", "cube:64:0.5"])
def test_atoms_of_a_prediction(box):
    """Chloromethane, also at 0.5 bohr: places within 0.005 angstrom, and no atoms are looked at."""
    rho = denser.predict(molecule("CH3Cl"), box=box)
    found = denser.atoms_of(Field(rho.grid, rho.values, rho.unit))
    agree(found, rho.structure, 0.005)
    assert found.error < 0.005 and found.wrong.sum() == pytest.approx(14 * found.error)
    assert found.lines()[0].startswith("CH3Cl, charge +0")


def test_atoms_of_an_ion_and_of_a_triple_bond():
    for smiles, charge in (("C[NH3+]", 1), ("C#N", 0)):
        rho = denser.predict(denser.from_smiles(smiles), box="cube:64:0.5")
        agree(denser.atoms_of(rho), rho.structure, 0.02)
        assert rho.structure.charge == charge


def test_atoms_of_a_converged_density():
    """Formaldehyde by PySCF: the places have the error of the model."""
    label = read_label(LABELS / "H2CO.npz")
    structure = replace(label.structure, cell=None)
    grid = Grid.cube(structure, 64, 0.5)
    rho = density_on_grid(structure.numbers, structure.positions, label.mo_coeff, grid).numpy()
    density = Density(grid, rho, structure=structure, valence_charges=valence_charges(structure))
    found = denser.atoms_of(density)
    agree(found, structure, 0.02)
    assert 0.001 < found.error < 0.02


def test_thinned_nodes_are_those_of_the_field():
    grid = Grid([1, 2, 3], np.diag([3.0, 4.0, 5.0]), (15, 20, 25))  # 0.2 bohr
    field = Field(grid, np.arange(grid.size).reshape(grid.shape), "e/bohr^3")
    some = thinned(field)
    assert some.grid.shape == (7, 10, 12)
    np.testing.assert_allclose(some.grid.points(), grid.points()[:14:2, ::2, :24:2])
    np.testing.assert_array_equal(some.values, field.values[:14:2, ::2, :24:2])


def test_bad_densities_are_refused():
    rho = denser.predict(molecule("H2O"), spacing=0.2)
    with pytest.raises(InputError, match="all electrons"):
        denser.atoms_of(replace(rho, all_electron=True, valence_charges=rho.structure.numbers))
    with pytest.raises(InputError, match="unknown element 'Qq'"):
        denser.atoms_of(rho, elements=("Qq",))
    far = Grid.around(rho.structure, spacing=0.6)
    with pytest.raises(InputError, match="too far to find atoms"):
        denser.atoms_of(Field(far, np.zeros(far.shape), "e/bohr^3"))
    empty = Field(rho.grid, np.zeros(rho.grid.shape), "e/bohr^3")
    with pytest.raises(InputError, match="no atoms fit this density"):
        denser.atoms_of(empty)


def test_the_command_writes_the_atoms_of_all_densities(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    water = denser.predict(molecule("H2O"), spacing=0.2)
    denser.write("with.cube", water)
    denser.write("without.npz", Field(water.grid, water.values, "e/bohr^3"))
    denser.write("potential.npz", Field(water.grid, water.values, "hartree/e"))
    files = ["with.cube", "without.npz", "potential.npz"]
    done = CliRunner().invoke(app, ["atoms", *files, "-o", "found.xyz", "--json"])
    assert done.exit_code == 2
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[2]["error"] == "expected a density in e/bohr^3, found hartree/e"
    frames = ase.io.read("found.xyz", ":")
    assert [frame.info["name"] for frame in frames] == ["with", "without"]
    for frame, record in zip(frames, records, strict=False):
        assert record["formula"] == "H2O" and record["charge"] == 0
        agree(SimpleNamespace(structure=denser.Structure.of(frame)), water.structure, 0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to do; name files of densities"),
        (["w.xyz"], "w.xyz: is no file of a density"),
        (["w.cube", "-o", "found.pdb"], "found.pdb: atoms are written to .xyz or .extxyz files"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("w.xyz", "w.cube"):
        (tmp_path / name).write_text("")
    done = CliRunner().invoke(app, ["atoms", *arguments])
    assert isinstance(done.exception, InputError) and message in str(done.exception)
