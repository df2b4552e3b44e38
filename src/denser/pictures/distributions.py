"""Figures of many molecules: the distribution of their errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denser.pictures.plot import DPI, check_suffix, save_figure
from denser.types.errors import InputError

COLOURS = ("#3380d1", "#8c8c8c", "#d61a1f", "#e0a030")
"""Colours of the curves, in their order; the first is that of the model."""

WIDTH, HEIGHT = 3.6, 2.7  # inches


def plot_distribution(errors: dict[str, np.ndarray], path: str | Path) -> None:
    """Draw cumulative distributions of errors on a logarithmic axis, with the medians.

    Parameters
    ----------
    errors : dict
        Err_rho as fractions (n_molecules,), by the name of the method; at most as many as
        `COLOURS`.
    path : str or Path
        Ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        An unknown suffix, or no error above zero.
    """
    path = Path(path)
    check_suffix(path)
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    curves = {name: 100 * np.sort(values[values > 0]) for name, values in errors.items()}
    curves = {name: values for name, values in curves.items() if values.size}
    if not curves:
        raise InputError(f"{path}: there is no error to draw, because nothing was measured")
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    for (name, x), colour in zip(curves.items(), COLOURS, strict=False):
        share = 100 * np.arange(1, x.size + 1) / x.size
        axes.step(
            np.concatenate([x[:1], x]), np.concatenate([[0], share]),
            where="post", color=colour, lw=1.4, label=f"{name}, median {np.median(x):.3g} %",
        )  # fmt: skip
        axes.plot(np.median(x), 50, "o", ms=4, color=colour, mec="white", mew=0.6)
    low = min(x[0] for x in curves.values())
    high = max(x[-1] for x in curves.values())
    axes.set(xscale="log", xlim=(low / 1.3, high * 1.3), ylim=(0, 101))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(r"$\mathrm{Err}_\rho$ / %", fontsize=8)
    axes.set_ylabel("molecules / %", fontsize=8)
    axes.tick_params(labelsize=7, which="both")
    axes.grid(color="0.9", lw=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=2)
    save_figure(figure, path, DPI)
