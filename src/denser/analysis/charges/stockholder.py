"""Stockholder charges with fixed atoms: Hirshfeld.

The share of atom a in the density is w_a = n_a / sum_b n_b, with the densities n of free
all-electron atoms (Hirshfeld, Theor. Chim. Acta 44, 129, 1977). Its charge is

    q_a = Z_a - integral w_a rho_all

A cusp cannot be integrated on a uniform grid, but this is not needed. The share of atom a in the
promolecule is integral w_a sum_b n_b = integral n_a = Z_a exactly, so

    q_a = - integral w_a (rho_all - sum_b n_b) = - integral w_a (rho_val - sum_b n_b^pseudo)

where the last step holds because a valence density is completed with the cores n_b - n_b^pseudo
of the same free atoms. The cores cancel, also the core of one atom in the share of another. The
integrand is the deformation density, which is small and smooth. Atomic dipoles and volumes are
those of the free atoms (zero, and <r^3>) plus integrals of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from denser.analysis.uncertainty import charge_errors
from denser.atoms.free_atoms import free_atom, require_pseudo_charges
from denser.fields.windows import ball, pieces
from denser.types.density import Density
from denser.types.structure import Structure
from denser.types.units import BOHR, DEBYE

CUTOFF = 1e-7
"""A free atom ends where its all-electron density falls below this, e/bohr^3."""

_STEP = 1e-4
"""Distance between the radii of the integrals of a free atom, bohr."""

_FINENESS = 5000
"""Radii of a free atom's table for each unit of the square root of r, bohr^(1/2)."""


@dataclass(frozen=True, eq=False)
class Hirshfeld:
    """Hirshfeld's atoms of a density.

    Parameters
    ----------
    structure : Structure
    charges : (n_atoms,) float
        e.
    dipoles : (n_atoms, 3) float
        -integral w_a rho (r - R_a), e*bohr.
    quadrupoles : (n_atoms, 3, 3) float
        Traceless, Buckingham's: -integral w_a rho (3 x_i x_j - x^2 delta_ij) / 2 with x = r - R_a,
        e*bohr^2.
    volumes : (n_atoms,) float
        integral w_a rho |r - R_a|^3, bohr^3.
    volume_ratios : (n_atoms,) float
        The same divided by that of the free atom: Tkatchenko and Scheffler's measure, which
        scales polarisabilities and dispersion coefficients.
    residual : float
        Electrons at nodes that no free atom reaches, e. They are shared among the atoms in
        proportion to the electrons that each free atom has beyond its end, so the charges sum
        to that of the nuclei and of all electrons on the grid.
    errors : (n_atoms,) float, optional
        Of a prediction: what two of three errors of the charges do not exceed
        (`denser.analysis.uncertainty.charge_errors`), e.
    """

    structure: Structure
    charges: np.ndarray
    dipoles: np.ndarray
    quadrupoles: np.ndarray
    volumes: np.ndarray
    volume_ratios: np.ndarray
    residual: float
    errors: np.ndarray | None = None

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "symbols": self.structure.symbols,
            "charges_e": self.charges.tolist(),
            "charges_error_e": None if self.errors is None else self.errors.tolist(),
            "atomic_dipoles_debye": (self.dipoles * DEBYE).tolist(),
            "atomic_quadrupoles_debye_angstrom": (self.quadrupoles * DEBYE * BOHR).tolist(),
            "volumes_bohr3": self.volumes.tolist(),
            "volume_ratios": self.volume_ratios.tolist(),
            "residual_e": self.residual,
        }

    def lines(self) -> list[str]:
        """Readable lines, one per atom."""
        norms = np.linalg.norm(self.dipoles, axis=1) * DEBYE
        head, bars = error_bars(self.errors, len(self.charges))
        return [
            f"Hirshfeld:    charge/e{head}  dipole/debye  volume/free atom",
            *(
                f"{i:4d} {symbol:2s} {q:13.4f}{bar} {d:13.4f} {v:17.4f}"
                for i, (symbol, q, bar, d, v) in enumerate(
                    zip(
                        self.structure.symbols,
                        self.charges,
                        bars,
                        norms,
                        self.volume_ratios,
                        strict=True,
                    ),
                    start=1,
                )
            ),
            f"sum of charges {self.charges.sum():+.6f} e "
            f"({self.residual:.1e} e lie beyond the free atoms and are shared among all)",
        ]


