"""Geometries of radicals to make labels of: `data/radicals.xyz.gz`.

    python benchmarks/radical_structures.py -o data/radicals.xyz.gz

A hydrogen atom is taken from molecules of the training part of QM9's split with at most 7 heavy
atoms, and from the neutral molecules of `data/kinds.xyz.gz` with at most 8, which are not held out.
Where it is taken from is drawn at random; heteroatoms are as likely as all carbon atoms together.
RDKit makes the geometries (ETKDG, MMFF94 or UFF). Every tenth radical is held out: its name ends in
`_held`. So is every radical of `data/kinds.xyz.gz` that is held out there.
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


def without_hydrogen(smiles: str, n_heavy: int) -> str | None:
    """SMILES of a radical; None if the molecule is larger or has no hydrogen."""
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumHeavyAtoms() > n_heavy:
        return None
    carbon, other = [], []
    for atom in molecule.GetAtoms():
        if atom.GetTotalNumHs():
            (carbon if atom.GetSymbol() == "C" else other).append(atom.GetIdx())
    random = random_for(Chem.MolToSmiles(molecule))
    pool = other if other and (not carbon or random.random() < 0.5) else carbon
    if not pool or any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return None
    atom = molecule.GetAtomWithIdx(int(random.choice(pool)))
    atom.SetNumExplicitHs(atom.GetTotalNumHs() - 1)
    atom.SetNoImplicit(True)
    atom.SetNumRadicalElectrons(1)
    return Chem.MolToSmiles(molecule)


def main() -> int:
    """Make the geometries."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=DATA / "radicals.xyz.gz")
    chosen = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    kinds = read(DATA / "kinds.xyz.gz", ":", format="extxyz")
    seen = {
        Chem.CanonSmiles(str(a.info["smiles"])) for a in kinds if a.info["name"].startswith("rad")
    }
    left = {"qm9": N_QM9, "kind": N_KINDS}
    made: list[Atoms] = []
    for source, smiles in sources(kinds):
        radical = without_hydrogen(smiles, HEAVY[source]) if left[source] else None
        if radical is None or radical in seen:
            continue
        seen.add(radical)
        try:
            atoms = from_smiles(radical)
        except InputError as error:
            print(f"{radical}: {error}", file=sys.stderr)
            continue
        left[source] -= 1
        n = len(made)
        name = f"radical_{source}_{n + 1:03d}" + ("_held" if n % EVERY == EVERY // 2 else "")
        atoms.info = {"name": name, "charge": 0, "smiles": radical, "spin": 1}
        made.append(atoms)
    made.sort(key=lambda atoms: (len(atoms) // 4, random_for(atoms.info["name"]).random()))
    write_structures(chosen.out, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
