"""Core completion: make an all-electron density from a valence density, with free atoms.

rho_all(r) = rho_valence(r) + sum_a [n_a^all(|r - R_a|) - n_a^pseudo(|r - R_a|)]

The two densities of a free atom are spherical, spin-averaged PBE atoms at the basis-set limit,
one with all electrons and one with the GTH pseudopotential (`denser.dft.tables.free_atoms` makes
the table). Their difference is the frozen core and the cusp of the valence density. Its integral is
the number of core electrons, and it vanishes outside the core.

A cusp cannot be integrated on a uniform grid. Partition the completed density, but integrate the
valence density, and treat the core analytically.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files

import numpy as np
from ase.data import chemical_symbols
from scipy.interpolate import BSpline, make_interp_spline

from denser.fields.windows import ball, pieces
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure

CUTOFF = 1e-6
"""On a grid a core ends where it stays below this, e/bohr^3; at most 4e-4 e are then outside,
or 1e-3 for sodium."""

TOLERANCE = 0.01
"""Allowed relative difference between the electrons of a file and those of its atoms."""


@dataclass(frozen=True, eq=False)
class FreeAtom:
    """Spherical free atom, with all electrons and with the pseudopotential.

    Each method takes distances from the nucleus (an array of any shape, bohr) and returns e/bohr^3
    (and its derivatives by r). All are zero beyond the end of the table at 25 bohr.

    Parameters
    ----------
    number : int
        Atomic number.
    valence : int
        Electrons of the pseudo-atom.
    radius : float
        Distance beyond which the all-electron density is below 1e-8 e/bohr^3, bohr.
    core_radius : float
        Distance beyond which the core stays below `CUTOFF`, bohr.
    """

    number: int
    valence: int
    radius: float
    core_radius: float
    _log_all_electron: BSpline
    _pseudo: BSpline

    def all_electron(self, r: np.ndarray) -> np.ndarray:
        """Density of all electrons."""
        return _inside(r, lambda x: np.exp(self._log_all_electron(x)))

    def pseudo(self, r: np.ndarray) -> np.ndarray:
        """Density of the pseudo-atom's valence electrons."""
        return _inside(r, self._pseudo)

    def core(self, r: np.ndarray) -> np.ndarray:
        """All-electron minus pseudo density; negative in places."""
        return _inside(r, lambda x: np.exp(self._log_all_electron(x)) - self._pseudo(x))

    def all_electron_derivatives(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """n, dn/dr and d2n/dr2 of the all-electron density."""
        log = self._log_all_electron
        n = self.all_electron(r)
        slope = _inside(r, lambda x: log(x, 1))
        return n, n * slope, n * (_inside(r, lambda x: log(x, 2)) + slope**2)

    def core_derivatives(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """n, dn/dr and d2n/dr2 of the core."""
        every = self.all_electron_derivatives(r)
        n, slope, curvature = (
            value - _inside(r, partial(self._pseudo, nu=k)) for k, value in enumerate(every)
        )
        return n, slope, curvature


def _inside(r: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """function(r) within the table, zero beyond it."""
    r = np.asarray(r, dtype=float)
    end = _table()["r"][-1]
    return np.where(r <= end, function(np.minimum(r, end)), 0.0)


@cache
def _table() -> dict[str, np.ndarray]:
    path = files("denser.atoms") / "tables" / "free_atoms.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive}


def supported_elements() -> list[str]:
    """Symbols of the elements with a free atom, by atomic number."""
    return [symbol for symbol in chemical_symbols if f"{symbol}_pseudo" in _table()]


def has_free_atoms(structure: Structure) -> bool:
    """Whether there is a free atom for every atom of a structure."""
    return set(structure.symbols) <= set(supported_elements())


@cache
def free_atom(z: int) -> FreeAtom:
    """Return the free atom with atomic number `z`, H to Xe.

    Raises
    ------
    InputError
        An element without a table.
    """
    table = _table()
    symbol = chemical_symbols[z]
    if f"{symbol}_pseudo" not in table:
        raise InputError(
            f"there is no free atom of {symbol} to complete a core with; elements with one: "
            + " ".join(supported_elements())
        )
    r, n, pseudo = table["r"], table[f"{symbol}_all_electron"], table[f"{symbol}_pseudo"]
    return FreeAtom(
        number=int(z),
        valence=int(table[f"{symbol}_valence"]),
        radius=float(r[np.flatnonzero(n >= 1e-8)[-1] + 1]),
        core_radius=float(r[np.flatnonzero(np.abs(n - pseudo) >= CUTOFF)[-1] + 1]),
        _log_all_electron=make_interp_spline(r, np.log(n), k=5),
        _pseudo=make_interp_spline(r, pseudo, k=5),
    )


def core_values(structure: Structure, grid: Grid) -> np.ndarray:
    """Sum of the cores of all atoms, and of their images if the structure is periodic.

    Parameters
    ----------
    structure : Structure
        H to Xe.
    grid : Grid
        A grid with any cell. For a periodic structure it is one period. For an isolated
        molecule, cores are cut off at the faces of the box.

    Returns
    -------
    (nx, ny, nz) float64, e/bohr^3

    Raises
    ------
    InputError
        An element without a table.
    """
    values = np.zeros(grid.shape)
    for z, position in zip(structure.numbers, structure.positions, strict=True):
        atom = free_atom(int(z))
        nodes, squared = ball(grid, position, atom.core_radius, structure.cell is not None)
        if not squared.size:
            continue
        inside = squared <= atom.core_radius**2
        patch = np.zeros(squared.shape)
        patch[inside] = atom.core(np.sqrt(squared[inside]))
        for on_grid, in_patch in pieces(nodes, grid.shape):
            values[on_grid] += patch[in_patch]
    return values


def complete(density: Density) -> Density:
    """Return the density of all electrons; an all-electron density is returned unchanged.

    Parameters
    ----------
    density : Density
        A valence density with the valence charges of the GTH pseudopotentials.

    Returns
    -------
    Density
        float64 with `all_electron=True`; its valence charges are the atomic numbers.

    Raises
    ------
    InputError
        There is no free atom for an element, or the valence charges differ from those of the
        pseudo-atom, so that the core is another one.
    """
    if density.all_electron:
        return density
    require_pseudo_charges(density)
    structure = density.structure
    return replace(
        density,
        values=density.values + core_values(structure, density.grid),
        valence_charges=structure.numbers.astype(float),
        all_electron=True,
    )


def without_core(density: Density) -> Density:
    """Return the valence density, the inverse of `complete`; a valence density is unchanged.

    For a density from an all-electron program, the result is smooth except for the response of the
    core to the molecule, and can be integrated on a uniform grid.

    Raises
    ------
    InputError
        An element without a free atom.
    """
    if not density.all_electron:
        return density
    return replace(
        density,
        values=density.values - core_values(density.structure, density.grid),
        valence_charges=pseudo_charges(density.structure),
        all_electron=False,
    )


def pseudo_charges(structure: Structure) -> np.ndarray:
    """Valence charges of the free pseudo-atoms (n_atoms,), those of GTH; H to Xe."""
    return np.array([free_atom(int(z)).valence for z in structure.numbers], dtype=float)


def require_pseudo_charges(density: Density) -> None:
    """Raise an InputError unless the valence charges are those of the free pseudo-atoms.

    Pseudopotentials of other programs may have other cores, for which there is no free atom.
    """
    structure = density.structure
    expected = pseudo_charges(structure)
    other = np.abs(density.valence_charges - expected) > 1e-6
    if other.any():
        i = int(np.argmax(other))
        raise InputError(
            f"atom {i + 1} ({structure.symbols[i]}) has {density.valence_charges[i]:g} valence "
            f"electrons, but the core that can be added is that of a pseudopotential with "
            f"{expected[i]:g}; use an all-electron density for this property"
        )


def all_electron_or_valence(
    structure: Structure,
    n_electrons_found: float,
    valence_charges: np.ndarray | None = None,
    grid: Grid | None = None,
) -> tuple[str, str]:
    """Tell from the electrons in a file whether they are all or the valence.

    Parameters
    ----------
    structure : Structure
    n_electrons_found : float
        Integral of the density.
    valence_charges : (n_atoms,) float, optional
        Those of the program that made the file; default: those of the GTH pseudopotentials.
    grid : Grid, optional
        Of the file. The cusps of an all-electron density sum to a wrong number of electrons on
        uniform nodes; with the grid that number is foretold with free atoms, else it must be
        right within a hundredth.

    Returns
    -------
    kind : str
        "all-electron" or "valence".
    sentence : str
        What was found, for the reader.

    Raises
    ------
    InputError
        Neither number of electrons is within a hundredth of what was found.
    """
    total = float(structure.numbers.sum() - structure.charge)
    if valence_charges is None and has_free_atoms(structure):
        valence_charges = pseudo_charges(structure)
    valence = None
    if valence_charges is not None:
        valence = float(np.sum(valence_charges) - structure.charge)
    on_nodes = total
    if grid is not None and has_free_atoms(structure):
        core = core_values(structure, grid).sum() * grid.dv
        on_nodes = float(pseudo_charges(structure).sum() - structure.charge + core)
    found = f"the density holds {n_electrons_found:.2f} electrons"
    fits_all = min(abs(n_electrons_found - n) for n in (total, on_nodes)) <= TOLERANCE * total
    if valence is not None and abs(n_electrons_found - valence) <= TOLERANCE * valence:
        if valence == total:
            return "valence", (
                f"{found}: {structure.formula} has {total:g} with and without a pseudopotential; "
                "taken for a valence density"
            )
        nearer_to_all = abs(n_electrons_found - total) < abs(n_electrons_found - valence)
        fits_valence = not (fits_all and nearer_to_all)
    else:
        fits_valence = False
    if fits_valence:
        return "valence", f"{found}, the {valence:g} valence electrons of {structure.formula}"
    if fits_all:
        return "all-electron", f"{found}, all {total:g} of {structure.formula}"
    counts = f"{total:g} electrons in all" + (
        "" if valence is None else f" and {valence:g} valence electrons"
    )
    raise InputError(
        f"{found}, but {structure.formula} with charge {structure.charge} has {counts}; check "
        "the charge and the unit, and say which it is (--all-electron or --valence, or kind= of "
        "denser.read)"
    )
