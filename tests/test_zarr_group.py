"""Zarr groups of many densities: round trips, other readers, damage, batches that go on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write as write_atoms

import denser
from denser.io import is_density_file
from denser.io.npz import FORMAT
from denser.io.zarr_group import members
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

zarr = pytest.importorskip("zarr")


def density(periodic: bool = False, seed: int = 3) -> Density:
    rng = np.random.default_rng(seed)
    cell = np.array([[5.0, 0.3, -0.2], [0.1, 6.5, 0.4], [1.5, -0.6, 8.0]])
    grid = Grid(rng.normal(size=3), cell, (5, 7, 9))
    positions = 2 * np.eye(3) + rng.normal(scale=0.1, size=(3, 3))
    structure = Structure([8, 1, 1], positions, -1, cell if periodic else None, spin=1)
    values = rng.random((5, 7, 9)).astype(np.float32)
    return Density(grid, values, structure=structure, valence_charges=[6, 1, 1])


def same(found: Field, expected: Field) -> None:
    assert type(found) is type(expected) and found.unit == expected.unit
    assert found.values.dtype == expected.values.dtype
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.grid.cell, expected.grid.cell)
    np.testing.assert_array_equal(found.grid.origin, expected.grid.origin)
    if not isinstance(expected, Density):
        return
    a, b = found.structure, expected.structure
    np.testing.assert_array_equal(a.positions, b.positions)
    assert (a.numbers.tolist(), a.charge, a.spin) == (b.numbers.tolist(), b.charge, b.spin)
    assert (a.cell is None) == (b.cell is None)
    np.testing.assert_array_equal(found.valence_charges, expected.valence_charges)
    assert (found.spin_density is None) == (expected.spin_density is None)
    if expected.spin_density is not None:
        np.testing.assert_array_equal(found.spin_density.values, expected.spin_density.values)


@pytest.mark.parametrize("periodic", [False, True])
def test_everything_comes_back(tmp_path, periodic):
    plain = density(periodic)
    spin = plain.with_spin_density(np.random.default_rng(5).normal(size=(5, 7, 9)).astype("f4"))
    field = Field(plain.grid, plain.values.astype(float) - 0.5, "hartree/e")
    for name, found in (("plain", plain), ("of spin", spin), ("field.0", field)):
        denser.write(tmp_path / "all.zarr" / name, found)
        assert is_density_file(tmp_path / "all.zarr" / name)
        same(denser.read(tmp_path / "all.zarr" / name), found)
    assert [path.name for path in members(tmp_path / "all.zarr")] == ["field.0", "of spin", "plain"]


def test_zarr_reads_it_in_one_line(tmp_path):
    rho = density()
    denser.write(tmp_path / "all.zarr/a", rho)
    array = zarr.open(tmp_path / "all.zarr", mode="r")["a"]
    np.testing.assert_array_equal(array[:], rho.values)
    assert array.attrs["unit"] == "e/bohr^3" and array.attrs["format"] == FORMAT
    np.testing.assert_array_equal(array.attrs["positions"], rho.structure.positions)
    assert len(list((tmp_path / "all.zarr/a").iterdir())) == 2  # files


def test_parts_of_large_grids(tmp_path, monkeypatch):
    monkeypatch.setattr("denser.io.zarr_group._LARGEST_CHUNK", 4)
    rho = density()
    denser.write(tmp_path / "all.zarr/a", rho)
    same(denser.read(tmp_path / "all.zarr/a"), rho)
    (tmp_path / "all.zarr/a/1.1.1").unlink()
    with pytest.raises(InputError, match=r"a: 11 of 12 parts are there; make or copy it again"):
        denser.read(tmp_path / "all.zarr/a")


def test_groups_merge_by_moving_their_arrays(tmp_path):
    for seed, name in ((1, "one"), (2, "two")):
        denser.write(tmp_path / f"{name}.zarr/{name}", density(seed=seed))
    (tmp_path / "two.zarr/two").rename(tmp_path / "one.zarr/two")
    group = zarr.open_group(tmp_path / "one.zarr", mode="r")
    assert sorted(group.array_keys()) == ["one", "two"]
    same(denser.read(tmp_path / "one.zarr/two"), density(seed=2))


def test_a_write_that_fails_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "all.zarr/a"
    denser.write(path, density(seed=1))
    original = zarr.create_array

    def full(*arguments, **named):
        original(*arguments, **named)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zarr, "create_array", full)
    with pytest.raises(InputError, match="the disk is full; make room"):
        denser.write(path, density(seed=2))
    monkeypatch.undo()
    same(denser.read(path), density(seed=1))
    assert sorted(p.name for p in path.parent.iterdir()) == ["a", "zarr.json"]
    denser.write(path, density(seed=2))
    same(denser.read(path), density(seed=2))


def test_what_cannot_be_used_is_a_sentence(tmp_path):
    rho = density()
    group = tmp_path / "all.zarr"
    denser.write(group / "a", rho)
    with pytest.raises(InputError, match=r"is a group of densities; name one of it"):
        denser.read(group)
    with pytest.raises(InputError, match="no such array"):
        denser.read(group / "b")
    with pytest.raises(InputError, match="not finite"):
        denser.write(group / "b", replace(rho, values=np.full(rho.values.shape, np.nan)))
    (group / "mine").mkdir()
    (group / "mine/notes.txt").write_text("x")
    with pytest.raises(InputError, match="no array of Zarr"):
        denser.write(group / "mine", rho)
    assert (group / "mine/notes.txt").exists()
    chunk = group / "a/0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(InputError, match="a: not a complete array"):
        denser.read(group / "a")
    (group / "a/zarr.json").write_text("{")
    with pytest.raises(InputError, match="a: not a complete array"):
        denser.read(group / "a")
    zarr.create_array(group / "other", shape=(2, 2, 2), dtype="f4")[:] = 1.0
    with pytest.raises(InputError, match="expected a density"):
        denser.read(group / "other")


def test_a_batch_writes_a_group_and_goes_on(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = [molecule("H2O"), molecule("NH3"), molecule("CH4")]
    write_atoms("run.extxyz", frames)
    command = ["predict", "run.extxyz", "-o", "run.zarr", "--spacing", "0.4", "--resume", "--json"]

    def done(*options: str) -> list[str]:
        code, out, err = run(*command, *options)
        assert code == 0, err
        return [json.loads(line)["input"] for line in out.splitlines()]

    assert len(done("--table", "run.csv")) == 3
    assert done() == []
    found = zarr.open("run.zarr", mode="r")
    names = [f"run_0000{i}" for i in range(3)]
    assert sorted(found.array_keys()) == names
    electrons = [np.sum(found[name][:]) * denser.read(f"run.zarr/{name}").grid.dv for name in names]
    np.testing.assert_allclose(electrons, 8, rtol=1e-5)
    Path("run.zarr/run_00001/0.0.0").write_bytes(b"")
    frames[2].positions += 0.1
    write_atoms("run.extxyz", frames)
    assert done() == ["run.extxyz[1]", "run.extxyz[2]"]  # damaged, and another structure

    code, _, err = run("analyze", "run.zarr", "--moments", "--field", "laplacian", "--format",
                       "zarr", "-o", "report")  # fmt: skip
    assert code == 0, err
    fields = zarr.open("report/fields.zarr", mode="r")
    assert sorted(fields.array_keys()) == [f"{name}_laplacian" for name in names]
    assert denser.read("report/fields.zarr/run_00000_laplacian").unit == "e/bohr^5"


def test_commands_say_how_groups_are_named(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atoms("a.xyz", molecule("H2O"))
    code, _, err = run("predict", "a.xyz", "-o", "out", "--format", "zarr")
    assert code == 2 and "-o out.zarr" in err
    code, out, err = run("predict", "a.xyz", "-o", "one.zarr", "--spacing", "0.4")
    assert code == 0 and "one.zarr/a" in out, err
    Path("empty.zarr").mkdir()
    code, _, err = run("analyze", "empty.zarr", "--moments")
    assert code == 2 and "empty.zarr" in err
