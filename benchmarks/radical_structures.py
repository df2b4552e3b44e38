"""Geometries of radicals to make labels of.

    python benchmarks/radical_structures.py -o data/radicals.xyz.gz
    python benchmarks/radical_structures.py --small -o data/radicals-small.xyz.gz

A hydrogen atom is taken from molecules of the training part of QM9's split with at most 7 heavy
atoms, and from the neutral molecules of `data/kinds.xyz.gz` with at most 8, which are not held out.
Where it is taken from is drawn at random; heteroatoms are as likely as all carbon atoms together.
RDKit makes the geometries (ETKDG, MMFF94 or UFF). Every tenth radical is held out: its name ends in
`_held`. So is every radical of `data/kinds.xyz.gz` that is held out there.

`--small`: radicals of at most 5 heavy atoms of the same molecules (4 where one is Br or I), without
metals, which are not in `data/radicals.xyz.gz`, with any of their hydrogen atoms taken. Their
labels cost a fraction of those of larger ones.

Names end in `b` where denser's structures from SMILES were wrong at first, and labels of the wrong
ones were made without the `b`: acyl, vinyl and imidoyl radicals were linear, and alkynyl and iminyl
radicals had single bonds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from rdkit import Chem, RDLogger

from denser.io.smiles import from_smiles
from denser.labels import qm9
from denser.types.errors import InputError
from kind_structures import DATA, EVERY, random_for, write_structures

N_QM9, N_KINDS = 260, 140
"""Radicals of each source."""

N_SMALL = {"qm9": 300, "kind": 200}

AGAIN = (
    "[#6X1;+0]#[#6X2]", "[#7X1;+0]=[#6X3]", "[#6X2v3;!r;+0]=[#8X1,#16X1,#7X2,#6X3]",
    "[#8X1v1;+0]-[#7X2]", "[#7X1]=[#7X2]-*", "[#7X1]~[#16X1]",
)  # fmt: skip
"""SMARTS of the radicals whose names end in `b`."""

ELEMENTS = {"B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Se", "Br", "I"}
"""Of small radicals, with hydrogen."""

HEAVY = {"qm9": 7, "kind": 8}


def sources(kinds: list[Atoms]) -> Iterator[tuple[str, str]]:
    """Source and SMILES of molecules, in the order in which they are tried."""
    order = np.random.default_rng(2027)
    numbers = [int(n) for n in qm9.split_numbers("train") if n < 4000]  # the smaller ones
    found = [smiles for _, smiles in qm9.smiles(tuple(numbers))]
    yield from (("qm9", found[i]) for i in order.permutation(len(found)))
    neutral = [
        str(a.info["smiles"])
        for a in kinds
        if not a.info["name"].endswith("_held") and not a.info["charge"] and "spin" not in a.info
    ]
    unique = sorted({smiles for smiles in neutral if "." not in smiles})
    yield from (("kind", unique[i]) for i in order.permutation(len(unique)))


def small_radicals(smiles: str) -> list[str]:
    """SMILES of all radicals of a small molecule; none if it is larger."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return []
    symbols = {atom.GetSymbol() for atom in molecule.GetAtoms()}
    largest = 4 if symbols & {"Br", "I"} else 5
    if molecule.GetNumHeavyAtoms() > largest or not symbols <= ELEMENTS | {"H"}:
        return []
    with_hydrogen = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetTotalNumHs()]
    return sorted({_radical(Chem.Mol(molecule), i) for i in with_hydrogen})


def without_hydrogen(smiles: str, n_heavy: int) -> list[str]:
    """SMILES of one radical; none if the molecule is larger or has no hydrogen."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumHeavyAtoms() > n_heavy:
        return []
    carbon, other = [], []
    for atom in molecule.GetAtoms():
        if atom.GetTotalNumHs():
            (carbon if atom.GetSymbol() == "C" else other).append(atom.GetIdx())
    random = random_for(Chem.MolToSmiles(molecule))
    pool = other if other and (not carbon or random.random() < 0.5) else carbon
    if not pool or any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return []
    return [_radical(molecule, int(random.choice(pool)))]


def _radical(molecule: Chem.Mol, i: int) -> str:
    """SMILES without a hydrogen atom of atom `i`; changes the molecule."""
    atom = molecule.GetAtomWithIdx(i)
    atom.SetNumExplicitHs(atom.GetTotalNumHs() - 1)
    atom.SetNoImplicit(True)
    atom.SetNumRadicalElectrons(1)
    return Chem.MolToSmiles(molecule)


def main() -> int:
    """Make the geometries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    kinds = read(DATA / "kinds.xyz.gz", ":", format="extxyz")
    known = [a for a in kinds if a.info["name"].startswith("rad")]
    left, prefix = {"qm9": N_QM9, "kind": N_KINDS}, "radical"
    if chosen.small:
        known += read(DATA / "radicals.xyz.gz", ":", format="extxyz")
        left, prefix = dict(N_SMALL), "radical_small"
    seen = {Chem.CanonSmiles(str(a.info["smiles"])) for a in known}
    made: list[Atoms] = []
    again = [Chem.MolFromSmarts(smarts) for smarts in AGAIN]
    for source, smiles in sources(kinds):
        if not left[source]:
            continue
        small = chosen.small
        for radical in small_radicals(smiles) if small else without_hydrogen(smiles, HEAVY[source]):
            if not left[source] or radical in seen:
                continue
            seen.add(radical)
            try:
                atoms = from_smiles(radical)
            except InputError as error:
                print(f"{radical}: {error}", file=sys.stderr)
                continue
            left[source] -= 1
            n = len(made)
            held = "_held" if n % EVERY == EVERY // 2 else ""
            molecule = Chem.MolFromSmiles(radical)
            b = "b" if any(molecule.HasSubstructMatch(pattern) for pattern in again) else ""
            name = f"{prefix}_{source}_{n + 1:03d}{b}{held}"
            atoms.info = {"name": name, "charge": 0, "smiles": radical, "spin": 1}
            made.append(atoms)
    made.sort(key=lambda atoms: (len(atoms) // 4, random_for(atoms.info["name"]).random()))
    name = "radicals-small.xyz.gz" if chosen.small else "radicals.xyz.gz"
    write_structures(chosen.out or DATA / name, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
