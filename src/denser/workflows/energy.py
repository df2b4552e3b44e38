"""Energies and orbitals of many structures from predicted densities: `denser energy`, `denser scf`.

There are three levels: the predicted density, Kohn-Sham steps from it, and an SCF from there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denser.analysis.moments import dipole_record, dipole_text
from denser.atoms.molecules import cells_at_gamma
from denser.atoms.sad import RECIPES, superposition
from denser.dft.cell import density_from_dm
from denser.dft.one_step import one_step
from denser.dft.orbitals import orbital, write_molden
from denser.dft.refine import refine
from denser.dft.scf import KSResult, mean_field, not_converged, scf
from denser.fields.periodic import times_text
from denser.io import read_density, write
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import GHOSTS, Structure
from denser.types.units import BOHR, HARTREE
from denser.workflows.many import headline
from denser.workflows.open_shells import OPEN_SHELL_CUBES, open_shell_scf, superposed
from denser.workflows.other_basis import dispersion_record, dispersion_text, energies_record
from denser.workflows.prediction_record import density_error_text, geometry_text
from denser.workflows.refined import Steps, at_gamma, refined_prediction
from denser.workflows.scf_guess import dm_from_density

if TYPE_CHECKING:
    from ase import Atoms

    from denser.model.options import PredictionOptions
    from denser.workflows.inputs import Input


_COARSE = 0.3 * BOHR
"""Spacing of a prediction that is a start only, angstrom."""

MOST_ATOMS = 12
"""Atoms whose unpaired electrons are in the line of text; the JSON has all."""


@dataclass(frozen=True, eq=False)
class StartDensity:
    """A starting density, and the seconds of its prediction (none if it was read).

    `geometry` says how the geometry of a SMILES was made. `ghosts` are basis functions at places
    without an atom. `times` says how often the cell of a crystal was repeated.
    """

    density: Density
    seconds: float | None
    geometry: str = ""
    ghosts: Structure | None = None
    times: tuple[int, int, int] = (1, 1, 1)


class StartDensities:
    """Densities by prediction from atoms, or by reading a file.

    Parameters
    ----------
    options : PredictionOptions
        The model is loaded when it is first used.
    open_shells : bool
        Whether structures with unpaired electrons, which no model knows, start from superposed
        atoms.
    repeat : bool
        Whether crystals with short periods are repeated (`cells_at_gamma`).
    """

    def __init__(
        self, options: PredictionOptions, open_shells: bool = False, repeat: bool = False
    ) -> None:
        self.options, self.open_shells, self.repeat = options, open_shells, repeat
        self.predictor: Predictor | None = None

    @property
    def recipe(self) -> Recipe:
        """Level of theory of the model, or the default one if nothing was predicted."""
        return Recipe() if self.predictor is None else self.predictor.model.recipe

    def of(self, entry: Input) -> StartDensity:
        """Density of an input.

        Raises
        ------
        InputError
            The input could not be read, or its density cannot be predicted or used.
        """
        if isinstance(entry.source, Path):
            return self.read(entry.source)
        atoms, ghosts = without_ghosts(entry.atoms())
        times = (1, 1, 1)
        if self.repeat:
            times = cells_at_gamma(self.options.structure_of(atoms))
        return replace(self.predict(atoms, times), ghosts=ghosts, times=times)

    def predict(self, atoms: Atoms, times: tuple[int, int, int] = (1, 1, 1)) -> StartDensity:
        """Density of a structure, or of so many cells of a crystal."""
        options = self.options
        if max(times) > 1:
            atoms = options.structure_of(atoms).repeat(times).to_ase()
            options = replace(options, charge=None, spin=None)
        if self.open_shells:
            structure = options.structure_of(atoms)
            if structure.spin:
                geometry = atoms.info.get("geometry", "")
                return StartDensity(superposed(structure, options), None, geometry)
        if self.predictor is None:
            self.predictor = Predictor.of(options)
        prediction, steps = refined_prediction(atoms, self.predictor, options)
        seconds_in_all = prediction.seconds_sad + prediction.seconds_network
        seconds_in_all += 0.0 if steps is None else steps.seconds
        return StartDensity(prediction.density, seconds_in_all, atoms.info.get("geometry", ""))

    def density_of(self, structure: Structure) -> Density:
        """Density of a part of a structure, to start from."""
        assert self.predictor is not None  # the whole was predicted
        return self.predictor.predict(structure, padding=2.5, spacing=_COARSE).density

    def read(self, path: Path) -> StartDensity:
        """Valence density in a file; a given charge or spin replaces that of the file.

        Raises
        ------
        InputError
            The file contains no valence density with its atoms.
        """
        density = read_density(path, charge=self.options.charge, spin=self.options.spin)
        if density.all_electron:
            raise InputError(
                f"{path}: holds all electrons; orbitals need a valence density of the model's "
                "pseudopotentials, so give the structure or such a density"
            )
        return StartDensity(density, None)


def without_ghosts(atoms: Atoms) -> tuple[Atoms, Structure | None]:
    """Atoms without their ghosts, and these.

    Raises
    ------
    InputError
        There are ghosts only, or two of all are nearly at the same place.
    """
    are = np.asarray(atoms.arrays.get(GHOSTS, np.zeros(len(atoms))), dtype=bool)
    if not are.any():
        return atoms, None
    if are.all():
        raise InputError("all atoms are ghosts; at least one must be an atom")
    Structure(atoms.numbers, atoms.positions / BOHR)  # none on another
    rest = atoms[~are]
    rest.info = atoms.info
    return rest, Structure(atoms.numbers[are], atoms.positions[are] / BOHR)


def energy_record(
    start: StartDensity,
    recipe: Recipe,
    steps: int,
    stem: Path | None = None,
    orbitals: Iterable[str] = (),
    molden: Path | None = None,
    dispersion: str | None = None,
) -> dict:
    """Energy, orbital energies and dipole of one density; writes orbitals on request.

    Raises
    ------
    InputError
        As `denser.dft.refine.refine`; or an orbital does not exist.
    """
    names = list(orbitals)
    if names and stem is None:
        raise InputError("orbitals are written to files; give the stem of the file names")
    if names and start.density.structure.spin:
        raise InputError(OPEN_SHELL_CUBES)
    result = refine(start.density, recipe, steps, isolated=start.density.structure.isolated)
    n_occupied = int(np.count_nonzero(result.mo_occ))
    indices = {name: orbital_index(name, n_occupied, len(result.mo_occ)) for name in names}
    cell = result.steps[-1].mf.cell
    written = []
    if stem is not None:
        for name, index in indices.items():
            path = stem.with_name(f"{stem.name}_{name}.cube")
            write(path, orbital(cell, result.mo_coeff[:, index], result.density))
            written.append(str(path))
    if molden is not None:
        write_molden(
            molden, cell, result.density.grid.origin, result.mo_coeff, result.mo_energy,
            result.mo_occ,
        )  # fmt: skip
        written.append(str(molden))
    record = _record(start, result.density, result.e_tot, result.homo, result.lumo)
    record |= dispersion_record(start.density.structure, result.e_tot, dispersion, recipe)
    record["uncertainty_ev"] = round(result.uncertainty * HARTREE, 5)
    record |= Steps.of(result).record()
    record["steps"] = steps
    record |= _of_cell(start, result.e_tot)
    if start.density.structure.isolated and start.density.structure.charge < 0:
        record["notes"] = [
            "the basis has no diffuse functions, so an anion is bound too weakly; --basis "
            "aug-gth-tzv2p has them"
        ]
    record["written"] = written
    seconds = {} if start.seconds is None else {"density": round(start.seconds, 3)}
    record["seconds"] = seconds | {"steps": round(result.seconds, 3)}
    return record


def scf_record(
    start: StartDensity, recipe: Recipe, steps: int, out: Path | None = None, compare: bool = False
) -> dict:
    """Self-consistent energy from a predicted density; `compare` tries other starts as well.

    `fock_builds` includes those that made the starting density matrix. Open shells start from
    PySCF's `minao` guess; the spin density goes to a second file. A density that has not converged
    is not written, and "errors" says so.
    """
    if start.density.structure.spin:
        result, density, more = open_shell_scf(start.density, recipe, out, compare)
        record = _record(start, density, result.e_tot, result.homo, result.lumo)
        row = {
            "cycles": result.cycles,
            "fock_builds": result.cycles + 1,
            "seconds": round(result.seconds, 2),
            "e_tot_hartree": result.e_tot,
            "converged": result.converged,
        }
        more["errors"] = _errors(density.structure, result)
        record |= _of_cell(start, result.e_tot)
        return record | {"converged": result.converged, "starts": {"minao": row}} | more
    begin = time.perf_counter()
    dm = dm_from_density(start.density, recipe, steps)
    made = time.perf_counter() - begin + (start.seconds or 0.0)
    rows = {"prediction": _converge(start.density, recipe, dm, steps + 1, made)}
    result = rows["prediction"].pop("result")
    if compare:
        for name, make, builds in _other_starts(start.density, recipe):
            begin = time.perf_counter()
            other = make()
            row = _converge(start.density, recipe, other, builds, time.perf_counter() - begin)
            del row["result"]
            rows[name] = row
    density = converged_density(start.density, recipe, result)
    record = _record(start, density, result.e_tot, result.homo, result.lumo)
    record |= _of_cell(start, result.e_tot)
    record |= {"converged": result.converged, "starts": rows, "written": []}
    if out is not None and result.converged:
        write(out, density)
        record["written"] = [str(out)]
    return record | {"errors": _errors(density.structure, result)}


def _errors(structure: Structure, result: KSResult) -> dict[str, str]:
    return {} if result.converged else {"scf": not_converged(structure, result)}


def converged_density(density: Density, recipe: Recipe, result: KSResult) -> Density:
    """Density of a self-consistent calculation; exactly N_e electrons, none negative."""
    mf = mean_field(density.structure, density.grid, recipe)
    rho = density_from_dm(mf.cell, result.dm, density.grid, density.structure)
    values = np.maximum(rho.values, 0.0)
    return rho.with_values(values * (rho.n_electrons / (values.sum() * rho.grid.dv)))


def orbital_index(name: str, n_occupied: int, n_orbitals: int) -> int:
    """Column of `homo`, `lumo`, `homo-1`, `lumo+2`, ...

    Raises
    ------
    InputError
        Another name, or an orbital that the calculation does not have.
    """
    match = re.fullmatch(r"homo(-\d+)?|lumo(\+\d+)?", name)
    if not match:
        raise InputError(f"unknown orbital {name!r}; name homo, lumo, homo-1, lumo+2, ...")
    below, above = match.groups()
    is_homo = name.startswith("homo")
    index = n_occupied - 1 + int(below or 0) if is_homo else n_occupied + int(above or 0)
    if not 0 <= index < n_orbitals:
        raise InputError(
            f"there is no orbital {name!r}: {n_occupied} of {n_orbitals} orbitals are occupied"
        )
    return index


def energy_summary(record: dict) -> str:
    """One line of text."""
    orbitals = f"HOMO {record['homo_ev']:.2f}, LUMO {record['lumo_ev']:.2f}, "
    line = (
        f"{headline(record)}, "
        f"E {record['e_tot_hartree']:.6f} hartree{dispersion_text(record)} "
        f"(estimated error {1000 * record['uncertainty_ev']:.1f} meV), {orbitals}"
        f"gap {record['gap_ev']:.2f} eV, {dipole_text(record)}, {density_error_text(record)}, "
        f"{sum(record['seconds'].values()):.1f} s{_surroundings(record)}{geometry_text(record)}"
    )
    return line + (f" -> {', '.join(record['written'])}" if record["written"] else "")


def scf_summary(record: dict) -> str:
    """One line of text, and one for each start that was compared."""
    first = next(iter(record["starts"].values()))
    spins = ""
    if record["spin"]:
        found = record["spins_hirshfeld"]
        by_atom = " ".join(f"{m:.2f}" for m in found[:MOST_ATOMS])
        more = " ..." if len(found) > MOST_ATOMS else ""
        spins = f", <S^2> {record['s_squared']:.3f}, unpaired electrons by atom {by_atom}{more}"
    line = (
        f"{headline(record)}, "
        f"E {record['e_tot_hartree']:.8f} hartree"
        f"{'' if record['converged'] else ' (NOT CONVERGED)'}, gap {record['gap_ev']:.3f} eV, "
        f"{dipole_text(record, 3)}{spins}, {first['cycles']} cycles{_surroundings(record)}"
        f"{geometry_text(record)}"
    )
    line += f" -> {', '.join(record['written'])}" if record["written"] else ""
    if len(record["starts"]) > 1:
        for name, row in record["starts"].items():
            line += (
                f"\n  from {name:<14} {row['cycles']:>2} cycles, {row['fock_builds']:>2} Fock "
                f"builds with the start's, {row['seconds']:.1f} s, E {row['e_tot_hartree']:.8f}"
                f"{'' if row['converged'] else ' (NOT CONVERGED)'}"
            )
    return line


def _converge(
    density: Density, recipe: Recipe, dm: np.ndarray | None, builds: int, seconds: float
) -> dict:
    structure = density.structure
    result = scf(
        structure, density.grid, recipe, dm0=dm, isolated=structure.isolated, about=density
    )
    return {
        "cycles": result.cycles,
        # PySCF builds one Fock matrix from the starting density matrix before the first cycle.
        "fock_builds": result.cycles + 1 + builds,
        "seconds": round(seconds + result.seconds, 2),
        "e_tot_hartree": result.e_tot,
        "converged": result.converged,
        "result": result,
    }


def _other_starts(
    density: Density, recipe: Recipe
) -> list[tuple[str, Callable[[], np.ndarray | None], int]]:
    """Name, function that makes a density matrix, and its number of Fock builds."""

    def from_sad(name: str) -> Callable[[], np.ndarray]:
        sad, isolated = partial(superposition, density.structure), density.structure.isolated
        return lambda: one_step(sad(density.grid, name), recipe, isolated=isolated).dm

    return [
        ("SAD", from_sad(RECIPES[0]), 1),
        ("atrocious SAD", from_sad(RECIPES[1]), 1),
        ("minao", lambda: None, 0),
    ]


def _record(start: StartDensity, density: Density, e_tot: float, homo: float, lumo: float) -> dict:
    record = energies_record(density.structure, e_tot, homo, lumo, _calculation(start.density))
    return record | {
        **dipole_record(density),
        "grid_shape": list(density.grid.shape),
        "geometry": start.geometry,
    }


def _of_cell(start: StartDensity, e_tot: float) -> dict:
    """What was done about a small cell: `at_gamma`, or that it was repeated."""
    times = start.times
    if max(times) == 1:
        return {"notes": at_gamma(start.density.structure, "--repeat does so")}
    e_cell = e_tot / int(np.prod(times))
    return {
        "notes": [f"the cell is {times_text(times)}; E of one cell is {e_cell:.6f} hartree"],
        "repeated": list(times),
        "e_cell_hartree": e_cell,
    }


def _calculation(density: Density) -> str:
    """Kind of a calculation; energies of one kind are comparable (`denser.dft.scf.mean_field`)."""
    if not density.structure.isolated:
        return "periodic"
    if density.structure.spin or density.continuous is None:
        return "corrected box"
    return "open space"


def _surroundings(record: dict) -> str:
    """What a reader must know of an energy: in open space, in a box, or in a cell."""
    if record["against_vacuum"]:
        return f" ({record['calculation']})"
    if not record["charge"]:
        return " (levels of a cell have no zero of energy)"
    return (
        " (a charged cell in a uniform background: compare only cells of the same size; its levels "
        "have no zero of energy)"
    )
