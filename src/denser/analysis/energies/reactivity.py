"""Conceptual density functional theory: Fukui functions, dual descriptor, Parr's indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import spmatrix

from denser.atoms.sad import hirshfeld_weights
from denser.types.density import Density
from denser.types.units import HARTREE

if TYPE_CHECKING:
    from denser.dft.one_step import OneStep

METHODS = ("frontier orbitals", "relaxed")


@dataclass(frozen=True, eq=False)
class Reactivity:
    """Fukui functions and global reactivity indices of a molecule.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    f_plus, f_minus : Density
        Fukui functions for attack by a nucleophile (distribution of an added electron) and by an
        electrophile (distribution of a removed electron), 1/bohr^3; each integrates to one.
    condensed : (3, n_atoms) float
        f+, f- and the dual descriptor of every atom.
    homo, lumo : float
        Orbital energies, hartree; relative to the vacuum for an isolated molecule.
    against_vacuum : bool
        Whether they are; a periodic calculation has no zero of energy.
    degeneracy : (int, int)
        Number of orbitals in the HOMO's and in the LUMO's level.
    """

    method: str
    f_plus: Density
    f_minus: Density
    condensed: np.ndarray
    homo: float
    lumo: float
    against_vacuum: bool
    degeneracy: tuple[int, int]

    @property
    def f_zero(self) -> Density:
        """Fukui function for an attack by a radical, (f+ + f-)/2, 1/bohr^3."""
        return self.f_plus.with_values((self.f_plus.values + self.f_minus.values) / 2)

    @property
    def dual(self) -> Density:
        """Dual descriptor f+ - f-, 1/bohr^3 (Morell, Grand, Toro-Labbe 2005)."""
        return self.f_plus.with_values(self.f_plus.values - self.f_minus.values)

    @property
    def hardness(self) -> float:
        """Eta = e_LUMO - e_HOMO, hartree (some authors take half of it)."""
        return self.lumo - self.homo

    @property
    def chemical_potential(self) -> float | None:
        """Mu = (e_HOMO + e_LUMO)/2, hartree: minus Mulliken's electronegativity."""
        return (self.homo + self.lumo) / 2 if self.against_vacuum else None

    @property
    def electrophilicity(self) -> float | None:
        """Omega = mu^2 / (2 eta), hartree (Parr, von Szentpaly, Liu 1999)."""
        mu = self.chemical_potential
        return None if mu is None else mu**2 / (2 * self.hardness)

    def to_dict(self) -> dict:
        """Return plain data in eV; Fukui functions per atom have no unit."""

        def ev(energy: float | None) -> float | None:
            return None if energy is None else energy * HARTREE

        return {
            "method": self.method,
            **condensed_values(self.condensed),
            "homo_ev": ev(self.homo),
            "lumo_ev": ev(self.lumo),
            "against_vacuum": self.against_vacuum,
            "degeneracy_homo_lumo": list(self.degeneracy),
            "hardness_ev": ev(self.hardness),
            "chemical_potential_ev": ev(self.chemical_potential),
            "electrophilicity_ev": ev(self.electrophilicity),
        }

    def lines(self) -> list[str]:
        """Return readable lines, one per atom."""
        zero = "" if self.against_vacuum else " (no vacuum level in a crystal)"
        out = [
            f"HOMO {self.homo * HARTREE:.3f} eV, LUMO {self.lumo * HARTREE:.3f} eV{zero}, "
            f"hardness {self.hardness * HARTREE:.3f} eV"
        ]
        mu, omega = self.chemical_potential, self.electrophilicity
        if mu is not None and omega is not None:
            out.append(
                f"chemical potential {mu * HARTREE:.3f} eV, electrophilicity "
                f"{omega * HARTREE:.3f} eV"
            )
        if max(self.degeneracy) > 1:
            out.append(
                "degenerate frontier levels: mean of "
                f"{self.degeneracy[0]} HOMO and {self.degeneracy[1]} LUMO"
            )
        symbols = self.f_plus.structure.symbols
        return out + condensed_lines(self.method, symbols, self.condensed, 4)


def condensed_values(condensed: np.ndarray) -> dict[str, list[float]]:
    """f+, f-, f0 and the dual descriptor of the atoms, from `Reactivity.condensed`, for JSON."""
    plus, minus, dual = condensed
    return {
        "f_plus": plus.tolist(),
        "f_minus": minus.tolist(),
        "f_zero": ((plus + minus) / 2).tolist(),
        "dual_descriptor": dual.tolist(),
    }


def condensed_lines(
    how: str, symbols: Sequence[str], condensed: np.ndarray, decimals: int
) -> list[str]:
    """Readable lines of the same, one per atom; `how` says how they were computed."""
    out = [f"Fukui functions ({how}), per atom: f+, f-, f0, dual descriptor"]
    for i, (symbol, (plus, minus, dual)) in enumerate(
        zip(symbols, condensed.T, strict=True), start=1
    ):
        values = (plus, minus, (plus + minus) / 2, dual)
        shown = " ".join(f"{x:{decimals + 4}.{decimals}f}" for x in values)
        out.append(f"  {symbol + str(i):5s} {shown}")
    return out


def relaxed_fukui(step: OneStep) -> Reactivity:
    """Fukui functions from SCF calculations with one electron more and one less.

    See `reactivity`, with `relaxed`.
    """
    return reactivity(step, relaxed=True)


def reactivity(
    step: OneStep, weights: spmatrix | np.ndarray | None = None, relaxed: bool = False
) -> Reactivity:
    """Fukui functions and global indices of a Kohn-Sham step.

    f+(r) = |psi_LUMO(r)|^2 and f-(r) = |psi_HOMO(r)|^2, the mean over the orbitals of a
    degenerate level (Parr and Yang, J. Am. Chem. Soc. 106, 4049 (1984)): the orbitals do not
    relax when an electron is added or removed. `relaxed` uses the differences of self-consistent
    densities instead, rho(N+1) - rho(N) and rho(N) - rho(N-1), with half an electron of either
    spin in the frontier level (no spin polarisation): three SCF calculations.

    The energies are Kohn-Sham orbital energies of a semilocal functional. The HOMO is several eV
    above minus the ionisation energy, the gap is far below I - A, and a LUMO above the vacuum
    level is an artefact of box and basis. Use them only for trends within a family of molecules.

    Parameters
    ----------
    step : OneStep
    weights : (n_atoms, grid.size) sparse matrix or array, optional
        Share of each atom at each node, by which the functions are condensed; default
        Hirshfeld's with valence atoms (`denser.atoms.sad.hirshfeld_weights`).
    relaxed : bool

    Raises
    ------
    InputError
        A relaxed calculation does not converge.
    """
    from denser.dft.frontier import density_with, frontier_sets, mean_orbital_density

    density = step.density
    homo, lumo = frontier_sets(step)
    if relaxed:
        more, same, less = (density_with(step, n).values for n in (1, 0, -1))
        plus, minus = more - same, same - less
    else:
        plus, minus = (mean_orbital_density(step, orbitals) for orbitals in (lumo, homo))
    if weights is None:
        weights = hirshfeld_weights(density.structure, density.grid, cutoff=1e-8)
    condensed = [np.asarray(weights @ f.ravel()) * density.grid.dv for f in (plus, minus)]
    return Reactivity(
        METHODS[int(relaxed)],
        density.with_values(plus),
        density.with_values(minus),
        np.array([*condensed, condensed[0] - condensed[1]]),
        step.homo,
        step.lumo,
        step.mf.isolation is not None,
        (len(homo), len(lumo)),
    )
