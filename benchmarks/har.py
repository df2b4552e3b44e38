"""Hirshfeld atom refinements of measured crystals: R factors and times.

    python benchmarks/har.py DIR

Each folder in DIR holds a CIF, and its reflections in the CIF or in one .hkl file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from denser.types.errors import InputError
from denser.workflows.refinement.refine import refine

COLUMNS = ("R1, %", "wR2, %", "X-H, A", "not positive", "cycles", "density, s", "fit, s", "all, s")
"""The first four with spherical and with Hirshfeld atoms."""


def row(record: dict) -> list[str]:
    """Cells of the table."""
    before, after, cycles = record["before"], record["after"], record["cycles"]

    def mean(bonds: list[dict]) -> float:
        return sum(bond["length_angstrom"] for bond in bonds) / max(len(bonds), 1)

    def total(*keys: str) -> float:
        return sum(cycle["seconds"][key] for cycle in cycles for key in keys)

    return [
        *(f"{before[key]:.2f} -> {after[key]:.2f}" for key in ("r1_percent", "wr2_percent")),
        f"{mean(before['bonds']):.3f} -> {mean(after['bonds']):.3f}",
        f"{len(before['not_positive'])} -> {len(after['not_positive'])}",
        str(len(cycles)),
        f"{total('prediction', 'form_factors'):.1f}",
        f"{total('least_squares'):.1f}",
        f"{record['seconds']:.1f}",
    ]


def main() -> None:
    """Refine all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hydrogens", default="auto")
    parser.add_argument("-o", "--out", type=Path, help="write the results to a JSON file")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    results = {}
    table = Table("crystal", "hydrogens", *COLUMNS)
    for folder in sorted(path for path in options.folder.iterdir() if path.is_dir()):
        models, data = sorted(folder.glob("*.cif")), sorted(folder.glob("*.hkl"))
        if not models:
            continue
        try:
            record = refine(
                models[0], data[0] if data else None, hydrogens=options.hydrogens,
                report=lambda text, name=folder.name: console.print(f"{name}: {text}"),
            ).to_dict()  # fmt: skip
        except InputError as error:
            console.print(str(error))
            continue
        results[folder.name] = record
        table.add_row(folder.name, record["hydrogens"], *row(record))
    Console(width=max(console.width, 130)).print(table)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        console.print(f"written to {options.out}")


if __name__ == "__main__":
    main()
