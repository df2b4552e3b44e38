"""Interaction energies of dimers of the S22 set beside the published ones, in kcal/mol.

python benchmarks/s22.py                      # the ten smallest dimers, with D4
python benchmarks/s22.py -n 2 --basis gth-tzv2p --dispersion d3bj
python benchmarks/s22.py -o s22.json          # keeps each result; the same command continues

Published: CCSD(T) at the basis-set limit, Takatani et al., J. Chem. Phys. 132, 144104 (2010), as
shipped with ASE (`ase.collections.s22`, kcal/mol from eV). Geometries: Jurecka et al., Phys. Chem.
Chem. Phys. 8, 1985 (2006). The columns are the sum with the dispersion correction, with and without
counterpoise correction, and what dispersion and superposition contribute.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from ase.collections import s22
from ase.data.s22 import get_interaction_energy_s22
from ase.units import kcal, mol

from denser.dft.basis import AUGMENTED
from denser.dft.interaction import fragments_of, interaction
from denser.dft.molecular import converge
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.structure import Structure
from recording import add_option, record

SPACING = 0.16
"""Of the predictions, angstrom: their grid does not matter."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(s22.names))
    parser.add_argument("-n", type=int, default=10, help="number of dimers, the smallest first")
    parser.add_argument("--basis", default=AUGMENTED)
    parser.add_argument("--dispersion", default="d4", choices=("d3bj", "d4"))
    parser.add_argument("-o", "--out", type=Path, help="JSON file that keeps the results")
    add_option(parser)
    options = parser.parse_args()
    predictor = Predictor()

    def predict(structure: Structure) -> Density:
        return predictor.predict(structure, padding=2.5, spacing=SPACING).density

    smallest = sorted(s22.names, key=lambda name: len(s22[name]))[: options.n]
    if unknown := set(options.names) - set(s22.names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(s22.names)}")
    names = options.names or smallest
    print(f"PBE-{options.dispersion.upper()}/{options.basis}, kcal/mol")
    heads = ("counterpoise", "plain", "dispersion", "superpos.", "published", "error", "s")
    print(f"{'':28}" + "".join(f"{head:>13}" for head in heads))
    level = f"{options.dispersion}/{options.basis}"
    known = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    errors, rows = [], []
    for name in names:
        row = known.get(f"{name} {level}")
        if row is None:
            start = time.perf_counter()
            structure = Structure.from_ase(s22[name])
            whole = converge(structure, options.basis, about=predict(structure))
            parts = fragments_of(structure, "bonds")
            found = interaction(whole, parts, kind=options.dispersion, predict=predict).to_dict()
            published = get_interaction_energy_s22(name) / (kcal / mol)
            row = [
                found[f"e_{key}_kcal_per_mol"]
                for key in ("counterpoise", "interaction", "dispersion", "superposition")
            ]
            row += [published, row[0] - published, time.perf_counter() - start]
            known[f"{name} {level}"] = row
            if options.out:
                options.out.write_text(json.dumps(known, indent=1) + "\n")
        errors.append(row[5])
        rows.append({"dimer": name} | dict(zip(heads, row, strict=True)))
        print(f"{name:28}" + "".join(f"{x:13.2f}" for x in row), flush=True)
    print(f"mean absolute error {np.abs(errors).mean():.2f} kcal/mol")
    record(options.results, "s22", {"level": level, "rows": rows}, predictor)


if __name__ == "__main__":
    main()
