"""Labels of crystals in cells of any shape: orbitals, points, stores, shards and training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from pyscf.pbc.dft import krks
from pyscf.pbc.dft.multigrid import MultiGridNumInt

import denser
from denser import load_model
from denser.dft.cell import build_cell
from denser.dft.pyscf_private import without_check_file
from denser.fields.periodic import repeats, shortest_period
from denser.labels.cloud import cloud
from denser.labels.label import Label
from denser.labels.packed import read_shards
from denser.labels.render import density_at_points, density_on_grid
from denser.labels.store import LabelStore
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.options import PredictionOptions
from denser.training.config import Config, from_dict
from denser.training.images import Images
from denser.training.loop import train
from denser.training.points import Points
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import LEAST_PERIOD
from denser.types.structure import Structure
from denser.workflows.evaluate.error_by_place import squared_distances
from denser.workflows.evaluate.measure import measure, reference_density
from denser.workflows.label import LabelInput, LabelSettings, calculate, label
from denser.workflows.label.calculation import LabelTask
from denser.workflows.label.packing import pack

TRICLINIC = np.array([[9.0, 0, 0], [2.5, 8.0, 0], [-3.0, 1.5, 7.0]])  # bohr
SETTINGS = LabelSettings(PredictionOptions(spacing=0.1))
XYZ = [
    [-0.404406753695, 3.663320873838, 4.487982400065],
    [5.869148902481, 3.129598269121, 4.688098055422],
    [0.300879032546, 2.535796135999, 1.704825675827],
]
P = [0.000620489038, 0.001839780807, 0.001754531397]


def hydrogen() -> Atoms:
    places = [[1.3, 1.1, 0.9], [1.7, 1.6, 1.3]]
    return Atoms("H2", places, cell=[4.0, 4.2, 4.0], pbc=True)


def settings_of(atoms: Atoms) -> dict[str, Atoms]:
    """One crystal as it is, with vectors a, a + b and c, and turned."""
    skew, turned = atoms.copy(), atoms.copy()
    a, b, c = atoms.cell
    skew.set_cell([a, a + b, c])
    turned.rotate(33, (1, -2, 0.5), rotate_cell=True)
    return {"upright": atoms, "skew": skew, "turned": turned}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Labels of the three settings of one crystal."""
    path = tmp_path_factory.mktemp("skew") / "labels.db"
    with LabelStore(path, SETTINGS.recipe) as found:
        for name, atoms in settings_of(hydrogen()).items():
            found.add(*calculate(LabelTask(name, Structure.of(atoms), "cell", SETTINGS)))
    return path


@pytest.fixture(scope="module")
def labels(store) -> dict[str, Label]:
    with LabelStore(store) as found:
        return {name: found.read(name) for name in found.names()}


def at(found: Label, points: np.ndarray) -> np.ndarray:
    structure = found.structure
    return density_at_points(
        structure.numbers, structure.positions, found.orbitals, found.grid, points
    )


def test_orbitals_on_oblique_nodes_and_at_points_are_those_of_pyscf():
    """With f functions, in a cell that is small beside them."""
    structure = Structure(
        np.array([53, 1]), np.array([[1.0, 2.0, 3.0], [3.0, 3.5, 4.0]]), 0, TRICLINIC
    )
    grid = Grid(np.array([0.3, -0.2, 0.1]), TRICLINIC, (20, 18, 17))
    cell = build_cell(structure, grid)
    assert max(cell.bas_angular(shell) for shell in range(cell.nbas)) == 3
    orbitals = np.random.default_rng(0).normal(size=(cell.nao_nr(), 3))
    points = grid.points().reshape(-1, 3)[::7]
    theirs = 2 * np.square(cell.pbc_eval_gto("GTOval_sph", points - grid.origin) @ orbitals).sum(1)
    where = (structure.numbers, structure.positions, orbitals, grid)
    on_nodes = density_on_grid(*where, dtype=torch.float64).numpy().ravel()[::7]
    scale = theirs.max()
    np.testing.assert_allclose(on_nodes / scale, theirs / scale, atol=1e-6)
    elsewhere = points + np.array([1, -2, 3]) @ TRICLINIC
    np.testing.assert_allclose(
        density_at_points(*where, elsewhere) / scale, theirs / scale, atol=1e-6
    )


