"""Interaction energies of molecules, with the counterpoise correction.

E_int = E(AB) - E(A) - E(B), every molecule as it is in the complex. In a finite basis the complex
borrows functions from its neighbours and is bound too strongly. The counterpoise correction (Boys
and Bernardi, Mol. Phys. 19, 553 (1970)) gives each molecule the functions of all others, as
ghosts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from denser.atoms.molecules import whole_molecules
from denser.dft.dispersion import dispersion
from denser.dft.molecular import MolecularResult, converge
from denser.io.bond_orders import find_bonds
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import KCAL_PER_MOL


@dataclass(frozen=True, eq=False)
class InteractionEnergies:
    """Interaction energies of the molecules of a structure, hartree.

    Parameters
    ----------
    e_plain : float
        Every molecule in its own functions.
    e_counterpoise : float
        Every molecule in the functions of all.
    e_dispersion : float
        Part of the dispersion correction, which is not in the other two; 0 without one.
    fragments : tuple of Structure
    """

    e_plain: float
    e_counterpoise: float
    e_dispersion: float
    fragments: tuple[Structure, ...]

    def to_dict(self) -> dict:
        """Return plain data in kcal/mol; the sums have the dispersion."""
        return {
            "fragments": [part.formula for part in self.fragments],
            "fragment_charges": [part.charge for part in self.fragments],
            "e_interaction_kcal_per_mol": self._kcal(self.e_plain + self.e_dispersion),
            "e_counterpoise_kcal_per_mol": self._kcal(self.e_counterpoise + self.e_dispersion),
            "e_superposition_kcal_per_mol": self._kcal(self.e_plain - self.e_counterpoise),
            "e_dispersion_kcal_per_mol": self._kcal(self.e_dispersion),
        }

    def lines(self) -> list[str]:
        """Return readable lines."""
        names = " + ".join(
            part.formula + (f" {part.charge:+d}" if part.charge else "") for part in self.fragments
        )
        found = self.to_dict()
        dispersed = f", dispersion {found['e_dispersion_kcal_per_mol']:.2f} of it"
        return [
            f"interaction of {names}: {found['e_counterpoise_kcal_per_mol']:.2f} kcal/mol with the "
            f"counterpoise correction, {found['e_interaction_kcal_per_mol']:.2f} without"
            + (dispersed if self.e_dispersion else ", no dispersion correction")
        ]

    @staticmethod
    def _kcal(energy: float) -> float:
        return round(energy * KCAL_PER_MOL, 4)


def interaction(
    whole: MolecularResult,
    fragments: Sequence[Structure],
    recipe: Recipe = Recipe(),
    kind: str | None = None,
    predict: Callable[[Structure], Density] | None = None,
) -> InteractionEnergies:
    """Interaction energy of fragments.

    Parameters
    ----------
    whole : MolecularResult
        Of all atoms, in the basis of the fragments.
    fragments : sequence of Structure
        At least two closed shells: all atoms, each in one of them.
    recipe : Recipe
    kind : str, optional
        Dispersion correction, as in `denser.dft.dispersion`.
    predict : callable, optional
        Makes the density that the calculation of a fragment starts from.

    Raises
    ------
    InputError
        As in `denser.dft.molecular.converge` and `denser.dft.dispersion.dispersion`.
    """
    plain = corrected = whole.e_tot
    dispersed = 0.0
    if kind is not None:
        dispersed = dispersion(whole_of(fragments), kind, recipe.xc)[0]
    for i, part in enumerate(fragments):
        about = None if predict is None else predict(part)
        others = whole_of([other for k, other in enumerate(fragments) if k != i])
        plain -= converge(part, whole.basis, recipe, about=about).e_tot
        corrected -= converge(part, whole.basis, recipe, about=about, ghosts=others).e_tot
        if kind is not None:
            dispersed -= dispersion(part, kind, recipe.xc)[0]
    return InteractionEnergies(plain, corrected, dispersed, tuple(fragments))


def whole_of(parts: Sequence[Structure]) -> Structure:
    """The atoms of all parts, with the sum of their charges."""
    return Structure(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.positions for part in parts]),
        sum(part.charge for part in parts),
    )


def fragments_of(structure: Structure, text: str) -> list[Structure]:
    """Fragments of a structure.

    Parameters
    ----------
    structure : Structure
        Without a cell.
    text : str
        "bonds" for the molecules that bonds make, with their formal charges, or numbers of atoms,
        counted from one, with charges: "1-3,4-6", "1-5:1,6:-1", "1+4-6,2-3".

    Raises
    ------
    InputError
        The text cannot be read, an atom is missing or named twice, there is one fragment only, a
        fragment has unpaired electrons, or the charges do not add up.
    """
    parts = _parts(structure, text)
    if text == "bonds":
        molecules = [atoms for atoms, _ in parts]
        parts = list(zip(molecules, _formal(structure, molecules), strict=True))
    hint = "give the charge of each fragment (--fragments 1-5:1,6:-1)"
    if sum(charge for _, charge in parts) != structure.charge:
        raise InputError(
            f"the charges of the fragments add up to {sum(c for _, c in parts)}, but "
            f"{structure.formula} has {structure.charge}; {hint}"
        )
    found = []
    for atoms, charge in parts:
        part = Structure(structure.numbers[atoms], structure.positions[atoms], charge)
        if part.spin:
            raise InputError(
                f"the fragment {part.formula} with charge {charge} has an unpaired electron; {hint}"
            )
        found.append(part)
    return found


def atoms_of_fragments(structure: Structure, text: str) -> list[np.ndarray]:
    """Indices of the atoms of each fragment, as of `fragments_of`; their charges do not matter."""
    return [atoms for atoms, _ in _parts(structure, text)]


def _parts(structure: Structure, text: str) -> list[tuple[np.ndarray, int]]:
    """Indices of at least two fragments that hold all atoms, with their named charges (or 0)."""
    if text == "bonds":
        parts = [(molecule.atoms, 0) for molecule in whole_molecules(structure)]
    else:
        parts = [_part(word, len(structure)) for word in text.split(",")]
    times = np.bincount(np.concatenate([atoms for atoms, _ in parts]), minlength=len(structure))
    if (times != 1).any():
        i = int(np.argmax(times != 1))
        how = "in no fragment" if times[i] == 0 else "in two fragments"
        raise InputError(f"atom {i + 1} is {how}; name every atom once in --fragments")
    if len(parts) < 2:
        raise InputError(
            f"all atoms of {structure.formula} are bonded to each other, so there is nothing that "
            "interacts; name the fragments (--fragments 1-3,4-6)"
            if text == "bonds"
            else "an interaction needs two fragments, found one; separate them with a comma"
        )
    return parts


def _formal(structure: Structure, molecules: list[np.ndarray]) -> list[int]:
    """Charges of molecules by the formal charges of their atoms; 0 where these are not known."""
    known, _ = find_bonds(structure)
    return [int(known.formal_charges[atoms].sum()) for atoms in molecules]


def _part(word: str, n_atoms: int) -> tuple[np.ndarray, int]:
    """Indices and charge of a fragment."""
    match = re.fullmatch(r"(\d+(?:-\d+)?(?:\+\d+(?:-\d+)?)*)(?::([+-]?\d+))?", word.strip())
    if not match:
        raise InputError(
            f"cannot read the fragment {word!r}; write bonds, or numbers of atoms such as 1-3,4-6, "
            "with charges 1-5:1,6:-1"
        )
    atoms: list[int] = []
    for span in match[1].split("+"):
        first, _, last = span.partition("-")
        atoms += range(int(first) - 1, int(last or first))
    if not atoms or min(atoms) < 0 or max(atoms) >= n_atoms:
        raise InputError(f"the fragment {word!r} is not within the atoms 1 to {n_atoms}")
    return np.array(atoms), int(match[2] or 0)
