"""Interaction energies from predicted densities beside published ones; fit of the repulsion.

    python benchmarks/interactions.py --s66 DIR --x40 DIR --ionichb DIR --one-step 17 -o terms.json
    python benchmarks/interactions.py --s66 DIR --s22x5 -o terms.json      # S22x5 of ASE as well

The folders hold NAME.xyz of three sets of dimers; the second line may hold the charge. Published
energies are CCSD(T) at the basis-set limit:

- S66 (Rezac, Riley and Hobza, J. Chem. Theory Comput. 7, 2427 (2011)), as in Psi4;
- X40, with F, Cl, Br and I (Rezac, Riley and Hobza, ibid. 8, 4285 (2012)), and ionic hydrogen bonds
  (Rezac and Hobza, ibid. 8, 141 (2012)), both as in the repository aoterodelaroza/refdata;
- S22x5 as in ASE (`ase.data.s22`; Grafova et al., ibid. 6, 2365 (2010)), at 0.9, 1, 1.2, 1.5 and 2
  times the equilibrium distance.

K and g of `denser.analysis.interactions.fragment_energies` are fitted to S66 alone, and the error
of each of its dimers is that of a fit without it. The other sets are not in the fit. `--one-step N`
adds, for dimers of at most N atoms, the energy of the dimer minus those of its molecules by one
Kohn-Sham step each (PBE-D4/GTH-TZV2P), with the counterpoise correction. terms.json keeps what has
been computed, and the same command continues. A dimer takes 1 to 21 s of one core.
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
from denser.dft.interaction import fragments_of, whole_of
from denser.dft.open_space_gradient import open_step
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import BOHR, KCAL_PER_MOL
from recording import add_option, record


def _table(text: str) -> dict[str, float]:
    return {name: float(e) for name, e in (entry.split() for entry in text.split(","))}


S66 = _table("""
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
""")
"""kcal/mol, in the order of the set."""

X40 = _table("""
01methaneF2 -0.491, 02methaneCl2 -1.079, 03methaneBr2 -1.300, 04methaneI2 -1.346,
05fluoromethanemethane -0.751, 06chloromethanemethane -0.980, 07trifluoromethanemethane -0.691,
08trichloromethanemethane -1.146, 09fluoromethanedimer -1.648, 10chloromethanedimer -1.338,
11trifluorobenzenezenebenzene -4.405, 12hexafuorobenzenezenebenzene -6.121,
13chloromethaneformaldehyde -1.170, 14bromomethaneformaldehyde -1.722,
15iodomethaneformaldehyde -2.382, 16trifluorochloromethaneformaldehyde -2.246,
17trifluorobromomethaneformaldehyde -3.103, 18trifluoroiodomethaneformaldehyde -4.080,
19chlorobenzenezeneacetone -1.489, 20bromobenzenezeneacetone -2.426,
21iodobenzenezeneacetone -3.460, 22chlorobenzenezenetrimethylamine -2.113,
23bromobenzenezenetrimethylamine -3.778, 24iodobenzenezenetrimethylamine -5.807,
25bromobenzenezenemethanethiol -2.316, 26iodobenzenezenemethanethiol -3.078,
27bromomethanebenzene -1.814, 28iodomethanebenzene -2.483, 29trifluorobromomethanebenzene -3.110,
30trifluoroiodomethanebenzene -3.915, 31trifluoromethanolwater -9.669,
32trichloromethanolwater -10.405, 33HFmethanol -9.593, 34HClmethanol -6.300, 35HBrmethanol -5.356,
36HImethanol -3.971, 37HFmethylamine -14.318, 38HClmethylamine -11.419,
39methanolfluoromethane -3.893, 40methanolchloromethane -3.778
""")

IONICHB = _table("""
01acetatemethanol100 -19.75, 02acetatewater100 -21.06, 03acetatemethylamine100 -11.46,
04methylammoniumformaldehyde100 -19.10, 05methylammoniummethylamine100 -28.56,
06methylammoniummethanol100 -21.23, 07methylammoniumwater100 -18.51,
08guanidiniumformaldehyde100 -18.09, 09guanidiniummethylamine100 -20.20,
10guanidiniummethanol100 -19.79, 11guanidiniumwater100 -17.47, 12imidazoliumformaldehyde100 -16.41,
13imidazoliummethylamine100 -25.98, 14imidazoliummethanol100 -18.91, 15imidazoliumwater100 -16.49
""")

SETS = {"s66": S66, "x40": X40, "ionichb": IONICHB}

KINDS = {
    "S66, hydrogen bonds": list(S66)[:23],
    "S66, dispersion": list(S66)[23:46],
    "S66, others": list(S66)[46:],
    "S66": list(S66),
    "X40, dispersion and dipoles": list(X40)[:12],
    "X40, halogen bonds": list(X40)[12:30],
    "X40, hydrogen bonds": list(X40)[30:],
    "X40": list(X40),
    "ionic hydrogen bonds": list(IONICHB),
}

PUBLISHED = S66 | X40 | IONICHB


def read_dimer(path: Path) -> Structure:
    """The structure of a file whose second line may hold the charge."""
    atoms, words = ase.io.read(path, format="xyz"), path.read_text().splitlines()[1].split()
    charge = int(words[0]) if words and words[0].lstrip("+-").isdigit() else 0
    return Structure(atoms.numbers, atoms.positions / BOHR, charge)


def compute(parts: list[Structure], predictor: Predictor) -> dict:
    """Terms of a dimer in kcal/mol, with its overlap."""
    begin = time.process_time()
    conformers = [Conformer(part, predictor.gaussians(part)[0]) for part in parts]
    found = terms_of(conformers, predictor.model.recipe)
    return {
        "electrostatic": found.electrostatic * KCAL_PER_MOL,
        "polarisation": sum(found.polarisation) * KCAL_PER_MOL,
        "dispersion": found.dispersion * KCAL_PER_MOL,
        "overlap": found.pairs[0].overlap,
        "seconds": time.process_time() - begin,
    }


def one_step(parts: list[Structure], predictor: Predictor) -> dict:
    """Energies of one step each, without dispersion, kcal/mol: plain and with counterpoise."""
    recipe = predictor.model.recipe
    densities = [predictor.gaussians(part)[0] for part in parts]
    whole = whole_of(parts)
    plain = corrected = open_step(whole, predictor.gaussians(whole)[0], recipe).energy
    for part, density, other in zip(parts, densities, reversed(parts), strict=True):
        plain -= open_step(part, density, recipe).energy
        corrected -= open_step(part, density, recipe, ghosts=other).energy
    return {"step": plain * KCAL_PER_MOL, "step_counterpoise": corrected * KCAL_PER_MOL}


def attractive(entry: dict) -> float:
    """All terms but the repulsion."""
    return entry["electrostatic"] + entry["polarisation"] + entry["dispersion"]


def fit(rest: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Ln K (kcal/mol) and g that give the rest, with errors relative to 1 + its size."""

    def errors(x: np.ndarray) -> np.ndarray:
        return (repulsion(x, overlap) - rest) / (1 + 0.2 * rest)

    return least_squares(errors, [np.log(600.0), 0.95], loss="soft_l1").x


