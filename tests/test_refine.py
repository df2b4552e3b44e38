"""`denser refine`: a known crystal comes back from reflections that were made of it."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gemmi
import numpy as np
import pytest

import denser
from crystals import CELL
from denser.analysis.crystal.form_factors import form_factors
from denser.analysis.crystal.scattering import structure_factors
from denser.types.errors import InputError
from denser.types.units import BOHR
from denser.workflows.refinement import engine
from denser.workflows.refinement import refine as workflow
from denser.workflows.refinement.engine import Engine
from denser.workflows.refinement.model import check_hydrogens, element, read_hklf4
from denser.workflows.refinement.result import Refinement

CIF = (
    CELL
    + """_chemical_formula_sum 'H2 O'
_refine_ls_weighting_details 'w=1/[\\s^2^(Fo^2^)]'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_U_iso_or_equiv
_atom_site_adp_type
_atom_site_occupancy
O1 O {O1} 0.015 {kind} {occupancy}
H1 H {H1} 0.030 Uiso 1
H2 H {H2} 0.030 Uiso 1
"""
)
TENSOR = """loop_
_atom_site_aniso_label
_atom_site_aniso_U_11
_atom_site_aniso_U_22
_atom_site_aniso_U_33
_atom_site_aniso_U_12
_atom_site_aniso_U_13
_atom_site_aniso_U_23
O1 0.015 0.015 0.015 0 0.0021 0
"""
NAME = "_space_group_name_H-M_alt"
SITES = {
    "O1": np.array([0.30, 0.25, 0.27]),
    "H1": np.array([0.30, 0.25, 0.27]) + [0.14, 0.14, 0.02],
    "H2": np.array([0.30, 0.25, 0.27]) + [-0.11, 0.02, 0.15],
}


def model(path: Path, sites: dict, occupancy: float = 1, **replaced: str) -> Path:
    text = {name: " ".join(f"{x:.5f}" for x in site) for name, site in sites.items()}
    content = CIF.format(**text, kind="Uani", occupancy=occupancy) + TENSOR
    for old, new in replaced.values():
        assert old in content
        content = content.replace(old, new)
    path.write_text(content)
    return path


@pytest.fixture
def run(run):
    """Run `denser refine ...`, as `denser ...` of conftest."""
    return partial(run, "refine")


def measure(crystal: Path, out: Path) -> None:
    """Write reflections of a crystal to 0.6 angstrom, with 1 % noise."""
    rho = denser.Predictor().predict(crystal, spacing=0.11).density
    u = np.where(rho.structure.numbers == 1, 0.030, 0.015)
    found = structure_factors(rho, 0.6, 8 * np.pi**2 * u)
    noise = np.random.default_rng(3)
    intensity = np.abs(found.f_calc) ** 2
    sigma = 0.01 * intensity + 0.02
    intensity = 30 * (intensity + sigma * noise.standard_normal(len(sigma)))
    rows = [
        "".join(f"{x:4d}" for x in h) + f"{value:8.2f}{30 * s:8.2f}   1\n"
        for h, value, s in zip(found.hkl, intensity, sigma, strict=True)
    ]
    out.write_text("".join(rows) + "   0   0   0    0.00    0.00   0\n")


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Folder with a refinement of a known crystal, from a start as spherical atoms have it."""
    pytest.importorskip("cctbx")
    tmp_path = tmp_path_factory.mktemp("known")
    true = model(tmp_path / "true.cif", SITES)
    measure(true, tmp_path / "data.hkl")
    start = dict(SITES)
    for name in ("H1", "H2"):  # as spherical atoms have it
        start[name] = SITES["O1"] + 0.85 * (SITES[name] - SITES["O1"]) + 0.01
    model(tmp_path / "start.cif", start)
    command = [sys.executable, "-m", "denser", "refine", "start.cif", "data.hkl", "--json"]
    command += ["--hydrogens", "isotropic", "--map", "residual.ccp4", "--plot", "residual.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cycle 2: R1" in done.stderr
    return tmp_path, start, json.loads(done.stdout)


def test_a_known_crystal_comes_back(known, monkeypatch):
    folder, start, record = known
    monkeypatch.chdir(folder)
    assert record["converged"]
    before, after = record["before"], record["after"]
    assert after["goodness_of_fit"] < 1.1 < before["goodness_of_fit"]
    lengths = [np.linalg.norm((SITES[h] - SITES["O1"]) @ cell()) for h in ("H1", "H2")]
    for spherical, bond, length in zip(before["bonds"], after["bonds"], lengths, strict=True):
        assert abs(bond["length_angstrom"] - length) < 0.005
        assert abs(spherical["length_angstrom"] - length) > 0.03
        assert 1e-4 < bond["esd_angstrom"] < 0.01
        assert bond["neutron_angstrom"] == 0.993
    # the refined file has its reflections and everything else that a refinement needs
    text = (folder / "refined.cif").read_text()
    assert "Hirshfeld atom refinement" in text and "Cromer" not in text
    with Engine() as cctbx:
        again = cctbx.call("load", "refined.cif", None)
        assert again["n_unique"] == record["n_unique"] and again["weights"] == [0, 0]
        cctbx.call("set_hydrogens", False)
        found = cctbx.call("fit", None)
        assert found["r1_percent"] == pytest.approx(before["r1_percent"], 0.01)
        model(folder / "negative.cif", start, a=("0.030 Uiso", "-0.0004 Uiso"))
        cctbx.call("load", "negative.cif", "data.hkl")
        cctbx.call("set_hydrogens", True)
        assert cctbx.call("fit", None)["n_parameters"] == 28


def test_files_hold_what_the_table_says(known):
    """R factors, residual density and symmetry, as gemmi reads them."""
    folder, _, record = known
    after = record["after"]
    assert record["written"] == ["refined.cif", "refined.fcf", "residual.ccp4", "residual.png"]
    assert all((folder / name).stat().st_size > 1000 for name in record["written"])
    block = gemmi.cif.read(str(folder / "refined.fcf")).sole_block()
    names = [f"index_{x}" for x in "hkl"] + [f"F_squared_{x}" for x in ("calc", "meas", "sigma")]
    rows = np.array([list(map(float, row)) for row in block.find("_refln_", names)])
    calc, meas, sigma = rows[:, 3:].T
    assert len(rows) == after["n_reflections"] == record["n_unique"]
    f_calc, f_meas = np.sqrt(calc), np.sqrt(np.maximum(meas, 0))
    # beyond 2 sigma, where values of four decimals cannot tell which are
    strong = np.argsort(-meas / sigma)[: after["n_strong"]]
    assert (meas - 2 * sigma)[strong].min() > -1.6e-4
    assert (meas > 2 * sigma + 1.6e-4).sum() <= after["n_strong"]
    r1 = np.abs(f_meas - f_calc)[strong].sum() / f_meas[strong].sum()
    assert 100 * r1 == pytest.approx(after["r1_percent"], rel=1e-3)
    wr2 = np.sqrt((((meas - calc) / sigma) ** 2).sum() / ((meas / sigma) ** 2).sum())
    assert 100 * wr2 == pytest.approx(after["wr2_percent"], rel=1e-3)
    residual = denser.read(folder / "residual.ccp4")
    peaks = after["residual_density_e_per_angstrom3"]
    assert residual.unit == "e/angstrom^3"
    assert residual.values.max() == pytest.approx(peaks["max"], rel=1e-5)
    assert residual.values.std() == pytest.approx(peaks["rms"], rel=1e-5)
    shape = np.array(residual.grid.shape)  # the screw axis: (x, y, z) -> (-x, y + 1/2, -z)
    x, y, z = (np.arange(n) for n in shape)
    copy = residual.values[np.ix_(-x, (y + shape[1] // 2) % shape[1], -z)]
    np.testing.assert_allclose(copy, residual.values, atol=1e-5)
    small = gemmi.make_small_structure_from_block(
        gemmi.cif.read(str(folder / "refined.cif")).sole_block()
    )
    assert [site.label for site in small.sites] == ["O1", "H1", "H2"]
    assert small.spacegroup.xhm() == "P 1 21 1"


def test_refined_files_follow_the_dictionary(known):
    """Names and values of the CIF core dictionary, which comes with cctbx."""
    script = (
        "import sys, iotbx.cif\n"
        "from iotbx.cif import validation\n"
        "core = validation.smart_load_dictionary(name='cif_core.dic')\n"
        "iotbx.cif.reader(file_path=sys.argv[1]).model().validate(core)\n"
    )
    refined = str(known[0] / "refined.cif")
    command = [sys.executable, "-c", script, refined]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = "obsolete definition: '_refln_observed_status'"  # SHELXL still writes it
    assert [line for line in told.splitlines() if line and expected not in line] == []
    block = gemmi.cif.read(refined).sole_block()
    for name in (
        "R_factor_all", "R_factor_gt", "wR_factor_ref", "wR_factor_gt", "goodness_of_fit_ref",
        "restrained_S_all", "number_parameters", "number_reflns", "shift/su_max",
    ):  # fmt: skip
        assert float(block.find_value(f"_refine_ls_{name}")) >= 0
    assert float(block.find_value("_refine_ls_shift/su_max")) < 0.01
    details = gemmi.cif.as_string(block.find_value("_refine_special_details"))
    assert "Partition: Hirshfeld" in details and "PBE, basis GTH-TZV2P" in details


def cell() -> np.ndarray:
    beta = np.radians(98)
    return np.array([[4.6, 0, 0], [0, 5.2, 0], [5 * np.cos(beta), 0, 5 * np.sin(beta)]])


def test_form_factors_of_chosen_atoms():
    rho = denser.Predictor().predict("O", spacing=0.2, padding=2.0).density
    h = np.random.default_rng(1).uniform(-0.5, 0.5, (20, 3)) * BOHR
    np.testing.assert_allclose(form_factors(rho, h, [2, 0]), form_factors(rho, h)[[2, 0]])


CHANGES = (
    (("_cell_length_b 5.2\n", ""), "no usable _cell_length_b"),
    (("_cell_length_b 5.2", "_cell_length_b long"), "no usable _cell_length_b"),
    (
        (
            "loop_\n_space_group_symop_operation_xyz\n'x, y, z'\n'-x, y+1/2, -z'\n",
            "",
        ),
        "",
    ),
    (("H1 H ", "H1 Xx "), "site H1: unknown element 'Xx'"),
    (("H2 H ", "h1 H "), "label h1 occurs twice"),
    (("_atom_site_fract_y", "_atom_site_fract"), "site O1 has no coordinate y"),
    (("'H2 O'", "'H4 O'"), "the cell has 8, the model gives 4"),
    (("O1 0.015 0.015", "O2 0.015 0.015"), "the displacement tensor of O2 belongs to no site"),
    (("_cell_length_a", "_diffrn_radiation_probe neutron\n_cell_length_a"), "with neutrons"),
    (("_cell_length_a", "_diffrn_radiation_wavelength 9.9\n_cell_length_a"), "wavelength of 9.9"),
    (("_cell_length_a", "_refine_ls_extinction_coef 0.1\n_cell_length_a"), "extinction needs"),
    ((NAME, "_shelx_res_file\n;\nTWIN\n;\n" + NAME), "the model is twinned"),
    ((NAME, "_shelx_res_file\n;\nHKLF 5\n;\n" + NAME), "the reflections are HKLF 5"),
    (("0.030 Uiso 1\nH2", "0.030 Uiso 0.5\nH2"), "H1 has an occupancy of 0.5 and belongs to no"),
    (("0.030 Uiso 1\nH2", "0.030 Uiso 0\nH2"), "H1 has an occupancy of 0;"),
    (("H1 H 0.44000 0.39000 0.29000", "H1 H 0.32 0.25 0.27"), "O1 and H1 are 0.09 angstrom apart"),
    (("H1 H 0.44000", "H1 H ?"), "site H1 has no coordinate x"),
)
"""Changes of the model, and what is said of them."""


def test_models_that_cannot_be_refined(tmp_path):
    pytest.importorskip("cctbx")
    (tmp_path / "data.hkl").write_text("   1   0   0   10.00    1.00\n" * 20)
    with Engine() as cctbx:
        for i, (change, words) in enumerate(CHANGES):
            path = model(tmp_path / f"{i}.cif", SITES, a=change)
            if not words:  # the name of the space group is enough
                path.write_text(path.read_text().replace("_space_group_name_H-M_alt", "_was"))
                words = "no symmetry operations and no space group"
            with pytest.raises(InputError) as found:
                cctbx.call("load", str(path), str(tmp_path / "data.hkl"))
            assert words in str(found.value), found.value
            assert str(found.value).startswith(f"{path}: "), found.value
            assert len(str(found.value).splitlines()) == 1


def test_reflections_that_cannot_be_used(tmp_path):
    pytest.importorskip("cctbx")
    good = model(tmp_path / "good.cif", SITES)
    loop = "loop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n_refln_F_squared_meas\n"
    loop += "_refln_F_squared_sigma\n"
    (tmp_path / "two.cif").write_text(
        good.read_text() + good.read_text().replace("data_", "data_2")
    )
    with Engine() as cctbx:
        for name, text, words in (
            ("good.cif", None, "good.cif: has no reflections"),
            ("two.cif", None, "two.cif: expected one block with atoms, found 2 (water, 2water)"),
            ("none.cif", None, "none.cif: no such file"),
            (
                "good.cif",
                "   1   0   0   10.00    0.00\n" * 2,
                ":1: reflection 1 0 0 has intensity",
            ),
            ("good.cif", "   1   0   0   10.00   -1.00\n", "sigma -1; sigmas must be positive"),
            ("good.cif", "these are no reflections\n", ":1: expected h k l, intensity and sigma"),
            ("good.cif", "   1   0   0   10.00    1.00\n", "only 1 reflections fit"),
            ("good.cif", "", "no reflections found"),
            ("good.cif", f"data_a\n{loop}1 0 0 10 1\n2 0 0 9 -1\n", "row 2: reflection 2 0 0"),
            ("good.cif", f"data_a\n{loop}1 0 0 10 ?\n", "a reflection is no number"),
            ("good.cif", "data_a\n_cell_length_a 5\n", "has no intensities with sigmas"),
        ):
            (tmp_path / "data.hkl").write_text(text or "")
            data = None if text is None else str(tmp_path / "data.hkl")
            with pytest.raises(InputError) as found:
                cctbx.call("load", str(tmp_path / name), data)
            assert words in str(found.value), (name, found.value)
            assert len(str(found.value).splitlines()) == 1


def test_bad_input_of_the_command(run, tmp_path):
    pytest.importorskip("cctbx")
    model(tmp_path / "good.cif", SITES)
    xenon = model(tmp_path / "xenon.cif", SITES, a=("O1 O ", "O1 Xe "))
    xenon.write_text(xenon.read_text().replace("'H2 O'", "'H2 Xe'"))
    few = [f"{h:4d}{k:4d}   1   10.00    1.00\n" for h in range(4) for k in range(4)]
    (tmp_path / "few.hkl").write_text("".join(few))
    for arguments, words in (
        (("good.cif", "few.hkl"), "good.cif: 16 unique reflections are too few for 18"),
        (("xenon.cif", "few.hkl"), "Xe"),
        (("good.cif", "few.hkl", "-o", "good.cif"), "would be overwritten"),
        (("good.cif", "few.hkl", "-o", "good.res"), "good.res: the refined model is a CIF"),
        (("good.cif", "few.hkl", "--map", "map.xyz"), "map.xyz"),
        (("good.cif", "few.hkl", "--plot", "map.txt"), "map.txt"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert words in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "refined.cif").exists()


def test_what_has_not_converged_fails(run, monkeypatch):
    facts = {"n_unique": 40, "d_min_angstrom": 0.8, "space_group": "P 1", "hydrogens": "isotropic"}
    facts |= {"weights": {"a": 0.0, "b": 0.0}, "seconds": 1.0, "written": []}
    note = "not converged: H1 x still moves by 0.90 standard uncertainties; give more --cycles"
    for converged in (False, True):
        result = SimpleNamespace(facts=facts, cycles=[{}], converged=converged, doubt="")
        result.notes = () if converged else (note,)
        result.table = partial(Refinement._last_line, result)
        monkeypatch.setattr(workflow, "refine", lambda *x, found=result, **more: found)
        code, out, err = run("a.cif")
        assert code == (0 if converged else 2)
        assert ("NOT CONVERGED in 1 cycles" in out) == (not converged)
        assert err == ("" if converged else f"denser: a.cif: {note}\n")


def test_without_cctbx(run, tmp_path, monkeypatch):
    model(tmp_path / "good.cif", SITES)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    code, out, err = run("good.cif")
    assert (code, out) == (2, "") and "pip install 'denser[crystal]'" in err


def test_elements_and_hydrogens():
    symbols = ("C", "Cl", "CL", "H1A", "D", "O2-", "Cval", "Xx", "", "Si4+")
    assert [element(symbol) for symbol in symbols] == [6, 17, 17, 1, 1, 8, 6, 0, 0, 14]
    check_hydrogens("C H4 N2 O", np.array([6, 7, 7, 8, 1, 1, 1, 1]))
    with pytest.raises(InputError, match="has 4, the model gives 3"):
        check_hydrogens("C H4 N2 O", np.array([6, 7, 7, 8, 1, 1, 1]))


def test_reflections_in_fixed_and_free_columns():
    text = "   1   2 -10-1234.56  12.34   1\n  12 -14   3     99.5     1.5\n\n 1 1 1 1.0 1.0\n"
    hkl, intensity, sigma = read_hklf4(text, "a.hkl")
    assert hkl.tolist() == [[1, 2, -10], [12, -14, 3]]
    assert intensity.tolist() == [-1234.56, 99.5] and sigma.tolist() == [12.34, 1.5]
