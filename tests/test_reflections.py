import gemmi
import numpy as np
import pytest

from denser.analysis.crystal.symmetry import miller_indices
from denser.io import reflections
from denser.types.errors import InputError
from denser.types.units import BOHR

CELL = np.array([[9.1, 0, 0], [0, 10.2, 0], [-2.0, 0, 11.3]]) / BOHR


@pytest.fixture
def data():
    hkl = miller_indices(CELL, 2.0, "P 1 21 1")
    rng = np.random.default_rng(0)
    return hkl, rng.normal(size=len(hkl)) + 1j * rng.normal(size=len(hkl))


@pytest.mark.parametrize("name", ["a.mtz", "a.cif", "a.ent"])
def test_round_trip(tmp_path, data, name):
    hkl, f = data
    reflections.write(tmp_path / name, hkl, f, CELL, "P 1 21 1")
    got_hkl, got_f, cell, group = reflections.read(tmp_path / name)
    found = {tuple(x): y for x, y in zip(got_hkl, got_f, strict=True)}
    assert len(found) == len(hkl)
    # mmCIF files are written with five or six digits
    np.testing.assert_allclose([found[tuple(x)] for x in hkl], f, atol=1e-4)
    np.testing.assert_allclose(cell, CELL, atol=2e-3)
    assert group == "P 1 21 1"


def test_gemmi_reads_amplitude_phase_and_resolution(tmp_path, data):
    hkl, f = data
    reflections.write(tmp_path / "a.mtz", hkl, f, CELL, "P 1 21 1")
    mtz = gemmi.read_mtz_file(str(tmp_path / "a.mtz"))
    assert mtz.spacegroup.hm == "P 1 21 1"
    assert mtz.resolution_high() == pytest.approx(2.0, abs=0.05)
    assert [c.type for c in mtz.columns] == ["H", "H", "H", "F", "P"]
    asu = mtz.get_f_phi("FC", "PHIC")
    known = {tuple(x): y for x, y in zip(hkl, f, strict=True)}
    expected = [known[tuple(x)] for x in asu.miller_array]
    np.testing.assert_allclose(asu.value_array, expected, atol=1e-5)


def test_reflections_outside_the_asymmetric_unit_are_moved_with_their_phase(tmp_path, data):
    hkl, f = data
    reflections.write(tmp_path / "a.mtz", -hkl, f.conj(), CELL, "P 1 21 1")
    got_hkl, got_f, *_ = reflections.read(tmp_path / "a.mtz")
    known = {tuple(x): y for x, y in zip(hkl, f, strict=True)}
    np.testing.assert_allclose(got_f, [known[tuple(x)] for x in got_hkl], atol=1e-5)


def test_bad_input(tmp_path, data, monkeypatch):
    hkl, f = data
    with pytest.raises(InputError, match="unknown format of reflections"):
        reflections.write(tmp_path / "a.hkl", hkl, f, CELL)
    with pytest.raises(InputError, match="finite"):
        reflections.write(tmp_path / "a.mtz", hkl, f * np.nan, CELL)
    with pytest.raises(InputError, match="unknown space group"):
        reflections.write(tmp_path / "a.mtz", hkl, f, CELL, "Q 7")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no such file"):
        reflections.read(tmp_path / "b.mtz")
    (tmp_path / "c.mtz").write_bytes(b"nothing")
    (tmp_path / "c.cif").write_text("data_x\n_cell.length_a 3\n")
    for name in ("c.mtz", "c.cif"):
        with pytest.raises(InputError, match=name):
            reflections.read(tmp_path / name)
