"""Interaction energy of molecules from their predicted densities, term by term.

E = E_electrostatic + E_repulsion + E_polarisation + E_dispersion

- Electrostatic: the Coulomb energy of the two predicted densities with all that their overlap adds,
  exact for these densities (`denser.analysis.crystal.electrostatic_energy`).
- Exchange repulsion, and what the other terms lack: K S^g of the overlap S = integral rho_A rho_B
  of the two densities (Kita, Noda and Inouye, J. Chem. Phys. 64, 3446 (1976)). K and g are fitted,
  and are the same for all molecules.
- Polarisation: of each molecule in the potential of all others, by a Kohn-Sham step
  (`denser.dft.induction`), with what keeps electrons apart where densities overlap.
- Dispersion: D4 of the whole minus that of its molecules, with PBE's parameters.

`benchmarks/interactions.py` fits K and g to the S66 set, and compares with published energies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from denser.analysis.charges.without_grid import Conformer
from denser.analysis.crystal.electrostatic_energy import coulomb_and_overlap
from denser.analysis.potential.similarity import complementarity
from denser.dft.dispersion import dispersion
from denser.dft.induction import polarisation_energy
from denser.dft.interaction import fragments_of, whole_of
from denser.dft.open_space_gradient import open_step
from denser.model.deformed_atoms import DeformedAtoms
from denser.model.predictor import Predictor
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import KCAL_PER_MOL

DISPERSION = "d4"
"""With which the repulsion was fitted."""

STRENGTH, EXPONENT = 7.70, 1.073
"""K, hartree (bohr^3/e^2)^g, and g of the repulsion."""

NOTE = (
    "repulsion is fitted, and holds what the others lack: read the terms with care, and see "
    "docs/analyze.md for the error of the sum"
)


@dataclass(frozen=True)
class PairTerms:
    """Two molecules.

    Parameters
    ----------
    first, second : int
        Molecules, from 0.
    electrostatic, repulsion : float
        Hartree.
    overlap : float
        Of the densities, e^2/bohr^3.
    complementarity : float or None
        Of the potentials (`denser.analysis.potential.similarity`); None without contact.
    """

    first: int
    second: int
    electrostatic: float
    repulsion: float
    overlap: float
    complementarity: float | None = None


@dataclass(frozen=True, eq=False)
class FragmentEnergies:
    """Interaction energy of molecules, hartree.

    Parameters
    ----------
    fragments : tuple of Structure
    pairs : tuple of PairTerms
    polarisation : tuple of float
        Of each molecule in the field of all others.
    dispersion : float
    rearrangement : Density or None
        Density of all minus those of the molecules on their own, e/bohr^3.
    notes : tuple of str
    """

    fragments: tuple[Structure, ...]
    pairs: tuple[PairTerms, ...]
    polarisation: tuple[float, ...]
    dispersion: float
    rearrangement: Density | None = None
    notes: tuple[str, ...] = ()

    @property
    def electrostatic(self) -> float:
        """Sum over pairs."""
        return sum(pair.electrostatic for pair in self.pairs)

    @property
    def repulsion(self) -> float:
        """Sum over pairs."""
        return sum(pair.repulsion for pair in self.pairs)

    @property
    def total(self) -> float:
        """Interaction energy."""
        return self.electrostatic + self.repulsion + sum(self.polarisation) + self.dispersion

    def to_dict(self) -> dict:
        """Return plain data in kcal/mol."""
        return {
            "fragments": [part.formula for part in self.fragments],
            "fragment_charges": [part.charge for part in self.fragments],
            "interaction_kcal_per_mol": _kcal(self.total),
            "electrostatic_kcal_per_mol": _kcal(self.electrostatic),
            "repulsion_kcal_per_mol": _kcal(self.repulsion),
            "polarisation_kcal_per_mol": _kcal(sum(self.polarisation)),
            "dispersion_kcal_per_mol": _kcal(self.dispersion),
            "dispersion": DISPERSION,
            "polarisation_of_fragments_kcal_per_mol": [_kcal(e) for e in self.polarisation],
            "pairs": [
                {
                    "first": pair.first + 1,
                    "second": pair.second + 1,
                    "electrostatic_kcal_per_mol": _kcal(pair.electrostatic),
                    "repulsion_kcal_per_mol": _kcal(pair.repulsion),
                    "overlap_e2_per_bohr3": round(pair.overlap, 8),
                    "electrostatic_complementarity": None
                    if pair.complementarity is None
                    else round(pair.complementarity, 4),
                }
                for pair in self.pairs
            ],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return readable lines."""
        names = " + ".join(
            f"{i} {part.formula}" + (f" {part.charge:+d}" if part.charge else "")
            for i, part in enumerate(self.fragments, start=1)
        )
        found = self.to_dict()
        rows = [
            f"interaction of {names}: {found['interaction_kcal_per_mol']:.2f} kcal/mol",
            f"electrostatic {found['electrostatic_kcal_per_mol']:.2f}, repulsion "
            f"{found['repulsion_kcal_per_mol']:.2f}, polarisation "
            f"{found['polarisation_kcal_per_mol']:.2f}, dispersion ({DISPERSION}) "
            f"{found['dispersion_kcal_per_mol']:.2f}",
        ]
        rows += [
            f"{pair.first + 1}-{pair.second + 1}: electrostatic {_kcal(pair.electrostatic):.2f}, "
            f"repulsion {_kcal(pair.repulsion):.2f}, electrostatic complementarity "
            + (
                "none, no contact"
                if pair.complementarity is None
                else f"{pair.complementarity:.2f}"
            )
            for pair in self.pairs
        ]
        return [*rows, *self.notes]


