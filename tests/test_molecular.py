"""Calculations in open space in other bases, and polarizabilities, against PySCF."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from pyscf import dft, gto
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from denser.cli import app
from denser.dft import polarizability as polarizability_module
from denser.dft.basis import AUGMENTED, ELEMENTS, shells, shells_of
from denser.dft.molecular import (
    ALL_ELECTRON_LEVEL,
    build_molecule,
    converge,
    molecular_mean_field,
    removed_text,
)
from denser.dft.polarizability import (
    Polarizability,
    coupled_perturbed,
    dipole_integrals,
    polarizability,
)
from denser.dft.pyscf_private import without_check_file
from denser.dft.tables.diffuse import diffuse_functions, write_table
from denser.io import read_density
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR, HARTREE
from denser.workflows.energy import StartDensities, StartDensity
from denser.workflows.other_basis import Wanted, energy_in_basis, summary_in_basis

PYSCF = json.loads((Path(__file__).parent / "reference" / "molecules.json").read_text())
MEV = 1000 * HARTREE


@pytest.fixture(scope="module")
def water():
    return Predictor().predict(molecule("H2O"), padding=2.5).density


@pytest.fixture(scope="module")
def hydrogen():
    return Structure.from_ase(molecule("H2"))


def test_the_table_is_that_of_its_rule(tmp_path):
    write_table(tmp_path, ["O", "H"])
    made = json.loads((tmp_path / "diffuse.json").read_text())["elements"]
    shipped = json.loads((files("denser.atoms") / "tables" / "diffuse.json").read_text())
    assert list(made) == ["H", "O"] and list(shipped["elements"]) == list(ELEMENTS)
    assert {s: shipped["elements"][s] for s in made} == made
    oxygen = dict(diffuse_functions("O"))
    assert oxygen[2] == pytest.approx(0.645**2 / 2.314, rel=1e-3) and set(oxygen) == {0, 1, 2}
    assert shells_of("O", AUGMENTED)[:-3] == shells("O", "gth-tzv2p")
    assert all(min(a for _, a in diffuse_functions(s)) > 0.005 for s in ELEMENTS)


def test_names_of_basis_sets():
    assert shells_of("Br", "gth-tzv2p") == shells("Br", "TZV2P-MOLOPT-PBE-GTH-q7")
    assert shells_of("O", "DZVP-MOLOPT-PBE-GTH") == shells("O", "DZVP-MOLOPT-PBE-GTH-q6")
    assert shells_of("C", "gth-dzvp") == shells("C", "gth-dzvp")
    with pytest.raises(InputError, match="'def2-svp' is not for GTH pseudopotentials"):
        shells_of("O", "def2-svp")
    with pytest.raises(InputError, match="lacks the basis 'gth-qzv3p' of Br"):
        shells_of("Br", "gth-qzv3p")


def test_other_bases_of_pyscf_have_all_electrons(tmp_path):
    """Energy, level and dipole are those of PySCF's own calculation in the same basis."""
    atoms = molecule("H2O")
    atoms.write(tmp_path / "water.xyz")
    command = [str(tmp_path / "water.xyz"), "--basis", "def2-svp", "--padding", "3"]
    run = CliRunner().invoke(app, ["energy", *command, "--json"])
    assert run.exit_code == 0, run.output
    record = json.loads(run.stdout)
    places = list(zip(atoms.symbols, atoms.positions, strict=True))
    shells_by_element = {s: gto.basis.load("def2-svp", s) for s in "OH"}  # without a fitting basis
    mf = gto.M(atom=places, basis=shells_by_element, verbose=0).RKS(xc="pbe").density_fit()
    mf.grids.level = ALL_ELECTRON_LEVEL
    without_check_file(mf)
    assert record["e_tot_hartree"] == pytest.approx(mf.kernel(), abs=1e-6)
    exact = -76.27244875502461  # the same without density fitting
    assert record["e_tot_hartree"] == pytest.approx(exact, abs=4e-5)
    assert record["homo_ev"] == pytest.approx(mf.mo_energy[4] * HARTREE, abs=1e-3)
    assert record["starts"]["prediction"]["cycles"] <= 0.7 * mf.cycles
    dipole = np.linalg.norm(mf.dip_moment(verbose=0))
    assert record["dipole_norm_debye"] == pytest.approx(dipole, abs=2e-3)
    run = CliRunner().invoke(app, ["energy", *command])
    assert "(open space, def2-svp, all electrons)" in run.output
    run = CliRunner().invoke(app, ["scf", *command, "-o", str(tmp_path / "water.cube")])
    assert run.exit_code == 2 and "-o writes the density of the valence electrons" in run.output
    other = atoms.copy()
    other.positions += [0.0, 0.0, 2.9]
    with_ghosts = converge(Structure.of(atoms), "def2-svp", ghosts=Structure.of(other))
    assert -0.01 < with_ghosts.e_tot - mf.e_tot < -1e-5
    with pytest.raises(InputError, match="I has an effective core potential in many bases"):
        build_molecule(Structure.of(Atoms("HI", [(0, 0, 0), (0, 0, 1.6)])), "def2-svp")


