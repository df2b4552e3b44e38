"""All properties of one density, by name; what several of them need is computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.recipe import Recipe

if TYPE_CHECKING:
    from denser.analysis.continuous import ContinuousDensity
    from denser.analysis.energies.electron_localisation import Localisation
    from denser.analysis.potential.electrostatics import Potential
    from denser.dft.refine import Refined

CHARGES = ("hirshfeld", "cm5", "mbis", "bader", "chelpg", "mk", "resp")
"""Kinds of atomic charges."""

PROPERTIES = {
    "moments": "charge, dipole, quadrupole, octupole, <r^2>",
    "hirshfeld": "Hirshfeld charges, atomic dipoles and volumes",
    "cm5": "charge model 5, from Hirshfeld charges",
    "mbis": "minimal basis iterative stockholder charges",
    "bader": "charges and volumes of Bader's basins",
    "chelpg": "charges fitted to the potential, CHELPG points",
    "mk": "charges fitted to the potential, Merz-Kollman points",
    "resp": "restrained charges fitted to the potential, two stages",
    "esp": "electrostatic potential on the 0.001 e/bohr^3 surface",
    "qtaim": "critical points of the density and bond paths",
    "nci": "non-covalent interactions, from the reduced density gradient",
    "voids": "cavities and channels where the density is low",
    "accumulation": "where charge has gathered, against superposed atoms",
    "orbital-free": "orbital-free kinetic, Hartree, exchange-correlation energies",
    "reactivity": "HOMO, LUMO, hardness, Fukui functions (one-step orbitals)",
    "relaxed-fukui": "Fukui functions from N+1 and N-1 electrons (three SCF)",
    "polarizability": "static polarizability, coupled-perturbed (one-step)",
}
"""Names that `analyze` takes, and what they are."""

NEED_ORBITALS = ("reactivity", "relaxed-fukui", "polarizability")
"""Properties that take Kohn-Sham steps."""

FIELDS = {
    "density": "the density itself, e/bohr^3",
    "esp": "electrostatic potential, hartree/e",
    "all-electron": "density with the cores added, e/bohr^3",
    "deformation": "density less superposed atoms, e/bohr^3",
    "laplacian": "Laplacian of the density, e/bohr^5",
    "gradient": "length of the density's gradient, e/bohr^4",
    "rdg": "reduced density gradient",
    "sign-lambda2-rho": "density with the sign of the Hessian's second eigenvalue, e/bohr^3",
    "elf": "electron localisation function (one-step orbitals)",
    "lol": "localised-orbital locator (one-step orbitals)",
    "elf-density": "electron localisation function estimated from the density alone",
    "lol-density": "localised-orbital locator estimated from the density alone",
    "fukui-plus": "Fukui function f+, e/bohr^3 (one-step orbitals)",
    "fukui-minus": "Fukui function f-, e/bohr^3 (one-step orbitals)",
    "dual": "dual descriptor f+ - f-, e/bohr^3 (one-step orbitals)",
}
"""Names that `Analysis.field` takes, and what they are."""

ORBITALS_NEED_VALENCE = (
    "one-step orbitals need a valence density of the model's pseudopotentials, and this one is "
    "all-electron; leave out what needs orbitals, or predict the structure"
)

ACCUMULATION = 0.01
"""Where the deformation density counts as gathered or gone, e/bohr^3."""


class Analysis:
    """Properties and fields of one density.

    Parameters
    ----------
    density : Density
        Of valence electrons, or of all (`all_electron`).
    recipe : Recipe
        Level of theory of the one-step calculations.
    steps : int
        Kohn-Sham steps that make orbitals.
    isovalue : float
        Of the surface for the potential, e/bohr^3.
    """

    def __init__(
        self,
        density: Density,
        recipe: Recipe = Recipe(),
        steps: int = 1,
        isovalue: float = 0.001,
    ) -> None:
        self.density, self.recipe, self.steps, self.isovalue = density, recipe, steps, isovalue

    def property(self, name: str) -> Any:
        """Result of one property: a dataclass with `to_dict()` and `lines()`.

        Raises
        ------
        InputError
            An unknown name, or a density that the property cannot be had from.
        """
        if name not in PROPERTIES:
            raise unknown("property", name, PROPERTIES)
        return getattr(self, "_" + name.replace("-", "_"))

    def field(self, name: str) -> Density:
        """One of `FIELDS`, with the atoms."""
        if name not in FIELDS:
            raise unknown("field", name, FIELDS)
        field = getattr(self, "_field_" + name.replace("-", "_"))()
        return replace(self.density, values=field.values, unit=field.unit)

    @cached_property
    def refined(self) -> Refined:
        """Orbitals and energy of Kohn-Sham steps from the density."""
        from denser.dft.refine import refine

        if self.density.all_electron:
            raise InputError(ORBITALS_NEED_VALENCE)
        return refine(self.density, self.recipe, self.steps)

    @cached_property
    def potential(self) -> Potential:
        """Electrostatic potential at any point."""
        from denser.analysis.potential.electrostatics import Potential

        return Potential(self.density)

    @cached_property
    def continuous(self) -> ContinuousDensity:
        """The density of all electrons at any point."""
        from denser.analysis.continuous import ContinuousDensity

        return ContinuousDensity(self.density)

    @cached_property
    def _moments(self) -> Any:
        from denser.analysis.moments import moments

        return moments(self.density)

    @cached_property
    def _hirshfeld(self) -> Any:
        from denser.analysis.charges.stockholder import hirshfeld

        return hirshfeld(self.density)

    @cached_property
    def _cm5(self) -> Any:
        from denser.analysis.charges.stockholder import cm5

        return cm5(self._hirshfeld, self.density.structure)

    @cached_property
    def _mbis(self) -> Any:
        from denser.analysis.charges.mbis import mbis

        return mbis(self.density)

    @cached_property
    def _bader(self) -> Any:
        from denser.analysis.charges.bader import bader

        return bader(self.continuous, self._qtaim)

    @cached_property
    def _chelpg(self) -> Any:
        from denser.analysis.charges.esp_charges import chelpg

        return chelpg(self.density, potential=self.potential)

    @cached_property
    def _mk(self) -> Any:
        from denser.analysis.charges.esp_charges import merz_kollman

        return merz_kollman(self.density, potential=self.potential)

    @cached_property
    def _resp(self) -> Any:
        from denser.analysis.charges.esp_charges import resp

        return resp(self.density, potentials=[self.potential])

    @cached_property
    def _esp(self) -> Any:
        from denser.analysis.potential.esp_surface import esp_surface

        return esp_surface(self.density, self.isovalue, self.potential)

    @cached_property
    def _qtaim(self) -> Any:
        from denser.analysis.topology.critical_points import critical_points

        return critical_points(self.continuous)

    @cached_property
    def _nci(self) -> Any:
        from denser.analysis.interactions.nci import nci

        return nci(self.density)

    @cached_property
    def _voids(self) -> Any:
        from denser.analysis.interactions.voids import voids
        from denser.atoms.free_atoms import complete

        return voids(complete(self.density))

    @cached_property
    def _accumulation(self) -> Any:
        from denser.analysis.regions import accumulation

        return accumulation(self._deformation, ACCUMULATION, self.density.structure)

    @cached_property
    def _orbital_free(self) -> Any:
        from denser.analysis.energies.orbital_free import orbital_free_energies

        return orbital_free_energies(self.density, (self.recipe.xc,))

    @cached_property
    def _reactivity(self) -> Any:
        from denser.analysis.energies.reactivity import reactivity

        return reactivity(self.refined.steps[-1])

    @cached_property
    def _relaxed_fukui(self) -> Any:
        from denser.analysis.energies.reactivity import reactivity

        return reactivity(self.refined.steps[-1], relaxed=True)

    @cached_property
    def _polarizability(self) -> Any:
        from denser.dft.finite_field import polarizability

        if self.density.all_electron:
            raise InputError(ORBITALS_NEED_VALENCE)
        return polarizability(self.density)

    @cached_property
    def _deformation(self) -> Field:
        from denser.analysis.fields import deformation_density

        return deformation_density(self.density)

    def _field_density(self) -> Field:
        return self.density

    def _field_esp(self) -> Field:
        from denser.analysis.potential.electrostatics import electrostatic_potential

        return electrostatic_potential(self.density)

    def _field_all_electron(self) -> Field:
        from denser.atoms.free_atoms import complete

        return complete(self.density)

    def _field_deformation(self) -> Field:
        return self._deformation

    def _field_laplacian(self) -> Field:
        from denser.analysis.fields import laplacian

        return laplacian(self.density)

    def _field_gradient(self) -> Field:
        from denser.analysis.fields import gradient_norm

        return gradient_norm(self.density)

    def _field_rdg(self) -> Field:
        from denser.analysis.fields import reduced_density_gradient

        return reduced_density_gradient(self.density)

    def _field_sign_lambda2_rho(self) -> Field:
        from denser.analysis.fields import hessian_eigenvalue_2

        return hessian_eigenvalue_2(self.density)

    @cached_property
    def _localisation(self) -> Localisation:
        from denser.analysis.energies.electron_localisation import localisation

        return localisation(self.refined.steps[-1])

    @cached_property
    def _localisation_of_density(self) -> Localisation:
        from denser.analysis.energies.electron_localisation import localisation_of_density

        return localisation_of_density(self.density)

    def _field_elf(self) -> Field:
        return self._localisation.elf

    def _field_lol(self) -> Field:
        return self._localisation.lol

    def _field_elf_density(self) -> Field:
        return self._localisation_of_density.elf

    def _field_lol_density(self) -> Field:
        return self._localisation_of_density.lol

    def _field_fukui_plus(self) -> Field:
        return self._reactivity.f_plus

    def _field_fukui_minus(self) -> Field:
        return self._reactivity.f_minus

    def _field_dual(self) -> Field:
        return self._reactivity.dual


def analyze(
    density: Density,
    properties: Iterable[str] = ("moments", "hirshfeld", "esp"),
    recipe: Recipe = Recipe(),
) -> dict[str, Any]:
    """Compute properties of a density.

    Parameters
    ----------
    density : Density
    properties : iterable of str
        Names in `PROPERTIES`.
    recipe : Recipe
        Level of theory of the one-step calculations.

    Returns
    -------
    dict
        By name: a frozen dataclass in atomic units each, with `to_dict()` for JSON in chemists'
        units and `lines()` for reading.

    Raises
    ------
    InputError
        An unknown name, or a density that a property cannot be had from.
    """
    analysis = Analysis(density, recipe)
    return {name: analysis.property(name) for name in properties}


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """An error that names the nearest known name."""
    near = get_close_matches(name, list(known), 1)
    hint = f"did you mean {near[0]!r}? known" if near else "known"
    return InputError(f"unknown {what} {name!r}; {hint}: {', '.join(known)}")
