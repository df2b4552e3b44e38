"""Electron localisation: ELF and LOL, from orbitals or (approximately) from the density alone.

Both compare the kinetic energy density tau with that of a uniform electron gas of the same
density, tau_0 = (3/10) (3 pi^2)^(2/3) rho^(5/3), for a closed shell:

    ELF = 1 / (1 + ((tau - tau_W) / tau_0)^2),  tau_W = |grad rho|^2 / (8 rho)
    LOL = 1 / (1 + tau / tau_0)

Becke and Edgecombe, J. Chem. Phys. 92, 5397 (1990), in the form of Savin et al., Angew. Chem.
Int. Ed. 31, 187 (1992); Schmider and Becke, J. Mol. Struct. (Theochem) 527, 51 (2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from denser.analysis.fields import THOMAS_FERMI, laplacian, squared_gradient
from denser.atoms.sad import require_closed_shell
from denser.types.density import Density, Field
from denser.types.errors import InputError
from denser.types.grid import Grid
from denser.types.structure import Structure
from denser.types.units import HARTREE

if TYPE_CHECKING:
    from denser.dft.one_step import OneStep
    from denser.model.predictor import Predictor

_INSTEAD = "take a Kohn-Sham step (--field elf)"

NO_DENSITY = 1e-6
"""Below this density, e/bohr^3, both functions are set to zero."""


_HOW = {
    "orbitals": "kinetic energy density of the orbitals",
    "density": "approximate: kinetic energy density by a gradient expansion of the density",
    "network": "learnt: kinetic energy density from features of the network",
}


@dataclass(frozen=True, eq=False)
class Localisation:
    """Electron localisation on a grid.

    Parameters
    ----------
    elf, lol : Field
        Between 0 and 1; 1/2 in the uniform electron gas.
    tau : Field
        Kinetic energy density, hartree/bohr^3.
    source : str
        "orbitals", "density" (tau is a gradient expansion), or "network" (tau is learnt).
    """

    elf: Field
    lol: Field
    tau: Field
    source: str

    @property
    def kinetic_energy(self) -> float:
        """Integral of tau, hartree; with valence orbitals that of the valence electrons."""
        return self.tau.integrate()

    def to_dict(self) -> dict:
        """Return plain data without the fields."""
        return {
            "source": self.source,
            "e_kinetic_hartree": self.kinetic_energy,
            "e_kinetic_ev": self.kinetic_energy * HARTREE,
            "volume_with_elf_above_0.8_bohr3": self._volume(),
        }

    def lines(self) -> list[str]:
        """Return readable lines."""
        return [
            f"electron localisation ({_HOW[self.source]})",
            f"  integral of tau {self.kinetic_energy:.4f} hartree",
            f"  ELF above 0.8 in {self._volume():.2f} bohr^3",
        ]

    def _volume(self) -> float:
        return float(np.count_nonzero(self.elf.values > 0.8)) * self.elf.grid.dv


def localisation(step: OneStep, grid: Grid | None = None) -> Localisation:
    """ELF and LOL of the valence orbitals of a Kohn-Sham step.

    The orbitals are those of pseudopotentials. Within the core radius of a heavy nucleus they show
    no shell structure; outside it is that of the valence electrons.

    Parameters
    ----------
    step : OneStep
        Or another object with `mo_coeff`, `mo_occ` and a `density` with structure and grid.
    grid : Grid, optional
        Other nodes in the same box; half the number per axis takes an eighth of the time.
    """
    occupied = np.asarray(step.mo_occ) > 0
    density = step.density
    return localisation_of_orbitals(
        density.structure, step.mo_coeff[:, occupied], grid or density.grid
    )


def localisation_of_orbitals(
    structure: Structure, mo_coeff: np.ndarray, grid: Grid
) -> Localisation:
    """ELF and LOL of doubly occupied orbitals (nao, n_occupied) in the GTH-TZV2P basis."""
    from denser.dft.kinetic_density import kinetic_density

    found = kinetic_density(structure, mo_coeff, grid)
    return _localisation(grid, found.rho, found.squared_gradient, found.tau, "orbitals")


def localisation_of_density(density: Density) -> Localisation:
    """ELF and LOL of a density alone, an approximation.

    tau = tau_0 + |grad rho|^2/(72 rho) + Laplacian(rho)/6, the gradient expansion of second
    order (Kirzhnits 1957), where Tsirelson and Stash, Chem. Phys. Lett. 351, 142 (2002), use it.
    Where it is below tau_W, the lower bound for any orbitals, tau_W is used. The result is good
    between atoms, and wrong at nuclei and in the tails. Use a completed density
    (`denser.atoms.free_atoms.complete`) to see the shells of the cores. Derivatives are local
    differences: those of the trigonometric interpolant carry the error at a nucleus, which no grid
    resolves, along the axes into the tails, where it is larger than the density.

    Raises
    ------
    InputError
        An open shell.
    """
    require_closed_shell(density.structure, "ELF and LOL of densities")
    rho = np.maximum(np.asarray(density.values, dtype=float), 0.0)
    squared = squared_gradient(density, local=True)
    safe = np.maximum(rho, NO_DENSITY)
    tau = (
        THOMAS_FERMI * rho ** (5 / 3)
        + squared / (72 * safe)
        + laplacian(density, local=True).values / 6
    )
    tau = np.where(rho > NO_DENSITY, np.maximum(tau, squared / (8 * safe)), 0.0)
    return _localisation(density.grid, rho, squared, tau, "density")


def learned_localisation(density: Density, predictor: Predictor) -> Localisation:
    """ELF and LOL without orbitals: tau is read off the features of the network.

    tau - tau_W is that of `denser.model.kinetic_head`, positive at all points; rho and tau_W are
    those of the density. How good it is: docs/analyze.md.

    Parameters
    ----------
    density : Density
        Predicted valence density of an isolated molecule.
    predictor : Predictor
        Of the default model.

    Raises
    ------
    InputError
        A periodic structure, an open shell or a density of all electrons; another model, or an
        element that the kinetic energy density was not learnt for.
    """
    from denser.model.heads import load_head
    from denser.model.kinetic_head import KineticHead

    structure = density.structure
    require_closed_shell(structure, "learnt kinetic energy densities")
    if density.all_electron or structure.cell is not None:
        raise InputError(
            "the kinetic energy density was learnt for valence densities of isolated molecules; "
            + _INSTEAD
        )
    known = load_head("kinetic")
    known.require_fits(predictor.model, structure.numbers.tolist(), _INSTEAD)
    head = KineticHead.of(known.elements, known.tensors)
    pauli = head.on_grid(structure, predictor.features(structure), density.grid)
    rho = np.maximum(np.asarray(density.values, dtype=float), 0.0)
    squared = squared_gradient(density, local=True)
    own = squared / (8 * np.maximum(rho, NO_DENSITY))
    tau = np.where(rho > NO_DENSITY, own + pauli, 0.0)
    return _localisation(density.grid, rho, squared, tau, "network")


def _localisation(
    grid: Grid, rho: np.ndarray, squared: np.ndarray, tau: np.ndarray, source: str
) -> Localisation:
    safe = np.maximum(rho, NO_DENSITY)
    tau_0 = THOMAS_FERMI * safe ** (5 / 3)
    elf = 1 / (1 + ((tau - squared / (8 * safe)) / tau_0) ** 2)
    lol = 1 / (1 + tau / tau_0)
    here = rho > NO_DENSITY
    return Localisation(
        Field(grid, elf * here, "1"),
        Field(grid, lol * here, "1"),
        Field(grid, tau, "hartree/bohr^3"),
        source,
    )