def repulsion(x: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """K S^g in kcal/mol."""
    return np.exp(x[0] + x[1] * np.log(overlap))


def jobs_of(options: argparse.Namespace) -> dict[str, tuple[Structure, str]]:
    """Dimers and their fragments by name, small ones first."""
    jobs = {}
    for name, energies in SETS.items():
        folder = getattr(options, name)
        if folder is None:
            continue
        there = {path.stem for path in folder.glob("*.xyz")}
        if not there & set(energies):
            raise SystemExit(
                f"{folder} has none of the dimers of {name}, such as {min(energies)}.xyz"
            )
        jobs |= {d: (read_dimer(folder / f"{d}.xyz"), "bonds") for d in energies if d in there}
    if options.s22x5:
        for name in s22x5:
            n = get_number_of_dimer_atoms(name)
            structure = Structure.of(Atoms(create_s22_system(name)))
            jobs[name] = structure, f"1-{n[0]},{n[0] + 1}-{sum(n)}"
    return dict(sorted(jobs.items(), key=lambda job: len(job[1][0])))


def main() -> None:
    """Compute, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in SETS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--s22x5", action="store_true")
    parser.add_argument("--one-step", type=int, default=0, metavar="N", help="up to N atoms")
    parser.add_argument("--most", type=float, default=1e9, help="seconds after which none begins")
    add_option(parser)
    options = parser.parse_args()
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    predictor, begin = Predictor("default"), time.perf_counter()
    for name, (structure, fragments) in jobs_of(options).items():
        stepped = name in PUBLISHED and len(structure) <= options.one_step
        wanted = {"seconds"} | ({"step"} if stepped else set())
        if wanted <= set(known.get(name, ())) or time.perf_counter() - begin > options.most:
            continue
        parts = fragments_of(structure, fragments)
        if "seconds" not in known.setdefault(name, {}):
            known[name] |= compute(parts, predictor)
        if stepped:
            known[name] |= one_step(parts, predictor)
        options.out.write_text(json.dumps(known, indent=1))
        print(name, {k: round(x, 3) for k, x in known[name].items()}, flush=True)
    report(known, options.results)


def report(known: dict[str, dict], results: Path | None) -> None:
    """Fit, print a line for each dimer and the errors of each kind, and record these."""
    names = [name for name in S66 if name in known]
    rest = np.array([S66[name] - attractive(known[name]) for name in names])
    overlap = np.array([known[name]["overlap"] for name in names])
    x = fit(rest, overlap)
    print(f"K = {np.exp(x[0]) / KCAL_PER_MOL:.4f} hartree (bohr^3/e^2)^g, g = {x[1]:.4f}")
    total = {}
    for name, entry in known.items():  # each dimer of S66 is left out of its own fit
        k = x
        if name in S66:
            others = np.array([other != name for other in names])
            k = fit(rest[others], overlap[others])
        entry["repulsion"] = float(repulsion(k, entry["overlap"]))
        total[name] = attractive(entry) + entry["repulsion"]
    heads = ("electrostatic", "polarisation", "dispersion", "repulsion")
    print("| dimer | " + " | ".join(heads) + " | sum | one step | counterpoise | published |")
    print("|---" * 9 + "|")
    for name in (name for name in PUBLISHED if name in known):
        entry = known[name]
        steps = [entry[key] + entry["dispersion"] if key in entry else None for key in STEPS]
        row = [*(entry[head] for head in heads), total[name], *steps, PUBLISHED[name]]
        print(f"| {name} | " + " | ".join("" if v is None else f"{v:.2f}" for v in row) + " |")
    table = {}
    for kind, some in KINDS.items():
        these = [name for name in some if name in known]
        row = _statistics([total[name] - PUBLISHED[name] for name in these])
        stepped = [name for name in these if STEPS[1] in known[name]]
        row["on_the_same"] = _statistics([total[name] - PUBLISHED[name] for name in stepped])
        for key in STEPS:
            errors = [known[n][key] + known[n]["dispersion"] - PUBLISHED[n] for n in stepped]
            row[key] = _statistics(errors)
        table[kind] = row
        print(kind, row)
    far: dict[str, list[float]] = {}
    for name in (name for name in s22x5 if name in known):
        published = get_interaction_energy_s22x5(name) / (kcal / mol)
        far.setdefault(name[-3:], []).append(total[name] - published)
    for distance, these in far.items():
        table[f"S22 at {distance}"] = _statistics(these)
        print(f"S22 at {distance}", table[f"S22 at {distance}"])
    record(results, "interactions", {"errors": table})


STEPS = ("step", "step_counterpoise")


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
