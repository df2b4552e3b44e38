"""Densities in slabs: the same values and files as those that are made at once."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write as write_atoms

import denser
from denser import Density, Grid, InputError, Predictor, write
from denser.io import read
from denser.model.options import PredictionOptions
from denser.types.density import SlabDensity

NEIGHBOURS = [[0, 0, 0], [0.5, 0.5, 0.5]]
SKEW = Atoms(
    "NaCl", scaled_positions=NEIGHBOURS, pbc=True, cell=[[4, 0, 0], [2, 3.4, 0], [0, 1, 4]]
)
LAYERED = Atoms(
    "NaCl", scaled_positions=NEIGHBOURS, pbc=True, cell=[[4, 0, 0], [2, 3.4, 0], [0, 0, 4]]
)
STRAIGHT = Atoms("NaCl", scaled_positions=NEIGHBOURS, pbc=True, cell=[3.5, 4, 5])
WATERS = molecule("H2O") + Atoms("OHH", molecule("H2O").positions + [0, 2.9, 0.4])

NAMES = ["a.cube", "CHGCAR", "a.xsf", "a.ccp4", "a.npz", "a.dx", "a.vti", "g.zarr/a"]
NAMES += ["a.ccp4.gz", "a.cube.xz"]


def together(density: Density, axis: int) -> np.ndarray:
    parts = list(density.slabs(axis))
    assert len(parts) > 1
    return np.concatenate(parts, axis=axis)


@pytest.mark.parametrize("atoms", [WATERS, molecule("CH3"), STRAIGHT, LAYERED, SKEW])
def test_slabs_are_the_density_that_is_made_at_once(atoms):
    predictor, options = Predictor(), PredictionOptions(spacing=0.2)
    whole = predictor.predict(atoms, options=options)
    steps = []

    def track(parts, doing):
        for part in parts:
            yield part
            steps.append((doing, part))

    found = predictor.predict_in_slabs(atoms, options, 0.0, track=track)
    assert found is not None
    for axis in range(3):
        values = together(found.density, axis)
        np.testing.assert_allclose(values, whole.density.values, rtol=2e-6, atol=6e-7)
        np.testing.assert_allclose(together(found.sad, axis), whole.sad.values, atol=1e-11)
        spin = whole.density.spin_density
        assert (found.density.spin_density is None) == (spin is None)
        if spin is not None:
            np.testing.assert_allclose(together(found.density.spin_density, axis), spin.values)
    n = found.density.grid.shape[0]
    counted = [part for doing, part in steps if doing == "counting electrons"]
    assert counted[0][0] == 0 and counted[-1][1] == n
    assert all(a[1] == b[0] for a, b in pairwise(counted))
    assert found.density.integrate() == pytest.approx(found.density.n_electrons, rel=1e-6)
    assert found.excess == pytest.approx(whole.excess, abs=1e-10)
    np.testing.assert_allclose(found.wrong, whole.wrong, rtol=1e-9)
    if not atoms.pbc.any():
        np.testing.assert_allclose(found.density.dipole(), whole.density.dipole(), atol=1e-9)
    with pytest.raises(InputError, match="too large for memory; take its slabs"):
        _ = found.density.values


def in_slabs(density: Density) -> SlabDensity:
    """The same density, five planes at a time."""

    def parts(values: np.ndarray, axis: int) -> Iterator[np.ndarray]:
        n = values.shape[axis]
        for start in range(0, n, 5):
            yield values.take(range(start, min(start + 5, n)), axis=axis)

    spin = density.spin_density
    known = {"structure": density.structure, "valence_charges": density.valence_charges}
    return SlabDensity(
        density.grid,
        lambda axis: parts(density.values, axis),
        **known,
        spin_density=None
        if spin is None
        else SlabDensity(
            density.grid, lambda axis: parts(spin.values, axis), **known, unit=spin.unit
        ),
    )


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_written_in_slabs_is_that_of_the_whole(tmp_path, name, periodic):
    cell = np.diag([7.0, 8.0, 9.0])
    structure = denser.Structure([1, 3], [[0, 0, 0], [1, 2, 3]], cell=cell if periodic else None)
    values = np.random.default_rng(1).normal(size=(17, 11, 13)).astype(np.float32)
    density = Density(
        Grid([0.5, 0, -1], cell, values.shape),
        values,
        structure=structure,
        valence_charges=[1, 1],
    )
    if name in ("CHGCAR", "a.npz", "g.zarr/a"):
        density = density.with_spin_density(values[::-1])
    files = []
    for folder, some in (("whole", density), ("slabs", in_slabs(density))):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True)
        write(path, some)
        files.append(contents(path))
    assert files[0] == files[1]


@pytest.mark.parametrize(("atoms", "name"), [(WATERS, "a.cube"), (STRAIGHT, "a.ccp4")])
def test_command_writes_what_does_not_fit_in_memory(run, atoms, name):
    write_atoms("a.extxyz", atoms)
    records = []
    for folder, memory in (("whole", "9"), ("slabs", "0")):
        Path(folder).mkdir()
        given = ("--spacing", "0.2", "--memory", memory, "--json")
        code, out, err = run("predict", "a.extxyz", "-o", f"{folder}/{name}", *given)
        assert code == 0
        assert ("computed in parts" in err) == (folder == "slabs")
        records.append(json.loads(out))
    whole, slabs = (read(f"{folder}/{name}") for folder in ("whole", "slabs"))
    assert whole.grid.same_as(slabs.grid, 0.0)
    printed = 1e-5 if name == "a.cube" else 2e-6  # one unit of the sixth digit
    np.testing.assert_allclose(slabs.values, whole.values, rtol=printed, atol=6e-7)
    assert [record.pop("in_parts") for record in records] == [False, True]
    for record in records:
        for key in ("seconds", "notes", "output"):
            del record[key]
        record["n_electrons"] = round(record["n_electrons"], 4)
    assert records[0] == records[1]


def test_a_grid_beyond_the_disk_is_refused(run):
    write_atoms("far.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 90000.0]]))
    code, _, err = run("predict", "far.xyz", "-o", "far.ccp4", "--padding", "500")
    assert code == 2
    assert "the disk has" in err and "angstrom" in err
    assert not Path("far.ccp4").exists()
