"""Threads are chosen by the size of the work, unless the user chose them."""

import pytest
import torch
from ase.build import molecule

from denser.model import threads
from denser.model.aspherical import Aspherical
from denser.model.predictor import Predictor


@pytest.fixture
def three():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("set_by_user", "few", "used"), [(False, 60, 1), (False, 3, 3), (True, 60, 3)]
)
def test_a_small_molecule_gets_one_thread(set_by_user, few, used, monkeypatch):
    seen = []
    forward = Aspherical._forward

    def watched(self, graph):
        seen.append(torch.get_num_threads())
        return forward(self, graph)

    monkeypatch.setattr(Aspherical, "_forward", watched)
    monkeypatch.setattr(threads, "FEW", few)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
    Predictor().predict(molecule("H2O"), spacing=0.4)
    assert seen == [used]
    assert torch.get_num_threads() == 3