def test_energy_dipole_and_levels_are_those_of_exact_integrals(water):
    """Density fitting and points against PySCF's exact integrals and large grids."""
    result = converge(water.structure, "gth-tzv2p", about=water)
    assert abs(result.e_tot + 17.220200740929524) * MEV < 0.1  # as in test_open_space
    expected = PYSCF["molecules"]["H2O"]
    assert result.homo == pytest.approx(expected["homo"], abs=1e-4)
    assert result.lumo == pytest.approx(expected["lumo"], abs=1e-4)
    assert result.removed == 0 and removed_text(result) == ""
    assert result.cycles <= 5  # 7 from PySCF's own guess
    assert result.density_on(water).integrate() == pytest.approx(8, abs=0.05)
    norm = (result.orbital(3, water).values ** 2).sum() * water.grid.dv
    assert norm == pytest.approx(1, abs=0.01)  # 2.5 angstrom of vacuum


def test_energy_with_diffuse_functions(hydrogen):
    found = converge(hydrogen)
    mf = dft.RKS(build_molecule(hydrogen), xc="pbe")
    mf.grids.level = 5
    mf.kernel()
    assert abs(found.e_tot - mf.e_tot) * MEV < 0.3
    assert found.e_tot < converge(hydrogen, "gth-tzv2p").e_tot
    turned = replace(hydrogen, positions=hydrogen.positions @ Rotation.random(rng=1).as_matrix())
    assert abs(converge(turned).e_tot - found.e_tot) * MEV < 0.01


def test_an_open_shell_is_that_of_exact_integrals(tmp_path):
    atoms = Atoms("CH2", [[0, 0, 0], [0.1, 0.99, 0.4], [0.1, -0.99, 0.4]])
    structure = Structure.of(atoms, spin=2)
    density = Predictor().predict(structure, padding=2.5, spacing=0.2).density
    start = StartDensity(density, None)
    record = energy_in_basis(
        start, Wanted().in_open_space(start, Recipe()),
        StartDensities(PredictionOptions()), molden=tmp_path / "ch2.molden",
        out=tmp_path / "ch2.npz", compare=True,
    )  # fmt: skip
    exact = dft.UKS(build_molecule(structure, "gth-tzv2p"), xc="pbe")
    exact.grids.level = 4
    without_check_file(exact)
    assert abs(record["e_tot_hartree"] - exact.kernel()) * MEV < 0.2
    assert record["s_squared"] == pytest.approx(exact.spin_square()[0], abs=1e-4)
    assert record["homo_ev"] == pytest.approx(
        exact.mo_energy[exact.mo_occ > 0].max() * HARTREE, abs=2e-3
    )
    assert record["calculation"] == "open space" and "<S^2> 2.0" in summary_in_basis(
        record | {"input": "x"}
    )
    cycles = {name: row["cycles"] for name, row in record["starts"].items()}
    assert cycles["prediction"] < cycles["minao"]
    written = read_density(tmp_path / "ch2.npz")
    assert written.spin_density.integrate() == pytest.approx(2)
    with pytest.raises(InputError, match="interaction and ionisation energies cover closed shells"):
        energy_in_basis(StartDensity(density, None), Wanted(ions=True), None)


