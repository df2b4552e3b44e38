"""`denser analyze`: from files to a report."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write as write_atoms
from typer.testing import CliRunner

import denser
from denser.analysis.catalogue import FIELDS, PROPERTIES, needs_orbitals, requirements
from denser.analysis.moments import moments
from denser.analysis.properties import Analysis
from denser.atoms.free_atoms import complete
from denser.cli import app
from denser.io import read_density
from denser.io.electrons import describe
from denser.io.rows import flat
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows.inputs import find_inputs
from denser.workflows.report import tables as summary
from denser.workflows.report.outputs import ReportSettings
from denser.workflows.report.report import FRAMES, Report

COARSE = ("--spacing", "0.2")
SETTINGS = ReportSettings(("moments", "hirshfeld"), options=PredictionOptions(spacing=0.25))


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, InputError):
        return 2, result.stdout, result.stderr + f"denser: {result.exception}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def rows_of(path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def water() -> Density:
    """Coarser than by default: a third of the nodes, and of the time."""
    return Predictor().predict(molecule("H2O"), spacing=0.12).density


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atoms("w.xyz", molecule("H2O"))
    return tmp_path


@pytest.mark.slow
def test_every_property_answers_in_both_forms(water):
    analysis = Analysis(water)
    for name, entry in PROPERTIES.items():
        if "a crystal" in requirements(entry):
            continue
        if name == "interaction-energies":  # of two molecules, tested with them
            continue
        if name == "relaxed-fukui":  # three SCF calculations, tested with the others of its kind
            continue
        result = analysis.property(name)
        assert json.dumps(result.to_dict()), name
        assert result.lines() and all(isinstance(line, str) for line in result.lines()), name


def test_every_field_is_finite_and_has_the_atoms(water):
    analysis = Analysis(water)
    special = {
        "spin": Analysis(water.with_spin_density(0 * water.values)),
        "uncertainty": Analysis(water.with_expected_errors(np.full(3, 0.01))),
    }
    for name in FIELDS:
        if name in ("rearrangement", "igmh"):  # of two molecules, tested with them
            continue
        field = special.get(name, analysis).field(name)
        of_orbitals = needs_orbitals(FIELDS[name])
        grid = analysis.orbitals.density.grid if of_orbitals else water.grid
        assert field.grid.same_as(grid) and np.isfinite(field.values).all(), name
        assert field.structure is water.structure


def test_analyze_from_python(water):
    results = denser.analyze(water, ["moments", "cm5"])
    assert list(results) == ["moments", "cm5"]
    np.testing.assert_allclose(results["moments"].dipole, water.dipole(), atol=1e-6)
    assert repr(results) == "Properties(moments, cm5)"
    assert "\ncm5\n  CM5:          charge/e" in str(results)
    assert results._repr_html_().startswith("<pre>moments\n  about the centre")
    with pytest.raises(InputError, match="names of properties, such as"):
        denser.analyze(water, [3])
    with pytest.raises(InputError, match="points need three coordinates"):
        water.at("a")
    with pytest.raises(InputError, match="expected a file name, found int"):
        denser.refine(3, 4)
    with pytest.raises(InputError, match="unknown property 'momens'; did you mean 'moments'"):
        denser.analyze(water, ["momens"])
    with pytest.raises(InputError, match="unknown field"):
        Analysis(water).field("elff")


def test_orbitals_of_an_all_electron_density_are_refused(water):
    with pytest.raises(InputError, match="Kohn-Sham steps need a valence density"):
        Analysis(complete(water)).property("reactivity")


def test_molecule_without_options(folder):
    code, out, err = run("analyze", "w.xyz", *COARSE)
    assert code == 0 and not err
    assert "dipole" in out and "Hirshfeld" in out and "V_s,max" in out
    assert not list(folder.glob("report*"))


def test_charges_as_words_and_with_commas(folder):
    code, out, _ = run("analyze", "w.xyz", "--charges", "hirshfeld", "cm5", "--json", *COARSE)
    assert code == 0
    assert list(json.loads(out)["properties"]) == ["hirshfeld", "cm5"]
    code, out, _ = run("analyze", "w.xyz", "--charges", "cm5,mk", "--json", *COARSE)
    assert list(json.loads(out)["properties"]) == ["cm5", "mk"]
    code, _, err = run("analyze", "w.xyz", "--charges", "hirschfeld")
    assert (
        code == 2
        and "unknown charges 'hirschfeld'; did you mean 'hirshfeld'? known: hirshfeld" in err
    )


def test_refined_prediction(folder):
    dipoles = []
    for arguments in ((), ("--refine", "1")):
        code, out, err = run("analyze", "w.xyz", "--moments", "--json", *arguments)
        assert code == 0, err
        record = json.loads(out)
        dipoles.append(record["properties"]["moments"]["dipole_norm_debye"])
    assert any("Kohn-Sham" in note for note in record["notes"])
    assert 1e-4 < abs(dipoles[1] - dipoles[0]) < 0.5


def test_fields_are_listed():
    code, out, _ = run("analyze", "--field", "help")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(FIELDS)


def test_folder_of_everything(folder):
    code, _, err = run(
        "analyze", "w.xyz", "--nci", "--qtaim", "--esp", "--charges", "resp", "--charges-format",
        "mol2", "--field", "laplacian", "--planar-average", "z", "--xray", "1.0", "--cryo", "1.5",
        "-o", "r", *COARSE,
    )  # fmt: skip
    assert code == 0, err
    names = {path.name for path in (folder / "r").iterdir()}
    assert names >= {
        "report.txt", "report.json", "frames.csv", FRAMES, "w_esp.cube", "w_rdg.cube",
        "w_laplacian.cube", "w_resp.mol2", "w_average_z.csv", "w_xray.mtz", "w_xray.map", "w.tsc",
        "w_cryo.mtz", "w_cryo.map", "w_esp.png", "w_qtaim.png",
    }  # fmt: skip
    record = json.loads((folder / "r" / "report.json").read_text())[0]
    assert {path.rpartition("/")[2] for path in record["written"]} <= names
    assert record["errors"] == {}
    assert denser.read(folder / "r" / "w_esp.cube").unit == "hartree/e"
    row = rows_of(folder / "r" / "frames.csv")[0]
    assert float(row["resp_charges_e_1"]) == pytest.approx(
        record["properties"]["resp"]["charges_e"][0]
    )
    text = (folder / "r" / "report.txt").read_text()
    assert "V_s,max" in text and "Poincare-Hopf" in text


def test_map_comparison_and_fit(folder):
    assert run("analyze", "w.xyz", "--cryo", "1.5", "-o", "a", *COARSE)[0] == 0
    moved = molecule("H2O")
    moved.rotate(25, (1, 2, 3))
    moved.translate([0.3, -0.2, 0.1])
    write_atoms("m.xyz", moved)
    code, out, err = run(
        "analyze", "m.xyz", "--cryo", "1.5", "--against", "a/w_cryo.map", "--fit", "-o", "b",
        "--json", *COARSE,
    )  # fmt: skip
    assert code == 0, err
    properties = json.loads(out)["properties"]
    assert properties["map correlation"]["correlation"] > 0.98
    assert (folder / "b" / "m_fitted.xyz").exists()
    assert run("analyze", "w.xyz", "--against", "a/w_cryo.map", "-o", "c")[0] == 2
    assert run("analyze", "w.xyz", "--fit", "--cryo", "2", "-o", "c")[0] == 2


def test_all_leaves_out_what_a_density_does_not_have(folder, water):
    denser.write("a.npz", complete(water))
    code, out, err = run("analyze", "a.npz", "--all", "--json")
    assert code == 0 and not err
    record = json.loads(out)
    assert "orbital-free" not in record["properties"]
    assert any(note.startswith("orbital-free left out") for note in record["notes"])
    code, _, err = run("analyze", "a.npz", "--all", "--orbital-free")
    assert code == 2 and "orbital-free" in err


def test_difference_and_mask(folder, water):
    sad = denser.superposition(water.structure, water.grid)
    denser.write("a.npz", water)
    denser.write("b.npz", sad)
    code, out, err = run("analyze", "a.npz", "--minus", "b.npz", "-o", "r", "--json")
    assert code == 0, err
    assert json.loads(out)["properties"]["difference"]["regions"]
    rest = denser.read(folder / "r" / "a_difference.cube")
    np.testing.assert_allclose(rest.values, water.values - sad.values, atol=1e-5)
    denser.write("m.npz", Field(water.grid, (water.values > 0.01).astype(float), ""))
    code, out, err = run("analyze", "a.npz", "--mask", "m.npz", "--json")
    assert code == 0, err
    assert json.loads(out)["properties"]["mask"]["n_electrons"] == pytest.approx(
        water.values[water.values > 0.01].sum() * water.grid.dv, abs=1e-3
    )
    assert run("analyze", "a.npz", "--mask", "a.npz")[0] == 2


def test_kind_of_a_density_is_told_from_its_electrons(folder, water):
    denser.write("v.npz", water)
    density = read_density(folder / "v.npz")
    assert not density.all_electron and "8 valence electrons" in describe(density)
    everything = replace(complete(water), all_electron=False)  # as another program's cube has it
    denser.write("a.cube", everything)
    density = read_density(folder / "a.cube")
    assert density.all_electron and "all 10" in describe(density)
    assert density.structure.charge == 0
    density = read_density(folder / "a.cube", "valence")
    assert not density.all_electron
    half = water.with_values(0.5 * water.values)
    denser.write("h.npz", half)
    with pytest.raises(InputError, match=r"h\.npz: .*--all-electron"):
        read_density(folder / "h.npz", charge=0)
    code, out, _ = run("analyze", "a.cube", "--moments", "--json")
    assert code == 0 and json.loads(out)["density"] == "all-electron"


def test_bad_input_is_one_sentence_and_the_rest_goes_on(folder):
    (folder / "bad.xyz").write_text("nonsense\n")
    write_atoms("iron.xyz", Atoms("Fe"))
    code, _, err = run("analyze", "bad.xyz", "iron.xyz", "w.xyz", "--moments", "-o", "r", *COARSE)
    assert code == 2
    assert "bad.xyz" in err and "iron.xyz" in err and "Traceback" not in err
    records = json.loads((folder / "r" / "report.json").read_text())
    assert ["error" in record for record in records].count(True) == 2
    for arguments, words in (
        (("w.xyz", "--esp", "--field", "elff", "-o", "q"), "unknown field 'elff'; did you mean"),
        (("w.xyz", "--all-electron", "--valence"), "exclude each other"),
        (("w.xyz", "--field", "esp"), "give -o FOLDER"),
        (("w.xyz", "--format", "abc"), "cannot be written as .abc"),
        (("w.xyz", "--xray", "-1", "-o", "q"), "resolution must be positive"),
        ((), "nothing to analyse"),
        (("w.xyz", "--moments", "-o", "w.xyz"), "is a file"),
    ):
        code, _, err = run("analyze", *arguments)
        assert code == 2 and words in err, (arguments, err)


def trajectory(path, n: int) -> None:
    rng = np.random.default_rng(0)
    frames = [molecule("H2O") for _ in range(n)]
    for frame in frames:
        frame.positions += rng.normal(0, 0.02, (3, 3))
    write_atoms(path, frames)


def test_trajectory_is_resumed_and_other_settings_are_refused(folder):
    trajectory("t.extxyz", 4)
    report = Report(find_inputs([folder / "t.extxyz"], []), SETTINGS, folder / "r")

    def stop(record):
        raise KeyboardInterrupt

    assert report.run(1, stop).interrupted
    lines = (folder / "r" / FRAMES).read_text().splitlines()
    assert len(lines) == 2  # the settings and the first frame
    with open(folder / "r" / FRAMES, "a") as file:
        file.write('{"input": "t.ext')  # what a machine that lost power leaves
    again = Report(find_inputs([folder / "t.extxyz"], []), SETTINGS, folder / "r")
    totals = again.run(1)
    assert (totals.present, totals.done, totals.failed) == (1, 3, 0)
    rows = rows_of(folder / "r" / "frames.csv")
    assert [row["input"].rpartition("[")[2] for row in rows] == ["0]", "1]", "2]", "3]"]
    text = (folder / "r" / "report.txt").read_text()
    dipoles = [float(row["moments_dipole_norm_debye"]) for row in rows]
    line = next(x for x in text.splitlines() if x.startswith("moments_dipole_norm_debye"))
    numbers = [float(x) for x in line.split()[1:]]
    np.testing.assert_allclose(
        numbers, [np.mean(dipoles), np.std(dipoles, ddof=1), min(dipoles), max(dipoles)], rtol=1e-4
    )
    with pytest.raises(InputError, match="other settings"):
        Report(
            find_inputs([folder / "t.extxyz"], []),
            replace(SETTINGS, properties=("cm5",)),
            folder / "r",
        )


QUICK = ("--moments", "--spacing", "0.3")


def test_files_of_inputs_never_overwrite_each_other(folder):
    names = ["d1/a.xyz", "a.npz", "d2/a.xyz", "a_2.xyz"]
    for name, kind in zip(names, ("H2O", None, "CH4", "NH3"), strict=True):
        (folder / name).parent.mkdir(exist_ok=True)
        if kind is not None:
            write_atoms(name, molecule(kind))
    denser.write("a.npz", Predictor().predict(molecule("HF"), spacing=0.3).density)
    code, _, err = run("analyze", *names, *QUICK, "--field", "density", "-o", "r")
    assert code == 0, err
    written = [r["written"] for r in json.loads((folder / "r" / "report.json").read_text())]
    assert [denser.read(path).structure.formula for (path,) in written] == [
        "H2O", "HF", "CH4", "H3N",
    ]  # fmt: skip


def test_files_of_a_later_run_do_not_overwrite_earlier_ones(folder):
    for name, kind in (("d1", "H2O"), ("d2", "CH4")):
        (folder / name).mkdir()
        write_atoms(f"{name}/a.xyz", molecule(kind))
        assert run("analyze", f"{name}/a.xyz", *QUICK, "--field", "density", "-o", "r")[0] == 0
    written = [r["written"] for r in json.loads((folder / "r" / "report.json").read_text())]
    assert [denser.read(path).structure.formula for (path,) in written] == ["H2O", "CH4"]


def test_an_output_never_overwrites_an_input(folder):
    density = Predictor().predict(molecule("H2O"), spacing=0.3).density
    for name in ("w.cube", "w_density.cube"):
        denser.write(name, density)
    before = (folder / "w_density.cube").read_bytes()
    files = ("w.cube", "w_density.cube")
    code, _, err = run("analyze", *files, "--moments", "--field", "density", "-o", ".")
    assert code == 2 and "is an input and would be overwritten" in err
    assert (folder / "w_density.cube").read_bytes() == before


def test_what_has_changed_is_analysed_again(folder):
    from denser.model.checkpoint import Model, load_model, save_model

    model = load_model()
    save_model(folder / "m.safetensors", model)
    write_atoms("m.xyz", molecule("CH4"))
    denser.write("h.npz", Predictor().predict(molecule("H2"), spacing=0.3).density)
    density = Predictor().predict(molecule("H2O"), spacing=0.3).density
    denser.write("mask.npz", density.with_values(np.ones(density.grid.shape)))
    names = ["w.xyz", "m.xyz", "h.npz"]

    def done(*options: str) -> list[str]:
        arguments = ("--model", "m.safetensors", *QUICK, "-o", "r", "--json", *options)
        code, out, err = run("analyze", *names, *arguments)
        assert code == 0, err
        return [json.loads(line)["input"] for line in out.splitlines()]

    assert done() == names
    assert done() == done("--device", "cpu") == []
    write_atoms("w.xyz", molecule("NH3"))
    denser.write("h.npz", Predictor().predict(molecule("HF"), spacing=0.3).density)
    assert done() == ["w.xyz", "h.npz"]
    formulas = {row["input"]: row["formula"] for row in rows_of(folder / "r" / "frames.csv")}
    assert formulas == {"w.xyz": "H3N", "m.xyz": "CH4", "h.npz": "HF"}
    next(iter(model.network.parameters())).data.mul_(1.001)
    (folder / "m.safetensors").unlink()
    save_model(
        folder / "m.safetensors", Model("m", model.architecture, model.network, model.recipe)
    )
    assert done() == ["w.xyz", "m.xyz"]  # a density in a file needs no model
    names[:] = ["w.xyz"]
    write_atoms("w.xyz", molecule("H2O"))
    assert run("analyze", "w.xyz", *QUICK, "--mask", "mask.npz", "-o", "q")[0] == 0
    denser.write("mask.npz", density.with_values(np.full(density.grid.shape, 0.5)))
    assert run("analyze", "w.xyz", *QUICK, "--mask", "mask.npz", "-o", "q")[0] == 0
    (record,) = json.loads((folder / "q" / "report.json").read_text())
    assert next(iter(record["properties"]["mask"].values())) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error", "x")])
def test_an_error_of_the_system_does_not_end_the_others(folder, monkeypatch, error):
    trajectory("t.extxyz", 3)
    original, calls = Predictor.predict, []

    def predict(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return original(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "predict", predict)
    code, out, err = run("analyze", "t.extxyz", *QUICK, "-o", "r")
    assert code == 2 and "2 of 3 analysed" in out and "1 failed" in out
    assert "t.extxyz[1]" in err and err.count("\n") == 1 and "Traceback" not in err
    records = json.loads((folder / "r" / "report.json").read_text())
    assert ["error" in record for record in records] == [False, True, False]


def test_memory_that_runs_out_in_one_property_leaves_the_others(folder, monkeypatch):
    original = Analysis.property

    def hungry(self, name):
        if name == "cm5":
            raise MemoryError
        return original(self, name)

    monkeypatch.setattr(Analysis, "property", hungry)
    code, out, err = run("analyze", "w.xyz", *QUICK, "--charges", "cm5", "--json")
    record = json.loads(out)
    assert code == 2 and "cm5: memory ran out" in err
    assert list(record["properties"]) == ["moments"] and list(record["errors"]) == ["cm5"]


def test_many_frames_write_no_fields_unasked(folder):
    trajectory("t.extxyz", 11)
    code, _, err = run("analyze", "t.extxyz", "--nci", "-o", "r", "--spacing", "0.3")
    assert code == 0, err
    assert {path.suffix for path in (folder / "r").iterdir()} == {".jsonl", ".json", ".csv", ".txt"}


def test_processes_give_what_one_process_gives(folder):
    trajectory("t.extxyz", 3)
    for name, workers in (("a", 1), ("b", 2)):
        totals = Report(find_inputs([folder / "t.extxyz"], []), SETTINGS, folder / name).run(
            workers
        )
        assert totals.done == 3
    a, b = (
        {r["input"]: r["properties"] for r in json.loads((folder / x / "report.json").read_text())}
        for x in "ab"
    )
    for key in a:
        np.testing.assert_allclose(
            a[key]["hirshfeld"]["charges_e"], b[key]["hirshfeld"]["charges_e"], atol=1e-5
        )


@pytest.mark.slow
def test_killed_run_goes_on(folder):
    trajectory("t.extxyz", 6)
    command = [
        sys.executable, "-m", "denser", "analyze", "t.extxyz", "--moments", "-o", "r", *COARSE
    ]  # fmt: skip
    process = subprocess.Popen(command, env=dict(os.environ, OMP_NUM_THREADS="1"))
    path = folder / "r" / FRAMES
    for _ in range(6000):  # other programs may take the machine meanwhile
        if path.exists() and path.read_text().count("\n") >= 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, out, _ = run("analyze", "t.extxyz", "--moments", "-o", "r", *COARSE)
    assert code == 0 and "done before" in out
    assert len(json.loads((folder / "r" / "report.json").read_text())) == 6


def test_input_without_a_density_is_a_record(folder):
    settings = replace(SETTINGS, options=PredictionOptions(charge=8))
    report = Report(find_inputs([folder / "w.xyz"], []), settings, None)
    told = []
    assert report.run(1, told.append).failed == 1
    assert "without valence electrons" in told[0]["error"] and not told[0]["error"].startswith(
        str(folder)
    )


def test_a_bug_in_one_input_does_not_end_the_others(folder, monkeypatch):
    trajectory("t.extxyz", 2)
    calls = []

    def broken(self, name):
        calls.append(name)
        if len(calls) == 1:
            raise np.linalg.LinAlgError("singular")
        return moments(self.density)

    monkeypatch.setattr(Analysis, "property", broken)
    settings = replace(SETTINGS, properties=("moments",))
    totals = Report(find_inputs([folder / "t.extxyz"], []), settings, None).run(1)
    assert (totals.failed, totals.done) == (1, 1)


def test_flattened_record():
    record = {
        "input": "a", "formula": "H2", "charge": 0, "n_atoms": 2, "n_electrons": 2.0,
        "properties": {"m": {"x": [1.0, 2.0], "t": [[1], [2]], "l": [{"a": 1}], "none": None}},
        "errors": {"q": "no"},
    }  # fmt: skip
    row = flat(summary.row_of(record))
    assert row["m_x_1"] == 1.0 and row["m_t_2_1"] == 2 and row["q_error"] == "no"
    assert row["m_none"] == "" and "m_l" not in row
    tensor = [[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]]
    row = flat({"q": tensor, "d": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]})
    assert [k for k in row if k.startswith("q_")] == [
        "q_1_1", "q_1_2", "q_1_3", "q_2_2", "q_2_3", "q_3_3"
    ]  # fmt: skip
    assert sum(k.startswith("d_") for k in row) == 9  # three atoms' dipoles are no tensor


def test_what_a_damaged_line_held_is_analysed_again(folder):
    trajectory("t.extxyz", 3)
    inputs = find_inputs([folder / "t.extxyz"], [])
    Report(inputs, SETTINGS, folder / "r").run(1)
    path = folder / "r" / FRAMES
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, others[0], others[1][:40] + "\n", others[2]]))
    totals = Report(inputs, SETTINGS, folder / "r").run(1)
    assert (totals.present, totals.done) == (2, 1)
    assert len(rows_of(folder / "r" / "frames.csv")) == 3


def test_charge_of_a_file_is_the_users(folder, water):
    ion = replace(water, structure=Structure(water.structure.numbers, water.structure.positions, 0))
    denser.write("w.cube", ion)
    density = read_density(folder / "w.cube", "valence", charge=1)
    assert density.structure.charge == 1


def test_steps_that_a_density_file_does_not_take_are_told(folder, water):
    denser.write("w.cube", water)
    code, out, _ = run("analyze", "w.cube", "--refine", "1", "--moments")
    assert code == 0 and "--refine is for predictions" in out


def test_portraits_by_plot(folder, water):
    denser.write("a.npz", water)
    for kind in ("esp", "nci", "qtaim"):
        code, out, err = run("plot", "a.npz", "-o", f"{kind}.png", "--kind", kind)
        if kind == "nci" and code == 2:
            assert "nothing to draw" in err
            continue
        assert code == 0 and f"wrote {kind}.png" in out
        assert (folder / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run("plot", "a.npz", "a.npz", "-o", "d.png", "--kind", "esp")
    assert code == 2 and "draws one density" in err
    assert run("plot", "a.npz", "-o", "d.bmp", "--kind", "esp")[0] == 2


def test_a_folder_where_nothing_was_analysed_takes_other_settings(folder):
    (folder / "he.xyz").write_text("1\n\nHe 0 0 0\n")
    inputs = find_inputs([folder / "he.xyz"], [])
    assert Report(inputs, SETTINGS, folder / "r").run(1).failed == 1
    other = replace(SETTINGS, properties=("cm5",))
    totals = Report(find_inputs([folder / "w.xyz"], []), other, folder / "r").run(1)
    assert (totals.done, totals.failed) == (1, 0)
    assert len(rows_of(folder / "r" / "frames.csv")) == 1


def test_properties_of_orbitals_at_gamma_say_so_in_small_cells(folder):
    cell = Atoms("H2", [(0, 0, 0), (0.1, 0, 0.75)], cell=[2.4, 4.2, 4.4], pbc=True)
    write_atoms("h2.xyz", cell)
    for option, told in (("--moments", 0), ("--reactivity", 1)):
        code, out, err = run("analyze", "h2.xyz", option, "--json")
        assert code == 0, err
        (record,) = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
        notes = [note for note in record["notes"] if "at Gamma alone" in note]
        assert len(notes) == told, record["notes"]
