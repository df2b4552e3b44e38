"""Slices of frames, and trajectories of MD codes with a topology."""

import json
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.io import write

from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.workflows.inputs import Failed, find_inputs, split_slice

PSF = """PSF

       2 !NTITLE
 REMARKS sodium, water of four sites, heme iron, heavy hydrogen
 REMARKS

      10 !NATOM
       1 IONS 1    SOD  SOD  SOD    1.000000       22.9898           0
       2 W    2    TP4  OH2  OT     0.000000       15.9994           0
       3 W    2    TP4  H1   HT     0.524000        1.0080           0
       4 W    2    TP4  H2   HT     0.524000        1.0080           0
       5 W    2    TP4  OM   LP    -1.048000        0.0000           0
       6 H    3    HEME FE   FE     0.000000       55.8470           0
       7 P    4    ALA  CA   CT1    0.070000        9.9950           0
       8 P    4    ALA  HE1  HA     0.000000        4.0000           0
       9 L    5    LIG  CL1  CLGR  -0.070000       35.4530           0
      10 L    5    LIG  CA   CLGR   0.000000       40.0800           0

       0 !NBOND: bonds

"""


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("a.xtc", None),
        ("a.xtc@3", slice(3, 4)),
        ("a.xtc@-1", slice(-1, None)),
        ("d@2/a.xtc@:", slice(None, None)),
        ("a.xtc@0:100:10", slice(0, 100, 10)),
        ("a.xtc@-5:", slice(-5, None)),
        ("me@home.xyz", None),
        ("a@1.xyz", None),
    ],
)
def test_slices(text, chosen):
    path, found = split_slice(Path(text))
    assert found == chosen
    assert str(path) == (text if chosen is None else text.rpartition("@")[0])


def test_frames_keep_their_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = [molecule("H2O") for _ in range(6)]
    for i, atoms in enumerate(frames):
        atoms.positions[0, 2] += 0.01 * i
    write("run.extxyz", frames)
    found = find_inputs([Path("run.extxyz@1::2"), Path("run.extxyz@-1")])
    assert [entry.stem for entry in found] == [
        "run_00001", "run_00003", "run_00005", "run_2_00005",
    ]  # fmt: skip
    assert found[0].name == "run.extxyz[1]" and found[0].path == Path("run.extxyz")
    assert found[1].atoms().positions[0, 2] == pytest.approx(frames[3].positions[0, 2])
    write("odd@2", frames[0], format="extxyz")  # a file of this name
    assert find_inputs([Path("odd@2")])[0].name == "odd@2"
    (nothing,) = find_inputs([Path("run.extxyz@6:")])
    assert nothing.source == Failed("chooses none of its 6 frames")
    with pytest.raises(InputError, match="step of a slice cannot be 0"):
        find_inputs([Path("run.extxyz@::0")])


def test_commands_take_slices(run, tmp_path):
    write(tmp_path / "run.extxyz", [molecule("H2O")] * 3)
    code, out, err = run("features", "run.extxyz@::2", "-o", "f.csv", "--json")
    assert code == 0, err
    assert [json.loads(line)["input"] for line in out.splitlines()] == [
        "run.extxyz[0]", "run.extxyz[2]",
    ]  # fmt: skip
    code, _, err = run("predict", "run.extxyz@1", "-o", "run.extxyz")
    assert code == 2 and "run.extxyz" in err and (tmp_path / "run.extxyz").stat().st_size < 2000
    code, _, err = run("predict", "run.extxyz", "--topology", "run.extxyz", "-o", "o")
    assert code == 2 and "there are none; leave it out" in err


def test_a_trajectory_without_topology(run, tmp_path):
    (tmp_path / "run.xtc").write_bytes(b"x")
    for command in ("predict", "view"):
        options = ("-o", "o") if command == "predict" else ()
        code, _, err = run(command, "run.xtc", *options)
        assert code == 2 and "holds no elements; name a file with the same atoms" in err


@pytest.fixture
def mda():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("MDAnalysis")
        found.Writer  # noqa: B018
    return found


