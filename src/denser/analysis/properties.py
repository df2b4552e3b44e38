"""Properties of one density by name; common intermediate results are computed once."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denser.analysis.catalogue import DEFAULT, FIELDS, NEEDS, PROPERTIES, load, unknown
from denser.atoms.sad import require_closed_shell
from denser.io.electrons import require_known
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.recipe import Recipe

if TYPE_CHECKING:
    from denser.analysis.catalogue import FieldEntry, Property
    from denser.analysis.continuous import ContinuousDensity
    from denser.analysis.energies.electron_localisation import Localisation
    from denser.analysis.potential.electrostatics import Potential
    from denser.dft.one_step import OneStep
    from denser.model.options import PredictionOptions
    from denser.model.predictor import Predictor

ORBITALS_NEED_VALENCE = (
    "Kohn-Sham steps need a valence density of the model's pseudopotentials, but this one is "
    "all-electron; leave out properties that need orbitals, or predict the structure"
)


class Analysis:
    """Properties and fields of one density.

    The attributes and the cached properties named in `denser.analysis.catalogue.NEEDS` are what
    functions of the catalogue are called with.

    Parameters
    ----------
    density : Density
        Density of the valence electrons, or of all electrons (`all_electron`).
    recipe : Recipe
        Level of theory of the Kohn-Sham calculations.
    steps : int
        Number of Kohn-Sham steps for the orbitals.
    isovalue : float
        Isovalue of the surface for the potential, e/bohr^3.
    basis : str, optional
        Basis of the polarizability, see `denser.dft.polarizability`.
    options : PredictionOptions, optional
        Model and device of further predictions, such as those of molecules in a crystal.
    dispersion : str
        Dispersion of pair energies, see `denser.dft.dispersion`.
    fragments : str
        Molecules of interaction energies, see `denser.dft.interaction.fragments_of`.

    Raises
    ------
    InputError
        It is not known which electrons the density contains.
    """

    def __init__(
        self,
        density: Density,
        recipe: Recipe = Recipe(),
        steps: int = 1,
        isovalue: float = 0.001,
        basis: str | None = None,
        options: PredictionOptions | None = None,
        dispersion: str = "d3bj",
        fragments: str = "bonds",
    ) -> None:
        require_known(density)
        self.density, self.recipe, self.steps, self.isovalue = density, recipe, steps, isovalue
        self.basis, self.options, self.dispersion = basis, options, dispersion
        self.fragments = fragments
        self.valence = self.isolated = self.crystal = density  # the functions refuse other kinds
        self.functionals = (recipe.xc,)
        self._results: dict[str, Any] = {}

    def property(self, name: str) -> Any:
        """Result of one property: a dataclass with `to_dict()` and `lines()`.

        Raises
        ------
        InputError
            The name is unknown, or the density does not have the property.
        """
        if name not in PROPERTIES:
            raise unknown("property", name, PROPERTIES)
        if name not in self._results:
            self._results[name] = self._made(PROPERTIES[name])
        return self._results[name]

    def field(self, name: str) -> Density:
        """One of `FIELDS`, with the atoms.

        Fields of orbitals are on the grid of the Kohn-Sham steps, which is finer than a coarse one.

        Raises
        ------
        InputError
            An unknown name, or a density that does not have the field.
        """
        if name not in FIELDS:
            raise unknown("field", name, FIELDS)
        field = self._made(FIELDS[name])
        if isinstance(field, Density):
            return field
        return replace(self.density, grid=field.grid, values=field.values, unit=field.unit)

    def _made(self, entry: Property | FieldEntry) -> Any:
        """Call the function of an entry with its arguments."""
        needs = [self._need(name) for name in entry.needs]
        if not entry.function:
            return needs[0]
        shared = {name: self._need(name) for name in getattr(entry, "shares", ())}
        return load(entry.function)(*needs, **shared)

    def _need(self, text: str) -> Any:
        """Value of a need: an attribute, another property, or an attribute of either."""
        name, _, part = text.partition(".")
        value = getattr(self, name) if name in NEEDS else self.property(name)
        return attrgetter(part)(value) if part else value

    @cached_property
    def completed(self) -> Density:
        """The density of all electrons, cores of free atoms added."""
        from denser.atoms.free_atoms import complete

        return complete(self.density)

    @cached_property
    def continuous(self) -> ContinuousDensity:
        """The density of all electrons at any point."""
        from denser.analysis.continuous import ContinuousDensity

        return ContinuousDensity(self.density)

    @cached_property
    def predictor(self) -> Predictor:
        """Predicts further structures."""
        from denser.model.options import PredictionOptions
        from denser.model.predictor import Predictor

        return Predictor.of(self.options or PredictionOptions())

    @cached_property
    def deformation(self) -> Field:
        """The density minus superposed atoms, with the atoms."""
        from denser.analysis.fields import deformation_density

        return replace(self.density, values=deformation_density(self.density).values)

    @cached_property
    def potential(self) -> Potential:
        """Electrostatic potential at any point."""
        from denser.analysis.potential.electrostatics import Potential

        return Potential(self.density)

    @cached_property
    def valence_start(self) -> Density:
        """The density, if Kohn-Sham calculations can start from it."""
        if self.density.all_electron:
            raise InputError(ORBITALS_NEED_VALENCE)
        return self.density

    @cached_property
    def orbitals(self) -> OneStep:
        """Orbitals and energy of Kohn-Sham steps from the density."""
        from denser.dft.one_step import on_recipe_grid
        from denser.dft.refine import refine
        from denser.dft.scf import mean_field

        require_closed_shell(self.density.structure, "properties of orbitals")
        start = on_recipe_grid(self.valence_start, self.recipe)
        isolated = start.structure.isolated
        mf = mean_field(start.structure, start.grid, self.recipe, isolated=isolated, about=start)
        return refine(start, self.recipe, self.steps, mf=mf).steps[-1]

    @cached_property
    def localisation(self) -> Localisation:
        """ELF and LOL of the orbitals."""
        from denser.analysis.energies.electron_localisation import localisation

        return localisation(self.orbitals)

    @cached_property
    def localisation_of_density(self) -> Localisation:
        """ELF and LOL estimated from the density alone."""
        from denser.analysis.energies.electron_localisation import localisation_of_density

        return localisation_of_density(self.density)

    @cached_property
    def localisation_of_network(self) -> Localisation:
        """ELF and LOL with a learnt kinetic energy density."""
        from denser.analysis.energies.electron_localisation import learned_localisation

        return learned_localisation(self.density, self.predictor)


class Properties(dict[str, Any]):
    """Properties by their names; printed, and in Jupyter, as the lines of a report."""

    def __repr__(self) -> str:
        return f"Properties({', '.join(self)})"

    def __str__(self) -> str:
        return "\n".join("\n  ".join([name, *found.lines()]) for name, found in self.items())

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def analyze(
    density: Any,
    properties: str | Iterable[str] = DEFAULT,
    recipe: Recipe = Recipe(),
) -> Properties:
    """Compute properties of a density.

    Parameters
    ----------
    density : Density, or a file or molecule
        A file of a density is read; for a molecule, as `denser.predict` takes it, the density is
        predicted.
    properties : str or iterable of str
        Names in `denser.analysis.catalogue.PROPERTIES`.
    recipe : Recipe
        Level of theory of the Kohn-Sham calculations.

    Returns
    -------
    Properties
        A dictionary: for each name a frozen dataclass in atomic units, with `to_dict()` for JSON in
        chemists' units and `lines()` for reading. `print` shows all lines.

    Raises
    ------
    InputError
        An unknown name, or a density that does not have a property.
    """
    if isinstance(properties, str):
        properties = (properties,)
    names = list(properties) if isinstance(properties, Iterable) else [properties]
    if not all(isinstance(name, str) for name in names):
        raise InputError(
            f"expected names of properties, such as ['hirshfeld'], found {properties!r}"
        )
    analysis = Analysis(_density(density), recipe)
    return Properties({name: analysis.property(name) for name in names})


def _density(source: Any) -> Density:
    """The density itself, that in a file, or the predicted one of a molecule."""
    from denser.io import is_density_file, read_density
    from denser.model.predictor import predict

    if isinstance(source, Density):
        return source
    if isinstance(source, str | Path) and is_density_file(source):
        return read_density(source)
    return predict(source)
