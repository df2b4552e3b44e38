"""Errors of many molecules: records, sums over them, and tables."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy.stats import rankdata

from denser.io.files import replacing
from denser.types.errors import InputError
from denser.types.units import DEBYE
from denser.workflows.evaluate.error_by_place import SHELLS

SIZES = (1, 11, 16, 21, 31, 51)
"""Smallest number of atoms in each bin by size."""

TITLES = {"model": "model", "sad": "SAD", "atrocious_sad": "atrocious SAD", "fitting": "fitting"}
"""Names in tables of the sources of a density."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Errors of one molecule.

    Parameters
    ----------
    name, formula : str
    n_atoms : int
    n_electrons : float
        Valence electrons.
    distorted : bool
        Whether the label's name marks a distorted geometry.
    errors : dict of str to float
        Err_rho, a fraction, of "model", of each of `BASELINES`, and of "fitting" if asked for.
    around : dict of str to float
        Errors of the model by element; see `error_by_place.error_around_elements`.
    by_distance : (2, n_bins) float
        Of the model; see `error_by_place.error_by_distance`.
    dipole_error : float or None
        |mu_pred - mu_ref|, e*bohr; None for a periodic cell.
    electrons_off : float
        Electrons in the model's density before it is scaled to N_e, minus N_e.
    in_doubt : bool
        Result of `Predictor.in_doubt`.
    seconds_sad, seconds_network : float
    spin_error : float or None
        integral |m_pred - m_ref| / integral |m_ref| of the spin density m, a fraction; None for a
        closed shell.
    expected_error : float or None
        Err_rho that the model expects, a fraction; None if it does not estimate it.
    """

    name: str
    formula: str
    n_atoms: int
    n_electrons: float
    distorted: bool
    errors: dict[str, float]
    around: dict[str, float]
    by_distance: np.ndarray
    dipole_error: float | None
    electrons_off: float
    in_doubt: bool
    seconds_sad: float
    seconds_network: float
    spin_error: float | None = None
    expected_error: float | None = None

    def row(self) -> dict[str, str | int | float]:
        """Flat record for tables: errors in percent, dipoles in debye."""
        shells = zip(SHELLS[:-1], self.by_distance[0], strict=True)
        return {
            "name": self.name,
            "formula": self.formula,
            "n_atoms": self.n_atoms,
            "n_electrons": self.n_electrons,
            "distorted": int(self.distorted),
            **{f"{key}_percent": 100 * error for key, error in self.errors.items()},
            **({} if self.spin_error is None else {"spin_percent": 100 * self.spin_error}),
            "dipole_error_debye": "" if self.dipole_error is None else self.dipole_error * DEBYE,
            "electrons_before_scaling": self.n_electrons + self.electrons_off,
            **(
                {}
                if self.expected_error is None
                else {"expected_percent": 100 * self.expected_error}
            ),
            "in_doubt": int(self.in_doubt),
            "seconds_sad": self.seconds_sad,
            "seconds_network": self.seconds_network,
            **{f"from_{edge:g}_angstrom_percent": 100 * float(error) for edge, error in shells},
            **{f"around_{key}_percent": 100 * error for key, error in self.around.items()},
        }


@dataclass(frozen=True)
class Failure:
    """A label that could not be measured, and why."""

    name: str
    error: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured, in the order of the labels.

    Parameters
    ----------
    model : str
        Name of the model.
    rows : tuple of Measured
    failures : tuple of Failure
    selection : str
        One sentence: which labels were measured, and which were left out.
    """

    model: str
    rows: tuple[Measured, ...]
    failures: tuple[Failure, ...] = ()
    selection: str = ""

    def errors(self, key: str = "model") -> np.ndarray:
        """Err_rho of each molecule, fractions (n_rows,); `key` as in `Measured.errors`."""
        return np.array([row.errors[key] for row in self.rows])

    def worst(self, n: int) -> list[Measured]:
        """The `n` molecules with the largest error of the model, the worst first."""
        return sorted(self.rows, key=lambda row: -row.errors["model"])[:n]

    def part(self, keep: Callable[[Measured], bool]) -> Evaluation:
        """Return the same evaluation of fewer molecules."""
        return replace(self, rows=tuple(row for row in self.rows if keep(row)))

    @classmethod
    def of(
        cls, model: str, results: Sequence[Measured | Failure], selection: str = ""
    ) -> Evaluation:
        """Sort results into those that were measured and those that failed."""
        return cls(
            model,
            tuple(result for result in results if isinstance(result, Measured)),
            tuple(result for result in results if isinstance(result, Failure)),
            selection,
        )

    def summary(self) -> dict:
        """Return all figures as plain numbers, in percent, debye, electrons and seconds.

        Raises
        ------
        InputError
            Nothing was measured.
        """
        if not self.rows:
            raise InputError("nothing was measured, so there is no summary")
        elements = sorted({element for row in self.rows for element in row.around})
        off = np.array([row.electrons_off for row in self.rows])
        relative = off / [row.n_electrons for row in self.rows]
        return {
            "n": len(self.rows),
            "n_failed": len(self.failures),
            "err_rho_percent": {
                key: _statistics(self.rows, 100 * self.errors(key)) for key in self.rows[0].errors
            },
            "around_percent": {element: _around(self.rows, element) for element in elements},
            "by_distance": _by_distance(self.rows),
            "by_atoms": self._by_atoms(),
            "dipole_error_debye": self._dipoles(),
            "spin_percent": self._spins(),
            "before_scaling": {
                "mean_electrons": float(off.mean()),
                "mean_absolute_electrons": float(np.abs(off).mean()),
                "mean_absolute_percent": 100 * float(np.abs(relative).mean()),
                "worst_percent": 100 * float(relative[np.abs(relative).argmax()]),
            },
            "doubt": self._by_doubt(),
            "expected": self._expected(),
            "seconds": {
                "sad_median": float(np.median([row.seconds_sad for row in self.rows])),
                "network_median": float(np.median([row.seconds_network for row in self.rows])),
            },
        }

    def to_dict(self) -> dict:
        """Return everything as plain data: summary, rows and failures."""
        return {
            "model": self.model,
            "selection": self.selection,
            "summary": self.summary(),
            "molecules": [row.row() for row in self.rows],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def write_csv(self, path: Path) -> None:
        """Write one row for each molecule; values that a molecule lacks stay empty."""
        records = [
            {key: f"{x:.7g}" if isinstance(x, float) else x for key, x in row.row().items()}
            for row in self.rows
        ]
        keys = list(dict.fromkeys(key for record in records for key in record))
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, keys)
            writer.writeheader()
            writer.writerows(records)

    def _expected(self) -> dict | None:
        """How well the model estimates its errors: ranks, and share within a factor of 1.5."""
        pairs = [(x.expected_error, x.errors["model"]) for x in self.rows if x.expected_error]
        if len(pairs) < 2:
            return None
        expected, errors = np.array(pairs).T
        ratio = np.abs(np.log(errors / expected))
        ranks = [rankdata(x) for x in (expected, errors)]
        return {
            "n": len(pairs),
            "rank_correlation": float(np.corrcoef(*ranks)[0, 1]) if np.ptp(errors) else None,
            "within_1.5_percent": 100 * float((ratio < np.log(1.5)).mean()),
        }

    def _by_doubt(self) -> dict:
        """Errors of the molecules in doubt, and of those that are not."""
        out: dict = {}
        parts = {
            "in_doubt": self.part(lambda row: row.in_doubt),
            "trusted": self.part(lambda row: not row.in_doubt),
        }
        for key, part in parts.items():
            out[key] = {"n": len(part.rows)}
            if part.rows:
                out[key] |= _statistics(part.rows, 100 * part.errors())
        return out

    def _dipoles(self) -> dict | None:
        known = [(row, row.dipole_error) for row in self.rows if row.dipole_error is not None]
        if not known:
            return None
        rows, errors = zip(*known, strict=True)
        return _statistics(rows, np.array(errors) * DEBYE)

    def _spins(self) -> dict | None:
        """Errors of the spin densities of open shells, percent."""
        known = [(row, row.spin_error) for row in self.rows if row.spin_error is not None]
        if not known:
            return None
        rows, errors = zip(*known, strict=True)
        return {"n": len(rows), **_statistics(rows, 100 * np.array(errors))}

    def _by_atoms(self) -> list[dict]:
        out = []
        for first, after in zip(SIZES, [*SIZES[1:], np.inf], strict=True):
            rows = [row for row in self.rows if first <= row.n_atoms < after]
            part = replace(self, rows=tuple(rows))
            if part.rows:
                last = max(row.n_atoms for row in part.rows) if np.isinf(after) else after - 1
                figures = _statistics(part.rows, 100 * part.errors())
                out.append({"from": first, "to": int(last), "n": len(part.rows), **figures})
        return out


