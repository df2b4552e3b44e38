"""Atoms found in densities, beside those of which the densities are.

    python benchmarks/atoms_back.py                                # predictions of 20 molecules
    python benchmarks/atoms_back.py --labels benchmarks/labels.db  # converged densities

Predictions at the usual spacing (0.083 angstrom) and on 64^3 nodes 0.5 bohr apart. An atom is found
if there is one within 0.25 angstrom. Converged densities are those of labels that are on the nodes
0.5 bohr apart, so that the error of the model is in the positions.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

import denser
from denser.analysis.topology.atoms_of import atoms_of
from denser.atoms.sad import valence_charges
from denser.labels.reading import read_labels
from denser.labels.render import density_on_grid
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.units import BOHR

MOLECULES = (
    "C[Si](C)(C)C", "OB(O)c1ccccc1", "CCO", "C#N", "CC=O", "N#CCCO", "NCC(=O)O", "CC(=O)[O-]",
    "C[NH3+]", "FC(F)(F)CCl",
    "CS(=O)(=O)N", "c1ccsc1", "c1ccncc1", "CBr", "CI", "O=c1cc[nH]c(=O)[nH]1", "COP(=O)(OC)OC",
    "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
)  # fmt: skip
NEAR = 0.25  # angstrom
CUBE = 64, 0.5


def measured(name: str, density: Density) -> np.ndarray:
    """Atoms, those found, wrong elements, others found, sums of squares (heavy, H), seconds."""
    true, begin = density.structure, time.process_time()
    try:
        found = atoms_of(density)
    except InputError as error:
        print(f"{name}: {error}")
        return np.array([len(true), 0, 0, 0, 0, 0, 0, 0, time.process_time() - begin])
    there = found.structure
    d = BOHR * cdist(true.positions, there.positions)
    nearest, near = d.argmin(axis=1), d.min(axis=1) < NEAR
    right = there.numbers[nearest] == true.numbers
    heavy = true.numbers > 1
    squares = [(d.min(axis=1)[near & of] ** 2).sum() for of in (heavy, ~heavy)]
    counts = [(near & heavy).sum(), (near & ~heavy).sum()]
    row = np.array([
        len(true), near.sum(), (near & ~right).sum(), len(there) - near.sum(), *squares, *counts,
        time.process_time() - begin,
    ])  # fmt: skip
    print(
        f"{name}: {near.sum()} of {len(true)} atoms, {(near & ~right).sum()} wrong elements, "
        f"{len(there) - near.sum()} too many, charge {there.charge} ({true.charge}), "
        f"densities differ by {100 * found.error:.2f} %, {row[-1]:.1f} s",
        flush=True,
    )
    return row


def summary(title: str, rows: list[np.ndarray]) -> None:
    """Print the sums of a kind."""
    n, found, wrong, more, heavy, light, n_heavy, n_light, seconds = np.sum(rows, axis=0)
    print(
        f"{title}: {len(rows)} densities, {found:.0f} of {n:.0f} atoms, "
        f"{wrong:.0f} wrong elements, {more:.0f} too many; "
        f"rms {np.sqrt(heavy / max(n_heavy, 1)):.4f} angstrom (heavy), "
        f"{np.sqrt(light / max(n_light, 1)):.4f} (H); {seconds / len(rows):.1f} s each",
        flush=True,
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=Path, help="a store of labels, in place of predictions")
    parser.add_argument("--n", type=int, default=20, help="number of molecules")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.labels is not None:
        rows = []
        for label in read_labels(arguments.labels)[: arguments.n]:
            structure = replace(label.structure, cell=None)
            grid = Grid.cube(structure, *CUBE)
            rho = density_on_grid(structure.numbers, structure.positions, label.mo_coeff, grid)
            density = Density(
                grid,
                rho.numpy(),
                structure=structure,
                valence_charges=valence_charges(structure),
            )
            name = f"{structure.formula} {structure.charge:+d}"
            rows.append(measured(name, density))
        summary("converged, 0.5 bohr", rows)
        return
    for title, box in (("0.5 bohr", "cube:{}:{}".format(*CUBE)), ("0.083 angstrom", "auto")):
        rows = []
        for smiles in MOLECULES[: arguments.n]:
            density = denser.predict(denser.from_smiles(smiles), box=box)
            rows.append(measured(f"{smiles} ({title})", density))
        summary(title, rows)


if __name__ == "__main__":
    main()
