import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denser import Grid
from denser.density import Field
from denser.fourier import resample, resample_field


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


@given(st.tuples(*[st.integers(2, 9)] * 3), st.tuples(*[st.integers(2, 9)] * 3))
def test_the_integral_is_kept(shape, other):
    values = np.random.default_rng(2).random(shape)
    field = Field(Grid([0, 0, 0], np.diag([1.0, 2.0, 3.0]), shape), values)
    assert resample_field(field, other).integrate() == pytest.approx(field.integrate())
