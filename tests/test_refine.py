"""`denser refine`: a known crystal comes back from reflections that were made of it."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import denser
from denser.analysis.crystal.form_factors import form_factors
from denser.analysis.crystal.scattering import structure_factors
from denser.types.errors import InputError
from denser.types.units import BOHR
from denser.workflows.refinement import engine
from denser.workflows.refinement.engine import Engine
from denser.workflows.refinement.model import check_hydrogens, element, read_hklf4

CIF = """data_water
_chemical_formula_sum 'H2 O'
_cell_length_a 4.6
_cell_length_b 5.2
_cell_length_c 5.0
_cell_angle_alpha 90
_cell_angle_beta 98
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1 21 1'
loop_
_space_group_symop_operation_xyz
'x, y, z'
'-x, y+1/2, -z'
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


def test_a_known_crystal_comes_back(run, tmp_path):
    pytest.importorskip("cctbx")
    true = model(tmp_path / "true.cif", SITES)
    measure(true, tmp_path / "data.hkl")
    start = dict(SITES)
    for name in ("H1", "H2"):  # as spherical atoms have it
        start[name] = SITES["O1"] + 0.85 * (SITES[name] - SITES["O1"]) + 0.01
    model(tmp_path / "start.cif", start)
    code, out, err = run("start.cif", "data.hkl", "--json", "--hydrogens", "isotropic")
    assert code == 0, err
    record = json.loads(out)
    assert record["converged"] and "cycle 2: R1" in err
    before, after = record["before"], record["after"]
    assert after["goodness_of_fit"] < 1.1 < before["goodness_of_fit"]
    lengths = [np.linalg.norm((SITES[h] - SITES["O1"]) @ cell()) for h in ("H1", "H2")]
    for spherical, bond, length in zip(before["bonds"], after["bonds"], lengths, strict=True):
        assert abs(bond["length_angstrom"] - length) < 0.005
        assert abs(spherical["length_angstrom"] - length) > 0.03
        assert 1e-4 < bond["esd_angstrom"] < 0.01
    # the refined file has its reflections and everything else that a refinement needs
    text = (tmp_path / "refined.cif").read_text()
    assert "Hirshfeld atom refinement" in text and "Cromer" not in text
    with Engine() as cctbx:
        again = cctbx.call("load", "refined.cif", None)
        assert again["n_unique"] == record["n_unique"] and again["weights"] == [0, 0]
        cctbx.call("set_hydrogens", False)
        found = cctbx.call("fit", None)
        assert found["r1_percent"] == pytest.approx(before["r1_percent"], 0.01)
        model(tmp_path / "negative.cif", start, a=("0.030 Uiso", "-0.0004 Uiso"))
        cctbx.call("load", "negative.cif", "data.hkl")
        cctbx.call("set_hydrogens", True)
        assert cctbx.call("fit", None)["n_parameters"] == 27


def cell() -> np.ndarray:
    beta = np.radians(98)
    return np.array([[4.6, 0, 0], [0, 5.2, 0], [5 * np.cos(beta), 0, 5 * np.sin(beta)]])


def test_form_factors_of_chosen_atoms():
    rho = denser.Predictor().predict("O", spacing=0.2, padding=2.0).density
    h = np.random.default_rng(1).uniform(-0.5, 0.5, (20, 3)) * BOHR
    np.testing.assert_allclose(form_factors(rho, h, [2, 0]), form_factors(rho, h)[[2, 0]])


def test_bad_input(run, tmp_path):
    pytest.importorskip("cctbx")
    (tmp_path / "data.hkl").write_text("   1   0   0   10.00    1.00\n" * 20)
    (tmp_path / "zero.hkl").write_text("   1   0   0   10.00    0.00\n")
    (tmp_path / "words.hkl").write_text("these are no reflections\n")
    model(tmp_path / "good.cif", SITES)
    model(tmp_path / "partial.cif", SITES, occupancy=0.5)
    model(tmp_path / "cell.cif", SITES, a=("_cell_length_b 5.2\n", ""))
    model(tmp_path / "element.cif", SITES, a=("H1 H ", "H1 Xx "))
    model(tmp_path / "twice.cif", SITES, a=("H2 H ", "h1 H "))
    model(tmp_path / "formula.cif", SITES, a=("'H2 O'", "'H4 O'"))
    twin = ("_space_group_name_H-M_alt", "_shelx_res_file\n;\nTWIN\n;\n_space_group_name_H-M_alt")
    model(tmp_path / "twin.cif", SITES, a=twin)
    model(tmp_path / "hklf5.cif", SITES, a=(twin[0], twin[1].replace("TWIN", "HKLF 5")))
    few = [f"{h:4d}{k:4d}   1   10.00    1.00\n" for h in range(4) for k in range(4)]
    (tmp_path / "few.hkl").write_text("".join(few))
    for arguments, words in (
        (("good.cif", "few.hkl"), "good.cif: 16 unique reflections are too few for 18"),
        (("partial.cif", "data.hkl"), "disorder is not supported: O1"),
        (("good.cif", "data.hkl", "-o", "good.cif"), "would be overwritten"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert words in err and len(err.splitlines()) == 1, err
    with Engine() as cctbx:
        for name, data, words in (
            ("good.cif", None, "good.cif: has no reflections"),
            ("none.cif", None, "none.cif: no such file"),
            ("data.hkl", None, "data.hkl: "),
            ("cell.cif", "data.hkl", "no usable _cell_length_b"),
            ("element.cif", "data.hkl", "site H1: unknown element 'Xx'"),
            ("twice.cif", "data.hkl", "label h1 occurs twice"),
            ("formula.cif", "data.hkl", "the cell has 8, the model gives 4"),
            ("twin.cif", "data.hkl", "the model is twinned"),
            ("hklf5.cif", "data.hkl", "the reflections are HKLF 5"),
            ("good.cif", "zero.hkl", "zero.hkl:1: reflection 1 0 0 has intensity 10 and sigma 0"),
            ("good.cif", "words.hkl", "words.hkl:1: expected h k l, intensity and sigma"),
            ("good.cif", "data.hkl", "only 1 reflections fit"),
        ):
            with pytest.raises(InputError) as found:
                cctbx.call("load", name, data)
            assert words in str(found.value)
            assert len(str(found.value).splitlines()) == 1
    assert not (tmp_path / "refined.cif").exists()


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