def test_ghosts_lower_the_energy_and_hold_nothing():
    helium = Structure(np.array([2]), np.zeros((1, 3)))
    ghost = Structure(np.array([2]), np.array([[0.0, 0.0, 4.0]]))
    alone, helped = converge(helium), converge(helium, ghosts=ghost)
    assert 0 < (alone.e_tot - helped.e_tot) * MEV < 30
    mol = gto.M(
        atom="He 0 0 0; ghost-He 0 0 4", unit="bohr", pseudo={"He": "gth-pbe"}, verbose=0,
        basis={"He": shells_of("He", AUGMENTED), "ghost-He": shells_of("He", AUGMENTED)},
    )  # fmt: skip
    mf = dft.RKS(mol, xc="pbe")
    mf.kernel()
    assert abs(helped.e_tot - mf.e_tot) * MEV < 0.3
    assert len(helped.mo_energy) == 2 * len(alone.mo_energy)


def test_dependent_functions_are_left_out_and_told(hydrogen):
    many = Structure(np.array([2, 2]), np.array([[0, 0, 5.0], [0, 0, 5.77]]))
    ghosts = converge(hydrogen, ghosts=many)
    assert ghosts.removed == 0
    near = replace(many, positions=hydrogen.positions + [0, 0, 1e-5])
    result = converge(hydrogen, ghosts=near)
    assert result.removed > 0 and "nearly linearly dependent" in removed_text(result)


def test_what_is_refused(water):
    with pytest.raises(InputError, match="the structure is periodic"):
        converge(replace(water.structure, cell=np.diag([9.0, 9, 9])))
    ion = Density(
        water.grid, water.values, structure=replace(water.structure, charge=1),
        valence_charges=water.valence_charges,
    )  # fmt: skip
    with pytest.raises(InputError, match="unpaired"):
        polarizability(ion)


# Polarizability


def test_mean_and_anisotropy():
    found = Polarizability(np.diag([2.0, 2.0, 5.0]), np.eye(3))
    assert found.mean == pytest.approx(3) and found.anisotropy == pytest.approx(3)
    assert found.to_dict()["mean_angstrom3"] == pytest.approx(3 * BOHR**3)
    assert "anisotropy 3.000 bohr^3" in found.lines()[0] and AUGMENTED in found.lines()[0]


def test_polarizability_of_water(water):
    """Against finite fields in PySCF, in the same basis and in a large one for all electrons."""
    reference = PYSCF["molecules"]["H2O"]
    found = polarizability(water, "gth-tzv2p")
    expected = np.array(reference["polarizability"])
    np.testing.assert_allclose(found.tensor, expected, atol=0.005 * expected.max())
    assert (np.diag(found.uncoupled) > 1.1 * np.diag(found.tensor)).all()
    limit = np.array(reference["polarizability_limit"])
    assert found.mean < 0.8 * np.trace(limit) / 3
    diffuse = polarizability(water).tensor
    np.testing.assert_allclose(diffuse, limit, atol=0.03 * limit.max())


@pytest.mark.parametrize("basis", [AUGMENTED, "aug-cc-pvdz"])
def test_few_points_suffice_for_the_response(basis, monkeypatch):
    result = converge(Structure.of(molecule("H2O")), basis)
    found = coupled_perturbed(result).tensor
    fewer = polarizability_module._on_few_points(result).grids
    if fewer.coords is None:
        fewer.build()
    assert len(fewer.weights) < len(result.mf.grids.weights) / 2.5
    monkeypatch.setattr(polarizability_module, "_on_few_points", lambda r: r.mf)
    expected = coupled_perturbed(result).tensor
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_coupled_perturbed_equations_are_the_limit_of_weak_fields(hydrogen):
    field = 1e-3
    tensor = coupled_perturbed(converge(hydrogen)).tensor
    mf = molecular_mean_field(hydrogen)
    mf.conv_tol = 1e-11
    core, r = mf.get_hcore(), dipole_integrals(mf.mol)
    moments = []
    for sign in (1, -1):
        mf.get_hcore = lambda *_, h=core + sign * field * r[2]: h
        mf.kernel()
        moments.append(-np.einsum("xpq,qp->x", r, mf.make_rdm1()))
    found = (moments[0] - moments[1]) / (2 * field)
    np.testing.assert_allclose(tensor[2], found, atol=2e-3)
