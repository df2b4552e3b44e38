"""Bond scans of diatomic molecules: energies of the prediction and of the SCF along the bond.

This is the test of Li et al. (2025), figure 5: whether one Kohn-Sham step from the predicted
density gives the same bond length as the self-consistent calculation.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

import denser.dft  # noqa: F401  (before anything else brings in part of PySCF)
from denser.atoms.radii import bond_length
from denser.atoms.sad import superposition
from denser.dft.one_step import one_step
from denser.dft.scf import mean_field, scf
from denser.io.files import replacing
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.pictures.plot import DPI, WIDTH, check_suffix, save_figure
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import MIN_DISTANCE, Structure
from denser.types.units import BOHR, HARTREE

COARSE, FINE = 0.05 / BOHR, 0.01 / BOHR
"""Default steps along the bond and around the minimum, bohr."""

NEIGHBOURS = 7
"""Number of points around the lowest one that the minimum is fitted to."""


@dataclass(frozen=True, eq=False)
class Scan:
    """Energies of a diatomic molecule along its bond.

    Parameters
    ----------
    name : str
        Formula.
    distances : (n,) float
        Bohr, ascending.
    one_step, scf : (n,) float
        Energies from the prediction and from the self-consistent calculation, hartree; NaN
        where the SCF did not converge or was not requested.
    missing : int
        Number of distances at which the SCF did not converge.
    """

    name: str
    distances: np.ndarray
    one_step: np.ndarray
    scf: np.ndarray
    missing: int = 0

    @property
    def error(self) -> str:
        """One sentence if the SCF did not converge everywhere, otherwise an empty text."""
        if not self.missing:
            return ""
        return (
            f"the SCF did not converge at {self.missing} of {self.distances.size} distances, which "
            "have no SCF energy: a closed shell is no state of a bond that is nearly broken; end "
            "--distances before that"
        )

    def to_dict(self) -> dict:
        """For JSON; None where there is no energy, and where a curve has no minimum."""
        record: dict = {"distance_angstrom": (self.distances * BOHR).tolist()}
        for name, energies in (("one_step", self.one_step), ("scf", self.scf)):
            known = np.isfinite(energies)
            lowest = minimum(self.distances, energies) if known.any() else None
            record[f"e_{name}_hartree"] = [
                float(e) if ok else None for e, ok in zip(energies, known, strict=True)
            ]
            record[f"minimum_{name}_angstrom"] = None if lowest is None else float(lowest * BOHR)
        errors = {"scf": self.error} if self.missing else {}
        return record | {"converged": not self.missing, "errors": errors}


def diatomic(name: str) -> tuple[int, int]:
    """Atomic numbers of a formula of two atoms, such as N2 or CO.

    Raises
    ------
    InputError
        Another formula.
    """
    match = re.fullmatch(r"([A-Z][a-z]?)(?:2|([A-Z][a-z]?))", name)
    symbols = [] if match is None else [match[1], match[2] or match[1]]
    if not symbols or not set(symbols) <= set(chemical_symbols[1:]):
        raise InputError(f"{name!r} is not a diatomic molecule; give one such as N2 or CO")
    return chemical_symbols.index(symbols[0]), chemical_symbols.index(symbols[1])


def scan(
    name: str,
    distances: Sequence[float] | None = None,
    predictor: Predictor | None = None,
    options: PredictionOptions = PredictionOptions(),
    with_scf: bool = True,
    report: Callable[[int, int], None] | None = None,
) -> Scan:
    """Compute the energy of a diatomic molecule along its bond.

    All distances use one grid, made for the longest bond, with the middle of the bond at its
    centre. If the grid changed, the curve would have steps.

    Parameters
    ----------
    name : str
        Formula, such as "N2".
    distances : sequence of float, optional
        Bohr. By default 0.6 to 1.6 times the sum of the covalent radii in steps of 0.05
        angstrom, and then steps of 0.01 angstrom around the minimum.
    predictor : Predictor, optional
        By default that of the options, in single precision.
    options : PredictionOptions
        Of these the charge, the spin, and the padding on each side of the longest bond.
    with_scf : bool
        Whether to compute the self-consistent curve too.
    report : callable, optional
        Called with the number of points done and the number of points known so far.

    Returns
    -------
    Scan

    Raises
    ------
    InputError
        The molecule is not diatomic or has unpaired electrons, or the distances cannot
        be used.
    """
    numbers = np.array(diatomic(name))
    predictor = predictor or Predictor.of(options, bf16=False)
    if distances is None:
        usual = bond_length(*numbers)
        first = max(0.6 * usual, MIN_DISTANCE + FINE)
        first = np.ceil(first / COARSE) * COARSE
        wanted = np.arange(first, 1.6 * usual, COARSE)
    else:
        wanted = np.unique(np.asarray(distances, dtype=float))
    if wanted.size < 1 or not (np.isfinite(wanted).all() and wanted[0] > MIN_DISTANCE):
        raise InputError(
            f"the distances of {name} must be finite and above {MIN_DISTANCE * BOHR:g} angstrom"
        )
    longest = _stretched(numbers, float(wanted[-1]), options)
    predictor.require_covered(longest)
    recipe, network = predictor.model.recipe, predictor.network
    grid = Grid.around(longest, options.padding / BOHR, recipe.spacing, network.multiple_of)

    energies: dict[float, tuple[float, float]] = {}

    def compute(chosen: np.ndarray) -> None:
        new = [d for d in chosen if not any(abs(d - old) < FINE / 2 for old in energies)]
        total = len(energies) + len(new)
        for d in new:
            structure = _stretched(numbers, float(d), options)
            rho = predictor.density(superposition(structure, grid, recipe.sad))
            step = one_step(rho, mf=mean_field(structure, grid, recipe, isolated=True, about=rho))
            e_scf = np.nan
            if with_scf:
                result = scf(structure, grid, recipe, dm0=step.dm, isolated=True, about=rho)
                e_scf = result.e_tot if result.converged else np.nan
            energies[float(d)] = step.e_tot, e_scf
            if report is not None:
                report(len(energies), total)

    compute(wanted)
    if distances is None:
        table = np.array([(d, *e) for d, e in sorted(energies.items())])
        for column in (1, 2):
            if np.isfinite(table[:, column]).any():
                lowest = table[np.nanargmin(table[:, column]), 0]
                fine = np.round(lowest / FINE) + np.arange(-5, 6)
                compute(fine * FINE)
    d, one, reference = np.array([(d, *e) for d, e in sorted(energies.items())]).T
    return Scan(name, d, one, reference, int(np.isnan(reference).sum()) if with_scf else 0)


def minimum(distances: np.ndarray, energies: np.ndarray) -> float | None:
    """Distance of lowest energy, bohr, from a quartic through the points around the lowest.

    None if the lowest point is the first or the last, or if fewer than five points are known.
    """
    known = np.isfinite(energies)
    distances, energies = np.asarray(distances)[known], np.asarray(energies)[known]
    if distances.size < 5:
        return None
    i = int(np.argmin(energies))
    if i in (0, distances.size - 1):
        return None
    near = np.sort(np.argsort(np.abs(distances - distances[i]), kind="stable")[:NEIGHBOURS])
    scale = np.ptp(distances[near])
    x = (distances[near] - distances[i]) / scale
    curve = np.polynomial.Polynomial.fit(x, energies[near], 4)
    roots = curve.deriv().roots()
    roots = roots[np.abs(roots.imag) < 1e-9].real
    inside = roots[
        (roots > (distances[i - 1] - distances[i]) / scale)
        & (roots < (distances[i + 1] - distances[i]) / scale)
    ]
    if inside.size == 0:
        return None
    return float(distances[i] + scale * inside[np.argmin(curve(inside))])


def write_csv(path: Path, scans: Sequence[Scan]) -> None:
    """Write molecule, distance in angstrom and both energies in hartree, a row per point."""
    with replacing(Path(path)) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["molecule", "distance_angstrom", "e_one_step_hartree", "e_scf_hartree"])
        for curve in scans:
            points = zip(curve.distances, curve.one_step, curve.scf, strict=True)
            for d, one, reference in points:
                known = f"{reference:.9f}" if np.isfinite(reference) else ""
                rows.writerow([curve.name, f"{d * BOHR:.6f}", f"{one:.9f}", known])


def plot_scans(path: Path, scans: Sequence[Scan]) -> None:
    """Draw the curves, one panel per molecule, relative to the lowest SCF energy (or its own)."""
    path = Path(path)
    check_suffix(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.8 * WIDTH * len(scans), 0.7 * WIDTH), layout="constrained")
    for axes, curve in zip(figure.subplots(1, len(scans), squeeze=False)[0], scans, strict=True):
        with_scf = np.isfinite(curve.scf).any()
        zero = np.nanmin(curve.scf) if with_scf else curve.one_step.min()
        d = curve.distances * BOHR
        if with_scf:
            axes.plot(d, (curve.scf - zero) * HARTREE, "-", color="0.2", label="SCF")
        axes.plot(
            d, (curve.one_step - zero) * HARTREE, "o", ms=3, color="tab:red", label="prediction"
        )
        for energies, style in ((curve.scf, "-"), (curve.one_step, ":")):
            r_min = minimum(curve.distances, energies)
            if r_min is not None:
                color = "0.6" if style == "-" else "tab:red"
                axes.axvline(r_min * BOHR, ls=style, lw=0.8, color=color)
        axes.set(
            xlabel=r"distance / $\mathrm{\AA}$",
            ylabel="energy / eV",
            title=_subscripted(curve.name),
        )
        axes.legend(frameon=False)
    save_figure(figure, path, DPI)


def _stretched(numbers: np.ndarray, distance: float, options: PredictionOptions) -> Structure:
    positions = np.zeros((2, 3))
    positions[:, 2] = -distance / 2, distance / 2
    return options.structure_of(Structure(numbers, positions))


def _subscripted(name: str) -> str:
    return "".join(f"$_{c}$" if c.isdigit() else c for c in name)
