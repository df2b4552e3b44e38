"""Infrared and Raman spectra of molecular dynamics beside measured bands.

pip install tblite
python benchmarks/infrared.py H2O CH3CH2OH                # a few minutes each
python benchmarks/infrared.py H2O --raman --time 2 --width 40   # a quarter of an hour

Dynamics of a molecule at 300 K with GFN2-xTB (tblite; 2 ps to equilibrate, then --time ps with a
weak Langevin thermostat), and the spectrum of its predicted dipoles (`denser spectrum`). The
positions of the bands are those of GFN2-xTB, and their intensities those of the model's dipoles.
Trajectories and dipoles are kept in the folder.

Measured bands of the gas: fundamentals of T. Shimanouchi, Tables of Molecular Vibrational
Frequencies, Consolidated Volume I, NSRDS-NBS 39 (1972), as in the NIST Chemistry WebBook (SRD 69)
for water; for ethanol the band maxima of the gas-phase spectrum in the same place. Quoted from
memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.io import Trajectory
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import ZeroRotation

from denser.workflows.spectrum import SpectrumSettings, spectrum

MEASURED = {
    "H2O": {"bend": 1595, "symmetric stretch": 3657, "antisymmetric stretch": 3756},
    "CH3CH2OH": {
        "C-C-O stretch": 885,
        "C-O stretch": 1060,
        "C-O-H bend": 1245,
        "CH3, CH2 bend": 1394,
        "C-H stretches": 2950,
        "O-H stretch": 3670,
    },
}
"""1/cm."""

TEMPERATURE = 300  # K
STEP, EVERY = 0.5, 4  # fs, steps between frames


def dynamics(name: str, path: Path, picoseconds: float) -> None:
    """Write a trajectory with GFN2-xTB."""
    try:
        from tblite.ase import TBLite
    except ImportError as error:
        raise SystemExit("this benchmark needs GFN2-xTB: pip install tblite") from error
    rng = np.random.default_rng(1)
    atoms = molecule(name)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    spread = np.sqrt(
        2 * TEMPERATURE * units.kB * atoms.get_masses()
    )  # half becomes potential energy
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * spread[:, None])
    ZeroRotation(atoms)
    more = {"temperature_K": TEMPERATURE, "rng": rng, "fixcm": False}
    Langevin(atoms, STEP * units.fs, friction=0.01 / units.fs, **more).run(int(2000 / STEP))
    temporary = path.with_suffix(".part")
    run = Langevin(atoms, STEP * units.fs, friction=5e-4 / units.fs, **more)
    with Trajectory(str(temporary), "w", atoms) as file:
        run.attach(file.write, interval=EVERY)
        run.run(int(1000 * picoseconds / STEP))
    temporary.rename(path)


def print_raman(path: Path) -> None:
    """Print the highest band, activity and depolarization ratio of two ranges."""
    table = np.genfromtxt(path, delimiter=",", names=True)
    x = table["wave_number_per_cm"]
    for low, high in ((1000, 2500), (2500, 5000)):
        inside = (x > low) & (x <= high)
        activity, parallel, perpendicular = (
            table[f"{name}_angstrom4_per_amu_cm"][inside]
            for name in ("activity", "parallel", "perpendicular")
        )
        print(
            f"  Raman {low} to {high} per cm: highest at {x[inside][activity.argmax()]:.0f}, "
            f"activity {np.trapezoid(activity, x[inside]):.2f} angstrom^4/amu, depolarization "
            f"{perpendicular.sum() / parallel.sum():.2f}"
        )


def main() -> None:
    """Make trajectories, spectra, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(MEASURED), metavar="NAME")
    parser.add_argument("--time", type=float, default=6.0, help="ps")
    parser.add_argument("--width", type=float, default=30.0, help="1/cm")
    parser.add_argument("--raman", action="store_true", help="the Raman spectrum too")
    parser.add_argument("--only-dynamics", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("infrared"))
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    for name in options.names:
        path = options.folder / f"{name}.traj"
        if not path.exists():
            dynamics(name, path, options.time)
        if options.only_dynamics:
            continue
        settings = SpectrumSettings(
            EVERY * STEP, width=options.width, rotation=False, raman=options.raman
        )
        record = spectrum(path, options.folder, settings)
        print(
            f"{name}: {record['n_frames']} frames, {record['temperature_k']:.0f} K, width "
            f"{options.width:g} per cm, without rotation"
        )
        for band in record["bands"]:
            print(
                f"  {band['wave_number_per_cm']:7.0f} per cm, height "
                f"{band['height_km_per_mol_cm']:.3f}"
            )
        if options.raman:
            print_raman(options.folder / f"{name}_raman.csv")
        print("  measured:", ", ".join(f"{k} {v}" for k, v in MEASURED[name].items()))


if __name__ == "__main__":
    main()
