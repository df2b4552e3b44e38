"""Absorption spectra of electrons in real time against linear response, and stationarity.

python benchmarks/real_time.py LiH HF N2 CO --directions xz   # linear along z
python benchmarks/real_time.py H2O
python benchmarks/real_time.py C6H6 --directions x --pairs 0
python benchmarks/real_time.py H2O --stationary --time 1      # how much moves without a field

The peaks after a kick (`denser dynamics`) beside those of PySCF's TDDFT (Casida's equation) with
the same functional, basis and ground state. The transitions of the latter become lines of the same
shape (`denser.analysis.absorption.broadened`), so that lines that overlap do so in both.
Propagations are kept in the folder, and continue when the command is repeated. Geometries are those
of ASE's G2 set.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from ase.build import molecule as g2

from denser.analysis.absorption import Absorption, broadened
from denser.dft.external_field import Kick, direction_of
from denser.dft.molecular import converge
from denser.dft.one_step import one_step
from denser.dft.real_time import STATIONARY, GroundState, Operators, Propagation
from denser.model.options import PredictionOptions
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import DEBYE, FEMTOSECOND, HARTREE
from denser.workflows.dynamics import DynamicsSettings, dynamics

MOLECULES = ("LiH", "HF", "H2O", "N2", "CO")


def casida(structure: Structure, basis: str, names: str) -> tuple[np.ndarray, np.ndarray]:
    """Energies, hartree, and oscillator strengths (mean over the directions) of PySCF's TDDFT."""
    mf = converge(structure, basis, conv_tol=STATIONARY).mf
    td = mf.CasidaTDDFT()
    n_occupied = int(np.count_nonzero(mf.mo_occ))
    td.nstates = n_occupied * (len(mf.mo_occ) - n_occupied)
    td.conv_tol = 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        td.kernel()
    moments = td.transition_dipole()
    axes = ["xyz".index(name) for name in names]
    return np.asarray(td.e), 2 * td.e * (moments[:, axes] ** 2).mean(axis=1)


def compare(name: str, options: argparse.Namespace, predictor: Predictor) -> None:
    """Print the peaks of both."""
    structure = Structure.from_ase(g2(name))
    settings = DynamicsSettings(
        Kick(0.001),
        {axis: direction_of(axis) for axis in options.directions},
        options.time / FEMTOSECOND,
        options.step / 1000 / FEMTOSECOND,
        options.max_energy / HARTREE,
        options.basis,
        options=PredictionOptions(spacing=0.2),
    )
    made_from = f"{name} {settings.determine()}"
    record = dynamics(structure, options.folder / name, predictor, settings, made_from, show=True)
    if record["errors"]:
        raise SystemExit(record["errors"])
    worst = max(
        abs(r["e_unbalanced_ev"] / r["e_absorbed_ev"]) for r in record["directions"].values()
    )
    print(
        f"{name} ({options.basis}): {options.time:g} fs, width {record['width_ev']:.2f} eV, energy "
        f"minus work at most {worst:.0e} of the energy absorbed, sum rule "
        f"{record['n_electrons_by_sum_rule']:.3f} of {record['n_electrons']:g}, up to "
        f"{options.max_energy:g} eV {record['n_electrons_in_spectrum']:.2f}"
    )
    ours = [(p["energy_ev"], p["strength"]) for p in record["peaks"]]
    if not options.pairs:
        print("\n".join(f"  {e:8.3f} eV {f:8.4f}" for e, f in ours))
        return
    energies, strengths = casida(structure, options.basis, options.directions)
    expected: Absorption = broadened(
        energies, strengths, options.time / FEMTOSECOND, settings.up_to
    )
    theirs = [(e * HARTREE, f) for e, f in expected.peaks()]
    errors = []
    print("   real time, eV (f)    Casida, eV (f)   difference, eV")
    for e, f in ours:
        near, g = min(theirs, key=lambda peak: abs(peak[0] - e))
        errors.append(near - e)
        print(f"  {e:8.3f} ({f:.4f})   {near:8.3f} ({g:.4f})   {e - near:+.4f}")
    first = int(np.flatnonzero(strengths > 0.01 * strengths.max())[0])
    print(
        f"  largest difference {np.abs(errors).max():.3f} eV, {len(ours)} and {len(theirs)} peaks; "
        f"first bright transition of Casida {energies[first] * HARTREE:.3f} eV"
    )


def stationary(name: str, options: argparse.Namespace, predictor: Predictor) -> None:
    """Print how far the dipole moves without a field, from two starts."""
    structure = Structure.from_ase(g2(name))
    density = predictor.predict(structure).density
    result = converge(structure, "gth-tzv2p", about=density, conv_tol=STATIONARY)
    recipe = predictor.model.recipe
    molecule = Operators(GroundState.of(structure, recipe, result), result.mf)
    step = one_step(density)
    n = int(np.count_nonzero(result.mo_occ))
    overlap = result.mf.get_ovlp()
    inside = result.mo_coeff.T @ overlap @ step.mo_coeff[:, :n]
    starts = {"converged": molecule.occupied(), "one step": [np.linalg.qr(inside)[0] + 0j]}
    for kind, orbitals in starts.items():
        run = Propagation(molecule, Kick(0.0), np.eye(3)[2], options.step / 1000 / FEMTOSECOND)
        run.state.orbitals = orbitals
        f, energy = molecule.matrices(orbitals)
        run.state.matrices, run.state.energies = [f], [energy]
        run.state.dipoles = [molecule.dipole(orbitals)]
        while run.time * FEMTOSECOND < options.time:
            run.advance()
        dipoles = np.array(run.state.dipoles) * DEBYE
        moved = np.abs(dipoles - dipoles[0]).max()
        drift = np.ptp(run.state.energies) * HARTREE
        print(
            f"{name} from {kind}: dipole moves by up to {moved:.1e} debye, energy by {drift:.1e} eV"
        )


def main() -> None:
    """Compare the molecules that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=MOLECULES, metavar="NAME")
    parser.add_argument("--basis", default="gth-tzv2p")
    parser.add_argument("--time", type=float, default=10.0, help="fs")
    parser.add_argument("--step", type=float, default=5.0, help="as")
    parser.add_argument("--max-energy", type=float, default=25.0, help="eV")
    parser.add_argument("--directions", default="xyz")
    parser.add_argument("--pairs", type=int, default=1, help="0: without Casida's equation")
    parser.add_argument("--stationary", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("real_time"))
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    predictor = Predictor()
    for name in options.names:
        (stationary if options.stationary else compare)(name, options, predictor)


if __name__ == "__main__":
    main()
