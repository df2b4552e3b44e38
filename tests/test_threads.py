"""Threads are chosen by the size of the work and the free cores, unless the user chose them."""

import os
import subprocess
import sys
from pathlib import Path

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
    monkeypatch.setattr(threads, "others_running", lambda: (os.cpu_count() or 1) - 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_user:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
    Predictor().predict(molecule("H2O"), spacing=0.4)
    assert seen == [used]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three")
@pytest.mark.skipif(not Path("/proc/loadavg").exists(), reason="only Linux says what runs")
def test_a_busy_machine_gets_one_thread(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    busy = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    try:
        for process in busy:
            assert process.stdout is not None and process.stdout.readline()
        assert threads.others_running() >= len(busy)
        with threads.paying_threads(1000):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        for process in busy:
            process.kill()
            process.communicate()
