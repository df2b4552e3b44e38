"""Errors of held-out radicals by the atom that lacks a hydrogen.

    denser evaluate default benchmarks/labels-radicals.db --all --csv radicals.csv
    python benchmarks/radicals.py radicals.csv

The names of the labels are those of structures in `data`, whose SMILES say where the unpaired
electron is drawn. Degenerate are diatomic molecules other than CN, and CH3O and its kin: the spin
density of the reference is one of several that are equivalent.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from ase.io import read
from rdkit import Chem, RDLogger

from kind_structures import DATA

FILES = ("kinds.xyz.gz", "radicals.xyz.gz", "radicals-small.xyz.gz")
DEGENERATE = ("C[O]", "[Li][O]", "[O]F", "[SeH]", "[O]Br", "[OH]", "C[S]", "C[Se]")
KINDS = (
    ("alkyl and other carbon with three neighbours", "[#6X3v3;+0]"),
    ("vinyl, acyl, aryl, alkynyl", "[#6;v3,v1;+0]"),
    ("nitrogen", "[#7;v2;+0]"),
    ("oxygen", "[#8;v1;+0]"),
    ("others", "*"),
)


def kind_of(smiles: str) -> str:
    """The first kind that a radical is."""
    molecule = Chem.MolFromSmiles(smiles)
    if Chem.MolToSmiles(molecule) in {Chem.CanonSmiles(s) for s in DEGENERATE}:
        return "degenerate"
    centres = [a for a in molecule.GetAtoms() if a.GetNumRadicalElectrons()]
    for kind, smarts in KINDS:
        pattern = Chem.MolFromSmarts(smarts)
        found = {match[0] for match in molecule.GetSubstructMatches(pattern)}
        if any(atom.GetIdx() in found for atom in centres):
            return kind
    return KINDS[-1][0]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", type=Path)
    RDLogger.DisableLog("rdApp.*")
    rows = list(csv.DictReader(parser.parse_args().csv.open()))
    smiles = {
        str(a.info["name"]): str(a.info["smiles"])
        for name in FILES
        for a in read(DATA / name, ":", format="extxyz")
        if "spin" in a.info
    }
    kinds = np.array([kind_of(smiles[row["name"]]) for row in rows])
    rho, m, expected = (
        np.array([float(row[key]) for row in rows])
        for key in ("model_percent", "spin_percent", "expected_percent")
    )
    print("| radicals | n | error of rho: mean | median | worst | expected | error of m | median |")
    print("|---|---|---|---|---|---|---|---|")
    parts = [(kind, kinds == kind) for kind in (*(k for k, _ in KINDS), "degenerate")]
    for name, some in [*parts, ("all but degenerate ones", kinds != "degenerate")]:
        if some.any():
            values = f"{rho[some].mean():.2f} | {np.median(rho[some]):.2f} | {rho[some].max():.1f}"
            spins = f"{m[some].mean():.0f} | {np.median(m[some]):.0f}"
            mean = expected[some].mean()
            print(f"| {name} | {some.sum()} | {values} | {mean:.2f} | {spins} |")
    for i in np.argsort(m)[::-1][:12]:
        print(f"{rows[i]['name']:30s} {smiles[rows[i]['name']]:24s} {rho[i]:5.2f} {m[i]:5.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
