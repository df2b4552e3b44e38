"""Interaction energies from predicted densities beside published ones; fit of the repulsion.

    python benchmarks/interactions.py S66DIR -o terms.json            # computes and fits
    python benchmarks/interactions.py S66DIR -o terms.json --s22x5    # S22x5 of ASE as well

S66DIR holds NAME.xyz (Rezac, Riley and Hobza, J. Chem. Theory Comput. 7, 2427 (2011)). Published:
CCSD(T) at the basis-set limit, of that paper as in Psi4's file of the set (databases/S66.py), and
of S22x5 as in ASE (`ase.data.s22`; Grafova et al., J. Chem. Theory Comput. 6, 2365 (2010)), at 0.9,
1, 1.2, 1.5 and 2 times the equilibrium distance. K and g of `denser.analysis.interactions.
fragment_energies` are fitted to S66 alone, and each dimer's error is that of a fit without it.
S22x5 is not in the fit. terms.json keeps what has been computed, and the same command continues.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data.s22 import (
    create_s22_system,
    get_interaction_energy_s22x5,
    get_number_of_dimer_atoms,
    s22x5,
)
from ase.units import kcal, mol
from scipy.optimize import least_squares

from denser.analysis.charges.without_grid import Conformer
from denser.analysis.interactions.fragment_energies import terms_of
from denser.dft.interaction import fragments_of
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import KCAL_PER_MOL
from recording import add_option, record

S66 = dict(
    entry.split()
    for entry in """
WaterWater -4.918, WaterMeOH -5.592, WaterMeNH2 -6.908, WaterPeptide -8.103, MeOHMeOH -5.757,
MeOHMeNH2 -7.554, MeOHPeptide -8.230, MeOHWater -5.009, MeNH2MeOH -3.059, MeNH2MeNH2 -4.160,
MeNH2Peptide -5.419, MeNH2Water -7.266, PeptideMeOH -6.187, PeptideMeNH2 -7.454, PeptidePeptide
-8.630, PeptideWater -5.124, UracilUracilBP -17.182, WaterPyridine -6.857, MeOHPyridine -7.410,
AcOHAcOH -19.093, AcNH2AcNH2 -16.265, AcOHUracil -19.491, AcNH2Uracil -19.189,
BenzeneBenzenepipi -2.822, PyridinePyridinepipi -3.895, UracilUracilpipi -9.829,
BenzenePyridinepipi -3.439, BenzeneUracilpipi -5.713, PyridineUracilpipi -6.819, BenzeneEthene
-1.432, UracilEthene -3.380, UracilEthyne -3.738, PyridineEthene -1.872, PentanePentane -3.776,
NeopentanePentane -2.613, NeopentaneNeopentane -1.777, CyclopentaneNeopentane -2.404,
CyclopentaneCyclopentane -2.997, BenzeneCyclopentane -3.575, BenzeneNeopentane -2.895,
UracilPentane -4.848, UracilCyclopentane -4.138, UracilNeopentane -3.712, EthenePentane -2.005,
EthynePentane -1.748, PeptidePentane -4.264, BenzeneBenzeneTS -2.876, PyridinePyridineTS -3.535,
BenzenePyridineTS -3.331, BenzeneEthyneCHpi -2.867, EthyneEthyneTS -1.524, BenzeneAcOHOHpi
-4.707, BenzeneAcNH2NHpi -4.361, BenzeneWaterOHpi -3.277, BenzeneMeOHOHpi -4.188,
BenzeneMeNH2NHpi -3.231, BenzenePeptideNHpi -5.282, PyridinePyridineCHN -4.146, EthyneWaterCHO
-2.850, EthyneAcOHOHpi -4.868, PentaneAcOH -2.912, PentaneAcNH2 -3.534, BenzeneAcOH -3.801,
PeptideEthene -2.999, PyridineEthyne -3.991, MeNH2Pyridine -3.968
""".replace("\n", " ").split(", ")
)
"""CCSD(T) at the basis-set limit, kcal/mol, in the order of the set."""

KINDS = {"hydrogen bonds": slice(0, 23), "dispersion": slice(23, 46), "others": slice(46, 66)}


def compute(atoms: Atoms, fragments: str, predictor: Predictor) -> dict:
    """Terms of a dimer in kcal/mol, with its overlap."""
    begin = time.perf_counter()
    parts = fragments_of(Structure.of(atoms), fragments)
    conformers = [Conformer(part, predictor.gaussians(part)[0]) for part in parts]
    found = terms_of(conformers, predictor.model.recipe)
    return {
        "electrostatic": found.electrostatic * KCAL_PER_MOL,
        "polarisation": sum(found.polarisation) * KCAL_PER_MOL,
        "dispersion": found.dispersion * KCAL_PER_MOL,
        "overlap": found.pairs[0].overlap,
        "seconds": time.perf_counter() - begin,
    }


def attractive(entry: dict) -> float:
    """All terms but the repulsion."""
    return entry["electrostatic"] + entry["polarisation"] + entry["dispersion"]


def fit(rest: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Ln K (kcal/mol) and g that give the rest, with errors relative to 1 + its size."""

    def errors(x: np.ndarray) -> np.ndarray:
        return (np.exp(x[0] + x[1] * np.log(overlap)) - rest) / (1 + 0.2 * rest)

    return least_squares(errors, [np.log(600.0), 0.95], loss="soft_l1").x


