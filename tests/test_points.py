"""Labels that are computed together, and one after the other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from denser.labels.packed import read_shard
from denser.labels.reading import read_label
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.expansion import evaluate
from denser.model.graph import Graph
from denser.model.l1_distance import Cloud
from denser.model.precision import fast_bf16
from denser.training.flat import FlatLabels
from denser.training.point_sets import errors_of
from denser.training.points import Points
from denser.training.set_up import Wanted, Workers, made_ready
from denser.types.structure import Structure

REFERENCE = Path(__file__).parent / "reference" / "labels"
ROOT = Path(__file__).parents[1]


def test_labels_together_have_the_errors_and_gradients_of_each_alone():
    """Rotated, with electrons and far atoms in the input, and harmonics above the features'."""
    torch.manual_seed(0)
    options = {"electrons": 3, "reach": 10.0, "output_degree": 5, "exponents": (0.3, 5.0, 1.1)}
    network = Aspherical(AsphericalConfig(channels=8, layers=2, degree=2, hidden=8, **options))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.03 * torch.randn_like(p))
    labels = [read_label(REFERENCE / f"{name}.npz") for name in ("H2CO", "CH4", "H2O")]
    points = Points(labels, "gth-szv-1e", torch.device("cpu"), network.config)
    sets = [points[i] for i in range(3)]
    nodes = [slice(5, None, 64), slice(0, None, 80), slice(1, None, 96)]
    rng = np.random.default_rng(0)
    turns = torch.tensor(np.stack([np.linalg.qr(rng.normal(size=(3, 3)))[0] for _ in sets])).float()
    weights = torch.tensor([0.5, 2.0, 1.0])

    def gradient(errors):
        parts = torch.autograd.grad((weights * errors).sum(), list(network.parameters()))
        return torch.cat([part.ravel() for part in parts])

    together, of_spin = errors_of(network, sets, nodes, turns.numpy())
    assert of_spin is None
    alone = []
    for found, chosen, turn in zip(sets, nodes, turns, strict=True):
        coefficients = network(found.graph.turned(turn))
        displacements = (found.nodes[chosen] - found.images[:, None]) @ turn
        delta = evaluate(coefficients, network.exponents, displacements, found.parents)
        error = (found.rho - found.sad)[chosen] - delta
        scale = len(found.nodes) / len(error)
        alone.append(scale * (found.weights[chosen] * error.abs()).sum())
    expected = torch.stack(alone)
    torch.testing.assert_close(together, expected, rtol=2e-5, atol=0)
    one, other = gradient(together), gradient(expected)
    assert float((one - other).norm()) < 1e-4 * float(other.norm())


def test_lone_atoms_together():
    """They have no pairs to turn."""
    torch.manual_seed(0)
    network = Aspherical(AsphericalConfig(channels=8, layers=1, hidden=8, electrons=1, reach=10.0))
    ions = [Structure.of(Atoms(symbol), charge) for symbol, charge in (("O", -2), ("F", -1))]
    graphs = [Graph.of(ion, None, network.config) for ion in ions]
    turns = np.eye(3)[[1, 0, 2]][None].repeat(2, axis=0)
    flat = FlatLabels(network.config, torch.device("cpu"))
    places = [flat.add(graph) for graph in graphs]
    point, one = torch.ones(1, 3), torch.ones(1)
    where = (1, torch.zeros(1, 3), torch.tensor([0]), network.config.exponents, 4)
    clouds = [flat.clouds.add(Cloud.of(point, one, one, *where)) for _ in graphs]
    with torch.no_grad():
        together = network(flat.batch(places, clouds, turns).graph)
        alone = torch.cat([network(graph) for graph in graphs])
    torch.testing.assert_close(together[..., 0], alone[..., 0], rtol=1e-5, atol=1e-7)


