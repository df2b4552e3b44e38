"""Energies of isolated molecules in other basis sets, and differences of them.

The work of `denser energy` and `denser scf` with --basis, --fragments and --ip-ea, and of `denser
energy` for unpaired electrons.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from denser.analysis.charges.without_grid import Conformer
from denser.analysis.crystal.electrostatic_energy import electrostatic_energy
from denser.analysis.moments import dipole_text, record_of_dipole
from denser.atoms.plausible import strange
from denser.atoms.sad import require_closed_shell
from denser.dft.basis import AUGMENTED, all_electron
from denser.dft.dispersion import dispersion
from denser.dft.interaction import fragments_of, interaction
from denser.dft.ionisation import ionisation
from denser.dft.molecular import (
    MolecularResult,
    converge,
    molecular_mean_field,
    removed_text,
)
from denser.dft.orbitals import molden_of
from denser.dft.scf import s_squared
from denser.io import write
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import HARTREE, KCAL_PER_MOL
from denser.workflows.many import headline
from denser.workflows.open_shells import OPEN_SHELL_CUBES, write_with_spin
from denser.workflows.prediction_record import geometry_text
from denser.workflows.scf_guess import start_from

if TYPE_CHECKING:
    from denser.workflows.energy import StartDensities, StartDensity


@dataclass(frozen=True)
class Wanted:
    """What is computed in open space in another basis.

    Parameters
    ----------
    basis : str, optional
        Default `AUGMENTED`.
    fragments : str, optional
        As in `denser.dft.interaction.fragments_of`.
    dispersion : str, optional
        As in `denser.dft.dispersion`.
    ions : bool
        Ionisation energy and electron affinity.
    """

    basis: str | None = None
    fragments: str | None = None
    dispersion: str | None = None
    ions: bool = False

    @property
    def anything(self) -> bool:
        """Whether there is something that Kohn-Sham steps at the level of theory do not give."""
        return bool(self.basis or self.fragments or self.ions)

    def in_open_space(self, start: StartDensity, recipe: Recipe) -> Wanted:
        """The same, at the level of theory for ghosts and unpaired electrons of a molecule.

        A prediction without the spin density is farther from the result than a step or two.
        """
        density = start.density
        alone = density.structure.isolated and density.continuous is not None
        if self.anything or not (start.ghosts or (alone and density.structure.spin)):
            return self
        return replace(self, basis=recipe.basis)


def energy_in_basis(
    start: StartDensity,
    wanted: Wanted,
    starts: StartDensities,
    recipe: Recipe = Recipe(),
    orbitals: dict[Path, str] | None = None,
    molden: Path | None = None,
    out: Path | None = None,
    compare: bool = False,
) -> dict:
    """Self-consistent energy, levels and dipole of a molecule, and differences of energies.

    Parameters
    ----------
    start : StartDensity
    wanted : Wanted
    starts : StartDensities
        Predicts fragments.
    recipe : Recipe
    orbitals : dict, optional
        Names such as "homo" by the files that the orbitals are written to.
    molden, out : Path, optional
        For the orbitals, and for the density on the grid of the start.
    compare : bool
        Also start from PySCF's `minao` guess.

    Raises
    ------
    InputError
        As in the functions of `denser.dft` that are used; or an orbital does not exist.
    """
    from denser.workflows.energy import orbital_index

    density, ghosts = start.density, start.ghosts
    structure = density.structure
    if ghosts is not None and (wanted.fragments or wanted.ions):
        raise InputError(
            "the structure has ghosts, which interaction energies make themselves and ionisation "
            "energies do not take; leave them out"
        )
    if structure.spin:
        if wanted.fragments or wanted.ions:
            require_closed_shell(structure, "interaction and ionisation energies")
        if orbitals:
            raise InputError(OPEN_SHELL_CUBES)
    parts = fragments_of(structure, wanted.fragments) if wanted.fragments else []
    begin = time.perf_counter()
    basis = wanted.basis or AUGMENTED
    dm0 = None
    if all_electron(basis):
        if out is not None:
            raise InputError(
                f"the basis {basis!r} has all electrons, and -o writes the density of the valence "
                f"electrons; leave it out, or take {AUGMENTED!r}"
            )
        dm0 = start_from(molecular_mean_field(structure, basis, recipe, ghosts), density, recipe)
    result = converge(structure, basis, recipe, about=density, ghosts=ghosts, dm0=dm0)
    written: list[str] = []
    n_occupied = int(np.count_nonzero(result.mo_occ))
    for path, name in (orbitals or {}).items():
        index = orbital_index(name, n_occupied, len(result.mo_occ))
        write(path, result.orbital(index, density))
        written.append(str(path))
    if molden is not None:
        molden_of(molden, result.mf.mol, result.mo_coeff, result.mo_energy, result.mo_occ)
        written.append(str(molden))
    if out is not None:
        written += write_with_spin(out, _exact(result.density_on(density)))
    record = _record(result, start)
    if ghosts is not None:
        record["n_ghosts"] = len(ghosts)
    record["starts"] = {"prediction": _row(result)}
    if compare:
        record["starts"]["minao"] = _row(converge(structure, basis, recipe, ghosts=ghosts))
    record |= dispersion_record(structure, result.e_tot, wanted.dispersion, recipe)
    if parts:
        predict = None if start.seconds is None else starts.density_of
        between = interaction(result, parts, recipe, wanted.dispersion, predict)
        record["interaction"] = between.to_dict()
        record["lines"] += between.lines()
        if predict is not None:
            _add_electrostatics(record, [predict(part) for part in parts])
    if wanted.ions:
        record |= _ions(record, result, structure, recipe)
    record["written"] = written
    seconds = {} if start.seconds is None else {"density": round(start.seconds, 3)}
    record["seconds"] = seconds | {"scf": round(time.perf_counter() - begin, 3)}
    return record


def _add_electrostatics(record: dict, densities: list[Density]) -> None:
    """Add the Coulomb energy of predicted fragments, if their densities are sums of Gaussians."""
    conformers = [
        Conformer(density.structure, density.continuous)
        for density in densities
        if density.continuous is not None
    ]
    if len(conformers) < len(densities):
        return
    energy = sum(electrostatic_energy(a, b) for a, b in combinations(conformers, 2))
    kcal = round(energy * KCAL_PER_MOL, 4)
    record["interaction"]["e_electrostatic_predicted_kcal_per_mol"] = kcal
    record["lines"].append(
        f"electrostatic energy of the predicted densities of the fragments, with penetration: "
        f"{kcal:.2f} kcal/mol"
    )


def summary_in_basis(record: dict) -> str:
    """One line of text, and one for each difference."""
    squared = f", <S^2> {record['s_squared']:.3f}" if "s_squared" in record else ""
    ghosts = f", {record['n_ghosts']} ghosts" if "n_ghosts" in record else ""
    line = (
        f"{headline(record)}{ghosts}, "
        f"E {record['e_tot_hartree']:.6f} hartree{dispersion_text(record)}, "
        f"HOMO {record['homo_ev']:.2f}, LUMO {record['lumo_ev']:.2f}, gap {record['gap_ev']:.2f} "
        f"eV, {dipole_text(record)}{squared}, self-consistent in "
        f"{record['starts']['prediction']['cycles']} cycles, "
        f"{sum(record['seconds'].values()):.1f} s ({record['calculation']}, {record['basis']}"
        f"{', all electrons' if all_electron(record['basis']) else ''})"
        f"{geometry_text(record)}"
    )
    if record["written"]:
        line += f" -> {', '.join(record['written'])}"
    rows = [f"\n  {text}" for text in record["lines"]]
    if len(record["starts"]) > 1:
        rows += [
            f"\n  from {name:<14} {row['cycles']:>2} cycles, {row['seconds']:.1f} s, E "
            f"{row['e_tot_hartree']:.8f}"
            for name, row in record["starts"].items()
        ]
    return line + "".join(rows)


def dispersion_record(
    structure: Structure, e_tot: float, kind: str | None, recipe: Recipe
) -> dict[str, float]:
    """Dispersion energy, and the total with it; empty without one."""
    if kind is None:
        return {}
    found = dispersion(structure, kind, recipe.xc)[0]
    return {"e_dispersion_hartree": found, "e_tot_with_dispersion_hartree": e_tot + found}


def dispersion_text(record: dict) -> str:
    """The same for the line of text."""
    if "e_dispersion_hartree" not in record:
        return ""
    return f" (with dispersion {record['e_tot_with_dispersion_hartree']:.6f})"


def _ions(
    record: dict, result: MolecularResult, structure: Structure, recipe: Recipe
) -> dict[str, Any]:
    """Ionisation energy and electron affinity, with the lines of text that say so."""
    ions = ionisation(result, structure, recipe)
    ie = ions.e_ionisation * HARTREE
    text = f"by difference: ionisation energy {ie:.2f} eV (- HOMO is {-record['homo_ev']:.2f}), "
    if ions.e_affinity is None:
        ea, text = None, text + "no electron affinity (the anion has not converged: not bound)"
    else:
        ea = round(ions.e_affinity * HARTREE, 4)
        text += f"electron affinity {ea:.2f} eV (- LUMO is {-record['lumo_ev']:.2f})"
        text += "" if ea > 0 else " (the anion is not bound: a number of the basis)"
    return {
        "ionisation_energy_ev": round(ie, 4),
        "electron_affinity_ev": ea,
        "lines": [*record["lines"], text],
    }


def _row(result: MolecularResult) -> dict:
    return {
        "cycles": result.cycles,
        "seconds": round(result.seconds, 2),
        "e_tot_hartree": result.e_tot,
    }


def _record(result: MolecularResult, start: StartDensity) -> dict:
    structure, text = start.density.structure, removed_text(result)
    record = energies_record(structure, result.e_tot, result.homo, result.lumo, "open space")
    if structure.spin:
        record["s_squared"] = round(s_squared(result.mf), 6)
    return record | {
        **record_of_dipole(result.dipole, "orbitals"),
        "basis": result.basis,
        "converged": True,
        "geometry": start.geometry,
        "lines": [],
        "notes": [text] if text else [],
    }


def energies_record(
    structure: Structure, e_tot: float, homo: float, lumo: float, calculation: str
) -> dict:
    """What every record of an energy has; `calculation` says which kind it is, hartree."""
    return {
        "formula": structure.formula,
        "charge": structure.charge,
        "spin": structure.spin,
        "n_atoms": len(structure),
        "e_tot_hartree": float(e_tot),
        "against_vacuum": structure.isolated,
        "calculation": calculation,
        "homo_ev": round(float(homo) * HARTREE, 5),
        "lumo_ev": round(float(lumo) * HARTREE, 5),
        "gap_ev": round(float(lumo - homo) * HARTREE, 5),
        "warnings": strange(structure),
    }


def _exact(density: Density) -> Density:
    """The same with exactly N_e and N_alpha - N_beta electrons: diffuse tails leave the box."""
    found = density.with_values(density.values * (density.n_electrons / density.integrate()))
    if density.spin_density is None:
        return found
    m = density.spin_density
    return found.with_spin_density(m.values * (density.structure.spin / m.integrate()))
