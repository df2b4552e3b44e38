"""Selections of QM9 molecules, with a table of the form that qm9pack ships."""

import importlib.util
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from denser.labels import qm9
from denser.types.errors import InputError
from denser.types.units import BOHR

HEADER = "XYZ_file,Index,SMILES,Elements,XYZ_Ang\n"
METHANE = (
    "\"dsgdb9nsd_000001.xyz\",1,\"C\",\"['C','H','H','H','H']\",\"[[-0.0126981359,1.0858041578,"
    "0.0080009958],[0.002150416,-0.0060313176,0.0019761204],[1.0117308433,1.4637511618,"
    "0.0002765748],[-0.540815069,1.4475266138,-0.8766437152],[-0.5238136345,1.4379326443,"
    '0.9063972942]]"\n'
)
HCL_LIKE = '"dsgdb9nsd_{0:06d}.xyz",{0},"N","[\'Cl\',\'H\']","[[0.,0.,1.],[0.,1.e-7,-0.27]]"\n'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder laid out like qm9pack, with molecules 1, 3, 44000 and 90000."""
    folder = tmp_path / "qm9pack"
    (folder / "data").mkdir(parents=True)
    rows = [METHANE, HCL_LIKE.format(3)]
    (folder / "data" / "qm9_part1.csv").write_text(HEADER + "".join(rows))
    rows = [HCL_LIKE.format(44000), HCL_LIKE.format(90000)]
    (folder / "data" / "qm9_part2.csv").write_text(HEADER + "".join(rows))
    spec = ModuleSpec("qm9pack", None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return folder


def test_the_parts_are_the_published_ones():
    parts = [qm9.split_numbers(name) for name in qm9.SPLITS]
    assert [len(p) for p in parts] == [123835, 50, 10000]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1, 133886))
    # the first entries of the published file, whose indices count from 0
    assert qm9.split_numbers("train")[:5].tolist() == [1, 3, 4, 5, 6]
    assert qm9.split_numbers("validation")[:5].tolist() == [1506, 2278, 4780, 7755, 9784]
    assert qm9.split_numbers("test")[:5].tolist() == [2, 13, 18, 35, 68]


def test_ranges_count_places_in_the_split():
    assert qm9.select("train[0:5]").numbers == (1, 3, 4, 5, 6)
    assert qm9.select("train[3:5]").numbers == (5, 6)
    assert qm9.select("test[:2]") == qm9.Selection((2, 13), 2)
    assert len(qm9.select("validation").numbers) == 50
    assert qm9.select("test[9999:]").numbers == (133881,)


def test_a_file_of_numbers(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("3\n\n# a comment\ndsgdb9nsd_000001  # methane\nqm9_000002\n3\n")
    assert qm9.select(str(path)) == qm9.Selection((1, 2, 3), 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train[5:2]", "the range 5:2 is empty"),
        ("validation[0:51]", "validation ends at 50"),
        ("training", r"neither a split \(train, validation, test\), .* nor a file"),
        ("training[0:5]", "no split 'training'"),
        ("train[0:5", r"a range such as \[0:5000\], nor a file"),
        ("train[-5:2]", "nor a file"),
    ],
)
def test_bad_selections(text, message):
    with pytest.raises(InputError, match=message):
        qm9.select(text)


@pytest.mark.parametrize("line", ["0", "133886", "CH4", "-3", "1 2"])
def test_bad_lines(tmp_path, line):
    path = tmp_path / "ids.txt"
    path.write_text(f"1\n{line}\n")
    with pytest.raises(InputError, match=r"ids.txt:2: expected a number from 1 to 133885"):
        qm9.select(str(path))


def test_an_empty_list(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("# nothing\n")
    with pytest.raises(InputError, match="contains no molecule"):
        qm9.select(str(path))


def test_smiles(package):
    assert dict(qm9.smiles((1, 2, 44000))) == {1: "C", 44000: "N"}


def test_geometries(package):
    found = dict(qm9.molecules((1, 2, 3, 44000)))
    assert list(found) == ["qm9_000001", "qm9_000003", "qm9_044000"]
    methane, other = found["qm9_000001"], found["qm9_000003"]
    assert methane.formula == "CH4"
    assert methane.cell is None
    np.testing.assert_allclose(
        methane.positions[1] * BOHR, [0.002150416, -0.0060313176, 0.0019761204]
    )
    assert other.symbols == ["Cl", "H"]
    np.testing.assert_allclose(other.positions[1] * BOHR, [0, 1e-7, -0.27], atol=1e-14)


def test_other_tables_and_no_package(package, monkeypatch):
    (package / "data" / "qm9_part1.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a table of QM9"):
        list(qm9.molecules((1,)))
    for path in (package / "data").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="install qm9pack again"):
        list(qm9.molecules((1,)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'denser\[qm9\]'"):
        list(qm9.molecules((1,)))


@pytest.mark.skipif(importlib.util.find_spec("qm9pack") is None, reason="qm9pack is not installed")
def test_the_real_package():
    (name, methane), (_, water) = qm9.molecules((1, 3))
    assert name == "qm9_000001"
    assert (methane.formula, water.formula) == ("CH4", "H2O")
