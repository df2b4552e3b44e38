import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from crystals import CELL
from denser.analysis.crystal.scattering import structure_factors
from denser.atoms.sad import superposition
from denser.io import tsc
from denser.io.crystals import read_asymmetric_unit
from denser.io.files import naming
from denser.model.checkpoint import load_model
from denser.model.prediction import Prediction
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.workflows.form_factors import TableSettings, doubt_of_crystal, write_form_factors

HKL = np.array([[1, 0, 0], [-1, 2, -3]])
FACTORS = np.array([[5.5 - 0.25j, 1e-3 + 2j], [0.75, -0.5j]])


@pytest.mark.parametrize("name", ["a.tsc", "a.tscb"])
def test_round_trip(tmp_path, name):
    tsc.write(tmp_path / name, ["C1", "H1A"], HKL, FACTORS, "a\nmolecule")
    labels, hkl, factors = tsc.read(tmp_path / name)
    assert labels == ["C1", "H1A"]
    np.testing.assert_array_equal(hkl, HKL)
    np.testing.assert_allclose(factors, FACTORS, rtol=1e-8)


def test_layout(tmp_path):
    """As NoSpherA2 writes it: header keys, then h k l and real,imaginary per scatterer."""
    tsc.write(tmp_path / "a.tsc", ["C1", "H1A"], HKL, FACTORS, "a molecule")
    assert (tmp_path / "a.tsc").read_text().splitlines() == [
        "TITLE: a molecule",
        "SYMM: expanded",
        "SCATTERERS: C1 H1A",
        "DATA:",
        "1 0 0 5.50000000e+00,-2.50000000e-01 7.50000000e-01,0.00000000e+00",
        "-1 2 -3 1.00000000e-03,2.00000000e+00 -0.00000000e+00,-5.00000000e-01",
    ]


