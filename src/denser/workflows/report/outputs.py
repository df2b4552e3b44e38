"""Files of a report besides numbers: fields, maps, reflections, charges, averages, pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from denser.analysis.averages import coarsen, planar_average
from denser.analysis.catalogue import CHARGES, FIELDS, PICTURES, PROPERTIES, unknown
from denser.analysis.properties import Analysis
from denser.io import SUFFIXES, read, write, zarr_group
from denser.io.charges import require_suffix
from denser.io.files import naming, replacing
from denser.model.options import PredictionOptions
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.units import BOHR
from denser.workflows.inputs import refuse_inputs

if TYPE_CHECKING:
    from denser.analysis.crystal.rigid_fit import RigidFit
    from denser.analysis.crystal.scattering import StructureFactors

FIELDS_GROUP = "fields.zarr"
"""Group of all fields in the folder of a report, if their format is Zarr."""


@dataclass(frozen=True)
class ReportSettings:
    """What to compute, and from which density.

    Parameters
    ----------
    properties, fields : tuple of str
        Names in `denser.analysis.catalogue.PROPERTIES` and `FIELDS`.
    optional : tuple of str
        Properties that may be left out if a density does not have them.
    format : str
        Suffix of field files, or "zarr".
    pictures : bool
        Draw the reduced gradient, the potential on the surface, and critical points.
    kind : str
        Kind of densities in files: "auto", "valence" or "all-electron".
    options : PredictionOptions
        Options of predictions; the charge applies to densities in files too.
    steps : int
        Number of Kohn-Sham steps for the orbitals.
    basis : str, optional
        Of the polarizability.
    dispersion : str
        Of pair energies.
    fragments : str
        Molecules of interaction energies, as in `denser.dft.interaction.fragments_of`.
    isovalue : float
        Isovalue of the surface for the potential, e/bohr^3.
    xray, cryo : float or None
        Resolution of X-ray and of electron structure factors and their maps, angstrom.
    b_factor : float
        Isotropic B factor of all atoms in them, angstrom^2.
    charges_format : str or None
        Suffix of files with the atoms and each kind of charges (`denser.io.charges`).
    planar_average : str or None
        Axis ("x", "y", "z") of planar averages of the density and the potential.
    coarsen : int
        Fields are written on every `coarsen`-th node, with the same total charge.
    mask, minus, against : str or None
        Files: a region to count electrons in, a density to subtract, a measured map.
    fit : bool
        First move the structure into the map `against`.
    """

    properties: tuple[str, ...]
    fields: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    format: str = "cube"
    pictures: bool = False
    kind: str = "auto"
    options: PredictionOptions = field(default_factory=PredictionOptions)
    steps: int = 1
    isovalue: float = 0.001
    basis: str | None = None
    dispersion: str = "d3bj"
    fragments: str = "bonds"
    xray: float | None = None
    cryo: float | None = None
    b_factor: float = 0.0
    charges_format: str | None = None
    planar_average: str | None = None
    coarsen: int = 1
    mask: str | None = None
    minus: str | None = None
    against: str | None = None
    fit: bool = False

    @property
    def files(self) -> dict[str, str]:
        """The files that the settings name."""
        named = {"mask": self.mask, "minus": self.minus, "against": self.against}
        return {key: path for key, path in named.items() if path is not None}

    def plain(self) -> dict[str, Any]:
        """Return the settings that determine the results, as plain values."""
        return vars(self) | {"options": self.options.plain()}

    @property
    def writes_files(self) -> bool:
        """Whether the settings ask for files, which need a folder."""
        kinds = (
            self.fields,
            self.pictures,
            self.xray,
            self.cryo,
            self.charges_format,
            self.planar_average,
        )
        return any(map(bool, (*kinds, self.minus, self.fit)))

    def __post_init__(self) -> None:
        for what, names, known in (
            ("property", self.properties, PROPERTIES),
            ("field", self.fields, FIELDS),
        ):
            for name in names:
                if name not in known:
                    raise unknown(what, name, known)
        suffixes = (*SUFFIXES, zarr_group.SUFFIX)
        if f".{self.format.lower()}" not in suffixes:
            raise InputError(
                f"fields cannot be written as .{self.format}; choose one of "
                f"{', '.join(suffix[1:] for suffix in suffixes)}"
            )
        if self.charges_format is not None:
            require_suffix(Path(f"x.{self.charges_format}"))
        if self.planar_average not in (None, "x", "y", "z"):
            raise InputError(f"planar averages are along x, y or z, found {self.planar_average!r}")
        if self.coarsen < 1:
            raise InputError(
                f"the factor to coarsen fields by must be 1 or more, found {self.coarsen}"
            )
        for name, d_min in (("X-ray", self.xray), ("cryo-EM", self.cryo)):
            if d_min is not None and not d_min > 0:
                raise InputError(f"the {name} resolution must be positive, found {d_min:g}")
        if self.against and (self.xray is None) == (self.cryo is None):
            raise InputError(
                "a comparison with a map needs its kind and resolution: give either --xray or "
                "--cryo"
            )
        if self.fit and not self.against:
            raise InputError("a fit needs a map; name it with --against")


def output_tasks(
    analysis: Analysis,
    settings: ReportSettings,
    folder: Path | None,
    stem: str,
    written: list[str],
    protected: frozenset[Path] = frozenset(),
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name and the work of everything else that the settings ask for.

    The work writes files, appends their names to `written`, and returns a dataclass like those
    of properties, or None. It does not overwrite the files in `protected`.
    """

    def save(ending: str, write_to: Callable[[Path], None]) -> None:
        if folder is None:
            raise InputError(f"{stem}{ending}: name a folder to write it to")
        target = folder / f"{stem}{ending}"
        if zarr_group.is_group(target):
            target = folder / FIELDS_GROUP / target.stem
        refuse_inputs(target, protected)
        write_to(target)
        written.append(str(target))

    def field(name: str) -> None:
        values: Field = analysis.field(name)
        if settings.coarsen > 1:
            values = coarsen(values, settings.coarsen)
        save(f"_{name}.{settings.format}", lambda path: write(path, values))

    for name in settings.fields:
        yield f"{name} field", partial(field, name)
    if settings.charges_format:
        for name in [name for name in settings.properties if name in CHARGES]:
            yield f"{name} file", partial(_charges, analysis, name, settings.charges_format, save)
    if settings.planar_average:
        yield "average", partial(_averages, analysis, settings.planar_average, save)
    if settings.mask:
        yield "mask", partial(_in_mask, analysis, settings.mask)
    if settings.minus:
        yield "difference", partial(_difference, analysis, settings.minus, settings.format, save)
    for name, kind, d_min in (
        ("xray", "xray", settings.xray),
        ("cryo", "electron", settings.cryo),
    ):
        if d_min is None:
            continue
        yield name, partial(_scattering, analysis, name, kind, d_min, settings.b_factor, save)
        if settings.against:
            where = (settings.b_factor, settings.against)
            model = cache(partial(_model_map, analysis, kind, d_min, *where))
            yield "map correlation", partial(_correlation, analysis, model, settings.against)
            yield "fourier shell correlation", partial(_shells, model, settings.against)
    if folder is not None and settings.pictures and "hirshfeld-surface" in settings.properties:
        yield "hirshfeld-surface mesh", partial(_meshes, analysis, save)
    if settings.pictures:
        for name in [name for name in settings.properties if name in PICTURES]:
            yield f"{name} picture", partial(_picture, analysis, name, save)


