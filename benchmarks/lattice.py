"""Electrostatics and dispersion in molecular crystals beside measured lattice energies.

    python benchmarks/lattice.py DIR

DIR holds CIFs of crystals of the X23 set, named as below. Lattice energies are those of Reilly and
Tkatchenko, J. Chem. Phys. 139, 024705 (2013), from measured sublimation enthalpies (quoted from
memory), kJ/mol. What the last column shows is what the two terms lack: exchange repulsion, minus
polarisation and charge transfer.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from denser.analysis.crystal.pair_energies import pair_energies
from denser.io.structures import as_structure
from denser.model.predictor import Predictor
from denser.types.units import KJ_PER_MOL

LATTICE = {
    "14-cyclohexanedione": -88.6, "acetic_acid": -72.8, "ammonia": -37.2, "anthracene": -112.7,
    "co2": -28.4, "cyanamide": -79.7, "ethylcarbamate": -86.3, "formamide": -79.2,
    "imidazole": -86.8, "naphthalene": -81.7, "oxalic_acid_beta": -96.1, "pyrazine": -61.3,
    "succinic_acid": -130.3, "triazine": -61.7, "uracil": -135.7, "urea": -102.5,
}  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dispersion", default="d3bj")
    options = parser.parse_args()
    predictor = Predictor()
    columns = ("electrostatic", "dispersion", "sum", "lattice energy", "rest", "pairs", "s")
    table = Table("crystal", *columns)
    for path in sorted(options.folder.glob("*.cif")):
        begin = time.perf_counter()
        density = predictor.predict(as_structure(path)).density
        found = pair_energies(density, predictor, options.dispersion)
        scale = KJ_PER_MOL / len(found.formulas)
        electrostatic = found.lattice_electrostatic * scale
        dispersed = (found.lattice_dispersion or 0.0) * scale
        measured = LATTICE.get(path.stem)
        cells = ["-", "-"]
        if measured is not None:
            cells = [f"{measured:.1f}", f"{measured - electrostatic - dispersed:+.1f}"]
        terms = (electrostatic, dispersed, electrostatic + dispersed)
        seconds = f"{time.perf_counter() - begin:.1f}"
        table.add_row(
            path.stem, *(f"{x:.1f}" for x in terms), *cells, str(len(found.pairs)), seconds
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
