"""The L1 distance of sums of Gaussians from a known density at points."""

import numpy as np
import pytest
import torch

from denser.model import l1_distance
from denser.model.expansion import evaluate
from denser.model.l1_distance import Cloud, l1_distances
from denser.training.flat import FlatClouds

EXPONENTS = (0.16, 0.64, 0.32, 10.24, 2.0)


def molecule(seed, n_atoms=4, n_points=150, degree=3):
    """Coefficients and cloud of points around atoms and one image, all in float64."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    images = 3 * random(n_atoms + 1, 3)
    parents = torch.tensor([*range(n_atoms), 0])
    points = images[torch.arange(n_points) % n_atoms] + 2 * random(n_points, 3)
    target, weights = 0.1 * random(n_points), random(n_points).abs()
    coefficients = random(n_atoms, len(EXPONENTS), (degree + 1) ** 2)
    where = (n_atoms, images, parents)
    cloud = Cloud.of(points, target, weights, *where, EXPONENTS, degree)
    return coefficients, cloud, points - images[:, None], parents, target, weights


@pytest.mark.parametrize("at_once", [64, 1 << 14])
def test_distance_and_its_gradient_are_those_of_delta_at_points(monkeypatch, at_once):
    """Of three molecules of different sizes at once; each has its own distance."""
    monkeypatch.setattr(l1_distance, "_AT_ONCE", at_once)
    monkeypatch.setattr(l1_distance, "NEGLIGIBLE", 1e-12)
    l1_distance._reaches.cache_clear()
    cases = [molecule(seed, n, p) for seed, n, p in ((0, 4, 150), (1, 1, 7), (2, 6, 70))]
    exponents = torch.tensor(EXPONENTS, dtype=torch.float64)
    flat = FlatClouds(len(EXPONENTS), torch.device("cpu"))
    n_atoms = np.array([len(case[0]) for case in cases])
    first = torch.tensor(np.cumsum(n_atoms) - n_atoms)
    places = [flat.add(cases[i][1]) for i in (2, 0, 1)]  # in another order
    joined, _ = flat.joined([places[i] for i in (1, 2, 0)], n_atoms, first)
    plain = [case[0].clone().requires_grad_() for case in cases]
    expected = torch.stack(
        [
            (weights * (evaluate(c, exponents, d, parents) - target).abs()).sum()
            for c, (_, _, d, parents, target, weights) in zip(plain, cases, strict=True)
        ]
    )
    made = torch.cat([case[0] for case in cases]).requires_grad_()
    found = l1_distances(made, EXPONENTS, joined)
    torch.testing.assert_close(found, expected)
    scales = torch.tensor([3.0, 0.5, 2.0], dtype=torch.float64)
    expected.backward(scales)
    found.backward(scales)
    torch.testing.assert_close(made.grad, torch.cat([c.grad for c in plain]))
    with torch.no_grad():
        again = l1_distances(made[: n_atoms[0]], EXPONENTS, cases[0][1])
    assert not again.requires_grad
    torch.testing.assert_close(again, expected[:1].detach())
    l1_distance._reaches.cache_clear()


def test_what_is_left_out_is_negligible():
    """Fewer than half of the terms are evaluated, and the distance is the same."""
    coefficients, cloud, d, parents, target, weights = molecule(3, 12, 800)
    exponents = torch.tensor(EXPONENTS, dtype=torch.float64)
    expected = (weights * (evaluate(coefficients, exponents, d, parents) - target).abs()).sum()
    torch.testing.assert_close(
        l1_distances(coefficients, EXPONENTS, cloud)[0], expected, rtol=1e-4, atol=0
    )
    evaluated = sum(cloud.members.shape[1] * int(m) for m in cloud.reaching)
    assert evaluated < 0.5 * d[..., 0].numel() * len(EXPONENTS)


def test_points_out_of_reach_of_all_atoms_keep_their_target():
    coefficients = torch.ones(1, 1, 1)
    where = (1, torch.zeros(1, 3), torch.tensor([0]))
    points = torch.tensor([[90.0, 0.0, 0.0], [0.0, 80.0, 0.0]])
    target, weights = torch.tensor([2.0, -3.0]), torch.tensor([1.0, 10.0])
    cloud = Cloud.of(points, target, weights, *where, (1.0,), 0)
    assert l1_distances(coefficients, (1.0,), cloud).tolist() == [32.0]
