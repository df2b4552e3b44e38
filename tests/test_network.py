"""The contract of `denser.model.network`: what every network keeps, on molecules of a few atoms."""

from __future__ import annotations

import pickle
from copy import deepcopy
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from denser.atoms.sad import superposition
from denser.fields.cube_group import CubeOperation, window
from denser.labels.reading import read_label
from denser.model.checkpoint import ARCHITECTURES, Model, build, load_model, shipped_models
from denser.model.derivatives import prediction_pullback
from denser.model.predictor import Predictor
from denser.training.beginning import samples_of
from denser.training.config import Config, SampleConfig, ScheduleConfig, from_dict
from denser.training.processes import Processes
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import BOHR

LABEL = Path(__file__).parent / "reference" / "labels" / "H2O.npz"
CUDA = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    ],
)


def paper() -> Model:
    """The paper's network, small and untrained."""
    torch.manual_seed(0)
    options = {"channels": 4, "kernel": 3, "blocks": 1, "stages": 1}
    return Model("paper", "resnet", build("resnet", options).eval(), Recipe())


def unet() -> Model:
    """A small U-Net that changes the SAD a little, as a trained one does."""
    torch.manual_seed(3)
    options = {"channels": [8, 8, 8], "blocks": [1, 1, 1], "decoder_blocks": [1, 1]}
    network = build("unet", options)
    torch.nn.init.normal_(network.head.weight, std=0.003)
    return Model("unet", "unet", network.eval(), Recipe())


SMALL = {"unet": unet, "paper": paper}
"""Models of architectures of which none is shipped."""


@pytest.fixture(scope="module", params=[*shipped_models(), *SMALL])
def model(request) -> Model:
    return SMALL[request.param]() if request.param in SMALL else load_model(request.param)


@pytest.fixture(scope="module", params=["cpu", CUDA])
def predictor(request, model) -> Predictor:
    return Predictor(model, request.param, bf16=False)


@pytest.fixture(scope="module")
def water() -> Structure:
    return Structure.of(molecule("H2O"))


@pytest.fixture
def sad(water):
    """Water on a coarse grid with sides of three lengths."""
    grid = Grid(water.positions.mean(axis=0) - [4.0, 6.0, 8.0], np.diag([8.0, 12.0, 16.0]), SHAPE)
    return superposition(water, grid)


