"""Results of electrons in real time: tables, spectra and lines of text of `denser dynamics`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from denser.analysis.absorption import Absorption, absorption, table
from denser.dft.external_field import Kick
from denser.dft.real_time import Propagation
from denser.io.table import write_table
from denser.pictures.spectra import plot_spectrum
from denser.types.structure import Structure
from denser.types.units import DEBYE, FEMTOSECOND, HARTREE
from denser.workflows.many import headline

_MOST_PEAKS = 12
"""Peaks in the line of text; the file has all."""

_FEWEST = 10
"""Times of a spectrum."""


def columns_of(p: Propagation) -> dict[str, Any]:
    """The record of a propagation: time, field, dipole, energy taken up, work of the field."""
    times = p.step * np.arange(p.state.steps + 1)
    dipoles = np.array(p.state.dipoles) * DEBYE
    return {
        "time_fs": np.round(times * FEMTOSECOND, 6),
        "field_hartree_per_e_bohr": np.array([p.external.at(t) for t in times]),
        **{f"dipole_{x}_debye": dipoles[:, i] for i, x in enumerate("xyz")},
        "e_absorbed_ev": (np.array(p.state.energies) - p.before) * HARTREE,
        "work_of_field_ev": np.array(p.state.works) * HARTREE,
    }


def record_of(runs: Mapping[str, Propagation]) -> dict:
    """What every propagation has; `runs` of a molecule by the names of the directions."""
    rows = {}
    for name, p in runs.items():
        rows[name] = {
            "n_steps": p.state.steps,
            "time_fs": round(p.time * FEMTOSECOND, 6),
            "e_absorbed_ev": p.absorbed * HARTREE,
            "e_unbalanced_ev": p.unbalanced * HARTREE,
            "n_electrons": p.molecule.electrons(p.state.orbitals),
            "matrices": p.state.matrices_made,
        }
    first = next(iter(runs.values()))
    structure = first.molecule.ground.structure
    return {
        "formula": structure.formula,
        "charge": structure.charge,
        "spin": structure.spin,
        "n_atoms": len(structure),
        "field": type(first.external).__name__.lower(),
        "step_as": round(first.step * FEMTOSECOND * 1000, 6),
        "e_tot_hartree": first.before,
        "directions": rows,
        "n_electrons_by_sum_rule": float(first.molecule.sum_rule().mean()),
        "n_electrons": first.molecule.n_electrons,
    }


def spectrum_of(
    runs: Mapping[str, Propagation], duration: float, up_to: float
) -> Absorption | None:
    """The spectrum of kicks, over the shortest of the propagations; None of other fields."""
    first = next(iter(runs.values()))
    field, step = first.external, first.step
    n = min(round(duration / step), *(p.state.steps for p in runs.values())) + 1
    if not (isinstance(field, Kick) and field.strength) or n < _FEWEST:
        return None
    along = [np.array(p.state.dipoles[:n]) @ p.direction for p in runs.values()]
    return absorption(np.array(along), step, field.strength, up_to)


def write_spectrum(
    spectrum: Absorption, stem: Path, structure: Structure, names: list[str], written: list[str]
) -> dict:
    """Write the spectrum, its peaks and a picture; return what the record says of them."""
    peaks = [(e * HARTREE, f) for e, f in spectrum.peaks()]
    paths = [Path(f"{stem}_{end}") for end in ("spectrum.csv", "peaks.csv", "spectrum.png")]
    header, rows = table(spectrum, names)
    write_table(paths[0], dict(zip(header, rows.T, strict=True)))
    write_table(
        paths[1],
        {"energy_ev": [e for e, _ in peaks], "oscillator_strength": [f for _, f in peaks]},
    )
    height = spectrum.duration / (2 * np.pi) / HARTREE
    plot_spectrum(
        paths[2], spectrum.energies * HARTREE, spectrum.mean / HARTREE,
        [(e, f * height) for e, f in peaks], others=list(spectrum.strengths / HARTREE),
        xlabel="energy / eV", ylabel="oscillator strength / (1/eV)", title=structure.formula,
    )  # fmt: skip
    written += [str(path) for path in paths]
    return {
        "peaks": [{"energy_ev": round(e, 4), "strength": round(f, 5)} for e, f in peaks],
        "width_ev": spectrum.width * HARTREE,
        "n_electrons_in_spectrum": spectrum.electrons,
    }


def summary(record: dict) -> str:
    """One line of text, and one for each direction."""
    rows = record["directions"]
    line = (
        f"{headline(record)}, {record['field']}, "
        f"{min(row['time_fs'] for row in rows.values()):.3g} fs in steps of "
        f"{record['step_as']:g} as, {record['seconds']['dynamics']:.1f} s "
        f"({record['calculation']}, {record['basis']})"
    )
    for name, row in rows.items():
        line += (
            f"\n  along {name}: absorbed {row['e_absorbed_ev']:.4g} eV, energy minus work "
            f"{row['e_unbalanced_ev']:.1e} eV, {row['n_electrons']:.6f} electrons"
        )
    if "peaks" in record:
        highest = sorted(record["peaks"], key=lambda peak: -peak["strength"])[:_MOST_PEAKS]
        shown = ", ".join(
            f"{p['energy_ev']:.2f} ({p['strength']:.3f})"
            for p in sorted(highest, key=lambda peak: peak["energy_ev"])
        )
        line += (
            f"\n  peaks, eV (oscillator strength): {shown}; width {record['width_ev']:.2f} eV"
            f"\n  sum rule: {record['n_electrons_by_sum_rule']:.2f} of {record['n_electrons']:g} "
            f"electrons in this basis, {record['n_electrons_in_spectrum']:.2f} in the spectrum"
        )
    return f"{line} -> {', '.join(record['written'])}"
