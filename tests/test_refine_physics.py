"""`denser refine` against structures that are known, and independent structure factors."""

import gemmi
import numpy as np
import pytest
from ase.build import molecule

import denser
from denser.analysis.crystal.form_factors import form_factors
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.workflows.refinement.engine import Engine
from denser.workflows.refinement.model import read_disorder
from denser.workflows.refinement.neutron import neutron_mean

LENGTHS = np.array([7.4, 6.6, 5.6])
TENSOR = np.array([[0.020, 0.003, 0.0], [0.003, 0.016, 0.001], [0.0, 0.001, 0.024]])

HEAD = """data_test
_cell_length_a {0}
_cell_length_b {1}
_cell_length_c {2}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
_refine_ls_weighting_details 'w=1/[\\s^2^(Fo^2^)]'
{more}
"""
SITES = "loop_\n_atom_site_label\n" + "".join(
    f"_atom_site_{name}\n" for name in ("fract_x", "fract_y", "fract_z", "U_iso_or_equiv")
)
TENSORS = "loop_\n_atom_site_aniso_label\n" + "".join(
    f"_atom_site_aniso_U_{name}\n" for name in (11, 22, 33, 12, 13, 23)
)


def half_sphere(d_min: float, both: bool = False) -> np.ndarray:
    """Indices to a resolution in the cell of `LENGTHS`; one of h and -h unless `both`."""
    n = (LENGTHS / d_min).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in n), indexing="ij"), -1).reshape(
        -1, 3
    )
    size = np.linalg.norm(hkl / LENGTHS, axis=1)
    hkl = hkl[(size > 0) & (size < 1 / d_min)]
    h, k, l = hkl.T  # noqa: E741
    return hkl if both else hkl[(l > 0) | ((l == 0) & ((k > 0) | ((k == 0) & (h > 0))))]


def write_hkl(path, hkl: np.ndarray, intensity: np.ndarray, sigma: np.ndarray) -> None:
    rows = [
        "".join(f"{x:4d}" for x in h) + f"{value:8.2f}{s:8.2f}   1\n"
        for h, value, s in zip(hkl, intensity, sigma, strict=True)
    ]
    path.write_text("".join(rows))


# Absolute structure and extinction: gemmi's form factors and anomalous scattering

CHIRAL = {
    "S1": (0.31, 0.22, 0.43),
    "Cl1": (0.57, 0.41, 0.37),
    "O1": (0.12, 0.45, 0.61),
    "C1": (0.35, 0.47, 0.55),
    "N1": (0.33, 0.61, 0.36),
}
WAVELENGTH = 1.54


def chiral(path, sign: int = 1, more: str = ""):
    head = HEAD.format(*LENGTHS, more=f"_diffrn_radiation_wavelength {WAVELENGTH}\n{more}")
    rows = [
        f"{label} {' '.join(f'{sign * x:.4f}' for x in site)} 0.02\n"
        for label, site in CHIRAL.items()
    ]
    path.write_text(head + SITES + "".join(rows))
    return path


def chiral_factors(hkl: np.ndarray) -> np.ndarray:
    stol2 = ((hkl / LENGTHS) ** 2).sum(axis=1) / 4
    total = np.zeros(len(hkl), dtype=complex)
    for label, site in CHIRAL.items():
        element = gemmi.Element(label.rstrip("1"))
        f0 = np.array([element.it92.calculate_sf(s) for s in stol2])
        prime, double = gemmi.cromer_liberman(element.atomic_number, 12398.42 / WAVELENGTH)
        wave = np.exp(2j * np.pi * hkl @ np.array(site) - 8 * np.pi**2 * 0.02 * stol2)
        total += (f0 + prime + 1j * double) * wave
    return total


@pytest.fixture(scope="module")
def friedel(tmp_path_factory):
    """Folder, indices and |F|^2 of a chiral crystal, with Friedel mates."""
    pytest.importorskip("cctbx")
    hkl = half_sphere(0.85, both=True)
    return tmp_path_factory.mktemp("chiral"), hkl, np.abs(chiral_factors(hkl)) ** 2


