"""One prediction of a large structure, in a process of its own, so that its memory is known.

    python benchmarks/large.py grid water:3000
    python benchmarks/large.py points protein.xyz:-2 --threads 2
    python benchmarks/large.py file water:3000 --spacing 0.09 --memory 0.5

Prints one line of JSON. `grid` predicts on a grid, with Hirshfeld charges and the potential on the
surface of 0.001 e/bohr^3; `points` predicts without a grid, with the dipole, Hirshfeld charges, and
the potential at the Merz-Kollman points around the structure; `predict` does so with the dipole
alone, for the largest; `file` predicts and writes a CCP4 map, in parts if the grid needs more than
--memory; `reference` gives Err_rho against an
SCF, in the paper's box; `fragments` does so for structures that are too large for that. It cuts
molecules out with their neighbours (33 atoms and more), and takes Err_rho in the share of the
molecule (Hirshfeld's), the neighbours being there in both densities. What lies farther away is
taken as additive: it changes prediction and reference alike. `benchmarks/scaling.py --large` runs
this for many sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from denser.types.errors import InputError

if TYPE_CHECKING:
    from denser.model.predictor import Predictor
    from denser.types.structure import Structure

PARTS = ("grid", "predict", "points", "file", "reference", "fragments")

CUT_OUT = 2
LEAST_ATOMS = 33
"""Molecules that are cut out, from the middle of the structure and from near its surface, and the
least number of atoms of one with its neighbours."""


def structure_of(entry: str) -> Structure:
    """water:N is a droplet of about N atoms; otherwise FILE or FILE:CHARGE."""
    from denser.io.structures import as_structure
    from denser.types.structure import Structure
    from droplets import droplet

    name, _, number = entry.partition(":")
    try:
        count = int(number or 0)
    except ValueError:
        raise InputError(f"{entry}: expected water:ATOMS, FILE or FILE:CHARGE") from None
    if name == "water":
        return Structure.from_ase(droplet(max(1, round(count / 3))), 0)
    return as_structure(name, count if number else None, isolated=True)


def error_in_fragments(structure: Structure, predictor: Predictor) -> float:
    """Err_rho in molecules that are cut out with their neighbours; see above."""
    import numpy as np

    from denser.analysis.charges.stockholder import promolecules
    from denser.atoms.molecules import whole_molecules
    from denser.dft.cell import build_cell, density_from_dm
    from denser.dft.scf import scf
    from denser.types.structure import Structure

    positions = structure.positions
    molecules = [m.atoms for m in whole_molecules(structure)]
    if max(map(len, molecules)) > LEAST_ATOMS or structure.charge:
        raise InputError("only neutral structures of small molecules are cut into fragments")
    from_centre = [
        np.linalg.norm(positions[m].mean(axis=0) - positions.mean(axis=0)) for m in molecules
    ]
    outwards = np.argsort(from_centre)
    wrong = electrons = 0.0
    for chosen in outwards[np.linspace(0, len(outwards) - 1, CUT_OUT + 1).astype(int)[:-1]]:
        own = molecules[chosen]
        gaps = [
            np.linalg.norm(positions[m][:, None] - positions[own], axis=-1).min() for m in molecules
        ]
        nearest = iter(np.argsort(gaps, kind="stable"))
        taken: list[int] = []
        while len(taken) < LEAST_ATOMS:
            taken += molecules[next(nearest)].tolist()
        fragment = Structure(structure.numbers[taken], positions[taken])
        density = predictor.predict(fragment, box="paper").density
        recipe = predictor.model.recipe
        result = scf(fragment, density.grid, recipe)
        cell = build_cell(fragment, density.grid, recipe)
        reference = density_from_dm(cell, result.dm, density.grid, fragment)
        all_atoms = np.arange(len(taken))
        inner, every = promolecules(density, [all_atoms[: len(own)], all_atoms])
        share = np.divide(inner, every, out=np.zeros_like(inner), where=every > 0)
        wrong += float((share * np.abs(density.values - reference.values)).sum()) * density.grid.dv
        electrons += float((share * reference.values).sum()) * density.grid.dv
    return wrong / electrons


class Clock:
    """Seconds of processor and wall time since the last call."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def __call__(self, name: str) -> dict[str, float]:
        """Seconds, with these names."""
        cpu, wall = time.process_time(), time.perf_counter()
        found = {f"{name}_cpu_s": cpu - self.cpu, f"{name}_wall_s": wall - self.wall}
        self.cpu, self.wall = cpu, wall
        return found