def test_other_headers_are_read_over(tmp_path):
    (tmp_path / "a.tsc").write_text(
        "TITLE: x\nAD: FALSE\nSYMM: expanded\nSCATTERERS: O1\nSOURCE:\n  software\nDATA:\n"
        "0 0 2 7.5,0.5\n\n"
    )
    labels, hkl, factors = tsc.read(tmp_path / "a.tsc")
    assert (labels, hkl.tolist(), factors.tolist()) == (["O1"], [[0, 0, 2]], [[7.5 + 0.5j]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "SCATTERERS"),
        ("SCATTERERS: C1\nDATA:\n", "SCATTERERS"),
        ("SCATTERERS: C1\nDATA:\n1 0 0 5.0\n", r"a\.tsc:3: expected h k l and 1 pairs"),
        ("SCATTERERS: C1\nDATA:\n1 0 x 5.0,0.0\n", r"a\.tsc:3"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    (tmp_path / "a.tsc").write_text(text)
    with pytest.raises(InputError, match=message):
        tsc.read(tmp_path / "a.tsc")


def test_bad_input(tmp_path):
    path = tmp_path / "a.tsc"
    for labels, factors, message in [
        (["C1", "C1"], FACTORS, "distinct"),
        (["C 1", "H1"], FACTORS, "distinct"),
        (["C1"], FACTORS, "shape"),
        (["C1", "H1"], FACTORS * np.nan, "finite"),
    ]:
        with pytest.raises(InputError, match=message):
            tsc.write(path, labels, HKL, factors)
    assert not path.exists()


def test_layout_of_the_binary_form(tmp_path):
    """As NoSpherA2 writes it and as Olex2 reads it."""
    tsc.write(tmp_path / "a.tscb", ["C1", "H1A"], HKL, FACTORS)
    content = (tmp_path / "a.tscb").read_bytes()
    assert struct.unpack("<2i", content[:8]) == (0, 6)
    assert content[8:14] == b"C1 H1A"
    assert struct.unpack("<i", content[14:18]) == (2,)
    assert struct.unpack("<3i4d", content[18:62]) == (1, 0, 0, 5.5, -0.25, 0.75, 0.0)
    assert len(content) == 18 + 2 * (12 + 32)


def test_a_binary_table_that_is_cut_off(tmp_path):
    tsc.write(tmp_path / "a.tscb", ["C1", "H1A"], HKL, FACTORS)
    content = (tmp_path / "a.tscb").read_bytes()
    for n in (3, 11, 16, 40):
        (tmp_path / "b.tscb").write_bytes(content[:n])
        with pytest.raises(InputError, match="is no binary table"):
            tsc.read(tmp_path / "b.tscb")


SITES = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_disorder_group
"""
ORDERED = """H1 H 0.44 0.39 0.29 1 .
OW O 0.30 0.25 0.27 1 .
H2 H 0.19 0.27 0.42 1 .
"""
DISORDERED = """OW O 0.30 0.25 0.27 1 .
H1A H 0.44 0.39 0.29 0.4 1
H2 H 0.19 0.27 0.42 1 .
H1B H 0.40 0.09 0.29 0.6 2
"""
CIF = CELL + SITES
SETTINGS = TableSettings(d_min=0.9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables of an ordered and of a disordered crystal."""
    folder = tmp_path_factory.mktemp("tables")
    for name, sites in (
        ("ordered", ORDERED),
        ("other", ORDERED.replace("0.44 0.39 0.29", "0.40 0.09 0.29")),
        ("disordered", DISORDERED),
    ):
        (folder / f"{name}.cif").write_text(CIF + sites)
        write_form_factors(folder / f"{name}.cif", folder / f"{name}.tsc", SETTINGS)
    return folder


def test_a_table_gives_the_structure_factors_of_the_whole_cell(folder):
    labels, hkl, factors = tsc.read(folder / "ordered.tsc")
    assert labels == ["H1", "OW", "H2"]
    unit = read_asymmetric_unit(folder / "ordered.cif")
    frame, first = unit.cell(0)
    structure = Structure.from_ase(frame.atoms)
    density = Predictor().predict(structure, spacing=0.1).density
    whole = structure_factors(density, 0.9)
    place = {tuple(h): n for n, h in enumerate(hkl.tolist())}
    x = frame.atoms.get_scaled_positions(wrap=False)[first]
    found = np.zeros(len(whole.hkl), dtype=complex)
    for rotation, shift in (np.eye(3, dtype=int), [0, 0, 0]), (np.diag([-1, 1, -1]), [0, 0.5, 0]):
        moved = whole.hkl @ rotation
        f = factors[:, [place[tuple(h)] for h in moved.tolist()]]
        phase = x @ moved.T + whole.hkl @ shift
        found += (f * np.exp(2j * np.pi * phase)).sum(axis=0)
    np.testing.assert_allclose(found, whole.f_calc, atol=2e-3)
    assert np.abs(whole.f_calc - whole.f_spherical).max() > 0.3


def test_each_disorder_group_has_the_form_factors_of_its_own_arrangement(folder):
    labels, _, factors = tsc.read(folder / "disordered.tsc")
    assert labels == ["OW", "H1A", "H2", "H1B"]
    _, _, ordered = tsc.read(folder / "ordered.tsc")
    np.testing.assert_allclose(factors[1], ordered[0], atol=1e-6)  # H1A beside OW and H2
    _, _, other = tsc.read(folder / "other.tsc")
    np.testing.assert_allclose(factors[3], other[0], atol=1e-6)
    assert np.abs(other[1] - ordered[1]).max() > 1e-2
    mean = 0.4 * ordered[1] + 0.6 * other[1]  # so that the structure factors are the mean
    np.testing.assert_allclose(factors[0], mean, atol=1e-6)


def test_doubt_of_a_crystal_names_elements_with_few_labels():
    cell = Structure.of(Atoms("HCl", [[0, 0, 0], [0, 0, 1.3]], cell=3 * [5.0], pbc=True))
    default = load_model("default")
    known = {"n_labels_of_element": {"Cl": 3}, "measured": default.info["measured"]}
    predictor = Predictor(replace(default, info=known), "cpu")
    sad = superposition(cell, Grid.periodic(cell, 0.8))
    good, bad = (Prediction(sad, sad, "cell", excess, 0.0, 0.0) for excess in (0.0, -0.02))
    assert "3 with Cl" in doubt_of_crystal(predictor, [good])
    assert "this kind of crystal" in doubt_of_crystal(predictor, [good, bad])
    predictor.model.info["n_labels_of_element"] = {}
    assert doubt_of_crystal(predictor, [good]) == ""


def test_electrons_by_mott_and_bethe(folder):
    """0.023934 (Z - f)/s^2 with s = sin(theta)/lambda, as in the tables for electrons."""
    settings = replace(SETTINGS, electrons=True)
    record = write_form_factors(folder / "ordered.cif", folder / "e.tscb", settings)
    assert record["radiation"] == "electrons"
    _, hkl, x_rays = tsc.read(folder / "ordered.tsc")
    _, _, found = tsc.read(folder / "e.tscb")
    frame, _ = read_asymmetric_unit(folder / "ordered.cif").cell(0)
    s = np.linalg.norm(hkl @ np.linalg.inv(frame.atoms.cell.array).T, axis=1) / 2
    expected = 0.0239337 * (np.array([1, 8, 1])[:, None] - x_rays) / s**2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (("", ""), ["--d-min", "0"], "must be a positive length"),
        (("", ""), [], "give --d-min"),
        (("", ""), ["--d-min", "0.9", "-o", "a.hkl"], "ends in .tsc or .tscb"),
        (("", ""), ["--d-min", "0.9", "--block", "ice"], "no block 'ice'"),
        (("H2 H", "H1 H"), ["--d-min", "0.9"], "two sites with the label H1"),
        (("0.27 1 .", "0.27 0.5 ."), ["--d-min", "0.9"], "has an occupancy of 0.50"),
        (("OW O", "OW Xe"), ["--d-min", "0.9"], "Xe"),
        (("data_", "dat"), ["--d-min", "0.9"], "cannot be read as a CIF"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, run, change, arguments, words):
    path = tmp_path / "crystal.cif"
    path.write_text((CIF + ORDERED).replace(*change))
    code, _, told = run("tsc", path, *arguments)
    assert code == 2
    assert words in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_named_once(run):
    code, _, told = run("tsc", "no.cif")
    assert (code, told) == (2, "denser: no.cif: no such file; check the name\n")
    with pytest.raises(InputError, match=r"^no\.cif: has no atoms$"), naming(Path("no.cif")):  # noqa: SIM117
        with naming(Path("no.cif")):
            raise InputError("has no atoms")


def test_the_command_takes_the_resolution_of_the_measurement(tmp_path, run):
    """To 2 sin(theta)/lambda; the table stands beside the CIF."""
    measured = "_diffrn_radiation_wavelength 1.5418\n_diffrn_reflns_theta_max 30.5\n"
    (tmp_path / "a.cif").write_text(
        CIF.replace("_cell_length_a", measured + "_cell_length_a") + ORDERED
    )
    code, printed, told = run("tsc", tmp_path / "a.cif", "--json")
    assert code == 0, told
    record = json.loads(printed)
    assert record["d_min_angstrom"] == pytest.approx(1.5188, abs=1e-4)
    _, hkl, _ = tsc.read(tmp_path / "a.tsc")
    assert record["n_reflections"] == len(hkl)
