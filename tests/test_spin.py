"""Open shells: labels with both spins, and what they hold."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from pyscf import dft, gto

from denser import InputError, Structure, analyze, err_rho
from denser.analysis.charges.spin_populations import hirshfeld_spins
from denser.analysis.charges.stockholder import curve
from denser.analysis.properties import Analysis
from denser.atoms.sad import superposition
from denser.dft.cell import build_cell
from denser.dft.gradient import scf_gradient
from denser.dft.pyscf_private import multigrid_rks, multigrid_uks
from denser.io import read
from denser.labels.facts import Facts
from denser.labels.label import Label
from denser.labels.packed import read_shard
from denser.labels.store import LabelStore
from denser.model.checkpoint import Model, build, save_model
from denser.model.options import PredictionOptions
from denser.training.config import DataConfig
from denser.training.dataset import read_dataset
from denser.types.density import SPIN_UNIT, Field
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.units import BOHR
from denser.workflows.energy import StartDensities, StartDensity, scf_record, scf_summary
from denser.workflows.evaluate.measure import evaluate
from denser.workflows.finetune import Plan, finetune
from denser.workflows.label import (
    LabelSettings,
    calculate,
    label_density,
    label_spin_density,
)
from denser.workflows.label.packing import contents, pack, unpack
from denser.workflows.open_shells import open_shell_scf, spin_path, superposed

HYDRIDE = Structure.of(Atoms("H"), charge=-1)
RECIPE = Recipe(spacing=0.2 / BOHR)
SETTINGS = LabelSettings(PredictionOptions(box="paper", spacing=0.2))


@pytest.fixture(scope="module")
def hydrogen() -> tuple[Label, Facts]:
    """One electron: its spin density is its density."""
    found = calculate(SETTINGS.task("h", Structure.of(Atoms("H"))))
    assert not isinstance(found, str), found
    return found


def test_a_label_of_an_open_shell_holds_both_spins(hydrogen):
    label, facts = hydrogen
    assert label.structure.spin == 1 and label.n_electrons == 1
    assert facts.s_squared == pytest.approx(0.75, abs=1e-6) and len(facts.states) >= 1
    assert facts.states[0] == label.e_tot
    rho, m = label_density(label), label_spin_density(label)
    assert m.integrate() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(m.values, rho.values, atol=1e-12)
    homo, lumo = label.frontier
    assert homo == label.mo_energy[0, 0] and lumo == min(
        label.mo_energy[0, 1], label.mo_energy[1, 0]
    )


@pytest.mark.slow
def test_quick_labels_of_open_shells_are_made_without_a_box(hydrogen):
    """They have the density of the SCF in a box with 4 angstrom of padding."""
    borane = Structure.of(Atoms("BH2", [[0, 0, 0], [0, 1.07, 0.5], [0, -1.07, 0.5]]), spin=1)
    settings = LabelSettings(PredictionOptions(spacing=0.15))
    reference, _ = calculate(settings.task("bh2", borane))
    quick, facts = calculate(replace(settings, residual=1.5e-3).task("bh2", borane))
    assert facts.attempt == "open space" and facts.states[0] == quick.e_tot
    assert facts.s_squared == pytest.approx(0.75, abs=0.02)
    assert err_rho(label_density(quick), label_density(reference)) < 1e-3
    m, expected = label_spin_density(quick), label_spin_density(reference)
    assert m.integrate() == pytest.approx(1, abs=1e-4)
    assert np.abs(m.values - expected.values).sum() < 5e-3 * np.abs(expected.values).sum()
    narrow = LabelSettings(PredictionOptions(spacing=0.2, padding=2.0), residual=1.5e-3)
    assert calculate(narrow.task("h", hydrogen[0].structure))[1].attempt == "direct"


def test_orbitals_of_two_spins_and_of_closed_shells():
    rng = np.random.default_rng(3)
    water = Structure.of(Atoms("OH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]]), spin=2)
    grid = Grid.around(water, 2.0, 0.6)
    nao = 17 + 2 * 9
    triplet = Label("t", water, grid, rng.normal(size=(nao, 8)))
    assert triplet.n_electrons == 8
    up, down = triplet.spin_orbitals
    assert (up.shape[1], down.shape[1]) == (5, 3)
    np.testing.assert_allclose(np.hstack([up, down]), triplet.orbitals)
    singlet = Label("s", Structure.of(water, spin=0), grid, rng.normal(size=(nao, 4)))
    assert singlet.n_electrons == 8 and np.all(singlet.orbitals == singlet.mo_coeff)


def test_stores_and_shards_keep_the_spin(tmp_path, hydrogen):
    label, facts = hydrogen
    helium, of_helium = calculate(SETTINGS.task("he", Structure.of(Atoms("He"))))
    with LabelStore(tmp_path / "a.db", RECIPE) as store:
        store.add(label, facts)
        store.add(helium, of_helium)
        row = store.row("h")
        assert (row.spin, row.n_states) == (1, len(facts.states))
        assert row.s_squared == pytest.approx(0.75, abs=1e-6)
        back = store.read("h")
        assert back.structure.spin == 1 and back.mo_energy.shape == label.mo_energy.shape
        assert store.read("he").structure.spin == 0 and "spin" not in store.row("he")
    np.testing.assert_allclose(back.mo_coeff, label.mo_coeff, atol=2e-7)
    shard = tmp_path / "a.shard"
    pack([tmp_path / "a.db"], shard)
    found = {x.name: x for x in read_shard(shard).labels}
    assert found["h"].structure.spin == 1 and found["he"].structure.spin == 0
    assert found["he"].points().spin is None and found["he"].rounded_spin is None
    points = found["h"].points()
    total = (points.spin * points.weights).sum()  # over one electron
    assert total == pytest.approx(1, abs=0.05)
    assert ",1,a,no," in contents(tmp_path)
    unpack(shard, tmp_path / "out")
    with np.load(tmp_path / "out" / "h.npz") as data:
        np.testing.assert_allclose(data["spin_density"], data["density"], atol=2e-3)
        assert data["spin"] == 1


def test_equal_spins_have_the_energy_of_a_closed_shell():
    helium = Structure.of(Atoms("He"))
    cell = build_cell(helium, Grid.paper(helium, 0.4), Recipe(spacing=0.4))
    closed, both = multigrid_rks(cell, "pbe"), multigrid_uks(cell, "pbe")
    dm = closed.get_init_guess()
    e_closed, e_both = closed.energy_tot(dm), both.energy_tot(np.array([dm, dm]) / 2)
    assert e_both == pytest.approx(e_closed, abs=1e-10)
    assert abs(both.energy_tot(np.array([dm, 0 * dm])) - e_closed) > 0.1


def test_forces_refuse_open_shells(hydrogen):
    label, _ = hydrogen
    found = SimpleNamespace(converged=True)
    with pytest.raises(InputError, match=r"1 unpaired electron, .*forces cover closed shells only"):
        scf_gradient(label.structure, label.grid, found, RECIPE)


def test_properties_of_closed_shells_refuse_open_shells():
    atom = Structure.of(Atoms("H"))
    analysis = Analysis(superposition(atom, Grid.around(atom, 4.0, 0.4)))
    with pytest.raises(InputError, match="orbital-free energies cover closed shells only"):
        analysis.property("orbital-free")
    with pytest.raises(InputError, match="ELF and LOL of densities cover closed shells only"):
        analysis.field("elf-density")
    with pytest.raises(InputError, match="properties of orbitals cover closed shells only"):
        analysis.property("reactivity")


def test_scf_of_a_radical_writes_both_densities(tmp_path):
    atom = Structure.of(Atoms("H"))
    start = StartDensity(superposition(atom, Grid.paper(atom, RECIPE.spacing)), None)
    record = scf_record(start, RECIPE, 1, tmp_path / "h.cube")
    assert (record["spin"], record["converged"]) == (1, True)
    assert record["s_squared"] == pytest.approx(0.75, abs=1e-5)
    assert record["spins_hirshfeld"] == pytest.approx([1], abs=0.02)
    assert [Path(x).name for x in record["written"]] == ["h.cube", "h_spin.cube"]
    rho, m = (read(x) for x in record["written"])
    assert (rho.structure.spin, m.unit) == (1, SPIN_UNIT)
    assert m.integrate() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(m.values, rho.values, atol=1e-4)
    record["input"] = "h"
    assert "<S^2> 0.750, unpaired electrons by atom 1.00" in scf_summary(record)
    both = scf_record(start, RECIPE, 1, tmp_path / "h.npz")["written"]
    assert [Path(x).name for x in both] == ["h.npz"]
    pair = read(both[0])
    np.testing.assert_allclose(pair.spin_density.values, m.values, atol=1e-5)
    found = analyze(both[0], "unpaired")["unpaired"]
    assert found.populations == pytest.approx(record["spins_hirshfeld"], abs=1e-4)
    assert found.lines()[1].split()[:2] == ["1", "H"]
    with pytest.raises(InputError, match="density of H comes without its spin density"):
        analyze(rho, "unpaired")
    closed = analyze(replace(rho, structure=HYDRIDE), "unpaired")["unpaired"]
    assert closed.closed and "closed shell" in closed.lines()[0]
    with pytest.raises(InputError, match="--compare is for closed shells"):
        open_shell_scf(rho, Recipe(), None, compare=True)


def test_unpaired_electrons_are_those_of_pyscf():
    """Hirshfeld's shares on the molecular grid of PySCF, and on the nodes of a box."""
    hydroxyl = Structure.of(Atoms("OH", [[0, 0, 0], [0, 0, 0.97]]))
    atoms = list(zip(hydroxyl.symbols, hydroxyl.positions, strict=True))
    mol = gto.M(
        atom=atoms, unit="bohr", basis="gth-dzvp", pseudo="gth-pbe", spin=1, verbose=0
    )  # fmt: skip
    mf = dft.UKS(mol, xc="lda").run()

    def spin_density(points):
        ao = dft.numint.eval_ao(mol, points)
        up, down = (dft.numint.eval_rho(mol, ao, dm) for dm in mf.make_rdm1())
        return up + down, up - down

    points = mf.grids.coords
    free = [curve(z) for z in hydroxyl.numbers]
    shares = np.array([
        atom.at(np.linalg.norm(points - r, axis=1), atom.all_electron)
        for atom, r in zip(free, hydroxyl.positions, strict=True)
    ])  # fmt: skip
    shares /= np.maximum(shares.sum(axis=0), 1e-300)
    expected = shares @ (mf.grids.weights * spin_density(points)[1])

    start = superposition(hydroxyl, Grid.around(hydroxyl, 5.0, 0.3))
    nodes = start.grid.points().reshape(-1, 3)
    rho, m = (x.reshape(start.grid.shape) for x in spin_density(nodes))
    found = hirshfeld_spins(start.with_values(rho), Field(start.grid, m, SPIN_UNIT))
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert found.sum() == pytest.approx(1, abs=2e-3) and found[0] > 0.9


