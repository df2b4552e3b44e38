"""Messages: what is heard, and its gradients, against the sum written out."""

import pytest
import torch

import denser.model.messages
from denser.model.messages import messages


@pytest.mark.parametrize("at_a_time", [1, 2, 100])
def test_messages_and_their_gradients_are_those_of_the_sum(monkeypatch, at_a_time):
    monkeypatch.setitem(denser.model.messages._PAIRS, "cpu", at_a_time)
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    features, weights, shapes = random(3, 2, 4), random(5, 2, 3), random(5, 3, 4)
    senders, receivers = torch.tensor([1, 2, 2, 0, 1]), torch.tensor([0, 0, 1, 1, 0])
    heard = messages(features, weights, shapes, senders, receivers)
    for atom in range(3):
        expected = sum(
            (features[senders[pair]] * (weights[pair] @ shapes[pair])).detach()
            for pair in range(5)
            if receivers[pair] == atom
        )
        torch.testing.assert_close(heard[atom], expected + torch.zeros(2, 4).double())
    assert torch.autograd.gradcheck(
        lambda *x: messages(*x, senders, receivers), (features, weights, shapes)
    )


def test_an_atom_alone_hears_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    heard = messages(torch.ones(1, 2, 4), torch.ones(0, 2, 3), torch.ones(0, 3, 4), none, none)
    assert heard.shape == (1, 2, 4) and not heard.any()
