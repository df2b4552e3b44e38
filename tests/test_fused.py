"""Fused kernels, in Triton's interpreter on the CPU, against the plain functions."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from denser.model import fused
from denser.model.fused import fused_kernels, kernels

CPU = torch.device("cpu")


INTERPRETED = """
import torch
from denser.model import triton_kernels
from denser.model.fused import largest_difference

print(largest_difference(triton_kernels, torch.device("cpu")))
torch.manual_seed(0)
x, about = torch.randn(3, 16, 50), torch.randn(4, 5, 50)
weights = torch.randn(4, 16, 5).bfloat16().requires_grad_()
pairs = torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0, 2, 1])
found = triton_kernels.messages(x, weights, about, *pairs)
products = weights.float() @ about
expected = torch.zeros_like(x).index_add_(0, pairs[1], products * x[pairs[0]])
print(float((found - expected).detach().abs().max() / expected.detach().abs().max()))
one, other = (torch.autograd.grad(y.square().sum(), weights)[0].float() for y in (found, expected))
print(float((one - other).abs().max() / other.abs().max()))
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
def test_kernels_agree_with_the_plain_functions():
    """Messages, sums of Gaussians and their derivatives; then messages in bfloat16."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    single, rounded, gradient = map(float, done.stdout.split())
    assert single < 3e-5 and rounded < 1e-5 and gradient < 1e-2


def test_kernels_that_are_wrong_are_not_used(monkeypatch):
    """Nor without CUDA, or without Triton: then a sentence says why."""
    with fused_kernels(CPU) as sentence:
        assert "CUDA only" in sentence and kernels(torch.ones(1)) is None
    cuda = torch.device("cuda")
    monkeypatch.setitem(sys.modules, "denser.model.triton_kernels", None)  # cannot be imported
    with fused_kernels(cuda) as sentence:
        assert sentence.startswith("no fused kernels: ModuleNotFoundError")
    monkeypatch.setitem(sys.modules, "denser.model.triton_kernels", sys)
    for difference, used in ((1e-3, False), (float("nan"), False), (1e-6, True)):
        monkeypatch.setattr(fused, "largest_difference", lambda *_, d=difference: d)
        with fused_kernels(cuda) as sentence:
            assert (fused._kernels is sys) == used
            assert sentence.startswith("fused" if used else "no fused kernels: they differ by")
        assert fused._kernels is None
