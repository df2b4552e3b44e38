"""Ionisation energies and electron affinities by difference (`denser energy --ip-ea`), in eV.

python benchmarks/ions.py
python benchmarks/ions.py H2O Cl2

Columns: minus the HOMO, the difference of ours (PBE/aug-gth-tzv2p), that of PySCF's UKS with all
electrons in aug-cc-pVTZ, and for the ionisation energy the measured vertical one (of NIST's CCCBDB,
as shipped with ASE's G2 set; those of H2O and HCl are adiabatic, as it has no vertical ones); then
minus the LUMO and the two affinities. Where an affinity is negative, the anion is not bound, and
the number is one of the basis; nan has not converged. Geometries are those of ASE's G2 set.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from ase.build import molecule
from ase.data import g2
from pyscf import dft, gto

from denser.dft.ionisation import ionisation
from denser.dft.molecular import converge
from denser.model.predictor import Predictor
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import HARTREE
from recording import add_option, record

NAMES = ("H2O", "HCl", "N2", "CO", "NH3", "H2CO", "Cl2", "SO2")


def measured(name: str) -> float:
    """Ionisation energy, eV; nan if it is not known."""
    known = g2.data[name]
    return known.get("vertical ionization energy", known.get("ionization energy", np.nan))


def all_electron(structure: Structure) -> float:
    """Energy in aug-cc-pVTZ, hartree; nan if it does not converge."""
    mol = gto.M(
        atom=list(zip(structure.symbols, structure.positions, strict=True)),
        unit="bohr", basis="aug-cc-pvtz", charge=structure.charge, spin=structure.spin, verbose=0,
    )  # fmt: skip
    mf = (dft.UKS if mol.spin else dft.RKS)(mol, xc="pbe").density_fit()
    mf.kernel()
    return float(mf.e_tot) if mf.converged else np.nan


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    add_option(parser)
    options = parser.parse_args()
    predictor = Predictor()
    heads = ("-HOMO", "IE", "IE limit", "measured", "-LUMO", "EA", "EA limit")
    print(f"{'eV':8}" + "".join(f"{head:>10}" for head in heads))
    away, rows = [], []
    for name in options.names or NAMES:
        structure = Structure.from_ase(molecule(name))
        density = predictor.predict(structure, padding=2.5, spacing=0.16).density
        whole = converge(structure, about=density)
        ours = ionisation(whole, structure, Recipe())
        neutral, cation, anion = (
            all_electron(replace(structure, charge=q, spin=abs(q))) for q in (0, 1, -1)
        )
        limit = np.array([cation - neutral, neutral - anion])
        affinity = np.nan if ours.e_affinity is None else ours.e_affinity
        away.append(ours.e_ionisation - limit[0])
        row = [-whole.homo, ours.e_ionisation, limit[0], measured(name) / HARTREE]
        row += [-whole.lumo, affinity, limit[1]]
        row = [float(x) * HARTREE for x in row]
        print(f"{name:8}" + "".join(f"{x:10.2f}" for x in row), flush=True)
        found = (None if np.isnan(x) else x for x in row)
        rows.append({"molecule": name} | dict(zip(heads, found, strict=True)))
    mean = np.nanmean(np.abs(away)) * HARTREE
    print(f"mean distance of the ionisation energies from the limit: {mean:.2f} eV")
    record(options.results, "ions_ev", rows, predictor)


if __name__ == "__main__":
    main()