def test_absolute_structure(friedel):
    folder, hkl, square = friedel
    sigma = 0.01 * square + 0.1
    noise = np.random.default_rng(2).standard_normal(len(hkl))
    write_hkl(folder / "data.hkl", hkl, square + sigma * noise, sigma)
    with Engine() as cctbx:
        for sign, expected in ((1, 0.0), (-1, 1.0)):
            path = chiral(folder / "model.cif", sign)
            cctbx.call("load", str(path), str(folder / "data.hkl"))
            cctbx.call("set_hydrogens", False)
            assert cctbx.call("fit", None)["failure"] == ""
            found = cctbx.call("absolute_structure")
            assert found["n_friedel_pairs"] == len(hkl) // 2
            for name in ("flack", "hooft"):  # gemmi's f'' differ by 1 % from cctbx's
                assert found[name] == pytest.approx(expected, abs=0.03)
                assert 0.001 < found[f"{name}_esd"] < 0.03


def test_extinction_of_the_model_is_refined(friedel):
    """Fc^2 k [1 + 0.001 x Fc^2 lambda^3/sin(2 theta)]^(-1/2), as SHELXL has it."""
    folder, hkl, square = friedel
    sine = WAVELENGTH * np.linalg.norm(hkl / LENGTHS, axis=1) / 2
    double = np.sin(2 * np.arcsin(sine))
    measured = 3 * square / np.sqrt(1 + 0.001 * 0.05 * square * WAVELENGTH**3 / double)
    sigma = 0.01 * measured + 0.1
    noise = np.random.default_rng(6).standard_normal(len(hkl))
    write_hkl(folder / "extinct.hkl", hkl, measured + sigma * noise, sigma)
    path = chiral(folder / "extinct.cif", more="_refine_ls_extinction_coef 0.01")
    with Engine() as cctbx:
        cctbx.call("load", str(path), str(folder / "extinct.hkl"))
        cctbx.call("set_hydrogens", False)
        value, esd = cctbx.call("fit", None)["extinction"]
        assert value == pytest.approx(0.05, abs=0.003)
        assert 1e-4 < esd < 0.002
        assert "_refine_ls_extinction_coef        0.0" in cctbx.call("cif", {})


def test_a_fit_that_runs_away_keeps_the_model_and_names_the_parameter(friedel):
    folder, hkl, square = friedel
    write_hkl(folder / "good.hkl", hkl, square, 0.01 * square + 0.1)
    path = chiral(folder / "ghost.cif")
    path.write_text(path.read_text() + "O9 0.85 0.85 0.10 0.03\n")  # an atom that is not there
    with Engine() as cctbx:
        start = cctbx.call("load", str(path), str(folder / "good.hkl"))
        cctbx.call("set_hydrogens", False)
        failure = cctbx.call("fit", None)["failure"]
        assert "O9" in failure
        kept = cctbx.call("expanded")["arrangements"][0]["positions"]
        np.testing.assert_array_equal(kept, start["arrangements"][0]["positions"])
        write_hkl(folder / "plane.hkl", hkl[hkl[:, 2] == 0], *(2 * [square[hkl[:, 2] == 0]]))
        cctbx.call("load", str(chiral(folder / "model.cif")), str(folder / "plane.hkl"))
        cctbx.call("set_hydrogens", False)
        failure = cctbx.call("fit", None)["failure"]  # no reflection depends on z
        assert "do not determine" in failure and ".z" in failure


# Disorder


def disorder(labels: str, occupancies: str, groups: str, assemblies: str | None = None):
    block = {
        "_atom_site_label": labels.split(),
        "_atom_site_occupancy": occupancies.split(),
        "_atom_site_disorder_group": groups.split(),
    }
    if assemblies:
        block["_atom_site_disorder_assembly"] = assemblies.split()
    return read_disorder(block)


