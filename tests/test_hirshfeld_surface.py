"""Hirshfeld surfaces: curvatures, contacts, volumes, files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from denser.analysis.crystal.hirshfeld_surface import _curvatures, hirshfeld_surfaces, radius
from denser.atoms.sad import superposition
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR


def density_of(atoms: Atoms) -> Density:
    """A density on a very coarse grid: only the atoms matter."""
    structure = Structure.from_ase(atoms)
    return superposition(structure, Grid.periodic(structure, 0.8))


@pytest.fixture(scope="module")
def water() -> Atoms:
    """Two molecules of water in a monoclinic cell, by a screw axis."""
    one = molecule("H2O")
    one.rotate(35, (1, 2, 0.5))
    one.positions += [1.1, 0.9, 1.4] - one.positions[0]
    cell = Atoms(cell=[3.9, 4.3, 4.1, 90, 98, 90]).cell
    x = cell.scaled_positions(one.positions)
    both = np.concatenate([x, x * [-1, 1, -1] + [0, 0.5, 0]])
    return Atoms("OH2OH2", scaled_positions=both, cell=cell, pbc=True)


def test_curvatures_of_a_sphere_and_a_saddle():
    point = np.array([0.0, 0.0, 2.0])
    outwards = point / 2
    gradient, hessian = -outwards, -(np.eye(3) - np.outer(outwards, outwards)) / 2  # f = -|r|
    k1, k2 = _curvatures(gradient[None], hessian[None])
    np.testing.assert_allclose([k1[0], k2[0]], 0.5, atol=1e-12)
    bent = np.diag([0.3, -0.3, 0.0])  # f = -z + 0.15 (x^2 - y^2)
    k1, k2 = _curvatures(np.array([[0, 0, -1.0]]), bent[None])
    np.testing.assert_allclose([k1[0], k2[0]], [0.3, -0.3], atol=1e-12)


def test_argon_touches_at_its_van_der_waals_radius():
    contact = 2 * radius(18) * BOHR
    found = hirshfeld_surfaces(density_of(bulk("Ar", "fcc", a=contact * np.sqrt(2), cubic=True)))
    (surface,) = found.surfaces
    assert surface.contacts == pytest.approx({"Ar...Ar": 100.0})
    assert surface.d_norm.min() == pytest.approx(0, abs=0.01)
    touching = surface.d_norm.argmin()
    np.testing.assert_allclose(
        [surface.d_i[touching], surface.d_e[touching]], radius(18), rtol=0.02
    )
    assert 0.9 < found.filled < 1
    assert 0.93 < surface.to_dict()["globularity"] < 1
    # as the cube: the surface has the distances of its mirror images
    assert surface.vertices.max(axis=0) - surface.structure.positions[0] == pytest.approx(
        surface.structure.positions[0] - surface.vertices.min(axis=0), abs=0.02
    )


def test_water(water):
    found = hirshfeld_surfaces(density_of(water))
    (surface,) = found.surfaces  # the screw axis makes the other one
    assert sum(surface.contacts.values()) == pytest.approx(100)
    assert {"O...H", "H...H"} <= set(surface.contacts)
    assert surface.areas.sum() == pytest.approx(surface.samples.areas.sum())
    assert 0.85 < found.filled < 1
    assert (np.abs(surface.shape_index) <= 1).all()
    edges = np.sort(surface.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, times = np.unique(edges, axis=0, return_counts=True)
    assert (times == 2).all()  # closed
    assert len(surface.vertices) - len(unique) + len(surface.faces) == 2
    larger = hirshfeld_surfaces(density_of(water.repeat((2, 1, 1))))
    (same,) = larger.surfaces
    assert same.volume == pytest.approx(surface.volume, rel=1e-3)
    assert larger.filled == pytest.approx(found.filled, rel=1e-3)
    assert same.contacts == pytest.approx(surface.contacts, abs=0.2)


def test_command_writes_mesh_and_picture(run, tmp_path, water):
    path = tmp_path / "water.cif"
    water.write(path)
    code, out, err = run(
        "analyze", path, "--hirshfeld-surface", "-o", "out", "--spacing", "0.4", "--json"
    )
    assert code == 0, err
    record = json.loads(out)
    assert [name.rpartition("/")[2] for name in record["written"]] == [
        "water_hirshfeld-surface_1.ply", "water_hirshfeld-surface.png",
    ]  # fmt: skip
    (surface,) = record["properties"]["hirshfeld-surface"]["surfaces"]
    content = (tmp_path / "out" / "water_hirshfeld-surface_1.ply").read_bytes()
    header, _, body = content.partition(b"end_header\n")
    words = header.decode().split()
    n, m = (int(words[words.index(kind) + 1]) for kind in ("vertex", "face"))
    names = [line.split()[-1] for line in header.decode().splitlines() if "property" in line]
    assert names[6:11] == ["d_i", "d_e", "d_norm", "shape_index", "curvedness"]
    kinds = [(name, "u1" if name in ("red", "green", "blue") else "<f4") for name in names[:11]]
    table = np.frombuffer(body, dtype=kinds, count=n)
    assert len(body) == table.nbytes + 13 * m
    assert table["d_norm"].min() == pytest.approx(surface["d_norm_min_mean_max"][0], abs=1e-3)
    red = table["red"].astype(int) - table["blue"]
    assert (red[table["d_norm"] < -0.05] > 0).all()
    assert (red[table["d_norm"] > 0.05] < 0).all()


def test_what_has_no_surface_is_refused():
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    diamond = bulk("C", "diamond", a=3.57, cubic=True)
    for atoms in (diamond, salt):
        with pytest.raises(InputError, match="bonded without end"):
            hirshfeld_surfaces(density_of(atoms))