def error_bars(errors: np.ndarray | None, n: int) -> tuple[str, list[str]]:
    """Heading and column of error bars, empty if there are none."""
    if errors is None:
        return "", [""] * n
    return "       +-", [f" {error:8.4f}" for error in errors]


def hirshfeld(density: Density) -> Hirshfeld:
    """Hirshfeld charges, atomic dipoles and volumes with neutral PBE atoms.

    The box is periodic, as for SAD and models. Also for an isolated molecule, the part of an
    atom's tail that leaves the box at one face enters at the opposite face, so no charge is lost.
    The free atoms end where they fall below `CUTOFF`; the charge beyond is added analytically.

    Parameters
    ----------
    density : Density
        Valence or all-electron density, H to Ar.

    Raises
    ------
    InputError
        An element without a free atom, or valence charges other than those of the
        pseudopotentials.
    """
    structure, grid = density.structure, density.grid
    values, promolecule, missing = deform(density, periodic=True)
    ratio = np.divide(values, promolecule, out=np.zeros_like(values), where=promolecule > 0)
    residual = float(values[promolecule == 0].sum() * grid.dv)
    n_atoms = len(structure)
    beyond = np.array([curve(int(z)).beyond for z in structure.numbers])
    missing -= residual * beyond / beyond.sum()
    charges, volumes, free = np.empty(n_atoms), np.empty(n_atoms), np.empty(n_atoms)
    dipoles, seconds = np.empty((n_atoms, 3)), np.empty((n_atoms, 3, 3))
    for a, (z, position) in enumerate(zip(structure.numbers, structure.positions, strict=True)):
        atom = curve(int(z))
        nodes, squared = ball(grid, position, atom.radius, periodic=True)
        r = np.sqrt(squared)
        wrapped = np.ix_(*(i % n for i, n in zip(nodes, grid.shape, strict=True)))
        share = atom.at(r, atom.all_electron)
        share *= ratio[wrapped]
        share *= grid.dv
        charges[a] = missing[a] - share.sum()
        volumes[a] = atom.volume_inside + np.vdot(share, squared * r)
        free[a] = atom.volume
        fraction = (position - grid.origin) @ np.linalg.inv(grid.cell)
        u = [nodes[i] / grid.shape[i] - fraction[i] for i in range(3)]
        first, second = np.empty(3), np.empty((3, 3))
        for i, j in ((0, 1), (1, 2), (2, 0)):
            plane = share.sum(axis=3 - i - j)
            plane = plane if i < j else plane.T
            second[i, j] = second[j, i] = u[i] @ plane @ u[j]
            line = plane.sum(axis=1)
            first[i], second[i, i] = u[i] @ line, u[i] ** 2 @ line
        dipoles[a] = -first @ grid.cell
        seconds[a] = -grid.cell.T @ second @ grid.cell
    quadrupoles = traceless(seconds)
    ratios = volumes / free
    errors = charge_errors(density.wrong)
    return Hirshfeld(structure, charges, dipoles, quadrupoles, volumes, ratios, residual, errors)


def traceless(seconds: np.ndarray) -> np.ndarray:
    """Buckingham's quadrupoles (3 s_ij - trace delta_ij) / 2 of second moments (..., 3, 3)."""
    traces = np.trace(seconds, axis1=-2, axis2=-1)[..., None, None]
    return (3 * seconds - traces * np.eye(3)) / 2