def test_disorder_by_the_rules():
    assert disorder("C1 H1", "1 1", ". .").arrangements == (0,)
    assert disorder("C1 H1", "1 1", ". .").shares == (1,)
    found = disorder("C1 H1A H1B O1", "1 0.4(1) 0.6(1) 1", ". 1 2 .")
    assert (found.arrangements, found.parts) == ((2, 1), (0, 1, 2, 0))
    assert (found.occupancies, found.shares) == ((1, 0.4, 0.6, 1), (0.6, 0.4))
    # two assemblies without names share the numbers of their groups
    assert disorder("A B C D", "0.9 0.1 0.5 0.5", "1 2 1 2").arrangements == (1, 2)
    named = disorder("A B C D", "0.9 0.1 0.3 0.7", "1 2 1 2", "A A B B")
    assert named.arrangements == (1, 2)
    # one group alone: it is there or not
    assert disorder("C1 O1W", "1 0.5", ". 1").arrangements == (1,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("C1 C2", "1 0.5", ". ."), "C2 has an occupancy of 0.5 and belongs to no disorder group"),
        (("C1 C2", "1 0.5", ". -1"), "C2 is disordered over a symmetry element \\(PART -1\\)"),
        (("C1 C2", "1 1.5", ". 1"), "C2 has an occupancy of 1.5; it must be in"),
        (("C1 C2 C3", "1 0.7 0.7", ". 1 2"), "groups 1, 2 overlap: their occupancies 0.7 \\+ 0.7"),
        (("A B C D", "0.6 0.4 0.8 0.8", "1 2 1 2", "A A B B"), "groups 1, 2 overlap"),
    ],
)
def test_disorder_that_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        disorder(*arguments)


WATER = np.array([[2.2, 1.6, 1.5], [2.84, 2.33, 1.5], [1.64, 1.72, 2.27], [2.66, 0.77, 1.62]])
"""An oxygen atom and three places of hydrogen, angstrom: two arrangements, OH1H2 and OH1H3."""


@pytest.mark.slow
def test_both_arrangements_of_a_disordered_crystal_come_back(tmp_path):
    """Reflections of 0.6 times one ordered crystal and 0.4 times another."""
    pytest.importorskip("cctbx")
    lengths = np.array([4.4, 4.2, 4.0])
    hkl = half_sphere(0.6)
    hkl = hkl[np.linalg.norm(hkl / lengths, axis=1) < 1 / 0.6]
    q = hkl / lengths
    u = np.array([0.015, 0.025, 0.025, 0.025])
    total = np.zeros(len(hkl), dtype=complex)
    predictor = denser.Predictor()
    for atoms, share in (([0, 1, 2], 0.6), ([0, 1, 3], 0.4)):
        structure = Structure([8, 1, 1], WATER[atoms] / BOHR, cell=np.diag(lengths) / BOHR)
        f = form_factors(predictor.predict(structure, spacing=0.1).density, q * BOHR)
        wave = np.exp(2j * np.pi * WATER[atoms] @ q.T)
        wave *= np.exp(-2 * np.pi**2 * u[atoms][:, None] * (q**2).sum(axis=1))
        total += share * (f * wave).sum(axis=0)
    square = np.abs(total) ** 2
    sigma = 0.005 * square + 0.01
    noise = np.random.default_rng(4).standard_normal(len(hkl))
    write_hkl(tmp_path / "data.hkl", hkl, 20 * (square + sigma * noise), 20 * sigma)
    start = WATER[0] + 0.9 * (WATER - WATER[0])
    more = "_atom_site_occupancy\n_atom_site_disorder_group\n"
    rows = [
        f"{label} {' '.join(f'{x:.5f}' for x in place / lengths)} 0.02 {rest}\n"
        for label, place, rest in zip(
            ("O1", "H1", "H2", "H3"), start, ("1 .", "1 .", "0.6 1", "0.4 2"), strict=True
        )
    ]
    path = tmp_path / "model.cif"
    path.write_text(HEAD.format(*lengths, more="") + SITES + more + "".join(rows))
    result = denser.refine(path, tmp_path / "data.hkl", tmp_path / "out.cif")
    assert result.facts["disorder_groups"] == [1, 2] and result.converged
    assert "once for each disorder group (1, 2)" in " ".join(result.notes)
    true = np.linalg.norm(WATER[1:] - WATER[0], axis=1)
    for old, new, length in zip(result.before.bonds, result.after.bonds, true, strict=True):
        assert abs(new.length_angstrom - length) < 0.015 < abs(old.length_angstrom - length)
    assert result.after.goodness_of_fit < 1.1 < result.before.goodness_of_fit
    block = gemmi.cif.read(str(tmp_path / "out.cif")).sole_block()
    assert list(block.find_values("_atom_site_disorder_group")) == [".", ".", "1", "2"]
    ends = block.find("_geom_bond_atom_site_label_", ["1", "2"])
    assert not any({row[0], row[1]} == {"H2", "H3"} for row in ends)


# All electrons