@pytest.mark.parametrize(
    ("name", "beside"),
    [("a.cube", "a_spin.cube"), ("a.b.npz", "a.b_spin.npz"), ("a.cube.gz", "a_spin.cube.gz")],
)
def test_name_of_the_file_of_a_spin_density(name, beside):
    assert spin_path(Path("out", name)) == Path("out", beside)


def test_open_shells_of_scf_have_the_grid_of_superposed_atoms():
    options = PredictionOptions(padding=2.0)
    start = StartDensities(options, open_shells=True).predict(Atoms("H"))
    assert start.density.structure.spin == 1 and start.seconds is None
    paper = superposed(start.density.structure, replace(options, box="paper"))
    assert paper.integrate() == pytest.approx(1, abs=1e-6)


def test_training_tuning_and_evaluation_leave_open_shells_out(hydrogen, tmp_path):
    """A store may hold both kinds; networks learn closed shells only."""
    data = DataConfig(labels=(str(tmp_path / "labels.db"),), validation=0)
    with LabelStore(tmp_path / "labels.db", RECIPE) as store:
        store.add(*hydrogen)
    with pytest.raises(InputError, match="all labels have unpaired electrons, such as h"):
        read_dataset(data, RECIPE)
    with pytest.raises(InputError, match="all labels have unpaired electrons, such as h"):
        evaluate(uncorrected(), tmp_path / "labels.db")
    helium = calculate(SETTINGS.task("he", Structure.of(Atoms("He"))))
    with LabelStore(tmp_path / "labels.db") as store:
        store.add(*helium)
    found = read_dataset(data, RECIPE)
    assert [label.name for label in found.train] == ["he"]
    assert found.record()["open_shell_names"] == ["h"]
    evaluation = evaluate(uncorrected(), tmp_path / "labels.db", part="all")
    assert [row.name for row in evaluation.rows] == ["he"] and not evaluation.failures
    assert evaluation.selection == (
        "1 of 2 labels; 1 label with unpaired electrons, such as h, was " + LEFT_OUT
    )
    told: list[str] = []
    save_model(tmp_path / "sad.safetensors", uncorrected())
    plan = Plan(str(tmp_path / "sad.safetensors"), data.labels)
    with pytest.raises(InputError, match="none of 1 labels is left"):
        finetune(plan, tmp_path / "run", tell=told.append)
    assert told == ["1 label with unpaired electrons, such as h, was " + LEFT_OUT]


LEFT_OUT = "left out: models know closed shells only"


def uncorrected() -> Model:
    """A model that predicts the superposed atoms."""
    options = {"channels": [8, 8, 8], "blocks": [1, 1, 1], "decoder_blocks": [1, 1]}
    return Model("sad", "unet", build("unet", options).eval(), RECIPE, {})