def deform(density: Density, periodic: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deformation density and all-electron promolecule on the grid, e/bohr^3.

    rho - sum_a n_a, with free atoms of the same kind as `density` (pseudo-atoms for a valence
    density), and sum_a n_a with all electrons.

    Parameters
    ----------
    density : Density
    periodic : bool
        Whether to include periodic images of the free atoms.

    Returns
    -------
    deformation, promolecule : (nx, ny, nz) float64
    missing : (n_atoms,) float
        Electrons of the free atom that are missing on the grid: those beyond its end and, for a
        pseudo-atom, the error of its quadrature. (The far larger error at the cusp of an
        all-electron atom is the same in `density` and cancels in the difference.)

    Raises
    ------
    InputError
        As `hirshfeld`.
    """
    structure, grid = density.structure, density.grid
    if not density.all_electron:
        require_pseudo_charges(density)
    deformation = np.array(density.values, dtype=float)
    promolecule = np.zeros(grid.shape)
    missing = np.empty(len(structure))
    for a, (z, position) in enumerate(zip(structure.numbers, structure.positions, strict=True)):
        atom = curve(int(z))
        nodes, squared = ball(grid, position, atom.radius, periodic)
        r = np.sqrt(squared, out=squared)
        every = atom.at(r, atom.all_electron)
        if density.all_electron:
            shown, missing[a] = every, atom.beyond
        else:
            shown = atom.at(r, atom.pseudo)
            missing[a] = density.valence_charges[a] - shown.sum() * grid.dv
        for on_grid, in_patch in pieces(nodes, grid.shape):
            promolecule[on_grid] += every[in_patch]
            deformation[on_grid] -= shown[in_patch]
    return deformation, promolecule, missing


def promolecules(density: Density, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All electrons of the free atoms of each group on the grid, (nx, ny, nz) each, e/bohr^3.

    Parameters
    ----------
    density : Density
        Gives grid and structure; images are included if the structure is periodic.
    groups : sequence of (n,) int
        Indices of atoms.
    """
    structure, grid = density.structure, density.grid
    found = []
    for group in groups:
        total = np.zeros(grid.shape)
        for a in group:
            atom = curve(int(structure.numbers[a]))
            position = structure.positions[a]
            nodes, squared = ball(grid, position, atom.radius, structure.cell is not None)
            share = atom.at(np.sqrt(squared), atom.all_electron)
            for on_grid, in_patch in pieces(nodes, grid.shape):
                total[on_grid] += share[in_patch]
        found.append(total)
    return found


@dataclass(frozen=True, eq=False)
class Curve:
    """A free atom on radii with equidistant square roots, for linear interpolation.

    The tables end with two zeros, and fit into a core's cache. `beyond` is the number of electrons
    outside `radius`, `volume` is <r^3> of the whole atom and `volume_inside` that of the part
    inside `radius`.
    """

    radius: float
    all_electron: np.ndarray
    pseudo: np.ndarray
    beyond: float
    volume: float
    volume_inside: float

    def at(self, r: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return `all_electron` or `pseudo` at distances of any shape; zero beyond `radius`."""
        place = np.sqrt(r)  # several times as fast as np.interp and map_coordinates
        place *= _FINENESS
        index = np.minimum(place.astype(np.int32), len(values) - 2)
        place -= index
        place *= np.diff(values).astype(place.dtype)[index]
        place += values.astype(place.dtype)[index]
        return place


@cache
def curve(z: int) -> Curve:
    """Return the free atom with atomic number `z`, where it is above `CUTOFF`."""
    atom = free_atom(z)
    r = np.arange(0.0, 25.0, _STEP)
    every = atom.all_electron(r)
    inside = r <= r[every > CUTOFF][-1]
    radius = float(r[inside][-1])
    nodes = (np.arange(int(radius**0.5 * _FINENESS) + 1) / _FINENESS) ** 2
    end = np.zeros(2)
    shell = 4 * np.pi * r**2 * every * _STEP
    volume = shell * r**3
    return Curve(
        radius,
        np.append(atom.all_electron(nodes), end),
        np.append(atom.pseudo(nodes), end),
        float(shell[~inside].sum()),
        float(volume.sum()),
        float(volume[inside].sum()),
    )