def test_crystals_and_open_shells_are_computed_with_the_others():
    """Errors of a batch of six unlike labels, and their gradient, are those of each alone."""
    torch.manual_seed(0)
    labels = {x.name: x for x in read_shard(ROOT / "data" / "labels-0011.shard").labels}
    shells = [x for x in labels.values() if x.structure.spin and x.structure.cell is None][:2]
    closed = [x for x in labels.values() if not x.structure.spin and x.structure.cell is None][:3]
    chosen = [labels["crystal_hf_b_c95"], *shells, *closed]
    elements = tuple(sorted({int(z) for x in chosen for z in x.structure.numbers}))
    options = {"electrons": 2, "reach": 10.0, "spin": 4, "exponents": (0.3, 5.0, 1.1)}
    config = AsphericalConfig(elements, channels=8, layers=2, degree=2, hidden=8, **options)
    network = Aspherical(config)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.03 * torch.randn_like(p))
    points = Points(chosen, "gth-szv-1e", torch.device("cpu"), config)
    places = [points.place(i, Wanted(512, 2)) for i in range(len(chosen))]
    assert [len(clouds) for _, clouds in places] == [2] * 6
    which = [0, 1, 1, 0, 1, 0]
    rng = np.random.default_rng(0)
    turns = np.linalg.qr(rng.normal(size=(6, 3, 3)))[0]
    batch = points.flat.batch(
        [label for label, _ in places],
        [clouds[k] for (_, clouds), k in zip(places, which, strict=True)],
        turns,
    )
    found, of_spin = batch.errors(network)
    expected, expected_spin = [], []
    for i, (k, turn) in enumerate(zip(which, turns, strict=True)):
        one, turn = points[i], torch.as_tensor(turn).float()
        coefficients, spin = network.coefficients(one.graph.turned(turn))
        every = len(one.nodes) // 512
        some = slice(k * every // 2, None, every)
        displacements = (one.nodes[some] - one.images[:, None]) @ turn
        weights = one.weights[some] * (len(one.nodes) / len(one.nodes[some]))
        where = (network.exponents, displacements, one.parents)
        target = (one.rho - one.sad)[some]
        expected.append((weights * (evaluate(coefficients, *where) - target).abs()).sum())
        m = torch.zeros(()) if one.spin is None else one.spin[some]
        of_m = torch.zeros(()) if spin is None else evaluate(spin, *where)
        expected_spin.append((weights * (of_m - m).abs()).sum())
    assert [float(x.detach()) > 0 for x in expected_spin] == [
        False,
        True,
        True,
        False,
        False,
        False,
    ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=3e-5, atol=1e-6)
    torch.testing.assert_close(of_spin, torch.stack(expected_spin), rtol=3e-5, atol=1e-6)

    def gradient(errors, spins):
        total = (errors + spins).sum()
        parts = torch.autograd.grad(total, list(network.parameters()), allow_unused=True)
        return torch.cat([part.ravel() for part in parts if part is not None])

    one, other = (
        gradient(found, of_spin),
        gradient(torch.stack(expected), torch.stack(expected_spin)),
    )
    assert float((one - other).norm()) < 1e-4 * float(other.norm())


def test_workers_make_the_labels_that_a_process_makes_itself():
    labels = [read_label(REFERENCE / f"{name}.npz") for name in ("H2CO", "CH4", "H2O")]
    config = AsphericalConfig(channels=4, layers=1, degree=2, hidden=4, electrons=1)
    wanted = Wanted(512, 2)
    own, shared = (Points(labels, "gth-szv-1e", torch.device("cpu"), config) for _ in range(2))
    workers = Workers(1, "gth-szv-1e", config)
    try:
        shared.begin(workers, [2, 0, 1], wanted)
        assert workers.waiting == 3
        batches = []
        for points in (own, shared):
            places = [points.place(i, wanted) for i in range(3)]
            batches.append(points.flat.batch([x for x, _ in places], [c[1] for _, c in places]))
        assert workers.waiting == 0
    finally:
        workers.stop()
    for part in ("graph", "cloud"):
        one, other = (vars(getattr(batch, part)) for batch in batches)
        for key, value in one.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, other[key], rtol=0, atol=0)


def test_bfloat16_rounds_filters_and_mixing_only(ethanol):
    """Where the processor has it: coefficients change by less than a hundredth, and not by zero."""
    if not fast_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bfloat16")
    torch.manual_seed(0)
    network = Aspherical(AsphericalConfig(channels=16, layers=2, hidden=16, electrons=1))
    with torch.no_grad():
        for head in network.heads:
            head.copy_(torch.randn_like(head))
    graph = Graph.of(ethanol, None, network.config)
    exact = network(graph)
    network.use_bf16(True)
    rounded = network(graph)
    assert rounded.dtype == torch.float32
    far = float((rounded - exact).detach().norm() / exact.detach().norm())
    assert 1e-5 < far < 1e-2
    assert torch.autograd.grad(rounded.square().sum(), network.mix[0].weight)[0].abs().sum() > 0


def test_a_step_does_not_wait_for_the_device():
    """On a device without values, whatever the host would have to read is an error."""
    labels = [read_label(REFERENCE / f"{name}.npz") for name in ("H2CO", "CH4", "H2O")]
    exponents = {"exponents": (0.3, 5.0, 1.1), "diffuse": (0.1,)}
    config = AsphericalConfig(
        channels=8, layers=2, hidden=8, electrons=2, reach=10.0, output_degree=5, **exponents
    )
    nowhere = torch.device("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device=nowhere).sum().item()
    flat, network = FlatLabels(config, nowhere), Aspherical(config).to(nowhere)
    places = []
    for i, label in enumerate(labels):
        ready = made_ready(label, "gth-szv-1e", config, (0, i), Wanted(256, 1))
        places.append((flat.add(ready.graph), flat.clouds.add(ready.clouds[0])))
    turns = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3, 3)))[0]
    errors, of_spin = flat.batch(*zip(*places, strict=True), turns).errors(network)
    errors.sum().backward()
    assert errors.shape == (3,) and of_spin is None
    assert network.mix[0].weight.grad.shape == network.mix[0].weight.shape
