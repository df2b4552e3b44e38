"""Molecules of QM9's training part that teach most: a list of numbers to label.

    python benchmarks/choose.py --have labels.db --n 1000 -o ids.txt
    denser label qm9:ids.txt --residual 0.35 --rattle 0.06 -o more.db

Greedy coverage of atomic surroundings (Morgan fingerprints of radius 2): a molecule is worth
sum_e sqrt(f_e) ln((2 + k_e) / (1 + k_e)) for each atom that it costs, over its surroundings e,
which occur f_e times in all of QM9's training part (rarer than 5 times: not counted) and k_e
times in what is labelled already. Needs RDKit and qm9pack.
"""

from __future__ import annotations

import argparse
import heapq
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from denser.labels.qm9 import smiles, split_numbers
from denser.labels.reading import read_labels
from denser.types.errors import InputError

RAREST = 5
"""Surroundings that occur in fewer molecules than this do not count."""


def surroundings(numbers: tuple[int, ...]) -> tuple[dict[int, dict[int, int]], dict[int, int]]:
    """Counts of Morgan environments, and number of atoms, of each molecule."""
    from rdkit import Chem, RDLogger
    from rdkit.Chem import rdFingerprintGenerator

    RDLogger.DisableLog("rdApp.*")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    found, sizes = {}, {}
    for number, text in smiles(numbers):
        molecule = Chem.MolFromSmiles(text)
        if molecule is not None:
            found[number] = generator.GetSparseCountFingerprint(molecule).GetNonzeroElements()
            sizes[number] = Chem.AddHs(molecule).GetNumAtoms()
    return found, sizes


def choose(
    found: dict[int, dict[int, int]], sizes: dict[int, int], have: set[int], n: int
) -> list[int]:
    """Numbers of the next `n` molecules, best first."""
    frequency = Counter(e for environments in found.values() for e in environments)
    weight = {e: k**0.5 for e, k in frequency.items() if k >= RAREST}
    known: Counter[int] = Counter()
    for number in have & found.keys():
        known.update(found[number].keys())

    def gain(number: int) -> float:
        worth = sum(
            weight[e] * np.log((2 + known[e]) / (1 + known[e]))
            for e in found[number]
            if e in weight
        )
        return worth / sizes[number]

    heap = [(-gain(number), number) for number in found if number not in have]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < n:
        _, number = heapq.heappop(heap)
        worth = gain(number)  # no more than when it was put there
        if heap and worth < -heap[0][0]:
            heapq.heappush(heap, (-worth, number))
            continue
        chosen.append(number)
        known.update(found[number].keys())
    return chosen


def main() -> int:
    """Choose and write; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--have", nargs="*", default=[], help="folders or stores of labels")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("-o", "--out", type=Path, default=Path("ids.txt"))
    chosen = parser.parse_args()
    try:
        names = [label.molecule for path in chosen.have for label in read_labels(path)]
        have = {int(m[1]) for name in names if (m := re.fullmatch(r"qm9_(\d{6})", name))}
        found, sizes = surroundings(tuple(int(n) for n in split_numbers("train")))
        numbers = choose(found, sizes, have, chosen.n)
        chosen.out.write_text("".join(f"qm9_{n:06d}\n" for n in numbers))
    except InputError as error:
        print(f"choose.py: {error}", file=sys.stderr)
        return 2
    print(
        f"wrote {chosen.out}: {len(numbers)} of {len(found)} molecules, "
        f"{np.mean([sizes[n] for n in numbers]):.1f} atoms in the mean; {len(have)} known before"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