def measure(part: str, entry: str, spacing: float, model: str, memory: float | None) -> dict:
    """Figures of one part."""
    from denser.analysis.charges.esp_charges import merz_kollman_points
    from denser.analysis.charges.stockholder import hirshfeld
    from denser.analysis.charges.without_grid import Conformer
    from denser.analysis.potential.electrostatics import Potential
    from denser.analysis.potential.esp_surface import isosurface
    from denser.model.options import PredictionOptions
    from denser.model.predictor import Predictor
    from denser.types.density import SlabDensity
    from denser.workflows.refined import predicted

    structure = structure_of(entry)
    predictor = Predictor(model, device="cpu")
    predictor.predict(structure_of("water:6"))  # the first call loads and compiles
    found: dict = {"n_atoms": len(structure)}
    clock = Clock()
    if part == "grid":
        prediction = predictor.predict(structure, spacing=spacing)
        found |= clock("grid")
        found |= {"nodes": prediction.density.grid.size, "spacing_angstrom": spacing}
        expected = prediction.expected_error
        found["expected_error_percent"] = None if expected is None else 100 * expected
        density = prediction.density
        del prediction
        hirshfeld(density)
        found |= clock("grid_charges")
        vertices = isosurface(density, 0.001)[0]
        Potential(density)(vertices)
        found |= clock("grid_potential") | {"n_vertices": len(vertices)}
    elif part in ("predict", "points"):
        atoms, _ = predictor.gaussians(structure)
        molecule = Conformer(structure, atoms)
        molecule.dipole()
        found |= clock("predict")
        if part == "points":
            molecule.charges("hirshfeld")
            found |= clock("charges")
            points = merz_kollman_points(structure)
            molecule.potential(points)
            found |= clock("potential") | {"n_points": len(points)}
    elif part == "file":
        with TemporaryDirectory() as folder:
            path = Path(folder) / "rho.ccp4"
            options = PredictionOptions(spacing=spacing)
            prediction, _ = predicted(structure, path, predictor, options, memory)
            prediction.density.write(path)
        found |= clock("file") | {"nodes": prediction.density.grid.size}
        found |= {"in_parts": isinstance(prediction.density, SlabDensity)}
    elif part == "fragments":
        error = error_in_fragments(structure, predictor)
        return found | {"err_rho_percent": 100 * error, "reference": "fragments"}
    else:
        from denser.dft.cell import build_cell, density_from_dm
        from denser.dft.scf import scf
        from denser.fields.metrics import err_rho

        density = predictor.predict(structure, box="paper").density
        recipe = predictor.model.recipe
        result = scf(structure, density.grid, recipe)
        cell = build_cell(structure, density.grid, recipe)
        reference = density_from_dm(cell, result.dm, density.grid, structure)
        error = err_rho(density, reference)
        return found | {"err_rho_percent": 100 * error, "reference": "whole"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return found | {f"{part}_memory_gb": peak}


def main() -> int:
    """Run; input that cannot be used is a sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("structure", help="water:ATOMS, FILE or FILE:CHARGE")
    parser.add_argument("--spacing", type=float, default=0.2, help="of the grid, angstrom")
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, help="of `file`, GB; by default half of the free")
    chosen = parser.parse_args()
    memory = None if chosen.memory is None else 1e9 * chosen.memory
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(chosen.threads)
    import_module("denser.dft")  # before torch: its docstring says why
    import torch

    torch.set_num_threads(chosen.threads)
    try:
        found = measure(chosen.part, chosen.structure, chosen.spacing, chosen.model, memory)
    except (InputError, OSError) as error:
        print(f"large.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
