import numpy as np
import pytest

from denser.analysis.crystal.fourier_sum import fourier_sum


def direct(values, first, theta):
    waves = [
        np.exp(1j * np.outer(theta[:, i], np.arange(n) + first[i]))
        for i, n in enumerate(values.shape)
    ]
    return np.einsum("xyz,nx,ny,nz->n", values, *waves, optimize=True)


@pytest.mark.parametrize("shape", [(11, 12, 9), (30, 41, 24), (1, 5, 2)])
def test_any_wave_vectors(shape):
    rng = np.random.default_rng(1)
    values, first = rng.normal(size=shape), np.array([-3.3, 20.2, -5.0])
    theta = rng.uniform(-np.pi, np.pi, (1500, 3))
    error = fourier_sum(values, first, theta) - direct(values, first, theta)
    assert np.abs(error).max() < 1e-6 * np.abs(values).sum()


def test_a_lattice_is_exact():
    rng = np.random.default_rng(2)
    values, first = rng.normal(size=(14, 9, 12)), np.array([0.25, -3.0, 1.7])
    k = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    theta = 2 * np.pi * k / 17.3
    np.testing.assert_allclose(
        fourier_sum(values, first, theta), direct(values, first, theta), atol=1e-11
    )
