"""The table of properties and fields: descriptions, arguments and functions.

A new property is a file with its function and an entry in `PROPERTIES` below. The options of
`denser analyze`, `denser.analyze`, reports, the viewer and docs/analyze.md read this table. It
names functions as "module:function" and does not import them, so that `denser --help` is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from denser.types.errors import InputError

NEEDS = {
    "density": "",
    "valence": "a valence density",
    "isolated": "an isolated molecule",
    "crystal": "a crystal",
    "isovalue": "",
    "functionals": "",
    "basis": "",
    "predictor": "",
    "recipe": "Kohn-Sham steps",
    "fragments": "several molecules",
    "dispersion": "",
    "completed": "",
    "continuous": "",
    "deformation": "",
    "potential": "",
    "valence_start": "Kohn-Sham steps",
    "orbitals": "Kohn-Sham steps",
    "localisation": "Kohn-Sham steps",
    "localisation_of_density": "",
    "localisation_of_network": "an isolated molecule",
}
"""Arguments of functions, by their names in `denser.analysis.properties.Analysis`, and what they
need of the density; empty if any density is accepted."""

KOHN_SHAM = "Kohn-Sham steps"


@dataclass(frozen=True)
class Property:
    """Entry of the table for a property.

    Parameters
    ----------
    help : str
        A short description.
    function : str
        "module:function". It returns a frozen dataclass with `to_dict()` and `lines()`.
    needs : tuple of str
        Its arguments: names in `NEEDS`, or other properties.
    shares : tuple of str
        Names in `NEEDS` of keyword arguments that other properties use too, so that they are
        computed only once.
    charges : str
        For atomic charges (see --charges): the heading of a column.
    quick : bool
        For charges: whether they are fast enough for the viewer, which updates them after each
        edit.
    fields : tuple of str
        Names in `FIELDS` that a report writes with it.
    picture : str
        "module:function" that draws the result; called with result, structure and path.
    """

    help: str
    function: str
    needs: tuple[str, ...] = ("density",)
    shares: tuple[str, ...] = ()
    charges: str = ""
    quick: bool = False
    fields: tuple[str, ...] = ()
    picture: str = ""


@dataclass(frozen=True)
class Isovalues:
    """Initial isovalue of a field, a sensible range, and its signs."""

    level: float
    low: float
    high: float
    signed: bool = False


SPIN_ISOVALUES = Isovalues(0.005, 0.0002, 0.2, signed=True)
"""Isovalues of spin densities."""


@dataclass(frozen=True)
class FieldEntry:
    """Entry of the table for a field.

    Parameters
    ----------
    help : str
        A short description; the viewer shows it.
    unit : str
    function : str
        "module:function" that returns the field. If it is empty, the field is its only need.
    needs : tuple of str
        Arguments of the function: names in `NEEDS`, or properties, and attributes of them
        ("reactivity.dual").
    isovalues : Isovalues, optional
        Isovalues for drawing; without them the viewer does not list the field.
    """

    help: str
    unit: str
    function: str = ""
    needs: tuple[str, ...] = ("density",)
    isovalues: Isovalues | None = None


PROPERTIES = {
    "moments": Property(
        "charge, dipole, quadrupole, octupole, <r^2>",
        "denser.analysis.moments:moments",
    ),
    "hirshfeld": Property(
        "Hirshfeld charges, atomic dipoles, quadrupoles and volumes",
        "denser.analysis.charges.stockholder:hirshfeld",
        charges="Hirshfeld",
        quick=True,
    ),
    "cm5": Property(
        "charge model 5, from Hirshfeld charges",
        "denser.analysis.charges.corrected_hirshfeld:cm5",
        needs=("hirshfeld",),
        charges="CM5",
        quick=True,
    ),
    "adch": Property(
        "Hirshfeld charges corrected for atomic dipoles",
        "denser.analysis.charges.corrected_hirshfeld:adch",
        needs=("hirshfeld",),
        charges="ADCH",
    ),
    "ts": Property(
        "Tkatchenko-Scheffler polarizabilities and C6 coefficients, from Hirshfeld volumes",
        "denser.analysis.charges.tkatchenko_scheffler:tkatchenko_scheffler",
        needs=("hirshfeld",),
    ),
    "mbis": Property(
        "minimal basis iterative stockholder charges",
        "denser.analysis.charges.mbis:mbis",
        charges="MBIS",
    ),
    "bader": Property(
        "charges, dipoles and volumes of Bader's basins",
        "denser.analysis.charges.bader:bader",
        needs=("continuous", "qtaim"),
        charges="Bader",
    ),
    "chelpg": Property(
        "charges fitted to the potential, CHELPG points",
        "denser.analysis.charges.esp_charges:chelpg",
        needs=("isolated",),
        shares=("potential",),
        charges="CHELPG",
    ),
    "mk": Property(
        "charges fitted to the potential, Merz-Kollman points",
        "denser.analysis.charges.esp_charges:merz_kollman",
        needs=("isolated",),
        shares=("potential",),
        charges="Merz-Kollman",
    ),
    "resp": Property(
        "restrained charges fitted to the potential, two stages",
        "denser.analysis.charges.esp_charges:resp",
        needs=("isolated",),
        shares=("potential",),
        charges="RESP",
    ),
    "unpaired": Property(
        "unpaired electrons of the atoms, Hirshfeld's shares of the spin density",
        "denser.analysis.charges.spin_populations:unpaired_electrons",
    ),
    "esp": Property(
        "electrostatic potential on the 0.001 e/bohr^3 surface",
        "denser.analysis.potential.esp_surface:esp_surface",
        shares=("isovalue", "potential"),
        fields=("esp",),
        picture="denser.pictures.properties:plot_esp",
    ),
    "qtaim": Property(
        "critical points of the density and bond paths",
        "denser.analysis.topology.critical_points:critical_points",
        needs=("continuous",),
        picture="denser.pictures.properties:plot_critical_points",
    ),
    "nci": Property(
        "non-covalent interactions, from the reduced density gradient",
        "denser.analysis.interactions.nci:nci",
        fields=("rdg", "sign-lambda2-rho"),
        picture="denser.pictures.properties:plot_nci",
    ),
    "voids": Property(
        "cavities and channels where the density is low",
        "denser.analysis.interactions.voids:voids",
        needs=("completed",),
    ),
    "accumulation": Property(
        "regions of charge accumulation and depletion relative to superposed atoms",
        "denser.analysis.accumulation:accumulation",
        needs=("deformation",),
    ),
    "pair-energies": Property(
        "electrostatic and dispersion energies between the molecules of a crystal",
        "denser.analysis.crystal.pair_energies:pair_energies",
        needs=("crystal", "predictor", "dispersion"),
    ),
    "interaction-energies": Property(
        "interaction energy of molecules: electrostatic, repulsion, polarisation, dispersion",
        "denser.analysis.interactions.fragment_energies:fragment_energies",
        needs=("density", "predictor", "recipe", "fragments"),
        fields=("rearrangement",),
        picture="denser.pictures.properties:plot_rearrangement",
    ),
    "hirshfeld-surface": Property(
        "Hirshfeld surfaces of the molecules of a crystal, fingerprints, shares of contacts",
        "denser.analysis.crystal.hirshfeld_surface:hirshfeld_surfaces",
        needs=("crystal",),
        picture="denser.pictures.fingerprints:plot_hirshfeld",
    ),
    "orbital-free": Property(
        "orbital-free kinetic, Hartree and exchange-correlation energies",
        "denser.analysis.energies.orbital_free:orbital_free_energies",
        needs=("valence",),
        shares=("functionals",),
    ),
    "bond-orders": Property(
        "Mayer and Wiberg bond orders, delocalisation indices",
        "denser.analysis.energies.bond_orders:bond_orders",
        needs=("orbitals",),
    ),
    "alie": Property(
        "average local ionisation energy on the 0.001 e/bohr^3 surface",
        "denser.analysis.energies.local_ionisation:local_ionisation",
        needs=("orbitals",),
    ),
    "reactivity": Property(
        "HOMO, LUMO, hardness, Fukui functions of frozen orbitals",
        "denser.analysis.energies.reactivity:reactivity",
        needs=("orbitals",),
    ),
    "relaxed-fukui": Property(
        "Fukui functions from SCF calculations with N+1, N and N-1 electrons",
        "denser.analysis.energies.reactivity:relaxed_fukui",
        needs=("orbitals",),
    ),
    "polarizability": Property(
        "static polarizability, coupled-perturbed, with diffuse functions",
        "denser.dft.polarizability:polarizability",
        needs=("valence_start", "basis"),
    ),
    "polarizability-learned": Property(
        "static polarizability of the molecule and its atoms, learnt by the network",
        "denser.analysis.energies.learned_polarizability:learned_polarizability",
        needs=("isolated", "predictor"),
    ),
    "fukui-learned": Property(
        "Fukui functions of the atoms, learnt by the network",
        "denser.analysis.energies.learned_fukui:learned_fukui",
        needs=("isolated", "predictor"),
    ),
}
"""Properties by their names in `denser.analyze` and in the options of `denser analyze`."""

FIELDS = {
    "density": FieldEntry("density", "e/bohr^3", isovalues=Isovalues(0.1, 0.0005, 0.5)),
    "deformation": FieldEntry(
        "density minus free atoms",
        "e/bohr^3",
        needs=("deformation",),
        isovalues=Isovalues(0.003, 0.0005, 0.1, signed=True),
    ),
    "spin": FieldEntry(
        "spin density of an open shell",
        "unpaired e/bohr^3",
        "denser.analysis.charges.spin_populations:spin_density",
        isovalues=SPIN_ISOVALUES,
    ),
    "esp": FieldEntry(
        "electrostatic potential",
        "hartree/e",
        "denser.analysis.potential.electrostatics:electrostatic_potential",
        isovalues=Isovalues(0.03, 0.005, 0.5, signed=True),
    ),
    "all-electron": FieldEntry("density with the cores added", "e/bohr^3", needs=("completed",)),
    "laplacian": FieldEntry(
        "Laplacian of the density",
        "e/bohr^5",
        "denser.analysis.fields:laplacian",
        isovalues=Isovalues(0.2, 0.02, 2.0, signed=True),
    ),
    "rearrangement": FieldEntry(
        "density minus that of its molecules on their own",
        "e/bohr^3",
        "denser.analysis.interactions.fragment_energies:rearrangement",
        needs=("density", "predictor", "fragments"),
    ),
    "uncertainty": FieldEntry(
        "expected error",
        "e/bohr^3",
        "denser.analysis.uncertainty:uncertainty",
        isovalues=Isovalues(5e-4, 2e-5, 2e-2),
    ),
    "gradient": FieldEntry(
        "length of the density's gradient", "e/bohr^4", "denser.analysis.fields:gradient_norm"
    ),
    "rdg": FieldEntry(
        "reduced density gradient", "1", "denser.analysis.fields:reduced_density_gradient"
    ),
    "sign-lambda2-rho": FieldEntry(
        "density with the sign of the Hessian's second eigenvalue",
        "e/bohr^3",
        "denser.analysis.fields:hessian_eigenvalue_2",
    ),
    "iri": FieldEntry(
        "interaction region indicator", "a.u.", "denser.analysis.interactions.indicators:iri"
    ),
    "dori": FieldEntry(
        "density overlap regions indicator", "1", "denser.analysis.interactions.indicators:dori"
    ),
    "igmh": FieldEntry(
        "IGMH between molecules, delta g_inter",
        "e/bohr^4",
        "denser.analysis.interactions.indicators:igmh",
        needs=("density", "fragments"),
    ),
    "elf": FieldEntry("electron localisation function", "1", needs=("localisation.elf",)),
    "lol": FieldEntry("localised-orbital locator", "1", needs=("localisation.lol",)),
    "elf-density": FieldEntry(
        "electron localisation function, estimated from the density alone",
        "1",
        needs=("localisation_of_density.elf",),
    ),
    "lol-density": FieldEntry(
        "localised-orbital locator, estimated from the density alone",
        "1",
        needs=("localisation_of_density.lol",),
    ),
    "elf-learned": FieldEntry(
        "electron localisation function, learnt by the network",
        "1",
        needs=("localisation_of_network.elf",),
        isovalues=Isovalues(0.8, 0.3, 0.98),
    ),
    "lol-learned": FieldEntry(
        "localised-orbital locator, learnt by the network",
        "1",
        needs=("localisation_of_network.lol",),
    ),
    "fukui-plus": FieldEntry("Fukui function f+", "e/bohr^3", needs=("reactivity.f_plus",)),
    "fukui-minus": FieldEntry("Fukui function f-", "e/bohr^3", needs=("reactivity.f_minus",)),
    "dual": FieldEntry("dual descriptor f+ - f-", "e/bohr^3", needs=("reactivity.dual",)),
}
"""Fields by their names in `Analysis.field` and --field."""

CHARGES = tuple(name for name, entry in PROPERTIES.items() if entry.charges)
"""Properties that are atomic charges."""

PICTURES = tuple(name for name, entry in PROPERTIES.items() if entry.picture)
"""Properties that have a picture."""

DEFAULT = ("moments", "hirshfeld", "esp")
"""Properties that are computed when none is named."""


def requirements(entry: Property | FieldEntry) -> tuple[str, ...]:
    """Description of what a property or field needs of the density; see `NEEDS`."""
    words: list[str] = []
    for need in entry.needs:
        name = need.partition(".")[0]
        words += [NEEDS[name]] if name in NEEDS else requirements(PROPERTIES[name])
    return tuple(dict.fromkeys(word for word in words if word))


def needs_orbitals(entry: Property | FieldEntry) -> bool:
    """Whether a property or field needs Kohn-Sham steps."""
    return KOHN_SHAM in requirements(entry)


def description(entry: Property | FieldEntry) -> str:
    """Help text of a property or field: description, unit, and needs."""
    unit = getattr(entry, "unit", "1")
    text = entry.help if unit == "1" else f"{entry.help}, {unit}"
    needs = requirements(entry)
    return f"{text} (needs {' and '.join(needs)})" if needs else text


def load(reference: str) -> Callable:
    """Import the function that "module:function" names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """An error that names the nearest known name."""
    near = get_close_matches(name, list(known), 1)
    hint = f"did you mean {near[0]!r}? known" if near else "known"
    return InputError(f"unknown {what} {name!r}; {hint}: {', '.join(known)}")