Save = Callable[[str, Callable[[Path], None]], None]


@dataclass(frozen=True)
class FileNote:
    """A sentence about a file that was written."""

    text: str

    def to_dict(self) -> dict:
        """Return the sentence as plain data."""
        return {"note": self.text}

    def lines(self) -> list[str]:
        """Lines of the text report."""
        return [self.text]


def _charges(analysis: Analysis, name: str, suffix: str, save: Save) -> FileNote | None:
    from denser.io.charges import write_charges

    charges = analysis.property(name).charges
    structure = analysis.density.structure
    notes: list[str] = []
    save(f"_{name}.{suffix}", lambda path: notes.append(write_charges(path, structure, charges)))
    return FileNote(notes[0]) if notes[0] else None


def _averages(analysis: Analysis, axis: str, save: Save) -> Any:
    averages = {
        "density": planar_average(analysis.density, axis),
        "esp": planar_average(analysis.field("esp"), axis),
    }

    def rows(path: Path) -> None:
        with replacing(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            units = [f"{name} ({a.unit})" for name, a in averages.items()]
            writer.writerow([f"{axis} (angstrom)", *units])
            for i, x in enumerate(averages["density"].coordinate * BOHR):
                writer.writerow([f"{x:.6f}", *(f"{a.values[i]:.8g}" for a in averages.values())])

    save(f"_average_{axis}.csv", rows)
    return averages["esp"]


def _in_mask(analysis: Analysis, path: str) -> Any:
    from denser.analysis.fields import overlap

    with naming(Path(path)):
        return overlap(analysis.density, read(path))


def _difference(analysis: Analysis, minus: str, suffix: str, save: Save) -> Any:
    from denser.analysis.accumulation import accumulation
    from denser.analysis.fields import difference

    path, density = Path(minus), analysis.density
    with naming(path):
        other = read(path)
        if isinstance(
            other, Density
        ):  # the grids and electrons show whether it is of the same kind
            other = Field(other.grid, other.values, other.unit)
        rest = difference(density, other)
    with_atoms = replace(density, values=rest.values)
    save(f"_difference.{suffix}", lambda path: write(path, with_atoms))
    return accumulation(rest, 0.003, density.structure)


def _scattering(
    analysis: Analysis, name: str, kind: str, d_min: float, b_factor: float, save: Save
) -> StructureFactors:
    from denser.analysis.crystal.maps import map_of
    from denser.analysis.crystal.scattering import structure_factors, write_tsc

    density = analysis.density
    factors = structure_factors(density, d_min, b_factor, kind=kind)
    save(f"_{name}.mtz", factors.write)
    save(f"_{name}.map", lambda path: write(path, map_of(density, factors)))
    if kind == "xray":
        save(".tsc", lambda path: write_tsc(path, density, d_min))
    return factors


def _model_map(analysis: Analysis, kind: str, d_min: float, b_factor: float, path: str) -> Field:
    """Map of the density on the nodes of the measured map in a file."""
    from denser.analysis.crystal.maps import fourier_map
    from denser.analysis.crystal.scattering import structure_factors

    grid = _map(path).grid
    with naming(Path(path)):
        factors = structure_factors(analysis.density, d_min, b_factor, cell=grid.cell, kind=kind)
        return fourier_map(factors, grid)


def _correlation(analysis: Analysis, model: Callable[[], Field], path: str) -> Any:
    from denser.analysis.crystal.maps import real_space_correlation

    structure = analysis.density.structure
    with naming(Path(path)):
        return real_space_correlation(model(), _map(path), structure=structure)


def _shells(model: Callable[[], Field], path: str) -> Any:
    from denser.analysis.crystal.maps import fourier_shell_correlation

    with naming(Path(path)):
        return fourier_shell_correlation(model(), _map(path))


def fitted(
    atoms: Atoms, settings: ReportSettings, against: str, path: Path
) -> tuple[Atoms, RigidFit]:
    """A structure moved into a measured map, also written to `path`, and how well it fits."""
    from denser.analysis.crystal.rigid_fit import fit_rigid

    kind, d_min = ("xray", settings.xray) if settings.xray else ("electron", settings.cryo)
    if d_min is None:
        raise InputError("a fit needs the resolution of the map; give either --xray or --cryo")
    structure = settings.options.structure_of(atoms)
    with naming(Path(against)):
        fit = fit_rigid(structure, _map(against), d_min, settings.b_factor, kind)
    moved = atoms.copy()
    moved.positions = fit.structure.positions * BOHR
    with replacing(path) as temporary:
        moved.write(temporary, format="extxyz")
    return moved, fit


@lru_cache(maxsize=1)
def _map(path: str) -> Field:
    return read(path)


def _meshes(analysis: Analysis, save: Save) -> None:
    from denser.pictures.fingerprints import write_surface

    for surface in analysis.property("hirshfeld-surface").surfaces:
        ending = f"_hirshfeld-surface_{surface.molecule + 1}.ply"
        save(ending, partial(write_surface, surface))


def _picture(analysis: Analysis, name: str, save: Save) -> None:
    from denser.pictures.properties import NothingToDraw, plot_property

    result, structure = analysis.property(name), analysis.density.structure
    with suppress(NothingToDraw):
        save(f"_{name}.png", lambda path: plot_property(name, result, structure, path))
