"""Tables, pictures and text of infrared and Raman spectra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from denser.analysis.infrared import Infrared
from denser.analysis.raman import Raman
from denser.io.table import write_table
from denser.pictures.spectra import plot_spectrum
from denser.types.structure import Structure
from denser.workflows import many

_WAVE = "wave_number_per_cm"


def write_infrared(
    found: Infrared, bands: list[tuple[float, float]], files: Sequence[Path], structure: Structure
) -> None:
    """Write the spectrum, its bands and a picture."""
    write_table(
        files[0],
        {
            "wave_number_per_cm": found.wave_numbers.tolist(),
            "absorption_km_per_mol_cm": found.absorption.tolist(),
        },
    )
    write_table(
        files[1],
        {
            "wave_number_per_cm": [x for x, _ in bands],
            "height_km_per_mol_cm": [y for _, y in bands],
        },
    )
    plot_spectrum(
        files[2], found.wave_numbers, found.absorption, bands,
        xlabel="wave number / (1/cm)", ylabel="absorption / (km/mol cm)",
        title=structure.formula, reverse=True, decimals=0,
    )  # fmt: skip


def write_raman(found: Raman, files: Sequence[Path], structure: Structure, laser: float) -> dict:
    """Write the spectrum, its bands and a picture; return the bands for JSON."""
    write_table(
        files[0],
        {
            _WAVE: found.wave_numbers.tolist(),
            "activity_angstrom4_per_amu_cm": found.activity.tolist(),
            "parallel_angstrom4_per_amu_cm": found.parallel.tolist(),
            "perpendicular_angstrom4_per_amu_cm": found.perpendicular.tolist(),
            "cross_section_m2_per_sr_cm": found.cross_section(laser).tolist(),
        },
    )
    bands = found.bands()
    names = (_WAVE, "height_angstrom4_per_amu_cm", "depolarization")
    columns = list(zip(*bands, strict=True)) or [()] * 3
    write_table(files[1], dict(zip(names, columns, strict=True)))
    plot_spectrum(
        files[2], found.wave_numbers, found.activity, [band[:2] for band in bands],
        xlabel="wave number / (1/cm)", ylabel="activity / (angstrom$^4$/amu cm)",
        title=structure.formula, others=[found.perpendicular], reverse=True, decimals=0,
    )  # fmt: skip
    return {
        "bands": [
            dict(zip(names, (round(x, 1), float(f"{y:.5g}"), round(r, 4)), strict=True))
            for x, y, r in bands
        ],
        "activity_angstrom4_per_amu": round(found.integral(0, found.wave_numbers[-1]), 3),
    }


def summary(record: dict) -> str:
    """The lines of text."""
    lines = [
        f"{many.headline(record)}, spectrum of {record['n_frames']} frames "
        f"({record['time_fs'] / 1000:.3g} ps, {record['temperature_k']:.0f} K from "
        f"{record['temperature_from']}), width {record['width_per_cm']:g} per cm"
        f"{'' if record['rotation'] else ', without rotation'}, "
        f"{record['seconds']['spectrum']:.1f} s",
        f"  infrared bands, 1/cm: {_shown(record['bands'], 'height_km_per_mol_cm')}; in all "
        f"{record['intensity_km_per_mol']:.0f} km/mol",
    ]
    if "raman" in record:
        found = record["raman"]
        lines.append(
            f"  Raman bands, 1/cm (depolarization): "
            f"{_shown(found['bands'], 'height_angstrom4_per_amu_cm', 'depolarization')}; in all "
            f"{found['activity_angstrom4_per_amu']:.0f} angstrom^4/amu, from "
            f"{found['n_frames']} frames"
        )
    return "\n".join([*lines, f"  -> {', '.join(record['written'])}"])


def _shown(bands: Sequence[dict], height: str, more: str | None = None) -> str:
    """The highest bands, by wave number."""
    chosen = sorted(sorted(bands, key=lambda b: -b[height])[:12], key=lambda b: b[_WAVE])
    return ", ".join(f"{b[_WAVE]:.0f}" + (f" ({b[more]:.2f})" if more else "") for b in chosen)
