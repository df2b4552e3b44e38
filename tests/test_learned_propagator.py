"""The example of a learned propagator: what it conserves, what it learns, that it continues."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

SCRIPT = Path(__file__).parents[1] / "examples" / "learned_propagator.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("learned_propagator", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def linear(example):
    """A propagator with any kernel, and the matrix of its equations."""
    rng = np.random.default_rng(4)
    gaps = rng.uniform(0.3, 2, size=12)
    k = rng.normal(size=(12, 12)) * 0.02
    k = k + k.T
    x = rng.normal(size=12) + 1j * rng.normal(size=12)
    return example.LinearPropagator(gaps, k), np.diag(gaps), np.diag(gaps) + 4 * k, x


def test_propagator_solves_its_equations(linear):
    propagator, d, stiff, x = linear
    h = 1e-4
    before, now, after = propagator.carry(x, np.array([5 - h, 5, 5 + h]))
    assert np.allclose(1j * (after - before) / (2 * h), stiff @ now.real + 1j * d @ now.imag)
    assert np.allclose(propagator.carry(x, np.array([0.0]))[0], x)


def test_energy_is_conserved_and_time_reversed(linear):
    propagator, d, stiff, x = linear

    def energy(x):
        return x.imag @ d @ x.imag + x.real @ stiff @ x.real

    far = propagator.carry(x, np.array([1000.0]))[0]
    assert energy(far) == pytest.approx(energy(x), rel=1e-10)
    assert np.allclose(propagator.carry(far.conj(), np.array([1000.0]))[0], x.conj())


def test_an_unstable_kernel_is_refused(example):
    with pytest.raises(ValueError, match="unstable"):
        example.LinearPropagator(np.ones(3), -np.eye(3))


def test_kernel_turns_with_the_molecule(example):
    torch.manual_seed(1)
    network = example.Kernel()
    torch.nn.init.normal_(network.layers[-1].weight)
    rng = np.random.default_rng(1)
    turn = torch.tensor(Rotation.random(rng=2).as_matrix(), dtype=torch.float32)
    full = torch.block_diag(torch.ones(1, 1), turn)
    rho = torch.tensor(np.abs(rng.normal(size=(4, 30))) + 0.05, dtype=torch.float32)
    with torch.no_grad():
        f, turned = network(rho), network(full @ rho)
    assert f.abs().max() > 0.1
    assert torch.allclose(turned, torch.einsum("ab,bcg,dc->adg", full, f, full), atol=1e-3)


def test_decomposition_continues_a_linear_motion(linear, example):
    propagator, *_, x = linear
    rng = np.random.default_rng(0)
    starts = [x, rng.normal(size=12) + 1j * rng.normal(size=12)]
    runs = np.array([propagator.carry(x, 0.5 * np.arange(200)) for x in starts])
    assert np.allclose(example.decomposed(runs[:, :40], 200), runs, atol=1e-4)


def test_short_form_learns_and_continues(example, as_main, tmp_path):
    code, out, err = as_main(SCRIPT, tmp_path, "--short")
    assert code == 0 and "epoch" in out, err
    results = json.loads((tmp_path / "short" / "results.json").read_text())["distorted_H2"]
    along = {name: r["shifts_ev"][-1] for name, r in results.items() if isinstance(r, dict)}
    # along the bond one peak, which without exchange and correlation is more than 1 eV too high
    assert along["coulomb"] > 1 and along["learned"] < 0.1
    assert along["linear response"] < 0.01 and along["decomposition 0.2 fs"] < 0.01
    assert results["learned"]["errors"][-1] < 0.1 and results["coulomb"]["errors"][-1] > 0.5

    # eight steps at once of a geometry that was not learned from, beside no change and a line
    label, atoms = next(example.tests(example.SHORT))
    made, _ = example.ground_state(tmp_path / "short" / f"{label}.npz", atoms)
    network = example.Kernel()
    network.load_state_dict(torch.load(tmp_path / "short" / "network.pt"))
    pairs = example.Pairs(made)
    propagator = example.LinearPropagator(pairs.gaps, pairs.kernel(network.of(pairs)))
    with np.load(tmp_path / "short" / f"{label}_z.npz") as file:
        x = file["x"].reshape(len(file["x"]), -1)
    guesses = [
        propagator.carry(x[20], np.array([8 * example.STEP]))[0],
        x[20],
        x[20] + 8 * (x[20] - x[19]),
    ]
    ours, same, line = (np.linalg.norm(guess - x[28]) for guess in guesses)
    assert ours < 0.2 * min(same, line)

    code, out, err = as_main(SCRIPT, tmp_path, "--short")
    assert code == 0 and "epoch" not in out, err