def test_another_setting_has_the_same_label(labels):
    upright, skew, turned = (labels[name] for name in ("upright", "skew", "turned"))
    points, p = cloud(upright.structure, upright.grid, 4096)
    rho = at(upright, points)
    turn = np.linalg.solve(upright.grid.cell, turned.grid.cell)
    for other, there in ((skew, points), (turned, points @ turn)):
        assert np.abs((at(other, there) - rho) / p).mean() / 2 < 1e-5
        assert other.e_tot == pytest.approx(upright.e_tot, abs=5e-6)
        assert reference_density(other).integrate() == pytest.approx(2, abs=1e-5)


def test_points_in_a_skew_box(labels):
    found = labels["skew"]
    structure, grid = found.structure, found.grid
    points, p = cloud(structure, grid, 20000)
    inside = (points - grid.origin) @ np.linalg.inv(grid.cell)
    assert inside.min() >= 0 and inside.max() < 1
    assert (1 / p).mean() == pytest.approx(grid.volume, rel=0.02)
    assert (at(found, points) / p).mean() == pytest.approx(2, rel=0.005)
    # the same lattice and atoms, hence the same p, in the upright setting
    upright = labels["upright"].grid
    widths, shares = (0.5, 1.0, 1.8), (0.2, 0.4, 0.4)
    per_atom = np.full(2, 0.95 / 2)
    expected = np.full(50, 0.05 / grid.volume)
    for shift in np.stack(np.meshgrid(*[range(-2, 3)] * 3), -1).reshape(-1, 3) @ upright.cell:
        r2 = np.square(points[:50, None] - structure.positions - shift).sum(axis=-1)
        for s, share in zip(widths, shares, strict=True):
            expected += share * np.exp(-r2 / (2 * s * s)) @ per_atom / (2 * np.pi * s * s) ** 1.5
    np.testing.assert_allclose(p[:50], expected, rtol=1e-6)


def test_points_in_a_skew_box_never_change():
    """Shards may hold densities at these points: do not adapt these numbers."""
    structure = Structure(
        np.array([8, 1, 1]), [[0, 0, 0], [1.4, 1.1, 0], [-1.4, 1.1, 0]], 0, TRICLINIC
    )
    points, p = cloud(structure, Grid(np.zeros(3), TRICLINIC, (8, 8, 8)), 1536)
    np.testing.assert_allclose(points[[0, 700, 1535]], XYZ, atol=1e-9)
    np.testing.assert_allclose(p[[0, 700, 1535]], P, rtol=1e-6)


def test_training_points_of_stores_and_shards_give_the_error(labels, store, tmp_path):
    """Of an untrained network, against that on all nodes."""
    torch.manual_seed(0)
    network = Aspherical(AsphericalConfig(channels=4, layers=1, degree=2, hidden=8))
    pack([store], tmp_path / "a.shard")
    shard = {x.name: x for x in read_shards(tmp_path)}
    assert set(shard) == set(labels)
    exact = measure(labels["skew"], denser.Predictor("default", "cpu")).errors["sad"]
    for chosen in (labels, shard):
        points = Points([chosen["skew"]], "gth-szv-1e", torch.device("cpu"), network.config)[0]
        with torch.no_grad():
            zero = (points.weights * (points.rho - points.sad).abs()).sum()
        assert float(zero) == pytest.approx(exact, rel=0.04)
        assert float(points.error(network, slice(None)).detach()) > 0


