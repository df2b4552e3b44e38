"""Densities with electrons solved in fragments against those of the whole structure.

    python benchmarks/fragments.py
    python benchmarks/fragments.py dna.xyz protein.xyz:-2 --buffers 8 10 12

Without files: a droplet of water, a solution of NaCl, and a peptide. A charge follows the file
after a colon. Errors are integrals of the absolute change of the density, in percent of the
electrons, as Err_rho; seconds are of processor time.
"""

from __future__ import annotations

import argparse
import sys
import time

import ase.io
import torch
from ase import Atoms

from denser.atoms.sad import count_electrons
from denser.io.structures import from_smiles
from denser.model import fragments
from denser.model.expansion import add_to_grid
from denser.model.graph import Graph
from denser.model.predictor import Predictor
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import BOHR
from droplets import droplet

_SPACING = 0.25 / BOHR


def structures(files: list[str]) -> dict[str, Structure]:
    """Those of the files, or the three of this benchmark."""
    if not files:
        built = {
            "water": droplet(170),
            "NaCl in water": droplet(180, ["Na", "Cl"] * 5),
            "peptide": from_smiles("CC(=O)" + "NC(C)C(=O)NCC(=O)" * 30 + "NC"),
        }
        return {name: Structure.from_ase(atoms, 0) for name, atoms in built.items()}
    found = {}
    for entry in files:
        path, _, charge = entry.partition(":")
        atoms = ase.io.read(path)
        assert isinstance(atoms, Atoms)
        found[path] = Structure.from_ase(atoms, int(charge or 0))
    return found


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="structures, FILE or FILE:CHARGE")
    parser.add_argument("--buffers", nargs="+", type=float, default=[fragments.BUFFER])
    parser.add_argument("--model", default="default")
    chosen = parser.parse_args()
    try:
        found = structures(chosen.files)
    except (InputError, OSError, ValueError) as error:
        print(f"fragments.py: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    network = Predictor(chosen.model, device="cpu").network
    print("  atoms  buffer/bohr  whole/s  fragments/s  change/%  structure")
    for name, structure in found.items():

        def solved(smallest: int) -> tuple[torch.Tensor, float]:
            """Coefficients, and seconds of the electrons."""
            fragments.SMALLEST = smallest
            start = time.process_time()
            graph = Graph.of(structure, None, network.config)  # noqa: B023
            seconds = time.process_time() - start
            with torch.no_grad():
                return network.coefficients(graph)[0].double(), seconds

        whole, seconds_whole = solved(len(structure) + 1)
        grid = Grid.around(structure, 4 / BOHR, _SPACING, 8)
        positions = torch.tensor(structure.positions)
        exponents = network.get_buffer("exponents").double()
        for buffer in chosen.buffers:
            fragments.BUFFER = buffer
            parts, seconds = solved(1)
            change = torch.zeros(grid.shape, dtype=torch.float64)
            add_to_grid(change, grid, positions, parts - whole, exponents)
            percent = 100 * float(change.abs().sum()) * grid.dv / count_electrons(structure)
            print(
                f"{len(structure):7} {buffer:12.1f} {seconds_whole:8.1f} {seconds:12.1f} "
                f"{percent:9.4f}  {name}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