def _write(mda, path, frames, box=None, velocities=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        moving = velocities is not None
        u = mda.Universe.empty(len(frames[0]), trajectory=True, velocities=moving)
        with mda.Writer(str(path), len(frames[0]), dt=0.002) as writer:
            for i, positions in enumerate(frames):
                u.atoms.positions = positions
                if moving:
                    u.atoms.velocities = velocities[i]
                u.dimensions = None if box is None else [*box, 90, 90, 90]
                u.trajectory.ts.time, u.trajectory.ts.frame = 0.002 * i, i
                writer.write(u)


@pytest.fixture
def acetate(tmp_path, monkeypatch):
    """The topology of an acetate ion with bonds, and moving positions."""
    pytest.importorskip("rdkit")
    from denser.io.smiles import from_smiles

    monkeypatch.chdir(tmp_path)
    atoms = from_smiles("CC(=O)[O-]")
    rows = [f"{a.symbol:>3}" for a in atoms]
    lines = [
        "acetate",
        "",
        "",
        f"{len(atoms):3}{len(atoms) - 1:3}  0  0  0  0  0  0  0  0999 V2000",
    ]
    for (x, y, z), symbol in zip(atoms.positions, rows, strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol.strip():<3} 0  0  0  0  0  0")
    for i, j, order in atoms.info["bonds"]:
        lines.append(f"{i + 1:3}{j + 1:3}{order:3}  0")
    oxygen = int(np.flatnonzero(atoms.arrays["formal_charges"])[0]) + 1
    lines += [f"M  CHG  1 {oxygen:3}  -1", "M  END", "$$$$", ""]
    Path("top.sdf").write_text("\n".join(lines))
    rng = np.random.default_rng(0)
    return atoms, [atoms.positions + rng.normal(0, 0.02, atoms.positions.shape) for _ in range(5)]


@pytest.mark.parametrize("ending", ["dcd", "xtc", "trr", "ncdf"])
def test_frames_of_all_formats(mda, acetate, ending):
    atoms, frames = acetate
    moving = [np.random.default_rng(i).normal(0, 4, atoms.positions.shape) for i in range(5)]
    path = Path(f"run.{ending}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _write(mda, path, frames, velocities=moving if ending == "trr" else None)
    found = find_inputs([Path(f"{path}@1:4")], topology=Path("top.sdf"))
    assert [entry.stem for entry in found] == ["run_00001", "run_00002", "run_00003"]
    read = found[1].atoms()
    near = 0.006 if ending == "xtc" else 1e-4  # XTC rounds to 0.01 angstrom
    assert read.positions == pytest.approx(frames[2], abs=near)
    structure = Structure.of(read)
    assert structure.formula == "C2H3O2" and structure.charge == -1 and structure.cell is None
    assert structure.bonds.formal_charges.sum() == -1
    assert read.has("momenta") == (ending == "trr")
    if ending == "trr":
        speed = read.get_velocities() * 1000 * units.fs  # angstrom/ps
        assert speed == pytest.approx(moving[2], abs=1e-4)
    # Frames are read where they are needed: a task is small, whatever its number of atoms.
    assert len(pickle.dumps(found[0])) < 500
    if os.path.isdir("/proc/self/fd"):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            for entry in find_inputs([path], topology=Path("top.sdf")):
                entry.atoms()
        assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_boxes(mda, acetate, tmp_path):
    """A molecule cut by the faces of a large box is whole again; a full box is a cell."""
    atoms, frames = acetate
    _write(mda, tmp_path / "large.dcd", [np.mod(x, 15.0) for x in frames], (15, 15, 15))
    (first, *others) = find_inputs([Path("large.dcd")], topology=Path("top.sdf"))
    assert np.ptp(np.mod(frames[0], 15.0), axis=0).max() > 10  # it was cut
    read = first.atoms()
    assert not read.pbc.any() and read.get_all_distances() == pytest.approx(
        atoms.copy().get_all_distances(), abs=0.2
    )
    assert "taken as isolated" in first.notes[-1] and not others[0].notes
    _write(mda, tmp_path / "small.dcd", frames, (8, 8, 8))
    (small, *_) = find_inputs([Path("small.dcd")], topology=Path("top.sdf"))
    assert small.atoms().cell.lengths() == pytest.approx([8, 8, 8]) and small.atoms().pbc.all()


def test_elements_and_charge_of_a_psf(mda, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("top.psf").write_text(PSF)
    positions = 3.0 * np.stack(np.unravel_index(np.arange(10), (3, 3, 3)), axis=1)
    _write(mda, "run.dcd", [positions, positions], (9, 9, 9))
    first, _ = find_inputs([Path("run.dcd")], topology=Path("top.psf"))
    atoms = first.atoms()
    # Masses decide (Fe), but not those that were made heavier (C, H); OM has none.
    assert atoms.get_chemical_symbols() == ["Na", "O", "H", "H", "Fe", "C", "H", "Cl", "Ca"]
    assert atoms.info["charge"] == 1
    assert first.notes == ("1 sites of the topology without mass are no atoms",)
    assert atoms.positions == pytest.approx(np.delete(positions, 4, axis=0))
    Path("half.psf").write_text(PSF.replace("1.000000       22.9898", "0.500000       22.9898"))
    (bad,) = find_inputs([Path("run.dcd")], topology=Path("half.psf"))
    with pytest.raises(InputError, match=r"add up to 0\.50, which is no whole number"):
        bad.atoms()


def test_some_atoms_of_a_topology(mda, tmp_path, monkeypatch):
    """Methane and its solvent: the chosen atoms are a molecule of their own, with its charge."""
    monkeypatch.chdir(tmp_path)
    ion, waters = molecule("CH3CH2NH2"), [molecule("H2O") for _ in range(20)]
    ion.positions += 10
    for i, water in enumerate(waters):
        water.positions += 3.5 * np.array(np.unravel_index(i, (3, 3, 3)))
    atoms = sum(waters, ion)
    names = ["UNL"] * len(ion) + ["HOH"] * 60
    atoms.arrays["residuenames"] = np.array(names)
    numbers = [1] * len(ion) + list(np.repeat(np.arange(2, 22), 3))
    atoms.arrays["residuenumbers"] = np.array(numbers)
    write("top.pdb", atoms)
    _write(mda, "run.xtc", [np.mod(atoms.positions + 3, 16)] * 2, (16, 16, 16))
    found = find_inputs([Path("run.xtc")], topology=Path("top.pdb@resname UNL"))
    read = found[1].atoms()
    assert read.get_chemical_formula() == "C2H7N" and not read.pbc.any()
    assert read.get_all_distances() == pytest.approx(ion.get_all_distances(), abs=0.02)
    assert find_inputs([Path("run.xtc")], topology=Path("top.pdb"))[0].atoms().pbc.all()
    for selection, says in (
        ("resname LIG", "'resname LIG' selects none of its 70 atoms"),
        ("nonsense", "cannot select 'nonsense'"),
    ):
        (bad,) = find_inputs([Path("run.xtc")], topology=Path(f"top.pdb@{selection}"))
        with pytest.raises(InputError, match=says):
            bad.atoms()
    Path("top.psf").write_text(PSF)
    positions = 3.0 * np.stack(np.unravel_index(np.arange(10), (3, 3, 3)), axis=1)
    _write(mda, "other.dcd", [positions])
    (water,) = find_inputs([Path("other.dcd")], topology=Path("top.psf@resname TP4"))
    assert water.atoms().get_chemical_formula() == "H2O" and water.atoms().info["charge"] == 0
    assert water.atoms().positions == pytest.approx(positions[1:4], abs=1e-5)


def test_files_that_do_not_fit(mda, acetate, tmp_path):
    _, frames = acetate
    _write(mda, "run.dcd", frames)
    write("water.xyz", molecule("H2O"))
    Path("torn.dcd").write_bytes(Path("run.dcd").read_bytes()[:100])
    Path("odd.psf").write_text("nothing")
    for trajectory, topology, says in (
        ("run.dcd", "water.xyz", "has 7 atoms, and its topology water.xyz has 3"),
        ("run.dcd", "no.pdb", "no.pdb: no such file"),
        ("run.dcd", "no.psf", "no.psf: no such file"),
        ("run.dcd", "run.dcd", "is a trajectory and no topology"),
        ("run.dcd", "odd.psf", "odd.psf: cannot be read as a topology"),
        ("no.dcd", "top.sdf", "no such file"),
        ("torn.dcd", "top.sdf", "cannot be read as a trajectory"),
        ("run.dcd@9", "top.sdf", "chooses none of its 5 frames"),
    ):
        (entry,) = find_inputs([Path(trajectory)], topology=Path(topology))
        with pytest.raises(InputError, match=says) as error:
            entry.atoms()
        assert "\n" not in str(error.value)


def test_charges_of_conformers_from_a_trajectory(mda, acetate, run):
    _, frames = acetate
    _write(mda, "run.xtc", frames)
    options = ("--topology", "top.sdf", "--conformers", "-o", "one.json")
    code, out, err = run("charges", "run.xtc@:2", *options)
    assert code == 0 and "of 2 conformers" in out, err
    (found,) = json.loads(Path("one.json").read_text())
    assert sum(found["charges_e"]["resp"]) == pytest.approx(-1, abs=1e-6)


def test_spectrum_of_a_trr(mda, run, tmp_path):
    """One command: times, velocities and frames come from the trajectory."""
    water = molecule("H2O")
    write(tmp_path / "top.pdb", water)
    i = np.arange(90)
    stretch = 1 + 0.03 * np.cos(2 * np.pi * i / 10)  # a period of 20 fs
    frames = [water.positions * [1, s, 1] for s in stretch]
    speeds = [np.full((3, 3), 2.0) for _ in i]
    _write(mda, tmp_path / "run.trr", frames, velocities=speeds)
    options = ("--topology", "top.pdb", "--width", 400, "--max", 4000, "--json")
    code, out, err = run("spectrum", "run.trr", *options)
    assert code == 0, err
    record = json.loads(out)
    assert record["time_fs"] == pytest.approx(89 * 2.0, rel=1e-3)
    assert record["bands"][0]["wave_number_per_cm"] == pytest.approx(1e15 / 20 / 2.998e10, rel=0.02)
    assert (tmp_path / "spectrum" / "run_infrared.png").stat().st_size > 5000
    _write(mda, tmp_path / "run.dcd", frames)
    code, _, err = run("spectrum", "run.dcd", "--topology", "top.pdb")
    assert code == 2 and "--timestep is missing" in err
