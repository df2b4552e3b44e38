"""How long the viewer's server takes to answer when an atom is dragged and let go.

    python benchmarks/viewer.py

One atom moves by a hundredth of an angstrom; the answer holds the density's surface at 0.1
e/bohr^3, the electrons, the dipole and, of up to 24 atoms, charges: on a draft's grid during a
drag, on the model's grid on release. Seconds of wall time, median of nine (of three for the large
one), without the browser.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from denser.io.structures import from_smiles
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import BOHR
from denser.viewer import draw
from denser.viewer.items import Item
from denser.viewer.session import Session
from trajectory import cluster

SHOWN = {"surface": {"field": "density", "level": 0.1}}


def seconds(session: Session, draft: bool, n: int) -> float:
    """Median of `n` answers."""
    position = session.committed.positions[0] * BOHR
    times = []
    for k in range(n):
        start = time.perf_counter()
        place = (position + 0.01 * k).tolist()
        session.edit({"op": "move", "atoms": [0], "positions": [place]}, draft)
        draw.message(session, SHOWN)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    predictor = Predictor(parser.parse_args().model)
    waters = cluster(72)
    molecules = {
        "benzene": from_smiles("c1ccccc1"),
        "aspirin": from_smiles("CC(=O)Oc1ccccc1C(=O)O"),
        "72 waters": sum(waters[1:], waters[0]),
    }
    print(f"{'':12s} {'atoms':>6s} {'drag, s':>9s} {'release, s':>11s}")
    for name, atoms in molecules.items():
        session = Session(predictor, [Item(name, Structure.of(atoms))])
        n = 9 if len(atoms) < 100 else 3
        drag, release = seconds(session, True, n), seconds(session, False, n)
        print(f"{name:12s} {len(atoms):6d} {drag:9.2f} {release:11.2f}")


if __name__ == "__main__":
    main()