@pytest.mark.slow
def test_methanol_of_an_all_electron_calculation_comes_back(tmp_path):
    """PBE in cc-pVTZ with PySCF's molecular code, one tensor for all atoms, and noise.

    The tensor multiplies the static structure factors, so the data know nothing of Hirshfeld atoms.
    O-H comes out 0.008 angstrom too short, as with the SCF density at the model's level (0.010):
    this is the difference of the pseudopotentials and their basis to all electrons in cc-pVTZ.
    """
    pytest.importorskip("cctbx")
    from pyscf import dft, gto
    from pyscf.gto import ft_ao

    atoms = molecule("CH3OH")
    places = atoms.positions - atoms.positions.mean(axis=0) + LENGTHS / 2
    symbols = atoms.get_chemical_symbols()
    labels = [f"{symbol}{i}" for i, symbol in enumerate(symbols)]
    mol = gto.M(atom=list(zip(symbols, places, strict=True)), basis="cc-pvtz", verbose=0)
    mf = dft.RKS(mol, xc="pbe").density_fit()
    mf.conv_tol = 1e-8
    mf.kernel()
    dm, hkl = mf.make_rdm1(), half_sphere(0.6)
    q = hkl / LENGTHS
    static = np.concatenate(
        [
            np.einsum("gij,ij->g", ft_ao.ft_aopair(mol, -2 * np.pi * BOHR * part), dm)
            for part in np.array_split(q, len(q) // 80)
        ]
    )
    square = np.abs(static) ** 2 * np.exp(-4 * np.pi**2 * np.einsum("gi,ij,gj->g", q, TENSOR, q))
    sigma = 0.005 * square + 0.01
    noise = np.random.default_rng(5).standard_normal(len(hkl))
    write_hkl(tmp_path / "data.hkl", hkl, 10 * (square + sigma * noise), 10 * sigma)
    bonded = {2: 0, 3: 1, 4: 0, 5: 0}
    start = places.copy()
    for i, j in bonded.items():
        start[i] = places[j] + 0.88 * (places[i] - places[j])
    rows = [
        f"{label} {' '.join(f'{x:.5f}' for x in place / LENGTHS)} 0.02\n"
        for label, place in zip(labels, start, strict=True)
    ]
    tensors = [f"{label} 0.02 0.02 0.02 0 0 0\n" for label in labels[:2]]
    path = tmp_path / "model.cif"
    path.write_text(
        HEAD.format(*LENGTHS, more="") + SITES + "".join(rows) + TENSORS + "".join(tensors)
    )
    result = denser.refine(
        path, tmp_path / "data.hkl", tmp_path / "out.cif", hydrogens="anisotropic"
    )
    assert result.converged and not result.after.not_positive
    for old, new in zip(result.before.bonds, result.after.bonds, strict=True):
        heavy, light = (labels.index(name) for name in new.atoms.split("-"))
        true = np.linalg.norm(places[light] - places[heavy])
        limit = 0.012 if labels[heavy] == "O1" else 0.005
        assert abs(new.length_angstrom - true) < limit, new
        assert abs(old.length_angstrom - true) > 0.05, old
    small = gemmi.make_small_structure_from_block(
        gemmi.cif.read(str(tmp_path / "out.cif")).sole_block()
    )
    for site in small.sites:
        found = np.array(site.aniso.as_mat33().tolist())
        limit = 0.16 if site.label == "H3" else 0.10  # H3 is the one at oxygen
        assert np.linalg.norm(found - TENSOR) < limit * np.linalg.norm(TENSOR), site.label
    assert len(result.before.not_positive) == 4  # what spherical atoms give


def test_means_from_neutrons():
    """By element, neighbours and hydrogens among them."""
    cases = {
        (6, (6, 1, 1, 1)): 1.077, (6, (6, 6, 1, 1)): 1.092, (6, (6, 6, 8, 1)): 1.099,
        (6, (6, 6, 1)): 1.083, (6, (6, 1)): 1.089, (7, (6, 1, 1, 1)): 1.033,
        (7, (6, 1, 1)): 1.015, (8, (6, 1)): 0.993,
    }  # fmt: skip
    for (z, around), length in cases.items():
        found = neutron_mean(z, around)
        assert found is not None and found.length == length
    assert neutron_mean(5, (1, 1, 6)) is None
