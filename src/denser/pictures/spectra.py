"""Pictures of spectra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from denser.pictures.plot import DPI, check_suffix, save_figure

WIDTH, HEIGHT = 4.2, 2.6  # inches
MOST_LABELS = 8


def plot_spectrum(
    path: str | Path,
    x: np.ndarray,
    y: np.ndarray,
    peaks: Sequence[tuple[float, float]] = (),
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    others: Sequence[np.ndarray] = (),
    reverse: bool = False,
    decimals: int = 2,
) -> None:
    """Draw a spectrum with its highest peaks labelled.

    Parameters
    ----------
    path : str or Path
        Ends in .png, .svg or .pdf.
    x, y : (n,) float
    peaks : sequence of (position, height)
        The highest `MOST_LABELS` are labelled with their positions.
    xlabel, ylabel, title : str
    others : sequence of (n,) float
        Curves behind it, such as those of single directions.
    reverse : bool
        The axis goes from right to left, as is usual for wave numbers.
    decimals : int
        Of the labels.

    Raises
    ------
    InputError
        An unknown suffix.
    """
    path = Path(path)
    check_suffix(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for other in others:
        axes.plot(x, other, lw=0.6, color="0.7")
    axes.plot(x, y, lw=1.2, color="#3380d1")
    for position, height in sorted(peaks, key=lambda peak: -peak[1])[:MOST_LABELS]:
        axes.annotate(
            f"{position:.{decimals}f}", (position, height), (0, 3), textcoords="offset points",
            ha="center", va="bottom", fontsize=6, rotation=90,
        )  # fmt: skip
    top = max([float(np.max(y)), *(height for _, height in peaks)])
    low = min(0.0, float(np.min(y)))
    axes.set(ylim=(1.05 * low, 1.3 * top if top > 0 else 1.0))
    axes.set_xlim(*((x[-1], x[0]) if reverse else (x[0], x[-1])))
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel(ylabel, fontsize=8)
    axes.set_title(title, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, DPI)
