"""Updates of weights, and steps that are left out."""

import copy

import pytest
import torch

from denser.model.aspherical import Aspherical
from denser.model.aspherical_config import AsphericalConfig
from denser.training.config import OptimizerConfig
from denser.training.muon import orthogonalise
from denser.training.optimizers import load_optimizers, optimizers_of
from denser.training.processes import Processes
from denser.training.updates import Latest, update

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)


@pytest.mark.parametrize("name", ["muon", "adamw", "adam"])
def test_a_step_that_is_not_finite_changes_nothing(name):
    """Weights, moments and numbers of steps are those of a run without this step."""
    torch.manual_seed(0)
    first = Aspherical(AsphericalConfig(channels=4, layers=2, degree=2, hidden=4))
    generator = torch.Generator().manual_seed(1)
    gradients = [
        [torch.randn(p.shape, generator=generator) for p in first.parameters()] for _ in range(3)
    ]
    gradients[1][5].flatten()[0] = torch.nan
    settings = OptimizerConfig(name, lr=0.01, weight_decay=0.1)
    ends = []
    for which in ((0, 1, 2), (0, 2)):
        network = copy.deepcopy(first)
        optimizers = optimizers_of(settings, network)
        latest = Latest(CPU)
        for k in which:
            for p, gradient in zip(network.parameters(), gradients[k], strict=True):
                p.grad = gradient.clone()
            latest.add(update(network, optimizers, None, torch.tensor(0.5), 1.0, ALONE), [str(k)])
        assert latest.many
        read = latest.read()
        assert [names for *_, names in read] == [[str(k)] for k in which]
        assert [norm == norm for _, norm, _ in read] == [k != 1 for k in which]
        assert latest.read() == []
        ends.append((network, optimizers))
    for one, other in zip(ends[0][0].parameters(), ends[1][0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    for one, other in zip(ends[0][1], ends[1][1], strict=True):
        states = [optimizer.state_dict()["state"] for optimizer in (one, other)]
        assert states[0].keys() == states[1].keys() and states[0]
        for key, moments in states[0].items():
            for moment, value in moments.items():
                torch.testing.assert_close(value, states[1][key][moment], rtol=0, atol=0)
    again = optimizers_of(settings, ends[0][0])
    saved = [optimizer.state_dict() for optimizer in ends[0][1]]
    for state in saved:  # as an earlier version wrote it
        for group in state["param_groups"]:
            if "fused" in group:
                group["fused"] = None
    load_optimizers(again, saved)
    assert all(group.get("fused", True) for x in again for group in x.param_groups)


def test_matrices_are_orthogonalised_each_for_itself():
    torch.manual_seed(0)
    for shape in ((5, 12, 7), (5, 7, 12)):
        matrices = torch.randn(shape) * torch.tensor([1e-3, 1.0, 5.0, 100.0, 0.1])[:, None, None]
        together = orthogonalise(matrices)
        alone = torch.stack([orthogonalise(matrix) for matrix in matrices])
        # the processor may round to bfloat16 in another order
        torch.testing.assert_close(together, alone, rtol=0, atol=0.02)
        values = torch.linalg.svdvals(together)
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3