@pytest.mark.parametrize("packed", [False, True], ids=["store", "shard"])
def test_a_step_of_training(store, tmp_path, packed):
    source = store
    if packed:
        source = tmp_path / "a.shard"
        pack([store], source)
    options = {"channels": 4, "layers": 1, "degree": 2, "hidden": 8}
    data = {
        "bf16": False,
        "data": {"labels": str(source), "validation": 0},
        "model": {"architecture": "aspherical", "options": options},
        "schedule": {"steps": 2},
        "sample": {"batch": 2, "points": 512},
    }
    model = load_model(train(from_dict(Config, data, "test"), tmp_path / "run"))
    assert sorted(model.info["train_names"]) == ["skew", "turned", "upright"]
    assert all(bool(torch.isfinite(x).all()) for x in model.network.parameters())


def test_networks_of_images_refuse_skew_boxes(labels):
    with pytest.raises(InputError, match="1 of 2 labels have another one, such as skew"):
        Images([labels["upright"], labels["skew"]], "gth-szv-1e", 0.0, torch.device("cpu"))


def test_distances_to_the_nearest_atom_in_a_skew_box(labels):
    """Of the error around elements, on nodes that both settings share."""
    n = 24
    found = {}
    for name, shape in (("upright", (n, n, n)), ("skew", (n, n, n))):
        structure = labels[name].structure
        found[name] = squared_distances(structure, Grid(np.zeros(3), structure.cell, shape))
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    for z, squared in found["upright"].items():
        there, near = squared[(i + j) % n, j], found["skew"][z]
        inside = np.minimum(there, near) < 36
        np.testing.assert_allclose(near[inside], there[inside], rtol=1e-5)


@pytest.mark.slow
def test_small_cells_are_repeated(tmp_path):
    """The label of a supercell at Gamma is that of the cell with PySCF's k points."""
    cell = np.array([[7.6, 0, 0], [1.0, 15.3, 0], [0, 0, 15.2]])
    places = np.array([[1.0, 2.0, 3.0], [2.3, 2.3, 3.4]])
    hydrogen = Structure(np.array([1, 1]), places, cell=cell)
    said: list[str] = []
    path, inputs = tmp_path / "a.db", [LabelInput("h2", hydrogen)]
    assert label(inputs, path, SETTINGS, 1, tell=said.append).labelled == 1
    assert said == ["h2: the cell is repeated 2 x 1 x 1 times, since labels are made at Gamma"]
    assert label(inputs, path, SETTINGS, 1).present == 1
    with LabelStore(path) as opened:
        found = opened.read("h2")
    np.testing.assert_allclose(found.grid.cell, cell * [[2], [1], [1]])
    nx, ny, nz = found.grid.shape
    small = build_cell(hydrogen, Grid(np.zeros(3), cell, (nx // 2, ny, nz)))
    mf = krks.KRKS(small, small.make_kpts([2, 1, 1]))
    mf.xc = "pbe"
    mf._numint = MultiGridNumInt(small)
    without_check_file(mf)
    mf.kernel()
    assert mf.converged
    assert found.e_tot / 2 == pytest.approx(mf.e_tot, abs=2e-6)
    theirs = mf._numint.get_rho(small, mf.make_rdm1(), mf.grids, kpts=mf.kpts)
    ours = reference_density(found).values[: nx // 2]
    assert np.abs(ours.ravel() - theirs).sum() < 1e-5 * theirs.sum()


def test_supercells_without_short_periods():
    assert repeats(np.diag([16.0, 7.0, 15.0]), LEAST_PERIOD) == (1, 3, 2)
    skew = np.array([[8.0, 0, 0], [8.0, 9.0, 0], [0, 0, 16.0]])
    assert shortest_period(skew) == pytest.approx(8.0)
    times = repeats(skew, LEAST_PERIOD)
    assert shortest_period(skew * np.array(times)[:, None]) > LEAST_PERIOD
    ion = Structure(np.array([3, 1]), [[0, 0, 0], [2, 2, 2.0]], 1, np.eye(3) * 8, spin=1)
    twice = ion.repeat((1, 2, 1))
    assert (twice.charge, twice.spin, len(twice)) == (2, 2, 4)
    np.testing.assert_allclose(twice.positions[2] - twice.positions[0], [0, 8, 0])
    with pytest.raises(InputError, match="without a cell"):
        replace(ion, cell=None).repeat((1, 2, 1))
