"""Labels that are computed together, and one after the other."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from denser.labels.reading import read_label
from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.model.expansion import evaluate
from denser.model.graph import Graph
from denser.training.points import Points, errors_of
from denser.types.structure import Structure

REFERENCE = Path(__file__).parent / "reference" / "labels"


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

    together, of_spin = errors_of(network, sets, nodes, turns)
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
    turns = torch.eye(3).repeat(2, 1, 1)[:, [1, 0, 2]]
    with torch.no_grad():
        together = network(Graph.joined(graphs, turns))
        alone = torch.cat([network(graph) for graph in graphs])
    torch.testing.assert_close(together[..., 0], alone[..., 0], rtol=1e-5, atol=1e-7)