def _statistics(rows: Sequence[Measured], values: np.ndarray) -> dict:
    """Mean, percentiles and worst of one value per row, with the name of the worst."""
    worst = rows[int(values.argmax())]
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "p99": float(np.percentile(values, 99)),
        "worst": float(values.max()),
        "worst_name": worst.name,
        "worst_formula": worst.formula,
    }


def _around(rows: Sequence[Measured], element: str) -> dict:
    having = [row for row in rows if element in row.around]
    values = 100 * np.array([row.around[element] for row in having])
    return {"n": len(having), **_statistics(having, values)}


def _by_distance(rows: Sequence[Measured]) -> list[dict]:
    """Shares of the mean error and of the electrons in each bin of `SHELLS`."""
    error, electrons = 100 * np.mean([row.by_distance for row in rows], axis=0)
    return [
        {
            "from_angstrom": SHELLS[i],
            "to_angstrom": SHELLS[i + 1] if np.isfinite(SHELLS[i + 1]) else None,
            "electrons_percent": float(electrons[i]),
            "err_rho_percent": float(error[i]),
            "local_percent": float(100 * error[i] / electrons[i]) if electrons[i] else None,
        }
        for i in range(len(SHELLS) - 1)
    ]


# Tables and text


def tables(evaluation: Evaluation) -> list[Table]:
    """Tables of an evaluation, in percent: all, around elements, by distance, by size."""
    figures = evaluation.summary()
    return [
        _main_table(evaluation),
        _table(
            "Err_rho of the model around an element",
            "element",
            [(key, f["n"], f) for key, f in figures["around_percent"].items()],
        ),
        _distance_table(figures["by_distance"]),
        _table(
            "Err_rho of the model by size",
            "atoms",
            [(f"{f['from']} to {f['to']}", f["n"], f) for f in figures["by_atoms"]],
        ),
    ]


