"""The pages of uses run from beginning to end as they stand, one with fewer molecules."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import denser
from denser.analysis.charges.quadrature import Quadrature
from denser.analysis.interactions.fragment_energies import repulsion
from denser.atoms.free_atoms import pseudo_charges
from denser.atoms.sad import count_electrons
from denser.types.structure import Structure
from denser.types.units import KCAL_PER_MOL

PAGES = Path(__file__).parents[1] / "docs" / "uses"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.M | re.S)

FEW = {"paracetamol": 0, "aspirin": -1, "metformin": 1, "pyrazinamide": 0}
"""Drugs, and their charges."""

pytestmark = pytest.mark.slow


@pytest.fixture
def page(run):
    """Run blocks of a page (from `start`, up to `end`) in one folder; the names that remain."""

    def call(name: str, start: str = "# ", end: str = "", **replaced: str) -> dict:
        text = (PAGES / name).read_text()
        text = text[text.index(start) : text.index(end) if end else None]
        for old, new in replaced.values():
            assert old in text
            text = text.replace(old, new)
        names: dict = {}
        run("-V")  # changes into the folder
        for kind, block in BLOCK.findall(text):
            if kind == "python":
                exec(compile(block, name, "exec"), names)
            else:
                for line in block.splitlines():
                    code, _, err = run(*shlex.split(line)[1:])
                    assert code == 0, f"{line}: {err}"
        return names

    return call


def test_electrostatics(page):
    found = page("electrostatics.md")["found"]
    assert set(found) == {"paracetamol", "aspirin", "nicotine"}
    for name, (charge, of_charges, of_density) in found.items():
        assert charge == pytest.approx(-1 if name == "aspirin" else 0, abs=1e-5)
        assert of_charges == pytest.approx(of_density, abs=0.2)  # debye


def test_openmm(page):
    """All of it but the simulations, with four of the drugs."""
    drugs = (PAGES / "openmm.md").read_text().split('DRUGS = """\\\n')[1].split('"""')[0]
    few = [line for line in drugs.splitlines() if line.split()[1] in FEW]
    found = page("openmm.md", fewer=(drugs, "\n".join([*few, ""])))["charges"]
    assert set(found) == set(FEW)
    for name, charge in FEW.items():
        assert found[name] == pytest.approx(charge, abs=1e-5)


def test_refinement(page):
    pytest.importorskip("cctbx")
    names = page("refinement.md")
    for length, true in zip(
        names["bonds"](names["refined"]), names["bonds"](names["SITES"]), strict=True
    ):
        assert length == pytest.approx(true, abs=0.005)  # angstrom


def test_multiscale(page):
    if shutil.which("apbs") is None:
        pytest.skip("APBS is not installed")
    names = page("multiscale.md", end="## 4.")
    for name, (_, measured) in names["MEASURED"].items():
        assert names["energies"][name] == pytest.approx(measured, abs=2.0)  # kcal/mol
    assert names["converged"] == pytest.approx(names["energies"]["acetate"], abs=1.0)
    assert sum(names["bare"]) == pytest.approx(names["ohm"], rel=0.05)
    predicted, converged = names["through"]["predicted"], names["through"]["converged"]
    assert predicted == pytest.approx(converged, rel=0.03)
    assert predicted[0] > 20 * predicted[1]


@pytest.mark.filterwarnings("ignore:.* does not know this kind")
def test_an_ion_moves_through_a_crystal(page):
    names = page(
        "multiscale.md",
        start="## 4.",
        points=("np.linspace(0, 0.5, 9)", "np.linspace(0, 0.5, 3)"),
        clusters=("for z in (0.0, 0.25):", "for z in (0.25,):"),
    )
    charges = names["bader"]
    assert charges.sum(axis=1) == pytest.approx(1, abs=0.02)
    assert charges[:, -1] == pytest.approx(0.98, abs=0.04)
    assert charges[0, -1] == pytest.approx(charges[-1, -1], abs=0.01)  # the same by symmetry
    assert min(names["moved"]) > 0.2 and max(names["moved"]) < 1.0
    bader, bader_scf, hirshfeld, hirshfeld_scf = names["checked"][0.25]
    assert bader == pytest.approx(bader_scf, abs=0.05)
    assert hirshfeld == pytest.approx(hirshfeld_scf, abs=0.05)


def test_map(page):
    assert page("map.md")["error"] < 0.05


def test_learning(page):
    fewer = ("N_TRAIN, N_TEST = 100, 100", "N_TRAIN, N_TEST = 60, 40")
    errors = page("learning.md", fewer=fewer)["errors"]
    assert errors["features"] < 0.8 * errors["numbers of atoms"]


def test_trajectory(page):
    """Both criteria see the same hydrogen bonds, and the reaction is symmetric."""
    pytest.importorskip("openmm", exc_type=ImportError)
    found = page(
        "trajectory.md",
        frames=("N_FRAMES, N_WATERS = 1000, 8", "N_FRAMES, N_WATERS = 4, 5"),
        some=("@::100", "@::2"),
        points=("0.02, 0.14, 0.26, 0.38, 0.5, 0.62, 0.74, 0.86, 0.98", "0.14, 0.5, 0.86"),
        places=("list(np.ndindex(2, 2, 2))", "list(np.ndindex(2, 2, 2))[:5]"),
    )
    assert len(found["both"]) == 2
    for points, regions in found["both"]:
        assert 4 <= points <= 8 and abs(points - regions) <= 1
    assert -3.5 < found["slope"] < -1.5  # 1/angstrom: it falls as densities of atoms do
    charges, orders = found["charges"], found["orders"]
    assert charges[1, 1] == pytest.approx(charges[1, 2], abs=0.01)
    assert charges[0] == pytest.approx(charges[2][[0, 2, 1]], abs=0.01)
    assert orders[0] == pytest.approx(orders[2][::-1], abs=0.01)
    assert orders[1] == pytest.approx([0.5, 0.5], abs=0.1)


@pytest.mark.filterwarnings("ignore:H5O2.* does not know this kind")
def test_real_time(page):
    """A short run: its first peak is the same in both, and charges follow the proton."""
    found = page(
        "real_time.md",
        shorter=("--time 4 ", "--time 1 "),
        film=("--time 0.6 --cube-times 0.2,0.4 --film 0.05", "--time 0.2 --cube-times 0.1,0.2"),
        times=('("0.200", "0.400")', '("0.100", "0.200")'),
        range=("np.linspace(2, 5, 301)", "np.linspace(6, 11, 501)"),
    )
    assert found["electrons"] == pytest.approx(3.21, abs=0.02)
    assert found["highest"] == pytest.approx(float(found["peaks"][0]["energy_ev"]), abs=0.02)
    assert all(3e-4 < moved < 2e-3 for moved in found["moved"].values())
    flow = np.array(found["flow"])
    assert flow.sum(axis=1) == pytest.approx(np.ones(5), abs=2e-3)
    assert flow[:, 0] == pytest.approx(flow[::-1, 1], abs=1e-3)
    assert (np.diff(flow[:, 0]) < 0).all()


def test_data(page):
    """Few molecules in Parquet; a tripeptide differs from its fragment by what was cut off."""
    pytest.importorskip("pyarrow")
    found = page(
        "data.md",
        few=("N_MOLECULES, N_POINTS = 5000", "N_MOLECULES, N_POINTS = 3"),
        chains=(
            '{"Trp-cage": ("NLYIQWLKDGGPSSGRPPPS", 0), "DNA": ("CGAT", 6)}',
            '{"G": ("GGG", 0)}',
        ),
        residues=('{"Trp-cage": (3, 8, 12), "DNA": (2, 3)}', '{"G": (2,)}'),
        reach=("REACH, APART = 3, 3.5", "REACH, APART = 1, 1.2"),
        files=("Trp-cage-*.extxyz DNA-*.extxyz", "G-GLY2.extxyz"),
    )
    table = found["table"]
    electrons = (table.weights_bohr3 * table.density_e_per_bohr3).map(np.sum)
    for numbers, counted in zip(table.numbers, electrons, strict=True):
        atoms = Structure(numbers, np.zeros((len(numbers), 3)) + np.arange(len(numbers))[:, None])
        assert counted == pytest.approx(count_electrons(atoms), rel=0.005)
    assert found["off"] < 1  # percent
    piece, _, inner = found["pieces"]["G-GLY2"]
    assert piece.formula == "C3H6N2O2" and len(inner) == 7
    ((in_chain, alone, apart),) = found["errors"].values()
    assert alone < 0.3 and abs(in_chain - apart) < 2 * alone  # percent


def test_design(page):
    """The score on the nodes is that of the analytic densities, the order of the chains is the
    measured one, and the search finds guests. Kohn-Sham steps are those of water at the guests.
    """
    pytest.importorskip("selfies")
    text = (PAGES / "design.md").read_text()
    known = text.split("KNOWN = {\n")[1].split("}\n")[0]
    few = [f for f in known.splitlines(True) if re.search('"(prop|but)ylam|"(hex|oct)anedi', f)]
    water = 'barrel = Atoms("OH2", [[0, 0, 9], [0.76, 0, 9.59], [-0.76, 0, 9.59]])'
    found = page(
        "design.md",
        known=(known, "".join(few)),
        starts=("N_STARTS = 6", "N_STARTS = 2"),
        search=("N_CHILDREN, N_KEPT = 8, 12, 8", "N_CHILDREN, N_KEPT = 2, 2, 4"),
        guests=("5 <= guest.GetNumHeavyAtoms() <= 11", "4 <= guest.GetNumHeavyAtoms() <= 5"),
        limit=('known["hexylammonium"]["pol', 'known["butylammonium"]["pol'),
        check=("checked = {", f"{water}\nwrite('host.extxyz', barrel)\nchecked = {{"),
        one=(', "known": known["butylammonium"]}', "}"),
        steps=(" known.extxyz known-in-host.extxyz", ""),
    )
    scores = {name: terms["score"] for name, terms in found["known"].items()}
    assert scores["hexanediammonium"] < scores["octanediammonium"] - 5  # kcal/mol
    assert scores["butylammonium"] < scores["propylammonium"]
    new = found["pool"][0]
    assert len(found["seen"]) == 8 and new["score"] <= scores["butylammonium"]
    assert all(np.abs(steps) < 15 for steps in found["steps"].values())
    host, guest = (
        denser.without_grid(found["to_ase"](molecule)) for molecule in (found["host"], new["guest"])
    )
    points = Quadrature.around(guest.structure, 30, 11)
    electrons = (points.weights * guest.at(points.points)) @ host.potential(points.points)
    nuclei = pseudo_charges(guest.structure) @ host.potential(guest.structure.positions)
    overlap = (points.weights * guest.at(points.points)) @ host.at(points.points)
    assert new["electrostatic"] == pytest.approx(KCAL_PER_MOL * (nuclei - electrons), abs=0.3)
    assert new["repulsion"] == pytest.approx(KCAL_PER_MOL * repulsion(overlap), rel=0.02)


def test_dynamics(page):
    """A few steps: energy is conserved, and the path over the saddle is symmetric.

    The spectrum is that of a vibration with 1400/cm.
    """
    wave = "2 * np.pi * 1400 * 2.99792458e-5 * t"  # of t in fs
    places = f"[[0, 0, 0], [0, 0, 1.6 + 0.1 * np.cos({wave})]]"
    known = f"write('run.traj', [Atoms('LiH', {places}) for t in range(150)])"
    found = page(
        "dynamics.md",
        steps=("N_STEPS = 400", "N_STEPS = 10"),
        known=('print(f"Li-H', f'{known}\nprint(f"Li-H'),
        width=("--width 170", "--width 500 --max 5000"),
        loose=("fmax=0.03", "fmax=0.1"),
        rough=("FMAX = 7, 0.1", "FMAX = 5, 1.0"),
        coarse=("--spacing 0.2 ", "--spacing 0.4 "),
    )
    assert np.ptp(found["total"]) < 0.01 < found["kinetic"].max()  # eV
    assert found["strongest"] == pytest.approx(1400, abs=40)
    energy, dipoles, charges = found["energy"], found["dipoles"], found["charges"]
    assert energy == pytest.approx(energy[::-1], abs=5e-3) and 0.1 < energy[2] < 0.5
    assert energy[1] < energy[2] and energy[2] == energy.max()
    assert dipoles == pytest.approx(-dipoles[::-1], abs=0.02) and abs(dipoles[0]) > 1.3
    assert charges[0] == pytest.approx(charges[-1], abs=2e-3)
    assert energy[2] == pytest.approx(found["barrier"], abs=0.01)
    assert len(list(Path("densities").glob("*.cube"))) == 5
