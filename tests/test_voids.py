"""Connected regions, voids and channels of shapes with known volumes."""

import numpy as np
import pytest

from denser.analysis.accumulation import accumulation
from denser.analysis.interactions.voids import voids
from denser.analysis.regions import connected_regions, nearest_atoms, percolation
from denser.atoms.sad import superposition
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

SHAPE = (12, 14, 16)


def centred(lengths, shape):
    lengths = np.array(lengths, dtype=float)
    grid = Grid(-lengths / 2, np.diag(lengths), shape)
    return grid, grid.points()


def test_regions_join_across_faces_edges_and_corners():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 3, 3] = mask[-1, 4, 4] = True  # diagonal neighbours across a face
    mask[0, 0, 0] = mask[-1, -1, -1] = True  # across the corner
    mask[6, 7, 8] = True
    labels, n = connected_regions(mask, periodic=True)
    assert n == 3
    assert labels[0, 3, 3] == labels[-1, 4, 4] and labels[0, 0, 0] == labels[-1, -1, -1]
    assert connected_regions(mask, periodic=False)[1] == 5
    assert connected_regions(np.zeros(SHAPE, dtype=bool), periodic=True)[1] == 0


def test_regions_do_not_depend_on_the_origin_of_the_cell():
    rng = np.random.default_rng(8)
    mask = rng.random(SHAPE) < 0.06
    labels, n = connected_regions(mask, periodic=True)
    shift = (5, 3, 11)
    rolled, m = connected_regions(np.roll(mask, shift, axis=(0, 1, 2)), periodic=True)
    assert m == n > 20
    pairs = np.unique([labels[mask], np.roll(rolled, [-s for s in shift], (0, 1, 2))[mask]], axis=1)
    assert pairs.shape[1] == n  # the same partition, numbered otherwise


def test_percolation_finds_the_directions():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:5, 2:5, :] = True  # a channel along z
    mask[8:11, 8:11, 5:8] = True  # a cavity
    mask[7, 0, 10], mask[7, 13, 10] = True, True  # a cavity across a face
    labels, n, directions = percolation(mask)
    assert n == 3
    found = {tuple(map(tuple, d.tolist())) for d in directions}
    assert found == {((0, 0, 1),), ()}
    assert directions[labels[3, 3, 3] - 1].tolist() == [[0, 0, 1]]
    sheet = np.zeros(SHAPE, dtype=bool)
    sheet[4] = True
    (found,) = percolation(sheet)[2]
    assert found.tolist() == [[0, 0, 1], [0, 1, 0]]
    assert len(percolation(np.ones(SHAPE, dtype=bool))[2][0]) == 3
    # A staircase that closes after one step along x and one along y.
    x = np.arange(12)
    stairs = np.zeros((12, 12, 6), dtype=bool)
    stairs[x, x, 2] = True
    (found,) = percolation(stairs)[2]
    assert found.tolist() == [[1, 1, 0]]