def fragment_energies(
    density: Density, predictor: Predictor, recipe: Recipe, fragments: str = "bonds"
) -> FragmentEnergies:
    """Interaction energy of the molecules of a structure.

    Parameters
    ----------
    density : Density
        Of the structure, without a cell.
    predictor : Predictor
        Of a model of Gaussians; it predicts each molecule on its own.
    recipe : Recipe
        Level of theory of the Kohn-Sham steps.
    fragments : str
        As in `denser.dft.interaction.fragments_of`.

    Raises
    ------
    InputError
        A cell, less than two molecules, unpaired electrons, or a model of images.
    """
    conformers, notes = _on_their_own(density, predictor, fragments)
    change = None
    if density.continuous is not None:
        change = _rearranged(density, conformers)
    return terms_of(conformers, recipe, change, (NOTE, *notes))


def rearrangement(density: Density, predictor: Predictor, fragments: str = "bonds") -> Density:
    """Density minus that of the molecules on their own, e/bohr^3.

    Parameters and errors as of `fragment_energies`; the density must be a prediction, because the
    errors of two kinds of densities would not cancel.
    """
    if density.continuous is None:
        raise InputError(
            "the rearrangement is the difference of two predictions; give the structure in place "
            "of a density file"
        )
    return _rearranged(density, _on_their_own(density, predictor, fragments)[0])


def _on_their_own(
    density: Density, predictor: Predictor, fragments: str
) -> tuple[list[Conformer], list[str]]:
    """The molecules with their densities, and what is in doubt of these."""
    structure = density.structure
    if structure.cell is not None:
        raise InputError(
            "interaction energies are of isolated molecules, but the structure has a cell; "
            "--pair-energies is for crystals"
        )
    conformers, notes = [], []
    for part in fragments_of(structure, fragments):
        atoms, excess = predictor.gaussians(part)
        doubt = predictor.doubt_of(part, excess, predictor.wrong_electrons(atoms, excess))
        if doubt and (text := f"{part.formula} on its own: {doubt}") not in notes:
            notes.append(text)
        conformers.append(Conformer(part, atoms))
    return conformers, notes


def _rearranged(density: Density, conformers: Sequence[Conformer]) -> Density:
    values = np.array(density.values, dtype=float)
    for conformer in conformers:
        assert isinstance(conformer.density, DeformedAtoms)
        values -= conformer.density.on_grid(density.grid)
    return density.with_values(values)


def terms_of(
    conformers: Sequence[Conformer],
    recipe: Recipe,
    change: Density | None = None,
    notes: tuple[str, ...] = (),
) -> FragmentEnergies:
    """The terms of molecules with known densities."""
    parts = [conformer.structure for conformer in conformers]
    pairs = []
    for i, j in combinations(range(len(parts)), 2):
        energy, overlap = coulomb_and_overlap(conformers[i], conformers[j])
        fit = complementarity(conformers[i], conformers[j])
        pairs.append(PairTerms(i, j, energy, repulsion(overlap), overlap, fit))
    polarised = []
    for i, own in enumerate(conformers):
        step = open_step(own.structure, own.density, recipe)
        others = [(c.structure, c.density) for k, c in enumerate(conformers) if k != i]
        polarised.append(polarisation_energy(step, others))
    of_all = dispersion(whole_of(parts), DISPERSION)[0]
    dispersed = of_all - sum(dispersion(part, DISPERSION)[0] for part in parts)
    return FragmentEnergies(tuple(parts), tuple(pairs), tuple(polarised), dispersed, change, notes)


def repulsion(overlap: float) -> float:
    """Exchange repulsion of two densities with this overlap, hartree."""
    return STRENGTH * float(np.power(max(overlap, 0.0), EXPONENT))


def _kcal(energy: float) -> float:
    return round(energy * KCAL_PER_MOL, 4)
