"""Figures of many molecules: what ends up in the files."""

import numpy as np
import pytest
from PIL import Image

from denser.pictures import distributions as figures
from denser.pictures.distributions import COLOURS, plot_distribution
from denser.types.errors import InputError


@pytest.fixture
def errors():
    rng = np.random.default_rng(0)
    means = {"model": -4.6, "SAD": -2.0, "atrocious SAD": -1.3}
    return {name: rng.lognormal(mean, 0.1, 50) for name, mean in means.items()}


def pixels_of(path, colour):
    """Columns of the pixels that have a curve's colour, outside of the legend."""
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    image = image[: int(0.75 * len(image))]
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.flatnonzero((np.abs(image - rgb).max(axis=-1) < 12).any(axis=0))


def test_every_curve_stands_where_its_errors_are(tmp_path, errors, monkeypatch):
    monkeypatch.setattr(figures, "DPI", 120)
    path = tmp_path / "e.png"
    plot_distribution(errors, path)
    model, atrocious = (pixels_of(path, COLOURS[i]) for i in (0, 2))
    assert model.size > 5 and atrocious.size > 5
    assert model.max() < atrocious.min()
    plot_distribution({"model": errors["model"]}, path)
    assert pixels_of(path, COLOURS[0]).size > model.size
    assert not pixels_of(path, COLOURS[2]).size


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_other_formats(tmp_path, errors, suffix):
    path = tmp_path / f"e.{suffix}"
    plot_distribution(errors, path)
    assert path.read_bytes()[:5] in (b"%PDF-", b"<?xml")


def test_what_cannot_be_drawn(tmp_path, errors):
    with pytest.raises(InputError, match=r"cannot write \.jpg"):
        plot_distribution(errors, tmp_path / "e.jpg")
    with pytest.raises(InputError, match="no error to draw"):
        plot_distribution({"model": np.zeros(3)}, tmp_path / "e.png")
    assert not list(tmp_path.iterdir())
