"""Energies and levels of ions and polar molecules against PySCF's calculation without a box.

python benchmarks/open_space.py                    # all
python benchmarks/open_space.py acetate water      # some
python benchmarks/open_space.py -o results.json
python benchmarks/open_space.py --sizes ethanol    # times, by size
python benchmarks/open_space.py --labels DIR       # QM9 molecules of the model's validation part

The reference is PySCF's molecular code with GTH-PBE and GTH-TZV2P, four-centre integrals and
atom-centred grids. Energies in kcal/mol, levels in eV, each minus the reference; processor seconds
of two steps in a box, corrected for its images, and in open space. Then the range of the energy
of water after one and two steps over five random places and orientations.

With --sizes, processor seconds of one step from the predicted density and of energy and forces of
the calculator, in a box and in open space, and of PySCF's density-fitted molecular SCF.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

import denser
import denser.dft
from denser import Calculator
from denser.dft.molecular import build_molecule
from denser.dft.refine import Refined, refine
from denser.dft.scf import mean_field
from denser.labels.reading import read_labels
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import HARTREE
from one_step import choose
from recording import add_option, record
from scaling import MOLECULES

KCAL = 627.5094740631

SMILES = {
    "acetate": "CC(=O)[O-]",
    "methylammonium": "C[NH3+]",
    "glycine zwitterion": "[NH3+]CC(=O)[O-]",
    "dimethyl phosphate": "COP(=O)([O-])OC",
}
BUILT = {"water": "H2O", "formaldehyde": "H2CO", "NaCl": "NaCl", "LiF": "LiF", "ammonia": "NH3"}
NAMES = [*SMILES, "ammonium chloride", *BUILT]


def structure(name: str) -> Structure:
    """Geometry and charge of a molecule of this benchmark."""
    if name == "ammonium chloride":  # the ion pair, N-H...Cl on an axis
        d = 1.04 / 3**0.5
        hydrogens = [(d, d, d), (-d, -d, d), (-d, d, -d), (d, -d, -d)]
        atoms = Atoms("NH4Cl", [(0, 0, 0), *hydrogens, (1.75, 1.75, 1.75)])
        return Structure.from_ase(atoms)
    if name in SMILES:
        return Structure.of(denser.from_smiles(SMILES[name]))
    return Structure.from_ase(molecule(BUILT[name]))


def isolated(molecule: Structure) -> tuple[float, float, float]:
    """Energy, HOMO and LUMO (hartree) of PySCF's molecular code."""
    from pyscf import dft, gto

    mol = gto.M(
        atom=list(zip(molecule.symbols, molecule.positions, strict=True)),
        unit="bohr", charge=molecule.charge, basis="gth-tzv2p", pseudo="gth-pbe", verbose=0,
    )  # fmt: skip
    mf = dft.RKS(mol)
    mf.xc = "pbe"
    mf.grids.level = 4
    mf.kernel()
    if not mf.converged:
        raise SystemExit(f"the SCF of {molecule.formula} has not converged")
    n = mol.nelectron // 2
    return mf.e_tot, mf.mo_energy[n - 1], mf.mo_energy[n]


def invariance(predictor: Predictor, steps: int) -> float:
    """Largest minus smallest energy of water at five random places and orientations, meV."""
    rng = np.random.default_rng(0)
    energies = []
    for turn in Rotation.random(5, rng=rng):
        atoms = molecule("H2O")
        atoms.positions = turn.apply(atoms.positions) + rng.uniform(0, 0.2, 3)
        density = predictor.predict(atoms).density
        energies.append(refine(density, predictor.model.recipe, steps, isolated=True).e_tot)
    return float(np.ptp(energies)) * 1000 * HARTREE


