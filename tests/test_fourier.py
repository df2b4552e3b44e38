import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denser.fields.fourier import resample


def wave(shape, modes):
    x, y, z = np.meshgrid(*[np.arange(n) / n for n in shape], indexing="ij")
    return sum(
        c * np.cos(2 * np.pi * (i * x + j * y + k * z) + phase) for i, j, k, c, phase in modes
    )


def test_band_limited_fields_are_exact_on_any_grid():
    modes = [(1, 2, -3, 0.7, 0.3), (0, 0, 0, 1.5, 0.0), (-2, 1, 0, 0.2, 1.1)]
    small, large = (8, 9, 10), (11, 16, 12)
    np.testing.assert_allclose(resample(wave(small, modes), large), wave(large, modes), atol=1e-12)
    np.testing.assert_allclose(resample(wave(large, modes), small), wave(small, modes), atol=1e-12)


@given(st.tuples(*[st.integers(2, 9)] * 3), st.tuples(*[st.integers(0, 5)] * 3))
def test_up_and_down_again_is_the_identity(shape, extra):
    values = np.random.default_rng(1).random(shape)
    larger = tuple(n + e for n, e in zip(shape, extra, strict=True))
    np.testing.assert_allclose(resample(resample(values, larger), shape), values, atol=1e-12)


@given(st.tuples(*[st.integers(2, 9)] * 3), st.tuples(*[st.integers(0, 5)] * 3))
def test_refining_keeps_the_integral(shape, extra):
    values = np.random.default_rng(2).random(shape)
    finer = resample(values, tuple(n + e for n, e in zip(shape, extra, strict=True)))
    assert finer.mean() == pytest.approx(values.mean())


def test_coarsening_by_a_whole_number_keeps_the_values_at_the_nodes():
    values = np.random.default_rng(3).random((12, 9, 8))
    np.testing.assert_allclose(resample(values, (6, 3, 2)), values[::2, ::3, ::4], atol=1e-12)


def test_a_resolved_positive_function_stays_positive():
    x = np.linspace(-6, 6, 96, endpoint=False)
    r2 = x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2
    values = np.exp(-3 * r2)
    assert resample(values, (41, 40, 39)).min() > -1e-12