def sentences(evaluation: Evaluation) -> list[str]:
    """One line each: dipoles, electrons before scaling, molecules in doubt, and seconds."""
    figures = evaluation.summary()
    dipole, scaling, seconds = (
        figures[key] for key in ("dipole_error_debye", "before_scaling", "seconds")
    )
    doubted = f"in doubt: {figures['doubt']['in_doubt']['n']} of {figures['n']}"
    for what, key in (("these", "in_doubt"), ("the others", "trusted")):
        if (part := figures["doubt"][key])["n"]:
            doubted += f"; {what} off by {part['mean']:.2f} %, worst {part['worst']:.2f}"
    of_expected = []
    if (known := figures["expected"]) is not None and known["rank_correlation"] is not None:
        of_expected = [
            f"expected errors: {known['within_1.5_percent']:.0f} % within a factor of 1.5, rank "
            f"correlation with the errors {known['rank_correlation']:.2f}"
        ]
    of_dipoles = "no dipole errors: periodic cells have none"
    if dipole is not None:
        of_dipoles = (
            f"dipole error: mean {dipole['mean']:.3f}, median {dipole['median']:.3f}, worst "
            f"{dipole['worst']:.3f} debye ({dipole['worst_name']})"
        )
    of_spins = []
    if (spin := figures["spin_percent"]) is not None:
        of_spins = [
            f"spin densities of {spin['n']} open shells: integral |m_pred - m_ref| / integral "
            f"|m_ref| {spin['mean']:.2f} % in the mean, median {spin['median']:.2f}, worst "
            f"{spin['worst']:.2f} % ({spin['worst_name']})"
        ]
    return [
        *of_spins,
        of_dipoles,
        f"electrons before scaling to N_e: off by {scaling['mean_absolute_percent']:.3f} % in the "
        f"mean ({scaling['mean_electrons']:+.4f} electrons), worst "
        f"{scaling['worst_percent']:+.3f} %",
        *of_expected,
        doubted,
        f"median seconds per molecule: SAD {seconds['sad_median']:.3f}, network "
        f"{seconds['network_median']:.3f}",
    ]


def _main_table(evaluation: Evaluation) -> Table:
    parts = [("all", evaluation)]
    if len({row.distorted for row in evaluation.rows}) == 2:
        parts.append(("as given", evaluation.part(lambda row: not row.distorted)))
        parts.append(("distorted", evaluation.part(lambda row: row.distorted)))
    out = _empty("Err_rho, percent", ("molecules", "n", "density", *_COLUMNS))
    for title, part in parts:
        for key in part.rows[0].errors:
            figures = _statistics(part.rows, 100 * part.errors(key))
            out.add_row(title, str(len(part.rows)), TITLES[key], *_cells(figures))
    return out


def _table(title: str, first: str, records: list[tuple[str, int, dict]]) -> Table:
    out = _empty(f"{title}, percent", (first, "n", *_COLUMNS))
    for name, n, figures in records:
        out.add_row(name, str(n), *_cells(figures))
    return out


def _distance_table(records: list[dict]) -> Table:
    columns = ("angstrom", "electrons", "share of Err_rho", "local error")
    out = _empty("Error by distance from the nearest nucleus, percent", columns)
    for f in records:
        start, end = f["from_angstrom"], f["to_angstrom"]
        local = "" if f["local_percent"] is None else f"{f['local_percent']:.3f}"
        out.add_row(
            f"beyond {start:g}" if end is None else f"{start:g} to {end:g}",
            f"{f['electrons_percent']:.2f}",
            f"{f['err_rho_percent']:.3f}",
            local,
        )
    return out


_COLUMNS = ("mean", "median", "95 %", "99 %", "worst", "named")
_LEFT = ("molecules", "density", "element", "atoms", "angstrom", "named")


def _empty(title: str, columns: Sequence[str]) -> Table:
    out = Table(title=title, title_justify="left")
    for column in columns:
        out.add_column(column, justify="left" if column in _LEFT else "right")
    return out


def _cells(figures: dict) -> list[str]:
    numbers = [f"{figures[key]:.3f}" for key in ("mean", "median", "p95", "p99", "worst")]
    return [*numbers, f"{figures['worst_name']} ({figures['worst_formula']})"]