def times(name: str, predictor: Predictor, only_steps: bool) -> dict[str, float]:
    """Processor seconds of steps, forces and PySCF's SCF of a molecule of `scaling.MOLECULES`."""
    from pyscf import dft

    atoms = denser.from_smiles(MOLECULES[name])
    density, recipe = predictor.predict(atoms).density, predictor.model.recipe
    molecule_ = density.structure
    found = {"n_atoms": float(len(atoms))}

    def timed(label: str, work: Callable[[], object]) -> None:
        start = time.process_time()
        work()
        found[label] = time.process_time() - start

    def in_box() -> Refined:
        mf = mean_field(molecule_, density.grid, recipe, isolated=True)
        return refine(density, recipe, mf=mf)

    timed("step_box", in_box)
    timed("step_open", lambda: refine(density, recipe, isolated=True))
    if only_steps:
        return found
    for label, estimate in (("forces_box", "mixed"), ("forces_open", None)):
        atoms.calc = Calculator(estimate=estimate, device="cpu")
        timed(label, atoms.get_forces)
    mf = dft.RKS(build_molecule(molecule_, recipe.basis), xc=recipe.xc).density_fit()
    timed("scf_pyscf", mf.kernel)
    return found


def of_qm9(folder: Path, n: int, most_atoms: int, predictor: Predictor) -> dict[str, float]:
    """Errors of two steps, meV, against PySCF's isolated SCF: molecules of the validation part."""
    recipe = predictor.model.recipe
    labels = choose(read_labels(folder), predictor, unseen=False, skip=20)
    structures = [replace(label.structure, cell=None) for label in labels]
    errors = {}
    for molecule_ in [s for s in structures if len(s) <= most_atoms][:n]:
        density = predictor.predict(molecule_).density
        found = refine(density, recipe, 2, isolated=True)
        errors[molecule_.formula] = (found.e_tot - isolated(molecule_)[0]) * 1000 * HARTREE
        print(f"{molecule_.formula:12}{errors[molecule_.formula]:8.3f} meV", flush=True)
    sizes = np.abs(list(errors.values()))
    print(f"{len(sizes)} molecules, mean {sizes.mean():.3f} meV, worst {sizes.max():.3f}")
    return errors | {"mean": float(sizes.mean())}


def main() -> None:
    """Print the table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("-o", "--out", type=Path, help="write the results to a JSON file")
    parser.add_argument("--sizes", nargs="*", help=f"times of: {', '.join(MOLECULES)}")
    parser.add_argument("--only-steps", action="store_true", help="no times of forces and the SCF")
    parser.add_argument("--labels", type=Path, help="store with QM9, for molecules of it instead")
    parser.add_argument("--n", type=int, default=10, help="molecules of QM9")
    parser.add_argument("--most-atoms", type=int, default=12, help="of molecules of QM9")
    add_option(parser)
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NAMES)}")
    predictor = Predictor()
    if options.sizes is not None:
        rows = {}
        for name in options.sizes or MOLECULES:
            rows[name] = times(name, predictor, options.only_steps)
            print(f"{name:24}" + "  ".join(f"{k} {v:.1f}" for k, v in rows[name].items()))
        record(options.results, "open_space_times", rows, predictor)
        return
    if options.labels is not None:
        found = of_qm9(options.labels, options.n, options.most_atoms, predictor)
        record(options.results, "open_space_qm9", found, predictor)
        return
    recipe = predictor.model.recipe
    labels = ("E, box", "E", "HOMO, box", "HOMO", "LUMO, box", "LUMO", "s, box", "s")
    print(" " * 20 + "".join(f"{label:>10}" for label in labels))
    results: dict = {"molecules": {}}
    for name in options.names or NAMES:
        molecule_ = structure(name)
        density = predictor.predict(molecule_).density
        e, homo, lumo = isolated(molecule_)
        row: dict = {}
        for label in ("box", "open_space"):
            start = time.process_time()
            mf = None
            if label == "box":
                mf = mean_field(molecule_, density.grid, recipe, isolated=True)
            found = refine(density, recipe, 2, mf=mf, isolated=True)
            row[label] = {
                "e_kcal_mol": (found.e_tot - e) * KCAL,
                "homo_ev": (found.homo - homo) * HARTREE,
                "lumo_ev": (found.lumo - lumo) * HARTREE,
                "seconds": time.process_time() - start,
            }
        results["molecules"][name] = row
        values = [row[label][key] for key in row["box"] for label in ("box", "open_space")]
        print(f"{name:20}" + "".join(f"{value:10.2f}" for value in values), flush=True)
    results["water_moved_mev"] = {n: invariance(predictor, n) for n in (1, 2)}
    for n, spread in results["water_moved_mev"].items():
        print(f"water moved and turned, {n} step{'s' * (n > 1)}: {spread:.4f} meV")
    record(options.results, "open_space", results, predictor)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