def main() -> None:
    """Compute, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--s22x5", action="store_true")
    parser.add_argument("--most", type=float, default=1e9, help="seconds after which none begins")
    add_option(parser)
    options = parser.parse_args()
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    predictor, begin = Predictor("default"), time.perf_counter()
    jobs = {name: (ase.io.read(options.folder / f"{name}.xyz"), "bonds") for name in S66}
    if options.s22x5:
        for name in s22x5:
            n = get_number_of_dimer_atoms(name)
            jobs[name] = create_s22_system(name), f"1-{n[0]},{n[0] + 1}-{sum(n)}"
    for name, (atoms, fragments) in sorted(jobs.items(), key=lambda job: len(job[1][0])):
        if name not in known and time.perf_counter() - begin < options.most:
            known[name] = compute(atoms, fragments, predictor)
            options.out.write_text(json.dumps(known, indent=1))
            print(name, {k: round(x, 3) for k, x in known[name].items()}, flush=True)
    names = [name for name in S66 if name in known]
    published = np.array([float(S66[name]) for name in names])
    rest = published - [attractive(known[name]) for name in names]
    overlap = np.array([known[name]["overlap"] for name in names])
    x = fit(rest, overlap)
    print(f"K = {np.exp(x[0]) / KCAL_PER_MOL:.4f} hartree (bohr^3/e^2)^g, g = {x[1]:.4f}")
    errors = np.empty(len(names))
    for i in range(len(names)):  # each dimer is left out in turn
        others = np.arange(len(names)) != i
        k = fit(rest[others], overlap[others])
        errors[i] = np.exp(k[0] + k[1] * np.log(overlap[i])) - rest[i]
    heads = ("electrostatic", "polarisation", "dispersion", "repulsion", "sum", "published")
    print("| dimer | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for i, name in enumerate(names):
        entry = known[name]
        row = [entry[head] for head in heads[:3]]
        row += [rest[i] + errors[i], published[i] + errors[i], published[i]]
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
    of = dict(zip(names, errors, strict=True))
    table = {}
    for kind, some in {"all": slice(None), **KINDS}.items():
        these = [of[name] for name in list(S66)[some] if name in of]
        table[kind] = _statistics(these)
        print(kind, table[kind])
    far = {}
    for name in s22x5:
        if name in known:
            e = attractive(known[name]) + np.exp(x[0] + x[1] * np.log(known[name]["overlap"]))
            far.setdefault(name[-3:], []).append(
                e - get_interaction_energy_s22x5(name) / (kcal / mol)
            )
    for distance, these in far.items():
        table[f"S22 at {distance}"] = _statistics(these)
        print(f"S22 at {distance}", table[f"S22 at {distance}"])
    record(options.results, "interactions", {"errors": table})


def _statistics(errors: list[float]) -> dict:
    """Mean, mean absolute and largest error, kcal/mol."""
    values = np.array(errors)
    if not len(values):
        return {"n": 0}
    return {
        "n": len(values),
        "mean": round(float(values.mean()), 3),
        "mae": round(float(np.abs(values).mean()), 3),
        "worst": round(float(np.abs(values).max()), 3),
    }


if __name__ == "__main__":
    main()
