"""The training set in data/ can be made again from configs/labels.toml."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from typer.testing import CliRunner

from denser import InputError
from denser.atoms.molecules import whole_molecules
from denser.cli import app
from denser.labels import held_out, qm9
from denser.labels.reading import names_of_labels
from denser.labels.store import LabelStore
from denser.model.options import PredictionOptions
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.label import LabelInput, LabelSettings, label, planned, read_plan

FOUND = [
    ("qm9_048905_rattled", "paper", [1.55925247, 3.56882201, -1.63627612]),
    ("qm9_058731_rattled", "isolated", [2.27619551, 1.12024509, -2.44333774]),
    ("qm9_088128_rattled", "paper", [-0.76858728, -1.56064826, 3.812171]),
    ("qm9_001313_rattled", "paper", [1.35128834, -0.2108395, 3.0312174]),
]
PLAN = Path(__file__).parents[1] / "configs" / "labels.toml"
DATA = PLAN.parents[1] / "data"


def test_the_plan_of_the_published_labels_gives_the_structures_it_always_gave():
    """Shards were made from these: do not adapt the numbers."""
    inputs = planned(replace(read_plan(PLAN), molecules=4))
    found = [(x.name, x.box, (x.structure.positions[-1] * BOHR).round(8).tolist()) for x in inputs]
    assert found == FOUND


def test_distortions_and_boxes_follow_from_seed_and_number_alone():
    plan = replace(read_plan(PLAN), molecules=60)
    inputs = planned(plan)
    assert inputs[:20] != []
    names = [x.name for x in inputs]
    assert len(set(names)) == len(names) > 50
    again = {x.name: x for x in planned(replace(plan, molecules=30))}
    for x in inputs[:25]:
        np.testing.assert_array_equal(x.structure.positions, again[x.name].structure.positions)
    exact = dict(qm9.molecules(tuple(int(name[4:10]) for name in names)))
    for x in inputs:
        number = int(x.name[4:10])
        assert number >= plan.first_number
        assert held_out.why_held_out(x.name, x.structure) is None
        shift = (x.structure.positions - exact[x.name[:10]].positions) * BOHR
        if x.name.endswith("_rattled"):
            assert 0.02 < shift.std() < 0.15
        else:
            assert np.abs(shift).max() < 1e-7
    assert {x.box for x in inputs} == {"paper", "isolated"}
    distorted = sum(name.endswith("_rattled") for name in names) / len(names)
    assert 0.45 < distorted < 0.85


def test_held_out_molecules_are_no_part_of_a_plan():
    everything = replace(read_plan(PLAN), molecules=10**6, first_number=1, distorted=0.0)
    order = np.random.default_rng(everything.seed).permutation(qm9.split_numbers("train"))
    number = next(int(n) for n in order if held_out.is_named(f"qm9_{n:06d}"))
    place = order.tolist().index(number)
    names = {x.name for x in planned(replace(everything, molecules=place + 5))}
    assert f"qm9_{number:06d}" not in names
    assert len(names) > 0.9 * place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("molecules = 3", "lacks seed"),
        ("seed = 1", "needs molecules"),
        ("seed = 1\nmolecules = 3\nheld_out = true", "has no held_out"),
        ("seed = 1\nstructures = 3", "structures must be"),
        ("seed = 1\nmolecules = 3\nwidht = 2", "unknown key widht; did you mean width?"),
        ("seed = 1\nmolecules = 3\ndistorted = 2.0", "distorted must be between 0 and 1"),
        ("seed = 1\nmolecules = 3\nwidth = [0.2, 0.1]", "two increasing lengths"),
        ("seed = 1\nmolecules = -1", "must be 0 or more"),
        ("seed = 1\nmolecules = 'x'", "molecules"),
        ("seed", "cannot be read as TOML"),
    ],
)
def test_a_bad_plan_is_a_sentence(tmp_path, text, words):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_plan(path)


WATERS = """3
Properties=species:S:1:pos:R:3 name="{0}"
O 0.0 0.0 0.1
H 0.0 0.8 -0.5
H 0.0 -0.8 -0.5
"""


def _plan_of_a_file(tmp_path, names, more=""):
    (tmp_path / "waters.xyz").write_text("".join(WATERS.format(name) for name in names))
    (tmp_path / "plan.toml").write_text(f'seed = 1\nstructures = "waters.xyz"\n{more}')
    return read_plan(tmp_path / "plan.toml")


def test_a_plan_of_a_file_splits_off_what_is_held_out(tmp_path):
    names = [f"water_{i:03d}" for i in range(40)] + ["water_040_held"]
    plan = _plan_of_a_file(tmp_path, names, "distorted = 0.5\npaper_box = 0.5")
    inputs = planned(plan)
    assert [x.name.removesuffix("_rattled") for x in inputs] == names[:-1]
    assert 8 < sum(x.name.endswith("_rattled") for x in inputs) < 32
    assert {x.box for x in inputs} == {"paper", "isolated"}
    (test,) = planned(replace(plan, held_out=True))
    assert (test.name, test.box) == ("water_040_held", "isolated")
    exact = test.structure.positions
    for x in inputs:
        shift = np.abs(x.structure.positions - exact).max()
        assert (shift > 1e-3) == x.name.endswith("_rattled")
    # a name decides alone: other molecules of the file change nothing
    (alone,) = planned(_plan_of_a_file(tmp_path, names[7:8], "distorted = 0.5\npaper_box = 0.5"))
    np.testing.assert_array_equal(alone.structure.positions, inputs[7].structure.positions)


def test_a_plan_of_several_files_has_all_of_their_structures(tmp_path):
    one = planned(_plan_of_a_file(tmp_path, ["a", "b"], "distorted = 0.5"))
    (tmp_path / "more.xyz").write_text(WATERS.format("c"))
    text = 'seed = 1\nstructures = ["waters.xyz", "more.xyz"]\ndistorted = 0.5'
    (tmp_path / "plan.toml").write_text(text)
    found = planned(read_plan(tmp_path / "plan.toml"))
    assert [x.name for x in found[:2]] == [x.name for x in one] and found[2].name[0] == "c"
    (tmp_path / "more.xyz").write_text(WATERS.format("b"))
    with pytest.raises(InputError, match=r"more.xyz\[0\] has the name 'b'"):
        planned(read_plan(tmp_path / "plan.toml"))


def test_structures_of_a_plan_have_names_of_their_own(tmp_path):
    with pytest.raises(InputError, match=r"waters.xyz\[1\] has the name 'a'"):
        planned(_plan_of_a_file(tmp_path, ["a", "a"]))
    plan = _plan_of_a_file(tmp_path, ["a"])
    (tmp_path / "waters.xyz").write_text("1\n\nHe 0 0 0\n")
    with pytest.raises(InputError, match="has no name"):
        planned(plan)


def test_a_structure_that_cannot_be_used_is_told_and_the_rest_goes_on(tmp_path):
    plan = _plan_of_a_file(tmp_path, ["a", "b", "c"])
    text = (tmp_path / "waters.xyz").read_text().split("3\n")
    text[2] = text[2].replace("O 0.0 0.0 0.1", "O 0.0 0.8 -0.4")
    (tmp_path / "waters.xyz").write_text("3\n".join(text))
    told = []
    assert [x.name for x in planned(plan, told.append)] == ["a", "c"]
    assert len(told) == 1 and "closer than 0.4 angstrom" in told[0]


def test_published_structures_of_other_kinds():
    """A tenth is held out, no name is there twice, and test molecules are in neither part."""
    plan = read_plan(PLAN.with_name("kinds.toml"))
    train, test = planned(plan), planned(read_plan(PLAN.with_name("kinds-test.toml")))
    assert 0.08 < len(test) / (len(train) + len(test)) < 0.12
    assert len({x.name for x in train + test}) == len(train) + len(test)
    assert not {x.structure.formula for x in train} & set(held_out.FORMULAS)


def test_a_structure_may_name_its_own_box(tmp_path):
    hydrogen = Structure.of(molecule("H2"))
    settings = LabelSettings(PredictionOptions(padding=3.0, spacing=0.2))
    inputs = [LabelInput(f"h2_{box}", hydrogen, box=box) for box in ("paper", "isolated")]
    totals = label(inputs, tmp_path / "labels.db", settings, workers=1)
    assert totals.labelled == 2
    with LabelStore(tmp_path / "labels.db") as store:
        boxes = {name: store.row(name).box for name in store.names()}
    assert boxes == {"h2_paper": "paper", "h2_isolated": "padding 3"}
    assert label(inputs, tmp_path / "labels.db", settings, workers=1).present == 2


def test_molecules_with_labels_elsewhere_are_left_out(tmp_path):
    _plan_of_a_file(tmp_path, ["a", "b"], "padding = 3.0")
    (first, second) = planned(read_plan(tmp_path / "plan.toml"))
    hydrogen = Structure.of(molecule("H2"))
    settings = LabelSettings(PredictionOptions(padding=3.0, spacing=0.2))
    there = [LabelInput(x.name, hydrogen, box="isolated") for x in (first, second)]
    assert label(there, tmp_path / "there.db", settings, workers=1).labelled == 2
    command = ["labels", "make", str(tmp_path / "plan.toml"), "-o", str(tmp_path / "new.db")]
    found = CliRunner().invoke(app, [*command, "--except", str(tmp_path / "there.db")])
    assert found.exit_code == 0, found.output
    assert "2 of 2 molecules left out" in found.output
    found = CliRunner().invoke(app, [*command, "--except", str(tmp_path / "none.db")])
    assert isinstance(found.exception, InputError) and "none.db" in str(found.exception)


def test_plans_of_crystals():
    """Crystals are labelled in their cells, which are long enough; clusters are isolated."""
    inputs = planned(read_plan(PLAN.parent / "crystals.toml"))
    held = planned(read_plan(PLAN.parent / "crystals-test.toml"))
    names = {x.name.removesuffix("_rattled") for x in held}
    assert {x for x in names if not x.endswith("_held")} == {
        "crystal_h2ncn_c_c95",
        "crystal_hcn_b_c95",
    }  # of benchmarks/labels-crystals.db
    assert not any("_held" in x.name for x in inputs)
    assert len(inputs) + len(held) == 130
    for entry in [*inputs, *held]:
        cell = entry.structure.cell
        assert (cell is None) == ("_cluster" in entry.name) == (entry.box == "isolated")
        if cell is not None:
            task = LabelSettings().task(entry.name, entry.structure)
            assert [box for box, _ in task.grids()] == ["cell"]
    # in their own cells: no molecule is cut into pieces or melts with another one
    molecules = whole_molecules(next(x for x in held if "urea_v100" in x.name).structure)
    assert len(molecules) == 16
    assert {len(molecule.atoms) for molecule in molecules} == {8}


def test_names_of_published_labels():
    with (DATA / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    assert sorted(names_of_labels(DATA)) == sorted(row["name"] for row in rows)


@pytest.mark.slow
def test_the_command_makes_labels_and_goes_on(tmp_path):
    store = tmp_path / "labels.db"
    arguments = ["labels", "make", str(PLAN), "-o", str(store), "--first", "1", "--workers", "1"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "1 labelled" in found.output
    assert "1 were there" in CliRunner().invoke(app, arguments).output
    (expected,) = planned(replace(read_plan(PLAN), molecules=1))
    with LabelStore(store) as labels:
        assert labels.names() == [expected.name]
        row = labels.row(expected.name)
        assert (row.attempt, row.residual_percent) == ("steps", pytest.approx(0.15))