SHAPE = (16, 24, 32)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Sum |a - b| / sum b."""
    return float(np.abs(a.astype(float) - b).sum() / b.sum(dtype=float))


def test_every_architecture_is_tested_here():
    models = [*map(load_model, shipped_models()), *(make() for make in SMALL.values())]
    assert {model.architecture for model in models} == set(ARCHITECTURES)


def test_what_it_says_of_its_weights_is_true_of_them(model):
    network = model.network
    names = [name for name, _ in network.named_parameters()]
    for pattern in (*(f"{edge}*" for edge in network.edges), *network.step_sizes):
        if network.spins or not pattern.startswith("spin."):
            assert any(fnmatchcase(name, pattern) for name in names), pattern
    tuning = from_dict(Config, {"schedule": {"steps": 1}} | network.fine_tuning, "here")
    assert tuning.optimizer.lr <= 1e-3
    again = type(network)(type(network.config)(**network.sizes))
    assert again.config == network.config


def test_sizes_stay_unless_it_can_grow(model):
    network = model.network
    assert network.grown({}).state_dict().keys() == network.state_dict().keys()
    name = "channels" if "channels" in network.sizes else next(iter(network.sizes))
    was = getattr(network.config, name)
    for same in (was, list(was) if isinstance(was, tuple) else was):
        grown = network.grown({name: same})
        assert grown.config == network.config
    other = [2 * n for n in was] if isinstance(was, tuple) else 2 * was
    with pytest.raises(InputError, match=f"a trained network keeps its {name}"):
        network.grown({name: other})


@pytest.mark.parametrize(("atoms", "charge", "n"), [("HF", 0, 8), ("OH", -1, 8), ("H2O", 0, 8)])
def test_a_density_holds_its_electrons_and_is_not_negative(predictor, atoms, charge, n):
    rho = predictor.predict(molecule(atoms), charge, padding=2.0).density
    assert rho.integrate() == pytest.approx(n, abs=2e-6)
    assert rho.values.min() >= 0 and np.isfinite(rho.values).all()
    assert rho.values.dtype == np.float32
    assert all(size % predictor.network.multiple_of == 0 for size in rho.grid.shape)


def test_raw_densities_are_of_the_grid_and_on_the_device(predictor, sad):
    raw = predictor.network.raw_density(sad, True)
    assert raw.shape == SHAPE and raw.dtype == torch.float32
    assert raw.device.type == predictor.network.device.type == predictor.device.type
    odd = superposition(sad.structure, Grid(sad.grid.origin, sad.grid.cell, (15, 23, 31)))
    if predictor.network.any_shape:
        assert predictor.network.raw_density(odd, False).shape == (15, 23, 31)
    else:
        with pytest.raises(InputError, match="not divisible"):
            predictor.network.raw_density(odd, False)


def test_values_at_a_node_do_not_depend_on_the_others(predictor, sad):
    if not predictor.network.any_spacing:
        pytest.skip("it works on the grid of its training only")
    coarse = superposition(sad.structure, sad.grid.coarsen(2))
    # each was scaled to N_e, which sums over few nodes miss
    scale = sad.values[::2, ::2, ::2].sum() / coarse.values.sum()
    fine = predictor.raw(sad).cpu().numpy()[::2, ::2, ::2]
    found = predictor.raw(coarse).cpu().numpy() + (scale - 1) * coarse.values
    assert difference(found, fine) < 1e-3


def test_padding_does_not_matter(predictor):
    if not predictor.network.local:
        pytest.skip("it sees the whole box")
    fluoride = Structure.of(molecule("HF"))
    grid = Grid.around(fluoride, 3.5 / BOHR, predictor.model.recipe.spacing)
    more = 8
    wide = Grid(
        grid.origin - more * grid.spacing,
        np.diag((np.array(grid.shape) + 2 * more) * grid.spacing),
        tuple(n + 2 * more for n in grid.shape),
    )
    narrow, wider = (predictor.density(superposition(fluoride, g)).values for g in (grid, wide))
    assert difference(wider[(slice(more, -more),) * 3], narrow) < 5e-4


def test_distant_molecules_add_up(predictor):
    if not predictor.network.local:
        pytest.skip("it sees the whole box")
    one, other = molecule("HF"), molecule("H2")
    one.rotate(20, "x")
    other.translate([0.4, -0.3, 15.0])
    both = Structure.of(one + other)
    grid = Grid.around(both, 2.0 / BOHR, 0.28)
    alone = sum(
        predictor.density(superposition(Structure.of(atoms), grid)).values for atoms in (one, other)
    )
    rho = predictor.density(superposition(both, grid)).values
    assert difference(rho, alone) < 5e-4


def test_an_average_over_a_group_of_operations_has_its_symmetry(predictor, sad):
    """A molecule with two axes exchanged and one mirrored gets such a density; else, nearly."""
    operation = CubeOperation((1, 0, 2), (1, 1, -1))  # its own inverse: a group of two
    grid = sad.grid
    turned_grid = Grid(np.zeros(3), grid.cell[[1, 0, 2]][:, [1, 0, 2]], (24, 16, 32))
    positions = (sad.structure.positions - grid.origin) @ operation.matrix.T
    turned = superposition(Structure(sad.structure.numbers, positions), turned_grid)

    def change(operations: list[CubeOperation]) -> float:
        rho, again = (predictor.network.raw_density(s, True, operations) for s in (sad, turned))
        back = window(again, operation=operation)
        return difference(back.cpu().numpy(), rho.cpu().numpy())

    assert change([CubeOperation(), operation]) < 1e-5
    assert change([CubeOperation()]) > 1e-7


@pytest.mark.parametrize("periodic", [False, True])
def test_the_pullback_is_the_derivative_of_the_density(predictor, periodic):
    structure = Structure.of(Atoms("H2", [(0, 0, 0), (0.05, 0.0, 0.80)]))
    grid = Grid.around(structure, 4.0, 0.28, multiple_of=4)
    from_there = grid.points() - structure.positions[0] - [0.5, 0.2, -0.3]
    field = np.exp(-(from_there**2).sum(axis=-1) / 4)
    direction = np.random.default_rng(1).normal(size=structure.positions.shape)

    def found(h: float) -> float:
        moved = Structure(structure.numbers, structure.positions + h * direction)
        rho = predictor.density(superposition(moved, grid), periodic)
        return float(np.vdot(field, rho.values.astype(float)))

    # Instance norms of the untrained network amplify rounding, and its kinks lie close.
    step, tolerance = (0.02, 1e-3) if predictor.network.local else (0.00125, 0.1)
    a, b, c, d = (found(n * step) for n in (-2, -1, 1, 2))
    expected = (8 * (c - b) - (d - a)) / (12 * step)
    ours = prediction_pullback(predictor, superposition(structure, grid), field, periodic)
    assert ours.shape == (2, 3)
    assert abs(expected) > 1
    assert np.vdot(ours, direction) == pytest.approx(expected, rel=tolerance)


def test_an_average_over_copies_has_no_pullback(predictor, sad):
    averaged = Predictor(predictor.model, "cpu", bf16=False, average=2)
    with pytest.raises(InputError, match="averages over 2 copies of the molecule"):
        prediction_pullback(averaged, sad, np.ones(SHAPE))


def test_copies_give_the_same_density_and_are_their_own(predictor, sad):
    network = predictor.network
    before = network.raw_density(sad, True)
    for copy in (deepcopy(network), pickle.loads(pickle.dumps(network))):
        torch.testing.assert_close(copy.raw_density(sad, True), before, rtol=0, atol=0)
        with torch.no_grad():
            for parameter in copy.parameters():
                parameter.zero_()
    torch.testing.assert_close(network.raw_density(sad, True), before, rtol=0, atol=0)


def test_predictors_on_two_devices_do_not_disturb_each_other(model, predictor, sad):
    before = predictor.density(sad, True).values
    other = Predictor(model, "meta")
    assert {p.device.type for p in other.network.parameters()} == {"meta"}
    assert {p.device.type for p in predictor.network.parameters()} == {predictor.device.type}
    assert {p.device.type for p in model.network.parameters()} == {"cpu"}
    np.testing.assert_array_equal(predictor.density(sad, True).values, before)


def test_it_learns_from_its_kind_of_samples(model, predictor):
    network = deepcopy(predictor.network).requires_grad_(True)
    config = Config(
        schedule=ScheduleConfig(steps=9), sample=SampleConfig(crop=16, margin=0, points=256)
    )
    device = predictor.device
    samples = samples_of(config, [read_label(LABEL)], network, device)
    peers = Processes(0, 1, device)
    loss, names = samples.backward(network, config, 0, 0.0, 1, peers)
    assert 0 < loss < 10 and names == ["H2O"]
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(g).all()) for g in gradients)
    assert any(bool((g != 0).any()) for g in gradients)