def test_two_turns_of_a_helix_are_one_channel():
    # Along z the thread comes back displaced: only two cells on is it in its own place.
    mask = np.zeros((8, 6, 9), dtype=bool)
    z = np.arange(9)
    mask[(z * 4) // 9, 2, z] = True
    mask[(z * 4) // 9 + 4, 2, z] = True
    _, n, directions = percolation(mask)
    assert n == 1 and directions[0].tolist() == [[1, 0, 2]]


def test_spherical_cavity_in_a_crystal_wherever_it_lies():
    grid, points = centred((12.0, 14.0, 16.0), (40, 46, 54))
    for centre in (np.zeros(3), np.array([5.9, -6.8, 7.7])):
        d = points - centre
        d -= np.round(d / [12, 14, 16]) * [12, 14, 16]
        field = Field(grid, np.linalg.norm(d, axis=-1), "bohr")
        found = voids(field, 4.0)
        (void,) = found.voids
        assert void.kind == "cavity" and void.directions.shape == (0, 3)
        assert void.volume == pytest.approx(4 / 3 * np.pi * 64, rel=0.01)
        assert void.radius == pytest.approx(4.0, abs=0.3)
        shift = void.centre - centre
        shift -= np.round(shift / [12, 14, 16]) * [12, 14, 16]
        assert np.linalg.norm(shift) < 0.4
        assert found.fraction == pytest.approx(found.volume / grid.volume)
        assert found.labels.values.sum() * grid.dv == pytest.approx(found.volume)
    (wide,) = voids(field, 6.5).voids  # touches its images along x
    assert wide.kind == "channel" and wide.directions.tolist() == [[1, 0, 0]]
    (all_around,) = voids(field, 50.0).voids
    assert all_around.kind == "network"
    assert "channel along [1 0 0]" in voids(field, 6.5).lines()[1]
    assert voids(field, 4.0).to_dict()["voids"][0]["kind"] == "cavity"


def test_a_skew_cell_has_the_same_cavity():
    cell = np.array([[12.0, 0, 0], [4.0, 11.0, 0], [-3.0, 2.0, 13.0]])
    grid = Grid(np.zeros(3), cell, (60, 60, 60))
    d = grid.points() @ np.linalg.inv(cell) - 0.5
    field = Field(grid, np.linalg.norm(d @ cell, axis=-1), "bohr")
    (void,) = voids(field, 3.5).voids
    assert void.volume == pytest.approx(4 / 3 * np.pi * 3.5**3, rel=0.01)
    assert void.radius == pytest.approx(3.5, abs=0.3)


def test_the_outside_of_a_molecule_is_no_void():
    helium = Structure(np.array([2]), np.zeros((1, 3)))
    grid, _ = centred((10.0, 10.0, 10.0), (40, 40, 40))
    density = superposition(helium, grid)
    found = voids(density)
    assert [void.kind for void in found.voids] == ["outside"] and found.volume == 0
    shell = density.with_values(np.where(density.values > 0.3, 0.0, density.values))
    kinds = {void.kind: void for void in voids(shell).voids}
    assert set(kinds) == {"outside", "cavity"}
    crystal = Density(
        grid, density.values, valence_charges=[2.0],
        structure=Structure(np.array([2]), np.zeros((1, 3)), cell=grid.cell),
    )  # fmt: skip
    assert [void.kind for void in voids(crystal).voids] == ["network"]
    with pytest.raises(InputError, match="finite number"):
        voids(density, np.nan)


def test_accumulation_integrates_and_names_the_atoms():
    grid, points = centred((16.0, 12.0, 12.0), (80, 60, 60))
    atoms = Structure(np.array([6, 8]), np.array([[-3.0, 0, 0], [3.0, 0, 0]]))
    lobe = [np.exp(-2 * np.square(points - x).sum(axis=-1)) for x in ([-3.5, 0, 0], [1.5, 0, 0])]
    values = 0.3 * lobe[0] - 0.2 * lobe[1]
    found = accumulation(Field(grid, values), 0.01, atoms)
    first, second = found.regions
    assert (first.sign, second.sign) == (1, -1)
    for region, height in ((first, 0.3), (second, -0.2)):
        r = np.sqrt(np.log(abs(height) / 0.01) / 2)
        assert region.volume == pytest.approx(4 / 3 * np.pi * r**3, rel=0.02)
        assert region.peak == pytest.approx(height, rel=0.02)
        inside = height * (np.pi / 2) ** 1.5
        assert 0.8 < region.integral / inside < 1
    assert first.atoms[0][0] == 0 and first.atoms[0][1] == pytest.approx(1)
    assert second.atoms[0][0] == 1
    basins = np.where(points[..., 0] > 1.5, 0, 1)
    shares = dict(accumulation(Field(grid, values), 0.01, atoms, basins).regions[1].atoms)
    assert shares[0] == pytest.approx(0.5, abs=0.15) and sum(shares.values()) == pytest.approx(1)
    assert "(C1 100 %)" in found.lines()[1]
    assert found.to_dict()["regions"][0]["atoms"] == [{"atom": 1, "share": pytest.approx(1)}]
    with pytest.raises(InputError, match="must be positive"):
        accumulation(Field(grid, values), -0.01)
    with pytest.raises(InputError, match="do not fit a grid"):
        accumulation(Field(grid, values), 0.01, atoms, basins[1:])


def test_nearest_atom_may_be_an_image():
    crystal = Structure(
        np.array([1, 2]), np.array([[0.5, 1, 1], [4.0, 1, 1]]), cell=np.diag([9.0, 8, 8])
    )
    points = np.array([[8.0, 1, 1], [5.0, 1, 1], [-14.0, 1, 9.0]])
    assert nearest_atoms(crystal, points, periodic=True).tolist() == [0, 1, 1]
    assert nearest_atoms(crystal, points, periodic=False).tolist() == [1, 1, 0]
