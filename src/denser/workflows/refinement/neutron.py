"""Mean lengths of bonds to hydrogen from neutron diffraction, to compare a refinement with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEW = "Allen and Bruno (2010)"
"""Acta Cryst. B66, 380."""

OLD = "Allen et al. (1987)"
"""J. Chem. Soc. Perkin Trans. 2, S1; International Tables for Crystallography C, chapter 9.5."""


@dataclass(frozen=True)
class NeutronMean:
    """A mean length, angstrom, and where it comes from."""

    length: float
    source: str


_SP3 = {1: NeutronMean(1.099, NEW), 2: NeutronMean(1.092, NEW), 3: NeutronMean(1.077, NEW)}
"""Carbon with four bonds, by its hydrogens. Methyl groups turn, which shortens their mean."""

_OVERALL = {6: NeutronMean(1.089, NEW), 7: NeutronMean(1.015, NEW), 8: NeutronMean(0.993, NEW)}
"""All bonds of an element, as used to normalise structures in the Cambridge Structural Database."""


def neutron_mean(number: int, neighbours: Sequence[int]) -> NeutronMean | None:
    """Mean length of the bonds from an atom to hydrogen; None if there is none for the element.

    Parameters
    ----------
    number : int
        Atomic number of the atom.
    neighbours : sequence of int
        Those of all atoms that it is bonded to, hydrogens included.
    """
    n_hydrogen = sum(z == 1 for z in neighbours)
    if number == 6 and len(neighbours) == 4 and n_hydrogen in _SP3:
        return _SP3[n_hydrogen]
    if number == 6 and len(neighbours) == 3:
        return NeutronMean(1.083, NEW)
    if number == 7 and len(neighbours) == 4:
        return NeutronMean(1.033, OLD)
    return _OVERALL.get(number)
